"""Archives of arrays: damaged ones end in one line that names the file, and axes that are elsewhere are seen."""

import zlib

import numpy as np
import pytest

from jaxad import data
from jaxad.data.image_set import from_arrays
from jaxad.data.lazy import find_images


@pytest.fixture
def archive(tmp_path, rng):
    """Makes an archive, compressed or not."""

    def make(compressed):
        save = np.savez_compressed if compressed else np.savez
        smooth = np.cumsum(rng.integers(0, 2, (12, 8, 9, 1)), axis=2).astype(np.uint8)
        save(tmp_path / "x.npz", images=smooth, labels=np.arange(12) % 2)
        return tmp_path / "x.npz"

    return make


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_archives_are_refused_in_one_line(archive, rng, compressed):
    """Runs of bytes, single bytes and the end: what can be read is a set, all else says which file it is."""
    file = archive(compressed)
    content = file.read_bytes()
    broken = [content[: len(content) // 2], content[:-30], b"", content[:3]]
    for _ in range(60):
        start, length = rng.integers(0, len(content)), rng.choice([1, 4, 60])
        part = bytes(byte ^ int(rng.integers(1, 256)) for byte in content[start : start + length])
        broken.append(content[:start] + part + content[start + length :])
    said = set()
    for changed in broken:
        file.write_bytes(changed)
        try:
            data.load(f"npz:{file}")
        except ValueError as error:
            said.add(str(error))
        for image in find_images([file]):  # another archive or file may follow: nothing is raised here
            assert image.name.startswith(str(file))
    assert len(said) > 5
    assert all(str(file) in message or "x: " in message for message in said)
    assert not any("\n" in message for message in said)


@pytest.mark.parametrize(
    "error",
    [zlib.error("bad"), NotImplementedError("method"), RuntimeError("coded"), MemoryError(), KeyError(1)],
)
def test_whatever_a_reader_raises_is_one_line(archive, monkeypatch, error):
    file = archive(True)

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(
        ValueError, match=r"cannot read .*x\.npz as a \.npz archive without objects \(.+\): save it again"
    ):
        data.load(f"npz:{file}")


@pytest.mark.parametrize("shape", [(5, 3, 12, 12), (5, 1, 12, 13), (5, 8, 32, 32), (5, 4, 5, 9)])
def test_channels_that_come_first_are_refused(tmp_path, shape):
    np.savez(tmp_path / "x.npz", images=np.zeros(shape, np.uint8))
    remedy = r"looks like \[N, C, H, W\]: move the channels last with np\.moveaxis\(images, 1, -1\)"
    with pytest.raises(ValueError, match=remedy):
        data.load(f"npz:{tmp_path / 'x.npz'}")
    last = from_arrays(np.moveaxis(np.zeros(shape, np.uint8), 1, -1))
    assert last.images.shape[3] == shape[1]


@pytest.mark.parametrize("shape", [(5, 12, 12, 5), (5, 20, 300, 1), (5, 3, 12, 3), (5, 6, 6, 7), (5, 16, 12, 12)])
def test_channels_that_come_last_are_taken(shape):
    assert from_arrays(np.zeros(shape, np.uint8)).images.shape == shape


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\x08", "is not an IDX file"),
        (b"\0\0\x08\x03\0\0\0", "7 bytes, too few for the 3 axes of its header"),
        (b"\0\0\x08\xff" + bytes(40), "44 bytes, too few for the 255 axes"),
        (b"\0\0\x08\x01\xff\xff\xff\xff", "8 bytes where its header promises 4294967303"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "is not an IDX file of bytes"),
    ],
)
def test_damaged_idx_headers_name_the_file(tmp_path, content, words):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte .*{words}"):
        data.load(f"idx:{tmp_path}")
