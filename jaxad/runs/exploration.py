"""The first half of a search: architectures are tried, and what has been tried is never lost."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

from jaxad._utils import files
from jaxad.nas import loop, trial
from jaxad.nas.executors.remote import Remote
from jaxad.nas.space import SearchSpace
from jaxad.runs import folder as runs
from jaxad.runs.forecast import forecast
from jaxad.runs.inputs import Inputs
from jaxad.runs.progress import Progress
from jaxad.runs.workers import Account, WorkersConfig, trainer
from jaxad.types import Info, Key, Search

FORECAST_FROM = 10  # children; fewer take no longer than to find out how long they take


class Explored(NamedTuple):
    """What was tried, over all sessions of a run."""

    space: SearchSpace
    shapes: Any  # (height, width, channels) of what children see, or those of every input by its name
    trials: list[loop.Trial]
    log: list[Info]  # what the strategy has told after every population
    seconds: float
    compiles: int  # programs that were compiled or loaded
    stopped: str | None  # why the search ended before its last child, if it did
    costs: loop.Costs
    handed: Sequence[dict[str, Any]] = ()  # which worker trained a child when; none where this process trained all


def _sizes(shapes: Any) -> str:
    """What children see, in words."""
    if isinstance(shapes, Mapping):
        return ", ".join(f"{name} features {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return "x".join(map(str, shapes))


def _busy(left: int) -> str:
    """What an executor does that has so many programs to compile."""
    return "training" if not left else f"compiling, {left} program{'s' * (left != 1)} to come"


class Journal:
    """What a search keeps as it goes: in a run folder, from which it can go on, or without one in memory."""

    def __init__(self, run: runs.Run | None) -> None:
        self.run = run
        self.trials: list[loop.Trial] = []
        self.log: list[Any] = []
        self.handed = [] if run is None else [line for line in files.read_lines(self._handed_path) if "worker" in line]
        self.facts = {"trials": 0, "elapsed": 0.0, "compiles": 0, "stopped": None, "costs": loop.Costs(0.0, 0.0)}
        self.skipped: list[str] = []  # damaged checkpoints

    def resume(self, state: loop.States) -> loop.States:
        """The state that an earlier session has left, or the given one of a fresh search."""
        if self.run is None:
            return state
        saved = self.run.checkpoints.latest(state)
        if saved is not None:
            state, self.facts, self.skipped = saved.tree, saved.metadata, saved.skipped
        if records := self.facts.pop("records", None):  # absent in checkpoints of 0.2.0
            runs.restore_trials(self.run, records)
        runs.truncate_trials(self.run, self.facts["trials"])
        self.trials = [loop.Trial(**record) for record in runs.read_trials(self.run)]
        # What came after the last checkpoint is told anew.
        known = len(self.trials)
        told = (info for info in files.read_lines(self._log_path) if isinstance(info, dict))
        self.log = [info for info in told if info.get("num_evaluated", known + 1) <= known]
        return state

    def add_trial(self, record: loop.Trial) -> None:
        """Keep a trial."""
        self.trials.append(record)
        if self.run is not None:
            runs.append_trial(self.run, dataclasses.asdict(record))

    def add_info(self, info: Info) -> None:
        """Keep what the strategy tells."""
        self.log.append(files.to_json(info))
        if self.run is not None:
            files.append_line(self._log_path, info, sync=True)

    def add_handed(self, line: dict[str, Any]) -> None:
        """Keep who has trained a child."""
        self.handed.append(line)
        if self.run is not None:
            files.append_line(self._handed_path, line)

    def save(self, state: loop.States, **facts: Any) -> None:
        """Go on from here, should the search be killed: all trials so far count."""
        self.facts.update(facts, trials=len(self.trials))
        if self.run is not None:
            runs.sync(self.run)
            # With the trials themselves: no line of a file that is lost shall end what is trained already.
            records = files.to_json([dataclasses.asdict(record) for record in self.trials])
            self.run.checkpoints.save(len(self.trials), state, metadata=self.facts | {"records": records})

    @property
    def _log_path(self) -> Path:
        return self.run.path / "controller.jsonl"

    @property
    def _handed_path(self) -> Path:
        return self.run.path / "workers.jsonl"


def explore_task(
    inputs: Inputs,
    search: Search,
    space: SearchSpace,
    settings: trial.TrialConfig,
    *,
    start_key: Key,
    search_key: Key,
    children: int,
    ahead: int = 0,
    executor: str = "auto",
    workers: WorkersConfig | None = None,
    pool: futures.Executor | None = None,
    time_budget: float | None = None,
    run: runs.Run | None = None,
    keep_log: bool = True,
    on_trial: Callable[[loop.Trial], None] = lambda record: None,
    quiet: bool = False,
) -> Explored:
    """Search for architectures on what children see of a task.

    Args:
      inputs: training and validation images, from `inputs_of`.
      search: a strategy.
      settings: how every child trains and is rewarded.
      start_key, search_key: of the first weights and of everything after them; the same in every session of a run.
      children: how many to evaluate, those of earlier sessions included.
      ahead: of `loop.explore`; the same in every session of a run.
      executor: name of who trains children in this process, see `make_executor`.
      workers, pool: who trains them elsewhere, see `runs.workers.trainer`.
      time_budget: seconds of searching after which the running child is the last.
      run: a folder to keep everything in, and to go on from; by default nothing is written.
      keep_log: whether to keep what the strategy tells.
      on_trial: called after every child of this session.
      quiet: show no progress.
    """
    journal = Journal(run)
    state = journal.resume(loop.waiting_for(loop.start(start_key, search, space, inputs.channels), ahead))
    facts, trials = journal.facts, journal.trials
    if facts["stopped"] is None and len(trials) < children:
        compiled, account = facts["compiles"], Account(facts["elapsed"], journal.add_handed)
        with (
            Progress(children, label="search", budget=time_budget, start=len(trials), quiet=quiet) as progress,
            trainer(executor, inputs.images, settings, workers, pool, account=account, say=progress.log) as hands,
        ):
            most = "" if time_budget is None else f", for {time_budget:.0f} s at most (time_budget)"
            progress.log(f"trying {children - len(trials)} architectures on {_sizes(inputs.shapes)}{most}")
            if not quiet and children - len(trials) >= FORECAST_FROM and not isinstance(hands, Remote):
                expected = forecast(inputs, space, settings)
                progress.log(expected.sentence(children - len(trials), time_budget))
            if hasattr(hands, "watch"):
                hands.watch(lambda left: progress.update(len(trials), note=_busy(left)))
            for path in journal.skipped:
                progress.log(f"skipped a damaged checkpoint: {path}")

            def show(record: loop.Trial) -> None:
                journal.add_trial(record)
                best = max((t.reward for t in trials if t.status == "ok"), default=None)
                note = f"failed: {record.reason}" if record.status == "failed" else f"last {record.reward:.3f}"
                progress.update(len(trials), best=best, note=f"{note}  {account}".rstrip())
                on_trial(record)

            def learn(info: Info, costs: loop.Costs) -> None:
                facts["costs"] = loop.Costs(*map(sum, zip(facts["costs"], costs)))
                if keep_log:
                    journal.add_info(info)

            def save(state: loop.States, count: int, elapsed: float) -> None:
                journal.save(state, elapsed=elapsed, compiles=compiled + hands.compiles)

            end = loop.explore(
                search, space, hands, state,
                key=search_key, children=children, image_shape=inputs.shapes, ahead=ahead, trials=tuple(trials),
                elapsed=facts["elapsed"], time_budget=time_budget, on_trial=show, on_info=learn, on_population=save,
            )  # fmt: skip
            facts.update(compiles=compiled + hands.compiles, stopped=end.stopped)
            if end.stopped:
                # The last population counts as far as it got, so that a resumed run ends with the same trials.
                journal.save(end.state, elapsed=trials[-1].elapsed)
                progress.log(f"the search ended early: {end.stopped}, {len(trials)} of {children} children")
    costs = loop.Costs(*facts["costs"])
    return Explored(
        space, inputs.shapes, trials, journal.log, facts["elapsed"], facts["compiles"], facts["stopped"], costs,
        journal.handed,
    )  # fmt: skip
