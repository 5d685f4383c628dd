"""The official test part stays whole, and no picture of it is trained on or chosen by."""

import gzip
import json
import os
import struct

import numpy as np
import pytest
from PIL import Image

from jaxad import data

TFDS = os.environ.get("TFDS_DATA_DIR")


def pictures(rng, n):
    return rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)


def parts_of_a_set(rng, n=400, n_test=100):
    """Train and test of five classes."""
    return tuple(
        data.from_arrays(pictures(rng, count), np.arange(count) % 5, name=f"set/{kind}")
        for kind, count in (("train", n), ("test", n_test))
    )


def counts(task):
    return [(row.normal, row.anomalous) for row in data.describe(task)]


def assert_apart(task):
    """No id and no picture is in two parts."""
    parts = data.parts(task).values()
    ids = np.concatenate([part.ids for part in parts])
    assert len(set(ids)) == len(ids)
    pixels = [{image.tobytes() for image in part.images} for part in parts]
    assert sum(map(len, pixels)) == len(set.union(*pixels))
    assert not task.train.labels.any()


def assert_labelled(part, dataset, normal):
    """The images of a part are those of the set, labelled by class."""
    place = {name: i for i, name in enumerate(dataset.ids)}
    index = [place[name] for name in part.ids]
    np.testing.assert_array_equal(part.images, dataset.images[index])
    names = np.array(dataset.class_names)[dataset.labels[index]]
    np.testing.assert_array_equal(part.labels, ~np.isin(names, normal))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"anomaly_ratio": 0.2}, [(60, 0), (20, 5), (20, 80)]),
        ({"valid_anomalies": 50}, [(60, 0), (20, 50), (20, 80)]),
        ({"anomaly_ratio": 0.2, "limit": 40}, [(30, 0), (10, 2), (20, 80)]),
        ({"anomaly_ratio": 0.2, "split": (1, 3, 100)}, [(20, 0), (60, 15), (20, 80)]),
        ({"anomaly_ratio": 0}, [(60, 0), (20, 0), (20, 80)]),
    ],
)
def test_one_class_is_tested_on_the_whole_test_part(rng, seed, options, expected):
    train, test = parts_of_a_set(rng)
    task = data.official_split(train, test, "1", seed=seed, **options)
    assert counts(task) == expected
    assert_apart(task)
    assert set(task.test.ids) == set(test.ids)
    assert_labelled(task.test, test, ["1"])
    for part in (task.train, task.valid):
        assert_labelled(part, train, ["1"])
    assert task.details["kind"] == "one-class, official test"
    assert task.details["normal_classes"] == ["1"]
    assert task.details["anomalous_classes"] == ["0", "2", "3", "4"]
    assert json.loads(json.dumps(task.details)) == task.details
    assert "anomalous: 0, 2, 3, 4\n" in data.table(task)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("classes", "available", "options", "expected"),
    [
        ((), 300, {}, [(300, 0), (100, 25), (100, 25)]),
        (["1"], 300, {}, [(60, 0), (20, 5), (20, 5)]),
        ((), 300, {"limit": 40}, [(30, 0), (10, 2), (100, 25)]),
        ((), 300, {"valid_anomalies": 70}, [(300, 0), (100, 70), (100, 25)]),
        ((), 30, {}, [(300, 0), (20, 5), (100, 25)]),  # scarce: the test part is served first
        ((), 300, {"anomaly_ratio": 0, "valid_anomalies": 4}, [(300, 0), (100, 4), (100, 0)]),
    ],
)
def test_other_sets_are_mixed_into_all_normal_test_images(rng, seed, classes, available, options, expected):
    train, test = parts_of_a_set(rng)
    other = data.from_arrays(pictures(rng, available), name="other")
    options = {"anomaly_ratio": 0.2} | options
    task = data.official_split(train, test, classes, anomalous=other, seed=seed, **options)
    assert counts(task) == expected
    assert_apart(task)
    names = np.array(test.class_names)[test.labels]
    wanted = test.ids[np.isin(names, classes)] if classes else test.ids
    assert set(task.test.ids[task.test.labels == 0]) == set(wanted)
    for part in (task.valid, task.test):
        assert set(part.ids[part.labels == 1]) <= set(other.ids)
    assert set(task.train.ids) | set(task.valid.ids[task.valid.labels == 0]) <= set(train.ids)
    assert task.details["kind"] == "out-of-distribution, official test"
    assert "anomalous: other\n" in data.table(task)


def test_copies_leave_train_and_validation_but_not_the_test_part(rng):
    train, test = parts_of_a_set(rng)
    test.images[50] = test.images[0]  # within the test part, both of class 0
    test.images[51] = test.images[2]  # of different classes
    train.images[0:10] = test.images[[0, 5, 10, 15, 20, 1, 6, 11, 16, 21]]  # of train's two first classes and others
    train.images[100] = train.images[200]  # within a class of train
    train.images[101] = train.images[300]  # of an anomalous and a normal image of train: neither stays
    options = {"anomaly_ratio": 0.2, "seed": 3}
    task = data.official_split(train, test, "0", **options)
    assert_apart(task)
    assert set(task.test.ids) == set(test.ids)
    # Of the ten, those whose verdict (normal or not) is the same in both parts are copies, others contradictions.
    assert task.details["duplicates_dropped"] == 6
    assert task.details["contradictions"]["images"] == 12
    assert task.details["duplicates_in_test"] == 2
    assert sum(row.normal for row in data.describe(task)[:2]) == 80 - 2 - 2
    assert "left out: 6 exact copies of other images" in data.table(task)
    assert "contradiction: 12 images are equal to others with another label" in data.table(task)
    assert "kept: 2 exact copies within the official test part" in data.table(task)

    other = data.from_arrays(np.concatenate([train.images[20:25], test.images[5:9], pictures(rng, 99)]), name="other")
    task = data.official_split(train, test, anomalous=other, **options)
    assert_apart(task)
    assert set(task.test.ids[task.test.labels == 0]) == set(test.ids)
    assert task.details["duplicates_dropped"] == 10  # of test images; what is normal and anomalous is no copy
    assert task.details["contradictions"]["images"] == 20
    assert task.details["duplicates_in_test"] == 2


def test_everything_is_seeded(rng):
    sets = parts_of_a_set(rng)
    one, same, other = (data.official_split(*sets, ["0", 1], anomaly_ratio=0.2, seed=seed) for seed in (5, 5, 6))
    for kind, part in data.parts(one).items():
        for x, y in zip(part, data.parts(same)[kind]):
            np.testing.assert_array_equal(x, y)
        assert (set(part.ids) == set(data.parts(other)[kind].ids)) == (kind == "test")


def test_classes_are_matched_by_name(rng):
    train = data.from_arrays(pictures(rng, 90), np.repeat(["a", "c", "d"], 30), name="train")
    test = data.from_arrays(pictures(rng, 40), np.repeat(["a", "b", "c", "e"], 10), name="test")
    task = data.official_split(train, test, 1, anomaly_ratio=0.2)
    assert_labelled(task.test, test, ["c"])
    assert task.details["normal_classes"] == ["c"]
    assert task.details["anomalous_classes"] == ["a", "b", "e", "d"]


def test_masks_stay_with_their_images(rng):
    sets = []
    for kind, n in (("train", 50), ("test", 20)):
        images = pictures(rng, n)
        masks = (images[..., 0] > 99).astype(np.uint8) * (np.arange(n) % 2).astype(np.uint8)[:, None, None]
        sets.append(data.from_arrays(images, np.arange(n) % 2, masks, name=kind))
    task = data.official_split(*sets, 0, anomaly_ratio=0.2)
    for part in (task.valid, task.test):
        np.testing.assert_array_equal(part.masks, (part.images[..., 0] > 99) & (part.labels == 1)[:, None, None])


def test_bad_input_ends_in_one_line(rng):
    train, test = parts_of_a_set(rng)
    few = data.from_arrays(pictures(rng, 25), name="few")
    wide = test._replace(images=np.concatenate([test.images] * 2, axis=2))
    for arguments, options, message in [
        ((train, test), {}, r"what is anomalous for set/train\? Give normal classes or anomalous sets"),
        ((train, test, "9"), {}, "no class '9': choose from 0, 1, 2, 3, 4"),
        (
            (train, test, range(5)),
            {},
            "0 anomalies are too few for at least 1 in validation and 0 in test: lower valid",
        ),
        ((train, test, 1), {"valid_anomalies": 321}, "320 anomalies are too few for at least 321 in validation and 0"),
        ((train, test, 1), {"valid_anomalies": 0}, "valid_anomalies 0 is too small: give at least 1"),
        ((train, test), {"anomalous": few, "anomaly_ratio": 0.2}, "25 anomalies are too few for at least 1 .* 25 in"),
        ((train, test), {"anomalous": few, "valid_anomalies": 21}, "25 anomalies are too few for at least 21 .* 5 in"),
        ((train, wide, 1), {}, r"train images are \(4, 4, 1\) uint8, test images \(4, 8, 1\) uint8: resize"),
        ((train, test._replace(labels=None), 1), {}, "set/test has no labels"),
        ((train, test, 1), {"anomaly_ratio": 0.01}, "no anomaly among 20 valid images: raise anomaly_ratio"),
        ((train, train, 1), {}, "set/train/0 is in train and test: choose parts that do not overlap"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            data.official_split(*arguments, **options)
        assert "\n" not in str(error.value)


# --- by name


@pytest.fixture
def idx(rng, tmp_path):
    """A folder of IDX files: 200 training and 50 test images of five classes."""
    for prefix, n in (("train", 200), ("t10k", 50)):
        for name, array in (
            ("images-idx3-ubyte", pictures(rng, n)[..., 0]),
            ("labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 5),
        ):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (tmp_path / f"{prefix}-{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return f"idx:{tmp_path}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"normal_classes": "2", "valid_anomalies": 30}, [(30, 0), (10, 30), (10, 40)]),
        ({"normal_classes": "2", "valid_anomalies": 30, "limit": 20}, [(15, 0), (5, 30), (10, 40)]),
        ({"ood": "uniform", "anomaly_ratio": 0.2}, [(150, 0), (50, 12), (50, 12)]),
        ({"ood": ("uniform", "digits"), "anomaly_ratio": 0.2, "limit": 20}, [(15, 0), (5, 1), (50, 12)]),
        ({"ood": "digits", "normal_classes": "2", "anomaly_ratio": 0.5}, [(30, 0), (10, 10), (10, 10)]),
    ],
)
def test_load_task_tests_on_the_test_part(idx, options, expected):
    task = data.load_task(idx, test_split="test", **options)
    assert counts(task) == expected
    assert_apart(task)
    assert all("/test/" in name for name in task.test.ids[task.test.labels == 0])
    assert all("/train/" in name for name in task.train.ids)
    assert task.details["test_split"] == "test"
    assert task.details["normal_split"] == "train"
    assert task.details["anomaly_split"] == ("test" if "ood" in options else "train")
    assert json.loads(json.dumps(task.details)) == task.details


def test_load_task_refuses_what_has_no_test_part(idx, tmp_path, rng):
    Image.fromarray(pictures(rng, 1)[0, ..., 0]).save(tmp_path / "one.png")
    for dataset, options, message in [
        ("digits", {}, "digits has no part 'test' to test on: leave out test_split, or name a TFDS or IDX set"),
        ("textures:16", {}, "textures:16 has no part 'test'"),
        (f"folder:{tmp_path}", {"ood": "digits"}, "no part 'test'"),
        ("mvtec:x", {}, "its own test part, to be halved: leave out valid_anomalies and test_split"),
        (
            idx,
            {"ood": "uniform", "normal_split": "test"},
            "is in train and test: choose parts that do not",
        ),
        (idx, {"ood": "uniform", "test_split": "dev"}, "no part 'dev'"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load_task(dataset, **({"test_split": "test"} | options))


@pytest.mark.data
@pytest.mark.skipif(TFDS is None, reason="TFDS_DATA_DIR is not set")
@pytest.mark.parametrize("limit", [None, 1000])
def test_one_class_of_fashion_mnist_against_its_whole_test_part(limit):
    options = {"normal_classes": "Sneaker", "anomaly_ratio": 1 / 6, "valid_anomalies": 50, "limit": limit}
    task = data.load_task("fashion_mnist", test_split="test", **options)
    n = limit or 6000  # the set holds no copies
    assert counts(task) == [(n * 3 // 4, 0), (n // 4, 50), (1000, 9000)]
    assert set(task.test.ids) == {f"fashion_mnist/test/{i}" for i in range(10_000)}
    assert_apart(task)


@pytest.mark.data
@pytest.mark.skipif(TFDS is None, reason="TFDS_DATA_DIR is not set")
def test_fashion_mnist_against_mnist_on_its_whole_test_part():
    task = data.load_task("fashion_mnist", ood="mnist", test_split="test", limit=1000)
    assert counts(task) == [(750, 0), (250, 13), (10_000, 526)]
    assert_apart(task)
