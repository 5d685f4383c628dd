"""How long commands take to start: `import jaxad`, the help of scripts, one photograph with a saved detector.

    python benchmarks/starts.py
    JAXAD_WEIGHTS=FILE python benchmarks/starts.py --rounds 7 --json starts.json

Each is a process of its own, in turns; the first round, which fills the compilation cache, is not counted. The
detectors that score a photograph of 900x900 are fitted here to a few generated ones: principal components of 32x32
pixels, and PaDiM on features of 224x224, those of EfficientNet-lite0 where its weights are.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from detect_latency import SCRIPT, detect, write_photographs
from export_matrix import fitted
from search_throughput import machine
from take_turns import compared, loads, process, take_turns

from jaxad._utils.compile import enable_compilation_cache
from jaxad.methods import DETECTORS
from jaxad.runs import saving

DETECTED = {"pca": 32, "padim": 224}


def made(name: str, side: int, folder: Path) -> Path:
    """A saved detector of its default settings for images of a side."""
    loaded = fitted(name, DETECTORS[name].config(), side)
    shape = (side, side, 3)
    saving.save(folder / name, config=loaded.config, state=loaded.state, image_shape=shape, threshold=loaded.threshold)
    return folder / name


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="after one that is not counted (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds is 1 or more")
    enable_compilation_cache()
    with tempfile.TemporaryDirectory() as name:
        folder, python = Path(name), sys.executable
        photograph = write_photographs(folder, 1, 900)[0]
        commands = {"import jax": [python, "-c", "import jax"], "import jaxad": [python, "-c", "import jaxad"]}
        for script in ("detect", "train_detector", "autoad_search"):
            commands[f"{script}.py --help"] = [python, SCRIPT.with_name(f"{script}.py"), "--help"]
        ways = {name: lambda command=command: process(command) for name, command in commands.items()}
        for detector, side in DETECTED.items():
            run = made(detector, side, folder)
            ways[f"detect.py, {detector}"] = lambda run=run: detect(run, photograph)
        turns = take_turns(ways, args.rounds)
    print(f"starts ({loads(turns)})\n{compared(turns, None)}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "starts": turns}, indent=1) + "\n")


if __name__ == "__main__":
    main()
