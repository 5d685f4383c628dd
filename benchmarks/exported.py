"""An exported detector of photographs by onnxruntime beside `detect.py`: milliseconds a photograph, and starts.

    JAXAD_WEIGHTS=FILE python benchmarks/exported.py
    python benchmarks/exported.py --detector memory_bank --photographs 60 --rounds 5 --json exported.json

The detector, with its default settings on features of 224x224, is fitted to a few generated photographs and exported.
Both ways are processes that read the same files: `detect.py` without overlays, and the `predict_onnx.py` beside the
artefact, which scores one photograph after another and makes their maps, too. A start is a process with one photograph;
a photograph is what each further one of a folder takes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from detect_latency import detect, write_photographs
from PIL import Image
from search_throughput import machine
from starts import made
from take_turns import Cost, compared, loads, process, take_turns

from jaxad._utils.compile import enable_compilation_cache
from jaxad.runs.export import export


def further(one: Cost, whole: Cost, count: int) -> Cost:
    """What a photograph costs beyond the first."""
    return {kind: (whole[kind] - one[kind]) / (count - 1) for kind in ("seconds", "cpu")} | {"load": whole["load"]}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="padim", metavar="NAME", help="default padim")
    parser.add_argument("--side", type=int, default=900, help="of photographs (default 900)")
    parser.add_argument("--photographs", type=int, default=40, help="in the folder (default 40)")
    parser.add_argument("--rounds", type=int, default=5, help="after one that is not counted (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    if args.photographs < 8 or args.side < 32 or args.rounds < 1:
        parser.error("--photographs are 8 or more, --side is 32 or more, --rounds is 1 or more")
    enable_compilation_cache()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, photographs = made(args.detector, 224, folder), folder / "photographs"
        photographs.mkdir()
        files = write_photographs(photographs, args.photographs, args.side)
        export(run, folder / "onnx", np.stack([np.asarray(Image.open(file)) for file in files[:4]]), formats=["onnx"])
        predict = [sys.executable, folder / "onnx" / "predict_onnx.py"]
        ways = {
            "detect.py": lambda: detect(run, photographs),
            "onnxruntime": lambda: process([*predict, *files]),
            "detect.py, one": lambda: detect(run, files[0]),
            "onnxruntime, one": lambda: process([*predict, files[0]]),
        }
        turns = take_turns(ways, args.rounds)
    starts = {way: turns[f"{way}, one"] for way in ("detect.py", "onnxruntime")}
    each = {way: [further(*pair, len(files)) for pair in zip(starts[way], turns[way], strict=True)] for way in starts}
    print(f"{args.detector}, start and one photograph ({loads(turns)})\n{compared(starts, 'onnxruntime')}\n")
    print(f"each further photograph of {args.side}x{args.side}\n{compared(each, 'onnxruntime', 'ms', 1000)}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "starts": starts, "each": each}, indent=1) + "\n")


if __name__ == "__main__":
    main()
