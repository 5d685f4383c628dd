"""Hosts of one search: those that follow call what the first one calls, which is all that they do."""

import dataclasses
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from scripts import call, one_line

from jaxad.nas import supernet, trial
from jaxad.nas.executors import hosts
from jaxad.nas.executors.population import make_executor
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, TrialConfig
from jaxad.runs.programs.search import run as script

SPACE = SearchSpace(num_layers=1, channels=(3, 4), kernels=(1,), pool_kernels=(1,))
CONFIG = TrialConfig(steps=2, batch_size=16)


def data_of(rng):
    labels = (np.arange(21) % 3 == 0).astype(np.int32)
    images = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    return trial.put(images, rng.random((21, 8, 8, 1), np.float32), labels)


def jobs_of(count):
    tokens = np.asarray(SPACE.sample(jax.random.key(3), count))
    children = [SPACE.to_architecture(row) for row in tokens]
    shared = supernet.init(np.random.default_rng(1), SPACE, 1)
    keys = jax.random.split(jax.random.key(0), count)
    return [Job(child, supernet.take(shared, child), key) for child, key in zip(children, keys)]


def same(one, other):
    """Whether results by their places are equal, bit for bit, but for their seconds."""
    assert one.keys() == other.keys()
    for place, result in one.items():
        pairs = zip(jax.tree.leaves(result[:2]), jax.tree.leaves(other[place][:2]), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
    return True


def test_who_follows_runs_what_the_first_one_runs(rng, monkeypatch):
    """By its messages alone, group after group, in that order."""
    told, ran = [], []
    monkeypatch.setattr(hosts, "_send", lambda *message: told.append(pickle.dumps(message)))
    leading = hosts.Leading(data_of(rng), CONFIG)
    wanted = list(leading(jobs_of(5)))
    leading.close()
    hosts._send("end")
    kinds = [pickle.loads(message)[0] for message in told]
    assert kinds[:2] == ["data", "begin"]
    assert set(kinds[2:-2]) == {"run next"}
    assert kinds[-2:] == ["close", "end"]

    def spied(self, population, run_next=Vmapped.run_next):
        ran.append(run_next(self, population))
        return ran[-1]

    monkeypatch.setattr(hosts, "_receive", lambda: pickle.loads(told.pop(0)))
    monkeypatch.setattr(Vmapped, "run_next", spied)
    hosts._follow()
    assert not told
    found = {place: result for group in ran for place, result in group.items()}
    assert same(dict(enumerate(wanted)), found)


def test_a_search_that_ends_early_leaves_no_host_waiting(rng, monkeypatch):
    """Of a population that is not run to its end, the groups that were run are told, and no more."""
    told = []
    monkeypatch.setattr(hosts, "_send", lambda *message: told.append(message[0]))
    monkeypatch.setattr(Vmapped, "_run_group", lambda self, group, options: iter([job.architecture for job in group]))
    leading = hosts.Leading(data_of(rng), CONFIG)
    results = leading(jobs_of(6))
    next(results)
    results.close()
    assert told == ["data", "begin", "run next"]


@pytest.mark.parametrize("short", ["this host", "another host"])
def test_a_host_that_is_short_of_memory_halves_the_batch_of_all(rng, monkeypatch, short):
    """Where only it did so, it would be alone with its program from then on."""
    data, jobs, tries = data_of(rng), jobs_of(1), []

    def train(self, group, options, batch_size, _train=Vmapped._train):
        tries.append(batch_size)
        if short == "this host" and len(tries) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: this one")
        return _train(self, group, options, batch_size)

    def all_hosts(how):
        first = len(tries) == 1
        assert how == (hosts._SHORT if first and short == "this host" else hosts._FITS)
        return np.array([how, hosts._SHORT if first and short == "another host" else hosts._FITS])

    monkeypatch.setattr(Vmapped, "_train", train)
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", all_hosts)
    (found,) = hosts.Together(data, CONFIG)(jobs)
    assert tries == [16, 8]
    assert found.batch_size == 8
    (alone,) = Vmapped(data, dataclasses.replace(CONFIG, batch_size=8))(jobs)
    assert same({0: found}, {0: alone})


@pytest.mark.parametrize("fails", ["this host", "another host"])
def test_a_host_that_fails_ends_all_of_them(rng, monkeypatch, fails):
    """Each says so, and none is told anything any more, as the others no longer listen."""
    monkeypatch.setattr(hosts, "_parted", threading.Event())

    def train(*given):
        if fails == "this host":
            raise TypeError("of this one")
        return np.zeros(1)

    monkeypatch.setattr(Vmapped, "_train", train)
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", lambda how: np.array([how, hosts._FAILED]))
    message = {"this host": "^of this one$", "another host": "^another host has failed, and says why$"}[fails]
    told = []
    monkeypatch.setattr(hosts.multihost_utils, "broadcast_one_to_all", lambda array: told.append(array) or array)
    hosts._send("wait", None)
    assert len(told) == 2
    with pytest.raises((TypeError, RuntimeError), match=message):
        next(hosts.Together(data_of(rng), CONFIG)(jobs_of(1)))
    for message in (["wait", None], ["close", 0], ["end"]):  # of the pulse, of the executor, of the search
        hosts._send(*message)
    assert len(told) == 2


def test_hosts_of_other_versions_are_refused(monkeypatch):
    """On all hosts, in the same words."""
    others = [{"jaxad": "0.3.0", "jax": "0.10.2"}, {"jaxad": "0.3.0", "jax": "0.12.0"}]
    monkeypatch.setattr(hosts.worker, "versions", lambda: others[0])

    def gather(mine):
        assert json.loads(mine.tobytes()) == others[0]
        return np.stack([mine, np.frombuffer(json.dumps(others[1]).encode().ljust(len(mine)), np.uint8)])

    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", gather)
    message = "^host 1 has jaxad 0.3.0 and jax 0.12.0, and host 0 jaxad 0.3.0 and jax 0.10.2: install the same$"
    with pytest.raises(ValueError, match=message):
        hosts._check_versions()
    others[1] = others[0]
    hosts._check_versions()


def test_a_host_that_nobody_answers_says_so(monkeypatch):
    """Before JAX waits for it, which would end the process."""
    monkeypatch.setattr(hosts, "PATIENCE", 0)
    with socket.socket() as nobody:
        nobody.bind(("localhost", 0))  # and does not listen
        address = f"localhost:{nobody.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"^no host answers at {address} .*: start host 0 within 0 s"):
            hosts.joined(address, 2, 1).__enter__()
        nobody.listen()
        hosts._wait_for(address)


def test_jobs_travel_as_they_are():
    for job in jobs_of(3):
        again = hosts._unpacked(*pickle.loads(pickle.dumps(hosts._packed(job))))
        assert again.architecture == job.architecture
        np.testing.assert_array_equal(jax.random.key_data(again.key), jax.random.key_data(job.key))
        jax.tree.map(np.testing.assert_array_equal, again.params, job.params)


@pytest.mark.parametrize("length", [0, 3, 100, 128, 300])
def test_messages_travel_in_pieces_of_few_sizes(monkeypatch, length):
    sent = []
    monkeypatch.setattr(hosts, "PIECE", 128)
    monkeypatch.setattr(hosts, "LEAST", 16)
    monkeypatch.setattr(hosts.multihost_utils, "broadcast_one_to_all", lambda array: sent.append(array) or array)
    content = np.random.default_rng(0).bytes(length)
    hosts._send("begin", content)
    assert {len(piece) for piece in sent[1:]} <= {16, 32, 64, 128}

    def received(empty):
        assert empty.shape == sent[0].shape  # or no host would get through
        return sent.pop(0)

    monkeypatch.setattr(hosts.multihost_utils, "broadcast_one_to_all", received)
    assert hosts._receive() == ("begin", content)
    assert not sent


def test_only_the_host_that_leads_tells_others(rng, monkeypatch):
    data = data_of(rng)
    assert type(make_executor("vmapped", data, CONFIG)) is Vmapped
    monkeypatch.setattr(hosts, "_send", lambda *message: None)
    monkeypatch.setattr(hosts, "_leads", True)
    assert type(make_executor("auto", data, CONFIG)) is hosts.Leading


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--hosts", "2"), "--coordinator is None, and --hosts 2: several hosts need both"),
        (("--coordinator", "here:1"), "--coordinator is here:1, and --hosts 1: several hosts need both"),
        (("--coordinator", "here:1", "--hosts", "2", "--host", "2"), "--host is 2, and --hosts 2: count hosts from 0"),
        (("--coordinator", "here:1", "--hosts", "0"), "--hosts is 0; the least is 1"),
        (("--coordinator", "here", "--hosts", "2"), "coordinator is 'here'; give address and port, such as"),
        (("--coordinator", "here:65536", "--hosts", "2"), "coordinator is 'here:65536'; give address and port"),
        (("--coordinator", "::1:1234", "--hosts", "2"), "coordinator is '::1:1234'; give address and port"),
        (("--coordinator", "here:1", "--hosts", "2", "--workers", "2"), "not for workers: give one"),
        (
            ("--coordinator", "here:1", "--hosts", "2", "--executor", "sequential"),
            "side by side, and --executor is sequential",
        ),
    ],
)
def test_hosts_that_make_no_sense_are_refused_in_a_line(flags, message):
    status, _, err = call(script, "--dataset", "digits", *flags)
    assert one_line(status, err, message), err


@pytest.mark.slow
def test_two_hosts_find_what_one_finds_with_as_many_devices(tmp_path):
    """And the second one writes nothing: neither in its folder nor at home."""
    program = Path(__file__).parents[1] / "experiments" / "autoad_search.py"
    flags = "--dataset digits --executor vmapped --children 4 --population 2 --steps 3 --num-layers 1 --rivals pca"
    flags = f"{flags} --retrain-top 1 --retrain-steps 10 --time-budget None --quiet".split()
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"

    def begun(folder, devices, *more):
        folder.mkdir()
        own = {"HOME": str(folder), "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        own |= {"JAX_PLATFORMS": "cpu", "NPROC": "1", "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
        environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"} | own
        command = [sys.executable, program, *flags, *more]
        return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)

    one = begun(tmp_path / "one", 4, "--output", "run")
    together = ["--coordinator", address, "--hosts", "2", "--host"]
    pair = [begun(tmp_path / f"{host}", 2, "--output", "run", *together, f"{host}") for host in range(2)]
    try:
        for process in (one, *pair):
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
    finally:
        for process in (one, *pair):
            process.kill()
    assert list((tmp_path / "1").iterdir()) == []
    trials = [(tmp_path / name / "run" / "trials.jsonl").read_text().splitlines() for name in ("one", "0")]
    for alone, among in zip(*(map(json.loads, lines) for lines in trials), strict=True):
        assert among["architecture"] == alone["architecture"]
        assert among["reward"] == pytest.approx(alone["reward"], abs=1e-3)
        assert among["loss"] == pytest.approx(alone["loss"], rel=1e-3)
