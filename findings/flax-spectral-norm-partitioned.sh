#!/usr/bin/env bash
# flax.linen.SpectralNorm cannot wrap a layer whose weights carry partitioning metadata.
#
# Versions: flax 0.12.8, jax 0.10.2, Python 3.11 or newer.
# Behaviour: a Dense layer within SpectralNorm is initialised; the same layer with its kernel initialiser wrapped by
#   flax.linen.with_partitioning, as sharded models write it, ends in an AttributeError: the path of a boxed weight has
#   an entry of a kind that SpectralNorm does not expect when it makes the names of its vectors.
# Seen: plain SpectralNorm_0
#       partitioned AttributeError 'GetAttrKey' object has no attribute 'key'
# For us: initialisers of jaxad.nn.initializers carry metadata in the same way, and AMA's critic is normalised by functions
#   of the whole tree of weights (jaxad/methods/ama/spectral_norm.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet flax==0.12.8 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/program.py" <<'PYTHON'
import flax.linen as nn
import jax
import jax.numpy as jnp


class Layer(nn.Module):
    partitioned: bool

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        if self.partitioned:
            init = nn.with_partitioning(init, (None, "features"))
        return nn.SpectralNorm(nn.Dense(4, kernel_init=init))(x, update_stats=True)


for name, partitioned in (("plain", False), ("partitioned", True)):
    try:
        variables = Layer(partitioned).init(jax.random.key(0), jnp.ones((2, 3)))
        print(name, *variables["batch_stats"])
    except AttributeError as error:
        print(name, type(error).__name__, error)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/program.py" 2>/dev/null)
echo "$seen"
expected="plain SpectralNorm_0
partitioned AttributeError 'GetAttrKey' object has no attribute 'key'"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed" >&2; exit 1; }
