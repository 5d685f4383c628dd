"""Score new images with the detector that a search found: how anomalous is each, and where?

    python experiments/detect.py runs/autoad-20260101-120000 photo.png more_photos/ archive.npz
    python experiments/detect.py RUN photos/ --overlays 5 --output inspected
    python experiments/detect.py RUN photos/ --threshold 0.12

RUN is the folder of a finished run, or its best/ folder. Images are files, folders (searched recursively) and .npz
archives with an array `images`; they are resized and turned grey or RGB as the detector was trained. Printed is a
table, most anomalous first. The output folder gets scores.csv (path, score, threshold, anomalous: 1 or 0) and
overlays/ with a picture (image, anomaly map, both) of each of the most anomalous images, all on one colour scale, if
the detector says where an anomaly is.

Scores are raw: higher means more anomalous, and only scores of one detector compare. An image is called anomalous if
its score is greater than the threshold, which was chosen on held-out normal images when the detector was trained.

Exit status: 0 all images were scored, 1 some files could not be read (named on standard error) and the others were
scored, 2 nothing was scored because of an error.
"""

import csv
import dataclasses
import functools
import io
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import numpy as np
import tyro

from jaxad._utils.compile import enable_compilation_cache
from jaxad._utils.files import write_atomic, write_text
from jaxad.data import decode, load, to_channels, to_dtype
from jaxad.data.fitting import fit_images
from jaxad.data.images import IMAGE_SUFFIXES
from jaxad.metrics import thresholds
from jaxad.report.overlays import colour_scale, overlay
from jaxad.runs import cli
from jaxad.runs.progress import Progress, table
from jaxad.runs.saving import LoadedDetector, load_detector
from jaxad.training.scoring import map_images, score_images

SHOWN = 20  # rows of the printed table
SCALE_PIXELS = 1000  # of each map that go into the common colour scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Score new images with the best detector of a finished run."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run, or its best/ folder."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES...")]
    """Image files, folders of images and .npz archives."""
    output: Path | None = None
    """Folder for the results, new or empty; by default RUN/detections-DATE-TIME."""
    overlays: int = 20
    """Draw so many of the most anomalous images; 0 for none."""
    threshold: float | None = None
    """Call images anomalous above this score instead of the detector's own threshold."""
    batch_size: int = 64
    """Images scored at a time; less needs less memory."""
    quiet: bool = False
    """Print neither progress nor table."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if not self.images:
            raise ValueError("no images to score: name files, folders or .npz archives after the run")
        if self.overlays < 0 or self.batch_size < 1:
            raise ValueError(f"--overlays is {self.overlays} and --batch-size {self.batch_size}; give at least 0 and 1")


class Source(NamedTuple):
    """An image that can be read when it is its turn."""

    name: str
    read: Callable[[], np.ndarray]  # -> [H, W, C]


class Scored(NamedTuple):
    """What became of an image."""

    source: Source
    score: float
    anomalous: bool | None  # None without a threshold


def detect(config: Config) -> int:
    """The whole experiment; returns the exit status."""
    config.check()
    best = config.run if (config.run / "detector.json").exists() else config.run / "best"
    loaded = load_detector(best)
    threshold = loaded.threshold if config.threshold is None else thresholds.fixed(config.threshold)
    sources = list({source.name: source for path in config.images for source in find(path)}.values())
    output = make_folder(config)

    scores, scale, unreadable = score(config, loaded, sources)
    for reason in unreadable.values():
        print(f"skipped: {reason}", file=sys.stderr)
    sources = [source for source in sources if source.name not in unreadable]
    if not sources:
        raise ValueError(f"none of {len(unreadable)} images could be read; nothing was scored")
    anomalous = [None] * len(sources) if threshold is None else thresholds.decide(scores, threshold).tolist()
    order = np.argsort(-scores, kind="stable")
    found = [Scored(sources[i], float(scores[i]), anomalous[i]) for i in order]

    write_scores(output / "scores.csv", found, threshold)
    if loaded.detector.score_map is not None:
        draw(config, loaded, found[: config.overlays], scale, output / "overlays")
    elif config.overlays > 0 and not config.quiet:
        print(f"no overlays: the method {loaded.name} scores whole images and has no anomaly maps")
    if not config.quiet:
        show(found, threshold, output)
    return 1 if unreadable else 0


def find(path: Path) -> Iterator[Source]:
    """The images that a path of the command line stands for."""
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        shown = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not shown:
            raise ValueError(f"no images in {path}: known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}")
        yield from (Source(str(p), lambda p=p: decode(p)) for p in shown)
    elif not path.exists():
        raise ValueError(f"{path} does not exist: check the path")
    elif path.suffix.lower() == ".npz":
        try:
            archive = load(f"npz:{path}").images
        except ValueError as error:
            yield Source(str(path), functools.partial(_raise, error))
        else:
            yield from (Source(f"{path}/{i}", lambda image=image: image) for i, image in enumerate(archive))
    else:
        yield Source(str(path), lambda: decode(path))


def _raise(error: ValueError) -> NoReturn:
    raise error


def make_folder(config: Config) -> Path:
    """The output folder; earlier results are never touched."""
    output = config.output or config.run / time.strftime("detections-%Y%m%d-%H%M%S")
    try:
        output.mkdir(parents=True, exist_ok=True)
        used = any(output.iterdir())
    except OSError as error:
        raise ValueError(f"cannot write to {output} ({error.strerror}): choose another --output") from error
    if used:
        raise ValueError(f"output folder {output} is not empty: choose a new or empty --output")
    return output


def read(source: Source, loaded: LoadedDetector) -> np.ndarray:
    """An image as the detector was trained on: [H, W, C] float32 in [0, 1]."""
    shape = loaded.image_shape
    image = fit_images(source.read()[None], shape[:2], loaded.details.get("fit", "resize"))
    return to_dtype(to_channels(image, shape[2]), np.float32)[0]


def score(
    config: Config, loaded: LoadedDetector, sources: list[Source]
) -> tuple[np.ndarray, float | None, dict[str, str]]:
    """Scores of all readable images, where the colours end, and why which images could not be read."""
    scores, pixels, unreadable = [], [], {}
    scale = loaded.details.get("map_scale")
    needs_maps = scale is None and config.overlays > 0 and loaded.detector.score_map is not None
    with Progress(len(sources), label="images", quiet=config.quiet) as progress:
        for start in range(0, len(sources), config.batch_size):
            images = []
            for source in sources[start : start + config.batch_size]:
                try:
                    images.append(read(source, loaded))
                except ValueError as error:
                    unreadable[source.name] = str(error) if source.name in str(error) else f"{source.name}: {error}"
            if images:
                batch = np.stack(images)
                scores.append(score_images(loaded.detector, loaded.state, batch, config.batch_size))
                if needs_maps:
                    maps = map_images(loaded.detector, loaded.state, batch, config.batch_size).reshape(len(batch), -1)
                    pixels.append(maps[:, :: -(-maps.shape[1] // SCALE_PIXELS)])
            progress.update(min(start + config.batch_size, len(sources)))
    if pixels:
        scale = colour_scale(np.concatenate(pixels))
    return np.concatenate(scores) if scores else np.empty(0), scale, unreadable


def write_scores(path: Path, found: list[Scored], threshold: thresholds.Threshold | None) -> None:
    """scores.csv, most anomalous first; without a threshold its columns are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "score", "threshold", "anomalous"))
    value = "" if threshold is None else threshold.value
    for source, score, anomalous in found:
        writer.writerow((source.name, score, value, "" if anomalous is None else int(anomalous)))
    write_text(path, text.getvalue())


def draw(config: Config, loaded: LoadedDetector, found: list[Scored], scale: float | None, folder: Path) -> None:
    """A picture of each of the most anomalous images, named by rank."""
    for start in range(0, len(found), config.batch_size):
        group = found[start : start + config.batch_size]
        images = np.stack([read(item.source, loaded) for item in group])
        maps = map_images(loaded.detector, loaded.state, images, config.batch_size)
        for rank, (item, image, anomaly_map) in enumerate(zip(group, images, maps), start=start + 1):
            verdict = {None: "", True: ", anomalous", False: ", normal"}[item.anomalous]
            title = f"{item.source.name}\nscore {item.score:.4g}{verdict}"
            figure = overlay(image, anomaly_map, scale=scale, title=title)
            stem = re.sub(r"[^\w.-]+", "_", "_".join(Path(item.source.name).with_suffix("").parts[-2:]))[-80:]
            picture = io.BytesIO()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph")  # of a file name that the font lacks: drawn as a box
                figure.savefig(picture, format="png", dpi=100)
            write_atomic(folder / f"{rank:03d}_{stem}.png", [picture.getvalue()])


def show(found: list[Scored], threshold: thresholds.Threshold | None, output: Path) -> None:
    """The table, and where everything is."""
    count = sum(bool(item.anomalous) for item in found)
    title = f"{len(found)} images, no threshold"
    if threshold is not None:
        title = f"{count} of {len(found)} images are anomalous (score > {threshold.value:.4g})"
    words = {None: None, True: "yes", False: "no"}
    rows = [(item.source.name, item.score, words[item.anomalous]) for item in found[:SHOWN]]
    table(title, ("image", "score", "anomalous"), rows)
    if len(found) > SHOWN:
        print(f"... {len(found) - SHOWN} more")
    print(f"results: {output}")


if __name__ == "__main__":
    enable_compilation_cache()
    cli.main(detect, Config)
