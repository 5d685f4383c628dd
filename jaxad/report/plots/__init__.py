"""Pictures of a search and of a detector: NumPy in, a matplotlib Figure out.

Figures are made without pyplot: they need no display and leave no global state. Matplotlib is imported
when the first picture is drawn, not when jaxad is. Rewards of failed children are NaN or None: counted,
never drawn as numbers. Labels: 1 = anomalous. Scores: higher = more anomalous; images without a finite one
are left out. Where there is nothing to draw, the figure says so in words.
"""

from jaxad.report.plots.adversarial import densities, image_rows, training_curves
from jaxad.report.plots.boxes import class_boxes, within_fences
from jaxad.report.plots.comparison import compared_curves, compared_panels
from jaxad.report.plots.controller import (
    controller_entropy,
    controller_information,
    controller_probabilities,
    controller_rewards,
)
from jaxad.report.plots.detection import (
    area,
    displayable,
    reconstructions,
    retraining,
    roc_curve,
    roc_points,
    score_histogram,
)
from jaxad.report.plots.drawing import architecture
from jaxad.report.plots.league import value_by_seconds
from jaxad.report.plots.search import (
    action_columns,
    best_so_far,
    child_seconds,
    parallel_coordinates,
    pareto_front,
    reward_by_action,
    reward_by_cost,
    running_best,
    window_mean,
    windows,
)
from jaxad.report.plots.segmentation import life_profiles, profile_bands
from jaxad.report.plots.workers import worker_timeline

__all__ = [
    "action_columns",
    "architecture",
    "area",
    "best_so_far",
    "child_seconds",
    "class_boxes",
    "compared_curves",
    "compared_panels",
    "controller_entropy",
    "controller_information",
    "controller_probabilities",
    "controller_rewards",
    "densities",
    "displayable",
    "image_rows",
    "life_profiles",
    "parallel_coordinates",
    "pareto_front",
    "profile_bands",
    "reconstructions",
    "retraining",
    "reward_by_action",
    "reward_by_cost",
    "roc_curve",
    "roc_points",
    "running_best",
    "score_histogram",
    "training_curves",
    "value_by_seconds",
    "window_mean",
    "windows",
    "within_fences",
    "worker_timeline",
]
