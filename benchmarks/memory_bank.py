"""The memory bank beside scikit-learn's nearest neighbours of the same features: seconds and memory, all included.

    JAXAD_WEIGHTS=FILE python benchmarks/memory_bank.py
    python benchmarks/memory_bank.py --sides 224 --photographs 400 --ways jaxad all --rounds 1 --json bank.json

Every way is a process of its own, from its start to the last score: it computes features of EfficientNet-lite0 of all
photographs, remembers those of half of them and scores the other half by their worst patch.

    jaxad    the detector: a coreset of 2,048 of 20,000 patches, and the distances to it
    drawn    scikit-learn's brute force among 2,048 patches drawn at random, without a coreset
    all      the same among all patches

Photographs are smooth colours with noise. Programs come from a warm compilation cache: the first round is not counted.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from search_throughput import machine
from take_turns import compared, loads, process, take_turns

WAYS = ("jaxad", "drawn", "all")


def photographs(count: int, side: int, seed: int) -> np.ndarray:
    """[N, side, side, 3] uint8, one after another: what a process needs for them is no part of what is measured."""
    from jaxad.data.fitting import fit_images

    rng, images = np.random.default_rng(seed), np.empty((count, side, side, 3), np.uint8)
    for image in images:
        smooth = fit_images(rng.integers(0, 256, (1, 9, 9, 3), np.uint8), (side, side))[0]
        image[...] = np.clip(smooth + rng.integers(-12, 13, (side, side, 3), np.int16), 0, 255)
    return images


def work(way: str, side: int, count: int) -> None:
    """Fit and score by one way."""
    import jax

    from jaxad._utils.compile import enable_compilation_cache
    from jaxad.methods import DETECTORS
    from jaxad.training.calibration import calibrate
    from jaxad.training.loop import fit
    from jaxad.training.scoring import score_images
    from jaxad.training.staged import maps_of, prepare

    enable_compilation_cache()
    train, tests = (photographs(count // 2, side, seed) for seed in (0, 1))
    detector = DETECTORS["memory_bank"].build()
    if way == "jaxad":
        state, _ = fit(detector, jax.random.key(0), train, steps=-(-len(train) // 8), batch_size=8)
        scores = score_images(detector, calibrate(detector, state, train), tests)
    else:
        from sklearn.neighbors import NearestNeighbors

        fixed, maps = prepare(detector.stage, jax.random.key(0), train)
        patches = maps.reshape(-1, maps.shape[3]).astype(np.float32)
        if way == "drawn":
            patches = patches[np.random.default_rng(0).choice(len(patches), 2048, replace=False)]
        index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(patches)
        maps = maps_of(detector.stage, fixed, tests, kept=False, dtype=np.float32)
        scores = index.kneighbors(maps.reshape(-1, maps.shape[3]))[0].reshape(len(tests), -1).max(1)
    assert np.isfinite(scores).all()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 224], help="of photographs (default 128 224)")
    parser.add_argument("--photographs", type=int, default=168, help="half to fit to, half to score (default 168)")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--rounds", type=int, default=3, help="after one that is not counted (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every side")
    parser.add_argument("--worker", nargs=3, metavar=("WAY", "SIDE", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker[0], *map(int, args.worker[1:]))
        return
    if args.rounds < 1 or args.photographs < 32 or min(args.sides) < 32:
        parser.error("--rounds is 1 or more, --photographs and --sides are 32 or more")
    found, command = {}, [sys.executable, __file__, "--worker"]
    for side in args.sides:
        ways = {way: lambda way=way, side=side: process([*command, way, side, args.photographs]) for way in args.ways}
        found[side] = take_turns(ways, args.rounds)
        print(f"\n{args.photographs} photographs of {side}x{side} ({loads(found[side])})", flush=True)
        print(compared(found[side], args.ways[0], has_memory=True), flush=True)
        if args.json:
            args.json.write_text(json.dumps({"machine": machine(), "sides": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
