"""Children side by side over the devices of several hosts: one of them searches, the others follow.

A program over devices of several hosts runs only where all of them call it. So the host that searches tells the others
what it is about to call, and they call it, too: they know of no strategy, no task and no folder, and write nothing.
Messages go the way of the results, as arrays that all hosts hand to one collective operation.
"""

import contextlib
import itertools
import json
import pickle
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxad._utils.memory import is_of_memory
from jaxad.nas.executors import runtime, worker
from jaxad.nas.executors.vmapped import Population, Vmapped
from jaxad.nas.trial import Job, Result, Reward, TrialConfig, TrialData
from jaxad.nn.architecture import Architecture
from jaxad.types import Params

PIECE = 2**26  # bytes of a message that travel together
LEAST = 2**12
PATIENCE = 300  # seconds that hosts wait for one another at the beginning
PULSE = 60.0  # seconds; a collective operation that waits for minutes is given up, and all hosts with it
_FITS, _SHORT, _FAILED = range(3)  # how a program went
_NUMBERS = itertools.count()
_leads = False  # whether others follow this host
_parted = threading.Event()  # whether hosts have failed, and listen no longer
_speaking = threading.RLock()  # while all hosts run something together, nothing else is told


class Together(Vmapped):
    """`Vmapped` on each of several hosts, which halve a batch together: also for one that is short of memory alone."""

    def _train(self, group: Sequence[Job], options: runtime.Options, batch_size: int) -> tuple[Params, Reward]:
        # Nothing in here waits for other hosts, so that each of them comes to the question how it went.
        how, found, error, reason = _FITS, None, None, "another host is out of memory"
        try:
            found = jax.block_until_ready(super()._train(group, options, batch_size))
        except BaseException as raised:  # Ctrl-C, too
            if is_of_memory(raised):  # of which the text alone is kept: the error itself would keep its arrays alive
                how, reason = _SHORT, str(raised)
            else:
                how, error = _FAILED, raised
        worst = int(multihost_utils.process_allgather(np.array(how)).max())
        if worst == _FAILED:
            _parted.set()
            raise error or RuntimeError("another host has failed, and says why")
        if worst == _SHORT:
            raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {reason}")
        return found


class Leading(Together):
    """The host that searches. Whatever all hosts have to run together is told first."""

    def __init__(self, data: TrialData, config: TrialConfig) -> None:
        self._number = next(_NUMBERS)
        with _speaking:
            _send("data", self._number, jax.device_get(data), config)
            super().__init__(data, config)

    def begin(self, jobs: Sequence[Job]) -> Population:
        """As `Vmapped.begin`, on all hosts."""
        number = next(_NUMBERS)
        _send("begin", self._number, number, [_packed(job) for job in jobs])
        return super().begin(jobs)._replace(number=number)

    def run_next(self, population: Population) -> dict[int, Result]:
        """As `Vmapped.run_next`, on all hosts."""
        with _speaking:
            _send("run next", self._number, population.number)
            return super().run_next(population)

    def close(self) -> None:
        """As `Vmapped.close`, on all hosts."""
        _send("close", self._number)
        super().close()


def leads() -> bool:
    """Whether this host searches, and others follow."""
    return _leads


@contextlib.contextmanager
def joined(coordinator: str, hosts: int, host: int) -> Iterator[bool]:
    """Hosts of one search; the same program on each of them, before anything else of JAX.

    Args:
      coordinator: address and port of host 0, such as "10.0.0.1:1234".
      hosts: how many there are.
      host: which of them this is, from 0.

    Yields:
      Whether it is this host that searches, which is host 0. On the others the context begins when the search has
      ended: there is nothing left to do.

    Raises:
      ValueError: a coordinator that is no address and port; nobody there, on a host that follows; hosts that have
        different versions of jaxad or JAX, on all of them, if these can speak with one another at all. Where others do
        not come within five minutes JAX itself ends host 0, with a message of its own.
    """
    global _leads
    address_of(coordinator)
    if host:
        _wait_for(coordinator)
    jax.distributed.initialize(coordinator, hosts, host, initialization_timeout=PATIENCE)
    try:
        _check_versions()
        if host:
            _follow()
            yield False
            return
        _leads, ended = True, threading.Event()
        pulse = threading.Thread(target=_beat, args=(ended,), name="pulse", daemon=True)
        pulse.start()
        try:
            yield True
        finally:
            _leads = False
            ended.set()
            pulse.join()
            _send("end")
    finally:
        jax.distributed.shutdown()


def address_of(coordinator: str) -> tuple[str, int]:
    """Address and port, of "10.0.0.1:1234", "name:1234" or "[::1]:1234"; ValueError for anything else."""
    address, _, port = coordinator.rpartition(":")
    bracketed = address.startswith("[") and address.endswith("]")
    if not address or (":" in address and not bracketed) or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"coordinator is {coordinator!r}; give address and port, such as 10.0.0.1:1234")
    return address.strip("[]"), int(port)


def _wait_for(coordinator: str) -> None:
    """Return when there is somebody at an address: JAX would end this process without a word of what to do."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(address_of(coordinator), timeout=5.0).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ValueError(
                    f"no host answers at {coordinator} ({error}): start host 0 within {PATIENCE} s of the others, and "
                    "give all of them its address and a port that they can reach"
                ) from None
            time.sleep(0.2)


def _check_versions() -> None:
    """Raise ValueError, on all hosts, where one has other versions than host 0."""
    mine = json.dumps(worker.versions()).encode().ljust(LEAST)
    all_hosts = np.atleast_2d(multihost_utils.process_allgather(np.frombuffer(mine, np.uint8)))
    first, *others = (json.loads(row.tobytes()) for row in all_hosts)
    for host, other in enumerate(others, 1):
        if other != first:
            raise ValueError(f"host {host} has {worker.said(other)}, and host 0 {worker.said(first)}: install the same")


def _beat(ended: threading.Event) -> None:
    """Let no host wait for so long that it gives up: data, rivals and retraining may take hours."""
    while not ended.wait(PULSE):
        _send("wait", None)


def _follow() -> None:
    """Run what the searching host runs, until it says that this is the end."""
    executors: dict[int, Together] = {}
    populations: dict[int, Population] = {}
    while (message := _receive())[0] != "end":
        what, number, *content = message
        if what == "data":
            executors[number] = Together(*content)
        elif what == "begin":
            populations[content[0]] = executors[number].begin([_unpacked(*job) for job in content[1]])
        elif what == "run next":
            executors[number].run_next(populations[content[0]])
            if not populations[content[0]].waiting:
                del populations[content[0]]
        elif what == "close":
            executors.pop(number).close()


def _packed(job: Job) -> tuple[Any, ...]:
    key = np.asarray(jax.random.key_data(job.key)), str(jax.random.key_impl(job.key))
    return job.architecture.to_json(), jax.device_get(job.params), *key


def _unpacked(architecture: Any, params: Any, key_data: np.ndarray, impl: str) -> Job:
    return Job(Architecture.from_json(architecture), params, jax.random.wrap_key_data(key_data, impl=impl))


def _send(*message: Any) -> None:
    """Tell all other hosts, each of which waits in `_receive`, unless one has failed and none does any more."""
    content = np.frombuffer(pickle.dumps(message), np.uint8)
    with _speaking:
        if _parted.is_set():
            return
        multihost_utils.broadcast_one_to_all(np.array(divmod(len(content), PIECE), np.int32))
        for piece in np.split(content, range(PIECE, len(content), PIECE)):
            filled = np.zeros(_room_for(len(piece)), np.uint8)
            filled[: len(piece)] = piece
            multihost_utils.broadcast_one_to_all(filled)


def _receive() -> tuple[Any, ...]:
    pieces, rest = multihost_utils.broadcast_one_to_all(np.zeros(2, np.int32)).tolist()
    lengths = [PIECE] * pieces + [rest] * (rest > 0)
    found = [multihost_utils.broadcast_one_to_all(np.zeros(_room_for(n), np.uint8))[:n] for n in lengths]
    return pickle.loads(np.concatenate(found).tobytes())


def _room_for(length: int) -> int:
    """Few sizes, as each is a program."""
    return max(LEAST, 2 ** (length - 1).bit_length())
