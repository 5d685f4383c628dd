"""Handwritten digits that come with scikit-learn."""

import numpy as np

from jaxad.data.image_set import ImageSet, numbered
from jaxad.data.sources.registry import Request, source


def digits() -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8x8x1; the 17 grey levels 0..16 are scaled to 0..255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    names = tuple(str(digit) for digit in range(10))
    return ImageSet("digits", images, data.target.astype(np.int32), names, None, numbered("digits", len(images)))


@source(
    "digits",
    "digits",
    "The 1,797 handwritten digits of scikit-learn, 8x8 pixels.",
    normal=("0", "1", "2", "3", "4"),
    anomaly_ratio=0.2,  # at 5 % the held-out parts of so small a set would hold a handful of anomalies
)
def read_digits(request: Request) -> ImageSet:
    """All of them, or those that are chosen."""
    request.without_argument()
    return request.sample(digits())
