"""Children that train elsewhere: the same bits whoever trains them, and what goes wrong with workers costs no child."""

import contextlib
import pickle
import pickletools
import signal
import time
from concurrent import futures

import jax
import numpy as np
import pytest

import jaxad
from jaxad._utils.processes import Processes, ProcessLost
from jaxad.nas import supernet, trial
from jaxad.nas.executors import remote, worker
from jaxad.nas.executors.population import evaluate_population
from jaxad.nas.executors.remote import TRIES, Remote, Workers
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, Result, Reward, TrialConfig
from jaxad.nn.architecture import Architecture
from jaxad.nn.cost import flops
from spaces import FEW

SHAPE = (8, 8, 1)
SPACE = SearchSpace(num_layers=1, **FEW)
CONFIG = TrialConfig(steps=2, batch_size=16, fit_images=16)
CHILDREN = [SPACE.to_architecture(row) for row in np.random.default_rng(0).integers(0, SPACE.choices_per_token, (5, 8))]


def make_data(masks=False):
    rng = np.random.default_rng(1)
    labels = np.arange(20) % 4 == 0
    truth = np.zeros((20, 8, 8), np.uint8)
    truth[labels, 2:5, 2:5] = 1
    return trial.put(*rng.integers(0, 256, (2, 20, *SHAPE), np.uint8), labels, truth if masks else None)


DATA = make_data()
SHARED = supernet.init(np.random.default_rng(2), SPACE, 1)


def jobs_of(count=5):
    keys = jax.random.split(jax.random.key(3), count)
    return [Job(child, supernet.take(SHARED, child), key) for child, key in zip(CHILDREN, keys)]


@pytest.fixture(scope="module")
def expected():
    """What this process makes of the children."""
    with contextlib.closing(Sequential(DATA, CONFIG)) as executor:
        return list(executor(jobs_of()))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
        jax.tree.map(np.testing.assert_array_equal, one.reward, other.reward)
        assert (one.reason, one.batch_size) == (other.reason, other.batch_size)


class Direct(futures.Executor):
    """A pool without workers: calls happen at once, as `happens` has it; None leaves them open."""

    def __init__(self, happens=lambda number, call: call()):
        self.happens, self.messages, self.abandoned = happens, [], []

    def submit(self, fn, message):
        future, number = futures.Future(), len(self.messages)
        self.messages.append(message)
        try:
            found = self.happens(number, lambda: fn(pickle.loads(pickle.dumps(message))))
        except Exception as error:
            future.set_exception(error)
        else:
            if found is not None:
                future.set_result(found)
        return future

    def abandon(self, future):
        self.abandoned.append(future)
        future.cancel()


def run(pool, jobs=None, count=2, data=DATA, config=CONFIG, **options):
    handed, said = [], []
    workers = Workers(pool, lambda: count, options.pop("timeout", None))
    executor = Remote(workers, data, config, on_child=handed.append, say=said.append, **options)
    return list(executor(jobs_of() if jobs is None else jobs)), handed, said


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A worker in this process that knows no images yet."""
    monkeypatch.setattr(worker, "_EXECUTORS", type(worker._EXECUTORS)())
    monkeypatch.setattr(remote, "WAITS", 0.02)


# ---- what travels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_are_bit_for_bit_those_of_this_process(expected, count):
    """Of threads, whatever their number, in the order of the jobs."""
    with futures.ThreadPoolExecutor(count) as pool:
        found, handed, said = run(pool, count=count)
    assert_same(found, expected)
    assert len(handed) == len(found)
    assert said == []


def test_messages_are_plain_and_images_go_once(expected):
    pool = Direct()
    found, handed, _ = run(pool)
    assert_same(found, expected)
    with_images = ["arrays" in message for message in pool.messages]
    # Two are handed out before the first answer; both ask, and one of them brings the images.
    assert sum(with_images) == 1
    assert len(with_images) == len(found) + 2
    images = sum(array.nbytes for array in pool.messages[with_images.index(True)]["arrays"].values())
    weights = [sum(leaf.nbytes for leaf in jax.tree.leaves(result.params)) for result in found]
    assert sum(line.sent for line in handed) - images < sum(weights) + 8 * len(found) + 8
    assert all(line.received < 2 * max(weights) for line in handed)
    assert_same(run(pool)[0], expected)  # another population, and an equal executor
    assert sum("arrays" in message for message in pool.messages) == 1
    # A pickle of a message names NumPy's functions, and nothing of ours.
    names = {
        argument.split()[0]
        for code, argument, _ in pickletools.genops(pickle.dumps(pool.messages[0], protocol=2))
        if code.name == "GLOBAL"
    }
    assert names
    assert {name.split(".")[0] for name in names} <= {"numpy", "_codecs"}


def test_images_are_known_by_their_content():
    first = worker.arrays_of(DATA)
    assert set(first) == {"train", "valid", "valid_labels"}
    assert worker.digest_of(first) == worker.digest_of(worker.arrays_of(make_data()))
    for name in first:
        other = first | {name: first[name] + first[name].dtype.type(1)}
        assert worker.digest_of(other) != worker.digest_of(first), name
    assert worker.digest_of(worker.arrays_of(make_data(masks=True))) != worker.digest_of(first)


def test_masks_travel_too():
    config, data = TrialConfig(steps=2, batch_size=16, reward="pixel_auroc"), make_data(masks=True)
    with contextlib.closing(Sequential(data, config)) as executor:
        expected = list(executor(jobs_of(1)))
    assert_same(run(Direct(), jobs_of(1), data=data, config=config)[0], expected)


def test_children_of_several_inputs_see_theirs(expected, monkeypatch):
    jobs = jobs_of()
    object.__setattr__(jobs[1].architecture, "input", "deep")
    try:
        inputs = {"pixels": DATA, "deep": make_data(masks=True)}
        pool = Direct()
        found, *_ = run(pool, jobs, data=inputs)
        assert len({message["images"] for message in pool.messages}) == 2
        assert_same(found[:1] + found[2:], expected[:1] + expected[2:])
        with pytest.raises(ValueError, match="no worker trains children of the input deep: there are those of pixels"):
            run(Direct(), jobs, data={"pixels": DATA})
    finally:
        object.__setattr__(jobs[1].architecture, "input", "pixels")


def test_the_largest_child_goes_first_and_what_comes_next_is_compiled_meanwhile():
    """By whoever is likely to get it: with two workers the third child while the first trains."""
    pool = Direct()
    run(pool)
    order = sorted(CHILDREN, key=lambda child: -flops(child, SHAPE))
    assert order != CHILDREN
    handed = [m["architecture"] for m in pool.messages]
    assert handed[:2] == [child.to_json() for child in order[:2]]
    assert [h for h in handed[2:] if h not in handed[:2]] == [child.to_json() for child in order[2:]]
    assert pool.messages[0]["ahead"] == [order[2].to_json()]
    assert pool.messages[-1]["ahead"] == []


def test_threads_are_those_of_the_client(monkeypatch):
    """A process that has not begun to compute takes as many; another one says that it did not."""
    message = worker.message_of(jobs_of(1)[0], CONFIG, "none", [], ())
    monkeypatch.setattr(worker, "_BEGUN", {})
    monkeypatch.setenv("NPROC", "1")  # so that it is afterwards what it was
    monkeypatch.delenv("NPROC")
    answer = worker.train(message | {"client": "elsewhere:1", "threads": 37})
    assert (answer["kind"], answer["threads"], worker.threads()) == ("missing", 37, 37)
    monkeypatch.setenv("NPROC", "5")
    _, _, said = run(Direct(), jobs_of(2))
    assert len(said) == 1
    assert "computes with 37 threads and this process with 5" in said[0]


# ---- faults ------------------------------------------------------------------------------------------------------


def lost(number, call):
    raise ProcessLost("process 7 was ended by signal 9")


def test_a_child_whose_worker_is_lost_is_given_to_another(expected):
    """Once for the images, once for the child: nothing is lost or counted twice."""
    pool = Direct(lambda number, call: lost(number, call) if number in (1, 3) else call())
    found, handed, _ = run(pool)
    assert_same(found, expected)
    assert len(handed) == len(found)


def test_a_child_that_no_worker_survives_has_failed_with_the_reason(expected):
    bad = CHILDREN[1].to_json()

    def happens(number, call):
        return lost(number, call) if pool.messages[number]["architecture"] == bad else call()

    pool = Direct(happens)
    found, *_ = run(pool)
    assert sum(message["architecture"] == bad for message in pool.messages) == TRIES
    assert_same(found[:1] + found[2:], expected[:1] + expected[2:])
    assert found[1].reward is found[1].params is None
    assert found[1].reason.startswith("given to workers 3 times, and lost: ProcessLost: process 7 was ended")
    # A population goes on without it.
    pool = Direct(happens)
    executor = Remote(Workers(pool, lambda: 2), DATA, CONFIG)
    outcomes, shared, _ = evaluate_population(executor, SHARED, CHILDREN, jax.random.key(3))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "ok", "ok", "ok"]
    assert outcomes[1].reason == found[1].reason
    kept = [
        (child, job.params, r.params) for child, job, r in zip(CHILDREN, jobs_of(), expected) if r is not expected[1]
    ]
    jax.tree.map(np.testing.assert_array_equal, shared, supernet.merge(SHARED, kept))


def test_a_worker_that_hangs_does_not_hold_a_population(expected):
    pool = Direct(lambda number, call: None if number in (0, 4) else call())
    found, handed, _ = run(pool, timeout=0.2)
    assert_same(found, expected)
    assert len(handed) == len(found)
    assert len(pool.abandoned) == 2
    found, *_ = run(Direct(lambda number, call: None), jobs_of(1), timeout=0.05)
    assert found[0].reason == "given to workers 3 times, and lost: longer than child_timeout, 0.05 s"


def test_a_pool_that_cannot_end_a_call_has_fewer_places(expected):
    """Whoever hangs still holds a place there, so that nothing is handed to it."""
    with futures.ThreadPoolExecutor(2) as pool:
        release = pool.submit(time.sleep, 0.5)
        executor = Remote(Workers(pool, lambda: 2, 0.1), DATA, CONFIG)
        executor.abandon(release)
        assert executor.places() == 1
        release.result()
        assert executor.places() == 2


def test_memory_that_is_short_is_the_workers_trouble(expected, monkeypatch):
    program, told = Sequential._program, []

    def short(self, launch, job, batch_size):
        if not told:
            told.append(job)
            raise MemoryError("no room for this")
        return program(self, launch, job, batch_size)

    monkeypatch.setattr(Sequential, "_program", short)
    assert_same(run(Direct())[0], expected)
    assert told


def test_other_versions_are_refused_and_both_are_named(monkeypatch):
    mine = worker.versions()

    def happens(number, call):
        with monkeypatch.context() as patch:
            patch.setattr(worker, "versions", lambda: mine | {"jax": "0.0.1"})
            return call()

    with pytest.raises(ValueError) as refused:
        run(Direct(happens), jobs_of(1))
    assert f"has jaxad {mine['jaxad']} and jax 0.0.1, and this process jaxad" in str(refused.value)
    assert f"jax {mine['jax']}: install the same on both" in str(refused.value)
    with pytest.raises(ValueError, match=r"a worker has no jaxad.nas.executors.worker .*install jaxad"):
        run(Direct(lambda number, call: (_ for _ in ()).throw(ModuleNotFoundError("no jaxad"))), jobs_of(1))


def test_errors_of_a_child_are_raised_as_they_are_here(monkeypatch):
    config = TrialConfig(steps=2, batch_size=16, reward="pixel_auroc")
    with pytest.raises(ValueError, match="reward is pixel_auroc, which needs masks"):
        run(Direct(), jobs_of(1), config=config)
    monkeypatch.setattr(Sequential, "_program", lambda self, *rest: {}["what"])
    with pytest.raises(RuntimeError, match=r"of .*:\d+: Traceback(.|\n)*KeyError: 'what'"):
        run(Direct(), jobs_of(1))


def test_a_pool_that_is_gone_ends_the_search_in_one_line():
    pool = futures.ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ValueError, match=r"there are no workers any more .*start others, and resume the run"):
        run(pool, jobs_of(1))


def test_what_is_not_wanted_any_more_is_given_up():
    pool = Direct(lambda number, call: call() if number < 4 else None)
    results = Remote(Workers(pool, lambda: 2), DATA, CONFIG)(jobs_of())
    assert isinstance(next(results), Result)
    results.close()
    assert len(pool.abandoned) == 2


def test_nothing_is_handed_out_while_there_are_no_workers(expected):
    counts = iter([0, 0, 2])
    said = []
    executor = Remote(Workers(Direct(), lambda: next(counts, 2)), DATA, CONFIG, say=said.append)
    assert_same(list(executor(jobs_of())), expected)
    assert said == ["there are no workers now: waiting for some"]


def test_populations_share_the_places_and_the_first_goes_first(expected):
    """Of two calls at a time: the second has what the first leaves, and its results are there when it is asked."""
    pool = Direct()
    executor = Remote(Workers(pool, lambda: 4), DATA, CONFIG)
    first, second = executor(jobs_of()[:2]), executor(jobs_of()[2:])
    assert len(pool.messages) == 4  # two of each
    assert_same(list(first) + list(second), expected)
    pool = Direct()
    executor = Remote(Workers(pool, lambda: 1), DATA, CONFIG)
    jobs = jobs_of()
    first, second = executor(jobs[:2]), executor(jobs[2:])
    assert len(pool.messages) == 1
    list(first)
    list(second)
    places = [CHILDREN.index(Architecture.from_json(message["architecture"])) for message in pool.messages]
    assert [place >= 2 for place in places] == sorted(place >= 2 for place in places)  # all of the first before
    assert set(places) == {CHILDREN.index(child) for child in CHILDREN}


def test_what_is_not_finished_is_given_up_with_its_executor():
    """As where the search ends by an error: a pool that is the caller's has no calls of it left."""
    pool = Direct(lambda number, call: None)
    executor = Remote(Workers(pool, lambda: 3), DATA, CONFIG)
    begun = [executor(jobs_of()[:2]), executor(jobs_of()[2:])]
    executor.close()
    assert len(pool.abandoned) == 3
    assert [list(each) for each in begun] == [[], []]
    assert executor._populations == []


# ---- processes, and a whole search -------------------------------------------------------------------------------


def test_processes_give_the_bits_of_this_process(expected):
    with Processes(2, start=worker.begin_local, args=(jax.config.jax_compilation_cache_dir,)) as pool:
        found, handed, said = run(pool, jobs_of(2))
    assert_same(found, expected[:2])
    assert said == []
    assert all(line.worker != worker.name() for line in handed)


def begin_on_a_full_disk(cache):
    """A worker that cannot write a byte, wherever it tries."""
    import resource  # of POSIX

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of writing, as of a full disk, and no end
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    worker.begin_local(cache)


def test_a_worker_whose_disk_is_full_trains_all_the_same(expected, tmp_path):
    """It writes nothing but compiled programs, which it can do without."""
    pytest.importorskip("resource")
    with Processes(1, start=begin_on_a_full_disk, args=(str(tmp_path),)) as pool:
        found, _, _ = run(pool, jobs_of(2), count=1)
    assert_same(found, expected[:2])
    assert not any(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_search_is_the_same_with_workers_and_may_change_their_number(tmp_path, ahead):
    """In this process; and in two others, killed on the way, and resumed without."""
    task = jaxad.load_task("digits", normal_classes=["0"], anomaly_ratio=0.3, limit=120)
    options = FEW | {
        "num_layers": 1, "children": 6, "population": 2, "steps": 2, "retrain_steps": 4, "rivals": ("none",),
        "strategy": "random", "ahead": ahead, "quiet": True,
    }  # fmt: skip
    alone = jaxad.search(task, **options)

    def kill(record):
        if record.trial == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jaxad.search(task, output=tmp_path / "run", workers=2, on_trial=kill, **options)
    found = jaxad.search(task, resume=tmp_path / "run", workers=0, quiet=True)
    for one, other in zip(alone.trials, found.trials, strict=True):
        assert (one.tokens, one.reward, one.loss, one.status) == (other.tokens, other.reward, other.loss, other.status)
    jax.tree.map(np.testing.assert_array_equal, alone.state.params, found.state.params)
    assert alone.test == found.test
    rows = found.results["workers"]
    assert len(rows) == 2
    assert sum(row["children"] for row in rows) >= 3
    assert all(row["children_per_minute"] > 0 and row["sent_megabytes"] > 0 for row in rows)
    assert "workers" not in alone.results


def test_reward_of_a_trained_child_keeps_its_type(expected):
    found, *_ = run(Direct(), jobs_of(1))
    assert isinstance(found[0].reward, Reward)
    assert [leaf.dtype for leaf in found[0].reward] == [leaf.dtype for leaf in expected[0].reward]
