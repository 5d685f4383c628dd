"""What it costs that an image has the same score in any company: `score_images` beside two other ways on CPU.

    python benchmarks/scoring.py
    python benchmarks/scoring.py --detectors deep_svdd ama --side 32 --channels 3 --json scoring.json

A call of a program an image has the same bits, and is how `score_images` goes through large images.
A call of all images at once is how networks are usually run, and its scores depend on what else is in the batch.
Detectors have their defaults and are calibrated, not trained, on noise: the time does not depend on the weights.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from search_throughput import machine
from take_turns import compared, loads, take_turns, timed

from jaxad._utils.compile import enable_compilation_cache
from jaxad.methods import DETECTORS
from jaxad.training.scoring import score_images


def measured(name: str, images: np.ndarray, rounds: int) -> dict[str, Any]:
    """Turns of the three ways, and by how much the scores of the other two differ from ours, of their range."""
    detector = DETECTORS[name].build()
    state = jax.jit(detector.init)(jax.random.key(0), images[:64])
    state = jax.device_put(jax.jit(detector.calibrate)(state, images[:64]))
    program, kept = jax.jit(detector.score), {}

    def shared() -> None:
        kept["score_images"] = score_images(detector, state, images)

    def alone() -> None:
        scores = [program(state, images[i : i + 1]) for i in range(len(images))]
        kept["a call an image"] = np.concatenate(jax.device_get(scores))

    def at_once() -> None:
        kept["all at once"] = jax.device_get(program(state, images))

    ways = {"score_images": shared, "a call an image": alone, "all at once": at_once}
    turns = take_turns({way: lambda run=run: timed(run) for way, run in ways.items()}, rounds)
    span = np.ptp(kept["score_images"])
    return {
        "detector": name,
        "turns": turns,
        "differences": {way: float(np.abs(kept[way] - kept["score_images"]).max() / span) for way in ways},
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", nargs="+", default=["deep_svdd", "dagmm", "conv_autoencoder"], metavar="NAME")
    parser.add_argument("--side", type=int, default=28, help="pixels of a side (default 28)")
    parser.add_argument("--channels", type=int, default=1, help="1 or 3 (default 1)")
    parser.add_argument("--images", type=int, default=256, help="scored by each way (default 256)")
    parser.add_argument("--rounds", type=int, default=9, help="after one that is not counted (default 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every detector")
    args = parser.parse_args()
    if unknown := set(args.detectors) - set(DETECTORS):
        parser.error(f"no detectors: {', '.join(sorted(unknown))}; there are {', '.join(DETECTORS)}")
    if min(args.rounds, args.side, args.images - 63) < 1 or args.channels not in (1, 3):
        parser.error("--rounds and --side are 1 or more, --images 64 or more, --channels 1 or 3")
    enable_compilation_cache()
    shape = (args.images, args.side, args.side, args.channels)
    images, found = np.random.default_rng(0).random(shape, np.float32), []
    for name in args.detectors:
        found.append(measured(name, images, args.rounds))
        turns, scale = found[-1]["turns"], 1000 / args.images
        print(f"\n{name} ({loads(turns)})\n{compared(turns, 'score_images', 'ms an image', scale)}")
        rounding = {way: f"{difference:.0e}" for way, difference in found[-1]["differences"].items()}
        print(f"differences from score_images, of the range: {rounding}", flush=True)
        if args.json:
            args.json.write_text(json.dumps({"machine": machine(), "detectors": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
