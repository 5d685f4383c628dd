"""Skip-GANomaly (Akcay et al., IJCNN 2019): a U-Net reconstructs images, and a discriminator sees what it misses.

    min    w_adv BCE(D(x^), 1) + w_con |x - x^| + w_lat |z(x) - z(x^)|^2,   x^ = G(x)                 (Eqs. 1 to 4)
    s(x) = 0.9 |x - x^|^2 + 0.1 |z(x) - z(x^)|^2                                                     (Eq. 5)

z are latent features of the discriminator D, which minimises their distance, too (authors' code). All bars are means
over an image's numbers; scores are not scaled by those of the test set, as Eq. 6 does. It is a forerunner of AGAD, and
made of its parts: `jaxad.methods.agad.LINEAGE`. Departures: those of `jaxad.methods.agad`; the U-Net pools, where the
paper's has strides.

Use it for comparisons with AGAD, which extends it, and with GANomaly: skip connections keep detail that codes lose.
"""

import dataclasses
from typing import Any, ClassVar

from jaxad.methods.agad.forerunners import ForerunnerConfig
from jaxad.methods.registry import detector
from jaxad.types import Detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkipGANomalyConfig(ForerunnerConfig):
    """What is trained, and how; constants are those of the authors' code."""

    lineage: ClassVar = "skip_ganomaly"
    laptop: ClassVar[tuple[str, ...]] = ("width=0.25", "latent_dim=32")

    width: float = 1.0
    """Multiplier of all numbers of channels; 1 is the size of AGAD's U-Net."""
    levels: int = 5
    """Levels of the U-Net; sides of images are multiples of 2^(levels - 1)."""
    latent_dim: int = 100
    """Length of the discriminator's latent features."""
    adversarial_weight: float = 1.0
    """Weight w_adv of being taken for an image."""
    latent_weight: float = 1.0
    """Weight w_lat of the distance between latent features."""
    latent_share: float = 0.1
    """Share of that distance in the score."""
    noise: float = 0.0
    """Standard deviation of noise on the generator's input (authors' code has a place for it, left empty)."""


TINY = SkipGANomalyConfig(width=0.25, levels=2, latent_dim=16, learning_rate=1e-2)


@detector(
    "skip_ganomaly",
    "Skip-GANomaly, a U-Net against a discriminator (Akcay et al., IJCNN 2019).",
    config=SkipGANomalyConfig,
    tiny=TINY,
)
def skip_ganomaly(config: SkipGANomalyConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`skip_ganomaly(width=0.25)`), or of a config with changed fields.

    Images have any channels; see `nn.unet` and `methods.agad.dcgan` for their sizes. `calibrate` changes nothing. The
    map is |x - x^|, its norm over channels.
    """
    config = dataclasses.replace(config or SkipGANomalyConfig(), **fields)
    config.check()
    return config.detector()
