"""`folder:PATH` is what its sub-folders say, and few anomalies all serve."""

import os

import numpy as np
import pytest
from PIL import Image

from jaxad import data
from jaxad.data.protocols.splits import halve
from jaxad.data.sources.registry import source_of
from jaxad.runs.detection_results import warn

MAGNETIC_TILE = os.environ.get("JAXAD_MVTEC_DIR")


@pytest.fixture
def make(tmp_path, rng):
    """Fills sub-folders with so many pictures; masks are white squares."""

    def fill(**counts):
        for place, count in counts.items():
            folder = tmp_path / place.replace("__", "/")
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (10, 9), dtype=np.uint8)
                if "ground_truth" in place:
                    pixels = np.zeros_like(pixels)
                    pixels[i : i + 2, 3:6] = 255
                end = "_mask.png" if "ground_truth" in place else ".png"
                Image.fromarray(pixels).save(folder / f"{i:03d}{end}")
        return f"folder:{tmp_path}"

    return fill


def counts(task):
    return [(row.normal, row.anomalous) for row in data.describe(task)]


# ---- layouts


@pytest.mark.parametrize("where", [".", "good", "images"])
def test_good_images_alone(make, where):
    task = data.load_task(make(**{where: 20}))
    assert counts(task) == [(12, 0), (4, 10), (4, 10)]
    assert task.details["made"] == ["valid", "test"]
    assert "made" in task.name
    assert "all made: figures on them are not figures on yours" in data.table(task)


def test_other_sets_can_be_anomalous_to_good_images_alone(make, tmp_path):
    spec = make(good=20, **{"../broken": 6})
    task = data.load_task(spec, ood=f"folder:{tmp_path.parent / 'broken'}")
    assert "made" not in task.details
    assert counts(task) == [(12, 0), (4, 3), (4, 3)]


@pytest.mark.parametrize("name", ["good", "Normal", "OK", "regular"])
def test_a_class_that_is_called_normal_is(make, name):
    spec = make(**{name: 20, "scratched": 4, "dented": 8})
    task = data.load_task(spec)
    assert task.details["normal_classes"] == [name]
    assert f"  normal: {name}, by its name" in data.table(task)
    named = data.load_task(spec, normal_classes=name)
    for one, other in zip(data.parts(task).values(), data.parts(named).values()):
        np.testing.assert_array_equal(one.ids, other.ids)
    assert "by its name" not in data.table(named)
    assert data.load_task(spec, normal_classes="dented").details["normal_classes"] == ["dented"]


def test_a_name_of_several_lines_is_said_in_one(make, tmp_path, capsys):
    spec = make(good=20, bad=4)
    (tmp_path / "good" / "torn\nimage.png").write_bytes(b"")
    assert "good/torn\\nimage.png: no known format" in data.table(data.load_task(spec))
    warn("skipped: torn\nimage.png")
    assert capsys.readouterr().err == "skipped: torn\\nimage.png\n"


def test_nothing_is_guessed_where_two_are_or_none_is(make, tmp_path):
    spec = make(fine=9, broken=5)
    (tmp_path / "broken" / "000.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"what is anomalous for folder.*broken, fine"):
        data.load_task(spec)
    with pytest.raises(ValueError, match=r"what is anomalous for folder.*broken, fine, good, ok"):
        data.load_task(make(good=9, ok=9))
    assert counts(data.load_task(spec, normal_classes=["good", "ok", "fine"], limit=25))[0] == (15, 0)


def test_training_and_test_folders_without_masks(make):
    spec = make(train__good=9, test__good=6, test__dent=4, test__hole=3)
    task = data.load_task(spec)
    assert task.details["kind"] == "given parts"
    assert counts(task) == [(9, 0), (3, 4), (3, 3)]
    assert all(part.masks is None for part in data.parts(task).values())
    assert {name.split("/")[-3] for name in task.train.ids} == {"train"}
    assert "7 images of defects have none, so labels of images alone are used" in data.table(task)
    same = data.load_task(spec.replace("folder:", "mvtec:"))
    np.testing.assert_array_equal(same.test.images, task.test.images)
    np.testing.assert_array_equal(data.load_task(spec, normal_classes="good").test.ids, task.test.ids)
    with pytest.raises(ValueError, match="has its own anomalies"):
        data.load_task(spec, normal_classes="dent")


def test_training_and_test_folders_with_masks(make):
    spec = make(train__good=9, test__good=6, test__dent=4, ground_truth__dent=4)
    task = data.load_task(spec)
    assert task.details["kind"] == "segmentation"
    np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels == 1)
    assert data.load_labelled(spec, labelled=2).normal is not None  # a source of masks by what is in it
    assert "with masks" in data.table(task)


def test_some_masks_are_as_good_as_none(make):
    task = data.load_task(make(train__good=9, test__good=6, test__dent=4, ground_truth__dent=3))
    assert task.test.masks is None
    assert task.details["masks_missing"] == 1


def test_training_images_may_be_in_train_itself_and_good_has_other_names(make, tmp_path):
    task = data.load_task(make(train=9, test__OK=6, test__dent=4))
    assert counts(task) == [(9, 0), (3, 2), (3, 2)]
    assert task.details["normal"].endswith("/OK")
    more = data.load_task(make(train=9, train__dent=2, test__OK=6, test__dent=4))
    assert "left out: 2 images that are no part of this layout (train/dent/000.png, " in data.table(more)


def test_parts_of_several_sizes_and_forms_become_one(make, tmp_path, rng):
    spec = make(train__good=9, test__good=6, test__dent=4)
    Image.fromarray(rng.integers(0, 256, (20, 12, 3), dtype=np.uint8)).save(tmp_path / "test" / "dent" / "000.png")
    task = data.load_task(spec)
    assert all(part.images.shape[1:] == (10, 9, 3) for part in data.parts(task).values())
    assert "mixed: 18 grey images became RGB" in data.table(task)


def test_images_beside_class_folders_are_counted(make):
    task = data.load_task(make(good=20, bad=6, **{".": 3}))
    assert "left out: 3 images beside the sub-folders that are read (000.png, 001.png, 002.png)" in data.table(task)


def test_what_is_no_layout_says_which_are(make, tmp_path):
    make(empty=0)
    with pytest.raises(ValueError, match=r"no images in .* as good images alone.* each class; train/good.* a listing"):
        data.load_task(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match=r"no folder .*nowhere: check the path"):
        data.load_task("folder:nowhere")


def test_a_source_is_asked_what_it_is_without_opening_a_file(make, monkeypatch):
    spec = make(good=3, bad=2)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("opened"))
    assert source_of(spec).normal == ("good",)
    assert not source_of(spec).defects
    assert source_of("folder:").normal == ()


# ---- few anomalies


@pytest.mark.parametrize("anomalies", [2, 3, 7, 60])
def test_all_of_few_anomalies_serve(make, anomalies):
    task = data.load_task(make(good=30, bad=anomalies))
    assert counts(task) == [(18, 0), (6, -(-anomalies // 2)), (6, anomalies // 2)]
    assert task.details["anomaly_rule"] == "all, dealt by kind"
    assert f"all {anomalies} there are serve, in validation or test" in data.table(task)
    assert ("too few for more than a rough figure" in data.table(task)) == (anomalies < 20)


def test_halves_have_every_class(make):
    task = data.load_task(make(good=30, dent=6, hole=4, stain=2), seed=3)
    for part in (task.valid, task.test):
        kinds = [name.split("/")[-2] for name in part.ids[part.labels == 1]]
        assert [kinds.count(kind) for kind in ("dent", "hole", "stain")] == [3, 2, 1]
    assert len(set(task.valid.ids) & set(task.test.ids)) == 0


def test_who_says_how_many_gets_so_many(make):
    spec = make(good=30, bad=12)
    asked = data.load_task(spec, anomaly_ratio=0.25)
    assert counts(asked) == [(18, 0), (6, 2), (6, 2)]
    assert asked.details["anomaly_rule"] == "anomaly ratio"
    assert counts(data.load_task(spec, valid_anomalies=3)) == [(18, 0), (6, 3), (6, 9)]
    assert counts(data.load_task(spec, limit=10)) == [(6, 0), (2, 6), (2, 6)]


def test_one_anomaly_is_too_few(make):
    with pytest.raises(ValueError, match="1 anomalies are too few for at least 1 in validation and 1 in test"):
        data.load_task(make(good=30, bad=1))


@pytest.mark.parametrize(
    ("anomalies", "limit", "expected"), [(500, None, 250), (501, None, 6), (501, 100, 1), (500, 100, 250)]
)
def test_of_many_anomalies_a_share_serves(tmp_path, rng, anomalies, limit, expected):
    images = rng.integers(0, 256, (600 + anomalies, 3, 3, 1), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.repeat([0, 1], [600, anomalies]))
    task = data.load_task(f"npz:{tmp_path / 'set.npz'}", normal_classes="0", limit=limit)
    assert task.valid.labels.sum() == expected
    np.savez(tmp_path / "other.npz", images=images[600:])
    other = data.load_task(
        f"npz:{tmp_path / 'set.npz'}", ood=f"npz:{tmp_path / 'other.npz'}", normal_classes="0", limit=limit
    )
    assert other.valid.labels.sum() == expected


def test_halves_are_drawn_by_seed_and_even_for_every_number(rng):
    kinds = rng.integers(0, 4, 37)
    for first in (None, 1, 12, 36):
        one, other = halve(kinds, first, np.random.default_rng(5))
        assert sorted([*one, *other]) == list(range(37))
        assert len(one) == (19 if first is None else first)
        shares = np.bincount(kinds[one], minlength=4) - np.bincount(kinds, minlength=4) * len(one) / 37
        assert np.abs(shares).max() <= 1
    assert not np.array_equal(
        halve(kinds, 12, np.random.default_rng(5))[0], halve(kinds, 12, np.random.default_rng(6))[0]
    )


@pytest.mark.data
@pytest.mark.skipif(MAGNETIC_TILE is None, reason="JAXAD_MVTEC_DIR is not set")
def test_real_parts_are_found():
    task = data.load_task(f"folder:{MAGNETIC_TILE}", image_size=32)
    named = data.load_task(f"mvtec:{MAGNETIC_TILE}", image_size=32)
    np.testing.assert_array_equal(task.test.images, named.test.images)
    np.testing.assert_array_equal(task.test.masks, named.test.masks)
    good = data.load_task(f"folder:{MAGNETIC_TILE}/train", fit="crop", auto_side=48)
    assert good.train.images.shape[1:] == (48, 48, 1)
    assert good.details["made"] == ["valid", "test"]
