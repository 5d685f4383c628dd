"""`jaxad NAME ...`: one command for what people do; each is a module of `jaxad.runs.programs`, imported when it is run.

Nothing is imported here before it is known what to do, so that help is there at once.
"""

import importlib
import sys
from collections.abc import Sequence

PROGRAMS = "jaxad.runs.programs"
COMMANDS = {
    "search": "Find an image anomaly detector for your data, retrain the best, test it once, report.",
    "train": "Train any one detector on normal images, and test it once.",
    "detect": "Score new images with a detector, and show where they are anomalous.",
    "export": "Write a detector as ONNX or StableHLO, for programs without this library.",
    "doctor": "Say what this machine has and lacks: versions, devices, memory, weights, caches, the time of a step.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name, by default those of the process, and exit with its status."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        _say(_help())
        sys.exit(0)
    if name == "--version":
        from jaxad._utils.version import VERSION

        _say(f"jaxad {VERSION}")
        sys.exit(0)
    if name not in COMMANDS:
        _say(f"error: there is no command {name!r}; give one of {', '.join(COMMANDS)}", error=True)
        sys.exit(2)
    sys.argv = [f"jaxad {name}", *rest]  # what the flags are read from, and what usage shows
    importlib.import_module(f"{PROGRAMS}.{name}").main()


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {said}" for name, said in COMMANDS.items()]
    ends = "`jaxad NAME --help` explains every flag of a command, `jaxad --version` says which version this is."
    return "\n".join(
        ["usage: jaxad NAME ...", "", "Finds an image anomaly detector for your data.", "", *lines, "", ends]
    )


def _say(text: str, *, error: bool = False) -> None:
    try:
        print(text, file=sys.stderr if error else sys.stdout, flush=True)
    except OSError:  # nobody reads it any more
        sys.stdout = None
