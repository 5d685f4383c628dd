"""Is what validation chooses the best detector of photographs? Every quick one is fitted, validated and tested.

    python benchmarks/photographs.py --tasks brick coffee --num-seeds 3
    python benchmarks/photographs.py --tasks mvtec:DATA/bottle mvtec:DATA/grid --num-seeds 5 --ranking
    python benchmarks/photographs.py --tasks brick --search 30 --lines cells.jsonl --json photographs.json

A task is any dataset that `jaxad.load_task` takes, or one of astronaut, coffee, rocket, chelsea, brick, grass and
gravel: 60 normal images to train on, 40 held out and 40 with painted defects, made anew for every seed
(painted_photographs.py says how). The seed also draws validation and test, by halves, and all that is random in the
detectors. Regret is the test metric of the best detector by test less that of the one that is returned; beside it
stands that of a choice by images alone, where masks have a say.

--ranking validates a second time on anomalies made of the normal validation images, as for tasks without real ones, and
compares what both validations say with the test: Kendall's tau over detectors, and regret.

--lines keeps every task and seed, so that a killed benchmark goes on where it stopped, with the scores of all images:
other rules of choice can be tried without fitting anything again.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from painted_photographs import TEXTURES, THINGS, write_task
from scipy.stats import kendalltau

import jaxad
from jaxad._utils.compile import enable_compilation_cache
from jaxad.data import Task, load_task
from jaxad.data.made_anomalies import make_anomalies
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.metrics.image import auroc
from jaxad.metrics.pixel import au_pro, pixel_auroc
from jaxad.runs.league import CHILD
from jaxad.runs.progress import table
from jaxad.runs.rivals import Entrant, best_of, check_rivals, enter_all, margin_of, rivals_for, validated
from jaxad.training.scoring import map_images, score_images
from jaxad.training.staged import remembering

MADE = 40  # anomalies of a made validation
KINDS = ("valid", "made")


def load(name: str, seed: int, folder: Path, sizes: dict[str, int]) -> Task:
    """A task by the name that the command was given."""
    if name in (*TEXTURES, *THINGS):
        return load_task(f"mvtec:{write_task(name, folder / f'{name}-{seed}', seed, **sizes)}", seed=seed)
    return load_task(name, seed=seed)


def with_made(task: Task, count: int, seed: int) -> Task:
    """The task with made anomalies in validation instead of real ones."""
    normal = task.valid.images[task.valid.labels == 0]
    made = make_anomalies(normal, count, seed=seed)
    labels = np.repeat([0, 1], [len(normal), count]).astype(np.int32)
    masks = np.concatenate([np.zeros((len(normal), *normal.shape[1:3]), np.uint8), made.masks])
    ids = np.array([f"made {i}" for i in range(len(labels))])
    return task._replace(valid=jaxad.data.task.Split(np.concatenate([normal, made.images]), labels, masks, ids))


def of_pixels(entrant: Entrant, part: Any, *, tested: bool) -> dict[str, float]:
    """Metrics of maps, where there are maps and masks; AU-PRO, which takes longest, of a test."""
    if entrant.detector.score_map is None or part.masks is None or not part.masks.any():
        return {}
    maps = map_images(entrant.detector, entrant.state, part.images)
    found = {"pixel_auroc": float(pixel_auroc(maps, part.masks))}
    return found | ({"au_pro": float(au_pro(maps, part.masks))} if tested else {})


def has_masks(task: Task) -> bool:
    """Whether validation has masks, so that the choice is by maps, too."""
    return task.valid.masks is not None and bool(task.valid.masks.any())


def measured(entrant: Entrant, task: Task, made: Task | None) -> dict[str, Any]:
    """A detector's validation and test."""
    record = {"detector": entrant.label, "value": entrant.value, "seconds": entrant.seconds}
    for name, part in {"valid": task.valid, "made": made and made.valid, "test": task.test}.items():
        if part is not None:
            scores = score_images(entrant.detector, entrant.state, part.images)
            margin = margin_of(scores, part.labels)
            record[name] = {"auroc": float(auroc(scores, part.labels)), "margin": margin}
            record[name] |= of_pixels(entrant, part, tested=name == "test")
            record[name] |= {"scores": [float(f"{score:.6g}") for score in scores]}
    return record


def searched(task: Task, children: int, seed: int) -> Entrant:
    """The best child of a search without rivals."""
    began = time.perf_counter()
    found = jaxad.search(task, children=children, rivals=("none",), seed=seed, quiet=True)
    seconds = time.perf_counter() - began
    valid = validated(found.detector, found.state, task, "auroc", has_masks(task))
    return Entrant(CHILD, None, found.detector, found.state, seconds=seconds, **valid._asdict())


def cell(task: Task, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """All that is measured of a task and seed."""
    began = time.perf_counter()
    made = with_made(task, MADE, seed) if args.ranking else None
    with remembering():
        rivals = rivals_for(args.rivals, FeatureConfig(), task)
        entrants = enter_all(task, rivals, key=jax.random.key(seed), criterion="auroc", by_pixels=has_masks(task))
        if args.search:
            entrants.append(searched(task, args.search, seed))
        records = [measured(entrant, task, made) for entrant in entrants]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = {name: [int((part.labels == k).sum()) for k in (0, 1)] for name, part in jaxad.data.parts(task).items()}
    labels = {"valid": task.valid.labels.tolist(), "test": task.test.labels.tolist()}
    best = best_of(entrants)
    return {
        "returned": None if best is None else best.label, "detectors": records, "counts": counts, "labels": labels,
        "seconds": time.perf_counter() - began, "peak_mib": peak,
    }  # fmt: skip


def cells(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Of every seed of every task; those that are kept in --lines are not measured again."""
    known = {}
    if args.lines is not None and args.lines.exists():
        for line in filter(str.strip, args.lines.read_text().splitlines()):
            record = json.loads(line)
            known[json.dumps(record["of"])] = record
    sizes = {} if args.images is None else {"train": args.images, "good": args.images, "each": max(2, args.images // 4)}
    for seed in range(args.seed, args.seed + args.num_seeds):
        for name in args.tasks:
            of = {"task": name, "seed": seed, "rivals": args.rivals, "search": args.search, "ranking": args.ranking}
            of |= {"images": args.images, "features": FeatureConfig().backbone}
            record = known.get(json.dumps(of))
            if record is None:
                record = {"of": of} | cell(load(name, seed, folder, sizes), args, seed)
                if args.lines is not None:
                    with args.lines.open("a") as file:
                        file.write(json.dumps(record) + "\n")
            returned = chosen(record["detectors"], "valid")["detector"]
            print(f"{name}, seed {seed}: {returned}, {record['seconds']:.0f} s", flush=True)
            yield record


def chosen(records: Sequence[dict[str, Any]], by: str, *, pixels: bool = True) -> dict[str, Any] | None:
    """The detector that a validation, real or made, prefers, by the rule of `best_of`, with or without maps."""
    usable = [record for record in records if np.isfinite(record[by]["auroc"])]
    pixels = pixels and any("pixel_auroc" in record[by] for record in records)

    def merit(record: dict[str, Any]) -> float:
        value = record[by]["auroc"]
        return (value + record[by].get("pixel_auroc", 0.5)) / 2 if pixels else value

    return max(usable, key=lambda record: (round(merit(record), 3), record[by]["margin"]), default=None)


def regret(records: Sequence[dict[str, Any]], choice: str, metric: str = "auroc") -> float:
    """What a choice costs in a metric of the test; chance stands for one without it."""
    tested = {record["detector"]: record["test"].get(metric, 0.5) for record in records}
    return max(tested.values()) - tested[choice]


def tau(records: Sequence[dict[str, Any]], by: str) -> float:
    """Kendall's tau-b between validation and test over detectors; NaN where all are equal in one of them."""
    return float(kendalltau(*([record[part]["auroc"] for record in records] for part in (by, "test"))).statistic)


def summarised(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several cells: what is returned, what was best, and what made validations would have chosen."""
    rows = []
    for record in found:
        detectors = record["detectors"]
        best = max(detectors, key=lambda r: r["test"]["auroc"])
        returned = chosen(detectors, "valid")["detector"]  # as `best_of`; kept lines may be of another rule
        row = {"task": record["of"]["task"], "seed": record["of"]["seed"], "returned": returned}
        row |= {"best": best["detector"], "best_test": best["test"]["auroc"]}
        row |= {"regret": regret(detectors, returned)}
        row |= {"regret_pixels": regret(detectors, returned, "pixel_auroc")}
        row |= {"regret_images_alone": regret(detectors, chosen(detectors, "valid", pixels=False)["detector"])}
        if record["of"]["ranking"]:
            row |= {f"tau_{by}": tau(detectors, by) for by in KINDS}
            row |= {"regret_made": regret(detectors, chosen(detectors, "made", pixels=False)["detector"])}
        rows.append(row)
    means = {}
    for name in (name for name in rows[0] if name.startswith(("regret", "tau"))):
        finite = [row[name] for row in rows if np.isfinite(row[name])]
        means[name] = statistics.mean(finite) if finite else float("nan")
    return {"cells": rows, "mean": means, "worst_regret": max(row["regret"] for row in rows)}


def report(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print a table for each task and one of all; returns the figures."""
    tasks = {
        name: [r for r in found if r["of"]["task"] == name] for name in dict.fromkeys(r["of"]["task"] for r in found)
    }
    for name, some in tasks.items():
        rows = []
        for place, detector in enumerate(record["detector"] for record in some[0]["detectors"]):
            mine = [record["detectors"][place] for record in some]
            metrics = [("valid", "auroc"), ("test", "auroc"), ("test", "pixel_auroc"), ("test", "au_pro")]
            values = [[record[part][metric] for record in mine if metric in record[part]] for part, metric in metrics]
            shown = [f"{statistics.mean(v):.3f} ± {np.std(v):.3f}" if v else "" for v in values]
            returned = sum(chosen(record["detectors"], "valid")["detector"] == detector for record in some)
            rows.append((detector, *shown, returned, round(statistics.mean(r["seconds"] for r in mine), 1)))
        heads = ("detector", "valid auroc", "test auroc", "test pixels", "test au-pro", "returned", "fit s")
        table(f"\n{name}, {len(some)} seed(s), of the first: {some[0]['counts']} (normal, anomalous)", heads, rows)
    figures = {name: summarised(some) for name, some in tasks.items()} | {"all": summarised(found)}
    names = list(figures["all"]["mean"])
    rows = [
        (name, *(round(f["mean"][key], 4) for key in names), round(f["worst_regret"], 3)) for name, f in figures.items()
    ]
    table("\nmean over seeds", ("task", *names, "worst regret"), rows)
    print(f"peak memory of the process: {max(record['peak_mib'] for record in found):.0f} MiB")
    return figures


def main(flags: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["brick", "coffee"], metavar="TASK", help="default brick coffee")
    parser.add_argument("--num-seeds", type=int, default=3, help="of each task (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--rivals", nargs="+", default=["auto"], metavar="NAME", help="auto, or names of detectors")
    parser.add_argument("--search", type=int, default=0, metavar="N", help="children of a search, too (default 0)")
    parser.add_argument("--ranking", action="store_true", help="validate on made anomalies, too")
    parser.add_argument("--images", type=int, metavar="N", help="fewer than 60 to train on, of made tasks")
    parser.add_argument("--folder", type=Path, help="where those are written (default: a temporary one)")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="JSON lines of what is finished, to go on from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args(flags)
    if args.num_seeds < 1 or args.search < 0 or args.rivals == ["none"] or (args.images or 8) < 8:
        parser.error("--num-seeds is 1 or more, --search 0 or more, --images 8 or more, and --rivals some")
    for name in args.tasks:
        if ":" not in name and name not in (*TEXTURES, *THINGS):
            parser.error(f"--tasks has {name!r}: give mvtec:PATH, folder:PATH or {', '.join((*TEXTURES, *THINGS))}")
    try:
        check_rivals(args.rivals)
    except ValueError as error:
        parser.error(str(error))
    enable_compilation_cache()
    print(f"JAX {jax.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as temporary:
        found = list(cells(args, args.folder or Path(temporary)))
    figures = report(found)
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
