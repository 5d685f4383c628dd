"""The small programs beside an artefact, which score photographs without this library."""

import json
from collections.abc import Sequence

_TEMPLATE = '''\
"""Score photographs with {file}, beside this file, without the library that it comes from.

    python {name} PHOTOGRAPH ...

Needs {needs}, numpy and pillow. Photographs are {kind}, {height} pixels high and {width} wide.
"""

{system}import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
{imports}
from PIL import Image, ImageOps

{load}


def predict(file):
    """What the detector says of a photograph: {outputs}."""
    image = ImageOps.exif_transpose(Image.open(file))
    if image.size != ({width}, {height}){check}:
        sys.exit(f"{{file}} is {{image.height}}x{{image.width}}, {{image.mode}}; give {height}x{width}, {kind}")
    pixels = np.asarray(image.convert("{mode}"), np.uint8).reshape(1, {height}, {width}, {channels})
    return dict(zip({names}, {call}))


with ThreadPoolExecutor({threads}) as threads:
    for first in range(1, len(sys.argv), 64):
        files = sys.argv[first : first + 64]
        for file, found in zip(files, threads.map(predict, files)):
            score, verdict = float(found["score"][0]), {verdict}
            print(f"{{verdict}} {{score:.9g}} {{file}}")
'''

_ONNX = {
    "needs": "onnxruntime",
    "imports": "import onnxruntime",
    "load": "onnxruntime.set_default_logger_severity(3)  # it tells of every constant that it does without\n"
    "options = onnxruntime.SessionOptions()\n"
    "options.intra_op_num_threads = 1  # of one photograph: several are scored side by side\n"
    'session = onnxruntime.InferenceSession(str(Path(__file__).with_name("{file}")), options)',
    "system": "import os\n",
    "threads": "os.cpu_count()",
    "call": 'session.run(None, {{"images": pixels}})',
}
_STABLEHLO = {
    "needs": "jax, flatbuffers",
    "imports": "from jax import export, jit",
    "load": 'run = jit(export.deserialize(bytearray(Path(__file__).with_name("{file}").read_bytes())).call)',
    "system": "",
    "threads": "1",  # XLA gives one photograph all cores
    "call": "run(pixels)",
}
_OF_FORMATS = {"onnx": _ONNX, "stablehlo": _STABLEHLO}


def predictor(form: str, file: str, photograph: tuple[int, int, int], names: Sequence[str]) -> tuple[str, str]:
    """The name of the program for an artefact, and its text.

    Args:
      form: of the artefact, such as "onnx"; file: its name.
      photograph: (H, W, C), of 1 or 3 channels.
      names: of its outputs.
    """
    height, width, channels = photograph
    fields = {
        "file": file, "name": f"predict_{form}.py", "height": height, "width": width, "channels": channels,
        "kind": "grey" if channels == 1 else "grey or in colour", "mode": "L" if channels == 1 else "RGB",
        "check": ' or image.mode not in ("1", "L")' if channels == 1 else "",
        "names": json.dumps(names), "outputs": ", ".join(names),
        "verdict": '"anomalous" if found["anomalous"][0] else "normal"' if "anomalous" in names else '"score"',
    }  # fmt: skip
    own = {name: text.format(file=file) for name, text in _OF_FORMATS[form].items()}
    return fields["name"], _TEMPLATE.format(**fields, **own)
