"""What became of scored images: a table that survives a crash, the most anomalous ones, lines to read or to parse."""

import contextlib
import csv
import heapq
import io
import json
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxad._utils.files import write_atomic
from jaxad.data.lazy import LazyImage
from jaxad.metrics.thresholds import Threshold, decide
from jaxad.runs.detection import Outcome, ScoredImage, Unread
from jaxad.runs.progress import line, table

SHOWN = 20  # rows of the printed table
SAMPLED = 64  # first images, of whose maps a colour scale is made where the detector has none
COLUMNS = ("path", "score", "threshold", "anomalous")  # of scores.csv


class Detections:
    """Names and scores of all images so far, on disk batch by batch, and the most anomalous images themselves.

    Args:
      path: of a table that gets the rows of a batch as soon as it is scored; a killed run loses the batch under way.
      keep: the number of the most anomalous images that are wanted in the end.
      on_scores: called with the scores [k] of every batch, when they are on disk.
    """

    def __init__(
        self,
        path: Path,
        threshold: Threshold | None,
        *,
        keep: int = SHOWN,
        on_scores: Callable[[np.ndarray], None] = lambda scores: None,
    ) -> None:
        self.threshold, self._on_scores = threshold, on_scores
        self.first: list[LazyImage] = []
        self.unread: dict[str, str] = {}  # why, by the name of the image
        self._path, self._keep = path, max(keep, SHOWN)
        self._names: list[str] = []
        self._scores = array("d")
        self._heap: list[tuple[float, int, ScoredImage]] = []

    def __len__(self) -> int:
        """Images that have a score."""
        return len(self._names)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of a batch; ValueError where its scores cannot be written."""
        scored = [outcome for outcome in outcomes if isinstance(outcome, ScoredImage)]
        self.unread |= {outcome.image.name: outcome.reason for outcome in outcomes if isinstance(outcome, Unread)}
        if not scored:
            return
        header = [COLUMNS] if not self._names else []
        _append(self._path, _csv([*header, *(self._row(item.image.name, item.score) for item in scored)]))
        self.first += [item.image for item in scored[: SAMPLED - len(self.first)]]
        for item in scored:
            entry = (item.score, -len(self._names), item)  # of equal scores the first
            if len(self._heap) < self._keep:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)
            self._names.append(item.image.name)
            self._scores.append(item.score)
        self._on_scores(np.array([item.score for item in scored]))

    def top(self, count: int) -> list[ScoredImage]:
        """The most anomalous images, at most as many as were to be kept."""
        return [item for _, _, item in sorted(self._heap, reverse=True)[:count]]

    def rank(self) -> None:
        """Replace the table by one whose rows are ranked, the most anomalous first."""
        order = np.argsort(-np.array(self._scores), kind="stable")

        def chunks() -> Iterator[bytes]:
            yield _csv([COLUMNS])
            for start in range(0, len(order), 1000):
                yield _csv([self._row(self._names[i], self._scores[i]) for i in order[start : start + 1000]])

        write_atomic(self._path, chunks())

    def show(self) -> None:
        """Print the most anomalous images."""
        title = f"{len(self)} images, no threshold"
        if self.threshold is not None:
            count = int(decide(np.array(self._scores), self.threshold).sum())
            title = f"{count} of {len(self)} images are anomalous (score > {self.threshold.value:.4g})"
        words = {None: None, True: "yes", False: "no"}
        rows = [(item.image.name, item.score, words[item.anomalous]) for item in self.top(SHOWN)]
        table(title, ("image", "score", "anomalous"), rows)
        if len(self) > len(rows):
            line(f"... {len(self) - len(rows)} more")

    def _row(self, name: str, score: float) -> tuple:
        """Path, score, threshold and anomalous (1 or 0); without a threshold the last two are empty."""
        if self.threshold is None:
            return name, score, "", ""
        return name, score, self.threshold.value, int(decide(score, self.threshold))


def print_lines(scored: Sequence[ScoredImage], threshold: Threshold | None, *, as_json: bool = False) -> None:
    """Print a line an image: a verdict, its score and its name, or all that as an object in JSON."""
    value = None if threshold is None else threshold.value
    for image, score, anomalous, _ in scored:
        if as_json:
            line(json.dumps({"name": image.name, "score": score, "threshold": value, "anomalous": anomalous}))
        else:
            line(f"{ {None: 'scored', True: 'anomalous', False: 'normal'}[anomalous] } {score:.4g} {image.name}")


def is_drawn(folder: Path) -> bool:
    """Whether the pictures in a folder are those of a run or of an earlier call: no photographs to score."""
    places = (folder, "config.json", b'"jaxad-run-'), (folder.parent, "config.json", b'"jaxad-run-')
    if folder.name in ("overlays", "refined"):
        places += ((folder.parent, "scores.csv", ",".join(COLUMNS).encode()),)
    for place, name, beginning in places:
        with contextlib.suppress(OSError), open(place / name, "rb") as file:
            if beginning in file.read(100):
                return True
    return False


def warn(text: str) -> None:
    """Print a line on standard error; names of files may have several."""
    line(text.replace("\n", "\\n"), file=sys.stderr)


def _csv(rows: Sequence[tuple]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    # Names of files that are not UTF-8 reach Python as surrogate escapes, and leave as they came.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _append(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(content)
    except OSError as error:
        raise ValueError(
            f"cannot write {path}: {error.strerror or error}; free disk space, then score again"
        ) from error
