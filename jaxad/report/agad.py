"""The page of one-class anomaly detection over many classes: AUROC class by class, and what the detectors see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxad.data import ClassSets, Task
from jaxad.data.batches import to_float
from jaxad.data.protocols.few_labels import gamma_name
from jaxad.report import plots
from jaxad.report.common import made_parts, metric_tiles, task_parts
from jaxad.report.format import METRICS, interval
from jaxad.report.html import Bullets, Figure, Section, Table, Text, Tiles, duration, number, page

if TYPE_CHECKING:
    from jaxad.methods.agad import AGADConfig, AGADState

SHOWN = 8  # images in a row

# Title of the panel -> {name of the curve: field of the info}.
PANELS = {
    "Losses": {"generator": "generator_loss", "discriminator": "discriminator_loss"},
    "Reconstruction error": {"normal": "contextual", "labelled anomalies": "anomalous_contextual"},
    "Error of the second pass": {"G(G(x)) against G(x)": "pseudo"},
    "Latent error": {"normal": "latent"},
    "Adversarial term": {"normal": "adversarial"},
    "Anomaly loss (Eq. 10)": {"labelled anomalies": "anomaly_loss"},
}


def auroc_table(groups: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of AUROC in percent, a row for every method and gamma.

    Args:
      groups: {"variant", "gamma", "auroc": {class: a value for each seed}, "mean", "sd"}; the mean is over classes of
        the means over seeds, the sd is the population's over classes, as in AGAD's tables.
    """
    columns = ["method", "gamma", *classes, "mean", "sd"]
    rows = []
    for group in groups:
        means = [group["auroc"].get(name) for name in classes]
        cells = [f"{100 * np.mean(values):.1f}" if values else "–" for values in means]
        ends = [f"{100 * group[name]:.2f}" if group[name] is not None else "–" for name in ("mean", "sd")]
        rows.append([group["variant"], gamma_name(group["gamma"]), *cells, *ends])
    return columns, rows


def statistics_table(groups: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of AUROC in percent by the statistics of batch normalisation, of groups that have both."""
    columns = ["method", "gamma", *groups[0]["auroc_by_statistics"]]
    rows = [
        [one["variant"], gamma_name(one["gamma"]), *(f"{100 * value:.2f}" for value in found.values())]
        for one in groups
        if (found := one.get("auroc_by_statistics"))
    ]
    return columns, rows


def agad_pictures(config: AGADConfig, states: Mapping[str, AGADState], task: Task) -> dict[str, list]:
    """What AGADs make of a few test images, {"normal" and "anomalous": rows (name, [k, H, W, C])}.

    Args:
      config: of all.
      states: by model, such as "gamma 0.05".
    """
    from jaxad.methods.agad import make_inference

    view, rebuilt = jax.tree.map(jax.jit, make_inference(config)), {}
    for kind, name in enumerate(("normal", "anomalous")):
        images = to_float(task.test.images[np.flatnonzero(task.test.labels == kind)[:SHOWN]])
        rows = [("x", images)]
        for model, state in states.items():
            rows.append((f"G(x), {model}", view.reconstruct(state, images)))
            rows.append((f"G(G(x)), {model}", view.reconstruct_again(state, images)))
        rebuilt[name] = [(label, np.asarray(row)) for label, row in rows]
    return rebuilt


def scores_by_class(scores: np.ndarray, task: Task, sets: ClassSets) -> dict[str, np.ndarray]:
    """The test scores [n] of a task, by the class of the image."""
    source = sets.train if sets.test is None else sets.test
    class_of = dict(zip(source.ids, source.labels))
    classes = np.array([source.class_names[class_of[name]] for name in task.test.ids])
    return {name: scores[classes == name] for name in np.unique(classes)}


def render_one_class(
    *,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    rebuilt: Mapping[str, Sequence[tuple[str, np.ndarray]]],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    curves: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]],
    program: str,
) -> str:
    """The page, as HTML text.

    Args:
      config, results: the plain data of config.json and results.json.
      rebuilt: {"normal" or "anomalous": rows (name, [k, H, W, C])} of images, reconstructions and theirs.
      scores: {model: {class: test scores [n]}} of the class that is shown.
      curves: {model: (steps [n], {field of the info: [n]})}.
      program: the start of the command line.
    """
    test, shown = results["test"], results["shown"]
    value, low, high = interval(test["auroc"])
    tiles = [*metric_tiles(test), (duration(results["seconds"]), "training", f"{len(results['cells'])} detectors")]
    columns, rows = auroc_table(results["groups"], results["classes"])
    text = (
        "AUROC in percent of one detector for each class, which is normal while all others are anomalous; the mean "
        f"over {results['num_seeds']} training seed(s). Mean and population standard deviation are over classes."
    )
    sections = [
        Section(title="Summary", parts=[Tiles(items=tiles), Bullets(items=list(results["notes"]))]),
        Section(title="AUROC by class", parts=[Text(text=text), Table(columns=columns, rows=rows), *_metrics(results)]),
        Section(title="What is reconstructed", parts=_pictures(rebuilt, shown)),
        Section(title="Scores by class", parts=_boxes(scores, shown)),
        Section(title="Training", parts=[_curve(model, *curve) for model, curve in curves.items()]),
        Section(title="Task", parts=task_parts(results["task"])),
        Section(title="How this was made", parts=made_parts(config, results, program)),
    ]
    verdict = f"Mean test AUROC {number(value)} (95 % interval {number(low)} to {number(high)}), {results['headline']}."
    return page(f"AGAD, one class of {results['dataset']} at a time", verdict, sections, subtitle="jaxad training run")


def _metrics(results: Mapping[str, Any]) -> list[Any]:
    """Means over classes of all metrics, with their intervals."""
    rows = []
    for group in results["groups"]:
        cells = []
        for name in METRICS:
            value, low, high = interval(group["test"].get(name))
            cells.append(number(value) if low is None else f"{number(value)} [{number(low)} – {number(high)}]")
        rows.append([group["variant"], gamma_name(group["gamma"]), *cells])
    columns = ["method", "gamma", *(label for label, _ in METRICS.values())]
    return [Table(columns=columns, rows=rows, caption=results["intervals"])]


def _pictures(rebuilt: Mapping[str, Sequence[tuple[str, np.ndarray]]], shown: str) -> list[Any]:
    parts = []
    for kind, rows in rebuilt.items():
        caption = f"Test images that are {kind} where {shown} is normal, their reconstructions, and those of these."
        parts.append(Figure(drawing=plots.image_rows(rows), alt=caption, caption=caption, wide=True))
    return parts


def _boxes(scores: Mapping[str, Mapping[str, np.ndarray]], shown: str) -> list[Any]:
    if not scores:
        return []
    caption = (
        f"Test scores of every class where {shown} is normal: boxes are quartiles, whiskers end at Tukey's fences."
    )
    return [Figure(drawing=plots.class_boxes(scores, normal=[shown]), alt=caption, caption=caption, wide=True)]


def _curve(model: str, steps: np.ndarray, info: Mapping[str, np.ndarray]) -> Figure:
    panels = {title: {name: info[field][None] for name, field in curves.items()} for title, curves in PANELS.items()}
    caption = f"What happened while {model} trained."
    return Figure(drawing=plots.training_curves(steps, panels, lines={}), alt=caption, caption=caption, wide=True)
