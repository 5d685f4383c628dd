"""Three parts that are written by hand, against the same methods with the library's own: is the difference still there?

    python benchmarks/by_hand.py
    python benchmarks/by_hand.py --parts lstm --rounds 3 --json by_hand.json

    norm     `nn/normalization.py` against `flax.linen.BatchNorm`, in a training step of AGAD's naive generator
    draws    one draw for all weights (`nn/initializers.py`) against a draw each, in AMA's initial state
    lstm     the controller's cell against `flax.linen.OptimizedLSTMCell`, in `tell` of AutoAD

Both sides are whole methods that differ in the part alone. They are traced and compiled anew in every round, without a
cache of programs, and take turns; what is compared are medians of processor time, of compiling and of a call.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from interleaved import save

from jaxad._utils.compile import kernel_options
from jaxad.methods.agad import agad, dcgan
from jaxad.methods.ama import ama
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import autoad, controller
from jaxad.nn import network
from jaxad.types import Array, Batch

IMAGES = 32  # a batch, of 32x32x3
CALLS = 10  # between two looks at the clock


class LibraryNorm(nn.BatchNorm):
    """Flax's batch normalisation, called as ours is."""

    def __call__(self, x: Array, use_running_average: bool | None = None, *, frozen: Any = None) -> Array:
        """As ours, without images that are left out."""
        return super().__call__(x, use_running_average)


def library_norm(use_running_average: bool, momentum: float, **fields: Any) -> LibraryNorm:
    """The module with our order of fields."""
    return LibraryNorm(use_running_average, momentum=momentum, **fields)


def norm() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A training step of AGAD, and what it is called with."""
    images = jax.random.uniform(jax.random.key(0), (IMAGES, 32, 32, 3))
    detector = agad(generator="naive", width=0.25)
    state = jax.jit(detector.init)(jax.random.key(1), images)
    return detector.step, (jax.random.key(2), state, Batch(images))


def draws() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """AMA's first state, and what it is called with."""
    images = jax.random.uniform(jax.random.key(0), (IMAGES, 32, 32, 3))
    return ama(width=0.25).init, (jax.random.key(1), images)


def lstm() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The controller learning from a population of six, and what it is called with."""
    strategy = autoad(SearchSpace(num_layers=3), population=6)
    state, tokens = jax.jit(strategy.ask)(jax.random.key(1), jax.jit(strategy.init)(jax.random.key(0)))
    return strategy.tell, (jax.random.key(2), state, tokens, jnp.linspace(0.1, 0.9, 6))


PARTS: dict[str, tuple[Callable[[], Any], Any, str, Any]] = {
    "norm": (norm, dcgan, "BatchNorm", library_norm),
    "draws": (draws, network, "redraw", lambda key, variables: meta.unbox(variables)),
    "lstm": (lstm, controller, "FusedLSTMCell", nn.OptimizedLSTMCell),
}


@contextlib.contextmanager
def side(name: str, part: str) -> Iterator[None]:
    """Everything as it is for "ours"; the part replaced for "library"."""
    _, module, attribute, library = PARTS[part]
    with mock.patch.object(module, attribute, library) if name == "library" else contextlib.nullcontext():
        yield


def measure(name: str, part: str) -> dict[str, float]:
    """Seconds of processor time to trace and compile, and milliseconds of it a call."""
    jax.clear_caches()
    with side(name, part):
        function, operands = PARTS[part][0]()
        jax.block_until_ready(operands)
        began = time.process_time()
        program = jax.jit(function, compiler_options=kernel_options() or None).lower(*operands).compile()
        compiled = time.process_time() - began
    jax.block_until_ready(program(*operands))
    began = time.process_time()
    for _ in range(CALLS):
        jax.block_until_ready(program(*operands))
    return {"compile_s": compiled, "call_ms": 1000 * (time.process_time() - began) / CALLS}


def main() -> None:
    """Measure every part in turns, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also keep every figure here")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    results: dict[str, Any] = {}
    print(f"{'part':8}{'':12}{'ours':>10}{'library':>10}{'library / ours':>16}{'range':>16}")
    for part in arguments.parts:
        rounds = [{name: measure(name, part) for name in ("ours", "library")} for _ in range(arguments.rounds)]
        results[part] = rounds
        for figure in ("compile_s", "call_ms"):
            ours, library = ([both[name][figure] for both in rounds] for name in ("ours", "library"))
            ratios = sorted(b / a for a, b in zip(ours, library))
            middle = [statistics.median(values) for values in (ours, library, ratios)]
            print(
                f"{part:8}{figure:12}{middle[0]:10.2f}{middle[1]:10.2f}{middle[2]:16.2f}"
                f"{f'{ratios[0]:.2f}-{ratios[-1]:.2f}':>16}", flush=True,
            )  # fmt: skip
        save(arguments.json, results)


if __name__ == "__main__":
    main()
