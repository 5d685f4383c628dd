"""The training of one detector by a command: its settings, its labels, and a file from which it goes on."""

from collections.abc import Sequence
from typing import Any

from jaxad.data import Task
from jaxad.methods import DETECTORS, config_of
from jaxad.methods.common.labels import anomalies_per_batch, steps_of, training_labels
from jaxad.runs.folder import Run
from jaxad.runs.progress import Progress
from jaxad.training.resumable import Trained, fit_saved
from jaxad.types import Detector, Key


def settings_of(
    name: str, settings: Sequence[str], flags: Sequence[str] = (), *, preset: str = "laptop", base: Any = None
) -> Any:
    """The config of a method, of settings as text.

    Args:
      settings, flags: as `config_of` has them, all of them asked for.
      preset: "laptop" or "paper", the class attribute of the config that says what all else is, where there is one: the
        size that trains in minutes on a CPU, or what the paper has and the defaults of the fields have not.
      base: a config that all else is as in.
    """
    asked = {setting.partition("=")[0] for setting in (*settings, *flags)}
    others = getattr(DETECTORS.named(name).config, preset, ()) if base is None else ()
    return config_of(name, (*(s for s in others if s.partition("=")[0] not in asked), *flags, *settings), base)


def fit_detector(
    name: str,
    config: Any,
    detector: Detector,
    task: Task,
    folder: Run,
    key: Key,
    *,
    batch_size: int,
    checkpoints: int,
    steps: int | None = None,
    quiet: bool = False,
) -> tuple[Trained, dict[str, Any]]:
    """The trained state, as a population of one, and the facts of its training; saved at every checkpoint.

    Args:
      name, config: of the method; its labels are those that `training_labels` gives it.
      key: consumed.
      steps: where the config has none; by default as `steps_of` says.

    Raises:
      ValueError: labels that do not fit the method, and training that diverged.
    """
    images, labels = task.train.images, training_labels(name, config, task)
    batch_size = min(batch_size, len(images))
    steps = getattr(config, "steps", None) or steps_of(config, len(images), batch_size, steps)
    anomalies = anomalies_per_batch(config, batch_size, labels)
    with Progress(steps, label="train", quiet=quiet) as progress:
        trained = fit_saved(
            detector, key[None], images, labels=labels, anomalies_per_batch=anomalies,
            path=folder.path / "checkpoint" / "state.safetensors", names=[name], steps=steps,
            checkpoints=checkpoints, batch_size=batch_size, vmapped=False, chunk=min(50, steps),
            on_chunk=lambda done, _: progress.update(done, note=name),
        )  # fmt: skip
        progress.update(steps)
    facts = {"steps": steps, "batch_size": batch_size, "seconds": trained.seconds}
    if task.train.labels.any():
        facts |= {"labelled_anomalies": int(task.train.labels.sum()), "anomalies_per_batch": anomalies}
    return trained, facts
