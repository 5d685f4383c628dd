"""How numbers, settings and architectures read on the report's page."""

import shlex
from collections.abc import Mapping
from typing import Any

from jaxad.nn.actions import known_actions
from jaxad.report.html import Facts, number

METRICS = {  # name in results["test"]: (name on the page, what it means)
    "auroc": ("AUROC", "chance that a random anomaly scores higher than a random normal image"),
    "aupr_out": ("AUPR-Out", "average precision of finding anomalies; the share of anomalies is chance"),
    "aupr_in": ("AUPR-In", "average precision of finding normal images; their share is chance"),
    "fpr95": ("FPR@95TPR", "normal images flagged when 95 % of the anomalies are found; lower is better"),
    "f1_max": ("F1-max", "best F1 any threshold reaches on the test set: an upper bound, not a forecast"),
}

PIXEL_METRICS = {  # in results["segmentation"]
    "pixel_auroc": ("Pixel AUROC", "chance that a random anomalous pixel scores higher than a random normal one"),
    "au_pro": ("AU-PRO", "share of a defect that is found, mean over false-positive rates of pixels up to 0.3"),
    "aupimo": ("AUPIMO", "share of an image's defect that is found while 1 to 10 of 100,000 normal pixels are flagged"),
    "aupimo_zero": ("AUPIMO = 0", "share of the anomalous images of whose defect nothing is found at that rate"),
    "rpro": ("RPRO", "share of a defect that is found at the threshold; not to be compared with AU-PRO"),
    "f1": ("F1", "harmonic mean of precision and recall of pixels at the threshold"),
    "precision": ("Precision", "flagged pixels that are anomalous"),
    "recall": ("Recall", "anomalous pixels that are flagged"),
    "iou": ("IoU", "pixels anomalous and flagged, of those anomalous or flagged"),
}


def interval(metric: Any) -> tuple[Any, Any, Any]:
    """(value, low, high) of a metric given as {value, low, high} or as a number."""
    if isinstance(metric, Mapping):
        return metric.get("value"), metric.get("low"), metric.get("high")
    return metric, None, None


def brackets(metric: Any) -> str:
    """The interval of a metric as "[low – high]"; nothing where it has none."""
    _, low, high = interval(metric)
    return "" if low is None or high is None else f"[{number(low)} – {number(high)}]"


def plain(value: Any) -> str:
    """Nested plain data as one readable line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value) or "–"
    return str(value) if isinstance(value, (bool, int)) else number(value)


def facts(data: Mapping[str, Any]) -> Facts | None:
    """Named values in readable form, the empty ones left out; None where nothing is left."""
    items = {str(k).replace("_", " "): plain(v) for k, v in data.items() if v not in (None, "", [], {})}
    return Facts(items=items) if items else None


def architecture_line(architecture: Mapping[str, Any] | None) -> str:
    """An architecture in one line: hypothesis, distance, then channels@kernel and what follows, per layer."""
    if not architecture:
        return "–"
    layers = []
    for layer in architecture.get("layers", ()):
        words = [f"{layer['channels']}@{layer['kernel']}×{layer['kernel']}"]
        if layer["pool_kernel"] != 1:
            words.append(f"{layer['pool']}-pool {layer['pool_kernel']}")
        if layer["norm"] not in (None, "none", "no"):
            words.append(f"{layer['norm']} norm")
        layers.append(" ".join([*words, str(layer["activation"]), *_extra(layer, "layer")]))
    whole = " ".join([f"{architecture['hypothesis']} + {architecture['distance']}", *_extra(architecture, "child")])
    return f"{whole}: " + " → ".join(layers)


def _extra(owner: Mapping[str, Any], scope: str) -> list[str]:
    """What an architecture or a layer decides beyond the paper's actions."""
    paper = {name for name, action in known_actions(scope).items() if action.default is None}
    return [f"{name.replace('_', ' ')} {owner[name]}" for name in sorted(set(owner) - paper - {"layers"})]


def command(config: Mapping[str, Any], program: str = "jaxad search") -> str:
    """The shell line that repeats a run: every setting as a flag; None is left out, lists are spread."""
    return " \\\n    ".join([program, *_flags(config, "--")])


def _flags(config: Mapping[str, Any], prefix: str) -> list[str]:
    flags = []
    for name, value in config.items():
        flag = prefix + name.replace("_", "-")
        if value is None or value in ([], ()):
            continue
        if isinstance(value, Mapping):
            flags += _flags(value, f"{flag}.")
        elif isinstance(value, bool):
            *parents, last = flag[2:].split(".")
            flags.append(flag if value else "--" + ".".join([*parents, f"no-{last}"]))
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            flags.append(" ".join([flag, *(shlex.quote(str(v)) for v in values)]))
    return flags
