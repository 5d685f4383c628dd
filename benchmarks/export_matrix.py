"""Every detector as ONNX and StableHLO: does it agree, how large is it, and how long does a photograph take?

    python benchmarks/export_matrix.py
    python benchmarks/export_matrix.py --detectors padim memory_bank --side 224 --formats onnx --json export.json

Detectors have the tiny settings that they are registered with, or with --default their defaults, and are fitted to 64
images by `init`. Photographs are smooth colours with noise; those that are compared were not fitted. They are larger
than what the detector sees, so that each is resized. A time is the median over the photographs, one at a time, from
bytes to score and map, in this process: of jaxad for the score alone, as `jaxad detect` has it, and with the map. The
rest of the table is what `export.json` keeps.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxad._utils.compile import enable_compilation_cache
from jaxad.data.fitting import fit_images
from jaxad.methods import DETECTORS
from jaxad.metrics import thresholds
from jaxad.runs.detection import map_image, read_for, score_rows
from jaxad.runs.export import export
from jaxad.runs.export_formats import FORMATS, Run
from jaxad.runs.saving import ImageShape, LoadedDetector

FITTED, COMPARED = 64, 8


def photographs(count: int, side: int, seed: int) -> np.ndarray:
    """[N, side, side, 3] uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    noise = rng.integers(-6, 7, (count, side, side, 3))
    return np.clip(fit_images(coarse, (side, side)) + noise, 0, 255).astype(np.uint8)


def fitted(name: str, config: Any, side: int) -> LoadedDetector:
    """A detector as `init` leaves it: all of them can score."""
    detector = DETECTORS[name].build(config)
    images = fit_images(photographs(FITTED, 2 * side, 0), (side, side)) / np.float32(255)
    state = jax.jit(detector.init)(jax.random.key(0), images)
    found = LoadedDetector(name, config, detector, state, ImageShape(side, side, 3), None, {})
    scores = np.sort(score_rows(found, [read_for(found, p) for p in photographs(COMPARED, 2 * side, 1)], 8))
    return found._replace(threshold=thresholds.fixed(float(scores[3:5].mean())))


def milliseconds(run: Callable[[np.ndarray], Any], images: np.ndarray) -> float:
    """Median for one photograph, after a first one."""
    run(images[0])
    times = []
    for image in images:
        began = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def measured(loaded: LoadedDetector, side: int, formats: list[str], folder: Path) -> dict[str, Any]:
    """A row: what jaxad takes, and each format's size, difference and time, or why it is not there."""
    images = photographs(COMPARED, 2 * side, 1)

    def score(image: np.ndarray) -> None:
        score_rows(loaded, [read_for(loaded, image)], 1)

    def score_and_map(image: np.ndarray) -> None:
        score(image)
        if loaded.detector.score_map is not None:
            map_image(loaded, image)

    row: dict[str, Any] = {"detector": loaded.name, "jaxad": [milliseconds(f, images) for f in (score, score_and_map)]}
    for name in formats:
        try:
            (made,) = export(loaded, folder / f"{loaded.name}-{name}", images, formats=[name])
        except ValueError as error:
            row[name] = {"reason": str(error)}
            continue
        run = FORMATS[name].load(made.path.read_bytes())

        def all_of_it(image: np.ndarray, run: Run = run) -> None:
            for part in run(image[None]):
                np.asarray(part)

        row[name] = {
            "score": made.parity.score, "map": made.parity.map, "megabytes": made.size / 1e6, "batch": made.batch,
            "milliseconds": milliseconds(all_of_it, images),
        }  # fmt: skip
    return row


def cells(found: dict[str, Any]) -> str:
    """The columns of a format."""
    if "reason" in found:
        return f"not written: {found['reason'].partition(': ')[2][:80]} | | | "
    maps = "" if found["map"] is None else f", {found['map']:.0e}"
    batch = "together" if "together" in found["batch"] else "one by one"
    return f"{found['score']:.0e}{maps} | {found['megabytes']:.2f} | {found['milliseconds']:.1f} | {batch}"


def main() -> None:
    """Measure and report, as a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", nargs="+", default=["pca", "one_class_svm", "padim"], metavar="NAME")
    parser.add_argument("--all", action="store_true", help="all detectors")
    parser.add_argument("--default", action="store_true", help="their default settings instead of tiny ones")
    parser.add_argument("--side", type=int, default=32, help="of what detectors see (default 32)")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every detector")
    args = parser.parse_args()
    if args.side < 8 or not set(args.detectors) <= set(DETECTORS):
        parser.error(f"--side is 8 or more, --detectors are some of {', '.join(DETECTORS)}")
    enable_compilation_cache()
    print(f"JAX {jax.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print(f"photographs of {2 * args.side}x{2 * args.side}, detectors of {args.side}x{args.side}\n")
    columns = [f"{name}: {column}" for name in args.formats for column in ("scores, maps", "MB", "ms", "batch")]
    print(f"| detector | jaxad: score, and map, ms | {' | '.join(columns)} |")
    print("|---" * (2 + len(columns)) + "|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in DETECTORS if args.all else args.detectors:
            config = DETECTORS[name].config() if args.default else next(iter(DETECTORS[name].tiny.values()))
            try:
                row = measured(fitted(name, config, args.side), args.side, args.formats, Path(folder))
            except (ValueError, TypeError) as error:
                print(f"| {name} | not fitted: {' '.join(str(error).split())[:80]} |", flush=True)
                continue
            rows.append(row)
            jaxad = ", ".join(f"{each:.1f}" for each in row["jaxad"])
            print(f"| {name} | {jaxad} | " + " | ".join(cells(row[f]) for f in args.formats) + " |", flush=True)
            if args.json:
                args.json.write_text(json.dumps({"jax": jax.__version__, "side": args.side, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
