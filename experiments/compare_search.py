"""Does the controller find better architectures than chance, and which of its parts help? Paired seeds, and statistics.

    python experiments/compare_search.py                    # a small space: every child trained once, then looked up
    python experiments/compare_search.py --num-seeds 300 --children 200
    python experiments/compare_search.py --table benchmarks/tables/digits-two-layer.json       # nothing to train
    python experiments/compare_search.py --mode search --dataset fashion_mnist --ood mnist     # real searches
    python experiments/compare_search.py --resume runs/compare-20260101-120000

With --mode table it trains every architecture of a small space from scratch once and keeps the validation rewards in
table.json. Then every strategy searches that table from many seeds, which takes minutes. With --mode search every
strategy and seed is a real search on shared weights, in a process of its own; the favourites are trained from scratch
and tested.

Strategies are compared on the same seeds: median difference with its 95 % interval, Wilcoxon with Holm's correction,
probability of improvement. It says "no evidence" when that is what there is. Everything is kept as it is computed, so
a killed run goes on, and with --mode search several clients may resume it at once; open report.html.
"""

import dataclasses
from typing import Annotated, Any, Literal

from jaxad import data, report
from jaxad._utils import files
from jaxad.metrics.paired_tests import as_json, sentence, verdicts
from jaxad.nas.analysis.contenders import pairs_of
from jaxad.report.search_outcomes import Outcomes
from jaxad.runs import cli
from jaxad.runs.folder import Run
from jaxad.runs.progress import table
from jaxad.runs.runner import finish, made_by, session
from jaxad.runs.search_comparison import ComparisonConfig, by_search, by_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComparisonConfig):
    """Compare search strategies."""

    dataset: Annotated[str, data.SOURCES] = "digits"
    anomaly_ratio: float = 0.2
    mode: Literal["table", "search"] = "table"
    """Look rewards up in a table of a small space, or search for real."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if self.mode == "table" and self.table is None and self.space == "medium":
            raise ValueError("--space medium is too large for a table; choose a smaller one, or --mode search")
        if self.mode == "search" and self.table is not None:
            raise ValueError("--table is for --mode table: a real search trains its children")
        super().check()


MODES: dict[str, dict[str, Any]] = {
    "table": {},
    "search": {"space": "medium", "steps": 10, "num_seeds": 15, "children": 40},
}

MAY_DIFFER = cli.MAY_DIFFER | {"jobs", "scheduler"}


def run(config: Config) -> None:
    """The whole comparison."""
    config.check()
    task = config.load_task(config.seed) if config.table is None else None
    seen = config.tasks() if config.mode == "search" else task
    about = data.table(task) if task is not None else f"rewards of {config.table}"
    several = {"may_differ": MAY_DIFFER, "shared": config.mode == "search"}  # of real searches each is claimed
    with session(config, "compare", about, data=seen, **several) as folder:
        if folder is not None:
            known = by_table(config, task, folder) if config.mode == "table" else by_search(config, folder)
            conclude(config, config.table if task is None else task.name, folder, known)


def conclude(config: Config, task: str | None, folder: Run, known: Outcomes) -> None:
    """Tables for the terminal, results.json and report.html."""
    names, space = list(next(iter(known.outcomes.values()))), config.searched()
    found = verdicts(known.outcomes, pairs_of(names))
    rows = report.comparison_rows(found)
    if not config.quiet:
        table("comparisons", report.HEADS, rows)
    facts = {
        "task": task, "mode": config.mode, "sequences": space.cardinality,
        "functions": space.canonical_cardinality, "seeds": config.num_seeds, "children": config.children,
        "population": config.population, **known.facts,
    }  # fmt: skip
    said = sentence(found, "autoad", [name for name in ("random", "evolution") if name in names])
    shown = {"progress": known.progress, **made_by(config)}
    page = report.render_comparison(said, rows, known.curves, files.to_json(facts), **shown)
    finish(folder, facts | as_json(known.outcomes, found), lambda results: page)
    config.say(said, f"report: {folder.path / 'report.html'}")


if __name__ == "__main__":
    cli.main(run, Config, presets=MODES, preset="mode")
