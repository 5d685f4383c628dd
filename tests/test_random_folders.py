"""Folders in which anything may lie: each ends in a task or in one line, whatever it is read as."""

import os
import random

import numpy as np
import pytest
from PIL import Image

from jaxad import data
from jaxad.report.data_check import data_check_lines

FOLDERS = (
    *("good", "bad", "ok", "ko", "GOOD", "train", "test", "valid", "ground_truth", "images", "masks", "Normal"),
    *("Anomaly", "Data", "Images", "split_csv", "day1", "a b,c", ".hidden"),
)
ENDS = (".png", ".PNG", ".jpg", ".bmp", ".tif", ".npy", ".txt", ".heic", "_mask.png")
COLUMNS = ("path", "label", "mask", "split", "object", "image")


def plant(root, seed):
    """Folders in folders, with images, masks, damaged files, others and listings."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    folders = [root]
    for _ in range(draw.randint(0, 9)):
        folder = draw.choice(folders) / draw.choice(FOLDERS)
        if not folder.exists():
            folder.mkdir()
            folders.append(folder)
    for folder in folders:
        for _ in range(draw.choice([0, 0, 3, 8, 20])):
            save(folder / f"{draw.randint(0, 30):02d}{draw.choice(ENDS)}", draw, rng)
        if draw.random() < 0.2:
            write_listing(folder / draw.choice(["list.csv", "1cls.csv"]), root, draw)


def save(file, draw, rng):
    if draw.random() < 0.05:
        file.write_bytes(rng.bytes(30))
    elif file.suffix == ".npy":
        np.save(file, rng.random((8, 8)))
    elif file.suffix in (".txt", ".heic"):
        file.write_text("x")
    else:
        shape = ((8, 8) if draw.random() < 0.95 else (5, 9)) + ((3,) if draw.random() < 0.1 else ())
        pixels = rng.integers(0, 256, shape, dtype=np.uint8) * (draw.random() < 0.8)
        if "_mask" in file.name or "ground_truth" in str(file):
            pixels = 255 * (pixels > 200).astype(np.uint8)
        Image.fromarray(pixels).save(file)


def write_listing(file, root, draw):
    columns = draw.sample(COLUMNS, draw.randint(1, 6))
    lines = [draw.choice(",;").join(columns)]
    for image in sorted(path for path in root.rglob("*.*") if path.is_file())[:60]:
        name, split = os.path.relpath(image, file.parent), draw.choice(["train", "test", "test", "valid", "none"])
        label = "good" if split == "train" and draw.random() < 0.9 else draw.choice(["good", "bad", "1", ""])
        known = {"path": name, "image": name, "label": label, "split": split, "object": "x"}
        known["mask"] = draw.choice(["", name, "gone.png"])
        lines.append(",".join(known[column] for column in columns))
    file.write_text("\n".join(lines))


def refusal(make):
    """What a user reads where it cannot be made; empty where it can. Anything but a ValueError fails."""
    try:
        make()
    except ValueError as error:
        return str(error)
    return ""


def read(spec, seed):
    """Whether it makes a task."""
    options = [{}, {"normal_classes": "good"}, {"image_size": 6}, {"limit": 10}][seed % 4]
    refused = [
        refusal(lambda: data.table(data.load_task(spec, **options))),
        refusal(lambda: data.load_labelled(spec, labelled=1)),
    ]
    assert not any("\n" in words for words in refused)
    assert data_check_lines(data.check_data(spec))[0] == f"data: {spec}"  # which says by itself what is wrong
    return not refused[0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pillow, on what is no image
@pytest.mark.parametrize("seed", [3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 1100, 50))])
def test_any_folder_ends_in_a_task_or_in_a_line(tmp_path, seed):
    tasks = []
    for each in range(seed, seed + (8 if seed == 3 else 50)):
        root = tmp_path / str(each)
        root.mkdir()
        plant(root, each)
        tasks += [read(f"{kind}:{root}", each) for kind in ("folder", "mvtec", "btad", "visa", "csv", "pairs")]
    assert 0 < sum(tasks) < len(tasks)
