"""GANomaly (Akcay et al., ACCV 2018): images are encoded, decoded and encoded again, and the two codes compared.

    min    w_adv |f(x) - f(x^)|^2 + w_con |x - x^| + w_enc |E(x) - E'(x^)|^2,   x^ = D(E(x))         (Eqs. 1 to 4)
    s(x) = |E(x) - E'(x^)|^2                                                                         (Eq. 5)

f are features of a discriminator that tells images from reconstructions. All bars are means over an image's numbers;
Eq. 5 prints an l1 norm, the authors' code has squares, as here. It is the forerunner of AGAD, and made of its parts:
`jaxad.methods.agad.LINEAGE`. Departures: those of `jaxad.methods.agad`, and one loss of the discriminator decides
whether it starts anew, where the authors' code looks at both of its terms.

Use it for comparisons with AGAD, which extends it. It compares codes, and knows nothing of places but for errors of
pixels.
"""

import dataclasses
from typing import Any, ClassVar, Literal

from jaxad.methods.agad.forerunners import ForerunnerConfig
from jaxad.methods.registry import detector
from jaxad.types import Detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class GANomalyConfig(ForerunnerConfig):
    """What is trained, and how; constants are those of the authors' code."""

    lineage: ClassVar = "ganomaly"
    laptop: ClassVar[tuple[str, ...]] = ("width=0.25", "latent_dim=32")

    width: float = 1.0
    """Multiplier of all numbers of channels; 1 is the published size."""
    latent_dim: int = 100
    """Length of the code."""
    adversarial_weight: float = 1.0
    """Weight w_adv of the distance between the discriminator's features."""
    latent_weight: float = 1.0
    """Weight w_enc of the distance between the two codes."""
    score: Literal["latent", "image"] = "latent"
    """What scores: the distance of the two codes (Eq. 5), or |x - x^|_2, which needs less training."""


# By reconstruction: codes tell noise from digits only after more than the suite's 30 steps; they have their own tests.
TINY = GANomalyConfig(width=0.5, latent_dim=16, learning_rate=1e-2, score="image")


@detector(
    "ganomaly",
    "GANomaly, codes of images and of their reconstructions (Akcay et al., ACCV 2018).",
    config=GANomalyConfig,
    tiny=TINY,
)
def ganomaly(config: GANomalyConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`ganomaly(width=0.25)`), or of a config with changed fields.

    Images have any channels; see `methods.agad.dcgan` for their sizes. `calibrate` changes nothing. There
    is a map, |x - x^|, where that is the score.
    """
    config = dataclasses.replace(config or GANomalyConfig(), **fields)
    config.check()
    return config.detector()
