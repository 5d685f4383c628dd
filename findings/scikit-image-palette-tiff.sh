#!/usr/bin/env bash
# skimage.io.imread returns the numbers of colours of a palette TIFF, and the colours of the same picture as PNG.
#
# Versions: scikit-image 0.26.0, imageio 2.38.1, tifffile 2026.3.3, pillow 13.0.0, numpy 2.4.6, Python 3.11 or newer.
# Behaviour: a picture of three colours is written as TIFF with a palette, and by pillow, which reads it right, as a PNG with
#   the same palette. skimage.io.imread returns [H, W, 3] with the colours for the PNG. For the TIFF it returns [H, W]
#   with 0, 1 and 2, which look like grey levels, without an error: the palette is passed over.
# Seen: png (6, 5, 3) colours
#       tif (6, 5) numbers of colours
# For us: jaxad.data.formats.tiff looks the colours up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
  scikit-image==0.26.0 imageio==2.38.1 tifffile==2026.3.3 pillow==13.0.0 numpy==2.4.6
cat >"$folder/program.py" <<'PYTHON'
import sys

import numpy as np
import skimage.io
import tifffile
from PIL import Image

folder = sys.argv[1]
numbers = np.random.default_rng(0).integers(0, 3, (6, 5), dtype=np.uint8)
colours = np.zeros((256, 3), np.uint8)
colours[:3] = [(200, 30, 30), (20, 180, 40), (10, 60, 220)]
tifffile.imwrite(f"{folder}/x.tif", numbers, photometric="palette", colormap=colours.T.astype(np.uint16) * 257)
Image.open(f"{folder}/x.tif").save(f"{folder}/x.png")
assert np.array_equal(np.asarray(Image.open(f"{folder}/x.tif").convert("RGB")), colours[numbers])
for end in ("png", "tif"):
    seen = skimage.io.imread(f"{folder}/x.{end}")
    kind = "numbers of colours" if np.array_equal(seen, numbers) else "other"
    if np.array_equal(seen, colours[numbers]):
        kind = "colours"
    print(end, seen.shape, kind)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/program.py" "$folder")
echo "$seen"
expected="png (6, 5, 3) colours
tif (6, 5) numbers of colours"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed" >&2; exit 1; }
