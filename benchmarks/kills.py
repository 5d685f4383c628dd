"""Do runs that are killed at random moments end as if nothing had happened?

    python benchmarks/kills.py                                   # 100 kills of a search, 10 of each other experiment
    python benchmarks/kills.py --experiments ama --kills 3 --searches 0
    python benchmarks/kills.py --output kept                     # keeps the folders of all runs

Of every experiment one run is left alone. Then it is started again and again with the same flags: each session is
killed (SIGKILL, with all its processes) after a random share of the time that the first run took, and the next one
resumes it, until one reaches its end. What it has left is compared with what the first run left: results, trials and
records of cells but for how long things took, predictions and the bytes of all weights. The exit status is 1 where
anything differs, where a session ends in an error, or where one says anything with a traceback.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxad._utils.validate import check_at_least
from jaxad.runs import cli
from jaxad.runs.progress import table

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
# Small, but each with several checkpoints, cells or children, and with all that a default run leaves.
RUNS: dict[str, tuple[str, ...]] = {
    "search": (
        "autoad_search.py", "--dataset", "digits", "--limit", "200", "--num-layers", "2", "--children", "8",
        "--population", "2", "--steps", "3", "--retrain-steps", "20", "--time-budget", "None",
        "--rivals", "pca", "nearest_neighbours",
    ),
    "detector": ("train_detector.py", "--preset", "smoke", "--detector", "deep_svdd"),
    "ama": ("ama_ood.py", "--preset", "smoke", "--compare", "no-mirror"),
    "agad": ("agad_oneclass.py", "--preset", "smoke", "--limit", "60"),
    "nbs": ("nbs_segmentation.py", "--preset", "smoke"),
    "compare": (
        "compare_search.py", "--space", "tiny", "--num-seeds", "4", "--children", "20", "--steps", "2", "--limit", "60",
    ),
    "refinement": ("refinement.py", "--preset", "smoke"),
    "tables": ("tables.py", "--tables", "TABLE"),
}  # fmt: skip
TABLE = """
title = "Two detectors"
protocol = "Small."
seeds = { smoke = 2, laptop = 2, paper = 2 }
script = "train_detector.py"
budgets = { smoke = ["--preset", "smoke"], laptop = [], paper = [] }
columns = { AUROC = "test.auroc" }
methods = [{ name = "PCA", flags = ["--detector", "pca"] }, { name = "SVDD", flags = ["--detector", "deep_svdd"] }]
tasks = [{ name = "digits", flags = [] }]
"""
TIMES = ("seconds", "elapsed", "costs", "compiles", "per_minute")  # endings of names of what differs from run to run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Kill runs at random moments, and compare what they leave with runs that were left alone."""

    experiments: tuple[Literal["search", "detector", "ama", "agad", "nbs", "compare", "refinement", "tables"], ...] = (
        tuple(RUNS)
    )
    """Whose runs to kill."""
    searches: int = 100
    """Number of kills of searches."""
    kills: int = 10
    """Number of kills of each other experiment."""
    seed: int = 0
    """Seed of the moments."""
    output: str | None = None
    """Folder for all runs; by default one that is deleted at the end."""

    is_command_line = True  # errors name flags


def run(config: Config) -> int:
    """All experiments; the status is 1 where a run has not ended as the one that was left alone."""
    check_at_least(config, "searches", "kills", least=0)
    rows, rng = [], np.random.default_rng(config.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(config.output or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "two.toml").write_text(TABLE)
        for name in config.experiments:
            wanted = config.searches if name == "search" else config.kills
            rows.append((name, *kill(name, wanted, folder / name, rng)))
            print("  ".join(map(str, rows[-1])), flush=True)
    table("runs that were killed", ("experiment", "kills", "runs", "differ", "errors", "seconds alone"), rows)
    return int(any(row[3] or row[4] for row in rows))


def kill(name: str, wanted: int, folder: Path, rng: np.random.Generator) -> tuple[int, int, int, int, float]:
    """(kills, runs, runs that differ, sessions that ended in an error, seconds of a run that is left alone)."""
    alone, started = folder / "alone", time.monotonic()
    errors = int(session(name, alone, None) != 0)
    expected, seconds = left_by(alone), time.monotonic() - started
    kills = runs = differ = 0
    while kills < wanted:
        mine, status, began = folder / f"killed-{runs}", None, time.monotonic()
        while status is None:
            moment = None if kills == wanted else rng.uniform(0, seconds)
            status = session(name, mine, moment)
            kills += status is None
        seconds = min(seconds, time.monotonic() - began)  # once everything is compiled, sessions are shorter
        errors += status != 0
        runs += 1
        differ += status == 0 and not same(expected, left_by(mine), mine)
    return kills, runs, differ, errors, round(seconds, 1)


def session(name: str, folder: Path, moment: float | None) -> int | None:
    """Begin a run or go on with it; returns its exit status, or None where it was killed after so many seconds."""
    script, *flags = RUNS[name]
    flags = [str(folder.parents[1] / "two.toml") if flag == "TABLE" else flag for flag in flags]
    resumed = name != "tables" and (folder / "config.json").exists()
    flags = ["--resume", str(folder)] if resumed else [*flags, "--output", str(folder)]
    process = subprocess.Popen(
        [sys.executable, str(EXPERIMENTS / script), *flags, "--quiet"], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        return None
    finally:  # also where this process is interrupted: none is left behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != 0 or "Traceback" in said:
        print(f"{folder}: status {process.returncode}: {said.strip()[-2000:]}", flush=True)
        return process.returncode or 1
    return 0


def left_by(folder: Path) -> dict[str, Any]:
    """What a run has left, by the names of files: all that must not depend on when it was killed."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("results.json", "tables.json", "entrant.json"):
            found[name] = timeless(json.loads(path.read_text()))
        elif path.name in ("trials.jsonl", "cells.jsonl", "controller.jsonl"):
            found[name] = lines_of(path)
        elif path.name == "predictions.csv" or (path.suffix in (".safetensors", ".npy") and is_result(path)):
            found[name] = path.read_bytes()
    return found


def lines_of(path: Path) -> list[Any]:
    """Records of cells by their names, of which the last counts; other records as they come."""
    records = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    by_name = {record.get("cell", record.get("num_evaluated", number)): record for number, record in enumerate(records)}
    return sorted(by_name.items(), key=lambda item: str(item[0]))


def is_result(path: Path) -> bool:
    """Whether an array or weights are of the end of a run: checkpoints have times in them."""
    return path.parent.name in ("best", "best_child", "masks", "scores", "profiles") or path.name == "visits.npy"


def timeless(value: Any) -> Any:
    """Plain data without how long anything took."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if not name.endswith(TIMES)}
    if isinstance(value, str):
        return re.sub(r"\bin \d+ s\b", "in some time", value)  # of sentences
    return [timeless(item) for item in value] if isinstance(value, list) else value


def same(expected: dict[str, Any], found: dict[str, Any], folder: Path) -> bool:
    """Whether two runs have left the same; what differs is printed."""
    different = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    for name in different:
        place = first_difference(expected.get(name), found.get(name), name)
        print(f"{folder}: differs in {place}", flush=True)
    return not different


def first_difference(one: Any, other: Any, place: str) -> str:
    """Where two plain values part, and how."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(one[name], other[name], f"{place}.{name}") for name in one]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = [(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(one, other))]
    else:
        return f"{place}: {str(one)[:100]} and {str(other)[:100]}"
    return next(first_difference(a, b, where) for a, b, where in pairs if a != b)


if __name__ == "__main__":
    cli.main(run, Config)
