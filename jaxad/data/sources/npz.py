"""NumPy archives of images, labels and masks."""

import zipfile

import numpy as np

from jaxad.data.image_set import ImageSet, from_arrays
from jaxad.data.sources.registry import Request, source


@source("npz", "npz:FILE", "Arrays images [N, H, W, C] and, where known, labels [N] and masks [N, H, W].", masks=True)
def npz(request: Request) -> ImageSet:
    """Reads a NumPy archive with `images` [N, H, W, C] and, if there, `labels` [N] and `masks` [N, H, W]."""
    path = request.path()
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ("images", "labels", "masks") if key in archive}
            found = sorted(archive)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path} as a .npz archive without objects ({error})") from error
    if "images" not in arrays:
        raise ValueError(f"{path} holds {found} but no array named images: save it with np.savez(path, images=...)")
    return request.sample(from_arrays(**arrays, name=path.stem))
