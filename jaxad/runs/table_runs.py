"""The runs of experiments that tables need: each a folder of its own, and tables as they stand whenever one has ended.

SCRIPT-HASH-SEED/   a run folder, named by its script and a hash of its command line
files.jsonl         of every finished run the state of the files that its command line names
tables.md, tables.html, tables.json

A figure of data that are others now is no figure of the table. So a finished run whose files have another state than
when it ran is asked itself: `--resume` ends well where its data have the same content, and says what differs otherwise.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxad._utils import files
from jaxad.report.paper_tables import render_tables, table_cells, tables_markdown
from jaxad.report.table_spec import Cell, TableSpec, others_of, rows_of
from jaxad.runs.folder import read_trials
from jaxad.runs.grid import Records, call_on
from jaxad.runs.progress import line

Results = Mapping[str, Any]  # of a run, as results.json has them


def make_folder(output: str) -> Path:
    """The folder of all runs and tables; ValueError where there cannot be one."""
    path = Path(output)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # some file systems say of folders that root may write what nobody may
            pass
    except OSError as error:
        raise ValueError(f"cannot use {path} as output folder: {error.strerror}; choose another --output") from error
    return path


def with_scripts(spec: TableSpec, experiments: Path, beside: Path) -> TableSpec:
    """The table with scripts where they are: named, in the folder of the experiments, or else by their path.

    Raises:
      ValueError: a script that is neither among the experiments nor in the folder `beside`.
    """
    methods = []
    for method in spec.methods:
        places = [experiments / method.script, beside / method.script]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ValueError(f"{spec.title}: {method.name} needs {method.script}, which is neither of {places}")
        methods.append(method if found == places[0] else method._replace(script=str(found)))
    return spec._replace(methods=tuple(methods))


def folder_name(cell: Cell) -> str:
    """The name of a run's folder: its script, a hash of its command line, its seed."""
    digest = hashlib.sha256(json.dumps([cell.script, *cell.flags]).encode()).hexdigest()
    return f"{Path(cell.script).stem}-{digest[:10]}-{cell.seed}"


class TableRuns:
    """The runs of some tables in a folder: which have ended, and how those that have not come to run.

    Args:
      output: the folder of all runs.
      cells: all of them, by the names of their folders.
      experiments: the folder of scripts that are named.
      data_dir: where prepared TFDS sets are; by default TFDS_DATA_DIR.
      pool: whose workers run the scripts, by the same paths; by default they run on this machine.
    """

    def __init__(
        self,
        output: Path,
        cells: Mapping[str, Cell],
        *,
        experiments: Path,
        data_dir: str | None = None,
        pool: Executor | None = None,
    ) -> None:
        self.output, self.cells = output, cells
        self.results: dict[str, Results] = {}  # of those that have ended, by the names of their folders
        self.reasons: dict[Cell, str] = {}  # why others have none
        self._pool = pool
        self._experiments, self._data_dir = experiments, data_dir or os.environ.get("TFDS_DATA_DIR")
        self._states = Records(output / "files.jsonl")
        seen: dict[Path, bytes] = {}
        ended = [name for name in cells if (output / name / "results.json").exists()]
        unknown = [name for name in ended if not self._take(name, seen)]
        if unknown:
            some = f"{len(unknown)} finished run{'s do' if len(unknown) > 1 else ' does'} not know their data"
            line(f"{some}, such as {output / unknown[0]}: taken as if these were the same", file=sys.stderr)

    def work(self, cell: Cell) -> Results:
        """Run an experiment in its folder, or what is left of it, in a process of its own.

        Raises:
          ValueError: what the experiment says for its last where it ends without results.
        """
        name = folder_name(cell)
        state = self._state(cell)  # as it was before anything was read
        try:
            self._start(cell, name)
            self.results[name] = results_of(self.output / name)
        except ValueError as error:
            self.reasons[cell] = str(error)
            raise
        self._states[name] = {"state": state}
        return self.results[name]

    def _take(self, name: str, seen: dict[Path, bytes]) -> bool:
        """Take the results of a finished run, or why they do not count; False where its data cannot be known again."""
        cell, folder = self.cells[name], self.output / name
        state, known = self._state(cell, seen), self._states.get(name, {}).get("state")
        try:
            found = results_of(self.output / name)
            knows = (folder / "config.json").exists() and "data" in files.read_json(folder / "config.json")
        except ValueError as error:
            self.reasons[cell] = f"{error} Remove that file, and the run goes on from where it was saved"
            return True
        try:
            if known != state and knows:
                self._start(cell, name)  # which ends at once
                self._states[name] = {"state": state}
            elif known not in (None, state):
                raise ValueError("files that its command line names have changed")
            self.results[name] = found
        except ValueError as error:
            self.reasons[cell] = f"{error}. Remove {folder} to have it run anew"
        return knows or known is not None or not any(_named(cell, self._data_dir))

    def refresh(self, name: str) -> None:
        """Take the results of a run that another client may have finished."""
        if name not in self.results and (self.output / name / "results.json").exists():
            self._states.refresh()
            self._take(name, {})

    def _start(self, cell: Cell, name: str) -> None:
        script = self._experiments / cell.script
        told = Told(str(script), (*cell.flags, "--seed", str(cell.seed)), str(self.output / name), self._data_dir)
        if self._pool is None:
            run_script(told)
        else:
            call_on(self._pool, run_script, told._replace(beside=os.getcwd()))

    def _state(self, cell: Cell, seen: dict[Path, bytes] | None = None) -> str:
        """A digest of the files that a command line names, by size and time: equal where nobody touched them."""
        digest, seen = hashlib.sha256(), {} if seen is None else seen
        for path in sorted(set(_named(cell, self._data_dir))):
            if path not in seen:
                seen[path] = hashlib.sha256(b"".join(self._stats(path))).digest()
            digest.update(seen[path])
        return digest.hexdigest()

    def _stats(self, path: Path) -> Iterator[bytes]:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.is_relative_to(self.output):
                stat = file.stat()
                yield f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\n".encode(
                    errors="surrogateescape"
                )


class Told(NamedTuple):
    """What a process is told."""

    script: str
    flags: tuple[str, ...]  # of a fresh run
    folder: str
    data_dir: str | None
    beside: str | None = None  # the folder that paths are relative to


def run_script(told: Told) -> None:
    """Run a script in its folder, or what is left of it, to its end; ValueError with what it says for its last."""
    known = Path(told.beside or "", told.folder, "config.json").exists()
    flags = ("--resume", told.folder) if known else (*told.flags, "--output", told.folder)
    environment = os.environ | ({"TFDS_DATA_DIR": told.data_dir} if told.data_dir else {})
    done = subprocess.run(
        [sys.executable, told.script, *flags, "--quiet"], env=environment, cwd=told.beside,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        raise ValueError(last.removeprefix("error: "))


def _named(cell: Cell, data_dir: str | None) -> Iterator[Path]:
    """The files and folders that a command line names: PATH, KIND:PATH, or a set in the folder of prepared ones."""
    for flag in cell.flags:
        value = flag.partition("=")[2] if flag.startswith("--") else flag
        places = [value, value.partition(":")[2], *([os.path.join(data_dir, value)] if data_dir and value else [])]
        for place in filter(None, places):
            path = Path(place).expanduser()
            try:
                if path.exists():
                    yield path
            except (OSError, ValueError):  # too long for a name
                continue


def results_of(run: Path) -> Results:
    """What the folder of a run says for columns: its results and the figures of its trials; ValueError without any."""
    results = files.read_json(run / "results.json")
    if not isinstance(results, dict):
        raise ValueError(f"{run / 'results.json'} holds no results")
    return trial_figures(read_trials(run)) | results


def trial_figures(trials: Sequence[Mapping[str, Any]]) -> Results:
    """What columns may show of a search besides its results: {"trials": {figure: {children: value}}}; {} without any.

    The figures are the best reward of the first children, one for each number of them, and mean and sample standard
    deviation of their rewards; failed children have none, but count. So "trials.best.20" is the best of the first 20.
    """
    if not all("reward" in trial and "status" in trial for trial in trials):  # of a script that keeps something else
        return {}
    rewards = np.array([trial["reward"] if trial["status"] == "ok" else np.nan for trial in trials], float)
    figures: dict[str, dict[str, float]] = {"best": {}, "mean": {}, "sd": {}}
    for children in range(1, len(rewards) + 1):
        known = rewards[:children][~np.isnan(rewards[:children])]
        if len(known):
            figures["best"][str(children)] = float(known.max())
            figures["mean"][str(children)] = float(known.mean())
        if len(known) > 1:
            figures["sd"][str(children)] = float(known.std(ddof=1))
    return {"trials": figures} if trials else {}


def write_tables(
    specs: Mapping[str, TableSpec],
    results: Mapping[Cell, Results],
    reasons: Mapping[Cell, str],
    output: Path,
    *,
    budget: str,
    num_seeds: int | None,
    num_cells: int,
) -> dict[str, list[tuple[str, ...]]]:
    """Write tables as they stand, for people and programs.

    Args:
      specs: tables by name.
      results: of the runs that have ended.
      reasons: why others have none.
      num_seeds: seeds of every cell; by default what a table says.
      num_cells: how many runs there will be.

    Returns:
      The lines of every table, under `HEADS`.
    """
    rows = {
        name: rows_of(spec, budget, num_seeds or spec.seeds[budget], results, reasons) for name, spec in specs.items()
    }
    full = {name: (spec, table_cells(rows[name], others_of(spec))) for name, spec in specs.items()}
    # Of a cell: to ask here would take hold of the accelerator that the cells need.
    made = next(iter(results.values()), {})
    facts = {"budget": budget, "runs": f"{len(results)} of {num_cells}", **made.get("versions", {})}
    facts["device"] = (made.get("device") or {}).get("kind", "")
    plain = [
        {"table": name, **row._asdict(), "mean": row.mean, "sd": row.sd}
        for name, found in rows.items()
        for row in found
    ]
    files.write_json(output / "tables.json", {"facts": facts, "rows": plain})
    text = [", ".join(f"{name} {value}" for name, value in facts.items())]
    files.write_text(output / "tables.md", tables_markdown(full, text))
    verdict = f"{len(results)} of {num_cells} runs at budget {budget}."
    files.write_text(output / "tables.html", render_tables(full, verdict, facts))
    return {name: lines for name, (_, lines) in full.items()}
