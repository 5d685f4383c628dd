"""AGAD, adversarial generative anomaly detection (Shi & Zhang 2023), with no or with a few labelled anomalies.

A generator learns to reconstruct normal images and to fail on everything else. What else there is it learns from its
own reconstructions, which count as pseudo-anomalies: G(G(x)) shall differ from G(x). Where some training images are
labelled anomalous, their reconstruction shall fail, too. A discriminator tells images from reconstructions. An image is
the more anomalous the more it differs from its reconstruction:

    A(x) = |x - G(x)|_2                                                                     (section 3.3.3)

GANomaly (Akcay et al. 2018) and Skip-GANomaly (Akcay et al. 2019), which it extends, are configurations of the same
parts: see `LINEAGE`. Steps and constants follow the paper, and the code of these two where the paper is silent;
`AGADConfig` says which. Departures: running statistics of batch normalisation at test time, where the code of the
lineage normalises test images with their own batch; a re-initialised discriminator gets a fresh optimiser.

Use it where some defects are labelled, and where they are is wanted: with labelled anomalies among its training images
it gains much, and without any, nearest neighbours did better (docs/results.md).
"""

from jaxad.methods.agad.config import LINEAGE, AGADConfig
from jaxad.methods.agad.detector import AGADInfo, agad
from jaxad.methods.agad.diagnosis import auroc_by_batches
from jaxad.methods.agad.inference import AGADInference, AGADState, make_inference
from jaxad.methods.agad.variants import Variant, learns_from, variant

__all__ = [
    "LINEAGE",
    "AGADConfig",
    "AGADInference",
    "AGADInfo",
    "AGADState",
    "Variant",
    "agad",
    "auroc_by_batches",
    "learns_from",
    "make_inference",
    "variant",
]
