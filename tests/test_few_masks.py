"""Segmentation tasks with few labels: painted defects, folders of pairs, how parts are drawn, what is refused."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxad import data
from jaxad.data.protocols import few_masks
from jaxad.data.sources.painted import KINDS

CRACKFOREST = os.environ.get("JAXAD_CRACKFOREST_DIR")


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def images(rng):
    """Twelve images with masks, of which every third is empty."""
    masks = np.zeros((12, 8, 8), np.uint8)
    masks[:, 2:4, 3:6] = 1
    masks[::3] = 0
    return data.from_arrays(rng.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8), None, masks, name="set")


# ---- painted defects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texture", ["brick", "grass", "gravel"])
def test_painted_defects_are_where_the_masks_are_and_nowhere_else(texture):
    made = data.painted(texture, 64, seed=3)
    clean = data.textures(64)
    of = dict(zip(clean.ids, clean.images))
    crops = np.stack([of[name.split("/", 2)[2]] for name in made.ids])
    changed = (made.images != crops)[..., 0]
    assert not (changed & (made.masks == 0)).any()
    has = made.masks.any((1, 2))
    assert changed[made.masks == 1].mean() > 0.9  # a painted pixel may happen to keep its value
    np.testing.assert_array_equal(has, made.labels > 0)
    assert has.sum() == round(0.7 * 64)
    assert set(made.labels[has]) == {1, 2, 3}
    shares = made.masks[has].mean((1, 2))
    assert 0.002 < shares.min() < shares.max() < 0.3
    assert len(np.unique(made.ids)) == 64


def test_single_defects_are_of_the_kind_that_their_class_says():
    from scipy import ndimage

    made, both = data.painted("brick", 64, seed=3, single=True), data.painted("brick", 64, seed=3)
    pieces = [ndimage.label(mask, np.ones((3, 3)))[1] for mask in made.masks]
    assert max(pieces) == 1
    assert max(ndimage.label(mask, np.ones((3, 3)))[1] for mask in both.masks) == 2
    assert (made.name, set(made.labels.tolist())) == ("painted:brick:64:single", {0, 1, 2, 3})
    task = data.load_labelled("painted:brick:64:single", unseen=("scratch",), seed=1)
    assert "scratch" in set(task.kinds.values())
    assert not {task.kinds.get(name) for name in task.labelled.ids.tolist()} & {"scratch"}
    with pytest.raises(ValueError, match=r"is no painted set: write .* painted:TEXTURE:SIZE:single \(one defect"):
        data.load_labelled("painted:brick:64:many")


def test_a_patch_cannot_be_told_by_its_brightness():
    """Mean and spread are those of what it covers; other kinds differ in brightness."""
    made = data.painted("brick", 64, seed=0)
    clean = data.textures(64)
    of = dict(zip(clean.ids, clean.images))

    def shift(kind):
        chosen = np.flatnonzero(made.labels == 1 + KINDS.index(kind))
        return [
            abs(made.images[i][m].mean() - of[made.ids[i].split("/", 2)[2]][m].mean())
            for i in chosen
            for m in [made.masks[i] == 1]
        ]

    assert np.median(shift("patch")) < 10 < 25 < np.median(shift("blob"))


def test_painting_is_decided_by_the_seed():
    one, same, other = (data.painted("grass", 128, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.images, same.images)
    np.testing.assert_array_equal(one.masks, same.masks)
    assert not np.array_equal(one.images, other.images)


# ---- parts -----------------------------------------------------------------------------------------------------


def test_clean_learns_from_all_images_without_defects_and_tests_on_the_others(images):
    task = data.few_labels(images, setting="clean", seed=1)
    blank = images.ids[~images.masks.any((1, 2))]
    assert set(task.labelled.ids.tolist()) == set(blank.tolist())
    assert set(task.test.ids.tolist()) == set(images.ids.tolist()) - set(blank.tolist())
    assert not task.labelled.masks.any()
    assert task.test.masks.any((1, 2)).all()
    assert (len(task.unlabelled.ids), task.normal, task.details["labelled"]) == (0, None, len(blank))
    assert "unlabelled" not in few_masks.table(task)
    good = data.Split(255 - images.images[:3], np.zeros(3, np.int32), None, np.array(["a", "b", "c"]))
    known = data.few_labels(images, setting="clean", normal=good)  # as in MVTec AD: the whole test part is tested
    assert (known.labelled.ids.tolist(), len(known.test.ids)) == (["a", "b", "c"], 12)


def test_transductive_tests_on_all_that_is_unlabelled(images):
    task = data.few_labels(images, labelled=5, seed=1)
    assert [len(part.ids) for part in (task.labelled, task.unlabelled, task.test)] == [5, 7, 7]
    np.testing.assert_array_equal(task.unlabelled.ids, task.test.ids)
    assert set(task.labelled.ids) | set(task.test.ids) == set(images.ids)
    of = {name: (image, mask) for name, image, mask in zip(images.ids, images.images, images.masks)}
    for part in (task.labelled, task.test):
        for name, image, mask, label in zip(part.ids, part.images, part.masks, part.labels):
            np.testing.assert_array_equal(image, of[name][0])
            np.testing.assert_array_equal(mask, of[name][1])
            assert label == mask.any()
    assert json.loads(json.dumps(task.details)) == task.details
    assert "labelled" in few_masks.table(task)


@pytest.mark.parametrize("seed", range(4))
def test_inductive_shares_no_image(images, seed):
    task = data.few_labels(images, labelled=4, setting="inductive", test_share=0.5, seed=seed)
    parts = [set(part.ids) for part in (task.labelled, task.unlabelled, task.test)]
    assert [len(part) for part in parts] == [4, 4, 4]
    assert len(set.union(*parts)) == 12
    assert task.labelled.masks.any()


def test_copies_are_used_once(images):
    doubled = images._replace(
        images=np.concatenate([images.images, images.images]),
        masks=np.concatenate([images.masks, images.masks]),
        ids=np.array([f"x/{i}" for i in range(24)]),
    )
    task = data.few_labels(doubled, labelled=2, setting="inductive")
    assert task.details["duplicates_dropped"] == 12
    assert sum(len(part.ids) for part in (task.labelled, task.unlabelled, task.test)) == 12


def test_labelled_images_are_drawn_until_one_has_an_anomalous_pixel(images):
    masks = images.masks.copy()
    masks[~np.isin(np.arange(12), (2, 7))] = 0  # two of twelve: one to learn from, one to test on
    for seed in range(5):
        task = data.few_labels(images._replace(masks=masks), labelled=1, seed=seed)
        assert task.labelled.masks.any()
        assert task.test.masks.any()


# ---- what is refused -------------------------------------------------------------------------------------------


def test_what_cannot_be_a_task_is_refused(images):
    constant = images.images.copy()
    constant[4] = 77
    for dataset, options, words in [
        (images._replace(masks=None), {}, "has no masks"),
        (images._replace(masks=images.masks[:, :4]), {}, r"masks has shape \(12, 4, 8\)"),
        (images._replace(masks=images.masks * 255), {}, "threshold it first"),
        (images._replace(masks=0 * images.masks), {}, "nothing can be learnt"),
        (images._replace(masks=np.ones_like(images.masks)), {}, "no normal pixel"),
        (images, {"labelled": 12}, "12 different images, too few for 12 labelled and 1"),
        (images, {"labelled": 11, "setting": "inductive"}, "too few for 11 labelled and 2"),
        (images, {"limit": 5}, "has 5 different images"),
        (images, {"labelled": 0}, "at least 1 image"),
        (images, {"setting": "both"}, "choose one of transductive"),
        (images, {"setting": "clean", "limit": 1, "seed": 0}, "an anomalous pixel, and the setting clean learns"),
        (images, {"test_share": 1.0}, "between 0 and 1"),
        (images._replace(images=constant), {}, "1 constant image.* set/4: remove"),
        (images._replace(images=images.images.astype(float)), {}, "outside"),
    ]:
        with pytest.raises(ValueError, match=words):
            data.few_labels(dataset, **{"labelled": 5} | options)


def test_leaks_are_found(images):
    task = data.few_labels(images, labelled=4, setting="inductive")
    data.check_labelled(task)
    both = task._replace(unlabelled=task.labelled)
    with pytest.raises(ValueError, match="is in labelled and unlabelled"):
        data.check_labelled(both)
    mixed = task.test._replace(ids=np.append(task.unlabelled.ids[:1], task.test.ids[1:]))
    with pytest.raises(ValueError, match="share all images or none"):
        data.check_labelled(task._replace(test=mixed))
    with pytest.raises(ValueError, match="no anomalous pixel in test"):
        data.check_labelled(task._replace(test=task.test._replace(masks=0 * task.test.masks)))


# ---- by name ---------------------------------------------------------------------------------------------------


def test_painted_by_name():
    task = data.load_labelled("painted:gravel:64", labelled=5, seed=2)
    assert [len(part.ids) for part in (task.labelled, task.unlabelled, task.normal)] == [5, 47, 12]
    assert not np.intersect1d(task.normal.ids, np.append(task.labelled.ids, task.test.ids)).size
    for source, options, words in [
        ("painted:wood", {}, "choose one of brick"),
        ("painted:brick:x", {}, "write painted:TEXTURE"),
        ("painted:brick:8", {}, "outside 16..256"),
        ("painted:brick", {"image_size": 32}, "painted:brick:SIZE"),
        ("crackforest", {}, "write btad:PATH/PRODUCT, csv:FILE, mvtec:PATH/CATEGORY, .*painted:TEXTURE:SIZE"),
        ("painted:brick:256", {}, "has 4 crops, too few to set good ones aside"),
    ]:
        with pytest.raises(ValueError, match=words):
            data.load_labelled(source, **options)


def test_pairs_of_images_and_masks(tmp_path, rng):
    for i in range(4):
        save(tmp_path / "images" / f"{i}.jpg", rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
        mask = np.zeros((6, 9), np.uint8)
        mask[i, 2:7] = 255 * (i > 0)
        save(tmp_path / "masks" / f"{i}.png", mask)
    found = data.load(f"pairs:{tmp_path}")
    assert found.images.shape == (4, 6, 9, 3)
    np.testing.assert_array_equal(found.labels, [0, 1, 1, 1])
    np.testing.assert_array_equal(found.masks.sum((1, 2)), [0, 5, 5, 5])
    assert data.load(f"pairs:{tmp_path}", image_size=12).masks.sum() == pytest.approx(15 * 144 / 54, rel=0.3)
    task = data.load_labelled(f"pairs:{tmp_path}", labelled=2, image_size=(12, 18))
    assert task.test.masks.shape == (2, 12, 18)

    save(tmp_path / "masks" / "3.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(ValueError, match=r"3.png is \(6, 8\), its image \(6, 9\)"):
        data.load(f"pairs:{tmp_path}", image_size=12)
    (tmp_path / "masks" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"no mask .*3"):
        data.load(f"pairs:{tmp_path}")
    with pytest.raises(ValueError, match="image/mask pairs are in"):
        data.load(f"pairs:{tmp_path / 'images'}")


def test_an_mvtec_category_gives_its_test_part_and_good_images_to_learn_from(tmp_path, rng):
    for place, count in {"train/good": 3, "test/good": 2, "test/hole": 6}.items():
        for i in range(count):
            save(tmp_path / "tile" / place / f"{i}.png", rng.integers(0, 256, (8, 8), dtype=np.uint8))
    for i in range(6):
        mask = np.zeros((8, 8), np.uint8)
        mask[i, :3] = 255
        save(tmp_path / "tile" / "ground_truth" / "hole" / f"{i}_mask.png", mask)
    task = data.load_labelled(f"mvtec:{tmp_path}/tile", labelled=3)
    assert [len(part.ids) for part in (task.labelled, task.test, task.normal)] == [3, 5, 3]
    assert all("train" in name for name in task.normal.ids)
    assert not any("train" in name for name in task.test.ids)


@pytest.mark.data
@pytest.mark.skipif(CRACKFOREST is None, reason="JAXAD_CRACKFOREST_DIR is not set")
def test_crackforest():
    found = data.load(f"pairs:{CRACKFOREST}")
    assert found.images.shape == (118, 320, 480, 3)
    assert found.masks.mean() == pytest.approx(0.0162, abs=1e-4)
    assert found.labels.all()
