"""How programs of tests are compiled: in a hurry, for they run for a moment and compiling takes most of the time.

`XLA_FLAGS=--xla_force_host_platform_device_count=8 pytest` compiles them as users do.
"""

import os
import re
import subprocess
import sys

QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_max_isa=AVX2",
)


def quick_flags() -> str:
    """Those of the flags above that this version of XLA has: it ends a process that sets others."""
    if "XLA_FLAGS" in os.environ:  # chosen by hand, or by the process whose worker this is
        return ""
    return " ".join(flag for flag in QUICK if _is_known(flag))


def _is_known(flag: str) -> bool:
    probe = [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"]
    return subprocess.run(probe, env={**os.environ, "XLA_FLAGS": flag}, stderr=subprocess.DEVNULL).returncode == 0


def of_one_device() -> str:
    """The flags of this process, without its emulated devices."""
    return re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
