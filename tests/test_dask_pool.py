"""The workers of a Dask cluster: the bits of this process, and what is said where nobody is there."""

import contextlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from test_remote import CONFIG, DATA, assert_same, jobs_of, run

from jaxad.nas.executors.remote import Remote, Workers
from jaxad.nas.executors.sequential import Sequential
from jaxad.runs.dask_pool import DaskPool


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two workers on loopback, as their commands start them: (scheduler file, processes)."""
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    dask = [sys.executable, "-m", "dask"]
    with contextlib.ExitStack() as stack:

        def start(*command):
            process = subprocess.Popen([*dask, *command], **quiet)
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", str(free_port()), *common)
        workers = [start("worker", "--nthreads", "1", "--no-nanny", *common) for _ in range(2)]
        yield file, scheduler, workers


def test_nobody_at_an_address_is_said_in_one_line(monkeypatch):
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match=r"there is no scheduler at tcp://127.0.0.1:\d+ .*start one"):
        DaskPool(f"tcp://127.0.0.1:{free_port()}", patience=0.5)


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxad\[cluster\]'"):
        DaskPool("tcp://127.0.0.1:1")


def test_nothing_of_dask_is_imported_where_nobody_asks():
    program = "import sys, jaxad.runs.search, jaxad.runs.dask_pool; print({'dask', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_children_train_on_a_cluster_until_it_is_gone(cluster):
    """The bits of this process; with a worker that is stopped, one that is killed, and without a scheduler."""
    file, scheduler, workers = cluster
    with contextlib.closing(Sequential(DATA, CONFIG)) as executor:
        expected = list(executor(jobs_of()))
    with DaskPool(str(file)) as pool:
        pool._client.wait_for_workers(2, timeout=60)
        assert pool.count() == 2
        found, handed, said = run(pool, count=2)
        assert_same(found, expected)
        assert len({line.worker for line in handed}) == 2
        assert said == []

        workers[0].send_signal(signal.SIGSTOP)
        found, handed, _ = run(pool, count=2, timeout=4.0)
        assert_same(found, expected)
        assert {line.worker for line in handed} == {handed[0].worker}
        assert pool.count() == 1
        workers[0].send_signal(signal.SIGCONT)

        results = Remote(Workers(pool, pool.count), DATA, CONFIG)(jobs_of())
        first = next(results)
        workers[1].kill()
        assert_same([first, *results], expected)

        scheduler.kill()
        with pytest.raises(ValueError, match=r"there are no workers any more .*resume the run"):
            run_for(pool, seconds=30)


def run_for(pool, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run(pool, jobs_of(1), count=1, timeout=2.0)
