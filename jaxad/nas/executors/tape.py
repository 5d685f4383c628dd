"""A child's operations on channel blocks: forward by shared kernels, backward by a tape.

An activation of C channels is a list of blocks of 16 or 64 channels, the last padded with zeros. All operations
but the convolution act on channels independently, and a convolution is a sum over pairs of blocks, so a few block
shapes serve every width. The tape is what reverse-mode differentiation does, by hand and one kernel at a time; each
parameter is updated as soon as its gradient is known.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nas.executors.fourier import FourierKernels, fourier_kernels
from jaxad.nas.executors.kernels import Kernel
from jaxad.nn import conv as convolutions
from jaxad.nn import layers as nn
from jaxad.nn.autoencoder import Ops
from jaxad.types import Array

Launch = Callable[..., Any]


@dataclass
class Parameter:
    """A trainable array (or pytree) with the state of its optimiser."""

    value: Any
    state: Any
    mask: Array | None = None  # on offsets: [width] 1 for true channels, 0 for padding; None where all are true


@dataclass
class Blocks:
    """An activation in channel blocks. On the way back it collects its gradient, unless it is an input image."""

    values: list[Array]
    is_input: bool = False
    gradients: list[Array] | None = None


@dataclass
class Tape:
    """Runs the operations of a child; `backward` then takes its parameters one step down the gradient."""

    launch: Launch
    update: Kernel  # (value, state, gradient) -> (value, state)
    recording: bool = True  # False where nothing is trained: an activation is then freed as soon as the next is there
    steps_back: list[Callable[[], None]] = field(default_factory=list)

    @property
    def ops(self) -> Ops:
        """The operations as `nn.autoencoder` asks for them."""
        return Ops(self.conv, self.pool, self.upsample, self.normalise, self.activate, self.project)

    def backward(self) -> None:
        """Go back from the gradients received so far, training every parameter on the way."""
        while self.steps_back:
            self.steps_back.pop()()

    def train(self, parameter: Parameter, gradient: Any) -> None:
        """Hand a parameter its gradient."""
        parameter.value, parameter.state = self.launch(self.update, parameter.value, parameter.state, gradient)

    def receive(self, blocks: Blocks, gradients: Sequence[Array]) -> None:
        """Add to the gradients of an activation (the latent map is used twice, all others once)."""
        if blocks.gradients is None:
            blocks.gradients = list(gradients)
        else:
            blocks.gradients = [self.launch(ADD, old, new) for old, new in zip(blocks.gradients, gradients)]

    def conv(self, images: Blocks, kernel: list[list[Parameter]]) -> Blocks:
        """`kernel[i][o]` connects block i of the images to block o of the output."""
        size, taps = images.values[0].shape[1:3], kernel[0][0].value.shape[:2]
        inner = sum(x.shape[3] for x in images.values)
        outer = sum(parameter.value.shape[3] for parameter in kernel[0])
        if convolutions.by_fourier(size, taps, inner, outer):
            return self._conv_by_fourier(images, kernel, fourier_kernels(size, taps))
        outputs = Blocks(
            [self._sum(CONV, images.values, [row[o].value for row in kernel]) for o in range(len(kernel[0]))]
        )

        def step_back() -> None:
            left, right, differentiate = images.values, outputs.gradients, POINTWISE_GRADIENT
            if taps != (1, 1):
                left = [self.launch(AS_BATCH, x) for x in left]
                right = [self.launch(AS_KERNEL, dy) for dy in right]
                differentiate = kernel_gradient(taps)
            if not images.is_input:
                flipped = [[self.launch(FLIP, parameter.value) for parameter in row] for row in kernel]
                self.receive(images, [self._sum(CONV, outputs.gradients, row) for row in flipped])
            for x, row in zip(left, kernel):
                for dy, parameter in zip(right, row):
                    self.train(parameter, self.launch(differentiate, x, dy))

        self._record(step_back)
        return outputs

    def _conv_by_fourier(self, images: Blocks, kernel: list[list[Parameter]], through: FourierKernels) -> Blocks:
        """`conv` as a product of spectra: each block is transformed once, whatever number of blocks it meets."""
        values = [[parameter.value for parameter in row] for row in kernel]
        spectra = [self.launch(through.spectrum, x) for x in images.values]
        products = [self._accumulate(through.multiply, spectra, column) for column in zip(*values)]
        outputs = Blocks([self.launch(through.image, product) for product in products])

        def step_back() -> None:
            gradients = [self.launch(through.to_spectrum, dy) for dy in outputs.gradients]
            if not images.is_input:
                products = [self._accumulate(through.to_inputs, gradients, row) for row in values]
                self.receive(images, [self.launch(through.to_images, product) for product in products])
            for x, row in zip(spectra, kernel):
                for gradient, parameter in zip(gradients, row):
                    self.train(parameter, self.launch(through.to_kernel, gradient, x))

        self._record(step_back)
        return outputs

    def _accumulate(self, kernel: Kernel, spectra: Sequence[Any], weights: Sequence[Array]) -> Any:
        total = None
        for spectrum, weight in zip(spectra, weights):
            total = self.launch(kernel, total, spectrum, weight)
        return total

    def pool(self, images: Blocks, kind: str, size: int) -> Blocks:
        return images if size == 1 else self._each(images, pool_kernels(kind, size))

    def upsample(self, images: Blocks, size: int, height: int, width: int) -> Blocks:
        return images if size == 1 else self._each(images, upsample_kernels(size, height, width))

    def normalise(self, images: Blocks, kind: str) -> Blocks:
        return images if kind == "none" else self._each(images, normalise_kernels(kind))

    def activate(self, images: Blocks, kind: str, scale: list[Parameter] | None, offset: list[Parameter]) -> Blocks:
        forward, gradient = activate_kernels(kind)
        # A layer that does not normalise has a bias only; one program serves both.
        scales = [np.ones(o.value.shape, np.float32) for o in offset] if scale is None else [s.value for s in scale]
        operands = [(x, s, o.value, o.mask) for x, s, o in zip(images.values, scales, offset)]
        outputs = Blocks([self.launch(forward, *operand) for operand in operands])

        def step_back() -> None:
            back = [
                self.launch(AFFINE_GRADIENT, self.launch(gradient, dy, *operand), *operand[:2])
                for dy, operand in zip(outputs.gradients, operands)
            ]
            self.receive(images, [to_images for to_images, _, _ in back])
            for block, (_, to_scale, to_offset) in enumerate(back):
                if scale is not None:
                    self.train(scale[block], to_scale)
                self.train(offset[block], to_offset)

        self._record(step_back)
        return outputs

    def project(self, images: Blocks, kernel: list[Parameter], bias: Parameter) -> Blocks:
        vector = self._sum(PROJECT, images.values, [parameter.value for parameter in kernel])
        outputs = Blocks([self.launch(ADD_BIAS, vector, bias.value)])

        def step_back() -> None:
            (gradient,) = outputs.gradients
            back = [self.launch(PROJECT_GRADIENT, gradient, x, p.value) for x, p in zip(images.values, kernel)]
            self.receive(images, [to_images for to_images, _ in back])
            for parameter, (_, to_kernel) in zip(kernel, back):
                self.train(parameter, to_kernel)
            self.train(bias, self.launch(BIAS_GRADIENT, gradient))

        self._record(step_back)
        return outputs

    def _record(self, step_back: Callable[[], None]) -> None:
        if self.recording:
            self.steps_back.append(step_back)

    def _each(self, images: Blocks, kernels: tuple[Kernel, Kernel]) -> Blocks:
        forward, gradient = kernels
        outputs = Blocks([self.launch(forward, x) for x in images.values])

        def step_back() -> None:
            self.receive(images, [self.launch(gradient, dy, x) for dy, x in zip(outputs.gradients, images.values)])

        self._record(step_back)
        return outputs

    def _sum(self, kernel: Kernel, left: Sequence[Array], right: Sequence[Array]) -> Array:
        terms = [self.launch(kernel, x, w) for x, w in zip(left, right)]
        return functools.reduce(functools.partial(self.launch, ADD), terms)


# ---- the kernels -------------------------------------------------------------------------------------------------


def _gradient(function: Callable[..., Array]) -> Callable[..., Any]:
    """(gradient of the output, *inputs) -> gradients of the inputs."""

    def backward(gradient: Array, *inputs: Array) -> Any:
        return jax.vjp(function, *inputs)[1](gradient)

    return backward


def _unary(function: Callable[[Array], Array], name: str) -> tuple[Kernel, Kernel]:
    def backward(gradient: Array, images: Array) -> Array:
        return _gradient(function)(gradient, images)[0]

    return Kernel(function, name=name), Kernel(backward, name=f"{name}.gradient")


CONV = Kernel(convolutions.conv)
FLIP = Kernel(convolutions.flip)
AS_BATCH = Kernel(convolutions.as_batch)
AS_KERNEL = Kernel(convolutions.as_kernel)
ADD = Kernel(jnp.add)
PROJECT = Kernel(nn.project)
PROJECT_GRADIENT = Kernel(_gradient(nn.project), name="project.gradient")
ADD_BIAS = Kernel(lambda vector, bias: vector + bias[None], name="add_bias")
BIAS_GRADIENT = Kernel(lambda gradient: jnp.sum(gradient, axis=0), name="bias.gradient")
POINTWISE_GRADIENT = Kernel(
    lambda images, gradient: jnp.einsum("bhwi,bhwo->io", images, gradient)[None, None], name="pointwise.gradient"
)


@functools.cache
def kernel_gradient(taps: tuple[int, int]) -> Kernel:
    """(as_batch(images), as_kernel(gradient)) -> gradient of a kernel with these taps."""
    return Kernel(
        lambda images, gradient: convolutions.kernel_gradient(images, gradient, taps), name=f"kernel{taps}.gradient"
    )


@functools.cache
def pool_kernels(kind: str, size: int) -> tuple[Kernel, Kernel]:
    """Forward and backward of a pooling."""
    return _unary(lambda images: nn.pool(images, kind, size), f"{kind}{size}")


@functools.cache
def upsample_kernels(size: int, height: int, width: int) -> tuple[Kernel, Kernel]:
    """Forward and backward of an upsampling; the sizes are those of its output."""
    return _unary(lambda images: nn.upsample(images, size, height, width), f"upsample{size}")


@functools.cache
def normalise_kernels(kind: str) -> tuple[Kernel, Kernel]:
    """Forward and backward of a normalisation by the batch's own statistics."""
    return _unary(lambda images: nn.normalise(images, kind), kind)


@functools.cache
def activate_kernels(kind: str) -> tuple[Kernel, Kernel]:
    """Forward (images, scale, offset, mask), and the way back from the output to before the activation.

    The way back through scale and offset, `AFFINE_GRADIENT`, is the same for all activations.
    """

    def forward(images: Array, scale: Array, offset: Array, mask: Array | None) -> Array:
        images = nn.activate(images, kind, scale, offset)
        # Sigmoid and softplus of padding are not zero, and would leak into the gradient of the next kernel.
        return images if mask is None else images * mask[None, None, None]

    def backward(gradient: Array, images: Array, scale: Array, offset: Array, mask: Array | None) -> Array:
        before = nn.activate(images, "linear", scale, offset)
        (gradient,) = _gradient(nn.ACTIVATIONS[kind])(gradient, before)
        return gradient if mask is None else gradient * mask[None, None, None]

    return Kernel(forward, name=kind), Kernel(backward, name=f"{kind}.gradient")


def _affine_gradient(gradient: Array, images: Array, scale: Array) -> tuple[Array, Array, Array]:
    return _gradient(lambda *operands: nn.activate(operands[0], "linear", *operands[1:]))(
        gradient, images, scale, jnp.zeros_like(scale)
    )


AFFINE_GRADIENT = Kernel(_affine_gradient, name="affine.gradient")
