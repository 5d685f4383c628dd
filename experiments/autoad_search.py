"""Find an image anomaly detector for your data: what `jaxad search` runs, from a checkout.

    python experiments/autoad_search.py                                     # bundled textures, offline, minutes
    python experiments/autoad_search.py --dataset folder:photos --normal-classes good
    python experiments/autoad_search.py --preset smoke                      # see everything happen in a minute

Settings, presets and steps are in jaxad/runs/programs/search.py.
"""

from jaxad.runs.programs.search import PRESETS, Config, main, run

__all__ = ["PRESETS", "Config", "run"]

if __name__ == "__main__":
    main()
