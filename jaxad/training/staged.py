"""Training and scoring of detectors whose first part is fixed: that part runs once an image, on the host's loop.

Inside a compiled loop convolutions lose threads on CPU, and a network that is never trained would run again in every
step. So the outputs of a stage are computed here and kept by the content of the image. The rest of a detector has them
as if they were images: it scores them as they are, and trains on them in half precision.
"""

import contextlib
import functools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load as parse
from safetensors.numpy import save as render

from jaxad._utils.compile import kernel_options
from jaxad._utils.files import write_atomic
from jaxad.data.batches import as_float, to_float
from jaxad.nn.standard import AXES, deviation
from jaxad.types import Array, Detector, Key, Params, Stage, StagedState

KEPT_TOGETHER = 8  # images whose outputs are in one file
DEFAULT_LIMIT = 2**28  # bytes of outputs that are kept while nobody asks for more
Outputs = tuple[np.ndarray, ...]


class OutputCache:
    """Outputs of stages by the content of images; the least recently used go first.

    Args:
      limit: bytes that are kept in memory.
      folder: where they are kept, too, for a run that may be killed; by default nowhere.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.limit, self.folder = limit, folder
        self._kept: OrderedDict[bytes, Outputs] = OrderedDict()
        self._lock = threading.Lock()  # several threads may score
        self._bytes = 0
        self.computed, self.seconds = 0, 0.0  # images whose outputs were not known, and how long these took
        if folder is not None:
            for file in sorted(folder.glob("*.safetensors")):
                self._load(file)

    def get(self, digest: bytes) -> Outputs | None:
        """The outputs of an image, if they are there."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def add(self, digests: list[bytes], outputs: Outputs) -> None:
        """Keep the outputs [B, ...] of some images."""
        for place, digest in enumerate(digests):
            self._put(digest, tuple(array[place] for array in outputs))
        if self.folder is not None and digests:
            arrays = {f"output{i}": array for i, array in enumerate(outputs)}
            names = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
            with contextlib.suppress(ValueError):  # a full disk costs time, no result
                write_atomic(self.folder / f"{digests[0].hex()}.safetensors", [render({"names": names, **arrays})])

    def _put(self, digest: bytes, outputs: Outputs) -> None:
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = outputs
                self._bytes += sum(array.nbytes for array in outputs)
            while self._bytes > self.limit and len(self._kept) > 1:
                self._bytes -= sum(array.nbytes for array in self._kept.popitem(last=False)[1])

    def _load(self, file: Path) -> None:
        with contextlib.suppress(Exception):  # torn, or of another program: it is computed anew
            arrays = parse(file.read_bytes())
            outputs = [arrays[f"output{i}"] for i in range(len(arrays) - 1)]
            for place, name in enumerate(arrays["names"]):
                self._put(name.tobytes(), tuple(array[place] for array in outputs))


_default = OutputCache(DEFAULT_LIMIT)
_asked: list[OutputCache | None] = []  # the innermost context last


@contextlib.contextmanager
def remembering(limit: int = 2**30, folder: Path | None = None) -> Iterator[None]:
    """Keep the outputs of all images that are trained on or scored, as long as the context lasts.

    Without it those of training images alone are kept, up to 256 MiB.

    Args:
      limit: bytes in memory.
      folder: of a run that goes on, should it be killed, without computing them again.
    """
    _asked.append(OutputCache(limit, folder))
    try:
        yield
    finally:
        _asked.pop()


@contextlib.contextmanager
def forgetting() -> Iterator[None]:
    """Score as if nothing were kept, as long as the context lasts: as an image that nobody has seen is scored."""
    _asked.append(None)
    try:
        yield
    finally:
        _asked.pop()


def outputs_computed() -> tuple[int, float]:
    """How many images have passed a stage, and how many seconds that took, in the innermost context."""
    return _cache().computed, _cache().seconds


def _cache() -> OutputCache:
    return (_asked and _asked[-1]) or _default


def is_remembering() -> bool:
    """Whether outputs are kept of images that are scored."""
    return bool(_asked) and _asked[-1] is not None


def stage_batch() -> int:
    """Images that pass a stage together: on CPU one, which is no slower and the same to the bit in any company."""
    return 1 if jax.default_backend() == "cpu" else 64


def computed(stage: Stage, network: Params, images: np.ndarray) -> Outputs:
    """What a stage makes of images [N, H, W, C], as float32 arrays [N, ...]."""
    run, size, found = _compiled(stage.outputs), stage_batch(), []
    for start in range(0, len(images), size):
        found.append(run(network, filled(as_float(images[start : start + size]), size)))
    return tuple(np.concatenate(parts)[: len(images)] for parts in zip(*jax.device_get(found), strict=True))


def outputs_of(stage: Stage, network: Params, images: Array | np.ndarray) -> list[Outputs]:
    """What a stage makes of each image [H, W, C] of [N, H, W, C], as float32 arrays; computed where it is not known."""
    cache = _cache()
    images, prefix = np.asarray(images), blake2b(f"float32 {stage.name}".encode(), digest_size=16)
    for leaf in jax.tree.leaves(network):
        prefix.update(np.ascontiguousarray(leaf))
    digests = [_digest(prefix.digest(), image) for image in images]
    found = {digest: cache.get(digest) for digest in digests}
    missing = list(
        {digest: place for place, digest in reversed(list(enumerate(digests))) if found[digest] is None}.items()
    )
    missing.reverse()
    started = time.perf_counter()
    group = max(KEPT_TOGETHER, stage_batch())
    for some in (missing[first : first + group] for first in range(0, len(missing), group)):
        outputs = computed(stage, network, images[[place for _, place in some]])
        cache.add([digest for digest, _ in some], outputs)
        found |= {digest: tuple(array[i] for array in outputs) for i, (digest, _) in enumerate(some)}
    if missing:
        cache.computed, cache.seconds = cache.computed + len(missing), cache.seconds + time.perf_counter() - started
    return [found[digest] for digest in digests]


def assembled(stage: Stage, outputs: list[Outputs]) -> Iterator[np.ndarray]:
    """Maps [B, h, w, F] float32 of a few images after another."""
    assemble, size = jax.jit(stage.assemble), stage_batch()
    for start in range(0, len(outputs), size):
        some = outputs[start : start + size]
        stacked = tuple(np.stack(arrays) for arrays in zip(*some, strict=True))
        yield np.asarray(assemble(tuple(filled(array, size) for array in stacked)))[: len(some)]


class Prepared(NamedTuple):
    """A stage that is fixed for good."""

    network: Params
    centre: np.ndarray  # as in `StagedState`
    scale: np.ndarray


def prepare(stage: Stage, key: Key, images: Array | np.ndarray) -> tuple[Prepared, np.ndarray]:
    """Fix a stage on training images [N, H, W, C]; returns it and the maps [N, h, w, F] float16 that `inner` sees."""
    network = jax.jit(stage.init)(key, to_float(jnp.asarray(images[:1])))
    outputs = outputs_of(stage, network, images)
    if stage.standardise:
        centre, scale = _standard(stage, outputs)
    else:
        features = next(assembled(stage, outputs[:1])).shape[3]
        centre, scale = np.zeros(features, np.float32), np.ones(features, np.float32)
    fixed = Prepared(network, centre, scale)
    return fixed, _maps(stage, fixed, outputs)


def maps_of(
    stage: Stage,
    fixed: Prepared | StagedState,
    images: Array | np.ndarray,
    *,
    kept: bool = True,
    dtype: type[np.floating] = np.float16,
) -> np.ndarray:
    """What `inner` sees of images: maps [N, h, w, F], of outputs that are kept or made for this alone."""
    if kept:
        return _maps(stage, fixed, outputs_of(stage, fixed.network, images), dtype)
    outputs = computed(stage, fixed.network, np.asarray(images))
    return _maps(stage, fixed, list(zip(*outputs, strict=True)), dtype)


def fit_staged(
    detector: Detector,
    key: Key,
    images: Array | np.ndarray,
    state: StagedState | None,
    fit: Callable[..., tuple[Any, Any]],
) -> tuple[StagedState, Any]:
    """Train what follows the stage, by `fit(inner, key, maps, state=...)`; returns what `jaxad.fit` does."""
    stage = detector.stage
    network_key, inner_key = jax.random.split(key)
    if state is None:
        fixed, maps = prepare(stage, network_key, images)
    else:
        fixed, maps = Prepared(*state[:3]), maps_of(stage, state, images)
    learner = stage.inner._replace(labels=detector.labels)  # what the whole is told, its trained part is told
    maps = jnp.asarray(maps)  # and no longer on the host, where they are large
    inner, history = fit(learner, inner_key, maps, state=None if state is None else state.inner)
    return StagedState(*jax.tree.map(jnp.asarray, fixed), inner), history


def _maps(
    stage: Stage, fixed: Prepared | StagedState, outputs: list[Outputs], dtype: type[np.floating] = np.float16
) -> np.ndarray:
    centre, scale, found, start = np.asarray(fixed.centre), np.asarray(fixed.scale), None, 0
    for maps in assembled(stage, outputs):
        if found is None:  # written to in place: a list of all of them would take their memory twice
            found = np.empty((len(outputs), *maps.shape[1:]), dtype)
        found[start : start + len(maps)] = (maps - centre) / scale
        start += len(maps)
    return found


def _standard(stage: Stage, outputs: list[Outputs]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over all images, as `jaxad.nn.standard.standard` has them."""
    axes, total, squares = AXES[stage.standardise], 0.0, 0.0
    for maps in assembled(stage, outputs):
        total = total + maps.sum(axes, np.float64)
    count = len(outputs) * math.prod(maps.shape[axis] for axis in axes[1:])
    centre = total / count
    for maps in assembled(stage, outputs):
        squares = squares + np.square(maps - centre).sum(axes)
    scale = deviation(squares / count, centre, len(outputs))
    return centre.astype(np.float32), scale.astype(np.float32)


def filled(array: np.ndarray, size: int) -> np.ndarray:
    """An array [B, ...] filled up with zeros to `size` rows."""
    missing = size - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array


def _digest(prefix: bytes, image: np.ndarray) -> bytes:
    digest = blake2b(prefix, digest_size=16)
    digest.update(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.digest()


@functools.lru_cache(maxsize=16)
def _compiled(outputs: Callable[[Params, Array], tuple[Array, ...]]) -> Callable[[Params, Array], tuple[Array, ...]]:
    return jax.jit(outputs, compiler_options=kernel_options() or None)
