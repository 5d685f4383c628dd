"""The folder layout of MVTec AD (Bergmann et al., CVPR 2019): good images to train on, masks of defects to test on."""

from pathlib import Path

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.images import (
    IMAGE_SUFFIXES,
    decode,
    image_files,
    read_images,
    resize_mask,
    subfolders,
    to_dtype,
)
from jaxad.data.sources.registry import Request, source


@source(
    "mvtec",
    "mvtec:PATH/CATEGORY",
    "The layout of MVTec AD, with masks (train/good, test/DEFECT, ground_truth/DEFECT).",
    parts=("train", "test"),
    defects=True,
)
def mvtec(request: Request) -> ImageSet:
    """Reads one part ("train" or "test") of a category in the layout of MVTec AD, with masks.

    Images: `train/good`, `test/good`, `test/<defect>`; masks: `ground_truth/<defect>/NAME_mask.png`, where
    more than half of the range is anomalous, resized by nearest neighbour. Class 0 is "good".

    Raises:
      ValueError: another layout, a mask missing or of another size than its image, different image sizes
        where no `image_size` is given.
    """
    path, split, image_size = request.path(), request.split, request.image_size
    if split not in ("train", "test"):
        raise ValueError(f"MVTec-layout folders have no part {split!r}: choose train or test")
    if not (path / "train" / "good").is_dir() or not (path / "test").is_dir():
        raise ValueError(f"{path} has no train/good and test folders: give one category, such as mvtec:DIR/bottle")
    # Defects are listed from the test part for both parts, so that a class has one number.
    names = ("good", *(f.name for f in subfolders(path / "test") if f.name != "good"))
    groups = [image_files(path / split / name) if (path / split / name).is_dir() else [] for name in names]
    files = np.array([str(file) for group in groups for file in group])
    if len(files) == 0:
        raise ValueError(f"no images in {path / split}: known suffixes are {sorted(IMAGE_SUFFIXES)}")
    labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(group) for group in groups])
    index = request.choose(lambda: labels, len(labels), names)
    files, labels = files[index], labels[index]
    images = read_images([Path(file) for file in files], image_size)
    masks = np.zeros(images.shape[:3], np.uint8)
    for i in np.flatnonzero(labels):
        masks[i] = _mask(path, names[labels[i]], Path(files[i]), image_size, masks.shape[1:])
    return ImageSet(path.name, images, labels, names, masks, files)


def _mask(
    path: Path, defect: str, image: Path, image_size: tuple[int, int] | None, shape: tuple[int, int]
) -> np.ndarray:
    file = path / "ground_truth" / defect / f"{image.stem}_mask.png"
    if not file.is_file():
        raise ValueError(f"no mask {file} for {image}: add it, or move the image to test/good")
    values = to_dtype(decode(file), np.float32)
    mask = (values.max(axis=2) > 0.5).astype(np.uint8)
    if image_size is not None:
        return resize_mask(mask, image_size)
    if mask.shape != shape:
        raise ValueError(f"mask {file} is {mask.shape}, its image {shape}: give an image size to resize both")
    return mask
