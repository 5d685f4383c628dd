"""An architecture as text: in one line, and as in the paper's Table IV."""

from jaxad.nn.actions import OPTIONAL_ACTIONS, Action, known_actions
from jaxad.nn.architecture import Architecture


def summary(architecture: Architecture) -> str:
    """One line, such as "centroid/l2 | 32 k5 max3 batch relu | 64 k3 average1 none elu"."""
    layers = (
        f"{layer.channels} k{layer.kernel} {layer.pool}{layer.pool_kernel} {layer.norm} {layer.activation}"
        + "".join(f" {name}={choice}" for name, choice in layer.extra)
        for layer in architecture.layers
    )
    whole = "".join(f" {name}={choice}" for name, choice in _mentioned(architecture))
    return " | ".join((f"{architecture.hypothesis}/{architecture.distance}{whole}", *layers))


def render(architecture: Architecture) -> str:
    """The architecture as a text table in the form of the paper's Table IV: actions and their values.

    Actions beyond the paper's (`nn.actions`) have a row where any part of the architecture does not have the default.
    """
    used = {name for name, _ in _mentioned(architecture)} | {n for layer in architecture.layers for n, _ in layer.extra}

    def rows_of(owner: object, scope: str, indent: str) -> list[tuple[str, str]]:
        actions = [a for a in known_actions(scope).values() if a.default is None or a.name in used]
        return [(indent + action.label, _text(action, owner.choice(action.name))) for action in actions]

    rows = [("Actions", "Value"), *rows_of(architecture, "child", "")]
    for i, layer in enumerate(architecture.layers, start=1):
        rows += [(f"Layer-{i}", ""), *rows_of(layer, "layer", "  ")]
    width = max(len(action) for action, _ in rows)
    lines = [f"{action:<{width}}  {value}".rstrip() for action, value in rows]
    return "\n".join((lines[0], "-" * max(map(len, lines)), *lines[1:]))


def _mentioned(architecture: Architecture) -> list[tuple[str, str]]:
    """What the child as a whole decides beyond the paper's actions and not as by default."""
    ours = [(action.name, architecture.choice(action.name), action.default) for action in OPTIONAL_ACTIONS]
    return [(name, choice) for name, choice, default in ours if choice != default] + list(architecture.extra)


def _text(action: Action, value: object) -> str:
    return f"{value}x{value}" if action.window else str(value)
