"""Folders under watch: new images as they arrive, and an end on request."""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxad.data.depth import ALONE, Depth
from jaxad.data.lazy import LazyImage, find_images
from jaxad.runs.detection import Outcome, Unread
from jaxad.runs.detection_results import is_drawn

TRIES = 5  # rounds in which an image that does not change may be unreadable before it is given up


class Stop:
    """Whether somebody asked for the end."""

    def __init__(self) -> None:
        self.asked = False

    def wait(self, seconds: float) -> bool:
        """Sleep so long, or until somebody asks; returns whether somebody has."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))  # no lock, which a signal's handler might find held
        return self.asked


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """While the context lasts, the first Ctrl-C (SIGINT) or SIGTERM asks for the end; a second one means it at once."""
    stop, before = Stop(), {}

    def ask(number: int, frame: object) -> None:
        stop.asked = True
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():  # others get no signals
        before |= {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch:
    """The images of some paths, round by round.

    A file may be found while it is still being written. So one that cannot be read, or that changes while it is read,
    comes again in the next round, for five rounds after it changed last.
    """

    def __init__(self, paths: Sequence[Path], depth: Depth = ALONE) -> None:
        self._paths, self._depth = paths, depth
        self._looked = False
        self._done: set[str] = set()
        self._waiting: dict[str, tuple[LazyImage, tuple, int]] = {}  # with its last state and the rounds it had

    def images(self) -> list[LazyImage]:
        """What there is to score now: all images in the first round, then new ones and those to be tried again."""
        paths = [path for path in self._paths if path.is_dir()] if self._looked else self._paths
        self._looked = True
        images = find_images(paths, may_be_empty=True, depth=self._depth, leave_out=is_drawn)
        found = {image.name: _steady(image) for image in images}
        self._waiting = {name: entry for name, entry in self._waiting.items() if name in found or _is_there(entry[0])}
        wanted = {name: image for name, (image, _, _) in self._waiting.items()} | found
        return [image for name, image in wanted.items() if name not in self._done]

    def settled(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Of what became of a round's images, all but those that come again."""
        final = []
        for outcome in outcomes:
            image = outcome.image
            if isinstance(outcome, Unread):
                state = _state(image.file)
                _, before, rounds = self._waiting.get(image.name, (None, state, 0))
                rounds = rounds + 1 if state == before else 1
                if rounds < TRIES:
                    self._waiting[image.name] = (image, state, rounds)
                    continue
            self._waiting.pop(image.name, None)
            self._done.add(image.name)
            final.append(outcome)
        return final


def _is_there(image: LazyImage) -> bool:
    """Whether it may still become an image: a file that was renamed when it was complete is gone."""
    return image.file is None or image.file.exists()


def _state(file: Path | None) -> tuple:
    """What differs once a file has been written to; empty where there is no file."""
    try:
        stat = None if file is None else file.stat()
    except OSError:
        stat = None
    return () if stat is None else (stat.st_size, stat.st_mtime_ns)


def _steady(image: LazyImage) -> LazyImage:
    """The image, which cannot be read while its file changes."""
    return image._replace(read=functools.partial(_read_steadily, image))


def _read_steadily(image: LazyImage) -> np.ndarray:
    before = _state(image.file)
    pixels = image.read()
    if _state(image.file) != before:
        raise ValueError(f"{image.name} changes while it is read: leave it as it is")
    return pixels
