"""Score new images with a detector that was found or trained: how anomalous is each, and where?

    jaxad detect runs/autoad-20260101-120000 photo.png more_photos/ archive.npz
    jaxad detect RUN photos/ --overlays 5 --output inspected
    jaxad detect RUN photos/ --threshold 0.12
    jaxad detect RUN photos/ --target-fpr 0.01
    jaxad detect RUN photos/ --refine
    jaxad detect RUN incoming/ --watch --json

RUN is the folder of a finished run, or its best/ folder. Images are files, folders (searched recursively) and .npz
archives with an array `images`; they are resized and turned grey or RGB as the detector was trained. Printed is a
table, most anomalous first. The output folder gets scores.csv (path, score, threshold, anomalous: 1 or 0), which grows
batch by batch and is ranked in the end, and overlays/ with a picture (image, anomaly map, both) of each of the most
anomalous images, all on one colour scale, if the detector says where an anomaly is; with --refine, refined/ has them
with maps that are refined by what a network knows of photographs (Eq. 20 of AutoAD). drift.json has the share of images
above the threshold and quantiles of their scores beside those of calibration; where exact tests say that they no longer
fit, standard error says so, and the threshold's rate of false alarms is not to be relied on.

Scores are raw: higher means more anomalous, and only scores of one detector compare. An image is called anomalous if
its score is greater than the threshold, which was chosen on held-out normal images when the detector was trained.

Exit status: 0 all images were scored, 1 some files could not be read (named on standard error) and the others were
scored, 2 nothing was scored because of an error. A watch goes on until Ctrl-C or SIGTERM and then ends likewise.
"""

import dataclasses
import gc
import time
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from jaxad._utils.compile import enable_compilation_cache
from jaxad._utils.validate import check_share
from jaxad.data.tiles import Tiling
from jaxad.runs import cli, predictor
from jaxad.runs.detection_drift import StreamDrift
from jaxad.runs.detection_loop import check_paths, score_all, score_watched
from jaxad.runs.detection_overlays import draw_overlays
from jaxad.runs.detection_refined import check_refined, make_refiner
from jaxad.runs.detection_results import Detections


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PluginConfig):
    """Score new images with the best detector of a finished run."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run, or its best/ folder."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES...")]
    """Image files, folders of images and .npz archives."""
    output: Path | None = None
    """Folder for the results, new or empty; by default RUN/detections-DATE-TIME."""
    overlays: int = 20
    """Number of the most anomalous images to draw, at their own resolution; 0 draws none."""
    refine: bool = False
    """Also draw maps that are refined by what a network trained on photographs knows of an image: errors count where it
    sees a thing, and not where it recognises the thing by (Eq. 20 of AutoAD). Scores stay what they are."""
    threshold: float | None = None
    """Call images anomalous above this score instead of the detector's own threshold."""
    target_fpr: float | None = None
    """Share of normal images that may be flagged, by which the threshold is set anew on the scores of calibration."""
    drift_level: float = 0.01
    """Probability that images like those of calibration are ever said not to fit it, however many there are."""
    batch_size: int = 64
    """Number of images that are scored at a time; less needs less memory."""
    tiles: Tiling = None
    """Cut images into so many overlapping tiles along each side (auto: one for each thousand pixels); the highest score
    of a tile is the image's. By default as in training (--tiles there); a detector of whole images sees tiles at
    another scale than it knows."""
    watch: bool = False
    """Go on with new images in the folders as they arrive, until Ctrl-C."""
    watch_seconds: float = 2.0
    """Seconds between two looks for new images."""
    json: bool = False
    """Print an object in JSON for each image (name, score, threshold, anomalous), and nothing else."""
    quiet: bool = False
    """Print neither progress nor table."""

    is_command_line: ClassVar = True  # errors name flags

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if not self.images:
            raise ValueError("no images to score: name files, folders or .npz archives after the run")
        if self.overlays < 0 or self.batch_size < 1:
            raise ValueError(f"--overlays is {self.overlays} and --batch-size {self.batch_size}; give at least 0 and 1")
        if self.refine and self.overlays == 0:
            raise ValueError("--refine draws refined maps, and --overlays is 0: give the number of images to draw")
        if self.tiles not in (None, "auto") and self.tiles < 1:
            raise ValueError(f"--tiles is {self.tiles}; give at least 1, which is whole images, or auto")
        if not self.watch_seconds > 0:
            raise ValueError(f"--watch-seconds is {self.watch_seconds}; give a positive number")
        if self.threshold is not None and self.target_fpr is not None:
            raise ValueError("--threshold and --target-fpr are both given, and only one of them would count: give one")
        check_share(self, "target_fpr", "drift_level")

    def make_folder(self) -> Path:
        """The output folder; earlier results are never touched."""
        output = self.output or self.run / time.strftime("detections-%Y%m%d-%H%M%S")
        try:
            output.mkdir(parents=True, exist_ok=True)
            used = any(output.iterdir())
        except OSError as error:
            raise ValueError(f"cannot write to {output} ({error.strerror}): choose another --output") from error
        if used:
            raise ValueError(f"output folder {output} is not empty: choose a new or empty --output")
        return output


def detect(config: Config) -> int:
    """The whole experiment; returns the exit status."""
    config.check()
    loaded = predictor.load(config.run, trainable=False)
    if config.threshold is not None:
        loaded = loaded.with_threshold(config.threshold)
    if config.target_fpr is not None:
        loaded = loaded.with_target_fpr(config.target_fpr)
    if config.refine:
        check_refined(loaded)
    images = check_paths(loaded, config.images, watch=config.watch)
    output = config.make_folder()
    drift = StreamDrift(output / "drift.json", loaded, level=config.drift_level, tiling=config.tiles)
    found = Detections(output / "scores.csv", loaded.threshold, keep=config.overlays, on_scores=drift.add)
    options = {"tiling": config.tiles, "batch_size": config.batch_size}
    said = options | {"as_json": config.json, "quiet": config.quiet}
    if config.watch:
        score_watched(loaded, config.images, found, seconds=config.watch_seconds, **said)
    else:
        score_all(loaded, images, found, **said)
        if not found:
            raise ValueError(f"none of {len(found.unread)} images could be read; nothing was scored")

    found.rank()
    drift.finish()
    loud = not config.quiet and not config.json
    if loaded.detector.score_map is not None:
        drawn = found.top(config.overlays)
        options["refiner"] = make_refiner() if config.refine and drawn else None
        draw_overlays(output / "overlays", loaded, drawn, sample=found.first, **options)
    elif config.overlays > 0 and loud:
        print(f"no overlays: the method {loaded.name} scores whole images and has no anomaly maps")
    if loud:
        found.show()
        drift.show()
        print(f"results: {output}")
    return 1 if found.unread else 0


def main() -> None:
    """What the command and the script call."""
    gc.set_threshold(100_000, 20, 100)  # tracing makes many small objects that stay: a tenth of the start
    enable_compilation_cache()
    cli.main(detect, Config)
