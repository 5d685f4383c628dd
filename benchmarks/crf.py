"""How long the dense CRF takes: pair by pair and by the bilateral grid, and how far the two are apart.

    python benchmarks/crf.py
    python benchmarks/crf.py --sizes 64 128 --json crf.json
    python benchmarks/crf.py --sizes 256 --methods grid               without the pairs, which take minutes

Images are resized photographs (scikit-image's astronaut), probabilities their blurred brightness. Each program runs
once to compile and then for its time; the median is shown.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import skimage.data
from scipy.ndimage import gaussian_filter

from jaxad.data.images import resize
from jaxad.nn.crf import METHODS, CRFConfig, refine


def inputs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [1, H, W] and an image [1, H, W, 3]."""
    image = resize(skimage.data.astronaut()[None], size).astype(np.float32) / 255
    smooth = gaussian_filter(image[0].mean(-1), size / 32)
    z = (smooth - smooth.mean()) / smooth.std()
    return (1 / (1 + np.exp(-z)))[None].astype(np.float32), image


def measure(method: str, size: int, repeats: int) -> tuple[dict[str, Any], np.ndarray]:
    """Seconds to compile and of every run, and what came out."""
    arguments = jax.device_put(inputs(size))
    began = time.perf_counter()
    program = jax.jit(lambda p, x: refine(p, x, CRFConfig(method=method))).lower(*arguments).compile()
    compiled, runs = time.perf_counter() - began, []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        refined = jax.block_until_ready(program(*arguments))
        runs.append(time.perf_counter() - began)
    return {"method": method, "size": size, "compile": compiled, "runs": runs[1:]}, np.asarray(refined)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], help="default 64 128 256")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: both")
    parser.add_argument("--repeats", type=int, default=3, help="runs after the first (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    if min(args.sizes) < 2 or args.repeats < 1:
        parser.error("--sizes are 2 or more, --repeats 1 or more")
    device = jax.devices()[0].device_kind
    print(f"JAX {jax.__version__} on {device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print(f"{'size':>6}{'method':>8}{'compile s':>12}{'run s':>12}{'mean difference':>18}")
    records = []
    for size in args.sizes:
        exact = None
        for method in (method for method in reversed(METHODS) if method in args.methods):  # the exact one first
            record, refined = measure(method, size, args.repeats)
            exact = refined if method == "exact" else exact
            record["mean_difference"] = None if exact is None else float(np.abs(refined - exact).mean())
            row = f"{size:>6}{method:>8}{record['compile']:>12.2f}{statistics.median(record['runs']):>12.3f}"
            apart = "-" if exact is None else f"{record['mean_difference']:.5f}"
            print(row + f"{apart:>18}", flush=True)
            records.append(record)
    if args.json:
        about = {"jax": jax.__version__, "device": device, "cores": os.cpu_count()}
        args.json.write_text(json.dumps(about | {"measurements": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
