"""How long a saved detector takes to start, to score a photograph and to score a folder, and how much memory.

    python benchmarks/detect_latency.py runs/autoad-20260101-120000
    python benchmarks/detect_latency.py RUN --photographs 800 --side 900 --starts 3 --json latency.json
    python benchmarks/detect_latency.py RUN --side 4000 --tiles auto

Photographs are generated, JPEG and PNG in turns. A start is a whole process of experiments/detect.py with one
photograph and warm caches; a folder is one with a quarter of the photographs, then with all: constant memory shows
there. A single photograph is timed in this process, each part of it by itself, in batches of one; medians are shown.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from take_turns import Cost, process

from jaxad._utils.compile import enable_compilation_cache
from jaxad.data.decoding import decode
from jaxad.runs import saving
from jaxad.runs.detection import map_image, read_for, score_rows

SCRIPT = Path(__file__).parents[1] / "experiments" / "detect.py"


def write_photographs(folder: Path, count: int, side: int) -> list[Path]:
    """Smooth colours with a little noise, which compress about as photographs do."""
    rng, files = np.random.default_rng(0), []
    noise = rng.integers(-6, 7, (side, side, 3))
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        pixels = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)) + np.roll(noise, 7 * i, 1)
        files.append(folder / f"{i:05d}.{'jpg' if i % 2 else 'png'}")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def detect(run: Path, images: Path, *flags: str) -> Cost:
    """A process of the command, drawing nothing."""
    with tempfile.TemporaryDirectory() as output:
        return process([sys.executable, SCRIPT, run, images, "--overlays", "0", "--quiet", "--output", output, *flags])


def one_by_one(run: Path, files: Sequence[Path], tiling: Any) -> dict[str, float]:
    """Milliseconds of each part of scoring one photograph: medians over the files, after a first one."""
    loaded = saving.load(run, trainable=False)
    rows = []
    for file in files:
        times = [time.perf_counter()]
        pixels = decode(file)
        times.append(time.perf_counter())
        array = read_for(loaded, pixels, tiling)
        times.append(time.perf_counter())
        score_rows(loaded, [array], 64)
        times.append(time.perf_counter())
        if loaded.detector.score_map is not None:
            map_image(loaded, pixels, tiling)
        times.append(time.perf_counter())
        rows.append([*np.diff(times), times[-1] - times[0]])
    names = ("decode", "resize", "score", "resize and map", "all")
    return {name: 1000 * statistics.median(column) for name, column in zip(names, zip(*rows[2:]))}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, or its best/ folder")
    parser.add_argument("--photographs", type=int, default=400, help="in the folder (default 400)")
    parser.add_argument("--side", type=int, default=900, help="pixels of a photograph's side (default 900)")
    parser.add_argument("--starts", type=int, default=3, help="processes with one photograph (default 3)")
    parser.add_argument("--batch-size", type=int, default=64, help="of the folder (default 64)")
    parser.add_argument("--tiles", metavar="N", help="a number along each side, or auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    if args.photographs < 8 or args.side < 8 or args.starts < 1 or args.batch_size < 1:
        parser.error("--photographs and --side are 8 or more, --starts and --batch-size 1 or more")
    tiling = int(args.tiles) if args.tiles and args.tiles != "auto" else args.tiles
    tiles = ["--tiles", args.tiles] if args.tiles else []
    enable_compilation_cache()
    print(f"JAX {jax.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder), args.photographs, args.side)
        detect(args.run, files[0], *tiles)  # fills the caches
        starts = [detect(args.run, files[0], *tiles) for _ in range(args.starts)]
        for start in starts:
            print(f"start and one photograph: {start['seconds']:.2f} s, {start['cpu']:.2f} s of CPU", flush=True)
        parts = one_by_one(args.run, files[:22], tiling)
        print("one photograph, ms: " + ", ".join(f"{name} {value:.0f}" for name, value in parts.items()), flush=True)
        folders = []
        for count in (args.photographs // 4, args.photographs):
            for file in files[count:]:
                file.rename(file.with_suffix(f"{file.suffix}.hidden"))
            found = detect(args.run, Path(folder), "--batch-size", str(args.batch_size), *tiles)
            for file in files[count:]:
                file.with_suffix(f"{file.suffix}.hidden").rename(file)
            each = 1000 * (found["seconds"] - statistics.median(start["seconds"] for start in starts)) / count
            print(
                f"{count} photographs: {found['seconds']:.1f} s, {found['cpu']:.1f} s of CPU, {each:.0f} ms each after "
                f"the start, {found['megabytes']:.0f} MB at most",
                flush=True,
            )
            folders.append({"photographs": count, **found})
    if args.json:
        about = {"jax": jax.__version__, "cores": os.cpu_count(), "run": str(args.run), "side": args.side}
        measured = {"starts": starts, "one photograph": parts, "folders": folders}
        args.json.write_text(json.dumps(about | measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
