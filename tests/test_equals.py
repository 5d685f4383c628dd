"""Equal images, contradictions, and sets in which there is nothing to learn: named before anything is computed."""

import numpy as np
import pytest

from jaxad import data
from jaxad.data.equals import constant_images, first_of_equals, sort_equals


def pictures(rng, n, shape=(4, 4, 1)):
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8)


def labelled(images, labels, masks=None, name="mine"):
    return data.from_arrays(images, labels, masks, name=name)


# ---- which images serve


@pytest.mark.parametrize("fixed", [0, 3, 8])
def test_sorting_follows_its_words_on_random_groups(rng, fixed):
    """By hand: every group of equals one after the other."""
    pool = pictures(rng, 5)
    images, said = pool[rng.integers(0, 5, 20)], rng.integers(0, 2, 20)
    found = sort_equals([images[:8], images[8:]], said.tolist(), fixed=fixed)
    keep, copies, contradictions = set(range(fixed)), 0, []
    for picture in pool:
        group = [i for i in range(20) if (images[i] == picture).all()]
        others = [i for i in group if i >= fixed]
        if len({said[i] for i in group}) > 1:
            contradictions.append(tuple(group))
        elif group:
            first = others[:1] if group[0] >= fixed else []
            keep |= set(first)
            copies += len(others) - len(first)
    assert set(np.flatnonzero(found.keep)) == keep
    assert found.copies == copies
    assert sorted(found.contradictions) == sorted(contradictions)
    np.testing.assert_array_equal(sort_equals([images], [0] * 20).keep, first_of_equals(images))


def test_a_picture_of_both_classes_serves_as_neither_and_is_named(rng):
    images = pictures(rng, 60)
    images[56:] = images[4:8]  # anomalous by their labels, and normal
    task = data.one_class(labelled(images, np.arange(60) >= 45, name="contra"), 0, anomaly_ratio=0.2)
    used = np.concatenate([part.images for part in data.parts(task).values()])
    assert not (used[:, None] == images[None, 56:]).all((2, 3, 4)).any()
    assert task.details["duplicates_dropped"] == 0
    assert task.details["contradictions"] == {
        "images": 8, "groups": 4, "named": ["contra/4 = contra/56", "contra/5 = contra/57", "contra/6 = contra/58"],
    }  # fmt: skip
    assert "contradiction: 8 images are equal to others with another label" in data.table(task)
    assert "contra/6 = contra/58 and 1 more): settle what they are" in data.table(task)


def test_equal_pictures_with_different_masks_serve_nowhere(rng):
    images, masks = pictures(rng, 30, (6, 6, 1)), np.zeros((30, 6, 6), np.uint8)
    masks[15:, 2:4, 2] = 1
    images[20] = images[25]
    masks[25, 5, 5] = 1
    images[21] = images[26]  # with equal masks: a copy
    dataset = labelled(images, np.arange(30) >= 15, masks)
    for task, ids in (
        (data.one_class(dataset, 0, anomaly_ratio=0.3), None),
        (data.few_labels(dataset, labelled=3), None),
    ):
        parts = data.parts(task).values() if hasattr(task, "train") else (task.labelled, task.unlabelled)
        ids = np.concatenate([part.ids for part in parts])
        assert not {"mine/20", "mine/25"} & set(ids)
        assert task.details["contradictions"]["named"] == ["mine/20 = mine/25"]
        assert task.details["duplicates_dropped"] == 1
    from jaxad.data.protocols import few_masks

    assert "contradiction: 2 images are equal to others" in few_masks.table(data.few_labels(dataset, labelled=3))


def test_given_parts_drop_what_is_good_here_and_a_defect_there(rng):
    images, names = pictures(rng, 40), ("good", "dent")
    images[35] = images[3]  # a defect, and a training image
    images[36] = images[22]  # a defect, and a good test image
    images[37] = images[38]  # a defect twice
    train = data.from_arrays(images[:20], np.zeros(20), name="t/train", class_names=names)
    test = data.from_arrays(images[20:], np.arange(20) >= 10, name="t/test", class_names=names)
    task = data.segmentation(train, test)
    used = np.concatenate([part.ids for part in data.parts(task).values()])
    assert not {"t/train/3", "t/test/15", "t/test/16", "t/test/2"} & set(used)
    assert task.details["duplicates_dropped"] == 1
    assert task.details["contradictions"]["images"] == 4
    assert len(used) == 40 - 4 - 1


# ---- labels and masks


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return f"npz:{tmp_path / 'set.npz'}"


def test_masks_that_contradict_labels_are_refused_with_number_and_names(tmp_path, rng):
    images, masks = pictures(rng, 60, (8, 8, 1)), np.zeros((60, 8, 8), np.uint8)
    labels = np.arange(60) // 45
    masks[45:, 2:5, 2:5] = 1
    load = lambda masks: data.load_task(  # noqa: E731
        npz(tmp_path, images=images, labels=labels, masks=masks), normal_classes="0", anomaly_ratio=0.2
    )
    assert load(masks).test.masks.any()
    for wrong in (1 - masks, np.ones_like(masks)):
        with pytest.raises(ValueError, match=r"set: 45 of 60 images are normal by label but .* look inverted"):
            load(wrong)
    with pytest.raises(
        ValueError, match=r"set: 5 of 60 images are normal by label but have .* such as set/0, set/1, set/2 and"
    ):
        load(np.roll(masks, 5, 0))
    empty = masks.copy()
    empty[45:] = 0
    with pytest.raises(ValueError, match=r"set: 15 of 60 images are anomalous by label but have no anomalous pixel"):
        load(empty)


def test_masks_that_lose_their_pixels_by_resizing_are_said(tmp_path, rng):
    images, masks = pictures(rng, 60, (32, 32, 1)), np.zeros((60, 32, 32), np.uint8)
    masks[45:, 2:30, 2:30] = 1
    spec = npz(tmp_path, images=images, labels=np.arange(60) // 45, masks=masks)
    task = data.load_task(spec, normal_classes="0", anomaly_ratio=0.4, image_size=8)
    assert "no pixel left" not in data.table(task)
    blank = task._replace(test=task.test._replace(masks=task.test.masks * 0))
    count = int(task.test.labels.sum())
    assert f"masks: {count} anomalies have no pixel left" in data.table(data.check_task(blank))


# ---- why there is no task


@pytest.mark.parametrize("value", [0, 7])
def test_equal_images_are_the_cause_that_is_named(tmp_path, rng, value):
    images = pictures(rng, 60)
    images[:40] = value
    spec = npz(tmp_path, images=images, labels=np.arange(60) // 40)
    with pytest.raises(ValueError, match=r"40 normal image.* are 1 different one.* each has one colour throughout"):
        data.load_task(spec, normal_classes="0")
    images[:40] = images[59]
    images[:2] = pictures(rng, 2)
    spec = npz(tmp_path, images=images, labels=np.minimum(np.arange(60) // 40, 1))
    with pytest.raises(ValueError, match=r"40 normal image.* are 2 different one\(s\); .*equal to others"):
        data.load_task(spec, normal_classes="0")


def test_anomalies_that_are_all_among_the_normal_images_are_the_cause_that_is_named(tmp_path, rng):
    images = pictures(rng, 40)
    images = np.concatenate([images, images[:12]])
    spec = npz(tmp_path, images=images, labels=np.arange(52) // 40)
    with pytest.raises(ValueError, match=r"each of 12 anomalous images is equal to a normal one.*set/0 = set/40"):
        data.load_task(spec, normal_classes="0")
    np.savez(tmp_path / "again.npz", images=images[:40])
    with pytest.raises(ValueError, match=r"each of 40 anomalous images is equal to a normal one"):
        data.load_task(spec, normal_classes="0", ood=f"npz:{tmp_path / 'again.npz'}")


def test_too_few_anomalies_are_said_with_how_many_were_equal(tmp_path, rng):
    images = np.concatenate([pictures(rng, 41), np.repeat(pictures(rng, 1), 14, 0)])
    images[40] = images[41]
    spec = npz(tmp_path, images=images, labels=np.arange(55) // 40 > 0)
    with pytest.raises(ValueError, match=r"1 anomalies \(of 15, the others being equal to other images\) are too few"):
        data.load_task(spec, normal_classes="False")
    with pytest.raises(ValueError, match=r"there are 1 normal image\(s\); training, validation and test need 3"):
        data.one_class(labelled(pictures(rng, 30), np.arange(30) > 0), "False")


def test_given_parts_without_defects_say_so(rng):
    images, names = pictures(rng, 30), ("good", "dent")
    train = data.from_arrays(images[:20], np.zeros(20), name="t", class_names=names)
    test = data.from_arrays(images[20:], np.zeros(10), name="t", class_names=names)
    with pytest.raises(
        ValueError, match=r"t: the test part has 0 different anomalous image\(s\).*add images of defects"
    ):
        data.segmentation(train, test)
    with pytest.raises(ValueError, match=r"t: the test part has 0 different good image\(s\).*add images of test/good"):
        data.segmentation(train, test._replace(labels=np.ones(10, np.int32)))


# ---- nothing to see


def test_constant_images_are_found_and_no_others(rng):
    images = pictures(rng, 9, (7, 5, 3))
    images[2] = images[4] = 9
    images[6] = [3, 200, 7]  # a colour
    images[8] = 1
    images[8, 5, 3, 1] = 0  # one pixel
    np.testing.assert_array_equal(np.flatnonzero(constant_images(images)), [2, 4, 6])
    expected = (images == images[:, :1, :1]).all((1, 2, 3))
    np.testing.assert_array_equal(constant_images(images), expected)
    np.testing.assert_array_equal(constant_images(images[:, :1, :1]), np.ones(9))
    np.testing.assert_array_equal(constant_images(images / np.float32(255)), expected)


def test_constant_training_images_are_said_or_refused(rng):
    images = pictures(rng, 40)
    images[:3] = np.array([0, 80, 255], np.uint8)[:, None, None, None]
    held_out = (images[20:30], np.arange(10) % 2)
    task = data.task_from_arrays(images[:20], held_out, (images[30:], np.arange(10) % 2))
    assert "constant: 3 training images have one colour throughout (arrays/train/0, arrays/" in data.table(task)
    levels = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 4, 4, 1))
    with pytest.raises(ValueError, match="each of 20 training images has one colour throughout"):
        data.task_from_arrays(levels, held_out, (images[30:], np.arange(10) % 2))


def test_masks_of_defects_that_mark_most_pixels_are_asked_about(tmp_path, rng):
    images, masks = pictures(rng, 60, (8, 8, 1)), np.zeros((60, 8, 8), np.uint8)
    masks[45:, 2:6, 2:6] = 1
    inverted = masks.copy()
    inverted[45:] = 1 - masks[45:]
    tables = []
    for named in (masks, inverted):
        spec = npz(tmp_path, images=images, labels=np.arange(60) // 45, masks=named)
        tables.append(data.table(data.load_task(spec, normal_classes="0", anomaly_ratio=0.4)))
    assert "inverted" not in tables[0]
    assert "masks: of images of anomalies 75% of all pixels are marked: are masks inverted?" in tables[1]
