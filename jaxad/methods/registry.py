"""The detectors by name: `@detector` on a constructor is all that adds one, to every place where detectors are named.

    @detector("mine", "What it is, in a sentence.", config=MineConfig, tiny=MineConfig(width=4))
    def mine(config: MineConfig | None = None, **fields: Any) -> Detector: ...

A file in this package is found there; one elsewhere counts once it has been imported.
"""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from jaxad._utils.files import from_json, to_json
from jaxad._utils.registry import Registry
from jaxad._utils.validate import check_countable
from jaxad.nn import choices
from jaxad.types import Detector

Build = TypeVar("Build", bound=Callable[..., Detector])


class DetectorEntry(NamedTuple):
    """A method that learns to score images."""

    name: str
    summary: str  # what it is, in one sentence with its source
    config: type  # a frozen dataclass of its settings
    build: Callable[..., Detector]  # (config) -> detector; without a config from fields, such as build(width=0.25)
    tiny: Mapping[str, Any]  # configs by the name of a case: so small that tests train them in seconds
    whole: bool  # every step learns from all images, so that a loop of its own trains it instead of `jaxad.fit`

    @property
    def usage(self) -> str:
        """How it is written on a command line."""
        return self.name

    @property
    def labels(self) -> str | None:
        """What it learns from beside images, as `jaxad.types.Detector.labels` has it."""
        return getattr(self.config, "labels", None)

    def described(self) -> tuple[str, str, str]:
        """(name, what it is, the names of its settings), a row of the table of detectors."""
        return self.name, self.summary, " ".join(field.name for field in dataclasses.fields(self.config))


DETECTORS: Registry[DetectorEntry] = Registry("detector", "jaxad.methods")
"""Every method by name; the built-in ones are imported when they are first asked for."""


def detector(name: str, summary: str, *, config: type, tiny: Any, whole: bool = False) -> Callable[[Build], Build]:
    """Register a constructor of detectors: a decorator that lets it give equal settings the very same detector.

    What is compiled is compiled for a detector's functions: so folds of a cross-validation, a search that goes on, or
    a detector that is loaded again, find the programs of the first.

    Args:
      name: by which the command line, saved detectors and `jaxad.detectors` know it; a Python name.
      summary: what it is, in one sentence with its source.
      config: the frozen dataclass of its settings, all of them hashable. Its class attribute `labels`, if there is one,
        says what the method is told of training images: "anomalies" (1 where anomalous, if known), "classes" (of
        normal images) or "masks".
      tiny: settings with which the contract tests train it within seconds on images [64, 8, 8, 1]: a config, or
        several by the name of a case.
      whole: whether `step` wants all images in every batch, in the order in which `init` had them, with the masks
        [n, H, W] of the first n. `jaxad.fit`, which draws its batches, cannot train such a method.

    Raises:
      ValueError: a name that something else has, or settings of another class.
    """
    cases = dict(tiny) if isinstance(tiny, Mapping) else {"tiny": tiny}
    for case, settings in cases.items():
        if not isinstance(settings, config):
            raise ValueError(f"tiny settings {case!r} of {name} are {settings!r}; give a {config.__name__}")

    def register(build: Build) -> Build:
        make_config = config

        @functools.lru_cache(maxsize=16)
        def remembered(config: Any, generation: int) -> Detector:
            # One built of another's parts does not learn from what that learns from unless its own config says so.
            return build(config)._replace(labels=getattr(config, "labels", None))

        @functools.wraps(build)
        def constructor(config: Any = None, **fields: Any) -> Detector:
            config = make_config(**fields) if config is None else dataclasses.replace(config, **fields)
            check_countable(config)
            return remembered(config, choices.generation())  # a name in it may have got another meaning since

        DETECTORS.add(name, DetectorEntry(name, summary, config, constructor, cases, whole), build)
        return constructor

    return register


def detectors() -> Mapping[str, DetectorEntry]:
    """All registered detectors by name, for those who choose one by hand; `jaxad.search` finds one of its own.

    Returns:
      A mapping, in the order of names. An entry has the `summary` of a method with its source, the class of its
      settings `config`, and the constructor `build`, which takes such a config, or fields of one as keywords.

    >>> import jaxad
    >>> "ama" in jaxad.detectors()
    True
    >>> entry = jaxad.detectors()["pca"]
    >>> entry.summary
    'Principal components of pixels, by reconstruction or likelihood (Tipping & Bishop, 1999).'
    >>> detector = entry.build(components=8)
    >>> detector._fields[:4]
    ('init', 'step', 'calibrate', 'score')
    """
    return types.MappingProxyType(DETECTORS)


def learners(labels: str) -> list[str]:
    """Names of the detectors that learn from "anomalies", "classes" or "masks"."""
    return [name for name, entry in DETECTORS.items() if entry.labels == labels]


def entry_of(config: Any) -> DetectorEntry:
    """The method that a config belongs to; ValueError for anything else."""
    entry = DETECTORS.first(lambda entry: entry.config is type(config))
    if entry is None:
        raise ValueError(f"{config!r} is the config of no detector; give that of one of {', '.join(DETECTORS)}")
    return entry


def config_of(name: str, settings: Sequence[str] = (), base: Any = None) -> Any:
    """The config of a method, its defaults changed by settings as text, such as "width=0.25" or "widths=[16,32]".

    Values are JSON; what is not is taken as a string. Settings within others have dots: "features.use=deep". With a
    config as `base`, what is not given is as there.

    Raises:
      ValueError: an unknown method or setting, a value of the wrong type or out of range, a setting without a default.
    """
    config_class = DETECTORS.named(name).config
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    values: dict[str, Any] = {} if base is None else {name: getattr(base, name) for name in fields}
    given: dict[str, str] = {}
    for setting in settings:
        path, sign, text = setting.partition("=")
        if given.setdefault(path, text) != text:
            raise ValueError(f"{name}: {path} is given twice, as {given[path]} and as {text}; give it once")
        field, *within = path.split(".")
        if not sign or field not in fields:
            raise ValueError(f"{name} has no setting {setting!r}; give NAME=VALUE with one of {', '.join(fields)}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        if within:
            value = _with(to_json(values[field] if field in values else _default(fields[field])), path, within, value)
        values[field] = from_json(hints[field], value, field)
    try:
        config = config_class(**values)
    except TypeError as error:
        needed = [field.name for field in dataclasses.fields(config_class) if _has_no_default(field)]
        raise ValueError(f"{name} needs {', '.join(set(needed) - set(values))}, which have no default") from error
    check_countable(config)
    if hasattr(config, "check"):
        config.check()
    return config


def _with(whole: Any, path: str, within: Sequence[str], value: Any) -> Any:
    """A setting as JSON, with another value in some depth; `path` names that for errors."""
    if not within:
        return value
    if not isinstance(whole, Mapping) or within[0] not in whole:
        choices = (
            f"one of {', '.join(whole)}" if isinstance(whole, Mapping) else "a whole value, as nothing is within it"
        )
        raise ValueError(f"there is no setting {path}; give {choices}")
    return {**whole, within[0]: _with(whole[within[0]], path, within[1:], value)}


def _default(field: dataclasses.Field) -> Any:
    """The default of a field; None where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
