"""Export the detector that a run found: one file from the bytes of a photograph to a decision, without this library.

    jaxad export runs/autoad-20260101-120000 --output exported
    jaxad export RUN --formats onnx --output exported --images new_photos/

RUN is the folder of a finished run, or its best/ folder. What is written has been run on held-out photographs, those of
the run's test or --images, and agrees with the detector: scores and maps to 1e-5 of their range, decisions exactly. It
takes photographs of their size. Beside each file there is a small program that scores photographs with it, and
export.json keeps what is printed here. docs/exporting.md says how to use the files.

Exit status: 0 all formats were written, 1 some were, 2 none because of an error.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxad._utils.compile import enable_compilation_cache
from jaxad.runs import cli, saving
from jaxad.runs.export import export, show
from jaxad.runs.held_out import MOST, held_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PluginConfig):
    """Write the best detector of a finished run as a file that needs no part of this library."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run, or its best/ folder."""
    output: Path
    """Folder for the files, new or empty."""
    formats: tuple[Literal["onnx", "stablehlo"], ...] = ("onnx", "stablehlo")
    """Formats to write: onnx, run by onnxruntime, or stablehlo, run by JAX on CPU, CUDA and TPU."""
    images: tuple[Path, ...] = ()
    """Photographs to compare with: files, folders or .npz archives; by default those of the run's test."""
    limit: int = MOST
    """Number of photographs that are compared at most."""


def run(config: Config) -> int:
    """The whole experiment; returns the exit status."""
    if config.limit < 2:
        raise ValueError(f"--limit is {config.limit}; give at least 2")
    loaded = saving.load(config.run, trainable=False)
    photographs = held_out(config.run, loaded, config.images, most=config.limit)
    made = export(loaded, config.output, photographs, formats=config.formats)
    show(made)
    return 0 if all(each.path for each in made) else 1


def main() -> None:
    """What the command and the script call."""
    enable_compilation_cache()
    cli.main(run, Config)
