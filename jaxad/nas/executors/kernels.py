"""Compiled kernels that all children share, and compiling them ahead of time.

Random architectures practically never share a shape, so a program per child is compiled for a second or more and
used for milliseconds. Cut into operations on channel blocks of two widths, all children of a space are made of a few
hundred small kernels instead. `CompileAhead` brings those that the next children need into the cache of `jax.jit` on
background threads, while the present child trains.
"""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from jax.stages import Lowered

from jaxad._utils.compile import kernel_options

Signature = tuple[Any, ...]  # (kernel, structure of its arguments, their shapes and dtypes)


class Kernel:
    """A jitted function that can be planned and compiled before it is called.

    Calling it runs it. `plan` takes shapes instead of arrays and returns shapes. A kernel belongs to the process, as
    a jitted function does: two searches of equal shapes share what is compiled.
    """

    def __init__(self, function: Callable[..., Any], *, donate: tuple[int, ...] = (), name: str = "") -> None:
        self.name = name or function.__name__
        self._function = function
        self._donate = donate
        self._outputs: dict[Signature, Any] = {}
        self._lowered: dict[Signature, Lowered] = {}

    @functools.cached_property
    def jitted(self) -> Callable[..., Any]:
        """The jitted function; made at first use, when the backend and with it the compiler options are known."""
        options = kernel_options()
        return jax.jit(self._function, donate_argnums=self._donate, compiler_options=options or None)

    def __call__(self, *args: Any) -> Any:
        return self.jitted(*args)

    def plan(self, *args: Any) -> tuple[Any, Signature]:
        """Shapes of the outputs for shapes of the inputs, and the signature that has to be compiled."""
        leaves, structure = jax.tree.flatten(args)
        shapes = tuple((leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in leaves)
        signature = (self, structure, shapes)
        if signature not in self._outputs:
            traced = self.jitted.trace(*args)
            self._outputs[signature] = traced.out_info
            # Lowering is Python, and two threads of Python hold each other up; compiling releases the interpreter.
            self._lowered[signature] = traced.lower()
        return self._outputs[signature], signature

    def compile(self, signature: Signature) -> None:
        """Compile a planned signature; later calls with such arguments find the program in jit's cache."""
        # Kept until it is compiled: another executor of the process may ask for it meanwhile, and waits, too.
        if (lowered := self._lowered.get(signature)) is not None:
            lowered.compile()
            self._lowered.pop(signature, None)


class Plan:
    """Collects the signatures that a child will launch, in order. Takes the place of `launch` in a dry run."""

    def __init__(self) -> None:
        self.signatures: dict[Signature, None] = {}  # a set that keeps its order

    def __call__(self, kernel: Kernel, *args: Any) -> Any:
        outputs, signature = kernel.plan(*args)
        self.signatures[signature] = None
        return outputs


def launch(kernel: Kernel, *args: Any) -> Any:
    """Run a kernel on arrays."""
    return kernel(*args)


class CompileAhead:
    """Compiles planned kernels on background threads, each signature once.

    The number of live programs is bounded by the number of signatures, which is bounded by the space, the image shape
    and the batch size, not by the number of children.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="compile")
        self._futures: dict[Signature, Future[None]] = {}
        self.on_wait: Callable[[int], None] = lambda left: None  # told how many programs are still to come

    @property
    def count(self) -> int:
        """Programs asked for so far."""
        return len(self._futures)

    def submit(self, plan: Plan) -> None:
        """Start compiling what of a plan is new; returns at once."""
        for signature in plan.signatures:
            self._compile(signature)
        self._tell()

    def wait(self, signatures: Iterable[Signature]) -> None:
        """Return when all of them can be launched without compiling."""
        for signature in signatures:
            try:
                if not (future := self._compile(signature)).done():
                    self._tell()
                future.result()
            except BaseException:
                del self._futures[signature]  # memory may have been short: who needs it next tries again
                raise

    def _compile(self, signature: Signature) -> Future[None]:
        if signature not in self._futures:
            self._futures[signature] = self._pool.submit(signature[0].compile, signature)
        return self._futures[signature]

    def _tell(self) -> None:
        if left := sum(not future.done() for future in self._futures.values()):
            self.on_wait(left)

    def close(self) -> None:
        """Drop what has not started and wait for the rest."""
        self._pool.shutdown(cancel_futures=True)
