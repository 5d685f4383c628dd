"""Tasks: sizes follow the arithmetic, nothing leaks, everything is seeded."""

import json
import os

import numpy as np
import pytest

from jaxad import data
from jaxad.data.protocols.splits import deal

TFDS = os.environ.get("TFDS_DATA_DIR")
MVTEC = os.environ.get("JAXAD_MVTEC_DIR")


def image_set(rng, n, name="a", shape=(4, 4, 1), classes=None):
    images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    labels = None if classes is None else np.arange(n) % classes
    return data.from_arrays(images, labels, name=name)


def assert_sound(task, normal_ids, anomalous_ids):
    """The leakage property, checked anew and not with check_task."""
    train, valid, test = task.train, task.valid, task.test
    ids = np.concatenate([train.ids, valid.ids, test.ids])
    assert len(set(ids)) == len(ids)
    pixels = [image.tobytes() for part in (train, valid, test) for image in part.images]
    assert len(set(pixels)) == len(pixels)
    assert not train.labels.any()
    for part in (train, valid, test):
        assert set(part.ids[part.labels == 0]) <= set(normal_ids)
        assert set(part.ids[part.labels == 1]) <= set(anomalous_ids)
        assert part.labels.dtype == np.int32


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("anomaly_ratio", [0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("split", [(6, 2, 2), (0.5, 0.25, 0.25), (1, 3, 2)])
def test_sizes_and_leakage(rng, seed, anomaly_ratio, split):
    normal, anomalous = image_set(rng, 203), image_set(rng, 1000, "b")
    task = data.out_of_distribution(normal, anomalous, anomaly_ratio=anomaly_ratio, split=split, seed=seed)
    assert_sound(task, normal.ids, anomalous.ids)
    first = round(203 * split[0] / sum(split))
    second = round(203 * (split[0] + split[1]) / sum(split))
    expected_normal = [first, second - first, 203 - second]
    expected_anomalous = [0, *(round(anomaly_ratio / (1 - anomaly_ratio) * n) for n in expected_normal[1:])]
    rows = data.describe(task)
    assert [row.part for row in rows] == ["train", "valid", "test"]
    if sum(expected_anomalous) <= 1000:
        assert [row.normal for row in rows] == expected_normal
        assert [row.anomalous for row in rows] == expected_anomalous
    for row in rows[1:]:
        assert row.fraction == pytest.approx(anomaly_ratio, abs=1 / row.images)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("available", "anomaly_ratio"), [(7, 0.05), (10, 0.3), (40, 0.8), (11, 0.8)])
def test_scarce_anomalies_keep_the_contamination_and_are_never_reused(rng, seed, available, anomaly_ratio):
    normal, anomalous = image_set(rng, 1000), image_set(rng, available, "b")
    task = data.out_of_distribution(normal, anomalous, anomaly_ratio=anomaly_ratio, seed=seed)
    assert_sound(task, normal.ids, anomalous.ids)
    train, *held_out = data.describe(task)
    assert train.normal == 600
    assert sum(row.anomalous for row in held_out) <= available
    assert sum(row.anomalous for row in held_out) >= available - 9
    for row in held_out:
        assert row.fraction == pytest.approx(anomaly_ratio, abs=1 / row.images)
        assert row.anomalous == round(anomaly_ratio / (1 - anomaly_ratio) * row.normal)


def test_papers_case_of_a_thousand_noise_images(rng):
    normal = image_set(rng, 70_000, shape=(2, 2, 2))  # MNIST's size; tiny images suffice
    noise = data.noise("uniform", (2, 2, 2))
    task = data.out_of_distribution(normal, noise)
    rows = data.describe(task)
    assert [row.anomalous for row in rows] == [0, 500, 500]
    assert [row.normal for row in rows] == [42_000, 9_500, 9_500]


def test_everything_is_seeded(rng):
    normal, anomalous = image_set(rng, 100), image_set(rng, 50, "b")
    make = lambda seed: data.out_of_distribution(normal, anomalous, seed=seed)  # noqa: E731
    one, same, other = make(5), make(5), make(6)
    for kind in ("train", "valid", "test"):
        for x, y in zip(data.parts(one)[kind], data.parts(same)[kind]):
            np.testing.assert_array_equal(x, y)
        assert set(data.parts(one)[kind].ids) != set(data.parts(other)[kind].ids)


def test_anomalies_take_the_form_of_the_normal_images(rng):
    normal = image_set(rng, 60, shape=(8, 6, 3))
    small = image_set(rng, 20, "small", (5, 5, 1))
    noise = data.noise("gaussian", (8, 6, 3), n=20)
    task = data.out_of_distribution(normal, [small, noise], anomaly_ratio=0.4)
    for part in data.parts(task).values():
        assert part.images.shape[1:] == (8, 6, 3)
        assert part.images.dtype == np.uint8
    sources = {name.split("/")[0] for name in task.valid.ids[task.valid.labels == 1]}
    assert sources == {"small", "gaussian"}
    resized = data.to_channels(data.resize(small.images, (8, 6)), 3)
    for image, name in zip(task.test.images, task.test.ids):
        source, number = name.split("/")[0], int(name.split("/")[-1])
        if source != "gaussian":
            np.testing.assert_array_equal(image, {"a": normal.images, "small": resized}[source][number])


def test_order_within_a_part_says_nothing(rng):
    task = data.out_of_distribution(image_set(rng, 500), image_set(rng, 500, "b"), anomaly_ratio=0.5)
    half = len(task.valid.labels) // 2
    assert 0.25 < task.valid.labels[:half].mean() < 0.75


def test_exact_copies_are_used_once(rng):
    normal = image_set(rng, 50)
    copied = normal.images[np.arange(100) % 50]
    twice = data.from_arrays(copied, name="twice")
    anomalous = data.from_arrays(np.concatenate([copied[:10], image_set(rng, 30).images]), name="b")
    task = data.out_of_distribution(twice, anomalous, anomaly_ratio=0.3)
    assert_sound(task, twice.ids, anomalous.ids)
    # Ten pictures are among the normal ones twice and among the anomalous ones once: they serve as neither.
    assert task.details["duplicates_dropped"] == 40
    assert task.details["contradictions"]["images"] == 30
    assert sum(row.normal for row in data.describe(task)) == 40
    assert {name.split("/")[1] for name in task.test.ids[task.test.labels == 1]} <= {str(i) for i in range(10, 40)}
    text = data.table(task)
    assert "40 exact copies" in text
    assert "30 images are equal to others with another label or mask and left out" in text
    assert "(twice/0 = twice/50 = b/0, twice/1 = twice/51 = b/1, twice/2 = twice/52 = b/2 and 7 more)" in text


def test_limit_counts_normal_images(rng):
    task = data.out_of_distribution(image_set(rng, 500), image_set(rng, 100, "b"), limit=100)
    assert [row.normal for row in data.describe(task)] == [60, 20, 20]


@pytest.mark.parametrize("seed", range(3))
def test_one_class(rng, seed):
    dataset = image_set(rng, 400, classes=5)
    task = data.one_class(dataset, ["1", 3], anomaly_ratio=0.2, seed=seed)
    normal = np.isin(dataset.labels, (1, 3))
    assert_sound(task, dataset.ids[normal], dataset.ids[~normal])
    assert [row.normal for row in data.describe(task)] == [96, 32, 32]
    assert [row.anomalous for row in data.describe(task)] == [0, 8, 8]
    assert task.details["normal_classes"] == ["1", "3"]
    assert task.details["anomalous_classes"] == ["0", "2", "4"]
    assert len(data.held_out_normals(task)) == 32


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("available", "wanted", "anomaly_ratio", "expected"),
    [
        (100, 30, 0.2, [(120, 0), (40, 30), (40, 10)]),
        (100, 1, 1 / 6, [(120, 0), (40, 1), (40, 8)]),  # test anomalies: a fifth of its normal images
        (35, 30, 0.2, [(120, 0), (40, 30), (20, 5)]),  # scarce: the test keeps its anomaly_ratio
        (30, 30, 0, [(120, 0), (40, 30), (40, 0)]),
    ],
)
def test_a_number_of_validation_anomalies(rng, seed, available, wanted, anomaly_ratio, expected):
    normal, anomalous = image_set(rng, 200), image_set(rng, available, "b")
    options = {"valid_anomalies": wanted, "anomaly_ratio": anomaly_ratio, "seed": seed}
    task = data.out_of_distribution(normal, anomalous, **options)
    assert_sound(task, normal.ids, anomalous.ids)
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == expected
    assert task.details["valid_anomalies"] == wanted
    again = data.out_of_distribution(normal, anomalous, **options)
    for kind, part in data.parts(task).items():
        np.testing.assert_array_equal(part.ids, data.parts(again)[kind].ids)
    # Training does not depend on it.
    usual = data.out_of_distribution(normal, anomalous, seed=seed)
    np.testing.assert_array_equal(task.train.ids, usual.train.ids)


def test_one_class_with_a_number_of_validation_anomalies(rng):
    dataset = image_set(rng, 400, classes=5)
    task = data.one_class(dataset, "1", anomaly_ratio=0.2, valid_anomalies=50)
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(48, 0), (16, 50), (16, 4)]
    with pytest.raises(
        ValueError, match=r"a: 1 normal: 320 anomalies are too few for at least 320 in validation and 1"
    ):
        data.one_class(dataset, "1", valid_anomalies=320)


def test_bad_options(rng):
    normal, anomalous = image_set(rng, 40, classes=4), image_set(rng, 20, "b")
    for options, message in [
        ({"anomaly_ratio": 1.0}, r"anomaly_ratio 1\.0 is outside \[0, 1\)"),
        ({"anomaly_ratio": -0.1}, r"outside \[0, 1\)"),
        ({"anomaly_ratio": float("nan")}, r"outside \[0, 1\)"),
        ({"split": (8, 2)}, "three positive shares"),
        ({"split": (8, 2, 0)}, "three positive shares"),
        ({"limit": 2}, "limit 2 is too small"),
        ({"valid_anomalies": 0}, "valid_anomalies 0 is too small: give at least 1"),
        ({"valid_anomalies": 20}, "20 anomalies are too few for at least 20 in validation and 1 in test: lower valid"),
        ({"anomaly_ratio": 0.01}, "no anomaly among 8 valid images: raise anomaly_ratio or limit"),
        ({"split": (1000, 1, 1)}, "no anomaly among 1 valid images: raise anomaly_ratio or limit"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.out_of_distribution(normal, anomalous, **options)
    with pytest.raises(ValueError, match="share images"):
        data.out_of_distribution(normal, normal)
    with pytest.raises(ValueError, match="name at least one"):
        data.out_of_distribution(normal, [])
    with pytest.raises(ValueError, match="has no class 9: choose from 0, 1, 2, 3"):
        data.one_class(normal, 9)
    with pytest.raises(ValueError, match="leave no anomalies"):
        data.one_class(normal, range(4))
    with pytest.raises(ValueError, match="no labels"):
        data.one_class(anomalous, 0)
    clean = data.out_of_distribution(normal, anomalous, anomaly_ratio=0)
    assert not clean.valid.labels.any()
    with pytest.raises(ValueError, match="no anomaly among 8 valid"):
        data.check_task(clean)


def test_no_part_is_left_without_images():
    for n, split in ((3, (6, 2, 2)), (5, (8, 1, 1)), (3, (1, 1, 1000)), (4, (1, 1000, 1)), (2, (9, 1)), (7, (6, 2, 2))):
        parts = deal(n, split, None, np.random.default_rng(0))
        assert sorted(np.concatenate(parts)) == list(range(n))
        assert min(map(len, parts)) >= 1
    assert [len(part) for part in deal(100, (6, 2, 2), 50, np.random.default_rng(0))] == [30, 10, 10]


def test_a_lone_anomaly_is_too_few_whatever_the_ratio(rng):
    with pytest.raises(ValueError, match=r"1 anomalies are too few for at least 1 .* and 1 in test: give more"):
        data.out_of_distribution(image_set(rng, 40), image_set(rng, 1, "b"), anomaly_ratio=0.2)
    small = data.out_of_distribution(image_set(rng, 3), image_set(rng, 2, "b"), anomaly_ratio=0.5)
    assert [(row.normal, row.anomalous) for row in data.describe(small)] == [(1, 0), (1, 1), (1, 1)]


def test_check_task_finds_every_fault(rng):
    task = data.out_of_distribution(image_set(rng, 50), image_set(rng, 50, "b"), anomaly_ratio=0.5)
    assert data.check_task(task) is task
    train, valid, test = task.train, task.valid, task.test
    for broken, message in [
        (task._replace(test=valid), r"image .* is used 2 times"),
        (task._replace(train=train._replace(labels=valid.labels[:1].repeat(30) * 0 + 1)), "30 anomalous"),
        (task._replace(valid=valid._replace(images=valid.images[:, :3])), "valid has images .3, 4, 1. uint8"),
        (task._replace(valid=valid._replace(images=valid.images / np.float32(255))), "float32 but train"),
        (task._replace(test=test._replace(images=test.images[:-1])), "must be as many"),
        (task._replace(test=test._replace(labels=test.labels * 2)), "use 0"),
        (task._replace(test=test._replace(labels=test.labels * 0 + 1)), "no normal image"),
        (task._replace(valid=valid._replace(masks=test.images)), "one mask each"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.check_task(broken)


@pytest.mark.parametrize("seed", range(3))
def test_segmentation_halves_the_test_set_by_defect(rng, seed):
    names = ("good", "crack", "hole", "stain")
    labels = np.repeat(np.arange(4), [9, 5, 4, 7])
    images = rng.integers(0, 256, (45, 4, 4, 1), dtype=np.uint8)
    masks = np.zeros((25, 4, 4), np.uint8)
    masks[9:, 1, 2] = 1
    train = data.from_arrays(images[:20], np.zeros(20), np.zeros((20, 4, 4)), name="t/train", class_names=names)
    test = data.from_arrays(images[20:], labels, masks, name="t/test", class_names=names)
    task = data.segmentation(train, test, seed=seed)
    assert_sound(task, [*train.ids, *test.ids[:9]], test.ids[9:])
    assert abs(len(task.valid.ids) - len(task.test.ids)) <= 1
    of = dict(zip(test.ids, labels))
    counts = [np.bincount([of[i] for i in part.ids], minlength=4) for part in (task.valid, task.test)]
    np.testing.assert_array_equal(counts[0] + counts[1], [9, 5, 4, 7])
    assert np.abs(counts[0] - counts[1]).max() <= 1
    for part in (task.valid, task.test):
        np.testing.assert_array_equal(part.masks.any(axis=(1, 2)), part.labels == 1)
    assert len(data.segmentation(train, test, limit=5).train.ids) == 5
    with pytest.raises(ValueError, match="must all be of class 0"):
        data.segmentation(test, train)


def test_task_from_arrays(rng):
    make = lambda n: rng.random((n, 4, 4, 5))  # noqa: E731
    masks = np.zeros((6, 4, 4))
    masks[3:, 1] = 1
    task = data.task_from_arrays(make(9), (make(4), [0, 1, 0, 1]), (make(6), [0, 0, 0, 1, 1, 1], masks))
    assert task.train.images.dtype == np.float32
    assert task.test.masks.shape == (6, 4, 4)
    assert task.details["shape"] == [4, 4, 5]
    assert "4x4x5 float32" in data.table(task)
    with pytest.raises(ValueError, match=r"labels must be 0 .* or 1"):
        data.task_from_arrays(make(9), (make(2), [0, 2]), (make(2), [0, 1]))
    with pytest.raises(ValueError, match="no anomaly among 2 valid"):
        data.task_from_arrays(make(9), (make(2), [0, 0]), (make(2), [0, 1]))
    with pytest.raises(ValueError, match=r"valid.*outside"):
        data.task_from_arrays(make(9), (make(2) * 9, [0, 1]), (make(2), [0, 1]))


# --- by name


@pytest.mark.parametrize(
    ("dataset", "options", "counts"),
    [
        ("digits", {}, [(541, 0), (180, 45), (180, 45)]),
        ("digits", {"normal_classes": "8", "limit": 100, "anomaly_ratio": 0.2}, [(60, 0), (20, 5), (20, 5)]),
        ("digits", {"normal_classes": "8", "limit": 100, "valid_anomalies": 50}, [(60, 0), (20, 50), (20, 5)]),
        ("textures", {"anomaly_ratio": 0.25}, [(154, 0), (51, 17), (51, 17)]),
        ("digits", {"ood": "textures:8", "limit": 200}, [(120, 0), (40, 10), (40, 10)]),
        ("digits", {"ood": ("gaussian", "uniform")}, [(1078, 0), (360, 90), (359, 90)]),
        ("textures", {"ood": "digits", "normal_classes": ["grass"], "limit": 50}, [(30, 0), (10, 2), (10, 2)]),
        ("digits", {"image_size": 16, "limit": 50}, [(30, 0), (10, 2), (10, 2)]),
    ],
)
def test_load_task_counts_describes_and_does_not_leak(dataset, options, counts):
    task = data.load_task(dataset, **options)
    rows = data.describe(task)
    assert [(row.normal, row.anomalous) for row in rows] == counts
    assert_sound(task, *(np.concatenate([p.ids[p.labels == k] for p in data.parts(task).values()]) for k in (0, 1)))
    assert json.loads(json.dumps(task.details)) == task.details
    text = data.table(task)
    for row in rows:
        assert f"{row.part:<6}{row.images:>8}{row.normal:>8}" in text
    if "image_size" in options:
        assert task.train.images.shape[1:] == (16, 16, 1)


def test_painted_textures_are_a_task_of_pixels():
    """Two thirds of the good crops train; the rest and those with defects are halved."""
    task = data.load_task("painted:grass:32", seed=1)
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(102, 0), (26, 51), (26, 51)]
    assert not task.train.labels.any()
    for part in (task.valid, task.test):
        np.testing.assert_array_equal(part.masks.any((1, 2)), part.labels == 1)
    assert len(data.load_task("painted:grass:32", limit=20).train.ids) == 20


def test_load_task_reads_folders(tmp_path, rng):
    from PIL import Image

    for kind, n in (("fine", 30), ("broken", 10)):
        (tmp_path / kind).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(tmp_path / kind / f"{i}.png")
    task = data.load_task(f"folder:{tmp_path}", normal_classes="fine", anomaly_ratio=0.4)
    assert [row.anomalous for row in data.describe(task)] == [0, 4, 4]
    with pytest.raises(ValueError, match=r"what is anomalous for folder.*broken, fine"):
        data.load_task(f"folder:{tmp_path}")


def test_load_task_refuses_what_makes_no_sense(tmp_path):
    for dataset, options, message in [
        ("uniform", {}, "what is anomalous for uniform.*ood"),
        ("digits", {"ood": "digits"}, "cannot be normal and anomalous"),
        ("digits", {"anomaly_ratio": 2}, "outside"),
        ("digits", {"normal_classes": ["ten"]}, "no class 'ten': choose from 0, 1, 2"),
        ("mvtec:x", {"ood": "digits"}, "has its own anomalies"),
        ("mvtec:x", {"valid_anomalies": 5}, "to be halved: leave out valid_anomalies"),
        ("painted:brick:32", {"ood": "digits"}, "has its own anomalies"),
        ("painted:brick:32", {"image_size": 16}, "painted:brick:SIZE"),
        (f"mvtec:{tmp_path}", {}, "give one category"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load_task(dataset, **options)


@pytest.mark.data
@pytest.mark.skipif(TFDS is None, reason="TFDS_DATA_DIR is not set")
@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("fashion_mnist", {"ood": "mnist"}),
        ("mnist", {"ood": "fashion_mnist"}),
        ("cifar10", {"ood": "fashion_mnist"}),
        ("mnist", {"ood": "gaussian"}),
        ("fashion_mnist", {"normal_classes": ["Sneaker", 9]}),
    ],
)
def test_real_tasks(dataset, options):
    task = data.load_task(dataset, limit=1000, **options)
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(600, 0), (200, 11), (200, 11)]
    ids = [np.concatenate([p.ids[p.labels == k] for p in data.parts(task).values()]) for k in (0, 1)]
    assert_sound(task, *ids)
    assert all(name.startswith(f"{dataset}/train/") for name in ids[0])
    source = f"{options['ood']}/" if "ood" in options else f"{dataset}/train/"
    assert all(name.startswith(source) for name in ids[1])


@pytest.mark.data
@pytest.mark.skipif(TFDS is None, reason="TFDS_DATA_DIR is not set")
def test_full_fashion_mnist_against_mnist():
    task = data.load_task("fashion_mnist", ood="mnist")
    total = 60_000 - task.details["duplicates_dropped"]
    assert sum(row.normal for row in data.describe(task)) == pytest.approx(total, abs=1)
    assert [row.anomalous for row in data.describe(task)][1:] == [632, 632]


@pytest.mark.data
@pytest.mark.skipif(MVTEC is None, reason="JAXAD_MVTEC_DIR is not set")
def test_real_segmentation_task():
    task = data.load_task(f"mvtec:{MVTEC}", image_size=32)
    assert task.test.masks.any()
    ids = [np.concatenate([p.ids[p.labels == k] for p in data.parts(task).values()]) for k in (0, 1)]
    assert_sound(task, *ids)
