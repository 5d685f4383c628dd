"""The image sets of the papers' tables in small: noise, in the layouts and under the names that the tables give."""

import numpy as np
from PIL import Image
from prepared_sets import FORMS, prepare
from scipy.io import savemat

CATEGORIES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
    "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
MEDICAL = {
    "alzheimer": ("MildDemented", "NonDemented"),
    "chest_xray": ("NORMAL", "PNEUMONIA"),
    "lung": ("lung_aca", "lung_n"),
    "oct": ("CNV", "NORMAL"),
}


def write_data(folder, *, images=40):
    """Writes `data/` with all folders and `tfds/` with all prepared sets."""
    rng, data = np.random.default_rng(0), folder / "data"

    def picture(path, form=(24, 24, 3)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, form, np.uint8)).save(path)

    def mask(path, form=(24, 24)):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros(form, np.uint8)
        pixels[4:12, 6:16] = 255
        Image.fromarray(pixels).save(path)

    for name, classes in {"notMNIST_small": "AB", "lsun": ("bedroom", "church")}.items():
        for i in range(images):
            picture(data / name / classes[i % 2] / f"{i}.png", (28, 28, 3))
    lines = []
    for i in range(3 * images):
        picture(data / "tiny-imagenet-200/val/images" / f"val_{i}.JPEG", (64, 64, 3))
        lines.append(f"val_{i}.JPEG\tn{i % 12:08d}\t0\t0\t9\t9\n")
    (data / "tiny-imagenet-200/val/val_annotations.txt").write_text("".join(lines))
    for category in (*(f"mvtec/{name}" for name in CATEGORIES), "magnetic_tile"):
        for part, count in (("train/good", 24), ("test/good", 6), ("test/scratch", 8)):
            for i in range(count):
                picture(data / category / part / f"{i}.png")
        for i in range(8):
            mask(data / category / "ground_truth/scratch" / f"{i}_mask.png")
    for i in range(20):
        picture(data / "crackforest/image" / f"{i}.jpg", (40, 60, 3))
        (data / "crackforest/groundTruth").mkdir(exist_ok=True)
        labels = rng.integers(1, 4, (40, 60)).astype(np.uint16)
        savemat(data / "crackforest/groundTruth" / f"{i}.mat", {"groundTruth": {"Segmentation": labels}})
        picture(data / "nanotwice/images" / f"{i}.png", (40, 60))
        if i < 15:
            mask(data / "nanotwice/masks" / f"{i}.png", (40, 60))
        else:
            Image.fromarray(np.zeros((40, 60), np.uint8)).save(data / "nanotwice/masks" / f"{i}.png")
    for name, classes in MEDICAL.items():
        for part, count in (("train", 5 * images), ("test", images)):
            for i in range(count):
                picture(data / name / part / classes[i % 2] / f"{i}.png")
    for name in FORMS:
        classes = name in ("mnist", "fashion_mnist", "cifar10", "cifar100")  # one of which is normal
        prepare(folder / "tfds", name, images=300 if classes else 150, more=75 * classes)
