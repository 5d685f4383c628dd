"""Train any one detector on normal images, and test it once: what `jaxad train` runs, from a checkout.

    python experiments/train_detector.py                                       # nearest neighbours, bundled textures
    python experiments/train_detector.py --detector memory_bank --dataset mvtec:DATA/bottle
    python experiments/train_detector.py --list

Settings, presets and steps are in jaxad/runs/programs/train.py.
"""

from jaxad.runs.programs.train import PRESETS, Config, main, run

__all__ = ["PRESETS", "Config", "run"]

if __name__ == "__main__":
    main()
