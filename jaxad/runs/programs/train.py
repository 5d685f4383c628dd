"""Train any one detector on normal images, and test it once.

    jaxad train                                                     # nearest neighbours, bundled textures
    jaxad train --detector deep_svdd --settings steps=500 objective=soft-boundary
    jaxad train --detector classifier --settings score=odin --dataset mnist --ood fashion_mnist
    jaxad train --detector memory_bank --dataset mvtec:DATA/bottle
    jaxad train --list

No labelled anomaly is used but to test: the state is the last one, the threshold is set on held-out normal images.
"""

import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal

import jax

from jaxad import data, report
from jaxad._utils.tree import member
from jaxad._utils.validate import check_at_least
from jaxad.methods import DETECTORS, config_of
from jaxad.methods.common.labels import training_labels, with_classes
from jaxad.runs import cli
from jaxad.runs.evaluation import evaluate, pictures
from jaxad.runs.folder import Run
from jaxad.runs.progress import Progress, table
from jaxad.runs.runner import finish, keep, made_by, named_keys, say_end, session, task_results
from jaxad.training.calibration import calibrate
from jaxad.training.resumable import Trained, fit_saved
from jaxad.types import Detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.TrainingConfig, data.TaskConfig):
    """Train one detector and test it once."""

    auto_side: int | None = None
    """Side of the squares that auto makes of larger images; by default 224 for detectors that use features, else 64."""
    detector: Annotated[str, DETECTORS] = "nearest_neighbours"
    """Name of the method; see --list."""
    settings: tuple[str, ...] = ()
    """Settings of the method as NAME=VALUE, such as steps=500 learning_rate=1e-3 features.use=deep."""
    features: Literal["auto", "random", "efficientnet_lite0"] = "auto"
    """Network of features, for detectors that use features; by default the best whose weights are on this machine."""
    list: bool = False
    """Print all methods and their settings, and do nothing else."""
    preset: Literal["default", "smoke", "paper"] = "default"
    """Settings where flags give none: default (minutes on a laptop), smoke (seconds), paper (for a GPU)."""
    steps: int | None = None
    """Training steps; by default those of the method's settings, or one pass over the images where it has none."""
    checkpoints: int = 5
    """Number of times that the training is saved on its way."""
    overruled_by: ClassVar = {"steps=": "steps", "features.backbone=": "features"}
    program: ClassVar = "jaxad train"

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        super().check()
        check_at_least(self, "steps", "checkpoints", "auto_side")
        if hasattr(self.method(), "steps"):
            check_at_least(self.method(), "steps")

    def method(self) -> Any:
        """The method's own config, with the steps that are asked for here."""
        known = {field.name for field in dataclasses.fields(DETECTORS.named(self.detector).config)}
        asked = {"steps": ("steps", self.steps), "features": ("features.backbone", self.features)}
        flags = [
            f"{path}={value}" for name, (path, value) in asked.items() if name in known and value not in (None, "auto")
        ]
        return config_of(self.detector, (*flags, *self.settings))

    def load(self) -> data.Task:
        """The task; networks of photographs want more pixels than networks that are trained here."""
        side = self.auto_side or (224 if getattr(self.method(), "features", None) else 64)
        return dataclasses.replace(self, auto_side=side).load_task(self.seed)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {"dataset": "digits", "limit": 200, "steps": 20, "batch_size": 16},
    "paper": {"batch_size": 64, "steps": 20_000},
}
MAY_DIFFER = cli.MAY_DIFFER | {"list"}


def run(config: Config) -> None:
    """The whole experiment."""
    if config.list:
        table("detectors", ("name", "what it is", "settings"), [entry.described() for entry in DETECTORS.values()])
        return
    config.check()
    method = with_classes(config.method(), task := config.load(), config.settings)
    training_labels(config.detector, method, task)  # what does not fit is known before anything is written
    with session(config, "detector", data.table(task), data=task, may_differ=MAY_DIFFER) as folder:
        if folder is None:
            return
        keys = named_keys(config.seed, "train", "test")
        detector = DETECTORS[config.detector].build(method)
        trained, facts = train(config, method, detector, task, folder, keys["train"])
        state = calibrate(detector, member(trained.state, 0), task.train.images)
        evaluation = evaluate(detector, state, task, key=keys["test"], target_fpr=config.target_fpr, seed=config.seed)
        results = task_results(
            task, evaluation, seed=config.seed, method=config.detector, training=facts, chosen_by="last",
            notes=["No labelled anomaly was used but to test."],
        )  # fmt: skip
        keep(folder, task, method, state, evaluation, chosen_by="last")

        def page(results: dict[str, Any]) -> str:
            shown = pictures(detector, state, task, evaluation)
            curves = report.training_sections(trained.steps, member(trained.curves, 0))
            return report.render_training(
                method=config.detector, results=results, pictures=shown, sections=curves, **made_by(config)
            )  # fmt: skip

        say_end(config, folder, finish(folder, results, page))


def train(
    config: Config, method: Any, detector: Detector, task: data.Task, folder: Run, key: jax.Array
) -> tuple[Trained, dict[str, Any]]:
    """The trained state, as a population of one, and the facts of its training; saved at every checkpoint."""
    images = task.train.images
    batch_size = min(config.batch_size, len(images))
    steps = getattr(method, "steps", config.steps or math.ceil(len(images) / batch_size))  # config.steps is in them
    with Progress(steps, label="train", quiet=config.quiet) as progress:
        trained = fit_saved(
            detector, key[None], images, labels=training_labels(config.detector, method, task),
            path=folder.path / "checkpoint" / "state.safetensors", names=[config.detector], steps=steps,
            checkpoints=config.checkpoints, batch_size=batch_size, vmapped=False, chunk=min(50, steps),
            on_chunk=lambda done, _: progress.update(done, note=config.detector),
        )  # fmt: skip
        progress.update(steps)
    return trained, {"steps": steps, "batch_size": batch_size, "seconds": trained.seconds}


def main() -> None:
    """What the command and the script call."""
    cli.main(run, Config, presets=PRESETS)
