"""Images are brought to a size: by which rule, and where their pixels and those of their masks go."""

from fractions import Fraction

import numpy as np
import pytest
import skimage.data
from PIL import Image

from jaxad.data import load, load_task, table, task_from_arrays
from jaxad.data.fitting import fit_images, fit_mask, fit_words, make_sizing, placed
from jaxad.data.images import resize, resize_mask
from jaxad.data.protocols.fitted import fit_task


@pytest.fixture
def task(rng):
    images = rng.integers(0, 256, (12, 6, 4, 1), dtype=np.uint8)
    masks = rng.integers(0, 2, (4, 6, 4), dtype=np.uint8)
    labels = np.array([0, 0, 1, 1])
    masks[:2] = 0
    return task_from_arrays(images[:4], (images[4:8], labels, masks), (images[8:], labels, masks))


# ---- which size


@pytest.mark.parametrize(
    ("image_size", "auto_side", "sizes", "expected"),
    [
        ("auto", 224, [(28, 28)], None),
        ("auto", 224, [(64, 40)], None),
        ("auto", 224, [(64, 65)], (224, 224)),
        ("auto", 64, [(900, 900)], (64, 64)),
        ("auto", 224, [(700, 900), (20, 30)], (224, 224)),
        ("auto", 224, [(20, 30), (30, 24)], (30, 30)),
        ("auto", 32, [(48, 48)], (32, 32)),
        (None, 224, [(900, 900)], None),
        (16, 224, [(900, 900)], (16, 16)),
        ((16, 20), 224, [(28, 28)], (16, 20)),
    ],
)
def test_the_rule_of_sizes(image_size, auto_side, sizes, expected):
    sizing = make_sizing(image_size, "stretch", auto_side)
    assert sizing.target(sizes) == expected
    if image_size == "auto" and expected is not None:  # what has been done once is not done again
        assert sizing.target([expected]) in (None, expected)


def test_nonsense_is_refused_in_one_line():
    for options, message in [
        ({"image_size": "large"}, "image_size 'large' is no size: give a side, .* auto or None"),
        ({"image_size": 0}, "image size 0x0 is too small"),
        ({"fit": "squeeze"}, "images cannot be fitted by 'squeeze'; choose one of stretch, pad, crop"),
        ({"auto_side": 0}, "auto_side 0 is too small"),
    ]:
        with pytest.raises(ValueError, match=message):
            load("digits", **options)


def test_sets_in_memory_follow_the_same_rule():
    assert load_task("digits").train.images.shape[1:] == (8, 8, 1)
    small = load_task("textures:64")
    assert small.train.images.shape[1:] == (64, 64, 1)
    assert "fitted_from" not in small.details
    large = load_task("textures:128", auto_side=32)
    assert large.train.images.shape[1:] == (32, 32, 1)
    assert large.details["fitted_from"] == [128, 128, "stretch"]
    assert "images: 32x32x1 uint8, from 128x128 (resized; 16 of their pixels are one of ours) in [" in table(large)
    assert load_task("textures:128", image_size=None).train.images.shape[1:] == (128, 128, 1)
    painted = load_task("painted:brick:128", auto_side=32)
    assert painted.test.images.shape[1:] == (32, 32, 1)
    assert painted.test.masks.shape[1:] == (32, 32)


# ---- how


@pytest.fixture(scope="module")
def photo():
    return skimage.data.rocket()  # 427 x 640, RGB


def test_stretching_is_pillows(photo):
    expected = Image.fromarray(photo).resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(fit_images(photo[None], (20, 30))[0], expected)


def test_all_channels_at_once_give_what_each_alone_gives(photo):
    for size in ((20, 30), (500, 100), (427, 641)):
        together = resize(photo[None], size)[0]
        for c in range(3):
            alone = Image.fromarray(photo[..., c]).resize(size[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(together[..., c], alone)


def test_padding_keeps_the_ratio_and_puts_black_around(photo):
    fitted = fit_images(photo[None], (64, 64), "pad")[0]
    inner = Image.fromarray(photo).resize((64, 43), Image.Resampling.BILINEAR)  # 427 / 640 * 64 = 42.7
    np.testing.assert_array_equal(fitted[10:53], inner)
    assert not fitted[:10].any()
    assert not fitted[53:].any()


def test_padding_enlarges_nothing(photo):
    fitted = fit_images(photo[None, :6, :4], (8, 9), "pad")[0]
    np.testing.assert_array_equal(fitted[1:7, 2:6], photo[:6, :4])
    assert fitted.sum(dtype=int) == photo[:6, :4].sum(dtype=int)


def test_cropping_takes_the_middle_in_the_ratio_that_is_asked_for(photo):
    square = Image.fromarray(photo[:, 106 : 106 + 427]).resize((50, 50), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(fit_images(photo[None], (50, 50), "crop")[0], square)
    wide = Image.fromarray(photo[133 : 133 + 160]).resize((80, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(fit_images(photo[None], (20, 80), "crop")[0], wide)


@pytest.mark.parametrize("how", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (90, 90), (17, 40)])
def test_masks_go_where_pixels_go(rng, how, shape):
    """A white square on black: the middle of what is white in the image is the middle of the mask."""
    mask = np.zeros(shape, np.uint8)
    top, left = (n // 3 for n in shape)
    mask[top : top + shape[0] // 4, left : left + shape[1] // 4] = 1
    image = fit_images(255 * mask[None, ..., None], (32, 32), how)[0, ..., 0]
    fitted = fit_mask(mask, (32, 32), how)
    assert fitted.dtype == np.uint8
    assert set(np.unique(fitted)) == {0, 1}
    assert (fitted[image == 255] == 1).all()
    assert (fitted[image == 0] == 0).all()
    for axis in (0, 1):
        mine, of_pixels = (np.average(np.arange(32), weights=each.sum(1 - axis)) for each in (fitted, image))
        assert mine == pytest.approx(of_pixels, abs=0.6)


@pytest.mark.parametrize("shape", [(90, 60), (10, 13), (9, 40), (31, 8), (224, 225)])
@pytest.mark.parametrize("size", [(9, 9), (20, 31), (8, 8), (224, 224)])
def test_a_mask_keeps_every_anomalous_pixel_and_adds_none(rng, shape, size):
    """By hand: a pixel goes where its middle falls, or, along a side that grows, gives to all whose middle is in it."""
    mask = (rng.random(shape) < 0.02).astype(np.uint8)
    mask[:, 3] = 1  # a column of one pixel, which nearest neighbour would drop
    expected = np.zeros(size, np.uint8)
    sources = []
    for have, length in zip(shape, size):
        pairs = [(i, int(Fraction(2 * i + 1, 2 * have) * length)) for i in range(have)]
        grown = [(int(Fraction(2 * o + 1, 2 * length) * have), o) for o in range(length)]
        sources.append(pairs if length < have else grown)
    for y, row in sources[0]:
        for x, column in sources[1]:
            expected[row, column] |= mask[y, x]
    np.testing.assert_array_equal(resize_mask(mask, size), expected)
    assert resize_mask(mask, size).any(0).any()


@pytest.mark.parametrize("how", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(90, 60), (20, 30)])
def test_where_an_image_has_gone_is_known(rng, how, shape):
    """What is seen of it, resized to where it is shown, is all that there is."""
    image = rng.integers(1, 256, (1, *shape, 3), dtype=np.uint8)
    seen, shown = placed(shape, (32, 24), how)
    fitted = fit_images(image, (32, 24), how)[0]
    part = fitted[shown]
    np.testing.assert_array_equal(part, resize(image[(slice(None), *seen)], part.shape[:2])[0])
    rest = fitted.copy()
    rest[shown] = 0
    assert not rest.any()


def test_the_words_for_it():
    assert fit_words((900, 900), (224, 224), "stretch") == "resized; 16 of their pixels are one of ours"
    assert fit_words((600, 900), (64, 64), "stretch") == "stretched; 132 of their pixels are one of ours"
    assert fit_words((100, 100), (224, 224), "stretch") == "resized; enlarged"
    assert fit_words((400, 800), (100, 100), "crop") == "the middle; 50% cut off; 16 of their pixels are one of ours"
    assert fit_words((400, 800), (100, 100), "pad") == "black around; 64 of their pixels are one of ours"


# ---- tasks


def test_every_part_of_a_task_is_fitted_and_says_so(task):
    for how in ("stretch", "pad", "crop"):
        fitted = fit_task(task, 8, how=how)
        for before, after in zip((task.train, task.valid, task.test), (fitted.train, fitted.valid, fitted.test)):
            np.testing.assert_array_equal(after.images, fit_images(before.images, (8, 8), how))
            np.testing.assert_array_equal(after.labels, before.labels)
        np.testing.assert_array_equal(fitted.test.masks[1], fit_mask(task.test.masks[1], (8, 8), how))
        assert fitted.train.masks is None
        assert fitted.details["shape"] == [8, 8, 1]
        assert fitted.details["fitted_from"] == [6, 4, how]
    with pytest.raises(ValueError, match="choose one of stretch, pad, crop"):
        fit_task(task, 8, how="squeeze")
    digits = load_task("digits")
    assert fit_task(digits, 8) is digits
