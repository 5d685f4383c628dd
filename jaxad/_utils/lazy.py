"""Names of a package that are bound when they are first used (PEP 562), so that importing it imports nothing else."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def binder(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
      package: its name.
      homes: of every name that it shows, the module within it that defines the name.
    """

    def bind(name: str) -> Any:
        if name in homes:
            value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
            vars(sys.modules[package])[name] = value  # asked for once
            return value
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
            return importlib.import_module(f"{package}.{name}")  # a module of it, such as jaxad.data
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return bind
