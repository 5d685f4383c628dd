"""Baselines that fit and score in milliseconds beside scikit-learn's: neighbours, local outlier factor, forest.

    python benchmarks/baselines.py --data-dir TFDS
    python benchmarks/baselines.py --dataset mnist --normals 6000 --rounds 9 --json baselines.json

Each is fitted to images of one class and scores test images of all, as pixels in [0, 1], by its defaults. A fit of
ours is `fit` and `calibrate`, from uint8 images to a state that scores; jaxad has compiled before. Scores are compared,
too: those of neighbours and of the local outlier factor are the same, two forests are two draws.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from search_throughput import machine
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from take_turns import compared, loads, spread, take_turns, timed

from jaxad._utils.compile import enable_compilation_cache
from jaxad.data import load
from jaxad.methods import DETECTORS
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images

BATCH = 64
THEIRS = {
    "nearest_neighbours": lambda: NearestNeighbors(n_neighbors=5),
    "local_outlier_factor": lambda: LocalOutlierFactor(novelty=True),
    "isolation_forest": lambda: IsolationForest(random_state=0),
}


def rows(images: np.ndarray) -> np.ndarray:
    """Pixels as scikit-learn takes them, [N, D]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def scores_of(estimator: Any, images: np.ndarray) -> np.ndarray:
    """Of scikit-learn, higher = more anomalous."""
    if isinstance(estimator, NearestNeighbors):
        return estimator.kneighbors(rows(images))[0][:, -1]
    return -estimator.score_samples(rows(images))


def measured(name: str, train: np.ndarray, tests: np.ndarray, rounds: int) -> dict[str, Any]:
    """Turns of fitting and of scoring, and how scores differ, as a share of their range."""
    detector, kept = DETECTORS[name].build(), {}

    def fit_ours() -> None:
        steps = -(-len(train) // BATCH)
        state, _ = fit(detector, jax.random.key(0), train, steps=steps, batch_size=BATCH)
        kept["jaxad"] = jax.block_until_ready(calibrate(detector, state, train))

    def fit_theirs() -> None:
        kept["scikit-learn"] = THEIRS[name]().fit(rows(train))

    def turns(**ways: Callable[[], None]) -> dict[str, Any]:
        named = {way.replace("theirs", "scikit-learn").replace("ours", "jaxad"): run for way, run in ways.items()}
        return take_turns({way: lambda run=run: timed(run) for way, run in named.items()}, rounds)

    def score_ours() -> None:
        kept["ours"] = score_images(detector, kept["jaxad"], tests)

    def score_theirs() -> None:
        kept["theirs"] = scores_of(kept["scikit-learn"], tests)

    fits, scores = turns(ours=fit_ours, theirs=fit_theirs), turns(ours=score_ours, theirs=score_theirs)
    difference = np.abs(kept["ours"] - kept["theirs"]).max() / np.ptp(kept["theirs"])
    return {"detector": name, "fit": fits, "score": scores, "difference": float(difference)}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fashion_mnist", help="as jaxad.data.load has it (default fashion_mnist)")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="of prepared TFDS sets; default TFDS_DATA_DIR")
    parser.add_argument("--normal", type=int, default=6, help="normal class (default 6)")
    parser.add_argument("--normals", type=int, default=2000, help="images to fit to at most (default 2000)")
    parser.add_argument("--tests", type=int, default=2000, help="images to score at most (default 2000)")
    parser.add_argument("--detectors", nargs="+", default=list(THEIRS), choices=THEIRS)
    parser.add_argument("--rounds", type=int, default=7, help="after one that is not counted (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every detector")
    args = parser.parse_args()
    if min(args.rounds, args.normals - 31, args.tests - 1) < 1:
        parser.error("--rounds is 1 or more, --normals 32 or more, --tests 2 or more")
    enable_compilation_cache()
    train, tests = (load(args.dataset, data_dir=args.data_dir, split=split) for split in ("train", "test"))
    normals, tests = train.images[train.labels == args.normal][: args.normals], tests.images[: args.tests]
    found = []
    for name in args.detectors:
        found.append(measured(name, normals, tests, args.rounds))
        for part, count in (("fit", len(normals)), ("score", len(tests))):
            turns = found[-1][part]
            print(f"\n{name}, {part} {count} images ({loads(turns)})\n{compared(turns, 'jaxad', 'ms', 1000)}")
        rates = [len(tests) / cost["seconds"] for cost in found[-1]["score"]["jaxad"]]
        print(f"{spread(rates)} images/s; scores differ by {found[-1]['difference']:.1e} of their range", flush=True)
        if args.json:
            args.json.write_text(json.dumps({"machine": machine(), "detectors": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
