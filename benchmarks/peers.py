"""One-class detection beside what others install: jaxad's detectors, scikit-learn and, where installed, PyOD.

    python benchmarks/peers.py --dataset fashion_mnist                      all methods, all classes
    python benchmarks/peers.py --dataset digits --classes 0 1 --methods "jaxad pca" "sklearn pca"
    python benchmarks/peers.py --dataset fashion_mnist --normals 1000 --tests 2000    a quicker look

For each class in turn, a method is fitted to training images of that class and scores test images of all classes, as
pixels in [0, 1]. Digits have no test part: every second image is one. Shown are the AUROC of each class, the seconds
that fitting took (the first class apart, since jaxad's methods compile then) and the test images scored in a second,
also without compilation. Methods run one after another in this process, in turns over the classes; others' methods
have their own defaults. Some score an image by what else is in the call (of PyOD, ECOD and COPOD do), which no line of
a factory can: the first images are scored one by one, too, and a method whose scores differ is marked.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from search_tables import table
from search_throughput import machine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from jaxad._utils.compile import enable_compilation_cache
from jaxad.data import load
from jaxad.methods import DETECTORS
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images

Score = Callable[[np.ndarray], np.ndarray]  # images [N, H, W, C] uint8 -> [N], higher = more anomalous
Fit = Callable[[np.ndarray, int], Score]  # (images [N, H, W, C] uint8 of one class, seed) -> how it scores

OURS = {
    "nearest_neighbours": {},
    "isolation_forest": {},
    "local_outlier_factor": {},
    "one_class_svm": {},
    "pca": {},
    "memory_bank": {},
    "feature_dictionary": {},
    "conv_autoencoder": {"steps": 500},
    "deep_svdd": {"steps": 500},
    "dagmm": {"steps": 500},
    "anogan": {"steps": 1000},
}
BATCH = 64
SCORED = 256  # images that a method of ours scores together
ALONE = 8  # images that are scored one by one, too
SVM_IMAGES = 2000  # to fit a support vector machine to; its time grows with their square


def rows(images: np.ndarray) -> np.ndarray:
    """Pixels as others take them, [N, D]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def ours(name: str) -> Fit:
    """A detector of jaxad; without a number of steps of its own it sees every image once."""

    def fitted(images: np.ndarray, seed: int) -> Score:
        detector = DETECTORS[name].build(**OURS[name])  # the same one for all classes, as equal settings give
        steps = OURS[name].get("steps", math.ceil(len(images) / BATCH))
        state, _ = fit(detector, jax.random.key(seed), images, steps=steps, batch_size=min(BATCH, len(images)))
        state = jax.block_until_ready(calibrate(detector, state, images))
        return lambda tests: score_images(detector, state, tests, SCORED)

    return fitted


def by_scikit_learn(make: Callable[[int], Any], most: int | None = None) -> Fit:
    """An estimator of scikit-learn."""

    def fitted(images: np.ndarray, seed: int) -> Score:
        estimator = make(seed).fit(rows(images[:most]))
        return lambda tests: -estimator.score_samples(rows(tests))

    return fitted


def neighbours(images: np.ndarray, seed: int) -> Score:
    """Distance to the fifth neighbour."""
    index = NearestNeighbors(n_neighbors=5).fit(rows(images))
    return lambda tests: index.kneighbors(rows(tests))[0][:, -1]


def reconstruction(images: np.ndarray, seed: int) -> Score:
    """Squared error of as many components as ours has by default."""
    model = PCA(32, random_state=seed).fit(rows(images))
    return lambda tests: np.square(model.inverse_transform(model.transform(rows(tests))) - rows(tests)).mean(1)


def by_pyod(module: str, name: str, **fields: Any) -> Fit:
    """A detector of PyOD."""

    def fitted(images: np.ndarray, seed: int) -> Score:
        make = getattr(__import__(f"pyod.models.{module}", fromlist=[name]), name)
        detector = make(**fields)
        detector.fit(rows(images[: SVM_IMAGES if name == "OCSVM" else None]))
        return lambda tests: detector.decision_function(rows(tests))

    return fitted


METHODS: dict[str, Fit] = {
    **{f"jaxad {name}": ours(name) for name in OURS},
    "sklearn nearest neighbours": neighbours,
    "sklearn isolation forest": by_scikit_learn(lambda seed: IsolationForest(random_state=seed)),
    "sklearn local outlier factor": by_scikit_learn(lambda seed: LocalOutlierFactor(novelty=True)),
    "sklearn one-class SVM": by_scikit_learn(lambda seed: OneClassSVM(), SVM_IMAGES),
    "sklearn pca": reconstruction,
    "pyod KNN": by_pyod("knn", "KNN"),
    "pyod IForest": by_pyod("iforest", "IForest"),
    "pyod PCA": by_pyod("pca", "PCA"),
    "pyod OCSVM": by_pyod("ocsvm", "OCSVM"),
    "pyod AutoEncoder": by_pyod("auto_encoder", "AutoEncoder", verbose=0),
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    there = [name for name in METHODS if not name.startswith("pyod") or find_spec("pyod")]
    add("--dataset", default="fashion_mnist", help="as jaxad.data.load has it (default fashion_mnist)")
    add("--data-dir", type=Path, metavar="FOLDER", help="of prepared TFDS sets; default TFDS_DATA_DIR")
    add("--classes", type=int, nargs="+", metavar="CLASS", help="normal classes, one after another (default all)")
    add("--methods", nargs="+", choices=METHODS, default=there, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    add("--normals", type=int, default=6000, help="training images of a class at most (default 6000)")
    add("--tests", type=int, default=10000, help="test images at most (default 10000)")
    add("--seed", type=int, default=0)
    add("--json", type=Path, metavar="FILE", help="written after every fit")
    args = parser.parse_args(argv)
    if min(args.normals, args.tests) < 2:
        parser.error("--normals and --tests are 2 or more")
    return args


def parts(args: argparse.Namespace) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Images and classes, of training and of test."""
    if args.dataset == "digits":
        whole = load("digits")
        return tuple((whole.images[start::2], whole.labels[start::2]) for start in (0, 1))
    sets = (load(args.dataset, data_dir=args.data_dir, split=split) for split in ("train", "test"))
    return tuple((part.images, part.labels) for part in sets)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """{"machine", "settings", "results": [{"method", "class", "auroc", "fit_seconds", "images_per_second"}, ...]}."""
    (train, classes), (tests, test_classes) = parts(args)
    chosen = np.random.default_rng(args.seed).permutation(len(tests))[: args.tests]
    tests, test_classes = tests[chosen], test_classes[chosen]
    wanted = np.unique(classes).tolist() if args.classes is None else args.classes
    for normal in wanted:
        if not (classes == normal).any() or not 0 < (test_classes == normal).sum() < len(tests):
            raise SystemExit(f"class {normal} is not in training and test images of {args.dataset}; choose another")
    settings = {name: value for name, value in vars(args).items() if name not in ("json", "data_dir")}
    content: dict[str, Any] = {"machine": machine(), "settings": settings, "results": []}
    for normal in wanted:
        for method in args.methods:
            begin = time.perf_counter()
            score = METHODS[method](train[classes == normal][: args.normals], args.seed)
            seconds = time.perf_counter() - begin
            score(tests[:SCORED])  # compiles
            begin = time.perf_counter()
            scores = score(tests)
            rate = len(tests) / (time.perf_counter() - begin)
            record = {"method": method, "class": normal, "auroc": float(roc_auc_score(test_classes != normal, scores))}
            record |= {"fit_seconds": seconds, "images_per_second": rate, "by_itself": by_itself(score, tests, scores)}
            content["results"].append(record)
            if args.json:
                args.json.write_text(json.dumps(content, indent=1) + "\n")
    return content


def by_itself(score: Score, tests: np.ndarray, scores: np.ndarray) -> bool:
    """Whether images have the scores that they have among all others when each is scored in a call of its own."""
    alone = np.concatenate([score(tests[place : place + 1]) for place in range(min(ALONE, len(tests)))])
    return bool(np.allclose(alone, scores[: len(alone)], rtol=1e-3, atol=1e-3 * np.std(scores)))


def report(content: dict[str, Any]) -> str:
    """The table."""
    results = content["results"]
    classes = sorted({record["class"] for record in results})
    lines = [("method", "", *(str(c) for c in classes), "mean", "first fit s", "fit s", "score images/s")]
    for method in dict.fromkeys(record["method"] for record in results):
        own = [record for record in results if record["method"] == method]
        values = {record["class"]: record["auroc"] for record in own}
        later = [record["fit_seconds"] for record in own[1:]]
        lines.append(
            (
                method,
                "" if all(record.get("by_itself", True) for record in own) else "by the call",
                *(f"{values[c]:.3f}" for c in classes),
                f"{statistics.mean(values.values()):.3f}",
                f"{own[0]['fit_seconds']:.1f}",
                f"{statistics.median(later):.1f}" if later else "",
                f"{statistics.median(record['images_per_second'] for record in own):,.0f}",
            )
        )
    return table(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = arguments(argv)
    enable_compilation_cache()
    print(report(measure(args)))


if __name__ == "__main__":
    main()
