#!/usr/bin/env bash
# On CPU a depthwise convolution takes many times as long as the same sum written as shifted products.
#
# Versions: jax 0.10.2, jaxlib 0.10.2, Python 3.11 or newer, CPU.
# Behaviour: images 4x56x56x144 (NHWC), a kernel of 5x5 for each channel (HWIO, feature_group_count=144), stride 1, SAME,
#   float32: lax.conv_general_dilated against the sum over the 25 taps of shifted images times the tap's 144 weights, each
#   in a program of its own, in turns. Values agree to 1e-4.
# Seen: library 96.1 ms, shifted products 6.7 ms, ratio 14.3, difference 1.1e-06
#   (medians of nine, on two cores of an Intel Xeon with other work beside it)
# Known: jax-ml/jax issue 23713, open, sees the same in flax.nnx.Conv beside PyTorch and TensorFlow.
# For us: jaxad.nn.depthwise.depthwise_conv is that sum, and jaxad.nn.convolution takes it on CPU; the features of
#   EfficientNet-lite0 would otherwise take most of the time that a search of photographs has.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
cat >"$folder/program.py" <<'PYTHON'
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TAPS, CHANNELS, ROUNDS = 5, 144, 9


@jax.jit
def library(images, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=CHANNELS
    )


@jax.jit
def shifted(images, kernel):
    height, width = images.shape[1:3]
    around = TAPS // 2
    padded = jnp.pad(images, ((0, 0), (around, around), (around, around), (0, 0)))
    taps = [(row, column) for row in range(TAPS) for column in range(TAPS)]
    return sum(padded[:, r : r + height, c : c + width] * kernel[r, c, 0] for r, c in taps)


rng = np.random.default_rng(0)
images = jnp.asarray(rng.standard_normal((4, 56, 56, CHANNELS)), jnp.float32)
kernel = jnp.asarray(rng.standard_normal((TAPS, TAPS, 1, CHANNELS)) / TAPS, jnp.float32)
difference = float(jnp.max(jnp.abs(library(images, kernel) - shifted(images, kernel))))
times = {library: [], shifted: []}
for _ in range(ROUNDS):
    for way, taken in times.items():
        began = time.perf_counter()
        jax.block_until_ready(way(images, kernel))
        taken.append(1000 * (time.perf_counter() - began))
slow, fast = (statistics.median(taken) for taken in times.values())
print(f"library {slow:.1f} ms, shifted products {fast:.1f} ms, ratio {slow / fast:.1f}, difference {difference:.1e}")
assert difference < 1e-4, "values differ"
assert slow > 5 * fast, "the ratio is under 5"
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/program.py" ||
  { echo "the behaviour has changed" >&2; exit 1; }
