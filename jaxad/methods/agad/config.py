"""The settings of AGAD, each with its source, and its two forerunners as settings."""

import dataclasses
import math
from typing import ClassVar, Literal

from jaxad._utils.validate import check_multipliers
from jaxad.methods.agad.losses import Weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class AGADConfig:
    """What is trained, and how."""

    labels: ClassVar[str] = "anomalies"  # what `Batch.labels` are to it, see `jaxad.types.Detector`
    anomaly_share: ClassVar[float] = 1 / 8  # of a batch, 32 of 256 (the paper)
    default_steps: ClassVar[int] = 1000  # of commands that are not told how many
    # The size that commands give it where nothing else is asked for: minutes on a CPU.
    laptop: ClassVar[tuple[str, ...]] = (
        "generator=naive", "width=0.25", "epsilon=0.5", "pseudo_weight=1", "decay_after=500",
    )  # fmt: skip

    generator: Literal["unetpp", "unet", "naive"] = "unetpp"
    """UNet++, U-Net (section 6), or GANomaly's encoder and decoder (the paper's for MNIST)."""
    width: float = 1.0
    """Multiplier of all numbers of channels; 1 is the published size."""
    levels: int = 5
    """Levels of U-Net and UNet++; sides of images are multiples of 2^(levels - 1)."""
    batch_norm: bool = True
    """Batch normalisation in U-Net and UNet++ (Fig. 5; their numbers of weights in Table 8 are those without)."""
    latent_dim: int = 100
    """Length of D_z, and of the naive generator's code."""

    # ---- the objective
    adversarial_weight: float = 1.0
    """Weight l_adv."""
    contextual_weight: float = 50.0
    """Weight l_con."""
    pseudo_weight: float = 15.0
    """Weight l_adcon of pseudo-anomalies; 0 leaves out the second pass ("w/o" in Tables 3 and 4)."""
    latent_weight: float = 5.0
    """Weight l_lat."""
    anomaly_target: int = 1
    """What the discriminator shall not say of reconstructed anomalies: 1 (real), or 0 as Algorithm 1 prints."""
    anomalies: Literal["fail", "ignore"] = "fail"
    """Learn to fail on images labelled anomalous (Eq. 10), or leave them out of all losses."""
    contextual_reciprocal: bool = False
    """Also l_con / |x - x^| for labelled anomalies, as Eq. 3 wants and Eq. 10 does not say."""
    epsilon: float = 1e-6
    """Added to the denominators of Eq. 10. At the start distances are near 0, and the gradients of their reciprocals so
    large that Adam's second moment takes thousands of steps to forget them; 0.5 lets short trainings learn."""
    feature_matching: bool = False
    """Adversarial term of the generator: squared distance of the discriminator's features (GANomaly)."""
    second_encoder: bool = False
    """Latent term: codes of x and, by an encoder of its own, of x^ (GANomaly); needs the naive generator."""
    latent_in_discriminator: bool = False
    """The discriminator minimises the latent term, too (Skip-GANomaly's code)."""
    discriminator_weight: float = 1.0
    """Factor of the discriminator's loss; one half in GANomaly."""
    noise: float = 0.0
    """Standard deviation of noise on the generator's input (Skip-GANomaly's code has a place for it, left empty)."""

    # ---- batch normalisation (Table 5)
    auxiliary_norm: bool = False
    """Statistics and affine parts of its own for the pass G(x^) ("AdvProp", Xie et al. 2020)."""
    frozen_norm: bool = False
    """Running statistics, and no part in them, for labelled anomalies ("FreezeBN")."""
    running_from: Literal["inputs", "both"] = "inputs"
    """Shared running averages see the pass G(x) alone, which is what scoring does, or also G(x^), as PyTorch would."""

    # ---- training and score
    learning_rate: float = 2e-4
    """Learning rate of Adam."""
    decay_after: int | None = None
    """Step from which on the learning rate falls as 1 / step; None keeps it. The paper names no schedule; without one
    the last state of a short training is now better, now worse than those before it."""
    b1: float = 0.5
    """First decay rate of Adam (GANomaly's code); the second is 0.999."""
    reset_below: float = 1e-5
    """Re-initialise the discriminator when its loss is less (the paper's unused delta; value of GANomaly's code)."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number type of convolutions; weights and everything else stay float32."""
    score: Literal["image", "latent", "mixed"] = "image"
    """What scores: |x - x^|_2; the latent term, as GANomaly; a share of both as means of squares, as Skip-GANomaly."""
    latent_share: float = 0.1
    """Share of the latent term in the mixed score."""

    @property
    def weights(self) -> Weights:
        """Those of the terms."""
        return Weights(self.adversarial_weight, self.contextual_weight, self.pseudo_weight, self.latent_weight)

    def check(self) -> None:
        """Raise ValueError for values out of range; `agad` does so, too."""
        choices = {
            "generator": ("unetpp", "unet", "naive"), "running_from": ("inputs", "both"),
            "compute": ("float32", "bfloat16"), "score": ("image", "latent", "mixed"), "anomaly_target": (0, 1),
            "anomalies": ("fail", "ignore"),
        }  # fmt: skip
        for name, options in choices.items():
            if getattr(self, name) not in options:
                given = ", ".join(map(str, options))
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {given}")
        for name in ("latent_dim", "levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        for name in (*(f"{term}_weight" for term in Weights._fields), "noise", "reset_below"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from 0 upwards")
        check_multipliers(width=self.width)
        for name in ("learning_rate", "discriminator_weight", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        if self.decay_after is not None and self.decay_after < 1:
            raise ValueError(f"decay_after is {self.decay_after}; the least is 1, and None for a rate that stays")
        if not 0 <= self.b1 < 1 or not 0 <= self.latent_share <= 1:
            raise ValueError(f"b1 is {self.b1}, latent_share {self.latent_share}; give shares, b1 less than 1")
        if self.second_encoder and self.generator != "naive":
            raise ValueError(f"generator is {self.generator!r}, which has no code; a second encoder needs 'naive'")
        if self.auxiliary_norm and not self.pseudo_weight:
            raise ValueError("auxiliary_norm is for the pass G(x^), which pseudo_weight 0 leaves out: drop one of them")
        if (self.auxiliary_norm or self.frozen_norm) and self.generator != "naive" and not self.batch_norm:
            raise ValueError("batch_norm is off: auxiliary_norm and frozen_norm have nothing to act on")


LINEAGE = {
    "agad": AGADConfig(),
    "ganomaly": AGADConfig(
        generator="naive", pseudo_weight=0.0, latent_weight=1.0, feature_matching=True, second_encoder=True,
        discriminator_weight=0.5, score="latent", anomalies="ignore",
    ),
    "skip_ganomaly": AGADConfig(
        generator="unet", pseudo_weight=0.0, latent_weight=1.0, latent_in_discriminator=True, score="mixed",
        anomalies="ignore",
    ),
}  # fmt: skip
"""AGAD and its forerunners as their papers set them, their networks those of AGAD."""
