"""Train AGAD on one class at a time, all others anomalous, with no or a few labelled anomalies, and test each once.

    python experiments/agad_oneclass.py                                        # bundled digits, offline, minutes
    python experiments/agad_oneclass.py --dataset fashion_mnist --test-split test --classes 0 1 2 3 --gammas 0 0.05
    python experiments/agad_oneclass.py --compare no-adcon ganomaly            # ablation of Table 4, and a forerunner
    python experiments/agad_oneclass.py --dataset folder:XRAY/train --test-folder XRAY/test --classes normal  # Table 3
    python experiments/agad_oneclass.py --preset smoke                         # see everything happen in a minute
    python experiments/agad_oneclass.py --resume runs/agad-20260101-120000

A gamma is the anomalous share of the training images: the user's labelled defects. Every class, gamma, seed and variant
is a detector of its own, a cell of the table; cells that are finished are never repeated. All train for the same fixed
number of steps: nothing is chosen by validation or test. All is in the run folder: open report.html, and score new
images with `python experiments/detect.py RUN images...`; saved is the detector of the first class, largest gamma.
"""

import dataclasses
import functools
import math
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import jax
import numpy as np

from jaxad import backend, checkpoint, cli, data, files, metrics, report, runs
from jaxad.batches import to_float
from jaxad.data.datasets import class_indices
from jaxad.data.labelled import check_gamma
from jaxad.detectors.agad import LINEAGE, AGADConfig, agad, views
from jaxad.detectors.saved import save_detector
from jaxad.evaluation import evaluate, predictions
from jaxad.nets.sngan import next_size
from jaxad.progress import Progress, table
from jaxad.training import fit
from jaxad.types import Detector, State

VARIANTS: dict[str, dict[str, Any]] = {
    "no-adcon": {"pseudo_weight": 0.0},
    "advprop": {"auxiliary_norm": True},
    "freezebn": {"frozen_norm": True},
    "advprop-freezebn": {"auxiliary_norm": True, "frozen_norm": True},
    "naive": {"generator": "naive"},
    "unet": {"generator": "unet"},
    "unetpp": {"generator": "unetpp"},
    "literal-target": {"anomaly_target": 0},
    "contextual-reciprocal": {"contextual_reciprocal": True},
    "tiny-epsilon": {"epsilon": 1e-6},
    "ganomaly": {},
    "skip-ganomaly": {},
}
Variant = Literal[
    "no-adcon", "advprop", "freezebn", "advprop-freezebn", "naive", "unet", "unetpp", "literal-target",
    "contextual-reciprocal", "tiny-epsilon", "ganomaly", "skip-ganomaly",
]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig):
    """Train AGAD on one class at a time and test every detector once."""

    # ---- the task
    dataset: str = "digits"
    """Labelled images: a TFDS name (fashion_mnist), digits, textures:SIZE, idx:DIR, folder:DIR, npz:FILE."""
    classes: tuple[str, ...] = ()
    """Classes that are normal, one detector for each, by name or number; by default every class."""
    gammas: tuple[float, ...] = (0.0, 0.05)
    """Anomalous shares of the training images, drawn from all other classes."""
    test_split: str | None = None
    """Test on this part of a TFDS or IDX set, such as test, whole; by default on a fifth of each class and others."""
    test_folder: str | None = None
    """Test on the class folders in this folder, whole; for --dataset folder:DIR (the medical protocol)."""
    data_dir: str | None = None
    """Where prepared TFDS sets are; by default TFDS_DATA_DIR."""
    image_size: int | None = None
    """Side of the images; by default theirs, rounded up to 8, 16, 32 ..."""
    limit: int | None = None
    """Use at most so many normal images of a class; by default all, of the bundled digits 170 (one program)."""
    contamination: float = 0.5
    """Anomalous share of validation and test; a test part that is given stays whole, and validation is then normal."""

    # ---- training
    preset: Literal["default", "smoke", "paper"] = "default"
    """Where flags are not given: default (minutes on a laptop), smoke (under a minute), paper (for a GPU)."""
    agad: AGADConfig = dataclasses.field(
        default_factory=lambda: AGADConfig(
            generator="naive", width=0.25, latent_dim=32, learning_rate=1e-3, epsilon=0.5
        )
    )
    """Settings of the method."""
    compare: tuple[Variant, ...] = ("no-adcon",)
    """Train these variants, too: ablations of Tables 4, 5 and 9, readings of the paper, and forerunners."""
    steps: int = 300
    """Training steps of every detector."""
    batch_size: int = 32
    """Images of one step."""
    anomalies_per_batch: int | None = None
    """Labelled anomalies of a step, drawn with replacement; by default an eighth of the batch (32 of 256), or gamma."""
    train_seeds: int = 1
    """Trainings for each class, from different weights and, where gamma is above 0, with different anomalies."""
    seed: int = 0
    """Decides everything random: same seed, same result."""
    saves: int = 4
    """How often a training is saved on the way."""
    false_alarms: float = 0.05
    """Share of normal images that the threshold may flag, set on held-out normal images."""
    resamples: int = 200
    """Of the bootstrap behind each cell's intervals."""
    diagnose: bool = False
    """Also score with the statistics of test batches, as the code of GANomaly does, to see what that would change."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("train_seeds", "batch_size", "steps", "saves", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; the least is 1")
        if not self.gammas:
            raise ValueError("--gammas is empty; give shares such as 0 0.05")
        for gamma in self.gammas:
            check_gamma(gamma)
        for name in ("gammas", "classes", "compare"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"--{name} names something twice: {', '.join(map(str, getattr(self, name)))}")
        if not 0 < self.false_alarms < 1:
            raise ValueError(f"--false-alarms is {self.false_alarms}; give a share between 0 and 1, such as 0.05")
        if not 0 < self.contamination < 1:
            raise ValueError(f"--contamination is {self.contamination}; give a share between 0 and 1, such as 0.5")
        if self.test_folder is not None and (self.test_split is not None or not self.dataset.startswith("folder:")):
            raise ValueError("--test-folder is for --dataset folder:DIR, without --test-split")
        if self.anomalies_per_batch is not None and self.anomalies_per_batch < 1:
            raise ValueError(f"--anomalies-per-batch is {self.anomalies_per_batch}; the least is 1")
        number = max(map(self.anomalies, self.gammas))
        if number >= self.batch_size:
            raise ValueError(f"--batch-size {self.batch_size} has no room for {number} anomalies and a normal image")
        for name, settings in self.variants().items():
            try:
                settings.check()
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def anomalies(self, gamma: float) -> int:
        """Labelled anomalies of a batch."""
        if gamma == 0:
            return 0
        if self.anomalies_per_batch is not None:
            return self.anomalies_per_batch
        return max(math.ceil(self.batch_size / 8), round(gamma * self.batch_size))

    def variants(self) -> dict[str, AGADConfig]:
        """AGAD and what it is compared with; forerunners keep its sizes."""
        found = {"agad": self.agad}
        kept = {
            name: getattr(self.agad, name) for name in ("width", "levels", "latent_dim", "learning_rate", "compute")
        }
        for name in self.compare:
            if name not in VARIANTS:
                raise ValueError(f"--compare has no variant {name!r}; choose from {', '.join(VARIANTS)}")
            lineage = LINEAGE.get(name.replace("-", "_"))
            base, changes = (self.agad, VARIANTS[name]) if lineage is None else (lineage, kept)
            found[name] = dataclasses.replace(base, **changes)
        return found


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {"classes": ("0", "1"), "steps": 40, "compare": (), "saves": 2},
    # Section 4 of the paper; 100 epochs of some 6,000 images are about 2,350 steps of 256. MNIST needs
    # --agad.generator naive (footnote 4).
    "paper": {
        "dataset": "fashion_mnist", "test_split": "test", "image_size": 32,
        "gammas": (0.0, 0.01, 0.05, 0.1, 0.2), "agad": AGADConfig(), "steps": 2350, "batch_size": 256,
        "train_seeds": 3,
    },
}  # fmt: skip

CURVE = 200  # points of a training curve
SHOWN = 8  # images in a row
TEST_BATCH = 256
DIGITS = 170  # images of a class


class Sets(NamedTuple):
    """The images, all of one size."""

    train: data.ImageSet
    test: data.ImageSet | None  # the official test part, where there is one
    classes: tuple[str, ...]  # those that are normal in turn


class Cell(NamedTuple):
    """One detector of the table."""

    variant: str
    gamma: float
    normal: str  # class
    seed: int  # 0, 1 ...

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.variant}-gamma{self.gamma:g}-{quote(self.normal, safe='')}-seed{self.seed}"


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    sets = load(config)
    cells = plan(config, sets)
    for settings in config.variants().values():  # sizes that do not fit are known before anything is written
        form = jax.ShapeDtypeStruct((1, *sets.train.images.shape[1:]), np.float32)
        jax.eval_shape(agad(settings).init, jax.random.key(0), form)
    for normal in sets.classes:  # what the least and the largest share allow, those between allow, too
        for gamma in {min(filter(None, config.gammas), default=0.0), max(config.gammas)}:
            task_of(config, sets, Cell("agad", gamma, normal, 0))
    if config.resume:
        folder = runs.open_run(config.resume, config, may_differ=cli.MAY_DIFFER)
    else:
        folder = runs.create_run(config.output, config, name="agad")
    with folder:
        if (folder.path / "results.json").exists():
            config.say(f"{folder.path} is finished: open {folder.path / 'report.html'}")
            return
        config.say(data.table(task_of(config, sets, cells[0])), f"{len(cells)} detectors; run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        keys = dict(zip(("train", "test"), jax.random.split(jax.random.key(config.seed))))
        train(config, sets, cells, folder, keys)
        results = conclude(config, sets, cells, folder, keys)
        show(config, results, folder.path)


# ---- data --------------------------------------------------------------------------------------------------------


def load(config: Config) -> Sets:
    """The image sets, in the size that the networks get."""
    options = {"data_dir": config.data_dir, "seed": config.seed}
    if config.dataset.startswith("folder:"):
        options["image_size"] = config.image_size  # folders may mix sizes
    train = data.load(config.dataset, **options)
    if train.labels is None:
        raise ValueError(f"{config.dataset} has no labels, so no class can be normal: give a labelled set")
    test = None
    if config.test_split is not None:
        test = data.load(config.dataset, split=config.test_split, **options)
    elif config.test_folder is not None:
        test = data.load(f"folder:{config.test_folder}", **options)
    side = config.image_size or next_size(max(train.images.shape[1:3]))
    train, test = (None if part is None else sized(part, side) for part in (train, test))
    chosen = class_indices(train.name, train.class_names, config.classes or train.class_names)
    return Sets(train, test, tuple(train.class_names[i] for i in chosen))


def sized(dataset: data.ImageSet, side: int) -> data.ImageSet:
    """The set with square images of this side, without masks, which one-class scores do not use."""
    images = dataset.images if dataset.images.shape[1:3] == (side, side) else data.resize(dataset.images, (side, side))
    return dataset._replace(images=images, masks=None)


def plan(config: Config, sets: Sets) -> list[Cell]:
    """All cells, in order. Some variants have no meaning with some gammas."""

    def exists(variant: str, gamma: float) -> bool:
        if "freezebn" in variant:
            return gamma > 0  # there is nothing to freeze for
        return gamma == 0 or config.variants()[variant].anomalies == "fail"  # the others learn nothing from labels

    cells = [
        Cell(variant, gamma, normal, seed)
        for variant in config.variants()
        for gamma in config.gammas
        if exists(variant, gamma)
        for normal in sets.classes
        for seed in range(config.train_seeds)
    ]
    missing = [name for name in config.compare if not any(cell.variant == name for cell in cells)]
    if missing:
        raise ValueError(f"--compare {missing[0]} has no meaning with gammas {config.gammas}: add another, or drop it")
    return cells


def task_of(config: Config, sets: Sets, cell: Cell) -> data.Task:
    """The task of a cell: the same validation and test for every gamma, variant and seed."""
    # Of the digits no class has fewer. Equal numbers share one compiled program.
    limit = DIGITS if config.limit is None and config.dataset == "digits" else config.limit
    # Validation only sets the threshold, on normal images: all anomalies there are may train.
    contamination = config.contamination if sets.test is None else 0.0
    task = data.labelled_one_class(
        sets.train, sets.test, cell.normal,
        gamma=cell.gamma, gamma_seed=config.seed + cell.seed, contamination=contamination,
        limit=limit, seed=config.seed,
    )  # fmt: skip
    if len(set(task.test.labels)) < 2:
        raise ValueError(f"{task.name}: the test needs normal and anomalous images; give others, or another class")
    return task


# ---- training ----------------------------------------------------------------------------------------------------


def train(config: Config, sets: Sets, cells: list[Cell], folder: runs.Run, keys: Mapping[str, jax.Array]) -> None:
    """Every cell that no earlier session has finished."""
    done = {(r["variant"], r["gamma"], r["class"], r["seed"]) for r in records(folder)}
    detectors = {name: agad(settings) for name, settings in config.variants().items()}
    with Progress(len(cells) * config.steps, label="train", quiet=config.quiet) as progress:
        for index, cell in enumerate(cells):
            before = index * config.steps
            if tuple(cell) not in done:
                task = task_of(config, sets, cell)

                def on_steps(steps: int, _: Any, before: int = before, cell: Cell = cell) -> None:
                    progress.update(before + steps, note=cell.name)

                detector = detectors[cell.variant]
                state, seconds = train_cell(config, task, cell, detector, folder, keys["train"], on_steps)
                record = test_cell(config, task, cell, detector, state, folder, keys["test"])
                # Last: the record says that the cell is finished.
                files.append_line(folder.path / "cells.jsonl", record | {"seconds": seconds})
            if cell not in pictured(config, sets):
                saved(folder, cell).unlink(missing_ok=True)
            progress.update(before + config.steps, note=cell.name)


def records(folder: runs.Run) -> list[dict[str, Any]]:
    """What is known of finished cells."""
    return files.read_lines(folder.path / "cells.jsonl")


def pictured(config: Config, sets: Sets) -> list[Cell]:
    """The cells that the report shows, chosen before anything is known of them: one for each gamma."""
    return [Cell("agad", gamma, sets.classes[0], 0) for gamma in config.gammas]


def saved(folder: runs.Run, cell: Cell) -> Path:
    """The file of a cell's state."""
    return folder.path / "checkpoint" / f"{cell.name}.safetensors"


def train_cell(
    config: Config, task: data.Task, cell: Cell, detector: Detector, folder: runs.Run, key: jax.Array, on_steps: Any
) -> tuple[State, float]:
    """A cell's trained state and the seconds it took, from where an earlier session stopped."""
    # The same weights and batches for all variants and gammas: differences are then theirs.
    key = jax.random.fold_in(jax.random.fold_in(key, class_number(task)), cell.seed)
    path, state, start, spent = saved(folder, cell), None, 0, 0.0
    if path.exists():
        facts = checkpoint.read_metadata(path)
        state, start, spent = restored(config, task, detector, path), facts["steps"], facts["seconds"]
    labels = {"labels": task.train.labels, "anomalies_per_batch": config.anomalies(cell.gamma)} if cell.gamma else {}
    stops = sorted({round(config.steps * part / config.saves) for part in range(1, config.saves + 1)} - {0})
    every = max(1, config.steps // CURVE)
    for stop in (stop for stop in stops if stop > start):
        begun = time.monotonic()
        state, history = fit(
            detector, key, task.train.images, steps=stop, batch_size=config.batch_size, state=state,
            start_step=start, chunk=max(1, min(50, config.steps)), on_chunk=on_steps, **labels,
        )  # fmt: skip
        if history.diverged:
            raise ValueError(f"{cell.name}: training diverged by step {stop}: lower --agad.learning-rate")
        spent += time.monotonic() - begun
        if cell.variant == "agad" and cell.seed == 0:
            steps = np.arange(start, stop)
            info = {field: values[steps % every == 0] for field, values in history.info._asdict().items()}
            line = {"cell": cell.name, "stop": stop, "steps": steps[steps % every == 0] + 1, "info": info}
            files.append_line(folder.path / "training.jsonl", line)
        checkpoint.save(path, state, metadata={"steps": stop, "seconds": spent})
        start = stop
    return state, spent


def class_number(task: data.Task) -> int:
    """A number for the normal class, whatever others are trained beside it."""
    return zlib.crc32("".join(task.details["normal_classes"]).encode())


def restored(config: Config, task: data.Task, detector: Detector, path: Path) -> State:
    """A state from its file."""
    images = jax.ShapeDtypeStruct((config.batch_size, *task.train.images.shape[1:]), np.float32)
    return checkpoint.restore(path, jax.eval_shape(detector.init, jax.random.key(0), images))


# ---- test --------------------------------------------------------------------------------------------------------


def test_cell(
    config: Config, task: data.Task, cell: Cell, detector: Detector, state: State, folder: runs.Run, key: jax.Array
) -> dict[str, Any]:
    """The one test of a cell; its scores are kept in a file."""
    key = jax.random.fold_in(key, class_number(task))  # the same resamples for all that are compared
    options = {"false_alarms": config.false_alarms, "resamples": config.resamples}
    evaluation = evaluate(detector, state, task, key=key, **options)
    files.write_array(folder.path / "scores" / f"{cell.name}.npy", evaluation.test_scores)
    train = data.describe(task)[0]
    record = {"variant": cell.variant, "gamma": cell.gamma, "class": cell.normal, "seed": cell.seed}
    record |= {"train_normal": train.normal, "train_anomalous": train.anomalous}
    record |= {"threshold": evaluation.threshold._asdict(), "test": evaluation.test}
    if config.diagnose:
        record["auroc_by_statistics"] = diagnosis(config, task, cell, state) | {
            "running": evaluation.test["auroc"]["value"]
        }
    return record


def diagnosis(config: Config, task: data.Task, cell: Cell, state: State) -> dict[str, float]:
    """AUROC with the statistics of the test batches: of images in random order, and of one class after the other."""
    score = batch_score(config.variants()[cell.variant])
    images, labels = task.test.images, task.test.labels
    shuffled = np.random.default_rng(config.seed).permutation(len(labels))
    found = {}
    for name, order in (("batches, shuffled", shuffled), ("batches, normal first", np.argsort(labels, kind="stable"))):
        scores = np.zeros(len(labels), np.float32)
        for start in range(0, len(order), TEST_BATCH):
            rows = order[start : start + TEST_BATCH]
            scores[rows] = score(state, to_float(images[rows]))
        found[name] = float(metrics.auroc(scores, labels))
    return found


@functools.cache
def batch_score(settings: AGADConfig) -> Callable[[State, jax.Array], jax.Array]:
    """The diagnostic score, compiled once for all cells."""
    return jax.jit(views(settings).batch_score)


def conclude(
    config: Config, sets: Sets, cells: list[Cell], folder: runs.Run, keys: Mapping[str, jax.Array]
) -> dict[str, Any]:
    """Everything that the run folder keeps when all cells are known."""
    known = {(r["variant"], r["gamma"], r["class"], r["seed"]): r for r in records(folder)}
    found = [known[tuple(cell)] for cell in cells]
    groups = grouped(config, sets, found)
    shown = pictured(config, sets)
    best = max(shown, key=lambda cell: cell.gamma)
    task = task_of(config, sets, best)
    detector = agad(config.agad)
    states = {cell: restored(config, task, detector, saved(folder, cell)) for cell in shown}
    evaluation = evaluate(
        detector, states[best], task,
        key=jax.random.fold_in(keys["test"], class_number(task)),
        false_alarms=config.false_alarms, resamples=config.resamples,
    )  # fmt: skip
    several = len(sets.classes) * config.train_seeds > 1
    results = {
        "task": task.details | {"name": task.name, "parts": [row._asdict() for row in data.describe(task)]},
        "dataset": sets.train.name,
        "method": "agad",
        "seed": config.seed,
        "train_seeds": config.train_seeds,
        "classes": sets.classes,
        "shown": best.normal,
        "headline": f"gamma {config.gammas[0]:g}, {len(sets.classes)} class(es)",
        "test": groups[0]["test"],
        "intervals": "Intervals are bootstrap intervals over classes and seeds."
        if several
        else "Intervals are bootstrap intervals over test images.",
        "groups": groups,
        "cells": found,
        "seconds": sum(record["seconds"] for record in found),
        "saved": best._asdict(),
        "threshold": evaluation.threshold._asdict(),
        "notes": notes(config, sets, task),
        **runs.environment(),
    }
    save_detector(
        folder.best, name="agad", config=config.agad, state=states[best], image_shape=task.train.images.shape[1:],
        threshold=evaluation.threshold, details={"task": task.name, "gamma": best.gamma, "chosen_by": "last"},
    )  # fmt: skip
    files.write_predictions(folder.path / "predictions.csv", predictions(task, evaluation))
    files.write_text(folder.path / "report.html", page(config, sets, results, states, folder))
    files.write_json(folder.path / "results.json", results)  # last: its presence says that the run is finished
    return files.to_json(results)


def grouped(config: Config, sets: Sets, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table: {"variant", "gamma", "auroc" by class and seed, "mean", "sd", "test", diagnosis}."""
    groups = []
    for variant, gamma in dict.fromkeys((r["variant"], r["gamma"]) for r in found):
        rows = [r for r in found if (r["variant"], r["gamma"]) == (variant, gamma)]
        by_class = {name: [r for r in rows if r["class"] == name] for name in sets.classes}
        auroc = {name: [r["test"]["auroc"]["value"] for r in part] for name, part in by_class.items()}
        means = [float(np.mean(values)) for values in auroc.values()]
        group = {"variant": variant, "gamma": gamma, "auroc": auroc, "mean": float(np.mean(means))}
        group["sd"] = float(np.std(means))  # the population's, as in the paper
        group["test"] = {
            name: averaged([[r["test"][name] for r in part] for part in by_class.values()], config.seed)
            for name in metrics.PANEL
        }
        for name in ("prevalence", "f1_all_anomalous"):
            group["test"][name] = float(np.mean([r["test"][name] for r in rows]))
        if config.diagnose:
            names = rows[0]["auroc_by_statistics"]
            group["auroc_by_statistics"] = {
                name: float(np.mean([r["auroc_by_statistics"][name] for r in rows])) for name in names
            }
        groups.append(group)
    return groups


def averaged(cells: list[list[dict[str, float]]], seed: int, resamples: int = 2000) -> dict[str, float]:
    """Mean of a metric over classes and seeds, with a bootstrap interval over both; of one cell, its own interval."""
    values = np.array([[cell["value"] for cell in part] for part in cells])
    if values.size == 1:
        return dict(cells[0][0])
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, values.shape[0], (resamples, values.shape[0], 1))
    columns = rng.integers(0, values.shape[1], (resamples, *values.shape))
    low, high = np.quantile(values[rows, columns].mean((1, 2)), (0.025, 0.975))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def notes(config: Config, sets: Sets, task: data.Task) -> list[str]:
    """What a reader should know before comparing the figures with others."""
    epochs = config.steps * config.batch_size / len(task.train.images)
    lines = [
        f"Every detector trains for {config.steps:,} steps ({epochs:.0f} times the images of its class) and is tested "
        "once, as it is after the last; the paper does not say how long it trains.",
        "Scores use running statistics of batch normalisation. The code that AGAD extends uses those of the test "
        "batch, which makes a score depend on the images it is scored with; --diagnose shows the difference.",
    ]
    if any(config.gammas):
        lines.append("Labelled anomalies are of the same classes as those of the test: they are known defects.")
    if config.test_split is None and config.test_folder is None:
        lines.append("The test is a fifth of the normal class and a sample of the others, not an official part.")
    else:
        lines.append(
            "A quarter of the normal training images sets the threshold and does not train; the paper has none."
        )
    if len(sets.classes) < len(sets.train.class_names):
        lines.append(f"{len(sets.classes)} of {len(sets.train.class_names)} classes were trained.")
    return lines


def page(config: Config, sets: Sets, results: dict[str, Any], states: Mapping[Cell, State], folder: runs.Run) -> str:
    """The report."""
    view = jax.tree.map(jax.jit, views(config.agad))
    cells = list(states)
    task = task_of(config, sets, cells[0])
    rebuilt = {}
    for kind, name in enumerate(("normal", "anomalous")):
        images = to_float(task.test.images[np.flatnonzero(task.test.labels == kind)[:SHOWN]])
        rows = [("x", images)]
        for cell, state in states.items():
            rows.append((f"G(x), gamma {cell.gamma:g}", view.reconstruct(state, images)))
            rows.append((f"G(G(x)), gamma {cell.gamma:g}", view.reconstruct_again(state, images)))
        rebuilt[name] = [(label, np.asarray(row)) for label, row in rows]
    source = sets.train if sets.test is None else sets.test
    class_of = dict(zip(source.ids, source.labels))
    classes = np.array([source.class_names[class_of[name]] for name in task.test.ids])
    scores = {}
    for cell in cells:
        values = np.load(folder.path / "scores" / f"{cell.name}.npy")
        scores[f"gamma {cell.gamma:g}"] = {name: values[classes == name] for name in np.unique(classes)}
    lines = files.read_lines(folder.path / "training.jsonl")
    return report.render_one_class(
        config=files.to_json(config) | {"resume": None},
        results=files.to_json(results),
        rebuilt=rebuilt,
        scores=scores,
        curves={
            f"gamma {cell.gamma:g}": curve([line for line in lines if line["cell"] == cell.name]) for cell in cells
        },
        program="python experiments/agad_oneclass.py",
    )


def curve(lines: list[dict[str, Any]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A training's curve from the lines of all sessions; of a repeated part the last counts."""
    lines = sorted({line["stop"]: line for line in lines}.values(), key=lambda line: line["stop"])
    info = {name: np.concatenate([np.array(line["info"][name], float) for line in lines]) for name in lines[0]["info"]}
    return np.concatenate([line["steps"] for line in lines]), info


# ---- the terminal ------------------------------------------------------------------------------------------------


def show(config: Config, results: dict[str, Any], path: Path) -> None:
    """The result, for the terminal."""
    if config.quiet:
        return
    table(
        "test AUROC in %, mean and population sd over classes",
        *report.auroc_table(results["groups"], results["classes"]),
    )
    if config.diagnose:
        columns = ("method", "gamma", *results["groups"][0]["auroc_by_statistics"])
        rows = [
            (g["variant"], f"{g['gamma']:g}", *(f"{100 * v:.2f}" for v in g["auroc_by_statistics"].values()))
            for g in results["groups"]
        ]
        table("the same by statistics of batch normalisation", columns, rows)
    print(f"report:   {path / 'report.html'}")
    print(f"use it:   python experiments/detect.py {path} IMAGES ...")


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
