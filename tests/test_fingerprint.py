"""Data are known again by their content, wherever they are and however they are called; what differs is named."""

import json
from hashlib import blake2b

import numpy as np
import pytest

from jaxad.data import fingerprint as prints
from jaxad.data.fingerprint import differences, fingerprint, from_plain, to_plain
from jaxad.data.image_set import from_arrays
from jaxad.data.task import Split, Task


def part(rng, name, n, anomalous=0, masks=False, classes=None):
    images = rng.integers(0, 256, (n, 6, 5, 1), np.uint8)
    labels = np.repeat([0, 1], [n - anomalous, anomalous]).astype(np.int32)
    drawn = rng.integers(0, 2, (n, 6, 5), np.uint8) if masks else None
    return Split(images, labels, drawn, np.array([f"live/{name}/{i}.png" for i in range(n)]), classes)


@pytest.fixture
def task(rng):
    parts = (part(rng, "good", 8), part(rng, "valid", 6, 2, masks=True), part(rng, "test", 6, 2, masks=True))
    return Task("live", *parts, {"seed": 0})


def said(task, other):
    known = from_plain(json.loads(json.dumps(to_plain(fingerprint(task)))))  # as a run folder has it
    return "; ".join(differences(known, fingerprint(other)))


def with_test(task, **fields):
    return task._replace(test=task.test._replace(**fields))


def test_images_are_known_by_the_digest_of_their_pixels(task):
    found = fingerprint(task).parts
    assert list(found) == ["train", "valid", "test"]
    assert found["test"].form == "6x5x1 uint8"
    assert found["test"].names[:2] == ["test/0.png", "test/1.png"]
    for name, split in (("train", task.train), ("test", task.test)):
        expected = [blake2b(image.tobytes(), digest_size=8).hexdigest() for image in split.images]
        assert found[name].images == expected
    assert found["train"].masks is None
    assert found["test"].masks[0] == blake2b(task.test.masks[0].tobytes(), digest_size=8).hexdigest()


def test_many_threads_give_the_digests_of_one(task, monkeypatch):
    alone = fingerprint(task)
    monkeypatch.setattr(prints, "TOGETHER", 45)  # an image and a half
    assert fingerprint(task) == alone


def test_data_that_have_moved_are_the_same_data(task):
    moved = task._replace(name="elsewhere", details={})
    for name in ("train", "valid", "test"):
        split = getattr(moved, name)
        moved = moved._replace(**{name: split._replace(ids=np.array([f"/far/{i}" for i in split.ids]))})
    assert fingerprint(moved).digest == fingerprint(task).digest
    assert said(task, moved) == ""


def test_layout_of_memory_does_not_count(task):
    images = np.asfortranarray(task.test.images)
    assert said(task, with_test(task, images=images)) == ""


def test_images_that_were_added_removed_and_changed_are_named(task, rng):
    images = task.test.images.copy()
    images[3] ^= 255
    assert said(task, with_test(task, images=images)) == "1 image has other pixels (test/3.png)"
    assert said(task, task._replace(train=task.train._replace(images=255 - task.train.images))) == (
        "8 images have other pixels (good/0.png, good/1.png and 6 more)"
    )
    more = part(rng, "new", 1)
    train = Split(*(np.concatenate(pair) for pair in zip(task.train[:2], more[:2])), None, None)
    train = train._replace(ids=np.concatenate([task.train.ids, more.ids]))
    assert said(task, task._replace(train=train)) == "1 image was added (new/0.png)"
    assert said(task._replace(train=train), task) == "1 image is gone (new/0.png)"
    larger = rng.integers(0, 256, (8, 3, 9, 1), np.uint8)
    assert said(task, task._replace(train=task.train._replace(images=larger))) == (
        "images were 6x5x1 uint8 and are 3x9x1 uint8 and 6x5x1 uint8"
    )
    floats = Task("f", *(p._replace(images=p.images / np.float32(255)) for p in task[1:4]), {})
    assert said(task, floats) == "images were 6x5x1 uint8 and are 6x5x1 float32"


def test_labels_masks_and_classes_count(task):
    labels = task.test.labels.copy()
    labels[0] = 1
    assert said(task, with_test(task, labels=labels)) == "1 image has other labels (test/0.png)"
    masks = task.test.masks.copy()
    masks[1:3] ^= 1
    assert said(task, with_test(task, masks=masks)) == "2 images have other masks (test/1.png, test/2.png)"
    assert "6 images have other masks" in said(task, with_test(task, masks=None))
    moved = task._replace(
        train=task.train._replace(images=np.concatenate([task.train.images[:7], task.valid.images[:1]])),
        valid=task.valid._replace(images=np.concatenate([task.train.images[7:], task.valid.images[1:]])),
    )
    assert said(task, moved).startswith("the split is another: 2 images changed parts")  # their masks came and went
    taught = task._replace(train=task.train._replace(classes=np.arange(8, dtype=np.int32)))
    assert "8 images have other classes" in said(task, taught)


def test_the_split_and_the_order_count(task):
    turned = task._replace(train=Split(*(x if x is None else x[::-1] for x in task.train)))
    assert said(task, turned) == "the same images come in another order"
    swapped = task._replace(valid=task.test, test=task.valid)
    assert said(task, swapped) == (
        "the split is another: 12 images changed parts (test/0.png was in test and is in valid)"
    )


def test_what_has_parts_at_any_depth_has_a_fingerprint(task, rng):
    sets = from_arrays(task.train.images, np.array(list("aabbaabb")), name="mine")
    named = from_arrays(task.train.images, np.array(list("aaccaacc")), name="mine")
    both = {"seed 0": task, "more": {"sets": sets, "array": task.train.images}}
    assert list(fingerprint(both).parts) == [
        "seed 0, train", "seed 0, valid", "seed 0, test", "more, sets", "more, array",
    ]  # fmt: skip
    assert fingerprint(iter(both.items())) == fingerprint(both)
    assert "4 images have other classes" in "; ".join(differences(fingerprint(sets), fingerprint(named)))
    assert fingerprint({"nothing": 3, "text": "x"}).parts == {}


@pytest.mark.parametrize("value", [None, [], {"digest": 1}, {"digest": "x", "parts": {"train": {}}}])
def test_what_is_no_fingerprint_is_refused(value):
    with pytest.raises(ValueError, match="data"):
        from_plain(value)
