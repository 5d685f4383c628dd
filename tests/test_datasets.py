"""Image sets: what is read equals what was written, and bad input ends in one clear line."""

import dataclasses
import gzip
import os
import struct

import numpy as np
import pytest
import skimage.data
import skimage.transform
from PIL import Image
from prepared_sets import prepare
from sklearn.datasets import load_digits

from jaxad import data
from jaxad.data.image_set import class_indices
from jaxad.data.sources import tfds as prepared

TFDS = os.environ.get("TFDS_DATA_DIR")
MVTEC = os.environ.get("JAXAD_MVTEC_DIR")


def pictures(rng, n, height=6, width=5, channels=1):
    return rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image).save(path)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    payload = header + array.tobytes()
    path.write_bytes(gzip.compress(payload) if path.suffix == ".gz" else payload)


# --- arrays


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 4, 4)), r"shape \(3, 4, 4\).*4 axes.*images\[\.\.\., None\]"),
        (np.zeros((4, 4)), "4 axes.*stack"),
        (np.zeros((0, 4, 4, 1)), "empty"),
        (np.zeros((2, 4, 4, 0)), "empty"),
        (np.zeros((2, 4, 4, 1), np.int32), "int32.*uint8.*convert"),
        (np.full((2, 4, 4, 1), 254.5), r"254\.5\].*divide by 255"),
        (np.full((2, 4, 4, 1), -0.5), r"\[-0\.5, .*rescale"),
    ],
)
def test_check_images_names_value_limit_and_remedy(images, message):
    with pytest.raises(ValueError, match=f"^mine.*{message}"):
        data.check_images(images, "mine")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_images_finds_the_image_that_is_not_finite(bad):
    images = np.zeros((5, 2, 2, 3), np.float32)
    images[3, 1, 0, 2] = bad
    with pytest.raises(ValueError, match=r"1 image\(s\), first at 3"):
        data.check_images(images)


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_check_images_accepts_any_number_of_channels(rng, channels):
    images = rng.random((2, 3, 4, channels))
    assert data.check_images(images) is images
    assert data.check_images((images * 255).astype(np.uint8)).dtype == np.uint8


@pytest.mark.parametrize("size", [(14, 14), (9, 20), (56, 40)])
def test_resize_is_pillows_and_close_to_scikit_image(rng, size):
    images = pictures(rng, 2, 28, 28, 3)
    ours = data.resize(images, size)
    assert ours.shape == (2, *size, 3)
    assert ours.dtype == np.uint8
    whole = Image.fromarray(images[1]).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(ours[1], np.asarray(whole))
    # scikit-image antialiases with a Gaussian instead of a triangle, so smooth pictures must agree, noise not.
    y, x = np.mgrid[0:28, 0:28] / 27
    smooth = np.stack([x, y, (x + y) / 2], -1)[None].astype(np.float32)
    expected = skimage.transform.resize(smooth[0], size, order=1, anti_aliasing=True)
    np.testing.assert_allclose(data.resize(smooth, size)[0], expected, atol=0.03)


def test_shrinking_averages_instead_of_dropping_pixels():
    checkerboard = (np.indices((32, 32)).sum(0) % 2)[None, ..., None].astype(np.float32)
    np.testing.assert_allclose(data.resize(checkerboard, 8)[:, 1:-1, 1:-1], 0.5, atol=0.02)


def test_resize_of_floats_and_many_channels(rng):
    images = rng.random((2, 8, 8, 5)).astype(np.float32)
    smaller = data.resize(images, 4)
    assert smaller.dtype == np.float32
    for c in range(5):
        np.testing.assert_array_equal(smaller[..., c : c + 1], data.resize(images[..., c : c + 1], 4))
    np.testing.assert_array_equal(data.resize(images, 8), images)
    np.testing.assert_allclose(data.resize(np.ones((1, 9, 9, 1)), 5), 1)
    with pytest.raises(ValueError, match="0x0 is too small"):
        data.resize(images, 0)


def test_channels_follow_pillow_and_refuse_the_rest(rng):
    colour = pictures(rng, 2, channels=3)
    grey = data.to_channels(colour, 1)
    expected = np.asarray(Image.fromarray(colour[0]).convert("L"))
    np.testing.assert_allclose(grey[0, ..., 0].astype(int), expected.astype(int), atol=1)
    np.testing.assert_array_equal(data.to_channels(grey, 3), np.concatenate([grey] * 3, -1))
    np.testing.assert_array_equal(data.to_channels(data.to_channels(grey, 3), 1), grey)
    white = data.to_channels(np.ones((1, 2, 2, 3), np.float32), 1)
    assert white.max() <= 1
    np.testing.assert_allclose(white, 1, rtol=1e-6)
    with pytest.raises(ValueError, match=r"5 channels into 3.*convert"):
        data.to_channels(np.zeros((1, 2, 2, 5)), 3)


def test_number_types_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = data.to_dtype(levels, np.float32)
    assert floats.dtype == np.float32
    assert (floats.min(), floats.max()) == (0, 1)
    np.testing.assert_array_equal(data.to_dtype(floats, np.uint8), levels)


def test_decode_modes(tmp_path, rng):
    colour = pictures(rng, 1, channels=3)[0]
    alpha = np.concatenate([colour, np.full((6, 5, 1), 9, np.uint8)], -1)
    deep = rng.integers(0, 65536, (6, 5), dtype=np.uint16)
    save(tmp_path / "alpha.png", alpha)
    save(tmp_path / "deep.png", deep)
    Image.fromarray(colour[..., 0] > 127).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(data.decode(tmp_path / "alpha.png"), colour)
    np.testing.assert_allclose(data.decode(tmp_path / "deep.png")[..., 0], deep / 65535, atol=1e-6)
    np.testing.assert_array_equal(data.decode(tmp_path / "bilevel.png")[..., 0], (colour[..., 0] > 127) * 255)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.png.*replace"):
        data.decode(tmp_path / "broken.png")


# --- bundled


def test_digits_are_scikit_learns():
    digits = data.load("digits")
    assert digits.images.shape == (1797, 8, 8, 1)
    assert digits.images.dtype == np.uint8
    np.testing.assert_allclose(digits.images[..., 0] / 255 * 16, load_digits().images, atol=0.04)
    np.testing.assert_array_equal(digits.labels, load_digits().target)


@pytest.mark.parametrize(("spec", "size", "n"), [("textures", 32, 768), ("textures:100", 100, 75)])
def test_texture_crops_are_slices_of_the_pictures(spec, size, n):
    textures = data.load(spec)
    pictures = {name: getattr(skimage.data, name)() for name in textures.class_names}
    assert textures.images.shape == (n, size, size, 1)
    assert len(set(textures.ids)) == n
    for image, label, name in zip(textures.images, textures.labels, textures.ids):
        texture, at = name.split("/")[1], name.split("/")[-1]
        top, left = (int(v) for v in at.split(","))
        assert textures.class_names[label] == texture
        np.testing.assert_array_equal(image[..., 0], pictures[texture][top : top + size, left : left + size])


def test_texture_stride_and_limits():
    assert len(data.textures(64, 32).images) == 3 * 15**2
    with pytest.raises(ValueError, match=r"513 is outside 1\.\.512"):
        data.load("textures:513")
    with pytest.raises(ValueError, match="write textures or textures:SIZE"):
        data.load("textures:big")
    with pytest.raises(ValueError, match="stride 0"):
        data.textures(32, 0)


def test_noise_has_the_papers_distributions():
    gaussian = data.load("gaussian", shape=(16, 16, 3)).images
    uniform = data.load("uniform", shape=(16, 16, 3), limit=500).images
    assert gaussian.shape == (1000, 16, 16, 3)
    assert uniform.shape == (500, 16, 16, 3)
    assert gaussian.dtype == uniform.dtype == np.float32
    # N(0.5, 1) puts Phi(-0.5) = 0.3085 of its mass below 0 and as much above 1.
    assert (gaussian == 0).mean() == pytest.approx(0.3085, abs=0.003)
    assert (gaussian == 1).mean() == pytest.approx(0.3085, abs=0.003)
    assert uniform.mean() == pytest.approx(0.5, abs=0.003)
    assert uniform.var() == pytest.approx(1 / 12, abs=0.001)


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_noise_is_seeded(kind):
    make = lambda seed: data.noise(kind, (4, 4, 1), n=5, seed=seed).images  # noqa: E731
    np.testing.assert_array_equal(make(3), make(3))
    assert (make(3) != make(4)).any()


def test_noise_refuses_what_it_cannot_make():
    with pytest.raises(ValueError, match=r"'pink'.*gaussian, uniform"):
        data.noise("pink")
    with pytest.raises(ValueError, match=r"height, width, channels"):
        data.noise("uniform", (4, 4))


# --- files


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_round_trip(tmp_path, rng, end):
    images, labels = pictures(rng, 7)[..., 0], np.array([3, 3, 7, 9, 7, 3, 3], np.uint8)
    for prefix, part in (("train", slice(0, 4)), ("t10k", slice(4, 7))):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{end}", images[part])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{end}", labels[part])
    train, test = (data.load(f"idx:{tmp_path}", split=split) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images[..., 0], images[:4])
    np.testing.assert_array_equal(test.images[..., 0], images[4:])
    assert train.class_names == ("3", "7", "9")
    np.testing.assert_array_equal(train.labels, [0, 0, 1, 2])
    assert not set(train.ids) & set(test.ids)


def test_idx_errors(tmp_path, rng):
    load = lambda: data.load(f"idx:{tmp_path}")  # noqa: E731
    with pytest.raises(ValueError, match="no file train-images-idx3-ubyte"):
        load()
    with pytest.raises(ValueError, match=r"no part 'dev'.*train or test"):
        data.load(f"idx:{tmp_path}", split="dev")
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(b"\x89PNG....")
    with pytest.raises(ValueError, match="not an IDX file"):
        load()
    write_idx(file, pictures(rng, 3)[..., 0])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="105 bytes where its header promises 106"):
        load()
    write_idx(file, pictures(rng, 3)[..., 0])
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="do not belong together"):
        load()
    file.rename(tmp_path / "elsewhere")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(ValueError, match="download it again"):
        load()


def test_folder_round_trip(tmp_path, rng):
    images = pictures(rng, 5, channels=3)
    for i, name in enumerate(["cat/1", "cat/2", "dog/1", "dog/2", "dog/3"]):
        save(tmp_path / f"{name}.png", images[i])
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    loaded = data.load(f"folder:{tmp_path}")
    np.testing.assert_array_equal(loaded.images, images)
    assert loaded.class_names == ("cat", "dog")
    np.testing.assert_array_equal(loaded.labels, [0, 0, 1, 1, 1])
    assert loaded.ids[2].endswith("dog/1.png")
    flat = data.load(f"folder:{tmp_path / 'dog'}", limit=2, seed=1)
    assert flat.class_names == ("dog",)
    assert len(flat.images) == 2


def test_folder_mixes_grey_and_colour_but_not_sizes(tmp_path, rng):
    grey, colour = pictures(rng, 1)[0], pictures(rng, 1, 6, 5, 3)[0]
    save(tmp_path / "a" / "grey.png", grey)
    save(tmp_path / "b" / "colour.png", colour)
    both = data.load(f"folder:{tmp_path}").images
    np.testing.assert_array_equal(both[0], np.repeat(grey, 3, -1))
    np.testing.assert_array_equal(both[1], colour)
    save(tmp_path / "b" / "large.png", pictures(rng, 1, 9, 9)[0])
    with pytest.raises(ValueError, match=r"grey\.png is 6x5 but .*large\.png is 9x9.*image size"):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=4).images.shape == (3, 4, 4, 3)


def test_folder_errors(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        data.load(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(ValueError, match="no images in"):
        data.load(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match="names no path"):
        data.load("folder:")
    with pytest.raises(ValueError, match="no image files"):
        data.read_images([])


def make_mvtec(root, rng, n=3):
    images = pictures(rng, 3 * n, 8, 8, 3)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:6] = 255
    mask[0, 0] = 127  # of another class of defects: all that is not zero is anomalous
    for i in range(n):
        save(root / "train" / "good" / f"{i}.png", images[i])
        save(root / "test" / "good" / f"{i}.png", images[n + i])
        save(root / "test" / "hole" / f"{i}.png", images[2 * n + i])
        save(root / "ground_truth" / "hole" / f"{i}_mask.png", mask)
    return images, mask


def test_mvtec_round_trip(tmp_path, rng):
    images, mask = make_mvtec(tmp_path / "tile", rng)
    train = data.load(f"mvtec:{tmp_path / 'tile'}")
    test = data.load(f"mvtec:{tmp_path / 'tile'}", split="test")
    np.testing.assert_array_equal(train.images, images[:3])
    np.testing.assert_array_equal(test.images, images[3:])
    assert train.class_names == test.class_names == ("good", "hole")
    np.testing.assert_array_equal(test.labels, [0, 0, 0, 1, 1, 1])
    assert train.masks.sum() == test.masks[:3].sum() == 0
    np.testing.assert_array_equal(test.masks[3:], np.stack([mask > 0] * 3))
    small = data.load(f"mvtec:{tmp_path / 'tile'}", split="test", image_size=4)
    assert small.images.shape == (6, 4, 4, 3)
    np.testing.assert_array_equal(small.masks[4], mask.reshape(4, 2, 4, 2).max((1, 3)) > 0)


def test_mvtec_errors(tmp_path, rng):
    spec = f"mvtec:{tmp_path / 'tile'}"
    with pytest.raises(ValueError, match="no train/good and test folders: give one category"):
        data.load(spec)
    make_mvtec(tmp_path / "tile", rng)
    with pytest.raises(ValueError, match="no part 'valid'"):
        data.load(spec, split="valid")
    mask = tmp_path / "tile" / "ground_truth" / "hole" / "1_mask.png"
    save(mask, np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"1_mask\.png is \(4, 4\), its image \(8, 8\)"):
        data.load(spec, split="test")
    with pytest.raises(ValueError, match=r"1_mask\.png is \(4, 4\)"):
        data.load(spec, split="test", image_size=8)
    mask.unlink()
    assert data.load(spec, split="test").masks is None  # rather than those of some images alone


def test_npz_round_trip(tmp_path, rng):
    images = rng.random((4, 6, 6, 7)).astype(np.float32)
    masks = rng.integers(0, 2, (4, 6, 6))
    np.savez(tmp_path / "bands.npz", images=images, labels=np.array(["b", "a", "b", "c"]), masks=masks)
    loaded = data.load(f"npz:{tmp_path / 'bands.npz'}")
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.masks, masks)
    assert loaded.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(loaded.labels, [1, 0, 1, 2])
    small = data.load(f"npz:{tmp_path / 'bands.npz'}", image_size=(3, 2), limit=3)
    assert small.images.shape == (3, 3, 2, 7)
    assert small.masks.shape == (3, 3, 2)


def test_npz_errors(tmp_path):
    file = tmp_path / "x.npz"
    with pytest.raises(ValueError, match="cannot read"):
        data.load(f"npz:{file}")
    file.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot read"):
        data.load(f"npz:{file}")
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ValueError, match="cannot read"):
        data.load(f"npz:{tmp_path / 'x.npy'}")
    np.savez(file, images=np.array([{}], object))
    with pytest.raises(ValueError, match="without objects"):
        data.load(f"npz:{file}")
    np.savez(file, pictures=np.zeros((1, 2, 2, 1)))
    with pytest.raises(ValueError, match=r"holds \['pictures'\] but no array named images"):
        data.load(f"npz:{file}")
    np.savez(file, images=np.full((1, 2, 2, 1), 2.0))
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        data.load(f"npz:{file}")


def test_from_arrays(rng):
    images = pictures(rng, 3)
    made = data.from_arrays(images, [1, 0, 1], name="mine", class_names=("a", "b"))
    assert made.ids.tolist() == ["mine/0", "mine/1", "mine/2"]
    np.testing.assert_array_equal(made.labels, [1, 0, 1])
    for bad, message in [
        ({"labels": [0, 1]}, "3 images need one each"),
        ({"labels": [0, 1, 2], "class_names": ("a", "b")}, "from 0 to 2 for 2 class names"),
        ({"masks": np.zeros((3, 5, 5))}, "one mask each"),
        ({"masks": np.full((3, 6, 5), 255)}, "threshold"),
        ({"ids": ["a", "a", "b"]}, "3 different ids, not 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.from_arrays(images, **bad)


# --- names


def test_limit_draws_by_seed():
    draws = [data.load("digits", limit=100, seed=seed).ids.tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 100
    assert len(data.load("digits", limit=10**6).ids) == 1797
    with pytest.raises(ValueError, match="limit 0"):
        data.load("digits", limit=0)


def test_a_number_is_a_name_or_else_an_index_but_not_either():
    assert class_indices("x", ("3", "7", "0"), ["0", 7]) == [1, 2]
    assert class_indices("x", ("cat", "cow"), ["cow", 0]) == [0, 1]
    assert class_indices("x", ("1", "5"), ["5.0"]) == class_indices("x", ("1", "5"), [np.float64(5)]) == [1]
    assert class_indices("x", ("5", "5.0"), ["5.0"]) == [1]
    for names, wanted in ((("3", "7", "0"), 1), (("1", "2", "9"), "0"), (("01", "02"), "1"), (("1.0", "5.0"), "1")):
        with pytest.raises(
            ValueError, match=rf"x has no class '?{wanted}'?: choose from {', '.join(names)}; these are names"
        ):
            class_indices("x", names, [wanted])
    assert class_indices("x", ("0", "cat"), ["0", "cat"]) == [0, 1]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, str, lambda label: f"{label}.0"])
def test_whole_numbers_have_the_same_names_however_they_are_saved(rng, kind):
    labels = np.array([kind(label) for label in (5, 1, 5, 10)])
    made = data.from_arrays(pictures(rng, 4), labels)
    assert sorted(made.class_names) == ["1", "10", "5"]
    assert [made.class_names[i] for i in made.labels] == ["5", "1", "5", "10"]


def test_names_may_be_bytes_and_other_types_are_refused(rng):
    assert data.from_arrays(pictures(rng, 3), [b"ok", b"bad", b"ok"]).class_names == ("bad", "ok")
    for labels in (np.array([0, 1, 0], complex), np.array(["2020", "2021", "NaT"], "datetime64[D]")):
        with pytest.raises(ValueError, match=r"labels have type .*: give whole numbers or names"):
            data.from_arrays(pictures(rng, 3), labels)


@pytest.mark.parametrize("labels", [[0, np.nan, 1], ["a", "", "b"], ["a", "nan", "b"], [0, np.inf, 1]])
def test_every_image_needs_a_label(rng, labels):
    with pytest.raises(ValueError, match="mine: 1 of 3 labels are missing or no number, the first that of image 1"):
        data.from_arrays(pictures(rng, 3), labels, name="mine")
    with pytest.raises(ValueError, match="x has no class 'dog': choose from 0 cat, 1 cow"):
        class_indices("x", ("cat", "cow"), ["dog"])
    with pytest.raises(ValueError, match="no normal class"):
        class_indices("x", ("cat", "cow"), [])


def test_help_lists_every_kind():
    listed = " ".join(data.available())
    for word in ("digits", "textures", "gaussian", "idx:", "folder:", "mvtec:", "npz:", "cifar10"):
        assert word in listed


def test_unknown_set_suggests_names(tmp_path):
    with pytest.raises(ValueError, match="unknown dataset 'fasion_mnist': did you mean fashion_mnist"):
        data.load("fasion_mnist", data_dir=tmp_path)
    # The process may also run tests that add a source of their own, bars.
    with pytest.raises(
        ValueError, match=r"unknown dataset 'qqqqqq': choose from (bars:SIDE, )?btad:PATH/PRODUCT, csv:FILE, digits"
    ):
        data.load("qqqqqq", data_dir=tmp_path)


def test_unprepared_set_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_online", lambda: False)
    with pytest.raises(ValueError, match=r"cifar100 is not prepared in .*no network.*TFDS_DATA_DIR.*tfds build"):
        data.load("cifar100", data_dir=tmp_path)
    import tensorflow_datasets as tfds

    def fails(self, **options):
        raise RuntimeError("the site is down\nsecond line")

    monkeypatch.setattr(prepared, "_online", lambda: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fails)
    with pytest.raises(ValueError, match=r"could not do it \(the site is down\): set TFDS_DATA_DIR"):
        data.load("cifar100", data_dir=tmp_path)


# --- real sets


@pytest.mark.data
@pytest.mark.skipif(TFDS is None, reason="TFDS_DATA_DIR is not set")
@pytest.mark.parametrize(
    ("name", "n", "shape"),
    [("mnist", 10_000, (28, 28, 1)), ("fashion_mnist", 10_000, (28, 28, 1)), ("cifar10", 10_000, (32, 32, 3))],
)
def test_real_sets_equal_what_tfds_decodes(name, n, shape):
    import sys

    import tensorflow_datasets as tfds

    loaded = data.load(name, split="test")
    assert loaded.images.shape == (n, *shape)
    assert len(loaded.class_names) == 10
    source = tfds.data_source(name, split="test", download=False)
    for i in (0, 17, n - 1):
        np.testing.assert_array_equal(loaded.images[i], source[i]["image"])
        assert loaded.labels[i] == source[i]["label"]
        assert loaded.ids[i] == f"{name}/test/{i}"
    part = data.load(name, split="test[50%:]", limit=20)
    at = [int(image_id.rsplit("/", 1)[1]) for image_id in part.ids]
    assert min(at) >= n // 2
    np.testing.assert_array_equal(part.images, loaded.images[at])
    assert "tensorflow" not in sys.modules
    with pytest.raises(ValueError, match="no part 'trian': choose from train, test"):
        data.load(name, split="trian")


@pytest.mark.data
@pytest.mark.skipif(MVTEC is None, reason="JAXAD_MVTEC_DIR is not set")
def test_real_mvtec_category():
    train, test = (data.load(f"mvtec:{MVTEC}", split=s, image_size=64) for s in ("train", "test"))
    assert train.masks.sum() == 0
    defective = test.masks.any(axis=(1, 2))
    assert not defective[test.labels == 0].any()
    assert defective[test.labels > 0].mean() > 0.9


# --- prepared sets


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "cifar100", images=100)
    return folder


def test_classes_are_those_of_the_label_feature_that_is_named(cifar100):
    options = {"data_dir": cifar100, "image_size": None}
    fine, coarse = (data.load("cifar100", label=name, **options) for name in (None, "coarse_label"))
    assert (len(fine.class_names), len(coarse.class_names)) == (100, 20)
    np.testing.assert_array_equal(coarse.labels, fine.labels // 5)
    task = data.load_task("cifar100", normal_classes=["2", "4"], label="coarse_label", anomaly_ratio=0.3, **options)
    assert set(task.train.classes.tolist()) == {2, 4}
    sets = data.ClassSetsConfig(dataset="cifar100", data_dir=str(cifar100), label="coarse_label", test_split="test")
    assert len(sets.load_sets(0).classes) == 20


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar100", "cifar100 has no label feature 'superclass': choose from label, coarse_label"),
        ("digits", "digits has no label features, such as superclass: leave out label"),
    ],
)
def test_a_label_feature_that_is_not_there_ends_in_one_line(spec, message, cifar100):
    with pytest.raises(ValueError, match=message):
        data.load_task(spec, normal_classes=["0"], label="superclass", data_dir=cifar100)


def test_anomalies_come_from_the_part_that_is_named(tmp_path):
    for name in ("cifar10", "imagenet_resized/32x32"):
        prepare(tmp_path, name, images=40)
    config = data.TaskConfig(dataset="cifar10", ood=("imagenet_resized/32x32",), data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="has no part 'test': choose from train, validation"):
        config.load_task(0)
    task = dataclasses.replace(config, anomaly_split="validation", anomaly_ratio=0.2).load_task(0)
    anomalous = task.test.ids[task.test.labels == 1].tolist()
    assert anomalous
    assert all(name.startswith("imagenet_resized/32x32/validation/") for name in anomalous)
