"""Which pixels of a mask are anomalous, by the values that its file holds."""

import numpy as np

from jaxad.data.formats.stored import Stored

FEW = 16  # different values up to which a mask holds numbers of classes, and not shades


def anomalous_pixels(stored: Stored, name: str) -> np.ndarray:
    """The anomalous pixels [H, W] (bool) of a mask: all that are not zero, be they 1, numbers of classes, or white.

    Of a colour the largest channel counts, and what is transparent is zero. Shades do not count as such: where a mask
    has more than 16 different values that reach to white, as at smoothed edges, or was compressed with loss, only those
    above half of the range are anomalous.

    Args:
      stored: the file of the mask, with its transparency.
      name: what to call it in a message.

    Raises:
      ValueError: a mask that could mean either: shades that never reach white, a lossy one that is dark, one that is
        black but for its transparency, one of which white is zero, negative values.
    """
    if stored.inverted:
        raise _unclear(name, "says that white is zero, and programs disagree which of its pixels are marked")
    values = stored.pixels.max(axis=2)
    if stored.alpha is not None:
        values = np.where(stored.alpha == 0, 0, values)
        if not values.any() and stored.alpha.min() != stored.alpha.max():
            raise _unclear(name, "is black everywhere, and only its transparency differs")
    least, most = values.min(), values.max()
    if least < 0:
        raise _unclear(name, f"holds {least:g}, below zero")
    if most == 0:
        return np.zeros(values.shape, bool)
    white = _white(stored, most)
    if stored.lossy:
        if most <= white / 2:
            raise _unclear(name, f"was compressed with loss, and its values, up to {most:g} of {white:g}, may be noise")
        return values > white / 2
    shades = most > white / 2 or stored.kind == "float"
    if not shades or _few(values):
        return values != 0
    if most < white:
        raise _unclear(name, f"holds more than {FEW} different values up to {most:g}, and none is white ({white:g})")
    return values > white / 2


def _white(stored: Stored, most: float) -> float:
    if stored.nominal is not None:
        return stored.nominal[1]
    if stored.kind == "float":
        return next((white for white in (1.0, 255.0, 65535.0) if most <= white), float(most))
    return float(np.iinfo(stored.pixels.dtype).max) if stored.pixels.dtype.kind in "iu" else float(most)


def _few(values: np.ndarray) -> bool:
    if values.dtype == np.uint8:
        return np.count_nonzero(np.bincount(values.reshape(-1), minlength=256)) <= FEW
    return len(np.unique(values)) <= FEW


def _unclear(name: str, what: str) -> ValueError:
    return ValueError(f"mask {name} {what}: save it as PNG, 0 where all is well and 255 where not")
