"""Tensors of a PyTorch file as NumPy arrays, without PyTorch and without running code that is in the file.

A pickle may name any function to be called while it is read. This reader knows five kinds of names, builds what they
stand for itself, and refuses all others. Both of PyTorch's formats are read: the zip of today and the bare pickles of
before version 1.6.
"""

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older format
_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Storage(NamedTuple):
    """Where a tensor's numbers are kept."""

    kind: str  # a name in _DTYPES
    key: str
    count: int


class _Tensor(NamedTuple):
    """A tensor whose numbers have not been looked up yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file written by `torch.save(module.state_dict(), path)`, by name.

    Raises:
      ValueError: a file that cannot be read, is damaged, or holds anything but a dictionary of tensors.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}; check the path") from error
    try:
        content, storages = _read_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _read_pickles(data)
        return {name: _array(tensor, storages) for name, tensor in content.items()}
    except ValueError as error:
        raise ValueError(f"{path} is no file of weights this reader takes: {error}; give a state_dict") from error
    except Exception as error:  # a damaged pickle may fail in any way
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); fetch it again") from error


class _Unpickler(pickle.Unpickler):
    """Builds dictionaries of `_Tensor` and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module == "torch" and name in _DTYPES:
            return name
        raise ValueError(f"it asks for {module}.{name}, which is not part of a dictionary of tensors")

    def persistent_load(self, identity: Any) -> _Storage:
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise ValueError(f"it refers to {identity!r}, which is no storage of a tensor")
        _, kind, key, _, count, *view = identity
        if view not in ([], [None]):
            raise ValueError("it holds views of storages, as very old versions of PyTorch wrote them")
        if kind not in _DTYPES or not isinstance(count, int) or count < 0:
            raise ValueError(f"it holds a storage of {kind} with {count} numbers")
        return _Storage(kind, str(key), count)


def _checked(content: Any) -> dict[str, _Tensor]:
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in content.items()
    ):
        raise ValueError("it holds something other than a dictionary of tensors")
    return content


def _tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor is without storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


def _array(tensor: _Tensor, storages: dict[str, bytes]) -> np.ndarray:
    """The numbers of a tensor, in rows."""
    kind, key, count = tensor.storage
    dtype = np.dtype(_DTYPES[kind])
    numbers = np.frombuffer(storages[key], dtype)
    whole = (tensor.offset, *tensor.shape, *tensor.strides)
    if len(tensor.shape) != len(tensor.strides) or not all(isinstance(n, int) and n >= 0 for n in whole):
        raise ValueError(f"a tensor has shape {tensor.shape} and strides {tensor.strides}")
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides))
    if len(numbers) != count or (math.prod(tensor.shape) and last >= count):
        raise ValueError(f"a tensor of shape {tensor.shape} reaches outside its storage of {len(numbers)} numbers")
    if not math.prod(tensor.shape):
        return np.zeros(tensor.shape, dtype)
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, dtype, order="C")


def _read_zip(data: bytes) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        described = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(described) != 1:
            raise ValueError("the zip has no data.pkl")
        folder = described[0].removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in archive.namelist() else b"little"
        if order != b"little":
            raise ValueError("its numbers are big-endian")
        content = _checked(_Unpickler(io.BytesIO(archive.read(described[0]))).load())
        keys = {tensor.storage.key for tensor in content.values()}
        return content, {key: archive.read(f"{folder}data/{key}") for key in keys}


def _read_pickles(data: bytes) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
    stream = io.BytesIO(data)
    magic, protocol, system, content, keys = (_Unpickler(stream).load() for _ in range(5))
    if magic != _MAGIC or protocol != _PROTOCOL or not system["little_endian"]:
        raise ValueError("it is not of PyTorch's older format, little-endian")
    content = _checked(content)
    sizes = {t.storage.key: np.dtype(_DTYPES[t.storage.kind]).itemsize for t in content.values()}
    storages = {}
    for key in keys:  # what no tensor refers to cannot be skipped, as its size is unknown
        count = int.from_bytes(stream.read(8), "little")
        storages[key] = stream.read(count * sizes[key])
    return content, storages
