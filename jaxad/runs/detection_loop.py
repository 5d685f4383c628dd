"""Scoring images to the end, or for as long as new ones may come."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from jaxad.data.lazy import LazyImage, find_images
from jaxad.data.tiles import Tiling
from jaxad.runs.detection import Outcome, ScoredImage, Unread, depth_of, score_stream
from jaxad.runs.detection_results import Detections, is_drawn, print_lines, warn
from jaxad.runs.progress import Progress
from jaxad.runs.saving import LoadedDetector
from jaxad.runs.watching import Stop, Watch, stop_on_signal


def score_all(
    loaded: LoadedDetector,
    images: Sequence[LazyImage],
    found: Detections,
    *,
    batch_size: int = 64,
    tiling: Tiling = None,
    as_json: bool = False,
    quiet: bool = False,
    watch: Watch | None = None,
    stop: Stop | None = None,
    lines: bool = False,
) -> None:
    """Score images; their rows are on disk and, in JSON, on standard output after every batch, at the latest.

    Args:
      found: takes note of all. What cannot be read is named on standard error.
      batch_size, tiling: as in `score_stream`.
      as_json: print an object in JSON for each image.
      quiet: show no progress.
      watch: decides which of the images that cannot be read are to be tried again.
      stop: ends it after the batch under way.
      lines: print a line for each image, if not in JSON.
    """
    stream = score_stream(loaded, images, found.threshold, batch_size=batch_size, tiling=tiling)
    with contextlib.closing(stream), Progress(len(images), label="images", quiet=quiet) as progress:
        done = 0
        for outcomes in stream:
            done += len(outcomes)
            settled: list[Outcome] = outcomes if watch is None else watch.settled(outcomes)
            found.add(settled)
            for outcome in settled:
                if isinstance(outcome, Unread):
                    warn(f"skipped: {outcome.reason}")
                elif outcome.image.notes:
                    warn(outcome.image.notes[0])
            if as_json or lines:
                scored = [outcome for outcome in settled if isinstance(outcome, ScoredImage)]
                print_lines(scored, found.threshold, as_json=as_json)
            progress.update(done)
            if stop is not None and stop.asked:
                return


def score_watched(
    loaded: LoadedDetector,
    paths: Sequence[Path],
    found: Detections,
    *,
    seconds: float = 2.0,
    quiet: bool = False,
    **options,
) -> None:
    """Score all images there are, then new ones in the folders as they arrive, with a line for each, until a signal.

    Args:
      paths: as in `find_images`; folders may be empty still.
      seconds: between two looks.
      quiet: show neither progress nor lines.
      options: as in `score_all`.
    """
    watch = Watch(paths, depth_of(loaded))
    with stop_on_signal() as stop:
        said = options | {"watch": watch, "stop": stop, "lines": not quiet}
        score_all(loaded, watch.images(), found, quiet=quiet, **said)
        if not quiet and not stop.asked:
            folders = ", ".join(str(path) for path in paths if path.is_dir())
            warn(f"scored so far: {len(found)}; watching {folders} every {seconds:g} s, Ctrl-C ends it")
        while not stop.wait(seconds):
            if images := watch.images():
                score_all(loaded, images, found, quiet=True, **said)


def check_paths(loaded: LoadedDetector, paths: Sequence[Path], *, watch: bool = False) -> list[LazyImage]:
    """The images of some paths, for a detector; ValueError where there are none, or, of a watch, there is no folder."""
    if watch and not any(path.is_dir() for path in paths):
        raise ValueError("there is no folder to watch among the images: name one, or leave out --watch")
    left: list[Path] = []

    def leave_out(folder: Path) -> bool:
        left.extend([folder] * is_drawn(folder))
        return bool(left) and left[-1] == folder

    try:
        return find_images(paths, may_be_empty=watch, depth=depth_of(loaded), leave_out=leave_out)
    finally:
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            warn(f"left out: {left[0]}{more}, where runs or earlier calls keep pictures of their own")
