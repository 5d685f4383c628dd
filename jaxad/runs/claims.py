"""Who works on which cell of a folder that several clients share, on one machine or on several with one file system.

A claim is a lock of the operating system on a file of its own. It ends with whoever has it, however that ends, so that
nobody who is dead holds a cell.
"""

import os
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: there clients do not see each other
    fcntl = None


class Claims:
    """Claims on the cells of a folder.

    Args:
      folder: of the locks, which is made.
      refresh: called with the name of a cell once it is claimed: another client may have finished it by then.
    """

    def __init__(self, folder: str | Path, refresh: Callable[[str], None] = lambda name: None) -> None:
        self._folder, self._refresh = Path(folder), refresh
        self._folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether the cell of that name is this client's while the context lasts; never waits."""
        lock = os.open(self._folder / urllib.parse.quote(name, safe=" "), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            mine = _locked(lock)
            if mine:
                self._refresh(name)
            yield mine
        finally:
            os.close(lock)  # which frees it


def _locked(descriptor: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks: better unguarded than unusable
    return True
