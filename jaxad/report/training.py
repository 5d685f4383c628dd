"""The page of one trained detector: its task and test, how it was chosen, what it is compared with, what it sees."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.report import plots
from jaxad.report.common import made_parts, metric_tiles, task_parts
from jaxad.report.format import METRICS, interval
from jaxad.report.html import Bullets, Figure, Section, Table, Text, Tiles, duration, number, page
from jaxad.report.test_sections import example_parts, pixel_parts, result_parts

CHOSEN = {
    "validation": "best evaluation on labelled validation images",
    "last": "last step, no labels used",
}


def render_training(
    *,
    method: str,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    pictures: Mapping[str, Any],
    sections: Sequence[Section] = (),
    program: str,
) -> str:
    """The page of a run that trained one kind of detector, as HTML text.

    Args:
      method: its name on the page.
      config, results: the plain data of config.json and results.json; `results["variants"]` is what
        `variant_parts` shows.
      pictures: as for `render_report`.
      sections: what is particular to the method.
      program: the start of the command line.
    """
    test, task, training = (results.get(name) or {} for name in ("test", "task", "training"))
    tiles = metric_tiles(test)
    if training.get("seconds") is not None:
        tiles.append((duration(training["seconds"]), "training", f"{number(training['steps'])} steps"))
    notes = list(results.get("notes") or [])
    all_sections = [
        Section(title="Summary", parts=[Tiles(items=tiles), Bullets(items=notes) if notes else None]),
        Section(title="Task", parts=task_parts(task)),
        Section(title="Test result", parts=result_parts(test, results.get("threshold"), pictures)),
        Section(title="Pixels", parts=pixel_parts(results.get("segmentation") or {})),
        Section(title="Choice and comparison", parts=variant_parts(results.get("variants") or {})),
        Section(title="What it sees", parts=example_parts(pictures)),
        *sections,
        Section(title="How this was made", parts=made_parts(config, results, program)),
    ]
    value, low, high = interval(test.get("auroc"))
    chosen = CHOSEN[results["chosen_by"]]
    verdict = f"Test AUROC {number(value)} (95 % interval {number(low)} to {number(high)}); state chosen by: {chosen}."
    return page(f"{method} for {task.get('name')}", verdict, all_sections, subtitle="jaxad training run")


def training_sections(steps: np.ndarray, history: Mapping[str, np.ndarray]) -> list[Section]:
    """What happened while training: steps [n], and [n] of every name; nothing where nothing is told."""
    if not history:
        return []
    panels = {name.replace("_", " "): {name: np.asarray(values)[None]} for name, values in history.items()}
    caption = "What happened while training."
    drawing = plots.training_curves(steps, panels, lines={})
    return [Section(title="Training", parts=[Figure(drawing=drawing, alt=caption, caption=caption, wide=True)])]


def variant_parts(variants: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> list[Any]:
    """Variants side by side: {name: {how the state was chosen: {metric: a value for each seed}}}."""
    if not variants:
        return []
    rows: list[Any] = []
    for chosen, words in CHOSEN.items():
        rows.append(words[0].upper() + words[1:])
        rows += [
            [name, *(_spread(by_choice[chosen][metric]) for metric in METRICS)] for name, by_choice in variants.items()
        ]
    seeds = len(next(iter(variants.values()))["last"]["auroc"])
    text = "The same training with one thing changed, tested once each. Nothing was chosen by these figures."
    text += f" Mean and standard deviation over {seeds} training seeds." if seeds > 1 else ""
    columns = ["Variant", *(label for label, _ in METRICS.values())]
    return [Text(text=text), Table(columns=columns, rows=rows)]


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return number(values[0])
    return f"{number(float(np.mean(values)))} ± {number(float(np.std(values, ddof=1)))}"
