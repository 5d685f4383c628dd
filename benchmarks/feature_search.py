"""Is an architecture search among features worth more than random choice, and than the best quick detector?

    python benchmarks/feature_search.py --task mvtec:DATA/magnetic_tile --num-seeds 15
    python benchmarks/feature_search.py --task coffee --seconds 60 --lines cells.jsonl --json feature_search.json

Of every seed, which draws validation and test, too: each strategy searches for as many seconds, its best two children
train from scratch, validation chooses one of them, and the test is looked at once. Strategies take turns in going
first, since later ones find programs compiled. Beside them stand the rivals of a search, of which validation chooses
one as well. Pairs are of one seed; intervals are of bootstraps over seeds, p-values Wilcoxon's signed ranks.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from painted_photographs import TEXTURES, THINGS
from photographs import load
from scipy.stats import wilcoxon

import jaxad
from jaxad._utils.compile import enable_compilation_cache
from jaxad.data import Task
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.metrics.image import auroc
from jaxad.runs.progress import table
from jaxad.runs.rivals import best_of, enter_all, rivals_for
from jaxad.training.scoring import score_images
from jaxad.training.staged import remembering

RIVAL = "best rival"


def searched(task: Task, strategy: str, seconds: float, seed: int) -> dict[str, Any]:
    """What one strategy finds in as many seconds, without rivals."""
    began = time.perf_counter()
    found = jaxad.search(
        task, strategy=strategy, space="features", time_budget=seconds, children=6000, rivals=("none",), seed=seed,
        quiet=True,
    )  # fmt: skip
    (line,) = found.league
    rewards = [trial.reward for trial in found.trials]
    return {
        "valid": line.valid, "test": found.test["auroc"]["value"], "children": len(rewards),
        "best_reward": float(np.nanmax(rewards)), "mean_reward": float(np.nanmean(rewards)),
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def best_rival(task: Task, seed: int) -> dict[str, Any]:
    """The quick detector that validation chooses."""
    began = time.perf_counter()
    rivals = rivals_for(["auto"], FeatureConfig(), task)
    best = best_of(enter_all(task, rivals, key=jax.random.key(seed), criterion="auroc"))
    scores = score_images(best.detector, best.state, task.test.images)
    test = float(auroc(scores, task.test.labels))
    return {"detector": best.label, "valid": best.value, "test": test, "seconds": time.perf_counter() - began}


def cell(args: argparse.Namespace, folder: Path, seed: int) -> dict[str, Any]:
    """One seed: all strategies and the rivals."""
    task, names = load(args.task, seed, folder, {}), args.strategies
    turn = seed % len(names)
    with remembering():
        found = {RIVAL: best_rival(task, seed)}  # computes the features, which all have then
        for name in (*names[turn:], *names[:turn]):
            found[name] = searched(task, name, args.seconds, seed)
    return found


def compared(found: Sequence[dict[str, Any]], first: str, second: str, metric: str) -> dict[str, float]:
    """Mean difference over seeds, its 95 % interval, and the two-sided p-value."""
    differences = np.array([record[first][metric] - record[second][metric] for record in found])
    draws = np.random.default_rng(0).choice(differences, (10_000, len(differences))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    p = wilcoxon(differences).pvalue if differences.any() else 1.0
    return {"mean": float(differences.mean()), "low": float(low), "high": float(high), "p": float(p)}


def report(found: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Print what each found, and the pairs; returns the figures."""
    rows, pairs = [], []
    for name in (*names, RIVAL):
        of = {
            key: [record[name].get(key, np.nan) for record in found] for key in ("children", "valid", "test", "seconds")
        }
        rows.append((name, *(f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in of.values())))
    table(f"\n{len(found)} seeds, mean and deviation", ("", "children", "valid auroc", "test auroc", "seconds"), rows)
    figures = {}
    for first, second in [*((names[0], name) for name in names[1:]), *((name, RIVAL) for name in names)]:
        for metric in ("valid", "test"):
            pair = compared(found, first, second, metric)
            figures[f"{first} - {second}, {metric}"] = pair
            pairs.append((f"{first} - {second}", metric, *(f"{pair[key]:.3f}" for key in ("mean", "low", "high", "p"))))
    table("\npaired differences", ("", "auroc of", "mean", "95 % low", "high", "p"), pairs)
    return figures


def main(flags: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="coffee", help="as benchmarks/photographs.py has them (default coffee)")
    parser.add_argument("--strategies", nargs="+", default=["evolution", "random"], metavar="NAME")
    parser.add_argument("--num-seeds", type=int, default=15, help="(default 15)")
    parser.add_argument(
        "--seconds", type=float, default=60, help="of each search; half as many to retrain (default 60)"
    )
    parser.add_argument("--lines", type=Path, metavar="FILE", help="JSON lines of what is finished, to go on from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args(flags)
    if args.num_seeds < 2 or not args.seconds > 0 or len(args.strategies) != len(set(args.strategies)):
        parser.error("--num-seeds is 2 or more, --seconds above 0, and each strategy is given once")
    if ":" not in args.task and args.task not in (*TEXTURES, *THINGS):
        parser.error(f"--task is {args.task!r}: give mvtec:PATH, folder:PATH or {', '.join((*TEXTURES, *THINGS))}")
    enable_compilation_cache()
    print(f"JAX {jax.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    lines = args.lines.read_text().splitlines() if args.lines and args.lines.exists() else []
    known, found = {json.dumps(record["of"]): record for record in map(json.loads, filter(str.strip, lines))}, []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(args.num_seeds):
            of = {"task": args.task, "seed": seed, "strategies": args.strategies, "seconds": args.seconds}
            record = known.get(json.dumps(of))
            if record is None:
                record = {"of": of} | cell(args, Path(temporary), seed)
                if args.lines is not None:
                    with args.lines.open("a") as file:
                        file.write(json.dumps(record) + "\n")
            tested = ", ".join(f"{name} {record[name]['test']:.3f}" for name in (*args.strategies, RIVAL))
            print(f"seed {seed}: {tested}", flush=True)
            found.append(record)
    figures = report(found, args.strategies)
    if args.json is not None:
        args.json.write_text(json.dumps({"cells": found, "pairs": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
