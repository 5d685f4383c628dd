"""Processes as an executor: quiet, replaced when they die or hang, and none of them left when the parent is gone."""

import os
import signal
import subprocess
import sys
import time
from concurrent import futures

import pytest

from jaxad._utils.processes import Processes, ProcessLost

SAID: list[str] = []


def start(word):
    SAID.append(word)


def said():
    return SAID


def fail(word):
    raise KeyError(word)


def shout():
    print("loud")
    os.write(2, b"loud")
    return os.getpid()


def slow_pid():
    time.sleep(0.3)
    return os.getpid()


def signalled(number):
    os.kill(os.getpid(), number)
    time.sleep(20)


@pytest.fixture(scope="module")
def pool():
    with Processes(2, start=start, args=("begun",)) as pool:
        yield pool


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(seconds, condition):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_calls_happen_elsewhere_quietly_and_raise_what_they_raise(pool, capfd):
    both = [pool.submit(time.sleep, 0.3), pool.submit(shout)]
    assert both[1].result(30) != os.getpid()
    assert both[0].result(30) is None
    assert pool.submit(said).result(30) == ["begun"]
    with pytest.raises(KeyError, match="word"):
        pool.submit(fail, word="word").result(30)
    with pytest.raises(Exception, match="lambda"):
        pool.submit(lambda: None).result(30)
    with pytest.raises(RuntimeError, match="pickle"):
        pool.submit(open, os.devnull).result(30)  # what it returns cannot travel
    assert capfd.readouterr() == ("", "")


def test_who_dies_costs_one_call_and_another_takes_the_place(pool):
    before = {call.result(30) for call in [pool.submit(slow_pid), pool.submit(slow_pid)]}
    dying, other = pool.submit(signalled, signal.SIGKILL), pool.submit(sum, [1, 2])
    with pytest.raises(ProcessLost, match="was ended by signal 9"):
        dying.result(30)
    assert other.result(30) == 3
    after = {call.result(30) for call in [pool.submit(slow_pid), pool.submit(slow_pid)]}
    assert len(before) == len(after) == 2
    assert len(after - before) == 1


def test_who_hangs_can_be_given_up(pool):
    hanging = pool.submit(signalled, signal.SIGSTOP)
    assert within(10, hanging.running)
    time.sleep(0.1)
    pool.abandon(hanging)
    with pytest.raises(ProcessLost):
        hanging.result(30)
    waiting = futures.Future()
    pool.abandon(waiting)
    assert waiting.cancelled()
    assert pool.submit(sum, [2]).result(30) == 2


def test_the_end_comes_at_once_where_nothing_is_waited_for():
    pool = Processes(1)
    pid, running, waiting = pool.submit(os.getpid).result(30), pool.submit(time.sleep, 60), pool.submit(sum, [1])
    assert within(10, running.running)
    started = time.monotonic()
    pool.shutdown(cancel_futures=True)
    assert time.monotonic() - started < 10
    assert waiting.cancelled()
    assert isinstance(running.exception(), ProcessLost)
    assert not is_running(pid)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(sum, [1])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
def test_a_parent_that_is_killed_leaves_none_behind():
    program = (
        "import os, time\n"
        "from jaxad._utils.processes import Processes\n"
        "pool = Processes(2)\n"
        "pids = {pool.submit(os.getpid).result(), pool.submit(os.getpid).result()}\n"
        "busy = [pool.submit(time.sleep, 100) for _ in range(2)]\n"
        "print(*pids, flush=True)\n"
        "time.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pids = parent.stdout.readline().split()
    assert pids
    assert all(map(is_running, pids))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert within(10, lambda: not any(map(is_running, pids)))
