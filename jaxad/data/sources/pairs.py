"""Folders of images and of masks that have the same names, such as CrackForest's."""

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.images import decode, image_files, read_images, resize_mask, to_dtype
from jaxad.data.sources.registry import Request, source


@source("pairs", "pairs:FOLDER", "Images in images/NAME.* and their masks in masks/NAME.*.", masks=True)
def pairs(request: Request) -> ImageSet:
    """Reads `images/NAME.*` and `masks/NAME.*` of a folder, such as CrackForest's; in masks, above half is anomalous.

    Class 0 "good" has no anomalous pixel, class 1 "defect" has one. Masks are resized by nearest neighbour.

    Raises:
      ValueError: another layout, an image without a mask, a mask of another size than its image.
    """
    path, image_size = request.path(), request.image_size
    folders = [path / name for name in ("images", "masks")]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no folder {folder}: image/mask pairs are in {path}/images and {path}/masks")
    files, masks = image_files(folders[0]), {file.stem: file for file in image_files(folders[1])}
    if not files:
        raise ValueError(f"no images in {folders[0]}")
    missing = [file for file in files if file.stem not in masks]
    if missing:
        raise ValueError(f"no mask {folders[1] / missing[0].stem}.* for {missing[0]} and {len(missing) - 1} other(s)")
    images = read_images(files, image_size)
    read = []
    for file in files:
        mask = (to_dtype(decode(masks[file.stem]), np.float32).max(axis=2) > 0.5).astype(np.uint8)
        shape = decode(file).shape[:2]
        if mask.shape != shape:
            raise ValueError(f"mask {masks[file.stem]} is {mask.shape}, its image {shape}: resize one of them")
        read.append(mask if image_size is None else resize_mask(mask, image_size))
    read = np.stack(read)
    ids = np.array([str(file) for file in files])
    return request.sample(ImageSet(path.name, images, read.any((1, 2)).astype(np.int32), ("good", "defect"), read, ids))
