"""From a task to a tested detector: architectures are tried, the best retrained, and the best of those tested once."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad import data
from jaxad._utils import files
from jaxad._utils.compile import forget_programs
from jaxad.data import Task
from jaxad.data.fingerprint import fingerprint
from jaxad.data.protocols.tiled import calibrated_on, held_out_normal_scores
from jaxad.methods.autoencoder import AutoencoderConfig
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.metrics.thresholds import Threshold, false_positive_rate
from jaxad.nas import loop
from jaxad.nas.analysis.render import summary
from jaxad.nas.strategies.registry import make_strategy
from jaxad.report.overlays import colour_scale
from jaxad.runs import cli, league, runner, saving
from jaxad.runs.evaluation import Evaluation, evaluate
from jaxad.runs.exploration import Explored, explore_task
from jaxad.runs.folder import Run, create_run, environment, open_run, read_trials
from jaxad.runs.inputs import inputs_of
from jaxad.runs.league import Standing
from jaxad.runs.progress import Progress
from jaxad.runs.retraining import Winner, retrain
from jaxad.runs.rivals import Entrant, best_of, enter_all, features_for, rivals_for
from jaxad.runs.same_run import identity
from jaxad.runs.search_config import SearchConfig as SearchConfig
from jaxad.runs.search_report import page_of, results_of
from jaxad.runs.workers import MAY_DIFFER
from jaxad.training.scoring import map_images
from jaxad.training.staged import remembering
from jaxad.types import Detector, State

BEST_CHILD = "best_child"  # folder of a run: the best that the search itself has found


class SearchResult(NamedTuple):
    """What a search has found: the detector that was tested, and how it was found."""

    detector: Detector
    state: State  # trained and calibrated: what `jaxad.score_images` takes
    config: Any  # of the detector: an `AutoencoderConfig`, or a rival's where validation prefers that
    threshold: Threshold  # a higher score is called anomalous; set on held-out normal images
    test: dict[str, Any]  # metrics of the test images, measured once: {"auroc": {"value", "low", "high"}, ...}
    child: AutoencoderConfig  # the best that the search itself has found; `child.architecture` says what it is
    league: list[Standing]  # the best child and its rivals, what validation prefers first
    trials: list[loop.Trial]  # every child of the search, in order
    results: dict[str, Any]  # all facts, as results.json has them
    folder: Path | None  # of the run, with report.html; None where nothing was written
    calibration: np.ndarray | None = None  # scores of the images that set the threshold, for `save`

    def save(self, folder: str | Path) -> None:
        """Save the detector, for `jaxad.load` and detect.py; ValueError where that cannot be written."""
        returned, task = self.results["returned"], self.results["task"]
        saving.save(
            folder, config=self.config, state=self.state, image_shape=task["image_shape"], threshold=self.threshold,
            details={"summary": returned, "task": task["name"]} | saving.how_read(task), calibration=self.calibration,
        )  # fmt: skip


def search(
    task: Task,
    config: SearchConfig | None = None,
    *,
    output: str | Path | Run | None = None,
    resume: str | Path | None = None,
    on_trial: Callable[[loop.Trial], None] = lambda trial: None,
    on_retrain: Callable[[int], None] = lambda steps: None,
    quiet: bool = False,
    pool: futures.Executor | None = None,
    **fields: Any,
) -> SearchResult:
    """Find an image anomaly detector for a task (AutoAD; Li et al., TNNLS 2022).

    Children of a search space (autoencoder architecture x anomaly hypothesis x distance, Eq. 2) train a few steps each
    on shared weights and are rewarded for how well they rank the validation images; of photographs they see features.
    The best are trained from scratch and validated on the way. Beside them stand quick detectors, the rivals. What
    validation prefers among all is tested and returned, and the league table says whether searching was worth it.

    Args:
      task: from `jaxad.load_task`, or `jaxad.data.task_from_arrays` for images of your own.
      config: how to search; by default `SearchConfig()`, which takes minutes on a laptop.
      output: a run folder to make. Everything is kept there as it is computed, and at the end the detector (best/),
        results.json, predictions.csv and report.html. By default nothing is written.
      resume: the run folder of an earlier call that was killed, to go on as if it had never stopped. Settings are those
        of that call. What is finished is loaded.
      on_trial: called with every child's record as soon as it is known.
      on_retrain: called with the steps of retraining so far, all trainings together.
      quiet: show no progress on standard error.
      pool: who trains children, `workers` of them at a time: any executor of the standard library whose workers have
        this package; by default the processes that `workers` asks for, or the cluster of `scheduler`.
      **fields: settings to change in the config, such as `children=100`.

    Returns:
      The detector with its state, threshold and test metrics, and the trials. It depends on task and config alone.

    Raises:
      ValueError: a task without normal images or anomalies in validation or test, settings out of range, a folder that
        cannot be used, another task or other settings than those of the run to resume, and a search of which no child
        gave scores of any use; each in one line with the remedy.

    >>> import jaxad
    >>> task = jaxad.load_task("digits", normal_classes=["0"], anomaly_ratio=0.3, limit=120)
    >>> found = jaxad.search(task, children=3, population=1, num_layers=1, steps=2, retrain_steps=4, quiet=True)
    >>> jaxad.score_images(found.detector, found.state, task.test.images).shape == task.test.labels.shape
    True
    >>> 0 <= found.test["auroc"]["value"] <= 1, len(found.trials)
    (True, 3)
    """
    if config is None:
        config = SearchConfig() if resume is None else SearchConfig(**cli.stored_settings(SearchConfig, resume))
    config = dataclasses.replace(config, **fields)
    data.check_task(task)
    config.check(task)
    config.check_workers(config.executor, pool)
    with _opened(task, config, output, resume) as run, ExitStack() as stack:
        if run is not None and runner.is_finished(run):
            return _loaded(run)
        stack.enter_context(remembering(folder=None if run is None else run.path / "checkpoint" / "features"))
        keys = runner.named_keys(config.seed, "start", "search", "retrain", "test", "rivals", "inputs")
        features = features_for(config.features, task.train.images.shape[1:])
        if run is not None:
            run.checkpoints.check()
        entrants = _rivals(task, config, keys["rivals"], run, quiet)
        space = config.search_space(task.train.images.shape[1:])
        options = config.strategy_options()
        strategy = make_strategy(config.strategy, space, population=config.population, **options)
        masks = task.valid.masks if config.trial_config().of_pixels else None
        explored = explore_task(
            inputs_of(task, space, features, keys["inputs"], masks=masks), loop.jit(strategy), space,
            config.trial_config(task), start_key=keys["start"], search_key=keys["search"],
            children=config.children, ahead=config.ahead, executor=config.executor, workers=config, pool=pool,
            time_budget=config.time_budget, run=run, keep_log=bool(options), on_trial=on_trial, quiet=quiet,
        )  # fmt: skip
        # Hundreds of programs beside features are 0.9 GB; only a command has none but its own, and keeps them on disk.
        if isinstance(output, Run) and space.inputs != ("pixels",):
            forget_programs()
        started = time.perf_counter()
        winner, candidates = _retrained(task, config, features, explored, keys["retrain"], run, on_retrain, quiet)
        seconds = explored.seconds + time.perf_counter() - started
        by_pixels = config.is_by_pixels(task)
        entrants.append(league.entrant_of(winner, task, config.reward, by_pixels, seconds))
        best = best_of(entrants)
        evaluation = evaluate(
            best.detector, best.state, task, key=keys["test"], target_fpr=config.target_fpr, seed=config.seed,
            valid_scores=best.valid_scores,
        )  # fmt: skip
        lines = league.standings(entrants, task)
        results = results_of(task, config, explored, winner, candidates, evaluation)
        results |= {
            "returned": summary(winner.config.architecture) if best.label == league.CHILD else best.label,
            "league": [line._asdict() for line in lines],
            "verdict": league.verdict(entrants, config.reward),
        }
        if run is None:
            results = files.to_json({**results, **environment()})
        else:
            results = _kept(run, task, config, explored, winner, best, evaluation, results)
    state = best.state
    if best.label != league.CHILD:
        state = saving.made_trainable(best.detector, state, task.train.images.shape[1:])
    return SearchResult(
        best.detector, state, best.config, evaluation.threshold, evaluation.test, winner.config, lines,
        explored.trials, results, None if run is None else run.path,
        held_out_normal_scores(task, evaluation.valid_scores),
    )  # fmt: skip


# ---- the run folder ----------------------------------------------------------------------------------------------


@contextmanager
def _opened(
    task: Task, config: SearchConfig, output: str | Path | Run | None, resume: str | Path | None
) -> Iterator[Run | None]:
    """The folder to write to, if any. One that is open already stays so."""
    if output is not None and resume is not None:
        raise ValueError(f"output is {output} and resume {resume}; give one of them: a run goes on in its own folder")
    if isinstance(output, Run) or (output is None and resume is None):
        yield output
        return
    stored = files.to_json(config) | {"task": identity(task)}
    if resume is None:
        opened = create_run(output, stored, name="search", data=fingerprint(task))
    else:
        with open_run(resume, write=False) as run:
            if "task" not in run.config:
                raise ValueError(f"{resume} was begun by a command: continue it with the command and --resume {resume}")
        opened = open_run(resume, stored, may_differ=MAY_DIFFER | {"time_budget"}, data=fingerprint(task))
    with opened as run:
        yield run


def _loaded(run: Run) -> SearchResult:
    """What a finished run has found."""
    loaded, results = saving.load(run.best), files.read_json(run.path / "results.json")
    trials = [loop.Trial(**record) for record in read_trials(run)]
    found = (loaded.detector, loaded.state, loaded.config, loaded.threshold)
    lines = [Standing(**line) for line in results["league"]]
    child = saving.load(run.path / BEST_CHILD).config
    return SearchResult(*found, results["test"], child, lines, trials, results, run.path, loaded.calibration)


# ---- before and after the search -------------------------------------------------------------------------------------


def _rivals(task: Task, config: SearchConfig, key: jax.Array, run: Run | None, quiet: bool) -> list[Entrant]:
    """What quick detectors come to."""
    rivals = rivals_for(config.rivals, config.features, task)
    with Progress(len(rivals), label="rivals", quiet=quiet or not rivals) as progress:
        done: list[Entrant] = []

        def show(entrant: Entrant) -> None:
            done.append(entrant)
            best = best_of(done)
            progress.update(len(done), best=None if best is None else best.merit, note=entrant.label)

        folder = None if run is None else run.path / "checkpoint" / "rivals"
        options = {"criterion": config.reward, "by_pixels": config.is_by_pixels(task)}
        return enter_all(task, rivals, key=key, folder=folder, on_entrant=show, **options)


def _kept(
    run: Run,
    task: Task,
    config: SearchConfig,
    explored: Explored,
    winner: Winner,
    best: Entrant,
    evaluation: Evaluation,
    results: dict[str, Any],
) -> dict[str, Any]:
    """Leave everything in the run folder: the returned detector, the best child, the report."""
    scale = None
    if best.detector.score_map is not None:
        scale = colour_scale(map_images(best.detector, best.state, data.held_out_normals(task)))
    found = {"summary": results["returned"], "valid": best.value}
    runner.keep(run, task, best.config, best.state, evaluation, **found, map_scale=scale)
    found = {"summary": summary(winner.config.architecture), "step": winner.step}
    found |= saving.how_read(task.details) | calibrated_on(task)
    normal = held_out_normal_scores(task, winner.valid_scores)
    saving.save(
        run.path / BEST_CHILD, winner.config, winner.state, image_shape=task.train.images.shape[1:], details=found,
        threshold=false_positive_rate(normal, config.target_fpr), calibration=normal,
    )  # fmt: skip
    plain = runner.finish(run, results, lambda plain: page_of(task, config, explored, best, evaluation, plain))
    shutil.rmtree(run.path / "checkpoint" / "features", ignore_errors=True)  # they were for a run that is killed
    return plain


def _retrained(
    task: Task,
    config: SearchConfig,
    features: FeatureConfig,
    explored: Explored,
    key: jax.Array,
    run: Run | None,
    on_retrain: Callable[[int], None],
    quiet: bool,
) -> tuple[Winner, list[dict[str, Any]]]:
    """The best architectures, trained from scratch: the one that validation chose, and what was seen of all."""
    candidates = loop.best_trials(explored.trials, config.retrain_top)
    if not candidates:
        reasons = ", ".join(sorted({str(t.reason) for t in explored.trials})) or "no child ended within the time budget"
        raise ValueError(f"no child could be used ({reasons}): lower learning_rate or raise time_budget")
    with Progress(len(candidates) * config.num_seeds * config.retrain_steps, label="retrain", quiet=quiet) as progress:

        def on_steps(steps: int) -> None:
            progress.update(steps)
            on_retrain(steps)

        return retrain(
            task, candidates, key=key, seeds=config.num_seeds, steps=config.retrain_steps,
            batch_size=config.trial_config(task).batch_size, child=config.trial_config().child,
            features=features, criterion=config.reward, on_steps=on_steps,
            seconds=config.time_budget and config.time_budget / 2,
            folder=None if run is None else run.path / "checkpoint",
        )  # fmt: skip
