"""Does the controller find better architectures than chance, and which of its parts help? Paired seeds, and statistics.

    python experiments/compare_search.py                    # a small space: every child trained once, then looked up
    python experiments/compare_search.py --seeds 300 --children 200
    python experiments/compare_search.py --resume runs/compare-20260101-120000

What it does: trains every architecture of a small space from scratch once and keeps the validation rewards in a table.
Then every strategy searches that table from many seeds, which takes seconds, and is compared on the same seeds: median
difference with its 95 % interval, Wilcoxon with Holm's correction, probability of improvement. It says "no evidence"
when that is what there is. Everything is kept as it is computed, so a killed run goes on; open report.html.
"""

import dataclasses
import time
from contextlib import closing
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxad import backend, cli, data, files, pages, plots, runs
from jaxad.plots import running_best as best_so_far
from jaxad.progress import Progress, table
from jaxad.search import supernet, trial
from jaxad.search.autoad import AutoADConfig, ablations, autoad
from jaxad.search.comparison import Paired, compare
from jaxad.search.evaluator import make_executor
from jaxad.search.space import SearchSpace
from jaxad.search.strategies import make_strategy
from jaxad.search.tabular import explore_table, sequences
from jaxad.types import Search


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Compare search strategies on a table of rewards."""

    dataset: str = "digits"
    """Normal images, as in autoad_search.py."""
    normal_classes: tuple[str, ...] = ()
    """Classes of the dataset that are normal."""
    ood: tuple[str, ...] = ()
    """Anomalous image sets."""
    limit: int | None = None
    """Use at most so many normal images."""
    contamination: float = 0.2
    """Anomalous share of validation and test."""
    steps: int = 20
    """Training steps of every child of the table."""
    batch_size: int = 32
    """Images of one step."""

    seeds: int = 100
    """Searches of every strategy."""
    children: int = 100
    """Distinct architectures that a search evaluates."""
    population: int = 5
    """Proposals of one iteration."""
    seed: int = 0
    """Decides everything random."""
    controller: AutoADConfig = dataclasses.field(default_factory=AutoADConfig)
    """Settings of the controller whose parts are left out one by one."""
    space: Literal["small", "tiny"] = "small"
    """Small has 3,072 sequences; tiny has 192 and shows how it works."""

    output: str | None = None
    """Run folder to make; by default runs/compare-DATE-TIME."""
    resume: str | None = None
    """Run folder to continue."""
    quiet: bool = False
    """Print nothing but errors."""


SPACES = {
    "small": SearchSpace(
        num_layers=1, channels=(8, 32), kernels=(1, 3), pool_kernels=(1, 3),
        activations=("relu", "tanh", "sigmoid", "linear"),
    ),
    "tiny": SearchSpace(
        num_layers=1, hypotheses=("centroid", "reconstruction"), distances=("l1", "ssim"), channels=(4,),
        kernels=(1, 3), pool_kernels=(1, 3), norms=("none", "batch", "instance"), activations=("relu", "linear"),
    ),
}  # fmt: skip
CHUNK = 32  # children between two writes of the table


def run(config: Config) -> None:
    """The whole comparison."""
    for name in ("seeds", "children", "population", "steps"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name} is {getattr(config, name)}; the least is 1")
    config.controller.check()
    space = SPACES[config.space]
    if config.children % config.population or config.children > space.canonical_cardinality:
        raise ValueError(
            f"--children is {config.children}; give a multiple of --population {config.population} "
            f"up to {space.canonical_cardinality}"
        )
    task = data.check_task(
        data.load_task(
            config.dataset, ood=config.ood, normal_classes=config.normal_classes, limit=config.limit,
            contamination=config.contamination, seed=config.seed,
        )
    )  # fmt: skip
    if config.resume:
        folder = runs.open_run(config.resume, config, may_differ={"output", "resume", "quiet"})
    else:
        folder = runs.create_run(config.output, config, name="compare")
    with folder:
        say(config, data.table(task), f"run folder: {folder.path}")
        backend.enable_compilation_cache(None)
        rewards = reward_table(config, task, space, folder)
        found = {
            name: searched(config, space, rewards, folder, name, search) for name, search in methods(config, space)
        }
        report(config, task, space, rewards, found, folder)


# ---- the table ---------------------------------------------------------------------------------------------------


def reward_table(config: Config, task: data.Task, space: SearchSpace, folder: runs.Run) -> np.ndarray:
    """Validation reward of every sequence [cardinality], each function trained once from weights of its own."""
    every = sequences(space)
    canonical = np.unique(space.canonical(every), axis=0)
    known = {tuple(record["tokens"]): record["reward"] for record in runs.read_trials(folder)}
    waiting = [tokens for tokens in canonical if tuple(tokens.tolist()) not in known]
    images = trial.put(task.train.images, task.valid.images, task.valid.labels)
    settings = trial.TrialConfig(steps=config.steps, batch_size=config.batch_size)
    with (
        closing(make_executor("auto", images, settings)) as executor,
        Progress(len(canonical), label="table", start=len(known), quiet=config.quiet) as progress,
    ):
        for start in range(0, len(waiting), CHUNK):
            chunk = waiting[start : start + CHUNK]
            jobs = [job_of(config, space, tokens, task.train.images.shape[-1]) for tokens in chunk]
            for tokens, result in zip(chunk, executor(jobs)):
                usable = result.verdict is not None and bool(result.verdict.usable)
                reward = float(result.verdict.reward) if usable else trial.WORST_REWARD
                known[tuple(tokens.tolist())] = reward
                runs.append_trial(folder, {"trial": len(known) - 1, "tokens": tokens.tolist(), "reward": reward})
                progress.update(len(known), best=max(known.values()))
    return np.array([known[tuple(tokens)] for tokens in space.canonical(every).tolist()], np.float32)


def job_of(config: Config, space: SearchSpace, tokens: np.ndarray, channels: int) -> trial.Job:
    """A child with weights of its own; which, follows from the seed and its tokens."""
    rng = np.random.default_rng([config.seed, *tokens.tolist()])
    architecture = space.to_architecture(tokens)
    params = supernet.take(supernet.init(rng, space, channels), architecture)
    return trial.Job(architecture, params, jax.random.key(int(rng.integers(2**31))))


# ---- the searches ------------------------------------------------------------------------------------------------


def methods(config: Config, space: SearchSpace) -> list[tuple[str, Search]]:
    """Everything that is compared, by name."""
    found = [(name, autoad(space, population=config.population, config=c)) for name, c in controllers(config).items()]
    return found + [
        (name, make_strategy(name, space, population=config.population)) for name in ("random", "evolution")
    ]


def controllers(config: Config) -> dict[str, AutoADConfig]:
    """The controller, each of its parts left out, and the paper's constants."""
    return ablations(config.controller) | {"paper": AutoADConfig.paper()}


def searched(
    config: Config, space: SearchSpace, rewards: np.ndarray, folder: runs.Run, name: str, search: Search
) -> np.ndarray:
    """Rewards [seeds, children] in the order of evaluation."""
    path = folder.path / f"{name}.npy"
    if path.exists():
        return np.load(path)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), np.arange(config.seeds))
    table_ = jnp.asarray(rewards)
    options = {"children": config.children, "population": config.population}
    started = time.perf_counter()
    program = jax.jit(jax.vmap(lambda key: explore_table(search, space, table_, key, **options).rewards))
    found = np.asarray(program(keys))
    say(config, f"{name}: {config.seeds} searches of {config.children} children, {time.perf_counter() - started:.1f} s")
    files.write_array(path, found)
    return found


# ---- the verdict -------------------------------------------------------------------------------------------------


def comparisons(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The controller against the others, and against itself without each part."""
    return [("autoad", name) for name in found if name != "autoad"] + [("evolution", "random")]


def report(
    config: Config,
    task: data.Task,
    space: SearchSpace,
    rewards: np.ndarray,
    found: dict[str, np.ndarray],
    folder: runs.Run,
) -> None:
    """Tables for the terminal, results.json and report.html."""
    final = {name: best_so_far(values)[:, -1] for name, values in found.items()}
    average = {name: values.mean(1) for name, values in found.items()}
    pairs = comparisons(found)
    verdicts = {"best of a search": compare(final, pairs), "mean of a search": compare(average, pairs)}
    heads = (
        "compared by",
        "first",
        "second",
        "median difference",
        "95 % interval",
        "P(improvement)",
        "p (Holm)",
        "verdict",
    )
    rows = [(what, *pair, *cells(v)) for what, by_pair in verdicts.items() for pair, v in by_pair.items()]
    if not config.quiet:
        table("comparisons", heads, rows)
    facts = {
        "task": task.name, "sequences": space.cardinality, "functions": space.canonical_cardinality,
        "seeds": config.seeds, "children": config.children, "population": config.population,
        "table": dict(zip(("p10", "p50", "p90", "best"), np.percentile(rewards, (10, 50, 90, 100)))),
    }  # fmt: skip
    results = facts | {
        "best": {name: dict(zip(("p25", "p50", "p75"), np.percentile(v, (25, 50, 75)))) for name, v in final.items()},
        "comparisons": [
            {"by": what, "first": a, "second": b, **v._asdict(), "verdict": v.verdict}
            for what, by_pair in verdicts.items()
            for (a, b), v in by_pair.items()
        ],
        **runs.environment(),
    }
    curves = {name: best_so_far(values) for name, values in found.items()}
    caption = f"Best reward so far, median and quartiles of {config.seeds} seeds."
    figure = pages.Figure(drawing=plots.curves_with_bands(curves), alt=caption, caption=caption, wide=True)
    sections = [
        pages.Section(title="Comparisons", parts=[pages.Table(columns=heads, rows=rows), figure]),
        pages.Section(title="The table", parts=[pages.Facts(items={k: str(v) for k, v in facts.items()})]),
        pages.Section(title="Settings", parts=[pages.Code(text=str(files.to_json(config)))]),
    ]
    sentence = verdict(verdicts["best of a search"])
    files.write_text(folder.path / "report.html", pages.page("Search strategies compared", sentence, sections))
    files.write_json(folder.path / "results.json", results)
    say(config, sentence, f"report: {folder.path / 'report.html'}")


def cells(result: Paired) -> tuple[str, ...]:
    """A comparison as text."""
    interval = f"[{result.low:+.4f}, {result.high:+.4f}]"
    return f"{result.difference:+.4f}", interval, f"{result.improvement:.2f}", f"{result.adjusted:.2g}", result.verdict


def verdict(by_pair: dict[tuple[str, str], Paired]) -> str:
    """One sentence."""
    said = [f"{by_pair['autoad', name].verdict} against {name}" for name in ("random", "evolution")]
    return f"Best architecture found by the controller: {said[0]}, {said[1]}."


def say(config: Config, *lines: str) -> None:
    """Print, unless asked to be quiet."""
    if not config.quiet:
        print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    cli.main(run, Config)
