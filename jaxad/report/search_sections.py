"""The sections on the search: how it went, what it found, how the best retrained, and every trial."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.nn.actions import known_actions
from jaxad.report import plots
from jaxad.report.format import METRICS, PIXEL_METRICS, architecture_line, facts
from jaxad.report.html import Code, Details, Figure, Table, Text, duration, number


def search_parts(config: Mapping, trials: Sequence[Mapping], search: Mapping) -> list[Any]:
    """Everything that shows how the search went. Repeats of known children appear only in the windows."""
    reward = config.get("reward", "auroc")
    metric = f"validation {(METRICS | PIXEL_METRICS).get(reward, (reward,))[0]}"
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


def _search_facts(metric: str, search: Mapping) -> list[Any]:
    """What the search spent, and how much architecture matters on this task."""
    spread = search.get("spread") or {}
    shown = {k: v for k, v in search.items() if k not in ("spread", "seconds")}
    if search.get("seconds") is not None:
        shown["search_time"] = duration(search["seconds"])
    if spread.get("p10") is None or spread.get("p90") is None:
        return [facts(shown)]
    p10, p50, p90 = (number(spread.get(p)) for p in ("p10", "p50", "p90"))
    gap = number(spread["p90"] - spread["p10"])
    count = spread.get("children", "")
    text = f"How much architecture matters here: {metric} of the first {count} children, proposed at random, is {p10} "
    text += f"at the 10th, {p50} at the 50th and {p90} at the 90th percentile, a spread of {gap}."
    return [facts(shown), Text(text=text)]


def best_parts(best: Mapping, trials: Sequence[Mapping], retrain: Mapping) -> list[Any]:
    """The winner beside its runners-up, in the form of Table IV."""
    ranked = _ranked(trials)
    parts: list[Any] = []
    architecture = best.get("architecture")
    if architecture and best.get("sizes"):
        caption = "The best architecture, from what it sees to its reconstruction: heights are pixels, widths channels."
        drawing = plots.architecture(architecture, best["sizes"])
        parts.append(Figure(drawing=drawing, alt=caption, caption=caption, wide=True))
    if architecture:
        others = [t for t in ranked if t["architecture"] != architecture and t.get("status") != "cached"][:4]
        heads = ["Best", *(f"Trial {t['trial']} ({number(t['reward'])})" for t in others)]
        parts.append(_table_iv([architecture, *(t["architecture"] for t in others)], heads))
    elif best.get("table"):
        parts.append(Code(text=best["table"]))
    rest = {k: v for k, v in best.items() if k not in ("architecture", "table", "tokens", "sizes")}
    rest |= {k: number(best[k]) for k in ("params", "flops") if best.get(k) is not None}
    if best.get("tokens"):
        rest["tokens"] = " ".join(str(t) for t in best["tokens"])
    parts.append(facts(rest))
    return parts + _retrain_parts(retrain)


def _table_iv(architectures: Sequence[Mapping], heads: Sequence[str]) -> Table:
    """Architectures side by side in the form of the paper's Table IV: an action a row."""
    known = known_actions("child") | known_actions("layer")
    rows: list[Sequence[Any] | str] = []
    above = 0
    for (name, layer), values in plots.action_columns(architectures).items():
        if layer > above:
            rows.append(f"Layer-{layer}")
            above = layer
        if name in known and known[name].window:
            values = [v if v is None else f"{v}×{v}" for v in values]
        label = known[name].label if name in known else name
        rows.append([label, *("–" if v is None else str(v) for v in values)])
    return Table(columns=["Action", *heads], rows=rows)


def _retrain_parts(retrain: Mapping) -> list[Any]:
    """How the candidates did when trained from scratch, and when the chosen one was stopped."""
    candidates = retrain.get("candidates") or []
    if not candidates:
        return []
    columns = ["Trial", "Reward in the search", "Retrained, best evaluation per seed", "Mean", "Sd"]
    rows = []
    for candidate in candidates:
        valid = [v for v in candidate["valid"] if v >= 0]
        spread = (number(np.mean(valid)), number(np.std(valid))) if valid else ("none", "none")
        rows.append([candidate["trial"], number(candidate["search_reward"]), ", ".join(map(number, valid)), *spread])
    text = f"Retrained from scratch for {retrain['steps']:,} steps and validated on the way; what was kept is of "
    text += f"step {retrain['step']:,}, where its validation reward was {number(retrain['valid'])}."
    caption = "Validation reward while the candidates retrain, a line for every seed."
    drawing = plots.retraining([(f"trial {c['trial']}", c["evals"], c["curves"]) for c in candidates])
    return [Text(text=text), Table(columns=columns, rows=rows), Figure(drawing=drawing, alt=caption, caption=caption)]


def trial_parts(trials: Sequence[Mapping], most: int = 50) -> list[Any]:
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
        tried = Counter(_hypothesis(t) for t in trials)
        lost = Counter(_hypothesis(t) for t in trials if t.get("status") == "failed")
        rows = [[name, lost[name], count, f"{lost[name] / count:.0%}"] for name, count in sorted(tried.items())]
        parts.append(Table(columns=["Hypothesis", "Failed", "Trials", "Share"], rows=rows))
    else:
        parts.append(Text(text="No trial failed.", tone="quiet"))
    return parts


def _hypothesis(trial: Mapping) -> str:
    return (trial.get("architecture") or {}).get("hypothesis") or "unknown"


def _rewards(trials: Sequence[Mapping]) -> list[float | None]:
    """Rewards, None for failed trials whatever worst reward they were given."""
    return [None if t.get("status") == "failed" else t.get("reward") for t in trials]


def _ranked(trials: Sequence[Mapping]) -> list[Mapping]:
    """Trials that have a reward, best first."""
    scored = [(r, t) for r, t in zip(_rewards(trials), trials) if r is not None]
    return [t for _, t in sorted(scored, key=lambda pair: -pair[0])]
