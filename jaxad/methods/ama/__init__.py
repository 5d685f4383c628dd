"""AMA, the adversarial mirrored autoencoder (Somepalli et al., UAI 2021).

A critic learns to tell (x, x) from (x, G(E(x))), an autoencoder to make the two alike, image by image. Interpolated
codes must look real, codes where no image should be must not. An image is anomalous if, to the critic, it differs from
its reconstruction unusually much or unusually little:

    R(x) = |f(x, x) - f(x, G(E(x)))|_1          f = features of the critic            (Eq. 5)
    A(x) = N(R(x); mean, sd of R on training images)                                  (Eq. 6)

The score is -log A(x): the same order, and no underflow. Steps and constants follow the paper, and the authors' code
where the paper is silent; `AMAConfig` says which. Departures: interpolated pairs use the paper's weights and pass
gradients to G and E (in the code they train D alone); running averages of batch normalisation are those of
reconstructions alone; the generator's blocks have no biases. Beside the paper's A stand R, A by medians, A of one side
and the error of pixels (`AMAConfig.score`, `moments`, `sides`).

Use it where normal images are many and training may take its time. Known anomalies can serve as its negatives. Results
of short trainings differ much from seed to seed (docs/results.md), so train several.
"""

from jaxad.methods.ama.config import AMAConfig
from jaxad.methods.ama.detector import AMAInfo, ama, draw_negatives
from jaxad.methods.ama.inference import AMAInference, AMAState, make_inference
from jaxad.methods.ama.variants import Variant, variant

__all__ = [
    "AMAConfig",
    "AMAInference",
    "AMAInfo",
    "AMAState",
    "Variant",
    "ama",
    "draw_negatives",
    "make_inference",
    "variant",
]
