"""The API reference is whole: every public name is in it, and has a docstring.

Public is what `dir(jaxad)` shows, and what the pages call: names such as `jaxad.data.load` in code or text, and what
their code imports.
"""

import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from site_parts.links import DOCS, GENERATED, ROOT

DOTTED = re.compile(r"\bjaxad(?:\.[A-Za-z_]\w*)+")
IMPORTED = re.compile(r"^from (jaxad[\w.]*) import ([\w, ]+)$", re.M)
OBJECTS = re.compile(r"^\.\. (?:auto|py:)\w+:: (jaxad[\w.]+)", re.M)


def public_names() -> set[str]:
    """Full names of everything public, as it is written."""
    import jaxad

    pages = [ROOT / "README.md", *(page for page in DOCS.rglob("*.md") if not page.is_relative_to(GENERATED))]
    return {f"jaxad.{name}" for name in dir(jaxad)} | called(page.read_text(encoding="utf-8") for page in pages)


def called(texts: Iterable[str]) -> set[str]:
    """Names of objects of the package that texts mention; modules, and files such as jaxad/types.py, are none."""
    said = set()
    for text in texts:
        said |= set(DOTTED.findall(text))
        said |= {f"{module}.{name.strip()}" for module, names in IMPORTED.findall(text) for name in names.split(",")}
    return {name for name in said if not inspect.ismodule(found := resolved(name)) and found is not None}


def resolved(name: str) -> Any:
    """What a full name stands for; None where there is nothing.

    Attributes come first: a folder that an older version left behind would be importable under a function's name.
    """
    home, _, own = name.rpartition(".")
    if home and (found := getattr(resolved(home), own, None)) is not None:
        return found
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def documented(folder: Path = DOCS / "api") -> set[str]:
    """Full names that the pages of the API reference ask autodoc for."""
    return {name for page in folder.glob("*.rst") for name in OBJECTS.findall(page.read_text(encoding="utf-8"))}


def faults(names: Iterable[str], listed: Iterable[str]) -> list[str]:
    """What is wrong with the reference, a line each.

    Args:
      names: what is public.
      listed: what is documented; the same thing under another of its names counts, as do members of a class.
    """
    things = {id(resolved(name)) for name in listed}
    found = []
    for name in sorted(names):
        thing, home = resolved(name), resolved(name.rpartition(".")[0])
        if id(thing) not in things and not (inspect.isclass(home) and id(home) in things):
            found.append(f"{name} is public and not in the API reference: list it in docs/api/")
        elif (inspect.isclass(thing) or inspect.isroutine(thing)) and not inspect.getdoc(thing):
            found.append(f"{name} is public and has no docstring")
    return found


def on_check(app: Any, env: Any) -> None:
    """All pages are read: say what is missing, as warnings, which -W takes for errors."""
    from sphinx.util import logging

    listed = {name for name in env.get_domain("py").objects if name.startswith("jaxad.")}
    for fault in faults(public_names(), listed):
        logging.getLogger(__name__).warning(fault)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("env-check-consistency", on_check)
