#!/usr/bin/env bash
# Pillow makes no pixel transparent in PNGs of 2 and 4 bits of grey, unless it is black that is said to be.
#
# Versions: pillow 13.0.0, Python 3.11 or newer.
# Behaviour: a PNG of grey has one pixel of each of its values, and its tRNS chunk says that the second largest is
#   transparent (PNG specification, 11.3.2.1: a value of the image's own depth). Image.open gives 2 and 4 bits as mode L,
#   multiplied to 0 ... 255, but leaves info["transparency"] as it is in the file, and convert("RGBA") compares the two.
#   So no pixel becomes transparent, without an error. Of 1 and 8 bits all is right.
# Seen: 1 bits: transparent are [0], right are [0]
#       2 bits: transparent are [], right are [2]
#       4 bits: transparent are [], right are [14]
#       8 bits: transparent are [254], right are [254]
# For us: masks may say by transparency where they hold; jaxad.data.formats.pillow compares with the multiplied value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
cat >"$folder/program.py" <<'PYTHON'
import io
import struct
import zlib

from PIL import Image


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


for bits in (1, 2, 4, 8):
    count = 2**bits
    packed = sum(value << bits * (count - 1 - value) for value in range(count))  # a row of all values
    row = (packed << -count * bits % 8).to_bytes(-(-count * bits // 8), "big")
    key = count - 2
    content = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", count, 1, bits, 0, 0, 0, 0)),
        chunk(b"tRNS", struct.pack(">H", key)),
        chunk(b"IDAT", zlib.compress(b"\0" + row)),
        chunk(b"IEND", b""),
    ]
    image = Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(content)))
    alpha = list(image.convert("RGBA").getchannel("A").tobytes())
    print(f"{bits} bits: transparent are {[x for x, value in enumerate(alpha) if value == 0]}, right are {[key]}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/program.py")
echo "$seen"
expected="1 bits: transparent are [0], right are [0]
2 bits: transparent are [], right are [2]
4 bits: transparent are [], right are [14]
8 bits: transparent are [254], right are [254]"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed" >&2; exit 1; }
