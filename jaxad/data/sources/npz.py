"""NumPy archives of images, labels and masks."""

import numpy as np

from jaxad.data.decoding import reason_of
from jaxad.data.image_set import ImageSet, from_arrays
from jaxad.data.sources.registry import Request, source


@source("npz", "npz:FILE", "Arrays images [N, H, W, C] and, where known, labels [N] and masks [N, H, W].", masks=True)
def npz(request: Request) -> ImageSet:
    """Reads a NumPy archive with `images` [N, H, W, C] and, if there, `labels` [N] and `masks` [N, H, W]."""
    path = request.path()
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:  # NumPy leaves damaged files open
            arrays = {key: archive[key] for key in ("images", "labels", "masks") if key in archive}
            found = sorted(archive)
    except Exception as error:  # of damaged archives zipfile, zlib and NumPy raise many types
        reason = reason_of(error)
        raise ValueError(f"cannot read {path} as a .npz archive without objects ({reason}): save it again") from error
    if "images" not in arrays:
        raise ValueError(f"{path} holds {found} but no array named images: save it with np.savez(path, images=...)")
    return request.sample(from_arrays(**arrays, name=path.stem))
