"""The weights omega that all children share (Eq. 3), and how a child uses its part of them.

One kernel per layer and role is as large as the largest choice; a child of kernel k and channels i -> o uses the
middle k x k taps of the first i and o channels. The papers do not say which part: leading channels and centred
taps are ours. Omega lives on the host, in NumPy: it is touched once a population, and slicing it on a device would
compile a program for every shape.

The vectors beside a kernel, of normalisations and of actions beyond the paper's, are shared as the offsets are: a child
uses those its choices train, of its leading channels. A child of fewer layers uses the outer ones. Where children
see different inputs, whose channels mean different things, omega is a dict with the shared weights of every input.

Children are pure functions over slices of these arrays and not Flax modules, whose variables would have to be sliced,
bound and taken apart again for every child.

A kernel is stored with unit variance and scaled by 1 / sqrt(fan-in) where a child uses it, so that every child
starts as if initialised for its own width; its training is scaled back when it is merged.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from jaxad.nas.space import SearchSpace
from jaxad.nn.actions import EXTRA_ACTIONS
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.autoencoder import LATENT_SIZE
from jaxad.nn.conv import crop
from jaxad.types import Params


def init(rng: np.random.Generator, space: SearchSpace, image_channels: int | Mapping[str, int]) -> Params:
    """Fresh shared weights for a space.

    Args:
      image_channels: of what children see; by its name of every input, where the space has several.

    Returns:
      {"encoder": [...], "decoder": [...], "projection": {...}} of NumPy float32 arrays, each layer with kernel
      [K, K, I, O] ~ N(0, 1), scale [O] = 1, offset [O] = 0, and the vectors [O] of the space's further actions, where
      K, I and O are the largest choices. A space of several inputs has such a tree for each: {input: {...}}.

    Raises:
      ValueError: inputs without channels.
    """
    if not isinstance(image_channels, Mapping):
        image_channels = dict.fromkeys(space.inputs[:1], image_channels)
    if missing := [name for name in space.inputs if name not in image_channels]:
        raise ValueError(
            f"image_channels has none of {', '.join(missing)}; give the channels of every input by its name"
        )
    made = {name: _init(rng, space, image_channels[name]) for name in space.inputs}
    return made if len(made) > 1 else made[space.inputs[0]]


def _init(rng: np.random.Generator, space: SearchSpace, image_channels: int) -> Params:
    """Shared weights of one input."""
    size, widest = max(space.kernels), max(space.channels)
    vectors = {"scale": 1.0, "offset": 0.0}
    for action in (EXTRA_ACTIONS[name] for name in space.extra):
        for choice in action.standard:
            vectors |= {action.key(vector): value for vector, value in action.vectors(choice).items()}

    def layer(inner: int, outer: int) -> Params:
        kernel = {"kernel": rng.standard_normal((size, size, inner, outer), np.float32)}
        return kernel | {name: np.full(outer, value, np.float32) for name, value in vectors.items()}

    channels = [image_channels] + [widest] * space.num_layers
    pairs = list(itertools.pairwise(channels))
    return {
        "encoder": [layer(before, after) for before, after in pairs],
        "decoder": [layer(after, before) for before, after in pairs],
        "projection": {
            "kernel": rng.standard_normal((widest, LATENT_SIZE), np.float32),
            "bias": np.zeros(LATENT_SIZE, np.float32),
        },
    }


def take(shared: Params, architecture: Architecture) -> Params:
    """A child's own copy of its part of the shared weights, shaped as `nn.autoencoder.init` shapes them."""
    return jax.tree.map(lambda part, gain: part * gain, _parts(shared, architecture), gains(architecture, shared))


def merge(shared: Params, children: Iterable[tuple[Architecture, Params, Params]]) -> Params:
    """Shared weights after a population: each weight moves by the mean change of the children that used it.

    This is the Monte Carlo estimate of Eq. 3 with as many samples as there are children, each of several steps.

    Args:
      shared: as the children found it; not modified.
      children: (architecture, weights before, weights after) of every child that trained without failing.
    """
    change = jax.tree.map(np.zeros_like, shared)
    users = jax.tree.map(lambda weights: np.zeros(weights.shape, np.int32), shared)
    for architecture, before, after in children:

        def add(total: np.ndarray, count: np.ndarray, old: np.ndarray, new: np.ndarray, gain: float) -> None:
            total += (np.asarray(new) - np.asarray(old)) / np.float32(gain)
            count += 1

        views = (_parts(change, architecture), _parts(users, architecture))
        jax.tree.map(add, *views, before, after, gains(architecture, shared))
    # In float32, as integer counts would make it float64 for good.
    mean = jax.tree.map(lambda total, count: total / np.maximum(count, 1).astype(total.dtype), change, users)
    return jax.tree.map(np.add, shared, mean)


def gains(architecture: Architecture, shared: Params) -> Params:
    """What a child multiplies each of its shared weights with: 1 / sqrt(fan-in) for kernels, 1 for the rest."""
    parts = _parts(shared, architecture)

    def gain(path: Sequence[object], part: np.ndarray) -> np.float32:
        is_kernel = path[-1] == jax.tree_util.DictKey("kernel")
        return np.float32(1 / np.sqrt(np.prod(part.shape[:-1]))) if is_kernel else np.float32(1)

    return jax.tree_util.tree_map_with_path(gain, parts)


def _parts(shared: Params, architecture: Architecture) -> Params:
    """Views of the part of every shared array that a child uses."""
    shared = shared if "encoder" in shared else shared[architecture.input]
    channels = [weights["kernel"].shape[2] for weights in shared["encoder"][:1]]
    channels += [layer.channels for layer in architecture.layers]

    def layer_parts(weights: Params, layer: Layer, inner: int, outer: int) -> Params:
        kernel = {"kernel": crop(weights["kernel"], layer.kernel, layer.kernel)[:, :, :inner, :outer]}
        return kernel | {name: weights[name][:outer] for name in layer.vectors}

    pairs = list(zip(architecture.layers, channels, channels[1:]))
    return {
        "encoder": [layer_parts(w, layer, i, o) for w, (layer, i, o) in zip(shared["encoder"], pairs)],
        "decoder": [layer_parts(w, layer, o, i) for w, (layer, i, o) in zip(shared["decoder"], pairs)],
        "projection": {
            "kernel": shared["projection"]["kernel"][: channels[-1]],
            "bias": shared["projection"]["bias"],
        },
    }
