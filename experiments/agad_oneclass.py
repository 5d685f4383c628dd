"""Train AGAD on one class at a time, all others anomalous, with no or a few labelled anomalies, and test each once.

    python experiments/agad_oneclass.py                                        # bundled digits, offline, minutes
    python experiments/agad_oneclass.py --dataset fashion_mnist --test-split test --classes 0 1 2 3 --gammas 0 0.05
    python experiments/agad_oneclass.py --compare no-adcon ganomaly            # ablation of Table 4, and a forerunner
    python experiments/agad_oneclass.py --dataset folder:XRAY/train --test-folder XRAY/test --classes normal  # Table 3
    python experiments/agad_oneclass.py --dataset folder:PARTS --classes good --gammas all     # use all known defects
    python experiments/agad_oneclass.py --preset smoke                         # see everything happen in a minute
    python experiments/agad_oneclass.py --resume runs/agad-20260101-120000

A gamma is the anomalous share of the training images: the user's labelled defects. Every class, gamma, seed and variant
is a detector of its own, a cell of the table; cells that are finished are never repeated. All train for the same fixed
number of steps: nothing is chosen by validation or test. All is in the run folder: open report.html, and score new
images with `python experiments/detect.py RUN images...`; saved is the detector of the first class, largest gamma.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import jax
import jax.numpy as jnp
import numpy as np

from jaxad import data, report
from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.data.batches import to_float
from jaxad.data.protocols.few_labels import check_gamma
from jaxad.methods.agad import AGADConfig, Variant, agad, auroc_by_batches, learns_from, variant
from jaxad.methods.agad.inference import views
from jaxad.metrics.aggregate import group_cells
from jaxad.runs import cli, saving
from jaxad.runs import folder as runs
from jaxad.runs.evaluation import evaluate, predictions
from jaxad.runs.progress import Progress, table
from jaxad.training import checkpoint
from jaxad.training.resumable import Trained, fit_saved
from jaxad.types import Detector, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig):
    """Train AGAD on one class at a time and test every detector once."""

    # ---- the task
    dataset: str = "digits"
    """Labelled images: a TFDS name (fashion_mnist), digits, textures:SIZE, idx:DIR, folder:DIR, npz:FILE."""
    classes: tuple[str, ...] = ()
    """Classes that are normal, one detector for each, by name or number; by default every class."""
    gammas: tuple[data.Gamma, ...] = (0.0, 0.05)
    """Anomalous shares of the training images, drawn from all other classes; all takes those that no test needs."""
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
    anomaly_ratio: float = 0.5
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
    together: int | None = None
    """Detectors trained in one program, where they have equally many images; by default 1 on CPU, 16 elsewhere."""
    target_fpr: float = 0.05
    """Share of normal images that the threshold may flag, set on held-out normal images."""
    resamples: int = 200
    """Of the bootstrap behind each cell's intervals."""
    diagnose: bool = False
    """Also score with the statistics of test batches, as the code of GANomaly does, to see what that would change."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("train_seeds", "batch_size", "steps", "saves", "resamples", "anomalies_per_batch", "together"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; the least is 1")
        if not self.gammas:
            raise ValueError("--gammas is empty; give shares such as 0 0.05")
        for gamma in self.gammas:
            check_gamma(gamma)
        for name in ("gammas", "classes", "compare"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"--{name} names something twice: {', '.join(map(str, getattr(self, name)))}")
        if not 0 < self.target_fpr < 1:
            raise ValueError(f"--target-fpr is {self.target_fpr}; give a share between 0 and 1, such as 0.05")
        if not 0 < self.anomaly_ratio < 1:
            raise ValueError(f"--anomaly-ratio is {self.anomaly_ratio}; give a share between 0 and 1, such as 0.5")
        if self.test_folder is not None and (self.test_split is not None or not self.dataset.startswith("folder:")):
            raise ValueError("--test-folder is for --dataset folder:DIR, without --test-split")
        number = max(self.anomalies(gamma) or 0 for gamma in self.gammas)
        if number >= self.batch_size:
            raise ValueError(f"--batch-size {self.batch_size} has no room for {number} anomalies and a normal image")
        for name, settings in self.variants().items():
            try:
                settings.check()
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def anomalies(self, gamma: data.Gamma) -> int | None:
        """Labelled anomalies of a batch."""
        if gamma == 0:
            return None
        if self.anomalies_per_batch is not None:
            return self.anomalies_per_batch
        return max(math.ceil(self.batch_size / 8), 0 if gamma == "all" else round(gamma * self.batch_size))

    def variants(self) -> dict[str, AGADConfig]:
        """AGAD and what it is compared with."""
        return {"agad": self.agad} | {name: variant(self.agad, name) for name in self.compare}


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
DIGITS = 170  # images of a class


class Cell(NamedTuple):
    """One detector of the table."""

    variant: str
    gamma: data.Gamma
    normal: str  # class
    seed: int  # 0, 1 ...

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.variant}-gamma{data.gamma_name(self.gamma)}-{quote(self.normal, safe='')}-seed{self.seed}"


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    sets = data.load_class_sets(
        config.dataset, config.classes, image_size=config.image_size, test_split=config.test_split,
        test_folder=config.test_folder, data_dir=config.data_dir, seed=config.seed,
    )  # fmt: skip
    cells = plan(config, sets)
    for settings in config.variants().values():  # sizes that do not fit are known before anything is written
        form = jax.ShapeDtypeStruct((1, *sets.train.images.shape[1:]), np.float32)
        jax.eval_shape(agad(settings).init, jax.random.key(0), form)
    shares = sorted(config.gammas, key=size)
    for normal in sets.classes:  # what the least and the largest share allow, those between allow, too
        for gamma in {next(filter(None, shares), 0.0), shares[-1]}:
            task_of(config, sets, Cell("agad", gamma, normal, 0))
    with config.open_folder("agad") as folder:
        if config.finds_finished(folder):
            return
        config.say(data.table(task_of(config, sets, cells[0])), f"{len(cells)} detectors; run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        keys = dict(zip(("train", "test"), jax.random.split(jax.random.key(config.seed))))
        train(config, sets, cells, folder, keys)
        results = conclude(config, sets, cells, folder, keys)
        show(config, results, folder.path)


def size(gamma: data.Gamma) -> float:
    """For comparisons."""
    return math.inf if gamma == "all" else gamma


def plan(config: Config, sets: data.ClassSets) -> list[Cell]:
    """All cells, in order. Some variants have no meaning with some gammas."""
    cells = [
        Cell(name, gamma, normal, seed)
        for name, settings in config.variants().items()
        for gamma in config.gammas
        if learns_from(settings, name, gamma)
        for normal in sets.classes
        for seed in range(config.train_seeds)
    ]
    missing = [name for name in config.compare if not any(cell.variant == name for cell in cells)]
    if missing:
        raise ValueError(f"--compare {missing[0]} has no meaning with gammas {config.gammas}: add another, or drop it")
    return cells


def task_of(config: Config, sets: data.ClassSets, cell: Cell) -> data.Task:
    """The task of a cell: the same validation and test for every gamma, variant and seed."""
    # Of the digits no class has fewer. Equal numbers share one compiled program.
    limit = DIGITS if config.limit is None and config.dataset == "digits" else config.limit
    # Validation only sets the threshold, on normal images: all anomalies there are may train.
    anomaly_ratio = config.anomaly_ratio if sets.test is None else 0.0
    task = data.labelled_one_class(
        sets.train, sets.test, cell.normal,
        gamma=cell.gamma, gamma_seed=config.seed + cell.seed, anomaly_ratio=anomaly_ratio,
        limit=limit, seed=config.seed,
    )  # fmt: skip
    if len(set(task.test.labels)) < 2:
        raise ValueError(f"{task.name}: the test needs normal and anomalous images; give others, or another class")
    return task


# ---- training ----------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """Cells that train in one program."""

    cells: tuple[Cell, ...]
    tasks: tuple[data.Task, ...]


def groups(config: Config, sets: data.ClassSets, cells: list[Cell]) -> Iterator[Group]:
    """Cells, one after another, as many together as wanted and possible: of equally many images, to the same end."""
    most = config.together or (1 if jax.default_backend() == "cpu" else 16)
    group = Group((), ())
    for cell in cells:
        task = task_of(config, sets, cell)
        if group.cells:
            same = (cell.variant, cell.gamma) == group.cells[0][:2]
            same &= np.array_equal(np.bincount(task.train.labels), np.bincount(group.tasks[0].train.labels))
            if not same or len(group.cells) == most:
                yield group
                group = Group((), ())
        group = Group((*group.cells, cell), (*group.tasks, task))
    yield group


def train(
    config: Config, sets: data.ClassSets, cells: list[Cell], folder: runs.Run, keys: Mapping[str, jax.Array]
) -> None:
    """Every cell that no earlier session has finished."""
    done = {cell_of(record) for record in records(folder)}
    detectors = {name: agad(settings) for name, settings in config.variants().items()}
    before = 0
    with Progress(len(cells) * config.steps, label="train", quiet=config.quiet) as progress:
        for group in groups(config, sets, cells):
            if not done.issuperset(group.cells):
                name, detector = group.cells[0].name, detectors[group.cells[0].variant]

                def on_steps(steps: int, before: int = before, name: str = name) -> None:
                    progress.update(before + steps, note=name)

                trained = train_group(config, group, detector, folder, keys["train"], on_steps)
                for index, (cell, task) in enumerate(zip(group.cells, group.tasks)):
                    if cell not in done:
                        state = jax.tree.map(lambda leaf, index=index: leaf[index], trained.state)
                        record = test_cell(config, task, cell, detector, state, folder, keys["test"])
                        if cell in pictured(config, sets):
                            checkpoint.save(saved(folder, cell), state, metadata=curve(trained, index))
                        # Last: the record says that the cell is finished.
                        record["seconds"] = trained.seconds / len(group.cells)
                        files.append_line(folder.path / "cells.jsonl", record)
            before += len(group.cells) * config.steps
            progress.update(before, note=group.cells[-1].name)


def records(folder: runs.Run) -> list[dict[str, Any]]:
    """What is known of finished cells."""
    return files.read_lines(folder.path / "cells.jsonl")


def cell_of(record: Mapping[str, Any]) -> Cell:
    """The cell that a record is of."""
    return Cell(record["variant"], record["gamma"], record["class"], record["seed"])


def pictured(config: Config, sets: data.ClassSets) -> list[Cell]:
    """The cells that the report shows, chosen before anything is known of them: one for each gamma."""
    return [Cell("agad", gamma, sets.classes[0], 0) for gamma in config.gammas]


def saved(folder: runs.Run, cell: Cell) -> Path:
    """The file of a trained cell."""
    return folder.path / "checkpoint" / f"{cell.name}.safetensors"


def curve(trained: Trained, index: int) -> dict[str, Any]:
    """A cell's training curve."""
    curves = {name: values[index].tolist() for name, values in trained.curves.items()}
    return {"steps": trained.steps.tolist(), "curves": curves}


def train_group(
    config: Config, group: Group, detector: Detector, folder: runs.Run, key: jax.Array, on_steps: Any
) -> Trained:
    """All cells of a group, from where an earlier session stopped."""
    # The same weights and batches for all variants and gammas: differences are then theirs.
    seeds = [(class_number(task), cell.seed) for cell, task in zip(group.cells, group.tasks)]
    keys = jnp.stack([jax.random.fold_in(jax.random.fold_in(key, number), seed) for number, seed in seeds])
    images, rows = shared(group.tasks)
    options: dict[str, Any] = {"rows": rows, "vmapped": len(group.cells) > 1, "chunk": min(50, config.steps)}
    if anomalies := config.anomalies(group.cells[0].gamma):
        options |= {"anomalies_per_batch": anomalies, "labels": np.stack([task.train.labels for task in group.tasks])}
    return fit_saved(
        detector, keys, images, path=folder.path / "checkpoint" / "training.safetensors",
        names=[cell.name for cell in group.cells], steps=config.steps, checkpoints=config.saves,
        batch_size=config.batch_size, points=CURVE, on_chunk=lambda steps, _: on_steps(steps), **options,
    )  # fmt: skip


def shared(tasks: tuple[data.Task, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The training images of all tasks, each once, and which of them are whose: [N, H, W, C] and [P, n]."""
    ids = np.stack([task.train.ids for task in tasks])
    _, first, rows = np.unique(ids, return_index=True, return_inverse=True)
    return np.concatenate([task.train.images for task in tasks])[first], rows.reshape(ids.shape)


def class_number(task: data.Task) -> int:
    """A number for the normal class, whatever others are trained beside it."""
    return zlib.crc32("".join(task.details["normal_classes"]).encode())


# ---- test --------------------------------------------------------------------------------------------------------


def test_cell(
    config: Config, task: data.Task, cell: Cell, detector: Detector, state: State, folder: runs.Run, key: jax.Array
) -> dict[str, Any]:
    """The one test of a cell; its scores are kept in a file."""
    key = jax.random.fold_in(key, class_number(task))  # the same resamples for all that are compared
    options = {"target_fpr": config.target_fpr, "resamples": config.resamples}
    evaluation = evaluate(detector, state, task, key=key, **options)
    files.write_array(folder.path / "scores" / f"{cell.name}.npy", evaluation.test_scores)
    train = data.describe(task)[0]
    record = {"variant": cell.variant, "gamma": cell.gamma, "class": cell.normal, "seed": cell.seed}
    record |= {"train_normal": train.normal, "train_anomalous": train.anomalous}
    record |= {"threshold": evaluation.threshold._asdict(), "test": evaluation.test}
    if config.diagnose:
        by_batches = auroc_by_batches(
            config.variants()[cell.variant], state, task.test.images, task.test.labels, seed=config.seed
        )
        record["auroc_by_statistics"] = by_batches | {"running": evaluation.test["auroc"]["value"]}
    return record


def conclude(
    config: Config, sets: data.ClassSets, cells: list[Cell], folder: runs.Run, keys: Mapping[str, jax.Array]
) -> dict[str, Any]:
    """Everything that the run folder keeps when all cells are known."""
    known = {cell_of(record): record for record in records(folder)}
    rows = group_cells([known[cell] for cell in cells], sets.classes, seed=config.seed)
    shown = pictured(config, sets)
    best = max(shown, key=lambda cell: size(cell.gamma))
    task = task_of(config, sets, best)
    detector = agad(config.agad)
    images = jax.ShapeDtypeStruct((config.batch_size, *task.train.images.shape[1:]), np.float32)
    form = jax.eval_shape(detector.init, jax.random.key(0), images)
    states = {cell: checkpoint.restore(saved(folder, cell), form) for cell in shown}
    evaluation = evaluate(
        detector, states[best], task,
        key=jax.random.fold_in(keys["test"], class_number(task)),
        target_fpr=config.target_fpr, resamples=config.resamples,
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
        "headline": f"gamma {data.gamma_name(config.gammas[0])}, {len(sets.classes)} class(es)",
        "test": rows[0]["test"],
        "intervals": "Intervals are bootstrap intervals over classes and seeds."
        if several
        else "Intervals are bootstrap intervals over test images.",
        "groups": rows,
        "cells": [known[cell] for cell in cells],
        "seconds": sum(known[cell]["seconds"] for cell in cells),
        "saved": best._asdict(),
        "threshold": evaluation.threshold._asdict(),
        "notes": notes(config, sets, task),
        **runs.environment(),
    }
    saving.save(
        folder.best, config=config.agad, state=states[best], image_shape=task.train.images.shape[1:],
        threshold=evaluation.threshold, details={"task": task.name, "gamma": best.gamma, "chosen_by": "last"},
    )  # fmt: skip
    files.write_predictions(folder.path / "predictions.csv", predictions(task, evaluation))
    files.write_text(folder.path / "report.html", page(config, sets, results, states, folder))
    files.write_json(folder.path / "results.json", results)  # last: its presence says that the run is finished
    return files.to_json(results)


def notes(config: Config, sets: data.ClassSets, task: data.Task) -> list[str]:
    """What a reader should know before comparing the figures with others."""
    epochs = config.steps * config.batch_size / len(task.train.images)
    lines = [
        f"Every detector trains for {config.steps:,} steps ({epochs:.0f} times the images of its class) and is tested "
        "once, as it is after the last; the paper does not say how long it trains.",
        "Scores use running statistics of batch normalisation. The code that AGAD extends uses those of the test "
        "batch, which makes a score depend on the images it is scored with; --diagnose shows the difference.",
    ]
    if any(gamma != 0 for gamma in config.gammas):
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


def page(
    config: Config, sets: data.ClassSets, results: dict[str, Any], states: Mapping[Cell, State], folder: runs.Run
) -> str:
    """The report."""
    view = jax.tree.map(jax.jit, views(config.agad))
    cells = list(states)
    task = task_of(config, sets, cells[0])
    rebuilt = {}
    for kind, name in enumerate(("normal", "anomalous")):
        images = to_float(task.test.images[np.flatnonzero(task.test.labels == kind)[:SHOWN]])
        rows = [("x", images)]
        for cell, state in states.items():
            rows.append((f"G(x), gamma {data.gamma_name(cell.gamma)}", view.reconstruct(state, images)))
            rows.append((f"G(G(x)), gamma {data.gamma_name(cell.gamma)}", view.reconstruct_again(state, images)))
        rebuilt[name] = [(label, np.asarray(row)) for label, row in rows]
    source = sets.train if sets.test is None else sets.test
    class_of = dict(zip(source.ids, source.labels))
    classes = np.array([source.class_names[class_of[name]] for name in task.test.ids])
    scores = {}
    for cell in cells:
        values = np.load(folder.path / "scores" / f"{cell.name}.npy")
        scores[f"gamma {data.gamma_name(cell.gamma)}"] = {name: values[classes == name] for name in np.unique(classes)}
    curves = {}
    for cell in cells:
        told = checkpoint.read_metadata(saved(folder, cell))
        values = {name: np.array(value) for name, value in told["curves"].items()}
        curves[f"gamma {data.gamma_name(cell.gamma)}"] = np.array(told["steps"]), values
    return report.render_one_class(
        config=files.to_json(config) | {"resume": None},
        results=files.to_json(results),
        rebuilt=rebuilt,
        scores=scores,
        curves=curves,
        program="python experiments/agad_oneclass.py",
    )


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
            (g["variant"], data.gamma_name(g["gamma"]), *(f"{100 * v:.2f}" for v in g["auroc_by_statistics"].values()))
            for g in results["groups"]
        ]
        table("the same by statistics of batch normalisation", columns, rows)
    print(f"report:   {path / 'report.html'}")
    print(f"use it:   python experiments/detect.py {path} IMAGES ...")


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
