"""After a search: the best architectures train from scratch, and validation chooses one detector."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad._utils.tree import member
from jaxad.data import Task
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.nas.loop import Trial
from jaxad.nn.architecture import Architecture
from jaxad.nn.objectives.child import ChildConfig
from jaxad.runs.inputs import detector_config
from jaxad.training.early_stopping import best_values, eval_steps
from jaxad.training.resumable import fit_selected_saved
from jaxad.training.scoring import score_images
from jaxad.types import Detector, Key, State


class Winner(NamedTuple):
    """The detector that validation chose."""

    trial: Trial  # the child of the search that it comes from
    config: AutoencoderConfig
    detector: Detector  # of the config
    state: State  # calibrated
    step: int  # of its training, at its best
    value: float  # the criterion on validation
    valid_scores: np.ndarray  # [M] float32


def retrain(
    task: Task,
    trials: list[Trial],
    *,
    key: Key,
    seeds: int,
    steps: int,
    batch_size: int,
    child: ChildConfig,
    features: FeatureConfig,
    criterion: str,
    seconds: float | None = None,
    folder: Path | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> tuple[Winner, list[dict[str, Any]]]:
    """Train the architectures of some trials from scratch, each from several seeds.

    Args:
      key: not consumed; trial and seed are folded into it.
      features: of architectures that see some.
      seconds: for all trainings together; what does not fit is validated fewer times. None sets no limit.
      folder: where a training is saved at every evaluation, so that a resumed run repeats none of them; by default
        nothing is written.
      on_steps: called with the steps trained so far, all trials and seeds together.

    Returns:
      The winner, and for every trial a record of what was seen: {"trial", "search_reward", "steps", "evals" [L],
      "curves" [seeds][L], "valid" [seeds]}, where evals end before the wanted "steps" if time was short.

    Raises:
      ValueError: no training gave scores of any use.
    """
    evals = eval_steps(steps)
    winner, records, left = None, [], seconds
    for rank, trial in enumerate(trials):
        config = detector_config(Architecture.from_json(trial.architecture), task, child, features, steps)
        detector = autoencoder(config)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, trial.trial), np.arange(seeds))
        before = rank * seeds * steps
        trained = fit_selected_saved(
            detector, keys, task.train.images, task.valid.images, task.valid.labels,
            path=None if folder is None else folder / f"retrained-{trial.trial}.safetensors",
            evals=evals, batch_size=batch_size, criterion=criterion, valid_masks=task.valid.masks,
            on_chunk=lambda done, _, before=before: on_steps(before + done),
            limit=None if left is None else left / (len(trials) - rank),
        )  # fmt: skip
        left = None if left is None else left - trained.seconds
        on_steps(before + seeds * steps)
        selection, done = trained.selection, int(trained.selection.num_evals)
        values = best_values(selection.values)
        records.append(
            {
                "trial": trial.trial,
                "search_reward": trial.reward,
                "steps": steps,
                "evals": list(evals[:done]),
                "curves": selection.values[:, :done].tolist(),
                "valid": values.tolist(),
            }
        )
        seed = int(values.argmax())
        if values[seed] >= 0 and (winner is None or values[seed] > winner.value):
            state = member(selection.best, seed)
            step = evals[int(np.nanargmax(selection.values[seed]))]
            scores = score_images(detector, state, task.valid.images)
            winner = Winner(trial, config, detector, state, step, float(values[seed]), scores)
    if winner is None:
        raise ValueError("every retrained detector gives scores that are not finite: lower learning_rate")
    return winner, records


def cut_short(records: list[dict[str, Any]]) -> list[str]:
    """A sentence on the retrainings that time has ended, if there are any."""
    done = [record["evals"][-1] for record in records if record["evals"][-1] < record["steps"]]
    if not done:
        return []
    steps = f"{records[0]['steps']:,} steps"
    return [f"Retraining ended early, after {' and '.join(map(str, done))} of {steps}: half of the time budget was up."]
