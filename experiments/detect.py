"""Score new images with a detector that was found or trained: what `jaxad detect` runs, from a checkout.

    python experiments/detect.py runs/autoad-20260101-120000 photo.png more_photos/ archive.npz
    python experiments/detect.py RUN incoming/ --watch --json

Settings and steps are in jaxad/runs/programs/detect.py.
"""

from jaxad.runs.programs.detect import Config, detect, main

__all__ = ["Config", "detect"]

if __name__ == "__main__":
    main()
