"""A detector by its name and settings as text, as a command line or a table of methods has them."""

import dataclasses
import json
import typing
from collections.abc import Sequence
from typing import Any

from jaxad._utils.files import from_json
from jaxad.methods import DETECTORS


def config_of(name: str, settings: Sequence[str] = ()) -> Any:
    """The config of a method, its defaults changed by settings such as "width=0.25" or "widths=[16,32]".

    Values are JSON; what is not is taken as a string.

    Raises:
      ValueError: an unknown method or setting, a value of the wrong type or out of range, a setting without a default.
    """
    if name not in DETECTORS:
        raise ValueError(f"there is no detector {name!r}; choose one of {', '.join(DETECTORS)}")
    config_class = DETECTORS[name][0]
    hints = typing.get_type_hints(config_class)
    fields = [field.name for field in dataclasses.fields(config_class)]
    values = {}
    for setting in settings:
        field, sign, text = setting.partition("=")
        if not sign or field not in fields:
            raise ValueError(f"{name} has no setting {setting!r}; give NAME=VALUE with one of {', '.join(fields)}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        values[field] = from_json(hints[field], value, field)
    try:
        config = config_class(**values)
    except TypeError as error:
        needed = [field.name for field in dataclasses.fields(config_class) if _has_no_default(field)]
        raise ValueError(f"{name} needs {', '.join(set(needed) - set(values))}, which have no default") from error
    if hasattr(config, "check"):
        config.check()
    return config


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
