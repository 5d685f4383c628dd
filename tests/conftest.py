"""The test session is strict: reused keys, silent rank promotion and warnings are errors."""

import gc
import os
from pathlib import Path

from xla_flags import quick_flags

# Eight emulated devices let the sharding tests run anywhere; must be set before jax is imported.
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {quick_flags()}")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import numpy as np
import pytest

# Programs are kept from test to test, in the scripts that tests start, and from one run of the tests to the next.
PROGRAMS = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
jax.config.update("jax_compilation_cache_dir", PROGRAMS)
jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # as scripts have it, whose programs these are
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_captured_constants_warn_bytes", 1_000_000)

gc.set_threshold(100_000, 20, 100)  # traced programs are millions of objects that stay: not to be looked through often


MOST_LOWERED = 600  # programs, from which on lowering the next takes noticeably longer on jax 0.10
lowered: list[str] = []  # since they were last forgotten


def count(event: str, _: float, **details: object) -> None:
    if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
        lowered.append(event)


jax.monitoring.register_event_duration_secs_listener(count)


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """Programs of some files end with them, as every one that is kept makes lowering slower: see findings/."""
    yield
    if len(lowered) > MOST_LOWERED:
        jax.clear_caches()
        lowered.clear()


@pytest.fixture
def rng() -> np.random.Generator:
    """Test inputs come from NumPy, so that no expectation depends on JAX's generator."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cache() -> str:
    """Where scripts that tests start keep their programs: beside those of this process."""
    return PROGRAMS
