"""`--check-data` says what is in a set, what is wrong with it and what task it makes, and trains nothing."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from jaxad import data
from jaxad.report.data_check import data_check_lines
from jaxad.runs import cli


def picture(rng, height=16, width=14):
    return rng.integers(0, 256, (height, width), dtype=np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(name, pixels, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)

    return save


def fill(save, rng, **counts):
    for place, count in counts.items():
        for i in range(count):
            save(f"{place.replace('__', '/')}/{i:03d}.png", picture(rng))


def checked(tmp_path):
    return data.check_data(f"folder:{tmp_path}", lambda: data.table(data.load_task(f"folder:{tmp_path}")))


def names(finding):
    return [name.replace("\\", "/") for name in finding.named]


def test_what_is_there_is_counted_by_part_and_class(save, rng, tmp_path):
    fill(save, rng, train__good=9, test__good=6, test__dent=4)
    for i in range(4):
        mask = np.zeros((16, 14), np.uint8)
        mask[2:6, 3 : 5 + i] = 255
        save(f"ground_truth/dent/{i:03d}.png", mask)
    found = checked(tmp_path)
    assert [count[:5] for count in found.counts] == [
        ("train", "good", 9, 0, 0), ("test", "dent", 4, 4, 4), ("test", "good", 6, 0, 0),
    ]  # fmt: skip
    assert found.counts[1].area == pytest.approx(np.mean([4 * (2 + i) / (16 * 14) for i in range(4)]))
    assert found.sizes == ((16, 14, 19),)
    assert found.channels == ((1, 19),)
    assert found.depths == (("8 bits", 19),)
    assert not found.problem
    lines = data_check_lines(found)
    assert "  test   dent        4      4       4  6.25%" in lines
    assert "  no copies, near-copies or contradictions" in lines
    assert "  pixels: 19 grey; 19 of 8 bits" in lines
    assert lines.index("task:") < next(i for i, line in enumerate(lines) if line.startswith("    valid"))


def test_what_is_wrong_is_named(save, rng, tmp_path):
    fill(save, rng, good=20, bad=6)
    copied = np.asarray(Image.open(tmp_path / "good" / "003.png"))
    save("good/again.png", copied)
    save("bad/wrong.png", np.asarray(Image.open(tmp_path / "good" / "004.png")))
    save("good/anew.jpg", np.asarray(Image.open(tmp_path / "good" / "005.png")), quality=95)
    save("good/flat.png", np.full((16, 14), 7, np.uint8))
    save("good/deep.png", picture(rng).astype(np.uint16) * 257)
    save("good/colour.png", rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    (tmp_path / "good" / "torn.png").write_bytes(b"\x89PNG")
    (tmp_path / "notes.txt").write_text("notes")
    found = checked(tmp_path)
    assert {(count.label, count.images) for count in found.counts} == {("good", 25), ("bad", 7)}
    assert found.copies.count == 1
    assert all(name in found.copies.named[0] for name in ("003.png", "again.png"))
    assert found.contradictions.count == 1
    assert all(name in found.contradictions.named[0] for name in ("004.png", "wrong.png"))
    assert found.near.count == 1
    assert all(name in found.near.named[0] for name in ("005.png", "anew.jpg"))
    assert found.constant.count == 1
    assert found.unreadable.count == 1
    assert "torn.png" in found.unreadable.named[0]
    assert dict(found.channels) == {1: 31, 3: 1}
    assert dict(found.depths) == {"8 bits": 31, "16 bits": 1}
    assert found.sizes == ((16, 14, 31), (20, 30, 1))
    text = "\n".join(data_check_lines(found))
    for words in (
        "size: 31 of 16x14, 1 of 20x30",
        "pixels: 31 grey, 1 RGB; 31 of 8 bits, 1 of 16 bits",
        "unreadable: 1 files cannot be read",
        "left out: 1 files with other suffixes: 1 .txt (notes.txt)",
        "contradiction: 1 groups of equal images have different classes",
        "copies: 1 images are equal to others of their part and class",
        "near-copies: 1 pairs of images are nearly equal",
        "constant: 1 images have one colour throughout",
    ):
        assert words in text
    assert "no copies" not in text


def test_copies_and_near_copies_in_several_parts_are_told_from_those_within_one(save, rng, tmp_path):
    fill(save, rng, train__good=12, test__good=6, test__dent=4)
    for source, target, options in (
        ("train/good/001.png", "test/good/same.png", {}),
        ("train/good/002.png", "train/good/same.png", {}),
        ("train/good/003.png", "test/good/anew.jpg", {"quality": 95}),
        ("train/good/004.png", "train/good/anew.jpg", {"quality": 95}),
    ):
        save(target, np.asarray(Image.open(tmp_path / source)), **options)
    found = checked(tmp_path)
    assert (found.shared.count, found.copies.count, found.near.count) == (1, 1, 1)
    assert all(name in found.shared.named[0] for name in ("train/good/001.png", "test/good/same.png"))
    assert all(name in found.near.named[0] for name in ("train/good/003.png", "test/good/anew.jpg"))


def test_masks_are_looked_at_one_by_one(save, rng, tmp_path):
    fill(save, rng, train__good=9, test__good=6, test__dent=5)
    mask = np.zeros((16, 14), np.uint8)
    for i, changed in enumerate((mask, mask, mask[:8], mask)):
        changed = changed.copy()
        changed[2:4, 2:4] = 255 * (i != 1)
        save(f"ground_truth/dent/{i:03d}_mask.png", changed)
    found = checked(tmp_path)
    (dent,) = (count for count in found.counts if count.label == "dent")
    assert (dent.images, dent.masks, dent.marked) == (5, 3, 2)
    assert found.masks.count == 1
    assert "002_mask.png is 8x14, its image 16x14" in found.masks.named[0]
    assert [name.split("/")[-1] for name in found.unmarked.named] == ["001.png"]
    # One image has no mask, so that none is used, and a task can be made.
    assert not found.problem


def test_equal_images_with_masks_that_differ_contradict_each_other(save, rng, tmp_path):
    fill(save, rng, train__good=9, test__good=6, test__dent=4)
    save("test/dent/again.png", np.asarray(Image.open(tmp_path / "test/dent/000.png")))
    save("test/dent/same.png", np.asarray(Image.open(tmp_path / "test/dent/001.png")))
    for name, row in (("000", 2), ("again", 9), ("001", 2), ("same", 2), ("002", 2), ("003", 2)):
        mask = np.zeros((16, 14), np.uint8)
        mask[row : row + 2, 3:6] = 255  # as many pixels each
        save(f"ground_truth/dent/{name}.png", mask)
    found = checked(tmp_path)
    assert (found.contradictions.count, found.copies.count) == (1, 1)
    assert "again.png" in found.contradictions.named[0]


def test_defects_of_which_no_mask_marks_anything_are_named(save, rng, tmp_path):
    fill(save, rng, train__good=9, test__good=6, test__dent=4)
    for i in range(4):
        save(f"ground_truth/dent/{i:03d}.png", np.zeros((16, 14), np.uint8))
    found = checked(tmp_path)
    assert found.unmarked.count == 4
    assert "the masks of 4 of 4 images of defects mark no pixel" in found.problem


def test_images_of_other_ranges_are_compared_by_what_they_show(save, rng, tmp_path):
    fill(save, rng, good=20, bad=6)
    for i in range(4):
        pixels = np.asarray(Image.open(tmp_path / "good" / f"{i:03d}.png"))
        save(f"good/deep{i}.png", pixels.astype(np.uint16) * 257)
    found = data.check_data(f"folder:{tmp_path}")
    assert found.near.count == 4
    assert all(f"{i:03d}.png" in name and f"deep{i}.png" in name for i, name in enumerate(found.near.named))


@pytest.mark.parametrize(
    ("spec", "options", "images"),
    [("digits", {}, 1797), ("painted:brick:64", {}, 64), ("gaussian", {}, 1000), ("textures:64", {}, 192)],
)
def test_sets_that_are_no_files_are_looked_at_as_well(spec, options, images):
    found = data.check_data(spec, **options)
    assert sum(count.images for count in found.counts) == images
    assert not found.problem
    assert not found.contradictions.count


def test_a_task_that_cannot_be_made_is_said_with_what_is_there(save, rng, tmp_path):
    fill(save, rng, good=20, bad=1)
    found = checked(tmp_path)
    assert "1 anomalies are too few" in found.problem
    assert sum(count.images for count in found.counts) == 21
    assert data_check_lines(found)[-1].startswith("no task: ")
    gone = data.check_data(f"folder:{tmp_path / 'gone'}")
    assert (gone.counts, data_check_lines(gone)[-1]) == ((), f"no task: no folder {tmp_path / 'gone'}: check the path")


# ---- the flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneTask(cli.TrainingConfig, data.TaskConfig):
    """A command that has a task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewMasks(cli.RunConfig, data.FewMasksConfig):
    """A command that segments."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes(cli.TrainingConfig, data.ClassSetsConfig):
    """A command that takes class after class."""


def run(config):
    pytest.fail("it ran")


def said(config, *arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(run, config, arguments=[*arguments, "--check-data"])
    out, err = capsys.readouterr()
    assert not err
    return end.value.code, out


@pytest.mark.parametrize("config", [OneTask, FewMasks, Classes])
def test_every_kind_of_command_has_the_flag_and_runs_nothing(config, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out = said(config, capsys=capsys)
    assert status == 0
    assert out.startswith("data: ")
    assert "\ntask:\n" in out
    assert not list(tmp_path.iterdir())


def test_the_status_says_whether_there_is_a_task(save, rng, tmp_path, capsys):
    fill(save, rng, good=20, bad=8, **{"other/set": 12})
    assert said(OneTask, "--dataset", f"folder:{tmp_path}/good", capsys=capsys)[0] == 0
    status, out = said(
        OneTask, "--dataset", f"folder:{tmp_path}/good", "--ood", f"folder:{tmp_path}/other", capsys=capsys
    )
    assert (status, out.count("data: ")) == (0, 2)
    status, out = said(OneTask, "--dataset", f"folder:{tmp_path}/gone", capsys=capsys)
    assert status == 1
    assert out.splitlines()[-1] == f"no task: no folder {tmp_path}/gone: check the path"
    status, out = said(
        Classes, "--dataset", f"folder:{tmp_path}/good", "--test-folder", f"{tmp_path}/gone", capsys=capsys
    )
    assert status == 1


def test_a_jpeg_in_memory_is_what_a_near_copy_means(rng):
    """The reader that the tests rely on keeps what the copy shows."""
    pixels, buffer = picture(rng, 32, 32), io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    again = np.asarray(Image.open(buffer)).astype(int)
    assert 0 < np.abs(again - pixels).mean() < 6
