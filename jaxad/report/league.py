"""The league of a search: its best child beside the quick detectors that were fitted to the same images.

A line of the league is {detector, valid, valid_pixel_auroc, test_auroc, test_pixel_auroc, fit_seconds,
score_milliseconds, megabytes, returned}; figures that a detector does not have are None.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxad.report import plots
from jaxad.report.format import METRICS, PIXEL_METRICS
from jaxad.report.html import Figure, Table, Text, number


def league_parts(league: Sequence[Mapping[str, Any]], verdict: str | None, reward: str) -> list[Any]:
    """Whether searching was worth it, the table of all, and what validation says against the time to fit.

    Args:
      league: lines in the order to show; none for a search that knows of no rivals.
      verdict: the sentence above the table.
      reward: name of the validation metric.
    """
    if not league:
        return []
    name, _ = (METRICS | PIXEL_METRICS).get(reward, (reward, ""))
    of_pixels = any(line.get("test_pixel_auroc") is not None for line in league)
    by_pixels = any(line.get("valid_pixel_auroc") is not None for line in league)
    shown = {"valid": f"Validation {name}"}
    shown |= {"valid_pixel_auroc": "Validation pixels"} if by_pixels else {}
    shown |= {"test_auroc": "Test AUROC"} | ({"test_pixel_auroc": "Test pixels"} if of_pixels else {})
    shown |= {"fit_seconds": "Fit, s", "score_milliseconds": "Score, ms", "megabytes": "MB"}
    columns = ["Detector", *shown.values()]
    rows = [[_label(line), *(line.get(key) for key in shown)] for line in league]
    way = "Validation, by the mean of its two metrics," if by_pixels else "Validation alone"
    caption = f"{way} chooses what is returned; test figures choose nothing. One image is scored by itself on "
    caption += "the machine of this run; megabytes are of what scoring needs."
    caption += " Pixels have their AUROC by the masks." if of_pixels else ""
    parts: list[Any] = [Text(text=verdict)] if verdict else []
    parts.append(Table(columns=columns, rows=rows, caption=caption))
    if len(league) > 1:
        caption = f"Validation {name} against seconds to fit; those of the best child are of searching and retraining."
        caption += " What is returned was chosen by pixels, too." if by_pixels else ""
        drawing = plots.value_by_seconds(
            [_label(line) for line in league], [line.get("fit_seconds") for line in league],
            [line.get("valid") for line in league], [bool(line.get("returned")) for line in league],
            metric=f"validation {name}",
        )  # fmt: skip
        told = ", ".join(f"{_label(line)} {number(line.get('valid'))}" for line in league)
        parts.append(Figure(drawing=drawing, alt=f"{caption} {told}.", caption=caption, wide=True))
    return parts


def returned_rival(results: Mapping[str, Any]) -> str | None:
    """The name of the rival that was returned in place of what the search found; None where that is a child."""
    returned = [line["detector"] for line in results.get("league") or [] if line.get("returned")]
    return returned[0] if returned and returned[0] == results.get("returned") else None


def _label(line: Mapping[str, Any]) -> str:
    return f"{line['detector']} (returned)" if line.get("returned") else str(line["detector"])
