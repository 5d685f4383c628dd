"""Programs that run once, as oracles do: unoptimised, they compile several times faster."""

from functools import partial

import jax

from jaxad.backend import kernel_options

QUICK_OPTIONS = {**kernel_options(), "xla_backend_optimization_level": 0}
quick_jit = partial(jax.jit, compiler_options=QUICK_OPTIONS)
