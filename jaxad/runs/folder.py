"""A run is a folder: what was asked, what was tried, where it stands and what came out.

    config.json        what was asked, and of which data, written once
    data.json          what these data are made of, image by image
    trials.jsonl       one line per trained child, append-only; a line counts once its newline is written
    workers.jsonl      which worker trained a child when, where others than this process did
    checkpoint/        the state to go on from (`jaxad.training.checkpoint.Checkpoints`)
    best/              the detector that was found
    results.json, predictions.csv, report.html

A trial is a dict with `trial` (int, from 0), `tokens` (list of int), `architecture` (dict), `reward` and
`loss` (float or None), `status` ("ok", "failed" or "cached"), `reason` (str or None), `params` and `flops`
(int), `seconds` (of this child) and `elapsed` (since the search began).
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxad._utils.files import to_json, write_atomic, write_json
from jaxad._utils.version import VERSION
from jaxad.data.fingerprint import Fingerprint
from jaxad.runs.same_run import PLACES, check_data, check_program, check_settings, remember_data
from jaxad.training.checkpoint import Checkpoints

try:
    import fcntl
except ImportError:  # not on Windows: there a run is not locked
    fcntl = None

_FORMAT = "jaxad-run-2"
_EARLIER = {"jaxad-run-1": "0.1.0"}  # formats that are no longer read, and the version that does
_MAY_DIFFER = frozenset({"resume", "output", "time_budget"})


@dataclass(kw_only=True)
class Run:
    """An open run folder. Use as a context manager, or call `close` to let others write it."""

    path: Path
    name: str
    config: dict  # as stored: what JSON makes of the config given to create_run
    data: dict | None = None  # summary of the fingerprint of its data; None where it was begun without
    _lock: int | None = field(default=None, repr=False)  # file descriptors
    _trials: int | None = field(default=None, repr=False)

    @property
    def trials(self) -> Path:
        """The file of trials."""
        return self.path / "trials.jsonl"

    @property
    def best(self) -> Path:
        """The folder of the detector that was found."""
        return self.path / "best"

    @property
    def checkpoints(self) -> Checkpoints:
        """The states the run can go on from."""
        return Checkpoints(self.path / "checkpoint")

    def close(self) -> None:
        """Close the trials and free the lock; may be called twice."""
        for name in ("_trials", "_lock"):
            if getattr(self, name) is not None:
                os.close(getattr(self, name))
                setattr(self, name, None)

    def share(self) -> None:
        """Let other sessions that share the run write it, too: those of a grid, whose cells are claimed one by one."""
        if fcntl is not None and self._lock is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._lock, fcntl.LOCK_SH)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_run(output: str | Path | None, config: Any, *, name: str, data: Fingerprint | None = None) -> Run:
    """Make a run folder and lock it; `output` None makes `runs/<name>-<YYYYmmdd-HHMMSS>`.

    `config` is a dict or dataclass that `to_json` takes; `data` is what the run will know its data again by.
    Raises ValueError where the folder holds anything already, cannot be written, or is being written by another
    process.
    """
    stored = {"format": _FORMAT, "jaxad": VERSION, "name": name, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    summary = None if data is None else data.summary()
    stored |= {"config": to_json(config)} | ({} if summary is None else {"data": summary})
    path = _fresh_folder(name) if output is None else Path(output)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _refuse_used(path)
        lock = _lock(path)
    except OSError as error:
        raise ValueError(
            f"cannot use {path} as output folder: {error.strerror or error}; choose another --output"
        ) from error
    try:
        _refuse_used(path)  # another process may have been faster to the lock
        write_json(path / "config.json", stored)
        if data is not None:
            remember_data(path, data)
    except BaseException:
        os.close(lock)
        raise
    return Run(path=path, name=name, config=stored["config"], data=summary, _lock=lock)


def open_run(
    path: str | Path,
    config: Any = None,
    *,
    may_differ: Collection[str] = _MAY_DIFFER,
    write: bool = True,
    shared: bool = False,
    name: str | None = None,
    data: Fingerprint | None = None,
) -> Run:
    """Open an existing run folder: to go on with it, or with `write=False` only to read it.

    With a `name` it must be a run of that kind. With a `config`, every field outside `may_differ` (names, or
    dotted paths of nested fields) must equal the stored one. With `data` their content must be that of the run's,
    and then settings that say where they are may differ, too; a run that knows no data takes any. Raises ValueError
    where the folder is no run, anything differs (naming it), or another process is writing the run; `shared` with those
    that have called `Run.share`.
    """
    path = Path(path)
    stored = _stored(path)
    known = stored["data"] if isinstance(stored.get("data"), dict) else None
    run = Run(path=path, name=stored["name"], config=stored["config"], data=known)
    if name is not None:
        check_program(path, run.name, name)
    if config is not None:
        moved = PLACES if data is not None and known is not None else frozenset()
        check_settings(path, run.config, to_json(config), moved | set(may_differ))
    if data is not None and known is not None:
        check_data(path, known, data)
    if write:
        try:
            run._lock = _lock(path, shared)
        except OSError as error:
            raise ValueError(
                f"cannot write to run {path}: {error.strerror or error}; copy it to a folder you may write to"
            ) from error
    return run


def append_trial(run: Run, record: dict) -> None:
    """Add one trial; survives the death of the process (of the machine after `sync`).

    Raises ValueError when the disk is full; no partial line is left then.
    """
    line = (json.dumps(to_json(record), allow_nan=False, separators=(",", ":")) + "\n").encode()
    try:
        if run._trials is None:
            _require_lock(run)
            run._trials = os.open(run.trials, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            whole = run.trials.read_bytes().rfind(b"\n") + 1
            os.ftruncate(run._trials, whole)  # a torn last line must not swallow the next
        size = os.fstat(run._trials).st_size
        try:
            if os.write(run._trials, line) < len(line):  # what a nearly full disk does first
                raise OSError("no space left for the whole line")
        except OSError:
            os.ftruncate(run._trials, size)
            raise
    except OSError as error:
        raise ValueError(
            f"cannot write {run.trials}: {error.strerror or error}; "
            f"free disk space, then continue with --resume {run.path}"
        ) from error


def sync(run: Run) -> None:
    """Force the trials to disk: before a checkpoint that counts on them."""
    if run._trials is not None:
        os.fsync(run._trials)


def read_trials(run: Run | str | Path) -> list[dict]:
    """All trials of a run, open or not; a torn last line is left out, no file means no trials.

    Raises ValueError naming the line where the file is corrupt before its end.
    """
    path = (run.path if isinstance(run, Run) else Path(run)) / "trials.jsonl"
    if not path.exists():
        return []
    records = []
    lines = path.read_bytes().split(b"\n")[:-1]  # after the last newline: nothing, or a torn line
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ValueError(f"{path} line {number} is not a trial; restore the file from a copy, or start a new run")
        records.append(record)
    return records


def truncate_trials(run: Run, n: int) -> None:
    """Keep the first `n` trials: those that the checkpoint knows of. One system call, so never half done.

    Raises ValueError when there are fewer than `n`.
    """
    _require_lock(run)
    content = run.trials.read_bytes() if run.trials.exists() else b""
    ends = [match.end() for match in re.finditer(b"\n", content)]
    if not 0 <= n <= len(ends):
        raise ValueError(
            f"{run.trials} holds {len(ends)} trials, fewer than the {n} of the checkpoint; "
            "restore the file, or start a new run"
        )
    if content:
        with open(run.trials, "rb+") as file:
            file.truncate(ends[n - 1] if n else 0)
            os.fsync(file.fileno())


def restore_trials(run: Run, records: list[dict]) -> None:
    """Write the first trials anew, as a checkpoint knows them, where the file has others or fewer."""
    _require_lock(run)
    lines = [(json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n").encode() for record in records]
    content = run.trials.read_bytes() if run.trials.exists() else b""
    if not content.startswith(b"".join(lines)):
        write_atomic(run.trials, lines)


def environment() -> dict:
    """Versions, device and commit that a result was obtained with; starts JAX's backend."""
    import jax

    versions = {"python": platform.python_version(), "jaxad": VERSION}
    for package in ("jax", "jaxlib", "flax", "optax", "numpy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    devices = jax.devices()
    return {
        "versions": versions,
        "platform": platform.platform(),
        "device": {"backend": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)},
        "cpus": os.cpu_count(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this file is tracked in, with "-dirty"; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed inside somebody else's checkout?
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _stored(path: Path) -> dict[str, Any]:
    """What config.json says of a run that this version can go on with."""
    try:
        stored = json.loads((path / "config.json").read_bytes())
    except OSError as error:
        raise ValueError(
            f"{path} is not a run folder (config.json: {error.strerror or error}); give the folder of a run"
        ) from error
    except ValueError:
        stored = None
    stored = stored if isinstance(stored, dict) else {}
    if version := _EARLIER.get(stored.get("format")):
        raise ValueError(
            f"{path} was begun by jaxad {version}, and only that version can continue it: install it, or start a new "
            "run (detectors in its best/ folder can be used as they are)"
        )
    if stored.get("format") != _FORMAT or not {"name", "config"} <= stored.keys():
        raise ValueError(f"{path / 'config.json'} was not written by this version of jaxad or is damaged; start anew")
    return stored


def _fresh_folder(name: str) -> Path:
    """A folder name under runs/ that nobody uses: two runs may start in the same second."""
    base = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _refuse_used(path: Path) -> None:
    """Earlier results are never touched; hidden files (the lock, .DS_Store) do not count as results."""
    if (path / "config.json").exists():
        raise ValueError(f"{path} already holds a run; continue it with --resume {path}, or choose another --output")
    found = next((p.name for p in path.iterdir() if not p.name.startswith(".")), None)
    if found is not None:
        raise ValueError(f"output folder {path} is not empty (it holds {found}); choose a new or empty --output")


def _lock(path: Path, shared: bool = False) -> int | None:
    """Take the run's lock; the operating system frees it with the process, however that ends."""
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 100).decode(errors="replace").strip()
        os.close(descriptor)
        raise ValueError(
            f"run {path} is being written by another process ({holder or 'unknown'}); "
            "wait until it ends, or choose another --output"
        ) from error
    except OSError:
        pass  # a file system without locks: better unguarded than unusable
    with suppress(OSError):  # who holds the lock is a courtesy
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
    return descriptor


def _require_lock(run: Run) -> None:
    if run._lock is None:
        raise ValueError(f"run {run.path} is open for reading only; open it with open_run(path) to write")
