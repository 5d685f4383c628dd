"""What benchmarks share in which several processes take turns: those that measure, and who asks them to.

Every method has a process of its own for as long as the benchmark runs. Requests go as lines to its standard input,
answers come as lines of JSON from its standard output. Between them it sleeps, so that one does not disturb another.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

# ---- who asks ----------------------------------------------------------------------------------------------------


class Worker:
    """The process of one method. It ends with its standard input, so also with this process."""

    def __init__(self, script: str, method: str, spec: Mapping[str, Any]) -> None:
        spec = dict(spec) | {"method": method, "launched": time.time()}
        command = [sys.executable, script, "--worker", json.dumps(spec)]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment(method), **streams)

    def ask(self, request: str) -> dict[str, Any]:
        """Send a request and wait; RuntimeError where the process has died."""
        with contextlib.suppress(BrokenPipeError):
            print(request, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer; the first one comes unasked, when all is ready."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"exit status {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process, also in the middle of a turn."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()


def environment(method: str) -> dict[str, str]:
    """What a method's process sees. Spinning threads would slow the other methods down."""
    return os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | ({} if method == "ours" else {"JAX_PLATFORMS": "cpu"})


class Started(NamedTuple):
    """The methods that are ready, and what went wrong with others so far; both change as things go on."""

    workers: dict[str, Worker]
    abouts: dict[str, dict[str, Any]]  # first answers
    errors: dict[str, str]


@contextlib.contextmanager
def started(script: str, methods: Sequence[str], spec: Mapping[str, Any]) -> Iterator[Started]:
    """Start the processes one after another; all but "ours" need PyTorch."""
    found = Started({}, {}, {})
    with contextlib.ExitStack() as stack:
        for method in methods:
            if method != "ours" and not find_spec("torch"):
                found.errors[method] = "PyTorch is not installed"
                continue
            say(f"{method} starts")
            worker = Worker(script, method, spec)
            stack.callback(worker.close)
            try:
                found.abouts[method] = worker.answer()
                found.workers[method] = worker
            except RuntimeError as error:
                found.errors[method] = str(error)
        yield found


def turns(found: Started, rounds: int, request: str) -> Iterator[tuple[int, str, float, dict[str, Any]]]:
    """(round, method, load before, answer) of every turn; who goes first changes, so nobody follows the same one."""
    for turn in range(rounds):
        first = turn % max(len(found.workers), 1)
        for method in [*found.workers][first:] + [*found.workers][:first]:
            load = os.getloadavg()[0]
            try:
                answer = found.workers[method].ask(request)
            except RuntimeError as error:
                found.errors[method] = str(error)
                del found.workers[method]
                continue
            yield turn, method, load, answer


def say(text: str) -> None:
    """Tell how far things are."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def save(path: Path | None, results: Mapping[str, Any]) -> None:
    """Write everything measured so far."""
    if path:
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(results, indent=1) + "\n")
        part.replace(path)


# ---- who measures ------------------------------------------------------------------------------------------------


def serve(text: str, methods: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
    """Prepare the method that the JSON describes, and answer requests until standard input ends.

    A method has a `name` and `run(iterations)`, which the request "train" times; another request "NAME X ..." calls
    its function NAME with numbers.
    """
    import jax
    from search_worker import Programs, peak_memory

    from jaxad._utils.compile import kernel_options

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    spec = json.loads(text)
    programs = Programs()
    method = methods[spec["method"]](spec)
    for _ in range(2):  # the second meets a state that comes from a step, not from initialisation
        method.run(1)
    options = kernel_options() if spec["method"] == "ours" and jax.default_backend() == "cpu" else {}
    answer(
        method=method.name,
        ready=time.time() - spec["launched"],
        compile=programs.main_thread,
        programs=programs.count,
        compiler_options=options,
    )
    for request in sys.stdin:
        name, *rest = request.split()
        if name != "train":
            answer(**{name: getattr(method, name)(*map(float, rest))})
            continue
        count, begun = programs.count, time.perf_counter()
        info = method.run(spec["iterations"])
        seconds = time.perf_counter() - begun
        answer(seconds=seconds, info=info, programs=programs.count - count, peak_mib=peak_memory())
