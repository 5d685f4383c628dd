"""The settings of AMA, each with its source."""

import dataclasses
import math
from typing import ClassVar, Literal

from jaxad._utils.validate import check_multipliers
from jaxad.methods.ama import latents, losses


@dataclasses.dataclass(frozen=True, kw_only=True)
class AMAConfig:
    """What is trained, and how."""

    labels: ClassVar[str] = "anomalies"  # what `Batch.labels` are to it, see `jaxad.types.Detector`
    side_of_photographs: ClassVar[int] = 32  # that commands make of larger images (the paper)
    # The size that commands give it where nothing else is asked for: minutes on a CPU.
    laptop: ClassVar[tuple[str, ...]] = ("width=0.125", "latent_dim=64", "steps=200")

    steps: int = 1000
    """Training steps (the paper: 100 epochs)."""
    schedule_steps: int | None = 23_400
    """Steps whose shares the schedules below are: about the paper's 100 epochs, of 60,000 images in batches of 256, so
    that a shorter training keeps its learning rate and begins no synthetic negatives; None: those of `steps`."""
    width: float = 1.0
    """Multiplier of all numbers of channels; 1 is the authors' size, for GPUs."""
    latent_dim: int = 128
    """Length d of a code."""
    mirrored: bool = True
    """The critic sees pairs (x, x^); without, images alone, as an ordinary Wasserstein GAN (Table 1)."""
    interpolation: float = 0.5
    """Weight l_inter of interpolated codes; 0 leaves them out (Table 1)."""
    parents: int = 3
    """Codes k that an interpolation mixes."""
    negatives: Literal["shell", "scaled", "cube", "none"] = "shell"
    """Synthetic negatives: atypical selection, scaled codes of the authors' code, Sipple's cube (Table 3), or none."""
    direction: Literal["inward", "outward"] = "outward"
    """On which side of the typical codes; the paper has inward for CIFAR-10, outward for SVHN and Fashion-MNIST."""
    delta: float = 0.5
    """Thickness of the shell as a share of its radius (not published)."""
    radius: Literal["sqrt_d", "median"] = "sqrt_d"
    """Where typical codes are: sqrt(d) as in the paper, or the median norm of the batch's codes."""
    shell_draw: Literal["auto", "volume", "radius"] = "auto"
    """How deep in the shell: uniform in volume as in the paper, which in many dimensions is the outer sphere alone, so
    that inward negatives are typical codes; uniform in radius; by default the former outward, the latter inward."""
    negative_pair: Literal["itself", "normal"] = "itself"
    """What a synthetic negative x_n is paired with: its own reconstruction (x_n, G(E(x_n))), as the authors' code reads
    Eq. 4, or a normal image as (x, x_n), which trains the critic alone."""
    negative_weight: float = 5.0
    """Weight l_neg of negatives, synthetic or labelled."""
    negative_share: float = 0.1
    """Share of a batch that synthetic negatives replace (authors' code)."""
    negative_start: float = 0.1
    """Share of the schedule before the first synthetic negatives (the paper: 10 of 100 epochs)."""
    latent_weight: float = 1.0
    """Weight l_reg of the norm of normal codes."""
    penalty: float = 10.0
    """Weight of the gradient penalty (authors' code)."""
    penalty_norm: Literal["sample", "pixel"] = "sample"
    """Norm of a whole pair's gradient, or of each pixel's as in the authors' code."""
    spectral_norm: bool = True
    """Divide the critic's kernels by their spectral norm."""
    critic_steps: int = 5
    """Critic updates before each update of generator and encoder, on the same batch (authors' code)."""
    learning_rate: float = 3e-4
    """Learning rate of Adam, divided by 10 after 30, 60 and 90 % of the schedule."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number type of convolutions; weights and everything else stay float32."""
    score: Literal["a", "r", "l1"] = "a"
    """What scores: -log A(x) (Eq. 6), R(x) (Table 1), or the mean of |x - x^| over pixels, which has a map."""
    moments: Literal["mean", "median"] = "mean"
    """Location and scale of R in A: mean and standard deviation (Eq. 6), or, so that single images do not decide,
    median and 1.4826 times the median absolute deviation."""
    sides: Literal["both", "upper"] = "both"
    """What of R counts in A: deviations on both sides, by the density (Eq. 6), or upwards alone, by the probability of
    a larger R, which ranks images as R does."""

    @property
    def draw(self) -> str:
        """How deep in the shell negatives lie, one of `latents.DRAWS`."""
        if self.shell_draw != "auto":
            return self.shell_draw
        return "radius" if self.direction == "inward" else "volume"

    @property
    def first_negatives(self) -> int:
        """The step from which on there are synthetic negatives."""
        return round(self.negative_start * self.scheduled)

    @property
    def scheduled(self) -> int:
        """Steps that the schedules are shares of."""
        return self.steps if self.schedule_steps is None else self.schedule_steps

    def negatives_of(self, batch_size: int) -> int:
        """Synthetic negatives of a batch; ValueError for a batch without room for any, unless none are wanted."""
        if self.negatives == "none":
            return 0
        count = math.floor(self.negative_share * batch_size)
        if count == 0:
            least = math.ceil(1 / self.negative_share)
            raise ValueError(f"a batch of {batch_size} has no room for negatives; give {least}, or negatives='none'")
        return count

    def check(self) -> None:
        """Raise ValueError for values out of range; `ama` does so, too."""
        choices = {
            "negatives": (*latents.NEGATIVES, "none"), "direction": latents.DIRECTIONS,
            "negative_pair": ("itself", "normal"),
            "radius": ("sqrt_d", "median"), "shell_draw": ("auto", *latents.DRAWS), "penalty_norm": losses.NORMS,
            "score": ("a", "r", "l1"), "moments": ("mean", "median"), "sides": ("both", "upper"),
            "compute": ("float32", "bfloat16"),
        }  # fmt: skip
        for name, options in choices.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(options)}")
        for name in ("steps", "latent_dim", "parents", "critic_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        if self.scheduled < 1:
            raise ValueError(
                f"schedule_steps is {self.schedule_steps}; give 1 at least, or None: those of the training"
            )
        for name in ("interpolation", "negative_weight", "latent_weight", "penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from 0 upwards")
        check_multipliers(width=self.width)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        for name in ("delta", "negative_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a share between 0 and 1")
        if not 0 <= self.negative_start <= 1:
            raise ValueError(f"negative_start is {self.negative_start}; give a share of the steps from 0 to 1")
