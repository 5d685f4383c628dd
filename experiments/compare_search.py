"""Does the controller find better architectures than chance, and which of its parts help? Paired seeds, and statistics.

    python experiments/compare_search.py                    # a small space: every child trained once, then looked up
    python experiments/compare_search.py --seeds 300 --children 200
    python experiments/compare_search.py --mode search --dataset fashion_mnist --ood mnist     # real searches
    python experiments/compare_search.py --resume runs/compare-20260101-120000

With --mode table it trains every architecture of a small space from scratch once and keeps the validation rewards.
Then every strategy searches that table from many seeds, which takes minutes. With --mode search every strategy and
seed is a real search on shared weights, in a process of its own; the favourites are trained from scratch and tested.

Strategies are compared on the same seeds: median difference with its 95 % interval, Wilcoxon with Holm's correction,
probability of improvement. It says "no evidence" when that is what there is. Everything is kept as it is computed, so
a killed run goes on; open report.html.
"""

import dataclasses
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxad import data, report
from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.metrics.paired_tests import as_json, rank_correlation, sentence, verdicts
from jaxad.nas import trial
from jaxad.nas.analysis.benchmark import Cell, best_at, fair_seconds, favourite, rewards_from_scratch, search_cell
from jaxad.nas.analysis.tabular import explore_table, train_table
from jaxad.nas.executors.population import make_executor
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import AutoADConfig, ablations, autoad
from jaxad.nas.strategies.registry import make_strategy
from jaxad.report import plots
from jaxad.runs import cli
from jaxad.runs import folder as runs
from jaxad.runs.processes import in_processes
from jaxad.runs.progress import Progress, table
from jaxad.types import Search


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig, data.TaskConfig):
    """Compare search strategies."""

    dataset: str = "digits"
    anomaly_ratio: float = 0.2
    """Anomalous share of validation and test."""

    mode: Literal["table", "search"] = "table"
    """Look rewards up in a table of a small space, or search for real."""

    space: Literal["tiny", "small", "medium"] = "small"
    """Sequences: tiny 192, small 3,072 (of one layer, for a table), medium 85 million (two layers, --mode search)."""
    steps: int = 20
    """Training steps of every child; 10 with --mode search."""
    batch_size: int = 32
    """Images of one step."""
    retrain_steps: int = 60
    """With --mode search: training steps from scratch of favourites, and of the children that share no weights."""
    correlate: int = 2
    """With --mode search: seeds whose random children are trained from scratch, too, to see whether ranks agree."""

    seeds: int = 100
    """Searches of every strategy; 15 with --mode search."""
    children: int = 100
    """Distinct architectures that a search evaluates; 40 with --mode search."""
    population: int = 5
    """Proposals of one iteration."""
    seed: int = 0
    """Decides everything random."""
    without: tuple[str, ...] = ()
    """Leave these out: no-curiosity, no-replay, no-sharpening, plain-lstm, paper, evolution, random-from-scratch."""
    controller: AutoADConfig = dataclasses.field(default_factory=AutoADConfig)
    """Settings of the controller whose parts are left out one by one."""

    jobs: int = 1
    """With --mode search: processes at a time."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("seeds", "children", "population", "steps", "retrain_steps", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; the least is 1")
        if self.seeds < 2:
            raise ValueError(f"--seeds is {self.seeds}; a comparison needs at least 2")
        if not 0 <= self.correlate <= self.seeds:
            raise ValueError(f"--correlate is {self.correlate}; give a number from 0 to --seeds {self.seeds}")
        if self.mode == "table" and self.space == "medium":
            raise ValueError("--space medium is too large for a table; choose tiny or small, or --mode search")
        size = SPACES[self.space].canonical_cardinality
        if self.children % self.population or self.children > size:
            raise ValueError(
                f"--children is {self.children}; give a multiple of --population {self.population} up to {size}"
            )
        for name in self.without:
            if name not in CAN_BE_LEFT_OUT:
                raise ValueError(f"--without {name}: choose among {', '.join(CAN_BE_LEFT_OUT)}")
        self.controller.check()
        trial_config(self)


MODES: dict[str, dict[str, Any]] = {
    "table": {},
    "search": {"space": "medium", "steps": 10, "seeds": 15, "children": 40},
}
SPACES = {
    "tiny": SearchSpace(
        num_layers=1, hypotheses=("centroid", "reconstruction"), distances=("l1", "ssim"), channels=(4,),
        kernels=(1, 3), pool_kernels=(1, 3), norms=("none", "batch", "instance"), activations=("relu", "linear"),
    ),
    "small": SearchSpace(
        num_layers=1, channels=(8, 32), kernels=(1, 3), pool_kernels=(1, 3),
        activations=("relu", "tanh", "sigmoid", "linear"),
    ),
    "medium": SearchSpace(num_layers=2, channels=(8, 16, 32)),
}  # fmt: skip
MAY_DIFFER = cli.MAY_DIFFER | {"jobs"}
WINDOW = 20  # children, as in Fig. 3 of the paper
SCRATCH = "random-from-scratch"
CAN_BE_LEFT_OUT = ("no-curiosity", "no-replay", "no-sharpening", "plain-lstm", "paper", "evolution", SCRATCH)


def run(config: Config) -> None:
    """The whole comparison."""
    config.check()
    task = config.load_task(config.seed)
    with config.open_folder("compare", may_differ=MAY_DIFFER) as folder:
        config.say(data.table(task), f"run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        compared = by_table if config.mode == "table" else by_search
        outcomes, curves, facts = compared(config, task, folder)
        conclude(config, task, folder, outcomes, curves, facts)


def trial_config(config: Config, *, steps: int | None = None) -> trial.TrialConfig:
    """What the flags say about one child."""
    return trial.TrialConfig(steps=steps or config.steps, batch_size=config.batch_size)


def methods(config: Config, space: SearchSpace) -> dict[str, Search]:
    """Everything that is compared, by name: the controller, each of its parts left out, and the others."""
    settings = ablations(config.controller) | {"paper": AutoADConfig.paper()}
    found = {name: autoad(space, population=config.population, config=c) for name, c in settings.items()}
    for name in ("random", "evolution"):
        found[name] = make_strategy(name, space, population=config.population)
    return {name: search for name, search in found.items() if name not in config.without}


# ---- a table of rewards ------------------------------------------------------------------------------------------


def by_table(config: Config, task: data.Task, folder: runs.Run) -> tuple[dict, list[report.Curves], dict]:
    """Search a table from many seeds -> outcomes, curves, facts."""
    space = SPACES[config.space]
    rewards = reward_table(config, task, space, folder)
    found = {name: searched(config, space, rewards, folder, name, s) for name, s in methods(config, space).items()}
    best = {name: plots.running_best(values) for name, values in found.items()}
    outcomes = {
        "best reward of a search": {name: values[:, -1] for name, values in best.items()},
        "mean reward of a search": {name: values.mean(1) for name, values in found.items()},
    }
    seeds = f"{config.seeds} seeds; the median, and the quartiles of the first."
    count = np.arange(1, config.children + 1)
    curves = [report.Curves(best, count, "children", "best reward so far", f"Best reward so far of {seeds}")]
    if config.children >= 2 * WINDOW:
        means = {
            name: np.lib.stride_tricks.sliding_window_view(values, WINDOW, axis=1).mean(-1)
            for name, values in found.items()
        }
        caption = f"Mean reward of the last {WINDOW} children of {seeds}"
        curves.append(report.Curves(means, count[WINDOW - 1 :], "children", f"mean of the last {WINDOW}", caption))
    facts = {"table": dict(zip(("p10", "p50", "p90", "best"), np.percentile(rewards, (10, 50, 90, 100))))}
    return outcomes, curves, facts


def reward_table(config: Config, task: data.Task, space: SearchSpace, folder: runs.Run) -> np.ndarray:
    """Validation reward of every sequence [cardinality], each function trained once from weights of its own."""
    known = {tuple(record["tokens"]): record["reward"] for record in runs.read_trials(folder)}
    images = trial.put(task.train.images, task.valid.images, task.valid.labels)
    with (
        closing(make_executor("auto", images, trial_config(config))) as executor,
        Progress(space.canonical_cardinality, label="table", start=len(known), quiet=config.quiet) as progress,
    ):

        def on_child(tokens: tuple[int, ...], reward: float) -> None:
            runs.append_trial(folder, {"trial": len(known), "tokens": tokens, "reward": reward})
            known[tokens] = reward
            progress.update(len(known), best=max(known.values()))

        channels = task.train.images.shape[-1]
        return train_table(
            space, executor, seed=config.seed, image_channels=channels, known=dict(known), on_child=on_child
        )


def searched(
    config: Config, space: SearchSpace, rewards: np.ndarray, folder: runs.Run, name: str, search: Search
) -> np.ndarray:
    """Rewards [seeds, children] in the order of evaluation."""
    path = folder.path / f"{name}.npy"
    if path.exists():
        return np.load(path)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), np.arange(config.seeds))
    options = {"children": config.children, "population": config.population}
    started = time.perf_counter()
    program = jax.jit(
        jax.vmap(lambda key, known: explore_table(search, space, known, key, **options).rewards, (0, None))
    )
    found = np.asarray(program(keys, jnp.asarray(rewards)))
    config.say(f"{name}: {config.seeds} searches of {config.children} children, {time.perf_counter() - started:.1f} s")
    files.write_array(path, found)
    return found


# ---- real searches -----------------------------------------------------------------------------------------------


def by_search(config: Config, task: data.Task, folder: runs.Run) -> tuple[dict, list[report.Curves], dict]:
    """Search for real, then test the favourites -> outcomes, curves, facts."""
    names, seeds = [*methods(config, SPACES[config.space]), SCRATCH], range(config.seeds)
    names = [name for name in names if name not in config.without]
    options = {"jobs": config.jobs, "quiet": config.quiet}
    # Seed by seed, so that whatever changes on the machine meanwhile meets all methods.
    pieces = {cell_path(folder.path, seed, name): (config, seed, name) for seed in seeds for name in names}
    in_processes(search_for_real, pieces, label="searches", **options)
    cells = {name: [read_cell(folder.path, seed, name) for seed in seeds] for name in names}
    quickest = [fair_seconds({name: cells[name][seed] for name in names}) for seed in seeds]
    pieces = {cell_path(folder.path, seed, "tests"): (config, seed, tuple(names), quickest[seed]) for seed in seeds}
    in_processes(judge_favourites, pieces, label="tests", **options)
    tests = [json.loads(path.read_text()) for path in pieces]

    sharing = [name for name in names if name != SCRATCH]  # from scratch rewards are after more steps: another scale
    rewards = {name: np.array([cell.rewards for cell in cells[name]]) for name in sharing}
    outcomes = {
        f"test AUROC after equal {what}": {
            name: np.array([t["auroc"][f"{name} {what}"] for t in tests]) for name in names
        }
        for what in ("children", "seconds")
    } | {"best reward of a search": {name: values.max(1) for name, values in rewards.items()}}
    seconds = np.linspace(0, max(quickest), 100)[1:]
    about = "best reward so far", f"Best reward so far on shared weights of {config.seeds} seeds; the median."
    over_time = {name: np.array([best_at(cell, seconds) for cell in cells[name]]) for name in sharing}
    over_children = {name: plots.running_best(values) for name, values in rewards.items()}
    curves = [
        report.Curves(over_children, np.arange(1, config.children + 1), "children", *about),
        report.Curves(over_time, seconds, "seconds, compilation and strategy included", *about),
    ]
    ranks = [pair for t in tests for pair in t["ranks"]]
    facts = {
        "seconds of a search": {name: float(np.median([c.elapsed[-1] for c in cells[name]])) for name in names},
        "shared against from scratch": rank_correlation(*zip(*ranks)) if ranks else None,
    }
    return outcomes, curves, facts


def cell_path(folder: Path, seed: int, name: str) -> Path:
    """Where a search leaves what it evaluated, and a seed its tests."""
    return folder / "cells" / f"{seed}-{name}.json"


def read_cell(folder: Path, seed: int, name: str) -> Cell:
    """A search that has been done."""
    return Cell(**json.loads(cell_path(folder, seed, name).read_text()))


def search_for_real(path: Path, config: Config, seed: int, name: str) -> None:
    """One strategy on one seed."""
    backend.enable_compilation_cache(config.cache_dir)
    space, share = SPACES[config.space], name != SCRATCH
    cell = search_cell(
        methods(config, space)[name if share else "random"],
        space,
        config.load_task(config.seed + seed),  # every seed has images of its own
        trial_config(config, steps=config.steps if share else config.retrain_steps),
        key=jax.random.fold_in(jax.random.key(config.seed), seed),
        children=config.children,
        population=config.population,
        share=share,
    )
    files.write_json(path, cell)


def judge_favourites(path: Path, config: Config, seed: int, names: tuple[str, ...], quickest: float) -> None:
    """Train what the searches of a seed found from scratch, each architecture once, and test it once."""
    backend.enable_compilation_cache(config.cache_dir)
    space, task = SPACES[config.space], config.load_task(config.seed + seed)
    settings = trial_config(config, steps=config.retrain_steps)
    own = {"seed": config.seed + seed, "image_channels": task.train.images.shape[-1]}

    def rewards(tokens: list[list[int]], part: data.Split) -> list[float]:
        images = trial.put(task.train.images, part.images, part.labels)
        with closing(make_executor("auto", images, settings)) as executor:
            return list(rewards_from_scratch(space, np.array(tokens), executor, **own))

    cells = {name: read_cell(path.parents[1], seed, name) for name in names}
    found = {f"{name} children": favourite(cell) for name, cell in cells.items()}
    found |= {f"{name} seconds": favourite(cell, quickest) for name, cell in cells.items()}
    unique = sorted({tuple(tokens) for tokens in found.values()})
    tested = dict(zip(unique, rewards([list(tokens) for tokens in unique], task.test)))
    drawn = cells["random"]
    ranks = zip(drawn.rewards, rewards(drawn.tokens, task.valid)) if seed < config.correlate else []
    result = {"auroc": {what: tested[tuple(tokens)] for what, tokens in found.items()}, "ranks": list(ranks)}
    files.write_json(path, result)


# ---- the verdict -------------------------------------------------------------------------------------------------


def conclude(
    config: Config,
    task: data.Task,
    folder: runs.Run,
    outcomes: dict,
    curves: list[report.Curves],
    facts: dict[str, Any],
) -> None:
    """Tables for the terminal, results.json and report.html."""
    names = list(next(iter(outcomes.values())))
    pairs = [("autoad", name) for name in names if name != "autoad"] + [("evolution", "random"), ("random", SCRATCH)]
    pairs = [pair for pair in pairs if set(pair) <= set(names)]
    found = verdicts(outcomes, pairs)
    rows = report.comparison_rows(found)
    if not config.quiet:
        table("comparisons", report.HEADS, rows)
    space = SPACES[config.space]
    facts = {
        "task": task.name, "mode": config.mode, "sequences": space.cardinality,
        "functions": space.canonical_cardinality, "seeds": config.seeds, "children": config.children,
        "population": config.population, **facts,
    }  # fmt: skip
    said = sentence(found, "autoad", [name for name in ("random", "evolution") if name in names])
    files.write_text(
        folder.path / "report.html",
        report.render_comparison(said, rows, curves, files.to_json(facts), files.to_json(config)),
    )
    files.write_json(folder.path / "results.json", facts | as_json(outcomes, found) | runs.environment())
    config.say(said, f"report: {folder.path / 'report.html'}")


if __name__ == "__main__":
    cli.main(run, Config, presets=MODES, preset="mode")
