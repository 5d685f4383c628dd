#!/usr/bin/env bash
# Lowering a function takes the longer, the more lowered functions JAX still keeps.
#
# Versions: jax and jaxlib 0.10.2, Python 3.11 or newer (Linux, CPU). Not 0.12.0.1, where all take about the same.
# Behaviour: small functions are lowered by `jax.jit(f).lower(x)`, each a new one, and only the functions are kept, as
#   any program does. The two-thousandth takes many times the CPU time of the first hundreds, whose work is the same. JAX
#   keeps the module of each, in an MLIR context of its own, and most samples of the busy thread are in MLIR's
#   `StorageUniquerImpl::getOrCreate`. After `jax.clear_caches()` lowering is quick again.
# Seen: first 200 6.3 ms each, last 200 of 2000 131.4 ms each, after clear_caches 10.8 ms each
#       slower with live programs: True, cured by forgetting them: True
# For us: a search lowers a thousand small programs and a session of tests ten thousand. Tests forget theirs at ends
#   of files, where there are many (tests/conftest.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "jax==${JAX_VERSION:-0.10.2}" "jaxlib==${JAX_VERSION:-0.10.2}"
cat >"$folder/program.py" <<'PYTHON'
import time

import jax
import jax.numpy as jnp

jax.config.update("jax_platforms", "cpu")
x = jnp.ones((4, 4))
kept = []


def milliseconds_each(count):
    begin = time.process_time()
    for _ in range(count):
        number = len(kept)
        kept.append(jax.jit(lambda x, number=number: jnp.sin(x) @ x + number))
        kept[-1].lower(x)
    return 1000 * (time.process_time() - begin) / count


milliseconds_each(20)  # what only the first one pays
blocks = [milliseconds_each(200) for _ in range(10)]
jax.clear_caches()
milliseconds_each(20)
after = milliseconds_each(200)
print(f"first 200 {blocks[0]:.1f} ms each, last 200 of 2000 {blocks[-1]:.1f} ms each, after clear_caches {after:.1f} ms each")
print(f"slower with live programs: {blocks[-1] > 3 * blocks[0]}, cured by forgetting them: {2 * after < blocks[-1]}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/program.py" 2>/dev/null)
echo "$seen"
[[ "$seen" == *"slower with live programs: True, cured by forgetting them: True" ]] || { echo "the behaviour has changed" >&2; exit 1; }
