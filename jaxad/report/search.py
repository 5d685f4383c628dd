"""The report of a finished search: what was searched, what was found, how good it is on the test set.

`render_report` composes one page (see `jaxad.report.html`) from the plain data of a run folder. Sections without
data are left out. Rewards are validation figures; everything under "Test result" was measured once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxad.report.common import made_parts, metric_tiles, task_parts
from jaxad.report.format import architecture_line, interval
from jaxad.report.html import Bullets, Section, Tiles, duration, number, page
from jaxad.report.league import league_parts, returned_rival
from jaxad.report.search_sections import best_parts, search_parts, trial_parts
from jaxad.report.test_sections import example_parts, pixel_parts, result_parts
from jaxad.report.workers import worker_parts

PICTURES = (
    "test_scores", "test_labels", "valid_scores", "valid_labels",
    "inputs", "reconstructions", "error_maps", "example_labels", "example_scores", "example_masks", "flagged",
)  # fmt: skip


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
    error_maps, example_masks, flagged [k, H, W], example_labels, example_scores [k]. What is missing is left out.
    controller: parts from `controller_parts`, for a search that has one.
    """
    unknown = sorted(set(pictures) - set(PICTURES))
    if unknown:
        raise ValueError(f"pictures has no use for {', '.join(unknown)}: choose from {', '.join(PICTURES)}")
    search, best, test, task = (results.get(name) or {} for name in ("search", "best", "test", "task"))
    remarks = [str(remark) for name in ("limits", "notes") for remark in results.get(name) or []]
    rival = returned_rival(results)
    summary = [
        Tiles(items=_tiles(search, best, test, len(trials), "of the best child" if rival else "")),
        Bullets(items=remarks) if remarks else None,
    ]
    reward = str(config.get("reward", "auroc"))
    beside = f"What the search has found. Returned and tested is {rival} in its place, by validation." if rival else ""
    sections = [
        Section(title="Summary", parts=summary),
        Section(title="League", parts=league_parts(results.get("league") or [], results.get("verdict"), reward)),
        Section(title="Task", parts=task_parts(task)),
        Section(title="Test result", parts=result_parts(test, results.get("threshold"), pictures)),
        Section(title="Pixels", parts=pixel_parts(results.get("segmentation") or {})),
        Section(title="What it sees", parts=example_parts(pictures)),
        Section(title="Best architecture", parts=best_parts(best, trials, results.get("retrain") or {}), intro=beside),
        Section(title="Search", parts=search_parts(config, trials, search)),
        Section(title="Workers", parts=worker_parts(results.get("workers") or [])),
        Section(title="Controller", parts=controller),
        Section(title="All trials", parts=trial_parts(trials)),
        Section(title="How this was made", parts=made_parts(config, results)),
    ]
    name = task.get("name") or config.get("dataset") or "images"
    verdict = _verdict(results, search, best, test, len(trials))
    return page(f"Anomaly detector for {name}", verdict, sections, subtitle="jaxad search run")


def _verdict(results: Mapping, search: Mapping, best: Mapping, test: Mapping, trials: int) -> str:
    """The run in one sentence: test AUROC with its interval, what was returned, what the search spent."""
    seconds = search.get("seconds")
    rival, line = returned_rival(results), architecture_line(best.get("architecture"))
    spent = f"{search.get('children', trials):,} children" + ("" if seconds is None else f" in {duration(seconds)}")
    value, low, high = interval(test.get("auroc"))
    if value is None:
        return f"No test AUROC; the best of {spent} is {line}."
    between = "" if low is None or high is None else f" (95 % interval {number(low)} to {number(high)})"
    strategy = f" by {results['strategy']} search" if results.get("strategy") else ""
    if rival is not None:
        return f"Test AUROC {number(value)}{between} with {rival}, which validation prefers to {spent}{strategy}."
    return f"Test AUROC {number(value)}{between} with {line}; the best of {spent}{strategy}."


def _tiles(search: Mapping, best: Mapping, test: Mapping, trials: int, owner: str) -> list[tuple[str, str, str]]:
    """The numbers to see first; `owner` says of what the parameters are, where that is not what was tested."""
    tiles = metric_tiles(test)
    failed = search.get("failed_children")
    children = search.get("children", trials)
    tiles.append((number(children), "children", "" if failed is None else f"{number(failed)} failed"))
    if search.get("seconds") is not None:
        rate = search.get("children_per_minute")
        remark = "" if rate is None else f"{number(rate)} children/min"
        tiles.append((duration(search["seconds"]), "search time", remark))
    if best.get("params") is not None:
        remark = "" if best.get("flops") is None else f"{number(best['flops'])} FLOPs per image"
        tiles.append((number(best["params"]), " ".join(["parameters", owner]).strip(), remark))
    return tiles
