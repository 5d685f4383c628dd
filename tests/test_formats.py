"""Formats of photographs, inspection and medicine: the pixels that other programs wrote, or a refusal by name."""

import struct
import sys
import zlib
from importlib.util import find_spec

import imageio.v3 as imageio
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from jaxad import data
from jaxad.data.decoding import decode_file, file_size
from jaxad.data.images import IMAGE_SUFFIXES

H, W = 7, 5


def read(file):
    """What a file stores; its size by the header is that of its pixels."""
    stored = decode_file(file)
    assert file_size(file) == stored.pixels.shape[:2]
    return stored


def bits(rng, n, *shape):
    return rng.integers(0, 2**n, shape, dtype=np.uint16 if n > 8 else np.uint8)


# ---- PNG, written by hand


def png(path, rows, depth, colour, *chunks):
    """A PNG of rows of bytes, one of the five filters for each in turn."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width, step = len(rows[0]) * 8 // (depth * channels), max(1, depth * channels // 8)
    before, filtered = np.zeros(len(rows[0]), int), b""
    for y, row in enumerate(rows):
        row = np.frombuffer(row, np.uint8).astype(int)
        left, corner = (np.concatenate([np.zeros(step, int), each[:-step]]) for each in (row, before))
        distances = [abs(left + before - corner - each) for each in (left, before, corner)]
        paeth = np.choose(np.argmin(distances, 0), [left, before, corner])
        guess = [0, left, before, (left + before) // 2, paeth][y % 5]
        filtered += bytes([y % 5]) + (row - guess).astype(np.uint8).tobytes()
        before = row
    header = struct.pack(">IIBBBBB", W if depth < 8 else width, len(rows), depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IDAT", zlib.compress(filtered))]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("colour", "channels", "kept"), [(0, 1, 1), (4, 2, 1), (2, 3, 3), (6, 4, 3)])
def test_png_of_16_bits_keeps_both_bytes(tmp_path, rng, colour, channels, kept):
    pixels = bits(rng, 16, H, W, channels)
    file = png(tmp_path / "x.png", [row.astype(">u2").tobytes() for row in pixels], 16, colour)
    for source in (file, file.read_bytes()):
        stored = read(source)
        assert (stored.kind, stored.had_alpha) == ("uint16", kept < channels)
        np.testing.assert_array_equal(stored.pixels, pixels[..., :kept])
    np.testing.assert_array_equal(data.decode(file), pixels[..., :kept] / np.float32(65535))


@pytest.mark.parametrize("bits_each", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_transparency_of_png_is_found_at_any_depth(tmp_path, rng, bits_each, colour):
    if colour and bits_each < 8:
        return
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    pixels = bits(rng, bits_each, H, W, channels)
    pixels[0, 0] = pixels[2, 3] = 2**bits_each - 1
    if bits_each < 8:
        each = np.unpackbits(pixels, axis=2)[..., -bits_each:].reshape(H, -1)
        rows = [row.tobytes() for row in np.packbits(each, axis=1)]
    else:
        rows = [row.astype(f">u{bits_each // 8}").tobytes() for row in pixels]
    key = [(b"tRNS", pixels[0, 0].astype(">u2").tobytes())] if colour in (0, 2) else []
    stored = decode_file(png(tmp_path / "x.png", rows, bits_each, colour, *key), keep_alpha=True)
    expected = (pixels != pixels[0, 0]).any(axis=2) if key else pixels[..., -1]
    np.testing.assert_array_equal(stored.alpha > 0 if key else stored.alpha, expected)
    assert stored.had_alpha


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits_reaches_to_white(tmp_path, rng, depth):
    pixels = bits(rng, depth, H, W)
    each = np.unpackbits(pixels[..., None], axis=2)[..., -depth:].reshape(H, -1)
    file = png(tmp_path / "x.png", [row.tobytes() for row in np.packbits(each, axis=1)], depth, 0)
    np.testing.assert_array_equal(read(file).pixels[..., 0], pixels * (255 // (2**depth - 1)))


def test_palettes_become_their_colours(tmp_path, rng):
    colours, index = bits(rng, 8, 256, 3), bits(rng, 8, H, W)
    rows = [row.tobytes() for row in index]
    file = png(tmp_path / "x.png", rows, 8, 3, (b"PLTE", colours.tobytes()))
    np.testing.assert_array_equal(read(file).pixels, colours[index])
    clear = png(tmp_path / "y.png", rows, 8, 3, (b"PLTE", colours.tobytes()), (b"tRNS", bytes(256)))
    np.testing.assert_array_equal(read(clear).pixels, colours[index])
    assert read(clear).had_alpha


# ---- TIFF, written by tifffile

LAYOUTS = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "tiles": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 2},
    "deflate": {"compression": "zlib", "predictor": True},
    "BigTIFF": {"bigtiff": True},
}


@pytest.mark.parametrize("dtype", ["u1", "u2", "i1", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("layout", [*LAYOUTS])
def test_grey_tiff_of_every_type(tmp_path, rng, dtype, layout):
    layout = LAYOUTS[layout] | ({"predictor": False} if layout == "deflate" and dtype[0] == "f" else {})
    pixels = (rng.normal(0, 40, (H, W)) if dtype[0] != "u" else rng.uniform(0, 255, (H, W))).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", pixels, **layout)
    stored = read(tmp_path / "x.tif")
    assert stored.kind == {"u1": "uint8", "u2": "uint16"}.get(dtype, "float" if dtype[0] == "f" else "integer")
    assert stored.pixels.dtype.isnative
    np.testing.assert_array_equal(stored.pixels[..., 0], pixels)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_several_channels(tmp_path, rng, dtype, planes, channels, order):
    pixels = rng.uniform(0, 255, (H, W, channels)).astype(dtype)
    written = pixels if planes == "contig" else np.moveaxis(pixels, 2, 0)
    model = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", written, photometric=model, planarconfig=planes, byteorder=order)
    np.testing.assert_array_equal(read(tmp_path / "x.tif").pixels, pixels)


@pytest.mark.parametrize("form", ["ome", "imagej"])
def test_pages_that_are_channels_are_one_image(tmp_path, rng, form):
    pixels = bits(rng, 16, 4, H, W)
    tifffile.imwrite(tmp_path / "x.tif", pixels, metadata={"axes": "CYX"}, **{form: True})
    np.testing.assert_array_equal(read(tmp_path / "x.tif").pixels, np.moveaxis(pixels, 0, 2))


@pytest.mark.parametrize("kind", [1, 2])
def test_alpha_is_dropped_and_infrared_is_not(tmp_path, rng, kind):
    pixels = bits(rng, 8, H, W, 4)
    names = {1: "assocalpha", 2: "unassalpha"}
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", extrasamples=[names[kind]])
    stored = decode_file(tmp_path / "x.tif", keep_alpha=True)
    np.testing.assert_array_equal(stored.pixels, pixels[..., :3])
    np.testing.assert_array_equal(stored.alpha, pixels[..., 3])
    assert stored.had_alpha
    tifffile.imwrite(tmp_path / "y.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read(tmp_path / "y.tif").pixels, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(tmp_path, rng, dtype):
    pixels = bits(rng, 8 * dtype().itemsize, H, W)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="miniswhite")
    white = np.iinfo(dtype).max
    expected = white - pixels if dtype == np.uint8 else 1 - pixels / np.float32(white)
    np.testing.assert_array_equal(data.decode(tmp_path / "x.tif")[..., 0], expected)


def test_colour_models_of_tiff_are_pillows(tmp_path, rng):
    pixels = bits(rng, 8, H, W, 4)
    tifffile.imwrite(tmp_path / "cmyk.tif", pixels, photometric="separated")
    expected = np.asarray(Image.open(tmp_path / "cmyk.tif").convert("RGB")).astype(int)
    np.testing.assert_allclose(read(tmp_path / "cmyk.tif").pixels, expected, atol=1)
    colours = bits(rng, 16, 3, 256)
    tifffile.imwrite(tmp_path / "palette.tif", pixels[..., 0], photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read(tmp_path / "palette.tif").pixels, (colours >> 8).T[pixels[..., 0]])


@pytest.mark.parametrize(
    ("mode", "compression"),
    [("L", "tiff_lzw"), ("RGB", "tiff_lzw"), ("RGBA", "tiff_lzw"), ("1", "group4"), ("1", None), ("RGB", "jpeg"),
     ("I;16", "tiff_lzw"), ("F", "tiff_lzw"), ("P", "tiff_lzw"), ("L", "packbits")],
)  # fmt: skip
def test_compression_that_tifffile_leaves_to_others(tmp_path, rng, mode, compression):
    if mode == "I;16":
        image = Image.fromarray(bits(rng, 16, H, W))
    elif mode == "F":
        image = Image.fromarray(rng.random((H, W), np.float32))
    else:
        image = Image.fromarray(bits(rng, 8, H, W, 3)).convert(mode)
    image.save(tmp_path / "x.tif", compression=compression)
    pixels = read(tmp_path / "x.tif").pixels
    expected = np.asarray(Image.open(tmp_path / "x.tif") if compression == "jpeg" else image)
    if mode == "P":
        expected = np.asarray(image.convert("RGB"))
    expected = (expected * 255 if mode == "1" else expected).reshape(H, W, -1)
    np.testing.assert_array_equal(pixels, expected[..., : pixels.shape[2]])
    assert decode_file(tmp_path / "x.tif").lossy == (compression == "jpeg")


def hand_written_tiff(path, data, bits, *, compression=1, predictor=1, form=1, model=1, shape=(H, W), order="<"):
    """One strip of grey."""
    tags = {256: shape[1], 257: shape[0], 258: bits, 259: compression, 262: model, 273: 8, 277: 1, 278: shape[0]}
    tags |= {279: len(data), 317: predictor, 339: form}
    shorts = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, tags[tag], 0) for tag in tags if tag < 273)
    entries = shorts + b"".join(struct.pack(f"{order}HHII", tag, 4, 1, tags[tag]) for tag in tags if tag > 272)
    data += bytes(len(data) % 2)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    path.write_bytes(head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))
    return path


def test_twelve_bits_that_are_packed(tmp_path, rng):
    pixels = bits(rng, 12, H, W)
    each = np.unpackbits(pixels.astype(">u2").view(np.uint8).reshape(H, W, 2), axis=2)[..., 4:]
    file = hand_written_tiff(tmp_path / "x.tif", np.packbits(each.reshape(H, -1), axis=1).tobytes(), 12)
    np.testing.assert_array_equal(read(file).pixels[..., 0], pixels)
    assert read(file).nominal == (0, 4095)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs decodes these")
@pytest.mark.parametrize(
    ("bits", "form", "order"),
    [(32, 1, "<"), (32, 2, "<"), (16, 2, "<"), (16, 3, "<"), (8, 2, "<"), (64, 3, "<"), (32, 3, ">"), (16, 2, ">")],
)
def test_compressed_numbers_that_pillow_would_misread_are_refused(tmp_path, bits, form, order):
    """By hand: LZW (259 = 5) of nothing but a clear and an end."""
    file = hand_written_tiff(tmp_path / "x.tif", b"\x80\x40\x40", bits, compression=5, form=form, order=order)
    with pytest.raises(
        ValueError, match=rf"x\.tif as an image \({bits} bits compressed by LZW .*pip install imagecodecs"
    ):
        data.decode(file)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs decodes these")
def test_a_predictor_that_pillow_would_pass_over_is_refused(tmp_path):
    """PackBits (32773) of one run of zeros: what the differences of floats (317 = 3) stand for is lost otherwise."""
    run = bytes([257 - 4 * H * W // 2, 0]) * 2
    file = hand_written_tiff(tmp_path / "x.tif", run, 32, compression=32773, predictor=3, form=3)
    with pytest.raises(
        ValueError, match=r"x\.tif as an image \(32 bits compressed by PACKBITS .*pip install imagecodecs"
    ):
        data.decode(file)
    file = hand_written_tiff(tmp_path / "x.tif", run, 32, compression=32773, form=3)
    assert not data.decode(file).any()


def test_other_colour_models_are_refused_by_name(tmp_path, rng):
    file = hand_written_tiff(tmp_path / "x.tif", bits(rng, 8, H, W).tobytes(), 8, model=32803)
    with pytest.raises(ValueError, match=r"x\.tif as an image \(its colour model is CFA: save it as grey or RGB"):
        data.decode(file)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs decodes these")
def test_what_nothing_decodes_right_is_refused_by_name(tmp_path, rng):
    tifffile.imwrite(tmp_path / "x.tif", bits(rng, 16, H, W, 3), photometric="rgb")
    content = bytearray((tmp_path / "x.tif").read_bytes())
    at = content.index(struct.pack("<HHIH", 259, 3, 1, 1))
    content[at + 8] = 5  # LZW, of three channels of 16 bits
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*x\.tif as an image .*LZW.*pip install imagecodecs"):
        data.decode(tmp_path / "x.tif")


def test_more_than_one_image_is_refused_and_thumbnails_are_passed_over(tmp_path, rng):
    pixels = bits(rng, 8, 3, H, W)
    tifffile.imwrite(tmp_path / "pages.tif", pixels, photometric="minisblack")
    tifffile.imwrite(tmp_path / "slices.tif", pixels, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as writer:
        writer.write(pixels[0])
        writer.write(pixels[1, :4])
    frames = [Image.fromarray(each) for each in pixels]
    for end in ("gif", "webp", "png", "avif"):
        frames[0].save(tmp_path / f"moving.{end}", save_all=True, append_images=frames[1:], duration=20)
    files = sorted(tmp_path.iterdir())
    for file, count in zip(files, [3, 3, 3, 3, 3, 2, 3]):
        words = (
            rf"{file.stem}\.{file.suffix[1:]} as an image \(it has {count} (pages|frames), and a file is one image: "
        )
        for look in (data.decode, *([file_size] if file.suffix == ".tif" else [])):
            with pytest.raises(ValueError, match=words + "save each as a file of its own"):
                look(file)
    with tifffile.TiffWriter(tmp_path / "small.tif") as writer:
        writer.write(pixels[0])
        writer.write(pixels[1, ::2, ::2], subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(pixels[0], subifds=1)
        writer.write(pixels[1, ::2, ::2], subfiletype=1)
    for name in ("small", "pyramid"):
        np.testing.assert_array_equal(read(tmp_path / f"{name}.tif").pixels[..., 0], pixels[0])


# ---- orientation

TURNED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""EXIF 2.3, tag 274: what a viewer does with the rows and columns of the file."""


@pytest.mark.parametrize("turn", [*TURNED])
@pytest.mark.parametrize("end", ["png", "tif", "webp", "jpg"])
def test_images_are_upright(tmp_path, rng, turn, end):
    pixels = np.kron(bits(rng, 8, 2, 4, 3), np.ones((16, 16, 1), np.uint8))  # blocks that JPEG keeps apart
    exif = Image.Exif()
    exif[274] = turn
    options = {"tif": {"tiffinfo": {274: turn}}, "webp": {"lossless": True, "exif": exif}, "png": {"exif": exif}}
    lossy = {"exif": exif, "quality": 98, "subsampling": 0}
    Image.fromarray(pixels).save(tmp_path / f"x.{end}", **options.get(end, lossy))
    expected = TURNED[turn](pixels).astype(int)
    np.testing.assert_allclose(read(tmp_path / f"x.{end}").pixels, expected, atol=12 if end == "jpg" else 0)


def test_masks_are_turned_as_their_images_are(tmp_path, rng):
    """A mask that was drawn in a viewer lies on the defect of a photograph that the camera stored on its side."""
    shown = np.zeros((24, 24), np.uint8)
    shown[2:6, 12:20] = 255
    exif = Image.Exif()
    exif[274] = 6
    for i in range(2):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            turned = kind == "images" or i
            stored = np.rot90(shown) if turned else shown
            differs = np.where(stored, 200 + i, i).astype(np.uint8) if kind == "images" else stored
            Image.fromarray(differs).save(tmp_path / kind / f"{i}.png", **({"exif": exif} if turned else {}))
    loaded = data.load(f"pairs:{tmp_path}")
    for image, mask in zip(loaded.images, loaded.masks):
        np.testing.assert_array_equal(mask, shown > 0)
        np.testing.assert_array_equal(image[..., 0] > 127, shown > 0)


# ---- others


MODES = {
    "BMP": ("L RGB RGBA P 1", "bmp"),
    "DIB": ("L RGB P 1", "dib"),
    "JPEG": ("L RGB CMYK", "jfif jpe jpg"),
    "WEBP": ("L RGB RGBA", "webp"),
    "AVIF": ("L RGB RGBA", "avif"),
    "GIF": ("L RGB P 1", "gif"),
    "PNG": ("L LA RGB RGBA P 1", "png apng"),
}


@pytest.mark.parametrize("form", [*MODES])
def test_what_pillow_writes_is_read_as_imageio_reads_it(tmp_path, rng, form):
    for mode in MODES[form][0].split():
        for end in MODES[form][1].split():
            file = tmp_path / f"x.{end}"
            Image.fromarray(bits(rng, 8, H, W, 3)).convert(mode).save(file, format=form)
            stored = read(file)
            expected = imageio.imread(file, plugin="pillow", mode="RGB" if stored.pixels.shape[2] == 3 else "L")
            np.testing.assert_array_equal(stored.pixels, expected.reshape(stored.pixels.shape))
            assert stored.lossy == (form in ("JPEG", "WEBP", "AVIF"))
            assert file.suffix in IMAGE_SUFFIXES


def test_jpeg_2000_keeps_16_bits_of_grey_and_refuses_them_of_colour(tmp_path, rng):
    pixels = bits(rng, 16, 32, 24)
    Image.fromarray(pixels).save(tmp_path / "x.jp2", irreversible=False)
    np.testing.assert_array_equal(read(tmp_path / "x.jp2").pixels[..., 0], pixels)
    colour = bits(rng, 8, 32, 24, 3)
    Image.fromarray(colour).save(tmp_path / "x.j2k", irreversible=False)
    np.testing.assert_array_equal(read(tmp_path / "x.j2k").pixels, colour)
    content = bytearray((tmp_path / "x.j2k").read_bytes())
    assert content[42] == 7  # one less than the bits of the first channel
    content[42] = 11
    (tmp_path / "x.j2k").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.j2k as an image \(it is JPEG 2000 of 12 bits and several channels"):
        data.decode(tmp_path / "x.j2k")


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("words", [False, True])
def test_netpbm_of_many_bits(tmp_path, rng, colour, words):
    pixels = rng.integers(0, 1001, (H, W, 3 if colour else 1), dtype=np.uint16)
    numbers = " ".join(map(str, pixels.reshape(-1))).encode() if words else pixels.astype(">u2").tobytes()
    form = 2 + colour + (0 if words else 3)
    file = tmp_path / f"x.{'ppm' if colour else 'pgm'}"
    file.write_bytes(f"P{form} # camera\n{W} {H}\n# twelve bits\n1000\n".encode() + numbers)
    stored = read(file)
    np.testing.assert_array_equal(stored.pixels, pixels)
    assert stored.nominal == (0, 1000)
    np.testing.assert_allclose(data.decode(file), pixels / 1000, rtol=1e-6)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"cannot read .*{file.name} as an image .*of the {pixels.size} numbers"):
        data.decode(file)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, ">u2", np.int32, np.float64])
def test_arrays_of_numpy(tmp_path, rng, dtype):
    pixels = rng.uniform(0, 200, (H, W, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", pixels)
    np.testing.assert_array_equal(read(tmp_path / "x.npy").pixels, pixels * np.uint8(255) if dtype is bool else pixels)
    np.save(tmp_path / "x.npy", pixels[..., 0])
    assert read(tmp_path / "x.npy").pixels.shape == (H, W, 1)


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.zeros((2, 3, 8, 8)), "save an image"), (np.zeros((3, 8, 9)), r"3x8 pixels with 9 channels, .*images, 0, -1"),
     (np.zeros((8, 8), complex), "numbers of type complex128"), (np.array([{}, {}]), "allow_pickle"),
     (np.full((3, 4), np.nan), "12 of its 12 values are NaN or infinite")],
)  # fmt: skip
def test_arrays_that_are_no_image(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=rf"cannot read .*x\.npy as an image .*{words}"):
        data.decode(tmp_path / "x.npy")


# ---- DICOM, written by pydicom


def dicom(path, pixels, *, stored, model="MONOCHROME2", syntax=ExplicitVRLittleEndian, **fields):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    frames = pixels.ndim == 3 and model.startswith("MONO")
    dataset.Rows, dataset.Columns = pixels.shape[frames : 2 + frames]
    if frames:
        dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel = 3 if model == "RGB" else 1
    if model == "RGB":
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = model
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.dtype.itemsize, stored, stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in fields.items():
        setattr(dataset, name, value)
    order = "<" if syntax == ExplicitVRLittleEndian else ">"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


HOUNSFIELD = {"RescaleSlope": 2, "RescaleIntercept": -1024}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_dicom_of_grey(tmp_path, rng, syntax):
    pixels = bits(rng, 12, 6, 4)
    file = dicom(tmp_path / "x.dcm", pixels, stored=12, syntax=syntax)
    np.testing.assert_array_equal(read(file).pixels[..., 0], pixels)
    assert read(file).nominal == (0, 4095)
    np.testing.assert_allclose(data.decode(file)[..., 0], pixels / 4095, rtol=1e-6)
    file = dicom(tmp_path / "x.dcm", pixels, stored=12, syntax=syntax, **HOUNSFIELD)
    np.testing.assert_array_equal(read(file).pixels[..., 0], pixels * 2.0 - 1024)
    assert read(file).nominal == (-1024, 2 * 4095 - 1024)
    np.testing.assert_allclose(data.decode(file)[..., 0], pixels / 4095, rtol=1e-6)
    file = dicom(tmp_path / "x.dcm", pixels, stored=12, syntax=syntax, model="MONOCHROME1")
    np.testing.assert_allclose(data.decode(file)[..., 0], 1 - pixels / 4095, atol=1e-6)
    signed = (pixels.astype(np.int16) - 2048).astype(np.int16)
    file = dicom(tmp_path / "x.dcm", signed, stored=12, syntax=syntax, **HOUNSFIELD)
    np.testing.assert_array_equal(read(file).pixels[..., 0], signed * 2.0 - 1024)
    assert read(file).nominal == (-2048 * 2 - 1024, 2047 * 2 - 1024)
    file = dicom(tmp_path / "x.dcm", signed, stored=16, syntax=syntax)
    assert read(file).nominal is None  # which of 16 bits are in use the file does not say


def test_dicom_of_bytes_colours_and_overlays(tmp_path, rng):
    grey, colour = bits(rng, 8, 6, 4), bits(rng, 8, 6, 4, 3)
    np.testing.assert_array_equal(data.decode(dicom(tmp_path / "x.dcm", grey, stored=8))[..., 0], grey)
    inverse = dicom(tmp_path / "x.dcm", grey, stored=8, model="MONOCHROME1")
    np.testing.assert_array_equal(data.decode(inverse)[..., 0], 255 - grey)
    np.testing.assert_array_equal(data.decode(dicom(tmp_path / "x.dcm", colour, stored=8, model="RGB")), colour)
    pixels = bits(rng, 12, 6, 4)
    with_overlay = pixels | (1 << 13)  # in a bit that is not stored
    np.testing.assert_array_equal(read(dicom(tmp_path / "x.dcm", with_overlay, stored=12)).pixels[..., 0], pixels)


def test_dicom_may_begin_as_a_tiff_does(tmp_path, rng):
    """PS3.10, 7.1: the first 128 bytes are anybody's, and may be the header of a TIFF that has the same pixels."""
    pixels = bits(rng, 12, 6, 4)
    file = dicom(tmp_path / "x.dcm", pixels, stored=12)
    file.write_bytes(b"II*\0\x08\0\0\0" + file.read_bytes()[8:])
    for name in ("x.tif", "x", "x.png"):
        file = file.rename(tmp_path / name)
        np.testing.assert_array_equal(read(file).pixels[..., 0], pixels)


def test_dicom_that_is_not_one_image(tmp_path, rng, monkeypatch):
    dicom(tmp_path / "x.dcm", bits(rng, 12, 3, 6, 4), stored=12)
    with pytest.raises(ValueError, match=r"x\.dcm as an image \(it has 3 frames, and a file is one image"):
        data.decode(tmp_path / "x.dcm")
    dicom(tmp_path / "y", bits(rng, 12, 6, 4), stored=12)  # also without a suffix
    assert read(tmp_path / "y").kind == "dicom"
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        ValueError, match=r"y as an image \(it is DICOM, which needs pydicom: pip install 'jaxad\[dicom"
    ):
        data.decode(tmp_path / "y")


# ---- damage


def test_errors_name_the_file_in_one_line(tmp_path, rng):
    """Bytes of every header, changed, and several lengths: what fails says which file, and nothing else is raised."""
    pixels = bits(rng, 8, H, W)
    for end in ("png", "pgm", "bmp"):
        Image.fromarray(pixels).save(tmp_path / f"x.{end}")
    tifffile.imwrite(tmp_path / "x.tif", bits(rng, 16, H, W))
    np.save(tmp_path / "x.npy", pixels)
    dicom(tmp_path / "x.dcm", bits(rng, 12, 6, 4), stored=12)
    for file in sorted(tmp_path.iterdir()):
        content = file.read_bytes()
        broken = [content[:-1], content[: len(content) // 2], content[:20], b""]
        for i in range(0, min(300, len(content)), 3):
            broken.append(content[:i] + bytes([content[i] ^ 0x5A]) + content[i + 1 :])
        said = {message for changed in broken for message in messages(changed, tmp_path / f"damaged{file.suffix}")}
        assert len(said) > 2, file
        assert all(f"damaged{file.suffix}" in message and "\n" not in message for message in said)
    for name in ("x.tif", "x.png", "x.dcm"):
        assert messages((tmp_path / name).read_bytes()[:-30], tmp_path / name)


def messages(content, file):
    """What is said of a file with that content, when it is decoded and when its size is asked for."""
    file.write_bytes(content)
    found = []
    for look in (data.decode, file_size):
        try:
            look(file)
        except ValueError as error:
            found.append(str(error))
    return found
