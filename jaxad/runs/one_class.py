"""A grid of detectors that each know one class as normal: which there are, and how they are trained and tested.

A cell is a variant of a method, a gamma (the anomalous share of the training images: labelled defects), a normal class
and a seed. All cells train for the same number of steps, from the same weights and in the same order of images where
class and seed are the same, so that differences are those of variants and gammas. Cells with equally many images may
train in one program. Each is tested once.

    checkpoint/training.safetensors    the training of a group of cells
    checkpoint/CELL.safetensors        the states of cells that are kept, and their training curves
    scores/CELL.npy                    test scores
    cells.jsonl                        the record of every cell
"""

import dataclasses
import math
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax
import jax.numpy as jnp
import numpy as np

from jaxad import data
from jaxad._utils import files
from jaxad._utils.tree import member
from jaxad._utils.validate import check_at_least, check_step_fits
from jaxad.data.protocols.few_labels import check_gamma
from jaxad.metrics.aggregate import group_cells
from jaxad.runs import yardstick
from jaxad.runs.cli import TrainingConfig
from jaxad.runs.evaluation import evaluate
from jaxad.runs.grid import OnSteps, Record, Records, fill_groups, together
from jaxad.training import checkpoint
from jaxad.training.resumable import Trained, fit_saved
from jaxad.training.scoring import score_images
from jaxad.types import Detector, Key, State


class Cell(NamedTuple):
    """One detector of the grid."""

    variant: str
    gamma: data.Gamma
    normal: str  # class
    seed: int  # 0, 1 ...

    @property
    def name(self) -> str:
        """In the records, and of its files."""
        return f"{self.variant}-gamma{data.gamma_name(self.gamma)}-{quote(self.normal, safe='')}-seed{self.seed}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneClassConfig(TrainingConfig, data.ClassSetsConfig):
    """Which cells there are and how each is trained, which the configs of experiments inherit."""

    gammas: tuple[data.Gamma, ...] = (0.0, 0.05)
    """Anomalous shares of the training images, drawn from all other classes; all takes those that no test needs."""
    steps: int = 300
    """Training steps of every detector."""
    anomalies_per_batch: int | None = None
    """Labelled anomalies of a step, drawn with replacement; by default an eighth of the batch (32 of 256), or gamma."""
    num_seeds: int = 1
    """Number of trainings for each class, from different weights and, where gamma is above 0, other anomalies."""
    checkpoints: int = 4
    """Number of times that a training is saved on its way."""
    together: int | None = None
    """Train so many detectors in one program, where they have equally many images; by default 1 on CPU, else 16."""
    resamples: int = 200
    """Number of resamples of the bootstrap behind each cell's intervals."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        super().check()
        data.ClassSetsConfig.check(self)
        check_at_least(self, "num_seeds", "steps", "checkpoints", "resamples", "anomalies_per_batch", "together")
        if self.image_size is not None:
            check_step_fits(self.image_size, self.batch_size)
        if not self.gammas:
            raise ValueError("--gammas is empty; give shares such as 0 0.05")
        for gamma in self.gammas:
            check_gamma(gamma)
        if len(set(self.gammas)) < len(self.gammas):
            raise ValueError(f"--gammas names something twice: {', '.join(map(str, self.gammas))}")
        number = max(self.anomalies(gamma) or 0 for gamma in self.gammas)
        if number >= self.batch_size:
            raise ValueError(f"--batch-size {self.batch_size} has no room for {number} anomalies and a normal image")

    def anomalies(self, gamma: data.Gamma) -> int | None:
        """Labelled anomalies of a batch."""
        if gamma == 0:
            return None
        if self.anomalies_per_batch is not None:
            return self.anomalies_per_batch
        return max(math.ceil(self.batch_size / 8), 0 if gamma == "all" else round(gamma * self.batch_size))

    def cells(
        self, variants: Mapping[str, Any], classes: Sequence[str], learns_from: Callable[[Any, str, data.Gamma], bool]
    ) -> list[Cell]:
        """All cells, in order; `learns_from` (config, name, gamma) says which variants have a meaning with a gamma."""
        cells = [
            Cell(name, gamma, normal, seed)
            for name, settings in variants.items()
            for gamma in self.gammas
            if learns_from(settings, name, gamma)
            for normal in classes
            for seed in range(self.num_seeds)
        ]
        missing = [name for name in variants if not any(cell.variant == name for cell in cells)]
        if missing:
            name = missing[0]
            raise ValueError(f"--compare {name} has no meaning with gammas {self.gammas}: add another, or drop it")
        return cells

    def task(self, sets: data.ClassSets, cell: Cell) -> data.Task:
        """The task of a cell: the same validation and test for every gamma, variant and seed."""
        gamma_seed = self.seed + cell.seed
        return self.one_class_task(sets, cell.normal, gamma=cell.gamma, gamma_seed=gamma_seed, seed=self.seed)

    def check_tasks(self, sets: data.ClassSets) -> None:
        """Raise ValueError where a class has too few images for a gamma, or a batch takes too much memory."""
        check_step_fits(sets.train.images.shape[1], self.batch_size)
        shares = sorted(self.gammas, key=size)
        for normal in sets.classes:  # what the least and the largest share allow, those between allow, too
            for gamma in {next(filter(None, shares), 0.0), shares[-1]}:
                self.task(sets, Cell("", gamma, normal, 0))


def size(gamma: data.Gamma) -> float:
    """For comparisons."""
    return math.inf if gamma == "all" else gamma


def fill_cells(
    config: OneClassConfig,
    sets: data.ClassSets,
    cells: Sequence[Cell],
    detectors: Mapping[str, Detector],
    folder: Path,
    keys: Mapping[str, Key],
    *,
    keep: Collection[Cell],
    more: Callable[[Cell, data.Task, State, Record], Record] = lambda cell, task, state, test: {},
) -> list[Record]:
    """Train and test every cell that no earlier session has finished, and the yardstick of each class.

    Args:
      detectors: by variant.
      folder: of the run.
      keys: "train" and "test", of which every cell gets its own.
      keep: cells whose states are kept.
      more: what else a record shall say of a trained detector, from (cell, task, state, "test" of the record).

    Returns:
      The records of all cells, at the end those of the yardstick: {"variant", "gamma", "class", "seed",
      "train_normal", "train_anomalous", "threshold", "test", "seconds"} and `more`.
    """
    records = Records(folder / "cells.jsonl")
    for cell in keep:
        if cell.name in records and not _is_whole(_kept(folder, cell)):
            del records[cell.name]  # it is trained again, and ends as it did
    most = config.together or (1 if jax.default_backend() == "cpu" else 16)
    groups = together(((cell, config.task(sets, cell)) for cell in cells), key=_program, most=most)

    def train(group: _Group, on_steps: OnSteps) -> Trained:
        return _trained(config, group, detectors[group[0][0].variant], folder, keys["train"], on_steps)

    def finish(group: _Group, trained: Trained, index: int) -> Record:
        (cell, task), state = group[index], member(trained.state, index)
        record = _tested(config, cell, task, detectors[cell.variant], state, folder, keys["test"])
        record |= more(cell, task, state, record["test"]) | {"seconds": trained.seconds / len(group)}
        if cell in keep:
            curves = {name: values[index].tolist() for name, values in trained.curves.items()}
            checkpoint.save(_kept(folder, cell), state, metadata={"steps": trained.steps.tolist(), "curves": curves})
        return record

    fill_groups(
        (([cell.name for cell, _ in group], group) for group in groups), records, train, finish,
        names=[cell.name for cell in cells], steps=config.steps, label="train", quiet=config.quiet,
    )  # fmt: skip
    beside = [Cell(yardstick.METHOD, 0.0, normal, 0) for normal in sets.classes]
    for cell in beside:
        if cell.name not in records:
            task, started, plain = config.task(sets, cell), time.perf_counter(), jax.random.key(config.seed)
            record = _tested(config, cell, task, *yardstick.fitted(task, plain), folder, keys["test"])
            records[cell.name] = record | {"seconds": time.perf_counter() - started}
    return [records[cell.name] for cell in (*cells, *beside)]


class KeptCell(NamedTuple):
    """A trained cell whose state is kept."""

    state: State
    scores: np.ndarray  # [n] of its test images
    steps: np.ndarray  # [points] of the training curves
    curves: dict[str, np.ndarray]  # fields of the detector's info that are numbers: [points]


def load_kept(folder: Path, cell: Cell, detector: Detector, task: data.Task) -> KeptCell:
    """A cell of this task that `fill_cells` has kept; scores whose file is missing or torn are computed again."""
    path, shape = _kept(folder, cell), task.train.images.shape[1:]
    example = jax.ShapeDtypeStruct((1, *shape), np.float32)
    state = checkpoint.restore(path, jax.eval_shape(detector.init, jax.random.key(0), example))
    known, file = checkpoint.read_metadata(path), folder / "scores" / f"{cell.name}.npy"
    try:
        scores = files.read_array(file)
        if scores.shape != task.test.labels.shape:
            raise ValueError(f"{file} holds other scores")
    except ValueError:
        scores = score_images(detector, state, task.test.images)
        files.write_array(file, scores)
    curves = {name: np.array(values) for name, values in known["curves"].items()}
    return KeptCell(state, scores, np.array(known["steps"]), curves)


def table_results(config: OneClassConfig, sets: data.ClassSets, records: Sequence[Record]) -> dict[str, Any]:
    """What results.json says of the records of all cells; "test" are the means of the first variant and gamma."""
    groups = group_cells(records, sets.classes, seed=config.seed)
    trained = [record for record in records if record["variant"] != yardstick.METHOD]
    over = "classes and seeds" if len(sets.classes) * config.num_seeds > 1 else "test images"
    return {
        "dataset": sets.train.name,
        "seed": config.seed,
        "num_seeds": config.num_seeds,
        "classes": sets.classes,
        "headline": f"gamma {data.gamma_name(config.gammas[0])}, {len(sets.classes)} class(es)",
        "test": groups[0]["test"],
        "intervals": f"Intervals are bootstrap intervals over {over}.",
        "groups": groups,
        "cells": trained,
        "seconds": sum(record["seconds"] for record in trained),
    }


def protocol_notes(config: OneClassConfig, sets: data.ClassSets, groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader should know of the parts before comparing figures with others, and of the yardstick in the table.

    Args:
      groups: rows of the table, that of the yardstick last.
    """
    first, plain = groups[0], groups[-1]
    more = 100 * (first["mean"] - plain["mean"])
    lines = [
        f"The row {plain['variant']} is principal components of the same images, at most 32 pixels a side, from one "
        f"seed: on average {abs(more):.1f} {'less' if more >= 0 else 'more'} than {first['variant']} at gamma "
        f"{data.gamma_name(first['gamma'])}."
    ]
    if any(gamma != 0 for gamma in config.gammas):
        lines.append("Labelled anomalies are of the same classes as those of the test: they are known defects.")
    if sets.test is None:
        lines.append("The test is a fifth of the normal class and a sample of the others, not an official part.")
    else:
        lines.append(
            "A quarter of the normal training images sets the threshold and does not train; the paper has none."
        )
    if len(sets.classes) < len(sets.train.class_names):
        lines.append(f"{len(sets.classes)} of {len(sets.train.class_names)} classes were trained.")
    return lines


def class_key(key: Key, task: data.Task) -> Key:
    """A key of the normal class, whatever others there are."""
    return jax.random.fold_in(key, zlib.crc32("".join(task.details["normal_classes"]).encode()))


def _kept(folder: Path, cell: Cell) -> Path:
    return folder / "checkpoint" / f"{cell.name}.safetensors"


def _is_whole(path: Path) -> bool:
    try:
        return bool(checkpoint.read_metadata(path))
    except ValueError:
        return False


_Group = tuple[tuple[Cell, data.Task], ...]


def _program(item: tuple[Cell, data.Task]) -> tuple[Any, ...]:
    """What cells that train in one program have in common."""
    cell, task = item
    return cell.variant, cell.gamma, *np.bincount(task.train.labels)


def _trained(
    config: OneClassConfig, group: _Group, detector: Detector, folder: Path, key: Key, on_steps: OnSteps
) -> Trained:
    """All cells of a group, from where an earlier session stopped."""
    keys = jnp.stack([jax.random.fold_in(class_key(key, task), cell.seed) for cell, task in group])
    # The images of all tasks, each once, and which of them are whose.
    ids = np.stack([task.train.ids for _, task in group])
    _, first, rows = np.unique(ids, return_index=True, return_inverse=True)
    images = np.concatenate([task.train.images for _, task in group])[first]
    options: dict[str, Any] = {"rows": rows.reshape(ids.shape), "vmapped": len(group) > 1}
    if anomalies := config.anomalies(group[0][0].gamma):
        options |= {"anomalies_per_batch": anomalies, "labels": np.stack([task.train.labels for _, task in group])}
    return fit_saved(
        detector, keys, images, path=folder / "checkpoint" / "training.safetensors",
        names=[cell.name for cell, _ in group], steps=config.steps, checkpoints=config.checkpoints,
        batch_size=config.batch_size, chunk=min(50, config.steps), on_chunk=lambda taken, _: on_steps(taken), **options,
    )  # fmt: skip


def _tested(
    config: OneClassConfig, cell: Cell, task: data.Task, detector: Detector, state: State, folder: Path, key: Key
) -> dict[str, Any]:
    """The record of a cell's one test; its scores are kept in a file."""
    key = class_key(key, task)  # the same resamples for all that are compared
    evaluation = evaluate(detector, state, task, key=key, target_fpr=config.target_fpr, resamples=config.resamples)
    files.write_array(folder / "scores" / f"{cell.name}.npy", evaluation.test_scores)
    train = data.describe(task)[0]
    return {
        "variant": cell.variant, "gamma": cell.gamma, "class": cell.normal, "seed": cell.seed,
        "train_normal": train.normal, "train_anomalous": train.anomalous,
        "threshold": evaluation.threshold._asdict(), "test": evaluation.test,
    }  # fmt: skip
