"""Layouts of images in folders and listings: the right files with the right labels, parts and masks, the rest named."""

import os

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from jaxad import data
from jaxad.data.sources.registry import source_of


class Files:
    """Writes pictures and masks, and remembers what is in which."""

    def __init__(self, root, rng):
        self.root, self.rng, self.pixels = root, rng, {}

    def picture(self, name, **options):
        pixels = self.rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        self._save(name, pixels, **options)

    def pictures(self, folder, count, end=".png"):
        for i in range(count):
            self.picture(f"{folder}/{i:03d}{end}")

    def mask(self, name, value=255):
        pixels = np.zeros((12, 10), np.uint8)
        row = int(self.rng.integers(0, 10))
        pixels[row : row + 2, 3:7] = value
        self._save(name, pixels)

    def _save(self, name, pixels, **options):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        self.pixels[name] = np.asarray(Image.open(path))  # as an independent reader has it

    def assert_held(self, dataset):
        """What was read is what was written."""
        for image, name in zip(dataset.images, dataset.ids):
            np.testing.assert_array_equal(image, self.pixels[str(name).removeprefix(f"{self.root}/")])


@pytest.fixture
def files(tmp_path, rng):
    return Files(tmp_path, rng)


def labels_of(task):
    """What each image of a task is, by the end of its name."""
    return {name: int(label) for part in data.parts(task).values() for name, label in zip(part.ids, part.labels)}


def said(task):
    return data.table(task)


# ---- BTAD


def btad(files, root="01", end=".bmp"):
    files.pictures(f"{root}/train/ok", 9, end)
    files.pictures(f"{root}/test/ok", 6, end)
    files.pictures(f"{root}/test/ko", 4, end)
    for i in range(4):
        files.mask(f"{root}/ground_truth/ko/{i:03d}.png")


@pytest.mark.parametrize("prefix", ["folder", "btad", "mvtec"])
def test_btad_is_found_with_masks_of_the_same_names(files, tmp_path, prefix):
    btad(files)
    spec = f"{prefix}:{tmp_path}/01"
    task = data.load_task(spec)
    assert "layout: train/ok, test/ok and test/DEFECT, with masks in ground_truth (BTAD)" in said(task)
    test = data.load(spec, split="test")
    files.assert_held(test)
    files.assert_held(data.load(spec))
    assert test.class_names == ("ok", "ko")
    for mask, name, label in zip(test.masks, test.ids, test.labels):
        assert ("/ko/" in name) == label
        expected = files.pixels[f"01/ground_truth/ko/{name[-7:-4]}.png"] > 127 if label else np.zeros((12, 10))
        np.testing.assert_array_equal(mask, expected)
    assert all(("/ko/" in name) == label for name, label in labels_of(task).items())


# ---- MVTec AD


@pytest.mark.parametrize(
    "names", [("Train", "Test", "Ground_Truth"), ("TRAIN", "TEST", "masks"), ("train", "test", "GT")]
)
def test_parts_are_found_in_any_case(files, tmp_path, names):
    train, test, masks = names
    files.pictures(f"{train}/Good", 9)
    files.pictures(f"{test}/Good", 4)
    files.pictures(f"{test}/Dent", 4)
    for i in range(4):
        files.mask(f"{masks}/Dent/{i:03d}.png")
    task = data.load_task(f"folder:{tmp_path}")
    assert f"layout: {train}/Good, {test}/Good and {test}/DEFECT, with masks in {masks} (MVTec AD)" in said(task)
    np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels == 1)
    assert {name.split("/")[-2] for name, label in labels_of(task).items() if label} == {"Dent"}


@pytest.mark.parametrize("end", ["_mask", "", "_gt", "_label"])
def test_masks_are_found_by_several_names_and_those_of_no_image_are_named(files, tmp_path, end):
    files.pictures("train/good", 9)
    files.pictures("test/good", 4)
    files.pictures("test/dent", 4)
    for i in range(5):
        files.mask(f"ground_truth/dent/{i:03d}{end}.png")
    files.mask("ground_truth/dnet/000.png")
    task = data.load_task(f"folder:{tmp_path}")
    assert task.details["kind"] == "segmentation"
    assert f"left out: 2 masks of no image (ground_truth/dent/004{end}.png, ground_truth/dnet/000.png)" in said(task)


def test_what_is_no_part_is_named(files, tmp_path):
    files.pictures("train/good/monday", 5)
    files.pictures("train/good/tuesday", 4)
    files.pictures("train/dent", 2)
    files.pictures("validation/good", 3)
    files.pictures("test/good", 4)
    files.pictures("test/dent/deep", 4)
    files.picture("test/lost.png")
    (tmp_path / "test" / "dent" / "notes.txt").write_text("dented")
    task = data.load_task(f"folder:{tmp_path}")
    assert len(task.train.ids) == 9
    assert sum(labels_of(task).values()) == 4
    assert "left out: 6 images that are no part of this layout (test/lost.png, train/dent/000.png" in said(task)
    assert "left out: 1 files with other suffixes: 1 .txt (test/dent/notes.txt)" in said(task)
    assert said(task).count("left out") == 2


def test_masks_lie_as_deep_as_their_images(files, tmp_path):
    files.pictures("train/good", 5)
    files.pictures("test/good", 4)
    for day in ("monday", "tuesday"):
        files.pictures(f"test/dent/{day}", 2)
        for i in range(2):
            files.mask(f"ground_truth/dent/{day}/{i:03d}_mask.png")
    test = data.load(f"mvtec:{tmp_path}", split="test")
    for mask, name in zip(test.masks[4:], test.ids[4:]):
        place = name.removeprefix(f"{tmp_path}/test/").replace(".png", "_mask.png")
        np.testing.assert_array_equal(mask, files.pixels[f"ground_truth/{place}"] > 127)


def test_masks_of_defects_that_mark_nothing_are_refused(files, tmp_path):
    files.pictures("train/good", 5)
    files.pictures("test/good", 4)
    files.pictures("test/dent", 4)
    for i in range(4):
        files.mask(f"ground_truth/dent/{i:03d}.png", value=255 * (i != 2))
    with pytest.raises(ValueError, match=r"the masks of 1 of 4 images of defects mark no pixel, .*test/dent/002\.png"):
        data.load_task(f"folder:{tmp_path}")


@pytest.mark.parametrize("value", [0, 255])
def test_masks_of_good_images_are_read_where_there_are_some(files, tmp_path, value):
    btad(files)
    for i in range(6):
        files.mask(f"01/ground_truth/ok/{i:03d}.png", value)
    if not value:
        task = data.load_task(f"folder:{tmp_path}/01")
        np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels == 1)
        return
    with pytest.raises(ValueError, match=r"6 of 10 images are normal by label but have anomalous pixels .*test/ok/000"):
        data.load_task(f"folder:{tmp_path}/01")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("train/good", "test/good"), "the test part has 0 different anomalous image.* add images of defects"),
        (("train/good", "test/dent"), "the test part has 0 different good image.* add images of test/good"),
        (("train/good", "test"), "has train and test, but test has no sub-folders: sort its images into test/good"),
        (("train/cat", "train/dog", "test/cat"), r"sub-folders of train \(cat, dog\) are called good.*folder:.*/train"),
    ],
)
def test_parts_without_what_a_task_needs_say_what(files, tmp_path, places, message):
    for place in places:
        files.pictures(place, 5)
    with pytest.raises(ValueError, match=message):
        data.load_task(f"folder:{tmp_path}")


# ---- VisA


def visa(files, root="VisA", split=True, value=255):
    lines = ["object,split,label,image,mask"]
    for kind, count in (("Normal", 10), ("Anomaly", 4)):
        files.pictures(f"{root}/candle/Data/Images/{kind}", count, ".JPG")
    for i in range(4):
        files.mask(f"{root}/candle/Data/Masks/Anomaly/{i:03d}.png", value)
        image, mask = (f"candle/Data/{kind}/Anomaly/{i:03d}" for kind in ("Images", "Masks"))
        lines.append(f"candle,test,anomaly,{image}.JPG,{mask}.png")
    for i in range(9):
        lines.append(f"candle,{'train' if i < 5 else 'test'},normal,candle/Data/Images/Normal/{i:03d}.JPG,")
    lines.append("pcb1,train,normal,pcb1/Data/Images/Normal/000.JPG,")
    if split:
        (files.root / root / "split_csv").mkdir()
        (files.root / root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")
    (files.root / root / "candle" / "image_anno.csv").write_text("image,label,mask\n")


@pytest.mark.parametrize(("prefix", "value"), [("folder", 255), ("visa", 1), ("folder", 3)])  # kinds of defects
def test_visa_has_the_parts_that_its_table_says(files, tmp_path, prefix, value):
    visa(files, value=value)
    spec = f"{prefix}:{tmp_path}/VisA/candle"
    task = data.load_task(spec)
    assert "layout: VisA, parts by split_csv/1cls.csv" in said(task)
    assert "left out: 1 images beside those that the listing names (Data/Images/Normal/009.JPG)" in said(task)
    assert sorted(name[-7:-4] for name in task.train.ids) == ["000", "001", "002", "003", "004"]
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(5, 0), (2, 2), (2, 2)]
    test = data.load(spec, split="test")
    files.assert_held(test)
    assert test.class_names == ("normal", "anomaly")
    for mask, name, label in zip(test.masks, test.ids, test.labels):
        expected = (
            files.pixels[f"VisA/candle/Data/Masks/Anomaly/{name[-7:-4]}.png"] > 0 if label else np.zeros((12, 10))
        )
        np.testing.assert_array_equal(mask, expected)
    with pytest.raises(ValueError, match=r"holds categories \(candle\): give one, folder:.*VisA/candle"):
        data.load_task(f"folder:{tmp_path}/VisA")
    with pytest.raises(ValueError, match=r"no Data/Images: give one category"):
        data.load_task(f"visa:{tmp_path}/VisA")


def test_visa_without_its_table_is_split_like_class_folders(files, tmp_path):
    visa(files, split=False)
    task = data.load_task(f"folder:{tmp_path}/VisA/candle")
    assert "VisA, Data/Images/Normal and Anomaly, without split_csv/1cls.csv" in said(task)
    assert all(("/Anomaly/" in name) == label for name, label in labels_of(task).items())
    np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels == 1)


def test_visa_without_masks_goes_without(files, tmp_path):
    for kind, count in (("Normal", 10), ("Anomaly", 6)):
        files.pictures(f"candle/Data/Images/{kind}", count, ".JPG")
    task = data.load_task(f"visa:{tmp_path}/candle", image_size=6)
    assert task.test.masks is None
    assert not source_of(f"visa:{tmp_path}/candle").masks


def test_a_category_that_the_table_does_not_name_is_refused(files, tmp_path):
    visa(files)
    (tmp_path / "VisA" / "candle").rename(tmp_path / "VisA" / "lamp")
    with pytest.raises(ValueError, match=r"1cls\.csv names no image of lamp"):
        data.load_task(f"visa:{tmp_path}/VisA/lamp")


# ---- listings


def listing(files, lines, name="list.csv", encoding="utf-8"):
    (files.root / name).write_bytes("\n".join(lines).encode(encoding))
    return f"csv:{files.root / name}"


def twenty(files):
    """Twelve good pictures and eight dents, with masks."""
    files.pictures("a", 12)
    files.pictures("b, or not", 8)
    for i in range(8):
        files.mask(f"m/{i:03d}.png")
    good = [(f"a/{i:03d}.png", "good", "", "train" if i < 6 else "test" if i < 9 else "valid") for i in range(12)]
    bad = [(f"b, or not/{i:03d}.png", "dent", f"m/{i:03d}.png", ("test", "valid")[i % 2]) for i in range(8)]
    return [*good, *bad]


def quoted(row):
    return ",".join(f'"{field}"' if "," in field else field for field in row)


@pytest.mark.parametrize("prefix", ["csv", "folder"])
def test_a_listing_with_all_columns_gives_all_three_parts(files, tmp_path, prefix):
    rows = twenty(files)
    listing(files, ["path,label,mask,split", *map(quoted, rows), ""])
    files.picture("a/more.png")
    spec = f"{prefix}:{tmp_path / 'list.csv'}"
    task = data.load_task(spec)
    parts = {str(tmp_path / path): split for path, _, _, split in rows}
    few = data.load_labelled(spec, labelled=3)  # no image is left out but those that train
    assert {parts[name] for name in (*few.labelled.ids, *few.test.ids)} == {"valid", "test"}
    assert len(few.labelled.ids) + len(few.test.ids) == 14
    for kind, part in data.parts(task).items():
        assert {parts[name] for name in part.ids} == {kind}
        np.testing.assert_array_equal(part.labels, ["/b, or not/" in name for name in part.ids])
        if part.masks is not None:
            np.testing.assert_array_equal(part.masks.any((1, 2)), part.labels == 1)
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(6, 0), (3, 4), (3, 4)]
    for part in ("train", "valid", "test"):
        files.assert_held(data.load(spec, split=part))
    assert "layout: listing list.csv" in said(task)
    assert "left out: 1 images beside those that the listing names (a/more.png)" in said(task)
    assert source_of(spec).parts == ("train", "valid", "test")


def test_two_columns_are_enough_and_the_split_is_ours(files, tmp_path):
    rows = twenty(files)
    spec = listing(files, ["\ufeffLabel;IMAGE", *(f"{label};{path}" for path, label, _, _ in rows)])
    task = data.load_task(spec)
    assert task.details["normal_classes"] == ["good"]
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(7, 0), (3, 4), (2, 4)]
    assert data.load_task(spec, normal_classes="dent").details["normal_classes"] == ["dent"]
    renamed = listing(files, ["path,label", *(quoted((path, str(int(label == "dent")))) for path, label, _, _ in rows)])
    with pytest.raises(ValueError, match=r"what is anomalous for csv:.*normal classes among: 0, 1"):
        data.load_task(renamed)
    assert data.load_task(renamed, normal_classes="0").details["anomalous_classes"] == ["1"]


def test_masks_without_parts_are_used_and_a_halved_test_part_is_too(files, tmp_path):
    rows = twenty(files)
    task = data.load_task(listing(files, ["path,label,mask", *(quoted(row[:3]) for row in rows)]))
    np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels == 1)
    two = [(*row[:3], "test" if row[3] == "valid" else row[3]) for row in rows]
    task = data.load_task(listing(files, ["path,label,mask,split", *map(quoted, two)]))
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(6, 0), (3, 4), (3, 4)]
    assert data.load_labelled(f"csv:{tmp_path / 'list.csv'}", labelled=2).normal is not None


def test_what_pandas_writes_is_understood(files):
    """Labels become floats where one was missing, and empty fields may be written out."""
    rows = [(path, f"{float(label == 'dent')}", mask or "NaN") for path, label, mask, _ in twenty(files)]
    task = data.load_task(listing(files, ["path,label,mask", *map(quoted, rows)]), normal_classes="0")
    assert task.details["anomalous_classes"] == ["1"]
    np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels == 1)


def test_one_label_is_good_alone(files):
    rows = twenty(files)
    task = data.load_task(listing(files, ["path,label", *(f"{row[0]},fine" for row in rows[:12])]))
    assert task.details["made"] == ["valid", "test"]


def test_a_listing_in_a_folder_of_images_is_taken_where_nothing_else_says_what_they_are(files, tmp_path):
    for i in range(20):
        files.picture(f"{i:03d}.png")
    assert "made" in data.load_task(f"folder:{tmp_path}").details
    listing(files, ["path,label", *(f"{i:03d}.png,{'bad' if i > 14 else 'ok'}" for i in range(20))], "labels.csv")
    task = data.load_task(f"folder:{tmp_path}")
    assert "layout: listing labels.csv" in said(task)
    assert {name[-7:-4] for name, label in labels_of(task).items() if label} == {"015", "016", "017", "018", "019"}
    listing(files, ["path,label", "000.png,ok"], "other.csv")
    with pytest.raises(ValueError, match=r"holds 2 listings of images, such as .*labels\.csv: give one, csv:FILE"):
        data.load_task(f"folder:{tmp_path}")


def test_missing_files_and_masks_are_named(files, tmp_path):
    rows = twenty(files)
    (tmp_path / rows[0][0]).unlink()
    (tmp_path / rows[12][2]).unlink()
    task = data.load_task(listing(files, ["path,label,mask,split", *map(quoted, rows)]))
    unreadable = [line.removeprefix(f"{tmp_path}/").split(":")[0] for line in task.details["unreadable"]]
    assert sorted(unreadable) == ["a/000.png", "m/000.png"]
    assert "left out: 2 unreadable files" in said(task)
    assert len(labels_of(task)) == 18


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,kind", "a/000.png,good"], r"has no column called label or class .it begins with file, kind"),
        (["name;label", "a/000.png;good"], r"has no column called path or image.*begins with name, label"),
        (["path,label", '"a/000.png,good'], r"cannot read .*list.csv .*: close its quotes"),
        (["path,label"], "lists no images"),
        (["path,label", "a/000.png,"], r"line 2: no label: give one"),
        (["path,label", "a/000.png,nan"], r"line 2: no label: give one"),
        (["path,label", ",good"], r"line 2: no path: give one"),
        (["path,label", "a/000.png,good", "b, or not/000.png,dent"], r"line 3: 3 fields where the header has 2: quote"),
        (["path,label", "a/000.png,x", "a/001.png,x", "a/000.png,y"], r"lists a/000\.png 2 times \(lines 2, 4\): list"),
        (["path,label", "a/000.png,x", "./a/000.png,y"], r"lists a/000\.png 2 times \(lines 2, 3\): list"),
        (["path,label,split", "a/000.png,good,holdout"], r"line 2: unknown split 'holdout': write train"),
        (["path,label,split", "a/000.png,good,test"], r"has no line of split train"),
        (["path,label,split", "a/000.png,x,train", "a/001.png,y,train"], "labelled x, y, and it is not known"),
        (
            ["path,label,split", "a/000.png,good,train", "a/001.png,dent,train", "a/002.png,dent,test"],
            r"1 training images are not good, such as a/001\.png \(line 3, dent\)",
        ),
    ],
)  # fmt: skip
def test_listings_that_say_too_little_are_refused_with_their_line(files, lines, message):
    files.pictures("a", 3)
    with pytest.raises(ValueError, match=message):
        data.load_task(listing(files, lines))


def test_what_is_no_listing_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*UTF-8"):
        data.load_task(listing(files, ["path,label", "ä.png,good"], encoding="latin-1"))
    (tmp_path / "x.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"x\.txt is no folder, and no listing of images: a header"):
        data.load_task(f"folder:{tmp_path / 'x.txt'}")
    with pytest.raises(ValueError, match=r"absent\.csv holds no listing of images"):
        data.load_task(f"csv:{tmp_path / 'absent.csv'}")


def test_paths_that_were_written_on_windows_are_found(files):
    rows = twenty(files)
    task = data.load_task(listing(files, ["path,label", *(quoted((r[0].replace("/", "\\"), r[1])) for r in rows)]))
    assert len(labels_of(task)) == 20


# ---- class folders


def test_nested_class_folders_belong_to_their_class(files, tmp_path):
    for day in ("2025", "2026/january", "2026/june"):
        files.pictures(f"good/{day}", 7)
    files.pictures("bad", 3)
    files.pictures("bad/later", 3)
    task = data.load_task(f"folder:{tmp_path}")
    assert "layout: class folders, of images at any depth" in said(task)
    assert task.details["normal_classes"] == ["good"]
    assert len(labels_of(task)) == 27
    assert all(("/bad/" in name) == label for name, label in labels_of(task).items())
    files.assert_held(data.load(f"folder:{tmp_path}"))
    assert "made" in data.load_task(f"folder:{tmp_path / 'good'}").details  # its name says that all are good


def test_one_folder_that_is_all_nested_is_good(files, tmp_path):
    files.pictures("good/2026", 20)
    assert data.load(f"folder:{tmp_path}").class_names == ("good",)


def test_folders_of_masks_in_a_class_are_no_images_of_it(files, tmp_path):
    files.pictures("good", 10)
    files.pictures("bad", 5)
    for i in range(5):
        files.mask(f"bad/masks/{'deeper/' * (i > 2)}{i:03d}.png")
    task = data.load_task(f"folder:{tmp_path}")
    assert sum(labels_of(task).values()) == 5
    assert "left out: 5 images in folders of masks (bad/masks/000.png, bad/masks/001.png, " in said(task)


def test_a_folder_of_masks_in_the_test_part_is_no_kind_of_defect(files, tmp_path):
    files.pictures("train/good", 5)
    files.pictures("test/good", 4)
    files.pictures("test/dent", 4)
    for i in range(4):
        files.mask(f"test/masks/{i:03d}.png")
    task = data.load_task(f"folder:{tmp_path}")
    assert task.details["anomalous"] == ["dent"]
    assert "left out: 4 images in folders of masks (test/masks/000.png, " in said(task)


def test_folders_that_are_no_class_are_named(files, tmp_path):
    files.pictures("good", 20)
    files.pictures("bad", 6)
    for i in range(6):
        files.mask(f"masks/{i:03d}.png")
    (tmp_path / "dented").mkdir()
    text = said(data.load_task(f"folder:{tmp_path}"))
    assert "left out: 6 images in folders of masks (masks/000.png, " in text
    assert "left out: 1 folders without images (dented)" in text


def test_images_of_other_suffixes_are_counted_and_a_class_of_them_is_refused(files, tmp_path):
    files.pictures("good", 20)
    files.pictures("bad", 6)
    for i in range(10):
        (tmp_path / "good" / f"{i:03d}.png").rename(tmp_path / "good" / f"{i:03d}.xcf")
    (tmp_path / "list.pdf").write_bytes(b"x")
    task = data.load_task(f"folder:{tmp_path}")
    assert "left out: 11 files with other suffixes: 10 .xcf, 1 .pdf (good/000.xcf, good/001.xcf, " in said(task)
    for i in range(20):
        for end in ("png", "xcf"):
            path = tmp_path / "good" / f"{i:03d}.{end}"
            if path.exists():
                path.rename(path.with_suffix(".heic"))
    with pytest.raises(ValueError, match=r"good has 20 images and none that can be read \(such as .*heic\): convert"):
        data.load_task(f"folder:{tmp_path}", normal_classes="good")


@pytest.mark.parametrize("end", ["jfif", "JPE", "avif", "apng"])
def test_all_images_of_a_class_are_read_whatever_they_are_called(files, tmp_path, end):
    files.pictures("good", 10)
    files.pictures("good/day2", 10)
    files.pictures("bad", 6)
    for i in range(5):
        file = tmp_path / "good" / f"{i:03d}.png"
        file.rename(file.with_suffix(f".{end}"))  # which changes no byte of it
    task = data.load_task(f"folder:{tmp_path}", normal_classes="good")
    assert sorted(labels_of(task).values()) == [0] * 20 + [1] * 6
    assert "left out" not in said(task)


def test_what_could_be_meant_in_two_ways_is_refused(files, tmp_path):
    files.pictures("photos/good", 5)
    files.pictures("photos/bad", 5)
    with pytest.raises(ValueError, match=r"photos has class folders of its own \(good\): give folder:.*photos"):
        data.load_task(f"folder:{tmp_path}")
    files.pictures("both", 5)
    files.pictures("both/scratched", 5)
    with pytest.raises(ValueError, match=r"both holds images, and its sub-folder scratched does: give every class"):
        data.load_task(f"folder:{tmp_path / 'both'}")
    for category in ("bottle", "cable"):
        files.pictures(f"mvtec/{category}/train/good", 2)
        files.pictures(f"mvtec/{category}/test/good", 2)
    with pytest.raises(ValueError, match=r"holds categories \(bottle, cable\): give one, folder:.*mvtec/bottle"):
        data.load_task(f"folder:{tmp_path / 'mvtec'}")


def test_what_is_no_file_is_not_opened(files, tmp_path):
    files.pictures("good", 20)
    files.pictures("bad", 6)
    os.mkfifo(tmp_path / "good" / "pipe.png")  # opening it would wait for ever
    (tmp_path / "bad" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    text = said(data.load_task(f"folder:{tmp_path}"))
    assert "left out: 1 pipes, sockets or devices (good/pipe.png)" in text
    assert "left out: 1 unreadable file" in text
    assert "gone.png" in text


def test_links_to_folders_are_not_followed_and_said(files, tmp_path):
    files.pictures("good", 10)
    files.pictures("bad", 5)
    (tmp_path / "good" / "again").symlink_to(tmp_path)
    task = data.load_task(f"folder:{tmp_path}")
    assert len(labels_of(task)) == 15
    assert "left out: 1 links to folders (good/again)" in said(task)


# ---- images and masks


def test_images_and_masks_are_pairs(files, tmp_path):
    files.pictures("images", 12)
    for i in range(13):
        files.mask(f"masks/{i:03d}.png", value=255 * (i % 3 == 0))
    task, named = (data.load_task(f"{prefix}:{tmp_path}") for prefix in ("folder", "pairs"))
    np.testing.assert_array_equal(task.test.ids, named.test.ids)
    np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels == 1)
    assert "layout: images/NAME and masks/NAME" in said(task)
    assert "left out: 1 masks of no image (masks/012.png)" in said(task)
    files.picture("stray.png")
    assert "left out: 1 images beside the sub-folders that are read (stray.png)" in said(
        data.load_task(f"pairs:{tmp_path}")
    )
    listing(files, ["path,label", "images/000.png,good"])
    with pytest.raises(
        ValueError, match=r"images and masks, and the listing list\.csv: say which is meant, pairs:.* or csv:"
    ):
        data.load_task(f"folder:{tmp_path}")


@pytest.mark.parametrize("places", [("Images", "GT"), ("images", "ground_truth")])
def test_pairs_are_found_under_other_names(files, tmp_path, places):
    images, masks = places
    files.pictures(images, 12)
    for i in range(12):
        files.mask(f"{masks}/{i:03d}_mask.png", value=255 * (i % 3 == 0))
    (tmp_path / "notes").mkdir()
    for prefix in ("folder", "pairs"):
        task = data.load_task(f"{prefix}:{tmp_path}")
        assert f"layout: {images}/NAME and {masks}/NAME" in said(task)
        assert {name[-7:-4] for name, label in labels_of(task).items() if label} == {"000", "003", "006", "009"}
    files.pictures("others", 12)
    assert "class folders" in said(data.load_task(f"folder:{tmp_path}", normal_classes=images))


def test_defects_alone_are_no_task_and_say_so(files, tmp_path):
    files.pictures("images", 8)
    for i in range(8):
        files.mask(f"masks/{i:03d}.png")
    with pytest.raises(
        ValueError, match=r"none of 8 images is of the normal classes .*, there are only images of defect"
    ):
        data.load_task(f"folder:{tmp_path}")


def test_a_limit_that_is_not_reached_is_not_said(files, tmp_path):
    files.pictures("train/good", 5)
    files.pictures("test/good", 4)
    files.pictures("test/dent", 4)
    assert "--limit" not in said(data.load_task(f"folder:{tmp_path}", limit=8))
    assert "at most 3 normal images are used (--limit)" in said(data.load_task(f"folder:{tmp_path}", limit=3))
    alone = f"folder:{tmp_path}/train/good"
    assert "--limit" not in said(data.load_task(alone, limit=8, tiles=2))
    assert "at most 5 normal" in said(data.load_task(alone, limit=5, tiles=2))


def test_finding_a_layout_opens_no_image(files, tmp_path, monkeypatch):
    visa(files)
    btad(files)
    listing(files, ["path,label,mask,split", *map(quoted, twenty(files))])
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("opened"))
    for place in ("VisA/candle", "01", "list.csv"):
        entry = source_of(f"folder:{tmp_path / place}")
        assert entry.defects
        assert entry.masks


# ---- CrackForest and Tiny-ImageNet as they are published


def test_masks_of_crackforest_are_cracks_in_pavement(files, tmp_path, rng):
    files.pictures("image", 5, ".jpg")
    (tmp_path / "groundTruth").mkdir()
    labels = rng.integers(1, 5, (5, 12, 10)).astype(np.uint16)
    for i, values in enumerate(labels):
        truth = {"Segmentation": values, "Boundaries": values > 2}
        savemat(tmp_path / "groundTruth" / f"{i:03d}.mat", {"groundTruth": truth})
    for spec in ("pairs", "folder"):
        found = data.load(f"{spec}:{tmp_path}")
        np.testing.assert_array_equal(found.masks > 0, (labels == 2) | (labels == 4))
    assert not found.reading.left_out
    assert not data.check_data(f"pairs:{tmp_path}").masks.count
    savemat(tmp_path / "groundTruth" / "000.mat", {"groundTruth": {"Segmentation": labels[0] + 1}})
    savemat(tmp_path / "groundTruth" / "001.mat", {"truth": labels[0]})
    (tmp_path / "groundTruth" / "002.mat").write_bytes(b"MATLAB")
    with pytest.raises(ValueError, match=r"only 2 of 5 images can be read .*its labels are \[5\]"):
        data.load(f"pairs:{tmp_path}")


def test_tiny_imagenet_is_read_as_its_archive_has_it(files, tmp_path):
    """Training images by the folder of their class, those of validation by the listing beside them."""
    for name in ("n01", "n02", "n03"):
        files.pictures(f"tiny/train/{name}/images", 2, ".JPEG")
        (tmp_path / f"tiny/train/{name}/{name}_boxes.txt").write_text("0\t0\t0\t1\t1\n")
    files.pictures("tiny/val/images", 6, ".JPEG")
    files.pictures("tiny/test/images", 2, ".JPEG")
    classes = ["n03", "n01", "n02", "n01", "n03"]  # and one that nobody lists
    lines = [f"{i:03d}.JPEG\t{name}\t0\t0\t9\t9\n" for i, name in enumerate(classes)]
    (tmp_path / "tiny/val/val_annotations.txt").write_text("".join(lines))
    train, valid = (data.load(f"folder:{tmp_path}/tiny/{part}") for part in ("train", "val"))
    assert train.class_names == valid.class_names == ("n01", "n02", "n03")
    assert [train.class_names[label] for label in train.labels] == ["n01", "n01", "n02", "n02", "n03", "n03"]
    assert [valid.class_names[label] for label in valid.labels] == classes
    files.assert_held(valid)
    assert any("005.JPEG" in str(each) for each in valid.reading.left_out)
    task = data.load_task(f"folder:{tmp_path}/tiny/val", normal_classes=["n01", "n03"], anomaly_ratio=0.0)
    assert set(task.train.classes.tolist()) <= {0, 2}
    with pytest.raises(ValueError, match="take the classes of one part, folder:"):
        data.load(f"folder:{tmp_path}/tiny")
    (tmp_path / "tiny/val/val_annotations.txt").write_text("000.JPEG n03\n")
    with pytest.raises(ValueError, match=r"val_annotations\.txt, line 1: no name and class, separated by a tab"):
        data.load(f"folder:{tmp_path}/tiny/val")
