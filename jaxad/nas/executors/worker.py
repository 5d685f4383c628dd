"""What a worker does: it trains the child of a message, and keeps images and compiled programs for the next.

A message and its answer are dicts of plain data and NumPy arrays, so that any executor of the standard library can
carry them: `pool.submit(train, message)`. Messages are made and answers read by `remote.Remote`, in another process,
which may be on another machine.
"""

import functools
import hashlib
import os
import platform
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxad._utils.compile import enable_compilation_cache
from jaxad._utils.files import from_json, to_json
from jaxad._utils.memory import is_of_memory
from jaxad._utils.plugins import import_plugin
from jaxad._utils.threads import begin_with, threads
from jaxad._utils.version import VERSION
from jaxad.metrics.pixel_jax import PixelTruth
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.trial import Job, TrialConfig, TrialData
from jaxad.nn import autoencoder
from jaxad.nn.architecture import Architecture
from jaxad.types import Params

Message = dict[str, Any]
KEPT = 8  # executors with their images: those of all inputs of a space, of two searches

_LOCK = threading.Lock()  # a process trains one child at a time, however many threads it is called from
_EXECUTORS: OrderedDict[tuple[str, str], Sequential] = OrderedDict()
_BEGUN: dict[str, int] = {}  # threads of this process, once they have been decided


def name() -> str:
    """Host and process: who trained a child."""
    return f"{platform.node()}:{os.getpid()}"


def versions() -> dict[str, str]:
    """What has to be equal on both sides."""
    return {"jaxad": VERSION, "jax": jax.__version__}


def said(versions: Mapping[str, str]) -> str:
    """Versions for a person: "jaxad 0.3.0 and jax 0.10.2"."""
    return " and ".join(f"{name} {version}" for name, version in versions.items())


def arrays_of(data: TrialData) -> dict[str, np.ndarray]:
    """What children of an input see, as arrays that travel."""
    pixels = {} if data.valid_pixels is None else data.valid_pixels._asdict()
    found = data._asdict() | {"valid_pixels": None} | pixels
    return {name: np.asarray(array) for name, array in found.items() if array is not None}


def digest_of(arrays: dict[str, np.ndarray]) -> str:
    """By what arrays are known again: a hash of their content."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def train(message: Message) -> Message:
    """Train and reward the child of a message.

    Args:
      message: {"versions", "client": name of the sender's process, "threads": the sender's, "plugins": paths, "images":
        digest, "config": of the trial, "architecture", "key": [implementation, data], "params": weights, "ahead":
        architectures to start compiling}; with "arrays" also the images.

    Returns:
      {"kind", "worker", ...}, where the kind is "trained" (with "params", "reward", "reason", "batch_size", "seconds",
      "busy": seconds, "programs": their number, "threads"), "missing" (the images are not here: send them along),
      "refused" (with "versions"), "short" (of memory, with "reason"), or "error" (with "of_value" and "text").
    """
    own = {"worker": name()}
    if (mine := versions()) != message["versions"]:
        return own | {"kind": "refused", "versions": mine}
    with _LOCK:
        try:
            _begin(message)
            return own | {"threads": _BEGUN["threads"]} | _train(message)
        except Exception as error:
            if is_of_memory(error):
                return own | {"kind": "short", "reason": f"out of memory: {' '.join(str(error).split())[:200]}"}
            is_value = isinstance(error, ValueError)
            text = str(error) if is_value else "".join(traceback.format_exception(error))
            return own | {"kind": "error", "of_value": is_value, "text": text}


def _begin(message: Message) -> None:
    """Once a process: as many threads as the client has, so that the same bits come out, and programs kept on disk."""
    if not _BEGUN:
        if message["client"] != name():
            begin_with(message["threads"])
            if jax.config.jax_compilation_cache_dir is None:
                enable_compilation_cache()
        _BEGUN["threads"] = threads()
    for path in message["plugins"]:
        import_plugin(path)


def begin_local(cache: str | None) -> None:
    """For a process of the client's machine: keep programs where the client does."""
    if cache is not None:
        enable_compilation_cache(Path(cache))


def _train(message: Message) -> Message:
    started = time.perf_counter()
    executor = _executor(message)
    if executor is None:
        return {"kind": "missing"}
    key = jax.random.wrap_key_data(message["key"][1], impl=message["key"][0])
    results = executor([Job(Architecture.from_json(message["architecture"]), message["params"], key)])
    for architecture in map(Architecture.from_json, message["ahead"]):
        weights = _like_weights(architecture, executor.image_shape)
        executor.prepare(Job(architecture, weights, jax.random.key(0)), executor.batch_size)
    (result,) = results
    return result._asdict() | {
        "kind": "trained", "reward": None if result.reward is None else tuple(map(np.asarray, result.reward)),
        "busy": time.perf_counter() - started, "programs": executor.compiles,
    }  # fmt: skip


def _executor(message: Message) -> Sequential | None:
    """The executor of a message's images and settings, if they are here or in the message."""
    known = message["images"], repr(message["config"])
    if known not in _EXECUTORS:
        if "arrays" not in message:
            return None
        arrays = dict(message["arrays"])
        pixels = {field: jax.numpy.asarray(arrays.pop(field)) for field in PixelTruth._fields if field in arrays}
        data = TrialData(
            **jax.tree.map(jax.numpy.asarray, arrays), valid_pixels=PixelTruth(**pixels) if pixels else None
        )
        _EXECUTORS[known] = Sequential(data, from_json(TrialConfig, message["config"], "config"))
        while len(_EXECUTORS) > KEPT:
            _EXECUTORS.popitem(last=False)[1].close()
    _EXECUTORS.move_to_end(known)
    return _EXECUTORS[known]


@functools.lru_cache(maxsize=32)
def _like_weights(architecture: Architecture, image_shape: tuple[int, int, int]) -> Params:
    """Weights of the right shapes, which planning looks at."""
    shapes = jax.eval_shape(lambda: autoencoder.init(jax.random.key(0), architecture, image_shape))
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)


def message_of(
    job: Job, config: TrialConfig, images: str, ahead: list[Architecture], plugins: tuple[str, ...]
) -> Message:
    """The message that has `train` run a job."""
    return {
        "versions": versions(), "client": name(), "threads": threads(), "plugins": list(plugins), "images": images,
        "config": to_json(config), "architecture": job.architecture.to_json(),
        "key": (str(jax.random.key_impl(job.key)), np.asarray(jax.random.key_data(job.key))),
        "params": job.params, "ahead": [architecture.to_json() for architecture in ahead],
    }  # fmt: skip
