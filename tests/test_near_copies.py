"""Near-copies: pictures that were encoded or scaled anew are found, others that resemble each other are not."""

import io
import os

import numpy as np
import pytest
from PIL import Image
from skimage.transform import downscale_local_mean
from sklearn.datasets import load_digits

from jaxad import data
from jaxad.data.near_copies import near_copies, thumbnails


def jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0]).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))[..., None]


def found(images, copies):
    """Pairs of a copy and the image that it is nearly equal to."""
    thumbs = np.concatenate([thumbnails(images), thumbnails(copies)])
    pairs = near_copies(thumbs, np.repeat([0, 1], [len(images), len(copies)]))
    return {near.second - len(images): near.first for near in pairs}


def parts_of_a_machine(rng, n, noise=10.0):
    """Photographs of one texture under noise, as in a line of inspection."""
    x = np.mgrid[:32, :32][1]
    return (110 + 60 * np.sin(x / 2) + rng.normal(0, noise, (n, 32, 32))).clip(0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("shape", [(64, 64, 1), (32, 96, 3)])
def test_thumbnails_are_means_of_cells(rng, shape):
    images = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
    made = thumbnails(images).reshape(3, 32, 32)
    height, width = (max(1, side // 64) for side in shape[:2])
    for image, thumb in zip(images[:, ::height, ::width], made):
        grey = image.mean(2)
        np.testing.assert_allclose(thumb, downscale_local_mean(grey, tuple(s // 32 for s in grey.shape)), rtol=1e-5)
    np.testing.assert_allclose(thumbnails(images / np.float32(255)).reshape(3, 32, 32), made, rtol=1e-4)


def test_cells_of_any_size_share_their_pixels(rng):
    """Of 24 pixels 32 cells have three quarters each: by hand, each pixel repeated four times and three taken."""
    images = rng.integers(0, 256, (2, 24, 40, 1), dtype=np.uint8)
    rows = np.repeat(images[..., 0], 4, 1).reshape(2, 32, 3, 40).mean(2)
    expected = np.repeat(rows, 4, 2).reshape(2, 32, 32, 5).mean(3)
    np.testing.assert_allclose(thumbnails(images).reshape(2, 32, 32), expected, rtol=1e-5)


@pytest.mark.parametrize("quality", [95, 75])
def test_copies_that_are_encoded_anew_are_found_and_nothing_else_is(rng, quality):
    for images in (parts_of_a_machine(rng, 80), rng.integers(0, 256, (80, 24, 24, 1), dtype=np.uint8)):
        copies = np.stack([jpeg(image, quality) for image in images[:20]])
        assert found(images, copies) == {i: i for i in range(20)}
        assert found(images[20:], copies) == {}
    textures = data.load("textures:64").images
    copies = np.stack([jpeg(image, quality) for image in textures[:20]])
    assert found(textures, copies) == {i: i for i in range(20)}
    assert found(textures[20:], copies) == {}


def test_many_copies_of_one_picture_are_found_as_well(rng):
    images = parts_of_a_machine(rng, 60)
    burst = np.stack([jpeg(images[3], quality) for quality in range(89, 101)])  # more than neighbours are counted
    assert set(found(images, burst)) == set(range(12))


def test_what_resembles_is_no_copy(rng):
    digits = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
    assert found(digits[:900], digits[900:]) == {}
    flat = (100 + rng.normal(0, 1, (90, 16, 16, 1))).clip(0, 255).astype(np.uint8)  # show next to nothing
    assert found(flat[:60], flat[60:]) == {}
    scene = np.kron(rng.integers(40, 200, (8, 8)), np.ones((4, 4)))  # one thing in changing light
    light = rng.normal(1, 0.05, (90, 1, 1)) * scene + rng.normal(0, 4, (90, 1, 1)) + rng.normal(0, 2, (90, 32, 32))
    light = light.clip(0, 255).astype(np.uint8)[..., None]
    assert found(light[:60], light[60:]) == {}


def test_groups_may_be_as_many_as_images_and_two_images_are_none(rng):
    images = parts_of_a_machine(rng, 50)
    images[40:45] = [jpeg(image, 90) for image in images[10:15]]
    pairs = [(near.first, near.second) for near in near_copies(thumbnails(images), np.arange(50))]
    assert pairs == [(10 + i, 40 + i) for i in range(5)]
    assert near_copies(thumbnails(images), np.zeros(50, int)) == []
    assert near_copies(thumbnails(images[:2]), [0, 1]) == []


def test_the_table_of_a_task_names_pairs_in_different_parts(tmp_path, rng):
    images = parts_of_a_machine(rng, 40)
    for i, image in enumerate(images):
        place = tmp_path / ("train" if i < 20 else "test") / "good" / f"{i:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(place)
    (tmp_path / "test" / "dent").mkdir()
    for i, image in enumerate(parts_of_a_machine(rng, 6)):
        image[8:14, 8:14] = 255
        Image.fromarray(image[..., 0]).save(tmp_path / "test" / "dent" / f"{i}.png")
    spec = f"folder:{tmp_path}"
    assert "near-copies" not in data.table(data.load_task(spec))
    for i in range(3):
        Image.fromarray(images[i, ..., 0]).save(tmp_path / "test" / "good" / f"again{i}.jpg", quality=90)
    task = data.load_task(spec)
    assert task.details["near_copies"]["pairs"] == 3
    (line,) = (line for line in data.table(task).splitlines() if "near-copies" in line)
    assert "3 pairs of images in different parts are nearly equal" in line
    assert all(f"again{i}.jpg and train " in line for i in range(3))


def test_a_picture_in_both_classes_is_named_also_where_it_was_encoded_anew(tmp_path, rng):
    good, bad = parts_of_a_machine(rng, 40), parts_of_a_machine(rng, 12)
    bad[:, 10:18, 10:18] = np.minimum(bad[:, 10:18, 10:18], 200) + 55
    near = good[:6].copy()  # the same things, with a small defect
    near[:, 20:22, 5:9] = 255
    for kind, images in (("good", good), ("bad", np.concatenate([bad, near]))):
        (tmp_path / kind).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(tmp_path / kind / f"{i:03d}.png")
    spec = f"folder:{tmp_path}"
    assert "contradiction" not in data.table(data.load_task(spec))
    for i in range(4):
        Image.fromarray(bad[i, ..., 0]).save(tmp_path / "good" / f"z{i}.jpg", quality=90)
    task = data.load_task(spec)
    assert task.details["near_contradictions"]["pairs"] == 4
    (line,) = (line for line in data.table(task).splitlines() if "contradiction" in line)
    assert "4 pairs of a normal and an anomalous image are nearly equal" in line
    assert "bad/00" in line
    assert "good/z" in line


@pytest.mark.data
@pytest.mark.skipif("JAXAD_MVTEC_DIR" not in os.environ, reason="JAXAD_MVTEC_DIR is not set")
def test_real_photographs_are_no_copies_of_each_other():
    spec = f"mvtec:{os.environ['JAXAD_MVTEC_DIR']}"
    images = np.concatenate([data.load(spec, split=part, image_size=224).images for part in ("train", "test")])
    copies = np.stack([jpeg(image, 60) for image in images[::5]])
    assert found(images, copies) == {i: 5 * i for i in range(len(copies))}
    assert near_copies(thumbnails(images), np.arange(len(images))) == []
