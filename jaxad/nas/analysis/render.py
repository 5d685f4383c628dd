"""An architecture as text: in one line, and as in the paper's Table IV."""

from jaxad.nn.architecture import Architecture


def summary(architecture: Architecture) -> str:
    """One line, such as "centroid/l2 | 32 k5 max3 batch relu | 64 k3 average1 none elu"."""
    layers = (
        f"{layer.channels} k{layer.kernel} {layer.pool}{layer.pool_kernel} {layer.norm} {layer.activation}"
        for layer in architecture.layers
    )
    return " | ".join((f"{architecture.hypothesis}/{architecture.distance}", *layers))


def render(architecture: Architecture) -> str:
    """The architecture as a text table in the form of the paper's Table IV: actions and their values."""
    rows = [
        ("Actions", "Value"),
        ("Definition hypothesis", architecture.hypothesis),
        ("Distance measurement", architecture.distance),
    ]
    for i, layer in enumerate(architecture.layers, start=1):
        rows += [
            (f"Layer-{i}", ""),
            ("  Output-channel", f"{layer.channels}"),
            ("  Convolution kernel", f"{layer.kernel}x{layer.kernel}"),
            ("  Pooling type", layer.pool),
            ("  Pooling kernel", f"{layer.pool_kernel}x{layer.pool_kernel}"),
            ("  Normalization type", layer.norm),
            ("  Activation function", layer.activation),
        ]
    width = max(len(action) for action, _ in rows)
    lines = [f"{action:<{width}}  {value}".rstrip() for action, value in rows]
    return "\n".join((lines[0], "-" * max(map(len, lines)), *lines[1:]))
