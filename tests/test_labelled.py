"""Labelled anomalies in training: as many as gamma says, none of them anywhere else, validation and test untouched."""

import json

import numpy as np
import pytest

from jaxad import data

GAMMAS = (0.01, 0.05, 0.2)


def image_set(rng, n, name="set", classes=5):
    images = rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    return data.from_arrays(images, np.arange(n) % classes, name=name)


@pytest.fixture
def sets(rng):
    """Train and test part of a set of five classes; the test part is left out for a task that splits."""
    return image_set(rng, 1000, "set/train"), image_set(rng, 200, "set/test")


def make(sets, official, **options):
    train, test = sets
    return data.labelled_one_class(train, test if official else None, "1", **({"anomaly_ratio": 0.2} | options))


def assert_sound(task, sets):
    """Checked anew and not with check_task: no picture in two parts, labels are those of the classes."""
    parts = data.parts(task)
    ids = np.concatenate([part.ids for part in parts.values()])
    assert len(set(ids)) == len(ids)
    pixels = [{image.tobytes() for image in part.images} for part in parts.values()]
    assert sum(map(len, pixels)) == len(set.union(*pixels))
    for part in parts.values():
        for image, label, name in zip(part.images, part.labels, part.ids):
            source = sets[0] if "/train/" in name else sets[1]
            index = int(name.split("/")[-1])
            np.testing.assert_array_equal(image, source.images[index])
            assert label == (source.labels[index] != 1)
    assert all("/train/" in name for name in task.train.ids)


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("seed", range(2))
def test_numbers_and_leakage(sets, official, gamma, seed):
    task, clean = (make(sets, official, gamma=g, seed=seed) for g in (gamma, 0))
    assert_sound(task, sets)
    n = len(clean.train.ids)
    assert n == (150 if official else 120)
    wanted = round(gamma * n / (1 - gamma))
    assert task.train.labels.sum() == wanted
    assert task.train.labels.mean() == pytest.approx(gamma, abs=1 / n)
    assert set(task.train.ids[task.train.labels == 0]) == set(clean.train.ids)
    # What is tested and what thresholds are set on is the same for every gamma.
    for kind in ("valid", "test"):
        for a, b in zip(data.parts(task)[kind], data.parts(clean)[kind]):
            np.testing.assert_array_equal(a, b)
    assert (task.details["gamma"], task.details["train_anomalies"]) == (gamma, wanted)
    assert json.loads(json.dumps(task.details)) == task.details
    assert f"{'train':<6}{n + wanted:>8}{n:>8}{wanted:>11}" in data.table(task)


def test_all_that_validation_and_test_leave_can_be_labelled(sets):
    """Every image of another class that no part holds, once."""
    task, clean = (make(sets, False, gamma=gamma) for gamma in ("all", 0))
    drawn = set(task.train.ids[task.train.labels == 1])
    held = {name for part in (clean.valid, clean.test) for name in part.ids[part.labels == 1]}
    others = set(sets[0].ids[np.array(sets[0].class_names)[sets[0].labels] != clean.details["normal_classes"][0]])
    assert drawn <= others - held
    assert len(drawn) == task.details["train_anomalies"] == task.train.labels.sum()
    # What is left out has the pixels of an image that a part holds.
    pixels = {image.tobytes() for part in (clean.train, clean.valid, clean.test) for image in part.images}
    left = [image for image, name in zip(sets[0].images, sets[0].ids) if name in others - held - drawn]
    assert all(image.tobytes() in pixels for image in left)
    np.testing.assert_array_equal(task.test.images, clean.test.images)


def test_without_gamma_the_task_is_clean_and_says_nothing_of_it(sets):
    task = make(sets, True)
    assert not task.train.labels.any()
    assert "gamma" not in task.details


def drawn(task):
    return set(task.train.ids[task.train.labels == 1])


def test_draws_are_nested_seeded_and_of_all_other_classes(sets):
    few, more = (make(sets, True, gamma=gamma) for gamma in (0.05, 0.2))
    assert drawn(few) < drawn(more)
    same, other = make(sets, True, gamma=0.05), make(sets, True, gamma=0.05, gamma_seed=7)
    np.testing.assert_array_equal(few.train.ids, same.train.ids)
    assert drawn(other) != drawn(few)
    np.testing.assert_array_equal(other.test.ids, few.test.ids)
    assert {int(name.split("/")[-1]) % 5 for name in drawn(more)} == {0, 2, 3, 4}


def test_anomalies_are_not_all_in_one_place(sets):
    labels = make(sets, True, gamma=0.2).train.labels
    assert 0.05 < labels[: len(labels) // 2].mean() < 0.35


@pytest.mark.parametrize("official", [False, True])
def test_copies_of_images_in_use_are_not_drawn(rng, sets, official):
    train = sets[0]
    others = np.flatnonzero(train.labels != 1)
    clean = make(sets, official)
    used = np.concatenate([part.images for part in data.parts(clean).values()])
    free = [i for i in others if train.ids[i] not in set(np.concatenate([p.ids for p in data.parts(clean).values()]))]
    # Of the images left, all but 20 become copies of images of the task, 5 copies of each other.
    for place, i in enumerate(free[20:]):
        train.images[i] = used[place % len(used)]
    train.images[free[15:20]] = train.images[free[0]]
    n = len(clean.train.ids)
    task = data.with_labelled(clean, train, 15 / (n + 15))
    assert task.train.labels.sum() == 15
    pixels = [image.tobytes() for part in data.parts(task).values() for image in part.images]
    assert len(set(pixels)) == len(pixels)
    with pytest.raises(ValueError, match=r"needs 16 .* of other classes validation and test leave 15: lower gamma"):
        data.with_labelled(clean, train, 16 / (n + 16))
    train.images[free[:20]] = used[0]
    with pytest.raises(ValueError, match=r"gamma all needs 1 .* leave 0: lower anomaly_ratio"):
        data.with_labelled(clean, train, "all")


def test_bad_input_ends_in_one_line(rng, sets):
    train = sets[0]
    other = data.out_of_distribution(image_set(rng, 100, "a"), image_set(rng, 100, "b"))
    for call, message in [
        (lambda: make(sets, True, gamma=1.0), r"gamma 1\.0 is outside \[0, 1\): 0\.05 means"),
        (lambda: make(sets, True, gamma=-0.1), r"outside \[0, 1\)"),
        (lambda: make(sets, True, gamma=float("nan")), r"outside \[0, 1\)"),
        (lambda: make(sets, True, gamma=0.001), "gamma 0.001 of 150 training images is no anomaly: raise gamma"),
        (lambda: make(sets, True, gamma=0.9), "needs 1350 .* leave 7"),
        (lambda: data.with_labelled(other, train, 0.1), "give a one-class task"),
        (lambda: data.with_labelled(make(sets, True), train._replace(labels=None), 0.1), "give a one-class task"),
        (
            lambda: data.with_labelled(make(sets, True), train._replace(images=train.images[:, :2]), 0.1),
            "has other images than .*: draw anomalies before resizing",
        ),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_known_anomalies_leave_validation_for_training(sets):
    clean = make(sets, False)
    task, more = (data.with_known(clean, count, seed=3) for count in (3, 5))
    known = set(task.train.ids[task.train.labels == 1])
    assert len(known) == task.details["train_anomalies"] == 3
    assert known < set(more.train.ids[more.train.labels == 1])
    assert known | set(task.valid.ids) == set(clean.valid.ids)
    assert not known & set(task.valid.ids)
    assert set(task.train.ids) - known == set(clean.train.ids)
    at = dict(zip(clean.valid.ids, clean.valid.images))
    for image, label, name in zip(task.train.images, task.train.labels, task.train.ids):
        assert label == (name in known)
        assert not label or (image == at[name]).all()
    for name in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(task.test, name), getattr(clean.test, name))
    assert data.with_known(clean, 0) is clean
    there_are = int(clean.valid.labels.sum())
    assert data.with_known(clean, there_are - 1).valid.labels.sum() == 1
    for count in (there_are, -1):
        with pytest.raises(ValueError, match=f"labelled is {count}, and validation has {there_are} anomalies"):
            data.with_known(clean, count)


def test_known_anomalies_bring_their_masks_where_all_have_some():
    clean = data.load_task("painted:brick:16", limit=40)
    task = data.with_known(clean, 2)
    assert clean.train.masks is not None
    np.testing.assert_array_equal(task.train.masks.any((1, 2)), task.train.labels)


def test_check_task_still_refuses_anomalies_that_nobody_declared(sets):
    task = make(sets, True, gamma=0.05)
    assert data.check_task(task) is task
    hidden = task._replace(details={k: v for k, v in task.details.items() if k != "train_anomalies"})
    with pytest.raises(ValueError, match=r"train holds 8 anomalous image\(s\): remove them"):
        data.check_task(hidden)
    wrong = task._replace(details=task.details | {"train_anomalies": 3})
    with pytest.raises(ValueError, match=r"holds 8 anomalous.* but declares 3"):
        data.check_task(wrong)
    only = task._replace(train=task.train._replace(labels=np.ones_like(task.train.labels)))
    with pytest.raises(ValueError, match="no normal image: lower gamma"):
        data.check_task(only._replace(details=task.details | {"train_anomalies": len(only.train.labels)}))
