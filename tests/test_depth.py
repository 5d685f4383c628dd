"""Which stored values are black and white: one rule for a set, which a saved detector keeps; and values of masks."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxad import data
from jaxad.data.depth import ALONE, Depth, Span, ranges_of
from jaxad.data.formats.stored import Stored
from jaxad.data.lazy import find_images
from jaxad.data.mask_values import anomalous_pixels
from jaxad.data.sources.registry import SOURCES
from jaxad.runs import saving
from jaxad.runs.detection import depth_of, read_for
from jaxad.runs.saving import ImageShape, LoadedDetector


def folder(path, arrays, write=tifffile.imwrite, end="tif", per_class=None):
    """Class folders good and bad, of which the last quarter of the arrays is bad."""
    good = per_class or len(arrays) * 3 // 4
    for i, pixels in enumerate(arrays):
        file = path / ("good" if i < good else "bad") / f"{i:03d}.{end}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, pixels)
    return f"folder:{path}"


def textures(rng, n=16):
    return rng.integers(0, 256, (n, 8, 9))


def written(path, pixels):
    Image.fromarray(pixels.astype(np.uint8)).save(path)


# ---- one range for a set


@pytest.mark.parametrize(
    ("scale", "dtype", "expected"),
    [
        (1, np.uint16, (0, 255)),
        (16, np.uint16, (0, 4095)),
        (60, np.uint16, (0, 16383)),
        (257, np.uint16, (0, 65535)),
        (1000, np.int32, None),
        (1000, np.uint32, None),
        (-3, np.int16, None),
        (1 / 255, np.float32, (0, 1)),
        (0.0137, np.float64, None),
    ],
)
def test_one_range_for_all_images_of_a_set(tmp_path, rng, scale, dtype, expected):
    """By hand: a linear function of what is stored, the same for each image, and none is stretched on its own."""
    pixels = textures(rng)
    pixels[3] //= 4  # a dark image stays dark
    pixels[5, 0, 0], pixels[6, 0, 0] = 255, 0
    stored = (pixels * scale).astype(dtype)
    loaded = data.load(folder(tmp_path, [each if dtype != np.float64 else each - 1 for each in stored]))
    stored = stored - 1 if dtype == np.float64 else stored
    low, high = expected or (stored.min(), stored.max())
    order = np.argsort([int(name[-7:-4]) for name in loaded.ids])
    seen = loaded.images[order][..., 0]
    np.testing.assert_allclose(seen, (stored.astype(np.float64) - low) / (float(high) - float(low)), rtol=0, atol=1e-7)
    assert loaded.images.dtype == np.float32
    ((kind, *ends),) = loaded.reading.ranges
    assert ends == [low, high]
    assert kind == ("uint16" if dtype == np.uint16 else "float" if np.dtype(dtype).kind == "f" else "integer")


def test_equal_pictures_of_any_type_are_equal_images(tmp_path, rng):
    pixels = textures(rng)
    pixels[0, 0, :2] = 0, 255
    loaded = [
        data.load(folder(tmp_path / name, list((pixels * scale).astype(dtype))), image_size=(5, 6)).images
        for name, scale, dtype in (("a", 257, "u2"), ("b", 1000, "i4"), ("c", 1 / 255, "f4"), ("d", 1, "u1"))
    ]
    for each in loaded[1:3]:
        np.testing.assert_allclose(each, loaded[0], atol=2e-6)
    np.testing.assert_allclose(loaded[3] / 255, loaded[0], atol=1 / 255)  # rounded twice


def test_large_counts_keep_their_differences(tmp_path, rng):
    counts = (2_000_000_000 + textures(rng)).astype(np.int32)
    images = data.load(folder(tmp_path, list(counts))).images[..., 0]
    assert len(np.unique(images)) > 200


def test_headers_that_say_white_are_believed():
    assert ranges_of([Span("uint16", 0, 1000, True), Span("uint16", 3, 900, False)]) == {"uint16": (0, 1023)}
    assert ranges_of([Span("uint16", 0, 1000, True)]) == {"uint16": (0, 1000)}
    assert ranges_of([Span("dicom", -1024, 3071, True), Span("dicom", -2000, 50, False)]) == {"dicom": (-2000, 3071)}
    assert ranges_of([Span("float", 0.5, 1, False), Span("float", 0.2, 0.9, False)]) == {"float": (0, 1)}


def test_nan_is_left_out_by_name_and_constant_images_are_black(tmp_path, rng):
    images = [each / np.float32(7) for each in textures(rng)]
    images[2][0, 0] = np.nan
    loaded = data.load(folder(tmp_path / "a", images))
    assert len(loaded.images) == 15
    assert "002.tif: 1 of its 72 values are NaN or infinite" in loaded.reading.unreadable[0]
    constant = data.load(folder(tmp_path / "b", [np.full((4, 4), 7, np.int32)] * 4))
    assert not constant.images.any()


def test_a_file_alone_has_no_set_to_tell(tmp_path, rng):
    tifffile.imwrite(tmp_path / "x.tif", np.arange(12, dtype=np.float32).reshape(3, 4))
    with pytest.raises(ValueError, match=r"x\.tif holds floating-point numbers, 0 to 11, .* state a value range"):
        data.decode(tmp_path / "x.tif")
    np.testing.assert_allclose(data.decode(tmp_path / "x.tif", Depth(stated=(0, 22)))[..., 0].max(), 0.5)


def test_channels_that_differ_are_named(tmp_path, rng):
    images = [rng.integers(0, 256, (8, 8, c), dtype=np.uint8) for c in (5, 5, 3, 5)]

    def write(path, pixels):
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")

    with pytest.raises(ValueError, match=r"\.tif has 5 but .*002\.tif has 3 channels: give images of one kind"):
        data.load(folder(tmp_path, images, write, per_class=4))


# ---- the range of a task


def parts(path, rng, scale, test_scale, dtype=np.uint16):
    for place, factor, n in (("train/good", scale, 8), ("test/good", scale, 4), ("test/dent", test_scale, 4)):
        (path / place).mkdir(parents=True)
        for i, pixels in enumerate(textures(rng, n)):
            tifffile.imwrite(path / place / f"{i}.tif", (pixels * factor).astype(dtype))
    return f"mvtec:{path}"


def test_the_range_is_that_of_training(tmp_path, rng):
    """A bright defect is white, and not the reason why everything else gets dark."""
    task = data.load_task(parts(tmp_path / "a", rng, 16, 200))
    assert task.details["ranges"] == {"uint16": [0, 4095]}
    assert task.train.images.max() > 0.9
    bright = task.test.images[task.test.labels == 1]
    assert (bright == 1).mean() > 0.5
    text = data.table(task)
    assert "values: 0 to 4095 of 16 bits became 0 to 1; a saved detector reads new images likewise" in text
    assert "cut: 4 images have values beyond that range, now 0 or 1 (--value-range says another)" in text
    stated = data.load_task(f"mvtec:{tmp_path / 'a'}", value_range=(0, 65535))
    assert stated.details["ranges"] == {"uint16": [0, 65535]}
    assert "cut:" not in data.table(stated)
    assert len(np.unique(stated.test.images[stated.test.labels == 1])) > 100
    floats = data.load_task(parts(tmp_path / "b", rng, 0.5, -0.5, np.float32))
    assert floats.details["ranges"]["float"][0] >= 0
    assert floats.details["beyond_range"] == 4


def stored_in(part):
    """What the files of a part of a task hold."""
    return np.stack([tifffile.imread(name) for name in part.ids])


@pytest.mark.parametrize("alone", [True, False])
def test_only_images_that_train_tell_the_range_where_the_split_is_ours(tmp_path, rng, alone):
    """By hand: of the files that train, the least value is black and the greatest white, whatever the others hold."""
    arrays = [(each * (1 + i)).astype(np.int32) for i, each in enumerate(textures(rng, 24))]
    for each in arrays[18:]:
        each[0, 0] = 10**6  # of defects
    spec = folder(tmp_path, arrays, per_class=24 if alone else 18)
    task = data.load_task(spec)
    held = stored_in(task.train)
    low, high = int(held.min()), int(held.max())
    assert task.details["ranges"] == {"integer": [low, high]}
    np.testing.assert_allclose(task.train.images[..., 0], (held - low) / (high - low), atol=1e-6)
    if alone:
        return
    for part in (task.valid, task.test):
        expected = np.clip((stored_in(part) - float(low)) / (high - low), 0, 1)
        np.testing.assert_allclose(part.images[..., 0], expected, atol=1e-6)
    beyond = [each.min() < low or each.max() > high for each in arrays]
    assert task.details["beyond_range"] == sum(beyond)
    np.testing.assert_array_equal(data.load_task(spec).train.images, task.train.images)
    assert data.load_task(spec, value_range=(0, 2e6)).details["ranges"] == {"integer": [0, 2e6]}


def test_defects_that_are_all_beyond_the_training_images_say_so(tmp_path, rng):
    arrays = [(each + 10**6 * (i >= 15)).astype(np.int32) for i, each in enumerate(textures(rng, 20))]
    spec = folder(tmp_path, arrays)
    with pytest.raises(
        ValueError, match=r"too few .*beyond those of the training images \(0 to 255\) have become black or"
    ):
        data.load_task(spec)
    assert len(data.load_task(spec, value_range=(0, 10**6 + 255)).train.ids) == 9


def test_an_official_test_part_is_read_by_the_range_of_training(tmp_path, rng):
    for part, scale in (("train", 10), ("test", 40)):
        folder(tmp_path / part, list((textures(rng, 24) * scale).astype(np.int32)))
    files = SOURCES["folder"]
    entry = files._replace(
        name="parted", usage="parted", parts=("train", "test"), look=None, layout=None, normal=("good",),
        read=lambda request: files.read(request._replace(argument=f"{tmp_path}/{request.split}")),
    )  # fmt: skip
    with SOURCES.temporarily("parted", entry):
        task = data.load_task("parted", test_split="test", anomaly_ratio=0.2)
        sets = data.load_class_sets("parted", ["good"], test_split="test")
    held = stored_in(task.train)
    assert task.details["ranges"] == {"integer": [held.min(), held.max()]}
    expected = np.clip((stored_in(task.test) - float(held.min())) / float(held.max() - held.min()), 0, 1)
    np.testing.assert_allclose(task.test.images[..., 0], expected, atol=1e-6)
    assert (sets.test.images == 1).mean() > 0.3
    assert sets.train.images.std() > 0.1


def test_images_of_many_channels_are_counted(tmp_path, rng):
    for i in range(20):
        place = tmp_path / ("good" if i < 15 else "bad")
        place.mkdir(exist_ok=True)
        np.save(place / f"{i}.npy", rng.integers(0, 4096, (6, 6, 5)).astype(np.uint16))
    text = data.table(data.load_task(f"folder:{tmp_path}"))
    assert "number type: 20 of 20 images have more than 8 bits" in text


@pytest.mark.parametrize("value_range", [(1, 1), (5, 2), (0, np.inf), (0, np.nan), (1, 2, 3)])
def test_a_range_that_is_none_is_refused(value_range):
    with pytest.raises(ValueError, match=r"value_range is .*: give the values of black and white, such as 0 4095"):
        data.load("digits", value_range=value_range)


def test_bytes_say_nothing_new(rng, tmp_path):
    task = data.load_task(folder(tmp_path, list(textures(rng, 40)), written, "png"))
    assert task.details["ranges"] == {"uint8": [0, 255]}
    assert not any(word in data.table(task) for word in ("values:", "cut:", "number type"))


# ---- what a saved detector reads


def loaded(details, shape=(8, 9, 1)):
    return LoadedDetector("pca", None, None, None, ImageShape(*shape), None, details)


def outcome(detector, file):
    (image,) = find_images([file], depth=depth_of(detector))
    return image.read()[..., 0], list(image.notes)


def test_a_detector_reads_new_images_as_those_of_its_training(tmp_path, rng):
    pixels = textures(rng, 20)
    task = data.load_task(folder(tmp_path / "set", list(pixels.astype(np.uint16) * 16)), normal_classes="good")
    detector = loaded(saving.how_read(task.details))
    again = find_images([tmp_path / "set"], depth=depth_of(detector))
    expected = {name: image for part in data.parts(task).values() for name, image in zip(part.ids, part.images)}
    for image in again:
        np.testing.assert_array_equal(read_for(detector, image.read())[0], expected[image.name])
    tifffile.imwrite(tmp_path / "bright.tif", pixels[0].astype(np.uint16) * 200)
    seen, notes = outcome(detector, tmp_path / "bright.tif")
    np.testing.assert_allclose(seen, np.minimum(pixels[0] * 200.0 / 4095, 1), atol=1e-6)
    assert notes == [f"cut: {tmp_path}/bright.tif has values {pixels[0].min() * 200} to {pixels[0].max() * 200:g}, "
                     "beyond 0 to 4095, which training knew"]  # fmt: skip
    for name, other in (("bytes.png", pixels[0]), ("counts.tif", pixels[0].astype(np.int32))):
        (written if name.endswith("png") else tifffile.imwrite)(tmp_path / name, other)
        with pytest.raises(ValueError, match=rf"{name} holds .*trained on 16 bits \(0 to 4095\): give images as those"):
            outcome(detector, tmp_path / name)
    np.savez(tmp_path / "bytes.npz", images=pixels[..., None].astype(np.uint8))
    with pytest.raises(ValueError, match=r"bytes\.npz/0 holds 8 bits, but the detector was trained on 16 bits"):
        find_images([tmp_path / "bytes.npz"], depth=depth_of(detector))[0].read()


def test_detectors_of_bytes_and_of_arrays(tmp_path, rng):
    pixels = textures(rng, 1)[0]
    written(tmp_path / "x.png", pixels)
    tifffile.imwrite(tmp_path / "x.tif", pixels.astype(np.uint16) * 257)
    of_bytes = loaded(saving.how_read(data.load_task("digits").details))
    np.testing.assert_array_equal(outcome(of_bytes, tmp_path / "x.png")[0], pixels)
    with pytest.raises(ValueError, match=r"x\.tif holds 16 bits, but the detector was trained on 8 bits"):
        outcome(of_bytes, tmp_path / "x.tif")
    for details in ({}, saving.how_read({"dtype": "float32"})):  # of versions that said nothing; of floats in [0, 1]
        np.testing.assert_array_equal(outcome(loaded(details), tmp_path / "x.png")[0], pixels)
        np.testing.assert_allclose(outcome(loaded(details), tmp_path / "x.tif")[0], pixels / 255, atol=1e-6)
    assert depth_of(loaded({})) is ALONE


# ---- masks


def grey(values, dtype=np.uint8, **fields):
    pixels = np.array([values], dtype)[..., None]
    kind = {"u1": "uint8", "u2": "uint16", "f4": "float"}.get(pixels.dtype.str[1:], "integer")
    return Stored(pixels, kind, **fields)


SHADES = [0, *range(40, 56), 120, 130, 255]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (grey([0, 255, 0]), [0, 1, 0]),
        (grey([0, 1, 0]), [0, 1, 0]),
        (grey([0, 1, 2, 100]), [0, 1, 1, 1]),
        (grey([0, 127, 255]), [0, 1, 1]),
        (grey([0, 100, 200]), [0, 1, 1]),
        (grey([0, 0, 0]), [0, 0, 0]),
        (grey(range(101)), [0] + [1] * 100),
        (grey(SHADES), [value > 127 for value in SHADES]),
        (grey([0, 3, 120, 130, 250], lossy=True), [0, 0, 0, 1, 1]),
        (grey([0, 1, 300], np.uint16), [0, 1, 1]),
        (grey([0, 1, 40000], np.int32), [0, 1, 1]),
        (grey([0, 0.25, 1], np.float32), [0, 1, 1]),
        (grey(np.linspace(0, 1, 21), np.float32), [0] * 11 + [1] * 10),
        (grey([0, 255, 255], alpha=np.array([[255, 0, 255]])), [0, 0, 1]),
    ],
)
def test_all_that_is_not_zero_is_anomalous_but_shades(stored, expected):
    np.testing.assert_array_equal(anomalous_pixels(stored, "x")[0], np.array(expected, bool))


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (grey(range(200)), "holds more than 16 different values up to 199, and none is white"),
        (grey(np.linspace(0, 0.4, 30), np.float32), "holds more than 16 different values up to 0.4, and none is white"),
        (grey([0, 1, 0], lossy=True), "was compressed with loss"),
        (grey([0, 255], inverted=True), "white is zero"),
        (grey([0, 0], alpha=np.array([[0, 255]])), "is black everywhere, and only its transparency differs"),
        (grey([-1, 0], np.int32), "holds -1, below zero"),
    ],
)
def test_masks_that_could_mean_either_are_refused(stored, words):
    with pytest.raises(ValueError, match=rf"mask a\.png .*{words}.*save it as PNG, 0 where all is well"):
        anomalous_pixels(stored, "a.png")


@pytest.mark.parametrize("value", [1, 100, 128, 255])
def test_masks_of_any_value_are_defects(tmp_path, rng, value):
    for i in range(8):
        mask = np.zeros((16, 16), np.uint8)
        mask[5:9, 5:9] = 255 if i % 2 else value
        for place, pixels in (("train/good", 0), ("test/good", 0), ("test/crack", 0), ("ground_truth/crack", mask)):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            kept = rng.integers(0, 256, (16, 16), dtype=np.uint8) if isinstance(pixels, int) else pixels
            written(tmp_path / place / f"{i}.png", kept)
    task = data.load_task(f"mvtec:{tmp_path}")
    for part in (task.valid, task.test):
        np.testing.assert_array_equal(part.masks.sum((1, 2)), 16 * part.labels)


@pytest.mark.parametrize("value_range", [None, (0.0, 4000.0)])
def test_every_task_takes_a_range(tmp_path, rng, value_range):
    folder(tmp_path, list(textures(rng, 16).astype(np.uint16) * 10))
    (tmp_path / "bad").rename(tmp_path.parent / f"bad-{tmp_path.name}")
    other = folder(tmp_path.parent / f"test-{tmp_path.name}", list(textures(rng, 8).astype(np.uint16) * 15))
    config = data.ClassSetsConfig(
        dataset=f"folder:{tmp_path}", test_folder=other.removeprefix("folder:"), value_range=value_range
    )
    sets = config.load_sets(0)
    top = 4000 if value_range else 4095
    assert sets.train.images.max() == pytest.approx(2550 / top, rel=0.05)
    assert sets.test.images.max() == pytest.approx(min(15 * 255 / top, 1), rel=0.05)
    pairs = tmp_path.parent / f"pairs-{tmp_path.name}"
    for i, pixels in enumerate(textures(rng, 16)):
        for place, kept in (("images", pixels * 10), ("masks", (pixels > 200) * (i % 2))):
            (pairs / place).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(pairs / place / f"{i}.tif", kept.astype(np.uint16))
    task = data.FewMasksConfig(dataset=f"pairs:{pairs}", value_range=value_range).load_labelled(0)
    assert saving.how_read(task.details)["ranges"] == {"uint16": [0, top]}
    np.testing.assert_array_equal(task.test.masks.any((1, 2)), task.test.labels)
