"""What every detector comes to at the defaults of `jaxad train`, beside principal components of the same images.

    python benchmarks/defaults.py --output runs/defaults                          # painted textures of 64x64
    python benchmarks/defaults.py --output runs/defaults --tasks painted:brick:64 --detectors agad ama --num-seeds 1

Each detector trains on each task from each seed as the command trains it where nothing else is said, and is tested
once; of those that learn from anomalies there is a second row, with ten labelled ones. The table has means over seeds.
A run whose folder is finished is not repeated.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxad._utils.compile import enable_compilation_cache
from jaxad.methods import DETECTORS, learners
from jaxad.runs.programs import train
from jaxad.runs.progress import table

TASKS = ("painted:brick:64", "painted:grass:64", "painted:gravel:64")
LABELLED = 10


class Cell(NamedTuple):
    """One training."""

    detector: str
    labelled: int
    task: str
    seed: int

    @property
    def folder(self) -> str:
        """Of its run."""
        return f"{self.detector}-{self.labelled}-{self.task.replace(':', '_')}-seed{self.seed}"


def names() -> list[str]:
    """Detectors that need no masks and no classes of normal images."""
    return [
        name for name, entry in DETECTORS.items() if entry.labels not in ("masks", "classes") and name != "autoencoder"
    ]


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """All of them, seed by seed, so that a benchmark that is stopped has something of everything."""
    knowing = learners("anomalies")
    for seed, task, name in itertools.product(range(args.num_seeds), args.tasks, args.detectors):
        if not getattr(DETECTORS[name].config, "needs_anomalies", False):
            yield Cell(name, 0, task, seed)
        if name in knowing:
            yield Cell(name, LABELLED, task, seed)


def measured(cell: Cell, output: Path) -> dict[str, Any]:
    """Test AUROC and what is beside it; from the run folder, which is made where there is none."""
    folder = output / cell.folder
    if not (folder / "results.json").exists():
        made = {"resume": str(folder)} if folder.exists() else {"output": str(folder)}
        asked = {"detector": cell.detector, "dataset": cell.task, "seed": cell.seed, "labelled": cell.labelled}
        train.run(train.Config(**asked, **made, quiet=True))
    found = json.loads((folder / "results.json").read_text())
    beside = found.get("yardstick", {}).get("auroc")
    return {"auroc": found["test"]["auroc"]["value"], "pca": beside, "seconds": found["training"]["seconds"]}


def rows(found: dict[Cell, dict[str, Any]], tasks: Sequence[str]) -> list[list[str]]:
    """The table: by detector, means and spreads over seeds of each task."""
    lines = []
    for name, labelled in dict.fromkeys((cell.detector, cell.labelled) for cell in found):
        line = [name, str(labelled)]
        for task in tasks:
            own = [one for cell, one in found.items() if cell[:3] == (name, labelled, task)]
            values = [one["auroc"] for one in own]
            if not values:
                line.append("")
                continue
            beside = [one["auroc"] - one["pca"] for one in own if one["pca"] is not None]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            more = f" ({statistics.mean(beside):+.2f})" if beside else ""
            line.append(f"{statistics.mean(values):.2f}{spread}{more}")
        seconds = statistics.median(one["seconds"] for cell, one in found.items() if cell[:2] == (name, labelled))
        lines.append([*line, f"{seconds:.0f}"])
    return lines


def main(flags: Sequence[str] | None = None) -> None:
    """The whole benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="of the runs; may be there already")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="datasets as jaxad train has them")
    parser.add_argument("--detectors", nargs="+", default=names(), choices=names(), metavar="NAME", help="default: all")
    parser.add_argument("--num-seeds", type=int, default=3, help="of images and weights (default 3)")
    args = parser.parse_args(flags)
    enable_compilation_cache()
    found: dict[Cell, dict[str, Any]] = {}
    for cell in cells(args):
        found[cell] = measured(cell, args.output)
        known = f"{cell.labelled} labelled"
        print(f"{cell.detector}, {known}, {cell.task}, seed {cell.seed}: {found[cell]}", flush=True)
    columns = ("detector", "labelled", *args.tasks, "seconds")
    table("test AUROC, mean and sd over seeds (less that of principal components)", columns, rows(found, args.tasks))


if __name__ == "__main__":
    main()
