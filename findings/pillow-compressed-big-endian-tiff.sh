#!/usr/bin/env bash
# Pillow swaps the bytes of compressed big-endian TIFFs twice, where their numbers are floats or have a sign.
#
# Versions: pillow 13.0.0, tifffile 2026.3.3, numpy 2.4.6, Python 3.11 or newer, a little-endian machine.
# Behaviour: an array is written big-endian with deflate by tifffile, which reads it back as it was. Image.open gives other
#   numbers for float32, int16 and int32, without an error: byte for byte the reverse of the right ones. Without
#   compression, and as uint16, all are right. libtiff returns numbers in the machine's order already; TiffImagePlugin then
#   changes the raw modes that end in ;16B to the machine's order, but not F;32BF, I;32BS and I;16BS.
# Seen: uint16 plain: right
#       uint16 deflate: right
#       int16 plain: right
#       int16 deflate: bytes reversed
#       int32 plain: right
#       int32 deflate: bytes reversed
#       float32 plain: right
#       float32 deflate: bytes reversed
# For us: jaxad.data.formats.tiff reads TIFF by tifffile; what this cannot decompress alone is left to pillow only where
#   that is right, and refused elsewhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
cat >"$folder/program.py" <<'PYTHON'
import io

import numpy as np
import tifffile
from PIL import Image

rng = np.random.default_rng(0)
for name in ("uint16", "int16", "int32", "float32"):
    values = (rng.normal(0, 1, (7, 5)) if name == "float32" else rng.integers(-9000, 9000, (7, 5))).astype(name)
    for compression in (None, "zlib"):
        file = io.BytesIO()
        tifffile.imwrite(file, values, byteorder=">", compression=compression)
        file.seek(0)
        assert np.array_equal(tifffile.imread(file), values)
        seen = np.asarray(Image.open(file)).astype(name)
        verdict = "right" if np.array_equal(seen, values) else "wrong"
        if seen.tobytes() == values.byteswap().tobytes():
            verdict = "bytes reversed"
        print(f"{name} {'deflate' if compression else 'plain'}: {verdict}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/program.py")
echo "$seen"
expected="uint16 plain: right
uint16 deflate: right
int16 plain: right
int16 deflate: bytes reversed
int32 plain: right
int32 deflate: bytes reversed
float32 plain: right
float32 deflate: bytes reversed"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed" >&2; exit 1; }
