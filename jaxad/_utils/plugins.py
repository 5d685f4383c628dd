"""Python files of a user's own, imported by their path: what they register is there from then on."""

import importlib
import sys
from pathlib import Path


def import_plugin(path: str) -> str:
    """Import a Python file as a script beside it would; returns its full path. ValueError where that fails."""
    file = Path(path).resolve()
    if not file.is_file() or not file.stem.isidentifier() or file.suffix != ".py":
        raise ValueError(f"--plugins {path} is no Python file here; give one whose name Python can import")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        module = importlib.import_module(file.stem)
    except Exception as error:
        raise ValueError(f"--plugins {path} cannot be imported: {type(error).__name__}: {error}") from error
    if not getattr(module, "__file__", None) or Path(module.__file__).resolve() != file:
        raise ValueError(f"--plugins {path} has the name of another module, {file.stem}: rename the file")
    return str(file)
