"""A child's operations on channel blocks: forward by shared kernels, backward by a tape.

An activation of C channels is a list of blocks of 16 or 64 channels, the last padded with zeros. All operations
but the convolution act on channels independently, and a convolution is a sum over pairs of blocks, so a few block
shapes serve every width. The tape is what reverse-mode differentiation does, by hand and one kernel at a time; each
parameter is updated as soon as its gradient is known.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxad.nas.executors import operations as op
from jaxad.nas.executors.fourier import FourierKernels, fourier_kernels
from jaxad.nas.executors.kernels import Kernel
from jaxad.nn import conv as convolutions
from jaxad.nn import layers as nn
from jaxad.nn.actions import Action
from jaxad.nn.autoencoder import Ops
from jaxad.types import Array

Launch = Callable[..., Any]


@dataclass
class Parameter:
    """A trainable array (or pytree) with the state of its optimiser."""

    value: Any
    state: Any
    mask: Array | None = None  # of its output channels, where it has some: [width] 1 for true ones, 0 for padding


@dataclass
class Blocks:
    """An activation in channel blocks. On the way back it collects its gradient, unless it is an input image."""

    values: list[Array]
    masks: Sequence[Array] = ()  # of each block of channels, as in `Parameter`
    is_input: bool = False
    gradients: list[Array] | None = None

    def is_like(self, other: "Blocks") -> bool:
        """Whether two activations have the same height, width and channels."""
        return [x.shape for x in self.values] == [x.shape for x in other.values] and all(
            np.array_equal(own, others) for own, others in zip(self.masks, other.masks, strict=True)
        )


@dataclass
class Normalised:
    """An activation that is to be normalised by whoever reads it next."""

    images: Blocks
    statistics: list[op.Statistics]


@dataclass
class Tape:
    """Runs the operations of a child; `backward` then takes its parameters one step down the gradient."""

    launch: Launch
    update: Kernel  # (value, state, gradient) -> (value, state)
    recording: bool = True  # False where nothing is trained: an activation is then freed as soon as the next is there
    # Statistics of normalisations over the batch, block by block, in the order they are met: those to go by, or a list
    # for those of this batch.
    frozen: Iterator[list[Any]] | None = None
    seen: list[list[Any]] | None = None
    steps_back: list[Callable[[], None]] = field(default_factory=list)

    @property
    def ops(self) -> Ops:
        """The operations as `nn.autoencoder` asks for them."""
        return Ops(self.conv, self.pool, self.upsample, self.normalise, self.activate, self.project, self.act)

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
            blocks.gradients = [self.launch(op.ADD, old, new) for old, new in zip(blocks.gradients, gradients)]

    def conv(self, images: Blocks, kernel: list[list[Parameter]]) -> Blocks:
        """`kernel[i][o]` connects block i of the images to block o of the output."""
        size, taps = images.values[0].shape[1:3], kernel[0][0].value.shape[:2]
        inner = sum(x.shape[3] for x in images.values)
        outer = sum(parameter.value.shape[3] for parameter in kernel[0])
        if convolutions.by_fourier(size, taps, inner, outer):
            return self._conv_by_fourier(images, kernel, fourier_kernels(size, taps))
        outputs = Blocks(
            [self._sum(op.CONV, images.values, [row[o].value for row in kernel]) for o in range(len(kernel[0]))],
            masks=_masks(kernel[0]),
        )

        def step_back() -> None:
            left, right, differentiate = images.values, outputs.gradients, op.POINTWISE_GRADIENT
            if taps != (1, 1):
                left = [self.launch(op.AS_BATCH, x) for x in left]
                right = [self.launch(op.AS_KERNEL, dy) for dy in right]
                differentiate = op.kernel_gradient(taps)
            if not images.is_input:
                flipped = [[self.launch(op.FLIP, parameter.value) for parameter in row] for row in kernel]
                self.receive(images, [self._sum(op.CONV, outputs.gradients, row) for row in flipped])
            for x, row in zip(left, kernel):
                for dy, parameter in zip(right, row):
                    self.train(parameter, self.launch(differentiate, x, dy))

        self._record(step_back)
        return outputs

    def _conv_by_fourier(self, images: Blocks, kernel: list[list[Parameter]], through: FourierKernels) -> Blocks:
        """`conv` as a product of spectra: each block is transformed once, whatever number of blocks it meets."""
        spectra = [self.launch(through.spectrum, x) for x in images.values]

        def convolved(spectra: Sequence[Any], weights: Sequence[Array]) -> Array:
            total = None
            for spectrum, weight in zip(spectra, weights):
                total = self.launch(through.multiply, total, spectrum, self.launch(through.kernel_spectrum, weight))
            return self.launch(through.image, total)

        columns = [[row[o].value for row in kernel] for o in range(len(kernel[0]))]
        outputs = Blocks([convolved(spectra, column) for column in columns], masks=_masks(kernel[0]))

        def step_back() -> None:
            gradients = [self.launch(through.spectrum, dy) for dy in outputs.gradients]
            if not images.is_input:
                flipped = [[self.launch(op.FLIP, parameter.value) for parameter in row] for row in kernel]
                self.receive(images, [convolved(gradients, row) for row in flipped])
            for x, row in zip(spectra, kernel):
                for gradient, parameter in zip(gradients, row):
                    self.train(parameter, self.launch(through.kernel_gradient, x, gradient))

        self._record(step_back)
        return outputs

    def pool(self, images: Blocks, kind: str, size: int) -> Blocks:
        if size == 1:
            return images
        height, width = images.values[0].shape[1:3]
        if nn.POOLS[kind] is nn.average_pool:
            return self._each(images, op.window_kernels(size, height, width)[::-1], op.shares(size, height, width))
        return self._each(images, op.pool_kernels(kind, size, nn.POOLS[kind]))

    def upsample(self, images: Blocks, size: int, height: int, width: int) -> Blocks:
        if size == 1:
            return images
        once = np.ones(images.values[0].shape[1:3], np.float32)
        return self._each(images, op.window_kernels(size, height, width), once)

    def normalise(self, images: Blocks, kind: str) -> Blocks | Normalised:
        norm = nn.NORMS[kind]
        if norm.apply is nn.identity:
            return images
        frozen = norm.frozen is not None and self.frozen is not None
        if norm.over is not None:
            found = next(self.frozen) if frozen else self._statistics(images, np.int32(op.OVER.index(norm.over)))
        elif frozen:
            kernel, moments = op.frozen_kernel(kind, norm.frozen), next(self.frozen)
            return Blocks([self.launch(kernel, x, own) for x, own in zip(images.values, moments)], masks=images.masks)
        elif norm.frozen is not None and self.seen is not None:
            found = [self.launch(op.MOMENTS, x) for x in images.values]
        if norm.frozen is not None and self.seen is not None:
            self.seen.append(found)
        if norm.over is not None:
            return Normalised(images, found)
        return self._each(images, op.normalise_kernels(kind, norm.apply))

    def _statistics(self, images: Blocks, over: np.int32) -> list[op.Statistics]:
        return [op.Statistics(*self.launch(op.STATISTICS, x, over), over) for x in images.values]

    def activate(
        self, images: Blocks | Normalised, kind: str, scale: list[Parameter] | None, offset: list[Parameter] | None
    ) -> Blocks:
        """`nn.layers.activate`, where there is no offset that of zero, of what may still have to be normalised."""
        if isinstance(images, Normalised):
            images, statistics = images.images, images.statistics
        else:
            statistics = [op.no_statistics(len(x), x.shape[3]) for x in images.values]
        forward, gradient, place = op.activate_kernels(kind)
        masks = images.masks if offset is None else _masks(offset)
        # A layer that does not normalise has a bias only; one program serves both.
        scales, offsets = (
            [np.full(x.shape[3], value, np.float32) for x in images.values] if own is None else [p.value for p in own]
            for own, value in ((scale, 1), (offset, 0))
        )
        operands = [(*operand, place) for operand in zip(images.values, statistics, scales, offsets, masks)]
        outputs = Blocks([self.launch(forward, *operand) for operand in operands], masks=masks)

        def step_back() -> None:
            back = [self.launch(gradient, dy, *operand) for dy, operand in zip(outputs.gradients, operands)]
            self.receive(images, [to_images for to_images, _, _ in back])
            for block, (_, to_scale, to_offset) in enumerate(back):
                if scale is not None:
                    self.train(scale[block], to_scale)
                if offset is not None:
                    self.train(offset[block], to_offset)

        self._record(step_back)
        return outputs

    def project(self, images: Blocks, kernel: list[Parameter], bias: Parameter) -> Blocks:
        vector = self._sum(op.PROJECT, images.values, [parameter.value for parameter in kernel])
        outputs = Blocks([self.launch(op.ADD_BIAS, vector, bias.value)])

        def step_back() -> None:
            (gradient,) = outputs.gradients
            back = [self.launch(op.PROJECT_GRADIENT, gradient, x, p.value) for x, p in zip(images.values, kernel)]
            self.receive(images, [to_images for to_images, _ in back])
            for parameter, (_, to_kernel) in zip(kernel, back):
                self.train(parameter, to_kernel)
            self.train(bias, self.launch(op.BIAS_GRADIENT, gradient))

        self._record(step_back)
        return outputs

    def act(
        self, action: Action, choice: str, images: Blocks, inputs: Blocks | None, vectors: dict[str, list[Parameter]]
    ) -> Blocks:
        """`Action.apply`, block by block."""
        forward, gradient = op.action_kernels(action, choice)
        if isinstance(images, Normalised):
            images = self.activate(images, "linear", None, None)
        if inputs is not None and not inputs.is_like(images):
            inputs = None
        seen = [None] * len(images.values) if inputs is None else inputs.values
        own = [{name: vectors[name][block] for name in action.vectors(choice)} for block in range(len(images.values))]
        operands = [
            (x, y, {name: parameter.value for name, parameter in block.items()}, mask)
            for x, y, block, mask in zip(images.values, seen, own, images.masks, strict=True)
        ]
        outputs = Blocks([self.launch(forward, *operand) for operand in operands], images.masks, images.is_input)

        def step_back() -> None:
            back = [self.launch(gradient, dy, *operand) for dy, operand in zip(outputs.gradients, operands)]
            self.receive(images, [to_images for to_images, _, _ in back])
            if inputs is not None and not inputs.is_input:
                self.receive(inputs, [to_inputs for _, to_inputs, _ in back])
            for block, (_, _, to_vectors) in zip(own, back):
                for name, parameter in block.items():
                    self.train(parameter, to_vectors[name])

        if not images.is_input:
            self._record(step_back)
        return outputs

    def _record(self, step_back: Callable[[], None]) -> None:
        if self.recording:
            self.steps_back.append(step_back)

    def _each(self, images: Blocks, kernels: tuple[Kernel, Kernel], *operands: Array) -> Blocks:
        """Forward (x, *operands), back (dy, *operands); (dy, x) where there are none."""
        forward, gradient = kernels
        outputs = Blocks([self.launch(forward, x, *operands) for x in images.values], masks=images.masks)

        def step_back() -> None:
            pairs = zip(outputs.gradients, images.values)
            self.receive(images, [self.launch(gradient, dy, *(operands or (x,))) for dy, x in pairs])

        self._record(step_back)
        return outputs

    def _sum(self, kernel: Kernel, left: Sequence[Array], right: Sequence[Array]) -> Array:
        terms = [self.launch(kernel, x, w) for x, w in zip(left, right)]
        return functools.reduce(functools.partial(self.launch, op.ADD), terms)


def _masks(parameters: Sequence[Parameter]) -> list[Array | None]:
    return [parameter.mask for parameter in parameters]
