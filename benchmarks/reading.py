"""How long files of images take to be read, by this checkout and by another one, in turns.

    python benchmarks/reading.py --baseline ../before
    python benchmarks/reading.py --baseline ../before --rounds 5 --output reading.json

Two folders are made: 10,000 grey PNGs of 28x28 pixels, and 200 colour PNGs of 900x900 that are brought to 224x224.
Every checkout reads them in a process of its own that stays, a twentieth at a time; both take turns, and who goes first
changes, so that other work beside it hits both alike. Printed are seconds of all files by the medians of the turns, of
the clock and of the processors' time, and the median of this checkout's by the baseline's of the same turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SETS = {"28": (10_000, (28, 28), None), "900": (200, (900, 900, 3), 224)}  # files, their shape, the side that is wanted

CLOCKS = ("clock", "processors")
PARTS = 20  # of the files of a set, one a turn


def make(folder: Path) -> None:
    """The files: smooth textures with noise, which compress about as photographs do."""
    rng = np.random.default_rng(0)
    for name, (count, shape, _) in SETS.items():
        (folder / name).mkdir()
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        for i in range(count):
            waves = 120 + 60 * np.sin(rows / (5 + i % 7)) * np.cos(columns / (3 + i % 11))
            pixels = waves.reshape(*shape[:2], *[1] * (len(shape) - 2)) + rng.normal(0, 6, shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:05d}.png", compress_level=1)


def serve(folder: Path) -> None:
    """Answer every line that names a set and a turn with the seconds that reading a part of it took."""
    from jaxad.data import read_images

    files = {name: sorted((folder / name).iterdir()) for name in SETS}
    for line in sys.stdin:
        name, turn = line.split()
        part = files[name][int(turn) % PARTS :: PARTS]
        began = time.perf_counter(), time.process_time()
        read_images(part, SETS[name][2])
        print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="another checkout of jaxad")
    parser.add_argument("--rounds", type=int, default=2, help="times that every file is read")
    parser.add_argument("--output", type=Path, help="file for the figures, in JSON")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    here = Path(__file__).resolve().parent.parent
    checkouts = {"this": here} | ({"baseline": options.baseline.resolve()} if options.baseline else {})
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        command = [sys.executable, __file__, "--serve", folder]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = {
            name: subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(place)}, cwd=place, **streams)
            for name, place in checkouts.items()
        }
        try:
            seconds = measure(workers, options.rounds)
        finally:
            for worker in workers.values():
                worker.stdin.close()
                worker.wait()
    for name, found in seconds.items():
        words = ", ".join(f"{who} {PARTS * statistics.median(times):.2f} s" for who, times in found.items())
        if options.baseline:
            ratio = statistics.median(mine / other for mine, other in zip(found["this"], found["baseline"]))
            words += f", this by baseline {ratio:.3f}"
        side, clock = name.split(maxsplit=1)
        print(f"{SETS[side][0]} files of {side}x{side}, {clock}: {words}")
    if options.output:
        options.output.write_text(json.dumps(seconds, indent=1) + "\n")


def measure(workers: dict[str, subprocess.Popen], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every checkout for every set, turn by turn, but for a first turn, in which everything is imported."""
    seconds = {f"{name} {clock}": {who: [] for who in workers} for name in SETS for clock in CLOCKS}
    for turn in range(rounds * PARTS + 1):
        for name in SETS:
            for who in [*workers][:: 1 if turn % 2 else -1]:
                print(name, turn, file=workers[who].stdin, flush=True)
                answers = json.loads(workers[who].stdout.readline())
                for clock, answer in zip(CLOCKS, answers):
                    if turn:
                        seconds[f"{name} {clock}"][who].append(answer)
    return seconds


if __name__ == "__main__":
    main()
