"""Files of images: straight to their size, whatever they are, and with word of those that cannot be read."""

import json

import numpy as np
import pytest
import skimage.data
from PIL import Image

from jaxad import data
from jaxad.data import reading
from jaxad.data.decoding import file_size
from jaxad.data.fitting import make_sizing

PHOTOS = {"astronaut": (512, 512), "coffee": (400, 600), "rocket": (427, 640), "brick": (512, 512)}


@pytest.fixture
def folder(tmp_path):
    """Photographs of several sizes, colour and grey, PNG and JPEG."""
    for name in PHOTOS:
        end = "jpg" if name == "coffee" else "png"
        Image.fromarray(getattr(skimage.data, name)()).save(tmp_path / f"{name}.{end}", quality=95)
    return tmp_path


def alone(file, size):
    return np.asarray(Image.open(file).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR))


def test_files_are_read_as_pillow_reads_and_resizes_each(folder):
    files = sorted(folder.iterdir())
    images = data.read_images(files, (40, 60))
    assert images.shape == (4, 40, 60, 3)
    for image, file in zip(images, files):
        if file.stem != "brick":
            np.testing.assert_array_equal(image, alone(file, (40, 60)))
    grey = Image.fromarray(skimage.data.brick()).resize((60, 40), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images[1], np.repeat(np.asarray(grey)[..., None], 3, -1))


def test_sizes_are_found_without_decoding(folder, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert {file.stem: file_size(file) for file in folder.iterdir()} == PHOTOS


def test_full_size_arrays_are_not_kept(folder, monkeypatch):
    """At no time are there more of them than one for each thread, here one."""
    import weakref

    alive, most = weakref.WeakSet(), 0
    decode = reading.decode_file

    class Kept(np.ndarray):
        """An array that can be referred to weakly."""

    def spy(file):
        nonlocal most
        decoded = decode(file)
        pixels = decoded.pixels.copy().view(Kept)
        alive.add(pixels)
        most = max(most, len(alive))
        return decoded._replace(pixels=pixels)

    monkeypatch.setattr(Kept, "__hash__", lambda self: id(self), raising=False)
    monkeypatch.setattr(Kept, "__eq__", lambda self, other: self is other, raising=False)
    monkeypatch.setattr(reading, "decode_file", spy)
    monkeypatch.setattr(reading.os, "cpu_count", lambda: 1)
    for fit in ("stretch", "pad", "crop"):
        reading.read_files(sorted(folder.iterdir()) * 3, make_sizing(32, fit))
    assert most <= 2  # the one in work, and the one before, whose name is still bound


def test_threads_keep_the_order(monkeypatch):
    monkeypatch.setattr(reading.os, "cpu_count", lambda: 8)
    assert reading.in_threads(lambda n: n * n, range(100)) == [n * n for n in range(100)]
    with pytest.raises(ZeroDivisionError):
        reading.in_threads(lambda n: 1 // (n - 50), range(100))


@pytest.fixture
def good(tmp_path, rng):
    """Thirty grey pictures."""
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (12, 10), dtype=np.uint8)).save(tmp_path / f"{i:02d}.png")
    return tmp_path


def test_what_cannot_be_read_is_left_out_and_named(good):
    whole = (good / "00.png").read_bytes()
    broken = {"01.png": whole[:-30], "02.png": b"", "03.png": b"no picture", "04.png": whole[:20] + whole[24:]}
    for name, content in broken.items():
        (good / name).write_bytes(content)
    task = data.load_task(f"folder:{good}")
    assert [line.split("/")[-1].split(":")[0] for line in task.details["unreadable"]] == list(broken)
    assert not any(
        name.startswith(str(good / end)) for part in data.parts(task).values() for name in part.ids for end in broken
    )
    [line] = [line for line in data.table(task).splitlines() if "left out" in line]
    assert "4 unreadable files" in line
    assert "01.png: " in line
    assert "04.png" not in line
    assert line.endswith("and 1 more)")
    with pytest.raises(ValueError, match=r"cannot read .*01\.png as an image"):
        data.read_images(sorted(good.iterdir()))


@pytest.mark.parametrize(("broken", "words"), [(16, "only 14 of 30 images can be"), (30, "none of 30 images can be")])
def test_when_most_cannot_be_read_nothing_is_done(good, broken, words):
    for i in range(broken):
        (good / f"{i:02d}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"{words} .*00\.png: .*check the folder") as error:
        data.load_task(f"folder:{good}")
    assert "\n" not in str(error.value)


def test_mixtures_become_one_form_and_are_said(good, rng):
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(good / "00.png")
    Image.fromarray(rng.integers(0, 256, (12, 10, 4), dtype=np.uint8)).save(good / "01.png")
    deep = rng.integers(0, 65536, (12, 10), dtype=np.uint16)
    Image.fromarray(deep).save(good / "02.png")
    loaded = data.load(f"folder:{good}", image_size=(12, 10))
    assert loaded.images.shape == (30, 12, 10, 3)
    assert loaded.images.dtype == np.float32
    np.testing.assert_allclose(loaded.images[2], np.repeat(deep[..., None] / 65535, 3, -1), atol=1e-6)
    np.testing.assert_allclose(
        loaded.images[1], np.asarray(Image.open(good / "01.png").convert("RGB")) / 255, atol=1e-6
    )
    task = data.load_task(f"folder:{good}")
    text = data.table(task)
    for words in (
        "50x50x3 float32, from 2 sizes, 12x10 to 30x50, mostly 12x10 (stretched; enlarged)",
        "mixed: 28 grey images became RGB",
        "dropped: the transparency of 1 images",
        "1 of 30 images have more than 8 bits, so all are float32",
    ):
        assert words in text
    assert json.loads(json.dumps(task.details)) == task.details
    plain = data.table(data.load_task("digits"))
    assert not any(word in plain for word in ("from", "mixed", "dropped", "number type", "left out: 1 unr"))


def test_a_mask_that_cannot_be_read_takes_its_image_with_it(tmp_path, rng):
    for i in range(6):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            pixels = (
                rng.integers(0, 256, (8, 8), dtype=np.uint8) if kind == "images" else np.eye(8, dtype=np.uint8) * 255
            )
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    (tmp_path / "masks" / "2.png").write_bytes(b"no picture")
    (tmp_path / "images" / "4.png").write_bytes(b"no picture")
    loaded = data.load(f"pairs:{tmp_path}")
    assert [name.split("/")[-1] for name in loaded.ids] == ["0.png", "1.png", "3.png", "5.png"]
    np.testing.assert_array_equal(loaded.masks, np.stack([np.eye(8)] * 4))
    assert [line.split("/")[-2] for line in loaded.reading.unreadable] == ["images", "masks"]


def test_a_thin_defect_is_not_lost_when_its_mask_shrinks(tmp_path, rng):
    """A line of one pixel, which nearest neighbour would drop."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(2):
        mask = np.zeros((90, 90), np.uint8)
        mask[1] = 255 * i
        Image.fromarray(rng.integers(0, 256, (90, 90), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    loaded = data.load(f"pairs:{tmp_path}", image_size=9)
    np.testing.assert_array_equal(loaded.masks.any((1, 2)), [0, 1])
    np.testing.assert_array_equal(loaded.masks[1], np.arange(9)[:, None] == np.zeros(9, int))
    np.testing.assert_array_equal(loaded.labels, [0, 1])


def test_of_a_large_folder_only_what_is_wanted_is_opened(tmp_path, monkeypatch, rng):
    file = tmp_path / "good" / "00000.png"
    file.parent.mkdir()
    Image.fromarray(rng.integers(0, 256, (70, 70), dtype=np.uint8)).save(file)
    content = file.read_bytes()
    for i in range(1, 2000):
        (file.parent / f"{i:05d}.png").write_bytes(content)
    opened, original = [], Image.open

    def spy(source, *rest, **more):
        opened.append(str(source))
        return original(source, *rest, **more)

    monkeypatch.setattr(Image, "open", spy)
    found = data.load(f"folder:{tmp_path}", limit=20, image_size="auto", auto_side=8)
    assert found.images.shape == (20, 8, 8, 1)
    assert set(opened) == set(found.ids)
    assert len(opened) == 40  # the header, and the pixels
    opened.clear()
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / "good").rename(tmp_path / part / "good") if part == "train" else None
    for kind in ("good", "dent"):
        (tmp_path / "test" / kind).mkdir()
        for i in range(2):
            noise = rng.integers(0, 256, (70, 70), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "test" / kind / f"{i}.png")
    data.load_task(f"folder:{tmp_path}", limit=20, auto_side=8)
    assert len({name for name in opened if "train" in name}) == 20
