"""Searches that are compared: the clock, the favourite, and children that share nothing."""

import jax
import numpy as np
import pytest

from jaxad.data import Split, Task
from jaxad.nas import trial
from jaxad.nas.analysis import benchmark
from jaxad.nas.analysis.benchmark import (
    SearchRecord,
    best_at,
    evaluate_favourites,
    fair_seconds,
    favourite,
    record_search,
    rewards_from_scratch,
)
from jaxad.nas.strategies.registry import make_strategy
from spaces import TINY

RECORD = SearchRecord([[0], [1], [2], [3]], [0.5, 0.9, 0.2, 0.95], [1.0, 2.5, 3.0, 7.0])


def test_the_favourite_is_the_best_that_had_ended():
    assert favourite(RECORD) == [3]
    assert favourite(RECORD, 7.0) == [3]
    assert favourite(RECORD, 6.9) == [1]
    assert favourite(RECORD, 1.0) == [0]
    assert favourite(RECORD, 0.5) == [0]  # nothing had ended


def test_the_best_at_a_time_is_that_of_the_children_that_had_ended():
    seconds = np.array([0.5, 1.0, 2.4, 2.5, 6.0, 100.0])
    expected = [
        max((r for r, e in zip(RECORD.rewards, RECORD.elapsed) if e <= s), default=np.nan) for s in seconds.tolist()
    ]
    np.testing.assert_array_equal(best_at(RECORD, seconds), expected)


def test_fair_seconds_are_those_of_the_quickest():
    assert fair_seconds([RECORD, RECORD._replace(elapsed=[1.0, 2.0, 3.0, 4.0])]) == 4.0


class Recorder:
    """An executor that trains nothing: its reward is the mean of a child's weights."""

    def __init__(self):
        self.jobs = []

    def __call__(self, jobs):
        for job in jobs:
            self.jobs.append(job)
            mean = np.mean([leaf.mean() for leaf in jax.tree.leaves(job.params)])
            yield trial.Result(job.params, trial.Reward(mean, np.float32(0), np.isfinite(mean)), None, 8, 0.0)


def scratch(tokens, seed=0):
    recorder = Recorder()
    return list(rewards_from_scratch(TINY, tokens, recorder, seed=seed, image_channels=1)), recorder.jobs


def test_a_child_from_scratch_depends_on_seed_and_tokens_alone():
    tokens = np.array(list(TINY.enumerate()))[:4]
    rewards, jobs = scratch(tokens)
    backwards, jobs_backwards = scratch(tokens[::-1])
    assert rewards == backwards[::-1]
    assert len(set(rewards)) == 4
    assert [job.architecture for job in jobs] == [TINY.to_architecture(row) for row in tokens]
    for a, b in zip(jobs, jobs_backwards[::-1]):
        np.testing.assert_array_equal(jax.random.key_data(a.key), jax.random.key_data(b.key))
    assert not set(rewards) & set(scratch(tokens, seed=1)[0])


def test_children_that_fail_have_the_worst_reward():
    def executor(jobs):
        yield trial.Result(None, None, "out of memory", 8, 0.0)
        yield trial.Result(None, trial.Reward(np.float32(0.7), np.float32(np.nan), np.bool_(False)), None, 8, 0.0)

    tokens = np.array(list(TINY.enumerate()))[:2]
    assert list(rewards_from_scratch(TINY, tokens, executor, seed=0, image_channels=1)) == [trial.WORST_REWARD] * 2


def task(rng):
    def split(count, anomalies):
        labels = (np.arange(count) < anomalies).astype(np.int32)
        return Split(rng.random((count, 8, 8, 1), np.float32), labels, None, np.arange(count).astype(str))

    return Task("noise", split(16, 0), split(16, 8), split(16, 8), {})


@pytest.mark.slow
@pytest.mark.parametrize("share", [True, False])
def test_a_record_is_complete_and_ordered_in_time(share, rng):
    settings = trial.TrialConfig(steps=1, batch_size=8)
    search = make_strategy("random", TINY, population=2)
    options = {"children": 4, "population": 2, "share": share}
    record = record_search(search, TINY, task(rng), settings, key=jax.random.key(0), **options)
    assert len({tuple(tokens) for tokens in record.tokens}) == len(record.rewards) == 4
    assert (np.diff([0.0, *record.elapsed]) > 0).all()
    assert all(0 <= reward <= 1 for reward in record.rewards)


def test_favourites_are_trained_once_each_and_tested(rng, monkeypatch):
    """Two strategies that found the same, and one whose favourite after equal seconds is another."""
    every, parts, jobs = np.array(list(TINY.enumerate()))[:4].tolist(), [], []

    class Counted(Recorder):
        def __call__(self, waiting):
            jobs.append(len(waiting))
            return super().__call__(waiting)

        def close(self):
            pass

    monkeypatch.setattr(trial, "put", lambda train, part, labels: parts.append(part.sum()))
    monkeypatch.setattr(benchmark, "make_executor", lambda kind, images, settings: Counted())
    slow = SearchRecord(every, [0.1, 0.2, 0.9, 0.3], [1.0, 2.0, 8.0, 9.0])
    quick = SearchRecord(every, [0.1, 0.2, 0.9, 0.3], [1.0, 2.0, 3.0, 4.0])
    made, options = task(rng), {"seed": 5, "correlate": "quick"}
    found = evaluate_favourites(TINY, made, trial.TrialConfig(), {"slow": slow, "quick": quick}, **options)
    assert jobs == [2, 4]
    assert parts == [made.test.images.sum(), made.valid.images.sum()]
    assert found["auroc"]["slow children"] == found["auroc"]["quick seconds"] != found["auroc"]["slow seconds"]
    alone = list(rewards_from_scratch(TINY, np.array(every), Recorder(), seed=5, image_channels=1))
    assert found["ranks"] == list(zip(quick.rewards, alone))
    assert found["auroc"]["slow children"] == alone[2]
    assert found["auroc"]["slow seconds"] == alone[1]
