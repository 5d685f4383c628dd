"""Train any one detector on normal images, and test it once.

    jaxad train                                                     # nearest neighbours, bundled textures
    jaxad train --detector deep_svdd --settings steps=500 objective=soft-boundary
    jaxad train --detector classifier --settings score=odin --dataset mnist --ood fashion_mnist
    jaxad train --detector memory_bank --dataset mvtec:DATA/bottle
    jaxad train --detector deep_sad --labelled 10                   # ten known anomalies of validation train, too
    jaxad train --architecture runs/autoad-20260101-120000 --dataset folder:other_photos   # what a search has found
    jaxad train --list

No labelled anomaly is used but to test, and to train where --labelled says so: the state is the last one, the threshold
is set on held-out normal images.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np

from jaxad import data, report
from jaxad._utils.tree import member
from jaxad._utils.validate import check_at_least
from jaxad.methods import DETECTORS
from jaxad.methods.common.labels import normal_images, schedule_notes, training_labels, with_classes
from jaxad.runs import cli, saving
from jaxad.runs.evaluation import evaluate, pictures
from jaxad.runs.one_detector import fit_detector, settings_of
from jaxad.runs.progress import table
from jaxad.runs.runner import finish, keep, made_by, named_keys, say_end, session, task_results
from jaxad.training.calibration import calibrate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.TrainingConfig, data.KnownAnomaliesConfig):
    """Train one detector and test it once."""

    auto_side: int | None = None
    """Side of the squares that auto makes of larger images; by default 224 for detectors that use features, 32 for AMA,
    whose paper has it, else 64."""
    detector: Annotated[str, DETECTORS] = "nearest_neighbours"
    """Name of the method; see --list."""
    architecture: str | None = None
    """Folder of a run, or of a saved autoencoder, whose architecture and settings to train anew, here or on others."""
    settings: tuple[str, ...] = ()
    """Settings of the method as NAME=VALUE, such as steps=500 learning_rate=1e-3 features.use=deep."""
    features: Literal["auto", "random", "efficientnet_lite0"] = "auto"
    """Network of features, for detectors that use features; by default the best whose weights are on this machine."""
    list: bool = False
    """Print all methods and their settings, and do nothing else."""
    preset: Literal["default", "smoke", "paper"] = "default"
    """Settings where flags give none: default (minutes on a laptop), smoke (seconds), paper (for a GPU)."""
    steps: int | None = None
    """Training steps; by default those of the method, or one pass over the images where it has none."""
    checkpoints: int = 5
    """Number of times that the training is saved on its way."""
    overruled_by: ClassVar = {"steps=": "steps", "features.backbone=": "features"}
    program: ClassVar = "jaxad train"

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        super().check()
        check_at_least(self, "steps", "checkpoints", "auto_side")
        if self.architecture is not None and self.detector not in (FOUND, type(self).detector):
            raise ValueError(f"--detector is {self.detector}, and --architecture is of an {FOUND}: give one of them")
        if hasattr(self.method(), "steps"):
            check_at_least(self.method(), "steps")

    @property
    def name(self) -> str:
        """Of the method that is trained."""
        return self.detector if self.architecture is None else FOUND

    def method(self) -> Any:
        """The method's own config, with the steps that are asked for here."""
        base = None if self.architecture is None else found_architecture(self.architecture)
        known = {field.name for field in dataclasses.fields(DETECTORS.named(self.name).config)}
        asked = {"steps": ("steps", self.steps), "features": ("features.backbone", self.features)}
        flags = [
            f"{path}={value}" for name, (path, value) in asked.items() if name in known and value not in (None, "auto")
        ]
        preset = "paper" if self.preset == "paper" else "laptop"
        return settings_of(self.name, self.settings, flags, preset=preset, base=base)

    def load(self) -> data.Task:
        """The task; networks of photographs want more pixels than networks that are trained here."""
        method = self.method()
        usual = 224 if getattr(method, "features", None) else getattr(method, "side_of_photographs", 64)
        side = self.auto_side or usual
        return dataclasses.replace(self, auto_side=side).load_task(self.seed)


FOUND = "autoencoder"  # the method that architectures are of


@functools.lru_cache(maxsize=1)  # a config is asked for its method more than once
def found_architecture(folder: str) -> Any:
    """The config of the autoencoder that a run has found or trained, or of one that was saved: the best of its search.

    Raises:
      ValueError: a folder without a detector, or with one of another method.
    """
    places = [Path(folder) / name for name in ("best_child", "best")]
    place = next((place for place in places if (place / "detector.json").exists()), Path(folder))
    loaded = saving.load(place, trainable=False)
    if loaded.name != FOUND:
        raise ValueError(f"{place} holds a {loaded.name}, which has no architecture: give the run of a search")
    return loaded.config


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
    # What does not fit, such as images too small for a network, is known before anything is written.
    training_labels(config.name, method, task)
    detector = DETECTORS[config.name].build(method)
    batch = jax.ShapeDtypeStruct((config.batch_size, *task.train.images.shape[1:]), np.float32)
    jax.eval_shape(detector.init, jax.random.key(0), batch)
    with session(config, "detector", data.table(task), data=task, may_differ=MAY_DIFFER) as folder:
        if folder is None:
            return
        keys = named_keys(config.seed, "train", "test")
        trained, facts = fit_detector(
            config.name, method, detector, task, folder, keys["train"], batch_size=config.batch_size,
            checkpoints=config.checkpoints, steps=config.steps, quiet=config.quiet,
        )  # fmt: skip
        state = calibrate(detector, member(trained.state, 0), normal_images(task))
        known = facts.get("labelled_anomalies", 0)
        evaluation = evaluate(detector, state, task, key=keys["test"], target_fpr=config.target_fpr, seed=config.seed)
        results = task_results(
            task, evaluation, seed=config.seed, method=config.name, training=facts, chosen_by="last",
            plain=True,
            notes=[
                f"{known or 'No'} labelled anomalies were used to train, and none to choose the state.",
                *schedule_notes(method, facts["steps"]),
            ],
        )  # fmt: skip
        keep(folder, task, method, state, evaluation, chosen_by="last")

        def page(results: dict[str, Any]) -> str:
            shown = pictures(detector, state, task, evaluation)
            curves = report.training_sections(trained.steps, member(trained.curves, 0))
            return report.render_training(
                method=config.name, results=results, pictures=shown, sections=curves, **made_by(config)
            )  # fmt: skip

        say_end(config, folder, finish(folder, results, page))


def main() -> None:
    """What the command and the script call."""
    cli.main(run, Config, presets=PRESETS)
