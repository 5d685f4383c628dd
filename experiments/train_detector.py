"""Train any one detector on normal images, and test it once.

    python experiments/train_detector.py                                       # nearest neighbours, bundled textures
    python experiments/train_detector.py --detector deep_svdd --settings steps=500 objective=soft-boundary
    python experiments/train_detector.py --detector classifier --settings score=odin --dataset mnist --ood fashion_mnist
    python experiments/train_detector.py --detector memory_bank --dataset mvtec:DATA/bottle
    python experiments/train_detector.py --list

No labelled anomaly is used but to test: the state is the last one, the threshold is set on held-out normal images.
Where images come with masks and the detector says where it sees anomalies, pixels are tested, too. The run folder is
that of a search: open report.html, and score new images with `python experiments/detect.py RUN images...`.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np

from jaxad import data, report
from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.methods import DETECTORS, config_of
from jaxad.runs import cli
from jaxad.runs import folder as runs
from jaxad.runs.evaluation import evaluate, evaluate_pixels, pictures, predictions
from jaxad.runs.progress import Progress, show_metrics, table
from jaxad.runs.saving import save_detector
from jaxad.training import checkpoint
from jaxad.training.calibration import subsample
from jaxad.training.loop import fit
from jaxad.types import Detector, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig, data.TaskConfig):
    """Train one detector and test it once."""

    detector: Annotated[str, DETECTORS] = "nearest_neighbours"
    """Name of the method; see --list."""
    settings: tuple[str, ...] = ()
    """Settings of the method as NAME=VALUE, such as steps=500 learning_rate=1e-3."""
    list: bool = False
    """Print all methods and their settings, and do nothing else."""

    preset: Literal["default", "smoke", "paper"] = "default"
    """Where flags are not given: default (minutes on a laptop), smoke (seconds), paper (long, for an accelerator)."""
    steps: int | None = None
    """Training steps; by default those of the method's settings, or one pass over the images where it has none."""
    batch_size: int = 32
    """Images of one step."""
    seed: int = 0
    """Decides everything random: same seed, same result."""
    target_fpr: float = 0.05
    """Share of normal images that the threshold may flag, set on held-out normal images."""
    checkpoints: int = 5
    """How often a training is saved on its way."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("steps", "batch_size", "checkpoints"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; the least is 1")
        if not 0 < self.target_fpr < 1:
            raise ValueError(f"--target-fpr is {self.target_fpr}; give a share between 0 and 1, such as 0.05")
        method_of(self)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {"dataset": "digits", "limit": 200, "steps": 20, "batch_size": 16},
    "paper": {"batch_size": 64, "steps": 20_000},
}
MAY_DIFFER = cli.MAY_DIFFER | {"list"}
FITTED = 1024  # training images that calibrate
CURVE = 200  # points of a training curve


def method_of(config: Config) -> Any:
    """The method's own config, with the steps that are asked for here."""
    settings = config.settings
    fields = {f.name for f in dataclasses.fields(DETECTORS.named(config.detector).config)}
    if config.steps is not None and "steps" in fields:
        settings = (*settings, f"steps={config.steps}")
    return config_of(config.detector, settings)


def run(config: Config) -> None:
    """The whole experiment."""
    if config.list:
        table("detectors", ("name", "what it is", "settings"), [entry.described() for entry in DETECTORS.values()])
        return
    config.check()
    method, task = method_of(config), config.load_task(config.seed)
    labels = labels_of(config, method, task)
    with config.open_folder("detector", may_differ=MAY_DIFFER) as folder:
        if config.finds_finished(folder):
            return
        config.say(data.table(task), f"run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        keys = dict(zip(("train", "test"), jax.random.split(jax.random.key(config.seed))))
        detector = DETECTORS[config.detector].build(method)
        state, trained = train(config, method, detector, task, labels, folder, keys["train"])
        results = test(config, method, detector, state, trained, task, folder, keys["test"])
        show(config, results, folder.path)


def labels_of(config: Config, method: Any, task: data.Task) -> np.ndarray | None:
    """What the method is told of training images: classes, for those that need them."""
    if getattr(method, "labels", None) == "masks":
        raise ValueError(f"{config.detector} learns from masks of defects, and {task.name} trains on normal images")
    if getattr(method, "labels", None) != "classes":
        return None
    if task.train.classes is None:
        raise ValueError(f"{config.detector} needs the class of every normal image, and {task.name} has none")
    classes, labels = np.unique(task.train.classes, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{config.detector} needs two normal classes at least, and {task.name} has {len(classes)}")
    if len(classes) > method.classes:
        raise ValueError(f"{task.name} has {len(classes)} normal classes; give --settings classes={len(classes)}")
    return labels.astype(np.int32)


# ---- training ----------------------------------------------------------------------------------------------------


def train(
    config: Config,
    method: Any,
    detector: Detector,
    task: data.Task,
    labels: np.ndarray | None,
    folder: runs.Run,
    key: jax.Array,
) -> tuple[State, dict[str, Any]]:
    """The calibrated state, and what there is to tell of the training; saved at every checkpoint."""
    images, path = task.train.images, folder.path / "checkpoint" / "state.safetensors"
    batch_size = min(config.batch_size, len(images))
    steps = config.steps or getattr(method, "steps", math.ceil(len(images) / batch_size))
    stops = np.unique(np.linspace(0, steps, config.checkpoints + 1).round().astype(int))[1:].tolist()
    state, done, every = None, 0, max(1, steps // CURVE)
    if path.exists():
        like = jax.eval_shape(detector.init, key, jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), np.float32))
        state, done = checkpoint.restore(path, (like, np.int32(0)))
    chunk = max(1, min(50, stops[0]))
    with Progress(steps, label="train", quiet=config.quiet) as progress:

        def on_chunk(now: int, _: Any) -> None:
            progress.update(now, note=config.detector)

        for stop in (stop for stop in stops if stop > done):
            begun = time.monotonic()
            state, history = fit(
                detector, key, images, steps=stop, batch_size=batch_size, labels=labels, chunk=chunk, on_chunk=on_chunk,
                state=state, start_step=int(done),
            )  # fmt: skip
            if history.diverged:
                raise ValueError(
                    f"{config.detector} diverged before step {stop}: lower its learning_rate, if it has one"
                )
            info = {name: values[::every] for name, values in history.info._asdict().items() if values.ndim == 1}
            line = {"step": stop, "seconds": time.monotonic() - begun, "steps": np.arange(done, stop)[::every] + 1}
            files.append_line(folder.path / "training.jsonl", line | {"info": info})
            checkpoint.save(path, (state, np.int32(stop)))
            done = stop
        progress.update(steps)
    calibrate = jax.jit(detector.calibrate, compiler_options=backend.kernel_options() or None)
    lines = {line["step"]: line for line in files.read_lines(folder.path / "training.jsonl")}
    lines = [lines[stop] for stop in stops]  # of a repeated part the last counts
    told = {name: np.concatenate([line["info"][name] for line in lines]) for name in lines[0]["info"]}
    trained = {
        "steps": steps, "batch_size": batch_size, "seconds": sum(line["seconds"] for line in lines),
        "at": np.concatenate([line["steps"] for line in lines]), "info": told,
    }  # fmt: skip
    return calibrate(state, subsample(images, FITTED)), trained


# ---- test --------------------------------------------------------------------------------------------------------


def test(
    config: Config,
    method: Any,
    detector: Detector,
    state: State,
    trained: dict[str, Any],
    task: data.Task,
    folder: runs.Run,
    key: jax.Array,
) -> dict[str, Any]:
    """Everything that the run folder keeps of the trained detector, tested once."""
    evaluation = evaluate(detector, state, task, key=key, target_fpr=config.target_fpr)
    pixels = evaluate_pixels(detector, state, task, seed=config.seed)
    results = {
        "task": task.details
        | {"name": task.name, "image_shape": task.train.images.shape[1:]}
        | {"parts": [row._asdict() for row in data.describe(task)]},
        "method": config.detector,
        "seed": config.seed,
        "training": {name: trained[name] for name in ("steps", "batch_size", "seconds")},
        "chosen_by": "last",
        "threshold": evaluation.threshold._asdict(),
        "test": evaluation.test,
        **({} if pixels is None else {"segmentation": pixels}),
        "notes": ["No labelled anomaly was used but to test."],
        **runs.environment(),
    }
    save_detector(
        folder.best,
        name=config.detector,
        config=method,
        state=state,
        image_shape=task.train.images.shape[1:],
        threshold=evaluation.threshold,
        details={"task": task.name, "chosen_by": "last"},
    )
    files.write_predictions(folder.path / "predictions.csv", predictions(task, evaluation))
    page = report.render_training(
        method=config.detector,
        config=files.to_json(config) | {"resume": None},
        results=files.to_json(results),
        pictures=pictures(detector, state, task, evaluation, pixels=pixels),
        sections=report.training_sections(trained["at"], trained["info"]),
        program="python experiments/train_detector.py",
    )
    files.write_text(folder.path / "report.html", page)
    files.write_json(folder.path / "results.json", results)  # last: its presence says that the run is finished
    return results


# ---- the terminal ------------------------------------------------------------------------------------------------


def show(config: Config, results: dict[str, Any], path: Path) -> None:
    """The result, for the terminal."""
    if config.quiet:
        return
    show_metrics(results)
    print(f"report:   {path / 'report.html'}")
    print(f"use it:   python experiments/detect.py {path} IMAGES ...")


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
