"""Tables of what search_throughput.py measured."""

import itertools
import statistics
from typing import Any


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns of text, the first two to the left and numbers to the right; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    return "\n".join(
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    )


def plural(count: int, noun: str, ending: str) -> str:
    """ "1 child", "2 children"."""
    return f"{count} {noun}{ending if count != 1 else ''}"


def median(records: list[dict[str, Any]], *path: str) -> float:
    """Of a field, which may lie in a dict of the record."""
    values = []
    for record in records:
        for name in path:
            record = record[name]
        values.append(record)
    return statistics.median(values)


def more(record: dict[str, Any]) -> str:
    """What to write before the seconds of a measurement that was given up."""
    return "> " if record["gave_up"] else ""


def conditions(records: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Records by method and cache, in the order of measurement."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["method"], record["cache"]), []).append(record)
    return groups


def describe(name: tuple[str, str], group: list[dict[str, Any]]) -> tuple[str, ...]:
    """The row of a condition."""
    seconds, first = {k: median(group, "seconds", k) for k in ("compile", "train_and_score", "other")}, group[0]
    wall, total = median(group, "wall"), median(group, "total")
    extrapolated = (
        f" EXTRAPOLATED from {first['children']}" if first["extrapolated_to"] and not first["gave_up"] else ""
    )
    return (
        name[0] + extrapolated,
        name[1],
        f"{more(first)}{total:.1f}",
        f"{median(group, 'cpu'):.1f}",
        f"{60 * len(first['rewards']) / wall:.1f}",
        *(f"{value:.1f}" for value in seconds.values()),
        f"{100 * seconds['other'] / wall:.1f} %",
        f"{median(group, 'programs', 'count'):.0f}",
        f"{median(group, 'programs', 'from_cache'):.0f}",
        f"{median(group, 'peak_mib'):.0f}",
        f"{median(group, 'startup'):.1f}",
        f"{median(group, 'failed'):.0f}",
    )


HEADING = ("method", "cache", "wall s", "cpu s", "children/min", "compile s", "train+score s", "other s", "other")
HEADING += ("programs", "from cache", "peak MiB", "start s", "failed")


def report(results: list[dict[str, Any]]) -> str:
    """All tables as text."""
    done = [record for record in results if "error" not in record]
    lines = []
    compared = [record for record in done if record["purpose"] == "compare"]
    for steps in dict.fromkeys(record["steps"] for record in compared):
        chosen = conditions([record for record in compared if record["steps"] == steps])
        children = max(record["extrapolated_to"] or record["children"] for group in chosen.values() for record in group)
        repeats = max(len(group) for group in chosen.values())
        lines += [f"\n{plural(children, 'child', 'ren')} x {plural(steps, 'step', 's')}, median of {repeats}"]
        lines += [table([HEADING, *(describe(name, group) for name, group in chosen.items())])]
        lines += ratios(chosen) + agreement(chosen)
    lines += per_step(compared)
    grown = [r for r in done if r["purpose"] == "growth" or (r["method"], r["cache"]) == ("ours", "cold")]
    grown = [r for r in grown if r["purpose"] != "fill" and r["steps"] == grown[0]["steps"]]
    if any(record["purpose"] == "growth" for record in grown):
        rows = [("children", "", "wall s", "s/child", "programs", "peak MiB")]
        for count in sorted({record["children"] for record in grown}):
            group = [record for record in grown if record["children"] == count]
            wall = median(group, "wall")
            numbers = (f"{wall:.1f}", f"{wall / count:.2f}", f"{median(group, 'programs', 'count'):.0f}")
            rows.append((str(count), "", *numbers, f"{median(group, 'peak_mib'):.0f}"))
        lines += [f"\nGrowth of ours, cold, {grown[0]['steps']} steps", table(rows)]
    lines += [f"\nFAILED: {record['command_line']}: {record['error']}" for record in results if "error" in record]
    return "\n".join(lines)


def ratios(groups: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    """How many times longer the others take than ours, round by round."""
    lines = []
    for ours, other in itertools.product(groups, groups):
        if ours[0] != "ours" or other[0] == "ours" or (other[0] == "naive" and other[1] != ours[1]):
            continue
        totals = [{record["repeat"]: record["total"] for record in groups[name]} for name in (ours, other)]
        values = [totals[1][repeat] / totals[0][repeat] for repeat in totals[0] if repeat in totals[1]]
        if values:
            spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
            first, given_up = groups[other][0], groups[ours][0]["gave_up"]
            note = ", EXTRAPOLATED" if first["extrapolated_to"] and not first["gave_up"] else ""
            value = f"{'UNKNOWN, at most ' if given_up else more(first)}{statistics.median(values):.2f}{spread}{note}"
            lines.append(f"  {' '.join(other)} / {' '.join(ours)}: {value}")
    return lines


def agreement(groups: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    """How far the rewards of naive, which sees the same batches, are from ours."""
    rewards = {method: group[0]["rewards"] for (method, _), group in groups.items()}
    gaps = sorted(abs(a - b) for a, b in zip(rewards.get("ours", ()), rewards.get("naive", ())))
    if not gaps:
        return []
    return [f"  rewards of naive and ours differ by {statistics.median(gaps):.1e} (median), {gaps[-1]:.1e} (most)"]


def per_step(compared: list[dict[str, Any]]) -> list[str]:
    """Training and scoring of one child, told apart by the shortest and the longest training."""
    steps = sorted({record["steps"] for record in compared})
    if len(steps) < 2:
        return []
    rows = [("method", "cache", "ms/step", "ms to score")]
    short, long = (conditions([r for r in compared if r["steps"] == count]) for count in (steps[0], steps[-1]))
    for name in short.keys() & long.keys():
        pair = short[name], long[name]
        times = [median(group, "seconds", "train_and_score") / group[0]["children"] for group in pair]
        step = (times[1] - times[0]) / (steps[-1] - steps[0])
        rows.append((*name, f"{1000 * step:.1f}", f"{1000 * (times[0] - steps[0] * step):.1f}"))
    heading = f"\nTrain and score, a child on average, from the difference between {steps[0]} and {steps[-1]} steps"
    return [heading, table([rows[0], *sorted(rows[1:])])]
