"""The report of a finished search: what was searched, what was found, how good it is on the test set.

`render_report` composes one page (see `jaxad.pages`) from the plain data of a run folder. Sections without
data are left out. Rewards are validation figures; everything under "Test result" was measured once.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad import plots
from jaxad.pages import (
    Bullets,
    Code,
    Details,
    Facts,
    Figure,
    Section,
    Table,
    Text,
    Tiles,
    duration,
    number,
    page,
)
from jaxad.plots.look import LAYER_ACTIONS

METRICS = {  # name in results["test"]: (name on the page, what it means)
    "auroc": ("AUROC", "chance that a random anomaly scores higher than a random normal image"),
    "aupr_out": ("AUPR-Out", "average precision of finding anomalies; the share of anomalies is chance"),
    "aupr_in": ("AUPR-In", "average precision of finding normal images; their share is chance"),
    "fpr95": ("FPR@95TPR", "normal images flagged when 95 % of the anomalies are found; lower is better"),
    "f1_max": ("F1-max", "best F1 any threshold reaches on the test set: an upper bound, not a forecast"),
}
ROW = ("part", "images", "normal", "anomalous", "fraction")
PICTURES = (
    "test_scores", "test_labels", "valid_scores", "valid_labels",
    "inputs", "reconstructions", "error_maps", "example_labels", "example_scores",
)  # fmt: skip


def _interval(metric: Any) -> tuple[Any, Any, Any]:
    """(value, low, high) of a metric given as {value, low, high} or as a number."""
    if isinstance(metric, Mapping):
        return metric.get("value"), metric.get("low"), metric.get("high")
    return metric, None, None


def _brackets(metric: Any) -> str:
    """The interval of a metric as "[low – high]"; nothing where it has none."""
    _, low, high = _interval(metric)
    return "" if low is None or high is None else f"[{number(low)} – {number(high)}]"


def architecture_line(architecture: Mapping[str, Any] | None) -> str:
    """An architecture in one line: hypothesis, distance, then channels@kernel and what follows, per layer."""
    if not architecture:
        return "–"
    layers = []
    for layer in architecture.get("layers", ()):
        words = [f"{layer['channels']}@{layer['kernel']}×{layer['kernel']}"]
        if layer["pool_kernel"] != 1:
            words.append(f"{layer['pool']}-pool {layer['pool_kernel']}")
        if layer["norm"] not in (None, "none", "no"):
            words.append(f"{layer['norm']} norm")
        layers.append(" ".join([*words, str(layer["activation"])]))
    return f"{architecture['hypothesis']} + {architecture['distance']}: " + " → ".join(layers)


def _table_iv(architectures: Sequence[Mapping], heads: Sequence[str]) -> Table:
    """Architectures side by side in the form of the paper's Table IV: an action a row."""
    names = {"hypothesis": "Definition hypothesis", "distance": "Distance measurement"}
    names |= {"channels": "Output channels", "kernel": "Convolution kernel", "pool": "Pooling type"}
    names |= {"pool_kernel": "Pooling kernel", "norm": "Normalization type", "activation": "Activation"}
    rows: list[Sequence[Any] | str] = []
    for (action, layer), values in plots.action_columns(architectures).items():
        if layer and action == LAYER_ACTIONS[0]:
            rows.append(f"Layer-{layer}")
        if action in ("kernel", "pool_kernel"):
            values = [v if v is None else f"{v}×{v}" for v in values]
        rows.append([names[action], *("–" if v is None else str(v) for v in values)])
    return Table(columns=["Action", *heads], rows=rows)


def _plain(value: Any) -> str:
    """Nested plain data as one readable line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value) or "–"
    return str(value) if isinstance(value, (bool, int)) else number(value)


def _facts(data: Mapping[str, Any]) -> Facts | None:
    items = {str(k).replace("_", " "): _plain(v) for k, v in data.items() if v not in (None, "", [], {})}
    return Facts(items=items) if items else None


def _task_parts(task: Mapping[str, Any]) -> list[Any]:
    """The table of parts and everything else the task says about itself."""
    parts = task.get("parts") or []
    if isinstance(parts, Mapping):
        parts = [{"part": k, **(v if isinstance(v, Mapping) else {"images": v})} for k, v in parts.items()]
    # Rows without names, as JSON leaves those of a NamedTuple, are those of `data.tasks.describe`.
    parts = [row if isinstance(row, Mapping) else dict(zip(ROW, row)) for row in parts]
    rest = {k: v for k, v in task.items() if k != "parts"}
    if "image_shape" in rest:
        rest["image_shape"] = " × ".join(str(n) for n in rest["image_shape"])
    out: list[Any] = [_facts(rest)]
    if parts:
        columns = list(dict.fromkeys(key for row in parts for key in row))
        rows = [[_plain(v) if isinstance(v := row.get(c), (list, dict)) else v for c in columns] for row in parts]
        out.append(Table(columns=[c.replace("_", " ") for c in columns], rows=rows))
    return out


def command(config: Mapping[str, Any], program: str = "python experiments/autoad_search.py") -> str:
    """The shell line that repeats a run: every setting as a flag; None is left out, lists are spread."""
    words = []
    for name, value in config.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value in ([], ()):
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            words.append(" ".join([flag, *(shlex.quote(str(v)) for v in values)]))
    return " \\\n    ".join([program, *words])


def _metric_rows(test: Mapping[str, Any]) -> list[list[Any]]:
    """Metric, value, interval, chance and meaning; unknown metrics are shown without the last two."""
    prevalence = test.get("prevalence")
    chance = {"auroc": 0.5, "fpr95": 0.95, "f1_max": test.get("f1_all_anomalous"), "aupr_out": prevalence}
    chance["aupr_in"] = None if prevalence is None else 1 - prevalence
    names = [name for name in METRICS if name in test]
    names += [name for name in test if name not in (*METRICS, "prevalence", "f1_all_anomalous")]
    rows = []
    for name in names:
        value, low, high = _interval(test[name])
        if isinstance(value, (list, Mapping, str)):
            continue
        label, meaning = METRICS.get(name, (name.replace("_", " "), ""))
        span = "–" if low is None or high is None else f"{number(low)} – {number(high)}"
        rows.append([label, value, span, chance.get(name), meaning])
    return rows


def _search_facts(metric: str, search: Mapping) -> list[Any]:
    """What the search spent, and how much architecture matters on this task."""
    spread = search.get("spread") or {}
    shown = {k: v for k, v in search.items() if k not in ("spread", "seconds")}
    if search.get("seconds") is not None:
        shown["search_time"] = duration(search["seconds"])
    if spread.get("p10") is None or spread.get("p90") is None:
        return [_facts(shown)]
    p10, p50, p90 = (number(spread.get(p)) for p in ("p10", "p50", "p90"))
    gap = number(spread["p90"] - spread["p10"])
    text = f"How much architecture matters here: {metric} of random children is {p10} at the 10th, {p50} at "
    text += f"the 50th and {p90} at the 90th percentile, a spread of {gap}."
    return [_facts(shown), Text(text=text)]


def _search_parts(config: Mapping, trials: Sequence[Mapping], search: Mapping) -> list[Any]:
    """Everything that shows how the search went. Repeats of known children appear only in the windows."""
    reward = config.get("reward", "auroc")
    metric = f"validation {METRICS[reward][0] if reward in METRICS else reward}"
    parts = _search_facts(metric, search)
    trained = [t for t in trials if t.get("status") != "cached"]
    if not trained:
        return parts
    rewards, proposed = _rewards(trained), _rewards(trials)
    finite = [r for r in rewards if r is not None]
    best = f"best {number(max(finite))} of {len(trained)} children" if finite else "no child has a reward"

    def add(draw, *data, caption: str, wide: bool = False, **options) -> None:
        parts.append(Figure(drawing=draw(*data, **options), alt=f"{caption} {best}", caption=caption, wide=wide))

    caption = f"Best {metric} so far, and the mean of the best five, against children trained."
    add(plots.best_so_far, rewards, metric=metric, caption=caption)
    elapsed = [t.get("elapsed") for t in trained]
    if any(elapsed):
        caption = f"Best {metric} so far, and the mean of the best five, against wall-clock time."
        add(plots.best_so_far, rewards, seconds=elapsed, metric=metric, caption=caption)
    if len(proposed) > 20:
        caption = "What the strategy proposes: mean and standard deviation per window of 20 children."
        add(plots.window_mean, proposed, metric=metric, caption=caption)
    if any(t.get("seconds") for t in trained):
        caption = "Wall-clock time of each child."
        add(plots.child_seconds, [t.get("seconds") for t in trained], caption=caption)
    for name, unit in (("params", "parameters"), ("flops", "FLOPs per image")):
        cost = [t.get(name) for t in trained]
        if any(cost):
            caption = f"Reward against {unit}; the line joins the best child at each cost."
            add(plots.reward_by_cost, cost, rewards, unit=unit, metric=metric, caption=caption)
    architectures = [t["architecture"] for t in trained]
    caption = "Which choices pay: a point per layer that made the choice; boxes are quartiles, bars medians."
    add(plots.reward_by_action, architectures, rewards, metric=metric, caption=caption, wide=True)
    caption = "Each child as a line through its choices, the best five thick; within a choice, better is higher."
    add(plots.parallel_coordinates, architectures, rewards, metric=metric, caption=caption, wide=True)
    return parts


def _rewards(trials: Sequence[Mapping]) -> list[float | None]:
    """Rewards, None for failed trials whatever worst reward they were given."""
    return [None if t.get("status") == "failed" else t.get("reward") for t in trials]


def _ranked(trials: Sequence[Mapping]) -> list[Mapping]:
    """Trials that have a reward, best first."""
    scored = [(r, t) for r, t in zip(_rewards(trials), trials) if r is not None]
    return [t for _, t in sorted(scored, key=lambda pair: -pair[0])]


def _best_parts(best: Mapping, trials: Sequence[Mapping], retrain: Mapping) -> list[Any]:
    """The winner beside its runners-up, in the form of Table IV."""
    ranked = _ranked(trials)
    parts: list[Any] = []
    architecture = best.get("architecture")
    if architecture:
        others = [t for t in ranked if t["architecture"] != architecture and t.get("status") != "cached"][:4]
        heads = ["Best", *(f"Trial {t['trial']} ({number(t['reward'])})" for t in others)]
        parts.append(_table_iv([architecture, *(t["architecture"] for t in others)], heads))
    elif best.get("table"):
        parts.append(Code(text=best["table"]))
    rest = {k: v for k, v in best.items() if k not in ("architecture", "table", "tokens")}
    rest |= {k: number(best[k]) for k in ("params", "flops") if best.get(k) is not None}
    if best.get("tokens"):
        rest["tokens"] = " ".join(str(t) for t in best["tokens"])
    parts.append(_facts(rest))
    return parts + _retrain_parts(retrain)


def _retrain_parts(retrain: Mapping) -> list[Any]:
    """How the candidates did when trained from scratch, and when the chosen one was stopped."""
    candidates = retrain.get("candidates") or []
    if not candidates:
        return []
    columns = ["Trial", "Reward in the search", "Retrained, best look per seed", "Mean", "Sd"]
    rows = []
    for candidate in candidates:
        valid = [v for v in candidate["valid"] if v >= 0]
        spread = (number(np.mean(valid)), number(np.std(valid))) if valid else ("none", "none")
        rows.append([candidate["trial"], number(candidate["search_reward"]), ", ".join(map(number, valid)), *spread])
    text = (
        f"Retrained from scratch for {retrain['steps']:,} steps and validated on the way; the detector is the one of "
    )
    text += f"step {retrain['step']:,}, where its validation reward was {number(retrain['valid'])}."
    caption = "Validation reward while the candidates retrain, a line for every seed."
    drawing = plots.retraining([(f"trial {c['trial']}", c["looks"], c["curves"]) for c in candidates])
    return [Text(text=text), Table(columns=columns, rows=rows), Figure(drawing=drawing, alt=caption, caption=caption)]


def _at_threshold(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Text:
    """What the threshold would have done on the test set, in counts."""
    flagged = scores > threshold
    found, missed = int(np.sum(flagged & labels)), int(np.sum(~flagged & labels))
    alarms, quiet = int(np.sum(flagged & ~labels)), int(np.sum(~flagged & ~labels))
    text = f"At the threshold {number(threshold)}, chosen before the test, {found:,} of {found + missed:,} "
    text += f"anomalies are found and {alarms:,} of {alarms + quiet:,} normal images are flagged by mistake."
    return Text(text=text)


def _test_parts(test: Mapping, threshold: Any, pictures: Mapping[str, Any]) -> list[Any]:
    """Table of metrics, what the threshold does, ROC curve and histogram."""
    parts: list[Any] = []
    rows = _metric_rows(test)
    if rows:
        columns = ["Metric", "Value", "95 % interval", "Chance", "What it says"]
        caption = "Intervals are bootstrap intervals over the test images."
        parts.append(Table(columns=columns, rows=rows, caption=caption))
    if pictures.get("test_scores") is None or pictures.get("test_labels") is None:
        return parts
    scores, labels = np.asarray(pictures["test_scores"]), np.asarray(pictures["test_labels"]).astype(bool)
    threshold = _interval(threshold)[0]
    if threshold is not None:
        parts.append(_at_threshold(labels, scores, threshold))
    auroc = _interval(test.get("auroc"))
    valid = (pictures.get("valid_labels"), pictures.get("valid_scores"))
    roc = plots.roc_curve(
        labels,
        scores,
        interval=None if None in auroc else auroc,
        validation=None if valid[0] is None or valid[1] is None else valid,
    )
    caption = "Test ROC curve with its 95 % bootstrap band, and validation beside it."
    parts.append(Figure(drawing=roc, alt=f"{caption} AUROC {number(auroc[0])}.", caption=caption))
    histogram = plots.score_histogram(labels, scores, threshold=threshold)
    caption = "Test scores of normal and anomalous images, each as shares of its own class."
    parts.append(Figure(drawing=histogram, alt=caption, caption=caption))
    return parts


def _example_parts(pictures: Mapping[str, Any]) -> list[Any]:
    """Inputs beside reconstructions and error maps."""
    if pictures.get("inputs") is None or not len(pictures["inputs"]):
        return []
    labels = pictures.get("example_labels")
    drawing = plots.reconstructions(
        pictures["inputs"],
        np.zeros(len(pictures["inputs"])) if labels is None else labels,
        reconstructed=pictures.get("reconstructions"),
        error_maps=pictures.get("error_maps"),
        scores=pictures.get("example_scores"),
    )
    caption = "Test images with their scores, reconstructions and error per pixel, all errors on one colour scale."
    return [Figure(drawing=drawing, alt=caption, caption=caption, wide=True)]


def _trial_parts(trials: Sequence[Mapping], most: int = 50) -> list[Any]:
    """The best trials as a table, and why others failed."""
    if not trials:
        return []
    ranked = _ranked(trials)
    parts: list[Any] = []
    if ranked:
        columns = ["Trial", "Reward", "Status", "Architecture", "Loss", "Parameters", "FLOPs", "Seconds"]
        rows = [
            [t.get("trial"), t["reward"], t.get("status"), architecture_line(t.get("architecture"))]
            + [t.get(key) for key in ("loss", "params", "flops", "seconds")]
            for t in ranked[:most]
        ]
        summary = f"The best {len(rows)} of {len(trials)} trials, by reward (click a heading to sort)"
        parts.append(Details(summary=summary, parts=[Table(columns=columns, rows=rows)]))
    failed = Counter(t.get("reason") or "no reason given" for t in trials if t.get("status") == "failed")
    if failed:
        text = f"{failed.total()} of {len(trials)} trials failed: they get the worst reward and are never best."
        rows = [[reason, count] for reason, count in failed.most_common()]
        parts += [Text(text=text), Table(columns=["Reason", "Trials"], rows=rows)]
    else:
        parts.append(Text(text="No trial failed.", tone="quiet"))
    return parts


def _verdict(results: Mapping, search: Mapping, best: Mapping, test: Mapping, trials: int) -> str:
    """The run in one sentence: test AUROC with its interval, the best architecture, what the search spent."""
    seconds = search.get("seconds")
    line = architecture_line(best.get("architecture"))
    spent = f"{search.get('children', trials):,} children" + ("" if seconds is None else f" in {duration(seconds)}")
    value, low, high = _interval(test.get("auroc"))
    if value is None:
        return f"No test AUROC; the best of {spent} is {line}."
    between = "" if low is None or high is None else f" (95 % interval {number(low)} to {number(high)})"
    strategy = f" by {results['strategy']} search" if results.get("strategy") else ""
    return f"Test AUROC {number(value)}{between} with {line}; the best of {spent}{strategy}."


def _tiles(search: Mapping, best: Mapping, test: Mapping, trials: int) -> list[tuple[str, str, str]]:
    """The numbers to see first."""
    names = [name for name in METRICS if name in test]
    tiles = [(number(_interval(test[n])[0]), METRICS[n][0], _brackets(test[n])) for n in names]
    failed = search.get("failed_children")
    children = search.get("children", trials)
    tiles.append((number(children), "children", "" if failed is None else f"{number(failed)} failed"))
    if search.get("seconds") is not None:
        rate = search.get("children_per_minute")
        remark = "" if rate is None else f"{number(rate)} children/min"
        tiles.append((duration(search["seconds"]), "search time", remark))
    if best.get("params") is not None:
        remark = "" if best.get("flops") is None else f"{number(best['flops'])} FLOPs per image"
        tiles.append((number(best["params"]), "parameters", remark))
    return tiles


def render_report(
    *,
    config: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    results: Mapping[str, Any],
    pictures: Mapping[str, Any],
    controller: Sequence[Any] = (),
) -> str:
    """The page of a finished search run, as HTML text.

    config, trials, results: the plain data of config.json, trials.jsonl and results.json. pictures: any of
    test_scores, test_labels, valid_scores, valid_labels [n]; inputs, reconstructions [k, H, W, C] in [0, 1],
    error_maps [k, H, W], example_labels, example_scores [k]. What is missing is left out of the page.
    controller: parts from `controller_report.controller_parts`, for a search that has one.
    """
    unknown = sorted(set(pictures) - set(PICTURES))
    if unknown:
        raise ValueError(f"pictures has no use for {', '.join(unknown)}: choose from {', '.join(PICTURES)}")
    search, best, test, task = (results.get(name) or {} for name in ("search", "best", "test", "task"))
    remarks = [str(remark) for name in ("limits", "notes") for remark in results.get(name) or []]
    made = {"device": results.get("device"), "seed": results.get("seed"), **(results.get("versions") or {})}
    made_parts: list[Any] = [_facts(made)]
    if config:
        settings = Table(columns=["Setting", "Value"], rows=[[k, _plain(v)] for k, v in config.items()])
        made_parts.insert(0, Code(text=results.get("command") or command(config)))
        made_parts.append(Details(summary="All settings", parts=[settings]))
    summary = [
        Tiles(items=_tiles(search, best, test, len(trials))),
        Bullets(items=remarks) if remarks else None,
    ]
    sections = [
        Section(title="Summary", parts=summary),
        Section(title="Task", parts=_task_parts(task)),
        Section(title="Test result", parts=_test_parts(test, results.get("threshold"), pictures)),
        Section(title="What it sees", parts=_example_parts(pictures)),
        Section(title="Best architecture", parts=_best_parts(best, trials, results.get("retrain") or {})),
        Section(title="Search", parts=_search_parts(config, trials, search)),
        Section(title="Controller", parts=controller),
        Section(title="All trials", parts=_trial_parts(trials)),
        Section(title="How this was made", parts=made_parts),
    ]
    name = task.get("name") or config.get("dataset") or "images"
    verdict = _verdict(results, search, best, test, len(trials))
    return page(f"Anomaly detector for {name}", verdict, sections, subtitle="jaxad search run")
