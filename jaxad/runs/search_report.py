"""What is told of a finished search: all facts of it, and the report that shows them."""

import dataclasses
import functools
from typing import Any

import jax

from jaxad import report
from jaxad._utils import files
from jaxad.data import Task
from jaxad.methods.autoencoder import AutoencoderConfig, reconstruct
from jaxad.nas.analysis.summary import architecture_facts, search_facts
from jaxad.nas.strategies.registry import STRATEGIES
from jaxad.report import controller_parts
from jaxad.runs import runner
from jaxad.runs.evaluation import Evaluation, pictures
from jaxad.runs.exploration import Explored
from jaxad.runs.retraining import Winner, cut_short
from jaxad.runs.rivals import Entrant
from jaxad.runs.search_config import SearchConfig
from jaxad.runs.workers import worker_rows


def results_of(
    task: Task,
    config: SearchConfig,
    explored: Explored,
    winner: Winner,
    candidates: list[dict[str, Any]],
    evaluation: Evaluation,
) -> dict[str, Any]:
    """All facts of a search."""
    uniform = STRATEGIES[config.strategy].num_uniform(len(explored.trials), config.population)
    seconds = {"seconds": explored.seconds, "costs": explored.costs}
    found = {"compiles": explored.compiles, "stopped": explored.stopped}
    of_pixels = "masks of" if config.trial_config().of_pixels else "labelled"
    notes = [
        f"The reward uses {of_pixels} validation anomalies of the same kind as the test anomalies.",
        "Rewards of the search are measured on shared weights after a few steps; league and test are of detectors that "
        "were trained from scratch.",
    ]
    if explored.stopped:
        notes.append(f"The search ended early: {explored.stopped}.")
    notes += cut_short(candidates)
    return runner.task_results(
        task,
        evaluation,
        strategy=config.strategy,
        search=search_facts(explored.trials, explored.space, uniform=uniform, **seconds, **found),
        **({"workers": worker_rows(explored.handed)} if explored.handed else {}),
        best=architecture_facts(winner.trial, explored.shapes),
        retrain={
            "seeds": config.num_seeds, "steps": config.retrain_steps, "step": winner.step, "valid": winner.value,
            "candidates": candidates,
        },
        seed=config.seed,
        notes=[*notes, *runner.few_anomalies(task)],
    )  # fmt: skip


def page_of(
    task: Task,
    config: SearchConfig,
    explored: Explored,
    best: Entrant,
    evaluation: Evaluation,
    results: dict[str, Any],
) -> str:
    """The report."""
    rebuild = None
    if isinstance(best.config, AutoencoderConfig) and best.detector.stage is None:
        program, architecture = jax.jit(reconstruct, static_argnums=0), best.config.architecture
        rebuild = functools.partial(program, architecture, best.state)
    if not getattr(config, "is_command_line", False):
        changed = [f"{f.name}={getattr(config, f.name)!r}" for f in dataclasses.fields(config) if _differs(config, f)]
        results = results | {"command": f"jaxad.search(task{''.join(f', {one}' for one in changed)})"}
    return report.render_report(
        config=files.to_json(config) | {"resume": None},
        trials=[dataclasses.asdict(record) for record in explored.trials],
        results=results,
        pictures=pictures(best.detector, best.state, task, evaluation, rebuild),
        controller=controller_parts(explored.log, explored.space.position_names, explored.space.values_by_action),
    )  # fmt: skip


def _differs(config: SearchConfig, field: dataclasses.Field) -> bool:
    default = field.default_factory() if field.default is dataclasses.MISSING else field.default
    return getattr(config, field.name) != default
