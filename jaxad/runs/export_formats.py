"""The forms in which a detector leaves the library: how each is written, and how it is run without it.

stablehlo   by `jax.export`, for CPU, CUDA and TPU at once; run by JAX, and by what else reads StableHLO
onnx        by jax2onnx; run by onnxruntime

Neither is trusted: `jaxad.runs.export` runs what was written, and keeps it only if it agrees with the detector.
"""

import contextlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad._utils.compile import plain_forms
from jaxad.runs.export_fusing import fused
from jaxad.runs.export_loops import with_constants
from jaxad.runs.export_program import Program, one_by_one

PLATFORMS = ("cpu", "cuda", "tpu")
OPSET = 21  # of ONNX: from 2024 on

Run = Callable[[np.ndarray], Sequence[np.ndarray]]  # photographs [B, H, W, C] uint8 -> all outputs


class Attempt(NamedTuple):
    """One way to write a format."""

    batch: str  # what is said of its batches
    write: Callable[[Program, Mapping[str, str]], bytes]  # of a program and what is said of it, for people
    static: bool = False  # whether it takes one photograph at a time


class Format(NamedTuple):
    """A form of artefact."""

    file: str  # its name
    packages: tuple[str, ...]  # that are needed beyond jaxad's own
    attempts: tuple[Attempt, ...]  # the best first; the next where one fails or does not agree
    load: Callable[[bytes], Run]


def check_packages(name: str) -> None:
    """Raise ValueError where a format needs packages that are not installed."""
    missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(f"{name} needs {' and '.join(missing)}: pip install 'jaxad[export]', or leave the format out")


# ---- StableHLO -------------------------------------------------------------------------------------------------


def _stablehlo(program: Program, about: Mapping[str, str]) -> bytes:
    (batch,) = jax.export.symbolic_shape("batch")
    photographs = jax.ShapeDtypeStruct((batch, *program.photograph), np.uint8)
    return bytes(jax.export.export(jax.jit(program.__call__), platforms=PLATFORMS)(photographs).serialize())


def _stablehlo_one_by_one(program: Program, about: Mapping[str, str]) -> bytes:
    return _stablehlo(one_by_one(program), about)


def _load_stablehlo(content: bytes) -> Run:
    call = jax.jit(jax.export.deserialize(bytearray(content)).call)
    return lambda photographs: [np.asarray(part) for part in call(photographs)]


# ---- ONNX ------------------------------------------------------------------------------------------------------


def _onnx(program: Program, about: Mapping[str, str], batch: Any = "batch") -> bytes:
    from jax2onnx import to_onnx
    from onnx.helper import set_model_props

    with plain_forms():
        traced = one_by_one(program)
    with _quiet():
        model = to_onnx(
            traced.__call__,
            [jax.ShapeDtypeStruct((batch, *program.photograph), np.uint8)],
            model_name="detector",
            opset=OPSET,
            input_names=["images"],
            output_names=list(program.all_names),
        )
    set_model_props(model, dict(about))
    return fused(with_constants(model)).SerializeToString()


def _onnx_static(program: Program, about: Mapping[str, str]) -> bytes:
    return _onnx(program, about, 1)


def _load_onnx(content: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every constant that it does without
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda photographs: session.run(None, {"images": photographs})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what jax2onnx logs, which also gives the root logger a handler where it has none."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
        root.handlers[:] = handlers


def described(about: Mapping[str, Any]) -> dict[str, str]:
    """What is said of a detector, as strings."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}


FORMATS: Mapping[str, Format] = {
    "onnx": Format(
        "detector.onnx",
        ("jax2onnx", "onnxruntime"),
        (Attempt("any number, one after another", _onnx), Attempt("1", _onnx_static, static=True)),
        _load_onnx,
    ),
    "stablehlo": Format(
        "detector.stablehlo",
        ("flatbuffers",),
        (
            Attempt("any number, together", _stablehlo),
            Attempt("any number, one after another", _stablehlo_one_by_one),
        ),
        _load_stablehlo,
    ),
}
"""Name -> `Format`."""
