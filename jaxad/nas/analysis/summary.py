"""What a search did, in plain numbers, for results.json, tables and comparisons."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxad.nas.analysis.render import render
from jaxad.nas.loop import Costs, Trial
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture
from jaxad.nn.cost import ImageShape, feature_sizes, flops, parameter_count


def search_facts(
    trials: Sequence[Trial],
    space: SearchSpace,
    *,
    uniform: int,
    seconds: float,
    costs: Costs,
    compiles: int,
    stopped: str | None,
) -> dict[str, Any]:
    """The facts of a search.

    Args:
      uniform: how many trials, the first, the strategy proposed uniformly; their spread says how much architecture
        matters on this task.
      seconds: wall-clock of the search.
      costs: of that, what went into anything but its children.
      compiles: programs it compiled or loaded.
      stopped: why it ended before its last child, if it did.
    """
    rewards = [trial.reward for trial in trials if trial.status == "ok"]
    first = [trial.reward for trial in trials[:uniform] if trial.status == "ok"]
    return {
        "children": len(trials),
        "unique_children": len({tuple(trial.tokens) for trial in trials}),
        "failed_children": sum(trial.status == "failed" for trial in trials),
        "compiles": compiles,
        "seconds": seconds,
        "training_seconds": sum(trial.seconds for trial in trials),
        "strategy_seconds": costs.strategy,
        "revisit_seconds": costs.revisits,
        "children_per_minute": 60 * len(trials) / max(seconds, 1e-9),
        "best_valid": max(rewards, default=None),
        "spread": {"children": len(first), **dict(zip(("p10", "p50", "p90"), np.percentile(first, (10, 50, 90))))}
        if first
        else {},
        "stopped": stopped,
        "space": space.cardinality,
    }


def architecture_facts(trial: Trial, image_shape: ImageShape) -> dict[str, Any]:
    """The facts of one architecture, with its rendering in the form of Table IV.

    `image_shape` is (height, width, channels) of what it sees, or that of every input by its name.
    """
    architecture = Architecture.from_json(trial.architecture)
    return {
        "trial": trial.trial,
        "tokens": trial.tokens,
        "architecture": architecture.to_json(),
        "table": render(architecture),
        "params": parameter_count(architecture, image_shape),
        "flops": flops(architecture, image_shape),
        "sizes": feature_sizes(architecture, image_shape),
    }
