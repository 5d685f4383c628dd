"""What Deep SVDD and Deep SAD share: a network that maps normal images near a centre, and how it is trained.

A network that could give a constant would give the centre. So it has no biases and its activations are unbounded.
"""

import dataclasses
import math
from typing import ClassVar

import optax

from jaxad.nn import convnet
from jaxad.nn.network import make_network
from jaxad.types import Network

LEAK = 0.01  # of LeakyReLU, as the authors have it
DROP = 1 / 3  # of the schedule, where the learning rate falls to a tenth: epoch 50 of 150 (authors' code)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentreConfig:
    """The network, and how it is trained; the authors of both methods have the same."""

    paper: ClassVar[tuple[str, ...]] = (
        "widths=[32,64,128]",
        "outputs=128",
        "learning_rate=1e-4",
        "schedule_steps=null",
    )

    widths: tuple[int, ...] = (16, 32)
    """Channels of the convolutions, each followed by pooling (authors' code for CIFAR-10: 32, 64, 128)."""
    kernel: int = 5
    """Size of their kernels (authors' code)."""
    outputs: int = 32
    """Dimensions of the space of the centre (authors' code; 128 for CIFAR-10)."""
    steps: int = 1000
    """Training steps (authors' code: 150 epochs)."""
    schedule_steps: int | None = None
    """Steps whose first third has the full learning rate, the rest a tenth (authors' code); None: those of `steps`."""
    learning_rate: float = 1e-3
    """Learning rate of Adam (authors' code: 1e-4, for long trainings)."""
    weight_decay: float = 5e-7
    """Weight of the squared weights (authors' code)."""

    @property
    def scheduled(self) -> int:
        """Steps that the schedule is of."""
        return self.steps if self.schedule_steps is None else self.schedule_steps

    def check(self) -> None:
        """Raise ValueError for values out of range; the constructors do so, too."""
        convnet.check_widths(self.widths)
        for name in ("outputs", "steps", "schedule_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; give an odd size, from 1 upwards")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; give a number from 0 upwards")

    def make_optimiser(self) -> optax.GradientTransformation:
        """Adam with weight decay, along the schedule."""
        schedule = optax.piecewise_constant_schedule(self.learning_rate, {math.ceil(DROP * self.scheduled): 0.1})
        return optax.chain(optax.add_decayed_weights(self.weight_decay), optax.adam(schedule))

    def make_network(self) -> Network:
        """The network, from images [B, H, W, C] to outputs [B, outputs]."""
        return make_network(
            convnet.Encoder(
                self.widths, self.outputs, kernel=self.kernel, use_bias=False, use_norm=True, leak=LEAK, pool="max"
            )
        )
