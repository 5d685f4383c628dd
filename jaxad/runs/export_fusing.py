"""Convolutions of an ONNX model with what follows them, in the forms that onnxruntime makes one operation of.

JAX has no convolution with a bias and no operation that clips from both sides by constants: what is exported adds and
compares number by number, over arrays of constants as large as the images, each time through the memory.
"""

from collections import Counter
from typing import Any

import numpy as np

from jaxad.runs.export_loops import names_in


def fused(model: Any) -> Any:
    """The same `onnx.ModelProto`, changed in place: `Conv` has the biases, and `Clip` is what `Min` of `Max` was."""
    _fuse(model.graph, {})
    return model


def _fuse(graph: Any, outer: dict[str, Any]) -> None:
    from onnx import numpy_helper

    constants = outer | {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants |= {name: each.t for name in node.output for each in node.attribute if each.name == "value"}
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _fuse(attribute.g, constants)
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in constants.items()}
    made = {node.output[0]: node for node in graph.node if len(node.output) == 1}
    used = Counter(name for node in graph.node for name in node.input)
    used.update(value.name for value in graph.output)
    gone = []
    for node in graph.node:
        if node.op_type not in ("Add", "Min") or len(node.input) != 2:
            continue
        for value, constant in (node.input, node.input[::-1]):
            before = made.get(value)
            if before is None or used[value] != 1 or constant not in arrays:
                continue
            change = _with_bias if node.op_type == "Add" else _clipped
            if change(graph, before, node, constant, arrays):
                gone.append(node)
                break
    for node in gone:
        graph.node.remove(node)
    left = names_in(graph)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in left]:
        graph.initializer.remove(tensor)


def _with_bias(graph: Any, before: Any, node: Any, constant: str, arrays: dict[str, np.ndarray]) -> bool:
    """Make `Add`, of a constant that is the same at every pixel, part of the `Conv` before it."""
    from onnx import numpy_helper

    if before.op_type != "Conv" or len(before.input) != 2 or before.input[1] not in arrays:
        return False
    array = arrays[constant]
    array = array.reshape((1,) * (4 - array.ndim) + array.shape) if array.ndim < 4 else array
    if array.shape[:2] != (1, len(arrays[before.input[1]])) or (array != array[:, :, :1, :1]).any():
        return False
    graph.initializer.append(numpy_helper.from_array(array[0, :, 0, 0].copy(), f"{before.output[0]}_bias"))
    before.input.append(f"{before.output[0]}_bias")
    before.output[0] = node.output[0]
    return True


def _clipped(graph: Any, before: Any, node: Any, constant: str, arrays: dict[str, np.ndarray]) -> bool:
    """Make `Min` of `Max`, each with a number, one `Clip`."""
    if before.op_type != "Max" or len(before.input) != 2 or arrays[constant].ndim:
        return False
    for value, least in (before.input, before.input[::-1]):
        if least in arrays and not arrays[least].ndim and value not in arrays and arrays[least] <= arrays[constant]:
            before.op_type = "Clip"
            before.input[:] = [value, least, constant]
            before.output[0] = node.output[0]
            return True
    return False
