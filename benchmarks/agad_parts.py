"""What each part of AGAD's loss is worth: test AUROC of trainings with some of its terms, class by class.

    python benchmarks/agad_parts.py                                      # two digits of 8x8 pixels, minutes
    python benchmarks/agad_parts.py --datasets mnist fashion_mnist --classes all --test-split test --image-size 16 \\
        --steps 1000 --seeds 3 --gammas 0 0.05 --output parts.jsonl      # hours

    reconstruction               |x - x^| alone, an autoencoder
    reconstruction-adversarial   and the discriminator
    no-adcon                     and the latent term: AGAD without pseudo-anomalies
    reconstruction-pseudo        reconstruction and pseudo-anomalies
    no-latent                    all but the latent term
    agad                         all

One class is normal, all others are anomalous; gamma is the share of labelled anomalies in training, with which
`reconstruction` has nothing to learn from them and is left out. All trainings of a class begin from the same weights
and images. With --output every finished training is a line of that file, and none that is there is repeated.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxad import data
from jaxad._utils.compile import enable_compilation_cache
from jaxad.methods import config_of
from jaxad.methods.agad import AGADConfig, agad, learns_from, variant
from jaxad.methods.common.labels import anomalies_per_batch, normal_images
from jaxad.metrics.image import auroc
from jaxad.runs.progress import table
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images

PARTS = ("reconstruction", "reconstruction-adversarial", "no-adcon", "reconstruction-pseudo", "no-latent", "agad")
LAPTOP = config_of("agad", AGADConfig.laptop)  # that of agad_oneclass.py
DIGITS_LIMIT = 170  # images of each bundled digit


def configs(settings: AGADConfig) -> dict[str, AGADConfig]:
    """The settings with some parts of the loss, by name."""
    return {name: settings if name == "agad" else variant(settings, name) for name in PARTS}


def trained_auroc(config: AGADConfig, task: data.Task, seed: int, *, steps: int, batch_size: int) -> float:
    """Test AUROC after the last step."""
    detector, labels = agad(config), task.train.labels if task.train.labels.any() else None
    state, history = fit(
        detector, jax.random.key(seed), task.train.images, steps=steps, batch_size=batch_size, labels=labels,
        anomalies_per_batch=anomalies_per_batch(config, batch_size, labels), chunk=min(50, steps),
    )  # fmt: skip
    if history.diverged:
        return float("nan")
    state = calibrate(detector, state, normal_images(task))
    return float(auroc(score_images(detector, state, task.test.images), task.test.labels))


def known_rows(path: Path | None) -> list[dict[str, Any]]:
    """What a file holds of earlier sessions; a line that was cut off does not count."""
    rows = []
    for line in [] if path is None or not path.exists() else path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def remember(path: Path | None, row: dict[str, Any]) -> None:
    """Add a row to the file, on a line of its own also where a kill has cut off the one before."""
    if path is None:
        return
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * torn + json.dumps(row) + "\n")


def tasks(args: argparse.Namespace) -> Iterator[tuple[tuple[Any, ...], data.Task]]:
    """(dataset, class, gamma, limit) and the task of each that is asked for, one after another."""
    for dataset in args.datasets:
        classes = () if args.classes == ["all"] else args.classes
        sets = data.load_class_sets(dataset, classes, image_size=args.image_size, test_split=args.test_split)
        limit = args.limit or (DIGITS_LIMIT if dataset == "digits" else None)
        options = {"anomaly_ratio": 0.5 if sets.test is None else 0.0, "limit": limit}
        for normal, gamma in itertools.product(sets.classes, args.gammas):
            task = data.labelled_one_class(sets.train, sets.test, normal, gamma=gamma, **options)
            yield (dataset, normal, gamma, limit), task


def measure(args: argparse.Namespace, settings: AGADConfig = LAPTOP) -> list[dict[str, Any]]:
    """A row for every training, those of earlier sessions among them."""
    found, done = [], {tuple(row[name] for name in KEYS): row for row in known_rows(args.output)}
    for (dataset, normal, gamma, limit), task in tasks(args):
        parts = [(name, config) for name, config in configs(settings).items() if learns_from(config, name, gamma)]
        for (name, config), seed in itertools.product(parts, range(args.seeds)):
            about = (dataset, normal, gamma, name, seed, args.steps, args.batch_size, args.image_size, limit)
            if about not in done:
                begun = time.monotonic()
                value = trained_auroc(config, task, seed, steps=args.steps, batch_size=args.batch_size)
                done[about] = dict(zip(KEYS, about)) | {"auroc": value, "seconds": time.monotonic() - begun}
                remember(args.output, done[about])
            found.append(done[about])
    return found


KEYS = ("dataset", "class", "gamma", "part", "seed", "steps", "batch_size", "image_size", "limit")


def summary(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """For every set, gamma and part: mean over classes and seeds in percent, and the standard deviation over seeds of
    the mean over classes."""
    lines = []
    for dataset, gamma in dict.fromkeys((row["dataset"], row["gamma"]) for row in rows):
        for part in PARTS:
            here = [row for row in rows if (row["dataset"], row["gamma"], row["part"]) == (dataset, gamma, part)]
            seeds = sorted({row["seed"] for row in here})
            means = [100 * np.mean([row["auroc"] for row in here if row["seed"] == seed]) for seed in seeds]
            if means:
                sd = f"{np.std(means, ddof=1):.1f}" if len(means) > 1 else "-"
                classes = len({row["class"] for row in here})
                lines.append((dataset, f"{gamma:g}", part, f"{np.mean(means):.1f}", sd, classes, len(seeds)))
    return lines


def main(flags: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["digits"], help="labelled image sets (default digits)")
    parser.add_argument("--classes", nargs="+", default=["0", "8"], help="normal classes in turn, or all (default 0 8)")
    parser.add_argument("--test-split", help="official test part; by default a part of each class is held out")
    parser.add_argument("--image-size", type=int, help="side of the images; by default theirs, rounded up")
    parser.add_argument("--limit", type=int, help="normal images of a class at most (default 170 of digits, else all)")
    parser.add_argument("--gammas", type=float, nargs="+", default=[0.0, 0.05], help="labelled shares (default 0 0.05)")
    parser.add_argument("--steps", type=int, default=60, help="of a training (default 60)")
    parser.add_argument("--batch-size", type=int, default=32, help="images of a step (default 32)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each (default 1)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON lines, read and gone on with")
    args = parser.parse_args(flags)
    enable_compilation_cache()
    columns = ("set", "gamma", "part of the loss", "AUROC %", "sd over seeds", "classes", "seeds")
    table("AGAD by parts of its loss", columns, summary(measure(args)))


if __name__ == "__main__":
    main()
