"""A method beside its variants: each trained from the same seeds and validated on the way, then tested.

A state is chosen in two ways: by labelled validation images, as the best of all its evaluations, and without labels, as
the last one.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad._utils.tree import member, size
from jaxad.data import Task
from jaxad.methods.common.labels import anomalies_per_batch, normal_images, training_labels
from jaxad.metrics import image as metrics
from jaxad.runs.evaluation import Evaluation, evaluate
from jaxad.runs.progress import Progress, table
from jaxad.training.calibration import calibrate_population
from jaxad.training.early_stopping import Selection, best_values
from jaxad.training.loop import History
from jaxad.training.resumable import fit_selected_saved
from jaxad.training.scoring import score_images
from jaxad.types import Detector, Key, State

METRICS = metrics.CRITERIA | {"fpr95": metrics.fpr_at_tpr, "f1_max": lambda *both: metrics.f1_max(*both).f1}


class TrainedVariant(NamedTuple):
    """A variant after its trainings from P seeds."""

    config: Any
    detector: Detector
    selection: Selection
    states: dict[str, State]  # calibrated, with an axis P in front, by how they were chosen: "validation", "last"
    seconds: float  # of all its trainings
    steps: np.ndarray  # [points] of the training curves
    curves: dict[str, np.ndarray]  # fields of the detector's info that are numbers: [P, points]

    def seed(self, chosen: str) -> int:
        """The seed whose state is tested: of those that validation chose the best; without labels none is better."""
        return int(best_values(self.selection.values).argmax()) if chosen == "validation" else 0

    def facts(self, steps: int, batch_size: int) -> dict[str, Any]:
        """What results.json says of its trainings."""
        values = self.selection.values
        facts = {"steps": steps, "batch_size": batch_size, "seeds": len(values)}
        return facts | {"seconds": self.seconds, "evals": values}


def check_variants(variants: Mapping[str, Any], check: Callable[[Any], Any]) -> None:
    """Raise ValueError where `check` does so of a config, saying which variant it is of."""
    for name, config in variants.items():
        try:
            check(config)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def train_variants(
    task: Task,
    variants: Mapping[str, Any],
    build: Callable[[Any], Detector],
    *,
    key: Key,
    num_seeds: int,
    evals: Sequence[int],
    batch_size: int,
    folder: Path,
    trained_as: Callable[[Any], Hashable] = lambda config: config,
    advice: Callable[[Any], str] = lambda config: "lower its learning rate",
    quiet: bool = False,
) -> dict[str, TrainedVariant]:
    """Train every variant from the same seeds; those that differ in their scores alone share the first one's training.

    Args:
      variants: configs by name; the first is the method itself.
      build: from a config to its detector.
      key: of all seeds; a seed's number is folded into it.
      evals: steps after which to validate and save; the last is the length of the training.
      folder: of the checkpoints, one NAME.safetensors for each training.
      trained_as: what a training depends on; where it equals the first variant's, that is not trained again.
      advice: what to do where a training fails.

    Raises:
      ValueError: a variant of which all trainings diverge, or one gives no scores of any use.
    """
    first, *others = variants
    shared = {name for name in others if trained_as(variants[name]) == trained_as(variants[first])}
    trainings = [name for name in variants if name not in shared]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(num_seeds))
    trained: dict[str, TrainedVariant] = {}
    total = num_seeds * evals[-1]
    with Progress(total * len(trainings), label="train", quiet=quiet) as progress:
        for index, name in enumerate(trainings):

            def on_chunk(done: int, _: Any, before: int = index * total, name: str = name) -> None:
                progress.update(before + done, note=name)

            config = variants[name]
            trained[name] = _train(
                name, config, build(config), task, keys, evals=evals, batch_size=batch_size, advice=advice(config),
                path=folder / f"{name}.safetensors", on_chunk=on_chunk,
            )  # fmt: skip
            progress.update((index + 1) * total, note=name)
    for name in shared:
        trained[name] = trained[first]._replace(config=variants[name], detector=build(variants[name]))
    return {name: trained[name] for name in variants}


def _train(
    name: str,
    config: Any,
    detector: Detector,
    task: Task,
    keys: Key,
    *,
    evals: Sequence[int],
    advice: str,
    **options: Any,
) -> TrainedVariant:
    def on_eval(selection: Selection, history: History) -> None:
        if history.diverged.all():
            start, stop = (0, *evals)[selection.num_evals - 1 :][:2]
            raise ValueError(f"{name}: all trainings diverged between steps {start} and {stop}: {advice}")

    labels = training_labels(name, config, task)
    options |= {
        "train_labels": labels,
        "anomalies_per_batch": anomalies_per_batch(config, options["batch_size"], labels),
    }
    selection, seconds, steps, curves = fit_selected_saved(
        detector, keys, task.train.images, task.valid.images, task.valid.labels,
        evals=evals, on_eval=on_eval, chunk=max(1, min(20, evals[0])), **options,
    )  # fmt: skip
    if not (best_values(selection.values) >= 0).all():
        seeds = ", ".join(map(str, np.flatnonzero(best_values(selection.values) < 0)))
        raise ValueError(f"{name}: training seed {seeds} never had scores that are finite and differ: {advice}")
    states = {
        "validation": selection.best,
        "last": calibrate_population(detector, selection.state, normal_images(task)),
    }
    return TrainedVariant(config, detector, selection, states, seconds, steps, curves)


def choose_tested(
    variant: TrainedVariant, task: Task, chosen: str, *, key: Key, target_fpr: float
) -> tuple[State, Evaluation, dict[str, dict[str, Any]]]:
    """The state that was chosen in the given way, its test, and the test metrics by way to choose.

    Args:
      key, target_fpr: as in `evaluate_choices`.

    Raises:
      ValueError: a state without scores of any use.
    """
    found = evaluate_choices(variant, task, key=key, target_fpr=target_fpr)
    if chosen not in found:
        raise ValueError(f"the {chosen} state has no scores that are finite and differ: choose another, or train less")
    state = member(variant.states[chosen], variant.seed(chosen))
    return state, found[chosen], {choice: evaluation.test for choice, evaluation in found.items()}


def evaluate_choices(variant: TrainedVariant, task: Task, *, key: Key, target_fpr: float) -> dict[str, Evaluation]:
    """The one test of a variant for each way to choose its state, where that has scores of any use.

    Args:
      key: of the bootstrap; the same resamples serve all, so that their differences are those of the states.
    """
    evaluations = {}
    for chosen, states in variant.states.items():
        state = member(states, variant.seed(chosen))
        scores = score_images(variant.detector, state, task.valid.images)
        if np.isfinite(scores).all() and np.ptp(scores) > 0:
            evaluations[chosen] = evaluate(
                variant.detector, state, task, key=jax.random.clone(key), target_fpr=target_fpr, valid_scores=scores
            )
    return evaluations


Compared = dict[str, dict[str, dict[str, list[float]]]]
"""{variant: {how its state was chosen: {metric: a value for each seed}}}."""


Scored = Callable[[Mapping[str, Any], State, np.ndarray], Mapping[str, np.ndarray]]
"""(configs by name, a state of the training that they share, images) -> scores by name."""


def compare_variants(task: Task, trained: Mapping[str, TrainedVariant], scored: Scored | None = None) -> Compared:
    """Test metrics of every variant, way to choose and seed.

    Args:
      scored: how variants that share a training score; by default each as its detector does, one after another.
    """

    def one_by_one(configs: Mapping[str, Any], state: State, images: np.ndarray) -> Mapping[str, np.ndarray]:
        return {name: score_images(trained[name].detector, state, images) for name in configs}

    # Variants that share a training have the very same states.
    families: dict[int, dict[str, Any]] = {}
    for name, variant in trained.items():
        families.setdefault(id(variant.states), {})[name] = variant.config
    compared: Compared = {name: {} for name in trained}
    for configs in families.values():
        for chosen, states in trained[next(iter(configs))].states.items():
            by_seed = [
                (scored or one_by_one)(configs, member(states, p), task.test.images) for p in range(size(states))
            ]
            for name in configs:
                compared[name][chosen] = {
                    metric: [float(measure(found[name], task.test.labels)) for found in by_seed]
                    for metric, measure in METRICS.items()
                }
    return compared


def choice_notes(num_seeds: int, by_choice: Mapping[str, Any]) -> list[str]:
    """What a reader should know of the ways in which states were chosen."""
    lines = ["Choosing by validation uses labelled anomalies of the kind that is tested; the last step uses none."]
    if num_seeds > 1:
        lines.append(
            f"By validation the best of {num_seeds} training seeds is tested, without labels the first; means over all "
            "of them are below."
        )
    if "last" not in by_choice:
        lines.append("The last state of training has no scores that are finite and differ; it was not tested.")
    return lines


def show_variants(results: Mapping[str, Any], *, quiet: bool = False) -> None:
    """Print the method's "test_by_choice", and the AUROC of all "variants" over seeds, unless asked to be quiet."""
    if quiet:
        return
    rows = [
        (name, chosen, *(f"{test[name][part]:.4f}" for part in ("value", "low", "high")))
        for chosen, test in results["test_by_choice"].items()
        for name in METRICS
    ]
    table("test, once for each way to choose the state", ("metric", "chosen by", "value", "95 % low", "high"), rows)
    rows = []
    for name, by_choice in results["variants"].items():
        for chosen, found in by_choice.items():
            sd = np.std(found["auroc"], ddof=min(1, len(found["auroc"]) - 1))  # of one seed there is no spread
            rows.append((name, chosen, f"{np.mean(found['auroc']):.4f}", f"{sd:.4f}"))
    table("test AUROC over training seeds", ("variant", "chosen by", "mean", "sd"), rows)
