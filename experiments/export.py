"""Export the detector that a run found to ONNX and StableHLO: what `jaxad export` runs, from a checkout.

    python experiments/export.py runs/autoad-20260101-120000 --output exported
    python experiments/export.py RUN --formats onnx --output exported --images new_photos/

Settings and steps are in jaxad/runs/programs/export.py.
"""

from jaxad.runs.programs.export import Config, main, run

__all__ = ["Config", "run"]

if __name__ == "__main__":
    main()
