"""Batch and instance normalisation as Flax modules, made of sums that are fast on CPU.

`BatchNorm` has the variables and the meaning of `flax.linen.BatchNorm`. That one sums over leading axes, forward and
backward: with the compiler options of `jaxad.training` a training step of AGAD's naive generator takes 1.29 times as
long with it (79 against 61 ms of processor time, two cores, 32 images of 32x32x3, a quarter of the width), whichever
formula it has for the variance.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.module import merge_param
from jax import lax
from jax.nn.initializers import Initializer

from jaxad.data.batches import batches, window
from jaxad.nn import layers
from jaxad.nn.layers import Moments
from jaxad.types import Array, Network, Params

MOMENTUM = 0.9  # of running averages, as in PyTorch, whose "momentum" is 0.1


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last.

    Variables are those of `flax.linen.BatchNorm`: params "scale" and "bias" [C]; batch_stats "mean" and "var" [C], with
    the variance of a batch (divided by the number of its values), as in Flax; PyTorch divides by one less.

        use_running_average                  statistics are those of batch_stats
        not use_running_average              those of the batch, which pass gradients; batch_stats, if mutable, become
                                             momentum * batch_stats + (1 - momentum) * those of the batch
        not use_running_average, and frozen  the marked images meet batch_stats and do not count in the batch's own
                                             statistics, which serve all others (AGAD's Table 5)

    With momentum 0, batch_stats become those of the very batch.

    Attributes:
      use_running_average: here or in the call, as in Flax.
      momentum: from 0 to 1.
      epsilon: added to the variance.
      use_bias, use_scale: whether there is an affine part.
      bias_init, scale_init: its initialisers.
      track_running_stats: as in PyTorch; without, there are no batch_stats, and statistics are always the batch's.

    Example:
      >>> norm = BatchNorm(momentum=0.0)
      >>> variables = norm.init(jax.random.key(0), jnp.ones((4, 2)), use_running_average=False)
      >>> images = jnp.array([[1.0, 0.0], [3.0, 4.0]])
      >>> out, seen = norm.apply(variables, images, use_running_average=False, mutable=["batch_stats"])
      >>> seen["batch_stats"]["mean"].tolist(), seen["batch_stats"]["var"].tolist()
      ([2.0, 2.0], [1.0, 4.0])
    """

    use_running_average: bool | None = None
    momentum: float = MOMENTUM
    epsilon: float = layers.NORM_EPSILON
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    track_running_stats: bool = True

    @nn.compact
    def __call__(self, x: Array, use_running_average: bool | None = None, *, frozen: Array | None = None) -> Array:
        """Normalise x [B, ..., C].

        Args:
          use_running_average: whether statistics are those of batch_stats.
          frozen: [B] booleans, the images for which they are so in training; none by default.

        Returns:
          float32, of the shape of x.
        """
        channels = x.shape[-1]
        flat = x.astype(jnp.float32).reshape(1, -1, channels)
        if self.track_running_stats:
            use_running_average = merge_param("use_running_average", self.use_running_average, use_running_average)
            if frozen is not None:
                chex.assert_shape(frozen, x.shape[:1])
                frozen = jnp.repeat(frozen, flat.shape[1] // len(x))
            flat = self._tracked(flat, use_running_average, frozen)
        else:
            flat, _ = standardise(flat, self.epsilon)
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32) if self.use_scale else None
        bias = self.param("bias", self.bias_init, (channels,), jnp.float32) if self.use_bias else None
        return _affine(flat, scale, bias).reshape(x.shape)

    def _tracked(self, flat: Array, use_running_average: bool, frozen: Array | None) -> Array:
        channels = flat.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        running = Moments(mean.value, var.value)
        if use_running_average:
            return standardise_by(flat, running, self.epsilon)
        if frozen is None:
            flat, own = standardise(flat, self.epsilon)
        else:
            flat, own = standardise_apart(flat, frozen, running, self.epsilon)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            if self.momentum:  # else no product, which what is not finite would survive
                own = jax.tree.map(lambda old, new: self.momentum * old + (1 - self.momentum) * new, running, own)
            mean.value, var.value = own
        return flat


class InstanceNorm(nn.Module):
    """Instance normalisation (Ulyanov et al. 2016): every image and channel over its own pixels, then scale and bias.

    As `flax.linen.InstanceNorm`, except where that would erase everything: a single pixel is left as it is.

    Example:
      >>> norm = InstanceNorm()
      >>> images = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)
      >>> norm.init_with_output(jax.random.key(0), images)[0].round(3).ravel().tolist()
      [-1.0, 1.0]
    """

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Normalise images [B, H, W, C]."""
        channels = images.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        return layers.activate(layers.normalise(images, "instance"), "linear", scale, bias)


def recalibrated(network: Network, variables: Params, inputs: Array, batch_size: int) -> Params:
    """Variables whose statistics are those of all inputs ("precise batch norm", Wu & Johnson 2021).

    Every batch passes the network with its own statistics; means are averaged, and variances are those of a mixture.

    Args:
      network: whose normalisations have momentum 0, so that `train=True` leaves the statistics of the very batch.
      variables: with "batch_stats", whose values do not matter.
      inputs: [N, ...] float32, or uint8 for numbers from 0 to 1.
      batch_size: about how many pass at once; batches have equal size, and hardly any input counts twice.

    Example:
      >>> from jaxad.nn.network import make_network
      >>> class Normed(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x, *, train):
      ...         return BatchNorm(not train, momentum=0.0)(x)
      >>> network, values = make_network(Normed()), jnp.arange(6.0)[:, None]
      >>> variables = recalibrated(network, network.init(jax.random.key(0), values), values, 2)
      >>> jnp.var(network.apply(variables, values)).round(3).item()
      1.0
    """
    inputs = jnp.asarray(inputs)  # NumPy arrays cannot be indexed by traced numbers
    count = batches(inputs.shape[0], batch_size)
    size = batches(inputs.shape[0], count)

    def of_batch(index: Array) -> Params:
        return network.apply(variables, window(inputs, index, size), train=True)[1]["batch_stats"]

    def mixed(parts: Params) -> Params:
        # Within batches plus between them, which no cancellation can make negative.
        within, between = jnp.mean(parts["var"], 0), jnp.var(parts["mean"], 0)
        return {"mean": jnp.mean(parts["mean"], 0), "var": within + between}

    stats = jax.tree.map(mixed, lax.map(of_batch, jnp.arange(count)), is_leaf=lambda node: "mean" in node)
    return {**variables, "batch_stats": stats}


def standardise(flat: Array, epsilon: float) -> tuple[Array, Moments]:
    """Values [1, M, C] with mean 0 and variance 1 over M, and the moments they had, which pass no gradient."""
    standard, mean, variance = _standardise(flat, epsilon)
    return standard, Moments(*map(lax.stop_gradient, (mean, variance)))


def standardise_by(flat: Array, moments: Moments, epsilon: float) -> Array:
    """Values [1, M, C] normalised with given moments."""
    return (flat - moments.mean[None, None]) * lax.rsqrt(moments.variance + epsilon)[None, None]


def standardise_apart(flat: Array, frozen: Array, running: Moments, epsilon: float) -> tuple[Array, Moments]:
    """Values [1, M, C] normalised with `running` moments where `frozen` [M], all others with their own.

    Returns:
      The values, and the others' moments, `running` where there are no others. Gradients pass through the others'
      moments in the values alone.
    """
    frozen = frozen.astype(bool)
    counts = 1 - frozen.astype(flat.dtype)[None, :, None]
    total = jnp.maximum(jnp.sum(counts), 1.0)
    mean = layers.channel_sum(counts * flat) / total
    variance = layers.channel_sum(counts * jnp.square(flat - mean)) / total
    others = ~jnp.all(frozen)
    own = Moments(jnp.where(others, mean[0, 0], running.mean), jnp.where(others, variance[0, 0], running.variance))
    means, variances = (jnp.where(frozen[:, None], r[None], o[None])[None] for r, o in zip(running, own, strict=True))
    return (flat - means) * lax.rsqrt(variances + epsilon), jax.tree.map(lax.stop_gradient, own)


@jax.custom_vjp
def _standardise(flat: Array, epsilon: float) -> tuple[Array, Array, Array]:
    return _standardise_forward(flat, epsilon)[0]


def _standardise_forward(flat: Array, epsilon: float) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
    mean = layers.channel_sum(flat) / flat.shape[1]
    centred = flat - mean
    variance = layers.channel_sum(jnp.square(centred)) / flat.shape[1]
    scale = lax.rsqrt(variance + epsilon)
    standard = centred * scale
    return (standard, mean[0, 0], variance[0, 0]), (standard, scale)


def _standardise_backward(residuals: tuple[Array, Array], gradients: tuple[Array, Array, Array]) -> tuple[Array, None]:
    (standard, scale), (gradient, _, _) = residuals, gradients
    size = gradient.shape[1]
    along = layers.channel_sum(gradient * standard) / size
    return scale * (gradient - layers.channel_sum(gradient) / size - standard * along), None


_standardise.defvjp(_standardise_forward, _standardise_backward)


def _affine(flat: Array, scale: Array | None, bias: Array | None) -> Array:
    images = flat.reshape(1, *flat.shape)
    if scale is not None:
        zeros = jnp.zeros_like(scale)
        images = layers.activate(images, "linear", scale, zeros if bias is None else bias)
    elif bias is not None:
        images = layers.activate(images, "linear", None, bias)
    return images.reshape(flat.shape)
