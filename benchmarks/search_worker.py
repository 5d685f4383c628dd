"""One measurement of `search_throughput.py`, in the fresh process that it is started in.

Every method is an executor as `jaxad.nas` has them and is driven by the same code: populations of ten children,
each on its part of the shared weights, which are merged after the population.
"""

import json
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad._utils.compile import enable_compilation_cache, kernel_options
from jaxad.nas import supernet, trial
from jaxad.nas.executors.population import Outcome, evaluate_population, make_executor
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, Result, TrialConfig, TrialData

TRACED = "/jax/core/compile/jaxpr_trace_duration"
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
COMPILED = "/jax/core/compile/backend_compile_duration"  # one event a program, loaded or compiled
LOADED = "/jax/compilation_cache/cache_hits"


def distinct_children(space: SearchSpace, seed: int, count: int) -> np.ndarray:
    """Tokens [count, T] of random children, no function twice; a smaller count gives the first of a larger one."""
    rng, children = np.random.default_rng(seed), {}
    while len(children) < count:
        tokens = space.canonical(rng.integers(0, space.choices_per_token, (1, space.num_tokens))).astype(np.int32)
        children.setdefault(tokens.tobytes(), tokens[0])
    return np.stack(list(children.values()))


class Images(NamedTuple):
    """The images of a search, on the host."""

    train: np.ndarray
    valid: np.ndarray
    valid_labels: np.ndarray


def images(size: int, train: int, valid: int) -> Images:
    """Random textures, uint8 [N, size, size, 1]; every tenth validation image is an anomaly, of a finer grain."""
    rng = np.random.default_rng(0)

    def textures(count: int, grain: float) -> np.ndarray:
        waves = np.fft.rfftfreq(size)[None] ** 2 + np.fft.fftfreq(size)[:, None] ** 2
        noise = np.fft.rfft2(rng.standard_normal((count, size, size)))
        fields = np.fft.irfft2(noise * np.exp(-waves * grain**2), (size, size))
        fields = fields / fields.std((1, 2), keepdims=True)
        return np.clip(128 + 50 * fields, 0, 255).astype(np.uint8)[..., None]

    labels = (np.arange(valid) % 10 == 9).astype(np.int32)
    mixed = np.where(labels[:, None, None, None] == 1, textures(valid, 5.0), textures(valid, 8.0))
    return Images(textures(train, 8.0), mixed, labels)


class Programs:
    """Counts the programs that JAX compiles or loads, and the seconds that takes, on all threads together."""

    def __init__(self) -> None:
        self.count, self.loaded, self.seconds = 0, 0, 0.0
        self._spans: list[tuple[float, float]] = []  # start and end of each stage on the main thread
        jax.monitoring.register_event_duration_secs_listener(self._on_duration)
        jax.monitoring.register_event_listener(self._on_event)

    @property
    def main_thread(self) -> float:
        """Seconds that the main thread has spent on compilation, tracing included."""
        return sum(end - start for start, end in self._spans)

    def _on_duration(self, event: str, seconds: float, **_: Any) -> None:
        if event == COMPILED:
            self.count += 1
            self.seconds += seconds
        if event in (TRACED, LOWERED, COMPILED) and threading.current_thread() is threading.main_thread():
            end = time.perf_counter()
            while self._spans and self._spans[-1][0] >= end - seconds:  # a stage within this one
                self._spans.pop()
            self._spans.append((end - seconds, end))

    def _on_event(self, event: str, **_: Any) -> None:
        if event == LOADED:
            self.loaded += 1


def peak_memory() -> float:
    """The most MiB that this process has had resident."""
    status = Path("/proc/self/status")
    if status.exists():  # the system call counts what the parent had when it forked
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# ---- the methods -------------------------------------------------------------------------------------------------


class Evaluator:
    """jaxad's own executor, timed from outside."""

    def __init__(self, data: TrialData, config: TrialConfig, spec: dict[str, Any], programs: Programs) -> None:
        self.executor = make_executor(spec["executor"], data, config)
        self.name = type(self.executor).__name__.lower()
        self._programs, self._planning, self._tracing = programs, 0.0, 0.0
        if hasattr(self.executor, "prepare"):
            self._prepare, self.executor.prepare = self.executor.prepare, self._timed_prepare

    def _timed_prepare(self, *args: Any) -> Any:
        started, traced = time.perf_counter(), self._programs.main_thread
        prepared = self._prepare(*args)
        self._planning += time.perf_counter() - started
        self._tracing += self._programs.main_thread - traced
        return prepared

    def split(self, running: float, waiting: float) -> dict[str, float]:
        """Between two children the executor plans, which is overhead but for the tracing, and awaits the compiler."""
        planning = self._planning - self._tracing
        return {
            "compile": waiting - planning,
            "train_and_score": running,
            "tracing": self._tracing,
            "planning": planning,
        }


class Naive:
    """A program per architecture."""

    name = "jit per architecture"

    def __init__(self, data: TrialData, config: TrialConfig, spec: dict[str, Any], programs: Programs) -> None:
        from naive_jax import NaiveJax

        self._programs, self.executor = programs, NaiveJax(data, config)

    def split(self, running: float, waiting: float) -> dict[str, float]:
        """All happens on one thread, compilation at the first call of each function."""
        compiling = self._programs.main_thread
        return {"compile": compiling, "train_and_score": running - compiling}


class Torch:
    """No compilation."""

    def __init__(self, data: TrialData, config: TrialConfig, spec: dict[str, Any], programs: Programs) -> None:
        import torch
        from torch_eager import TorchEager

        torch.set_num_threads(spec["torch_threads"])
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.executor = TorchEager(data, config, device)
        where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
        self.name = f"torch {torch.__version__} eager, {where}"

    def split(self, running: float, waiting: float) -> dict[str, float]:
        """The executor keeps its own clocks."""
        times = {"train": self.executor.train_seconds, "score": self.executor.score_seconds}
        return {"compile": 0.0, "train_and_score": running, **times}


METHODS = {"ours": Evaluator, "naive": Naive, "torch": Torch}


# ---- the measurement ---------------------------------------------------------------------------------------------


class Clock:
    """An executor that knows since when its next child is waited for."""

    def __init__(self, executor: Any) -> None:
        self.batch_size, self.asked, self._executor = executor.batch_size, 0.0, executor

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        self.asked = time.perf_counter()
        return self._executor(jobs)


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Search `spec["children"]` children with one method and say what it took."""
    enable_compilation_cache(spec["cache"])
    space = SearchSpace(num_layers=spec["num_layers"])
    config = TrialConfig(
        steps=spec["steps"], batch_size=spec["batch_size"], fit_images=spec["fit_images"], statistics="batch"
    )
    host = images(spec["image_size"], spec["train_images"], spec["valid_images"])
    architectures = [
        space.to_architecture(tokens) for tokens in distinct_children(space, spec["seed"], spec["children"])
    ]
    starts = range(0, len(architectures), spec["population"])
    populations = [architectures[start : start + spec["population"]] for start in starts]
    root = jax.random.key(spec["seed"])
    keys = [jax.random.fold_in(root, start) for start in starts]
    for number, population in zip((-1, -2), (populations[0], populations[-1])):
        # The harness draws keys with JAX for all methods; this is not to be paid by the one that does not need it.
        list(jax.random.split(jax.random.fold_in(root, len(architectures) - number), len(population)))
    data = jax.block_until_ready(trial.put(*host))
    programs, memory_before = Programs(), peak_memory()
    method = METHODS[spec["method"]](data, config, spec, programs)
    outcomes: list[Outcome] = []
    turns: list[float] = []
    running = waiting = away = 0.0
    startup, started, cpu = time.time() - spec["launched"], time.perf_counter(), time.process_time()
    gave_up, patience = False, spec["give_up"] or float("inf")

    clock = Clock(method.executor)

    def on_outcome(place: int, outcome: Outcome) -> bool:
        nonlocal running, waiting
        outcomes.append(outcome)
        running += outcome.seconds
        waiting += time.perf_counter() - clock.asked - outcome.seconds
        clock.asked = time.perf_counter()
        return clock.asked - started - away > patience and len(outcomes) < len(architectures)

    shared = supernet.init(np.random.default_rng(spec["seed"]), space, 1)
    for members, key in zip(populations, keys):
        _, shared, gave_up = evaluate_population(clock, shared, members, key, on_outcome=on_outcome)
        if gave_up:
            break
        turns.append(time.perf_counter() - started - away - sum(turns))
        progress = f"{len(outcomes)}/{len(architectures)} children, {sum(turns):.1f} s"
        print(f"    {spec['method']} {progress}", file=sys.stderr, flush=True)
        if spec["interleaved"] and len(outcomes) < len(architectures):
            away += stand_aside()
    wall = time.perf_counter() - started - away

    split = method.split(running, waiting)
    split["other"] = wall - split["compile"] - split["train_and_score"]
    result = {
        "wall": wall,
        "cpu": time.process_time() - cpu,
        "gave_up": gave_up,
        "turns": turns,
        "seconds": split,
        "startup": startup,
        "programs": {"count": programs.count, "from_cache": programs.loaded, "thread_seconds": programs.seconds},
        "peak_mib": peak_memory(),
        "peak_mib_before": memory_before,
        "device_peak_mib": _device_peak(spec["method"]),
        "rewards": [outcome.reward for outcome in outcomes],
        "losses": [outcome.loss for outcome in outcomes],
        "failed": sum(outcome.status != "ok" for outcome in outcomes),
        "executor": method.name,
        "device": f"{jax.devices()[0].device_kind} x {jax.device_count()}",
        "compiler_options": kernel_options() if spec["method"] == "ours" else {},
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__},
    }
    method.executor.close()
    return result


def stand_aside() -> float:
    """Stop this process, its compiling threads included, until it is told to go on; the seconds that took."""
    begun = time.perf_counter()
    signal.raise_signal(signal.SIGSTOP)
    return time.perf_counter() - begun


def _device_peak(method: str) -> float | None:
    if method == "torch":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    statistics = jax.devices()[0].memory_stats() or {}
    return statistics["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in statistics else None


def main(path: str) -> None:
    """Run the measurement that the file describes, and write its result beside it."""
    spec = json.loads(Path(path).read_text())
    Path(spec["result"]).write_text(json.dumps(measure(spec)))
