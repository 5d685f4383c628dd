"""Weights in the loops of an ONNX model, as constants of their bodies.

jax2onnx hands whatever a loop does not change from turn to turn, as it does what changes. So onnxruntime copies all
weights for every photograph, and can prepare none of them when it loads the model: a network takes twice as long.
"""

from typing import Any


def with_constants(model: Any) -> Any:
    """The same `onnx.ModelProto`, changed in place: what its loops only hand on has become part of their bodies."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Loop":
            _move(node, weights)
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    used |= {name for node in model.graph.node for part in _bodies(node) for name in names_in(part)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _move(loop: Any, weights: dict[str, Any]) -> None:
    """Turn every input of a loop that is a weight and comes out as it went in into a weight of its body."""
    (body,) = _bodies(loop)
    copies = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    carried = range(len(loop.input) - 2)  # the others are the number of turns and whether to go on
    for place in reversed(carried):
        outer, inner, after = loop.input[2 + place], body.input[2 + place].name, body.output[1 + place].name
        while after in copies and after != inner:
            after = copies[after]
        if after != inner or outer not in weights:
            continue
        tensor = type(weights[outer])()
        tensor.CopyFrom(weights[outer])
        tensor.name = inner
        body.initializer.append(tensor)
        handed_on = body.output[1 + place].name
        del loop.input[2 + place], loop.output[place], body.input[2 + place], body.output[1 + place]
        dropped = [node for node in body.node if node.op_type == "Identity" and node.output[0] == handed_on]
        for node in dropped:
            body.node.remove(node)


def _bodies(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def names_in(graph: Any) -> set[str]:
    """All names that nodes of a graph, or of graphs within them, use, and those of what it returns."""
    names = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return names.union(*(names_in(part) for node in graph.node for part in _bodies(node)))
