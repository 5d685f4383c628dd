"""From a frozen config dataclass to a command line whose errors are one line long."""

import dataclasses
import importlib
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxad._utils.files import from_json
from jaxad._utils.registry import Registry
from jaxad._utils.validate import check_at_least, check_seed, check_share
from jaxad.runs import folder as runs

Config = TypeVar("Config")

MAY_DIFFER = frozenset({"output", "resume", "cache_dir", "quiet", "data_dir", "plugins"})
"""Flags that change no result: a resumed run may be given others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PluginConfig:
    """What is imported before anything else."""

    plugins: tuple[str, ...] = ()
    """Python files to import first, such as of a detector, strategy or image source of your own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(PluginConfig):
    """Where a run goes and what it tells; the configs of experiments inherit it, and `runner.session` reads it."""

    output: str | None = None
    """Make this run folder; by default runs/NAME-DATE-TIME."""
    resume: str | None = None
    """Continue this run folder, exactly as if it had never stopped."""
    cache_dir: str | None = None
    """Folder that keeps compiled programs for later runs; by default ~/.cache/jaxad/xla."""
    quiet: bool = False
    """Print nothing but errors."""

    is_command_line: typing.ClassVar[bool] = True  # errors name flags, see `jaxad._utils.validate`

    def say(self, *lines: str) -> None:
        """Print, unless asked to be quiet."""
        if not self.quiet:
            print(*lines, sep="\n", flush=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """What everything that trains detectors for batches of images is told."""

    seed: int = 0
    """Seed of everything random: the same seed gives the same result."""
    batch_size: int = 32
    """Images of one training step."""
    target_fpr: float = 0.05
    """Share of normal images that the threshold may flag; it is set on held-out normal images."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        check_at_least(self, "batch_size")
        check_share(self, "target_fpr")


def main(
    function: Callable[[Config], int | None],
    config_class: type[Config],
    *,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    preset: str = "preset",
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse flags into a config, call `function` with it, and exit with what it returns.

    Fields and their docstrings become flags and their help; the docstring of the calling script's module is the help's
    introduction. Bad input (a ValueError) and too little memory end in one line on standard error and exit status 2, an
    interrupt in 130.

    Args:
      presets: field values by the name of a preset. Flags override them.
      preset: the field whose value names a preset.
      arguments: the command line, by default that of the process. With `--resume RUN`, for configs that have such a
        field, the defaults are the settings of that run.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        config = _parse(config_class, presets or {}, preset, arguments, sys.modules[function.__module__].__doc__)
        for file in getattr(config, "plugins", ()):
            _import_plugin(Path(file))
        if hasattr(config, "seed"):
            check_seed(config.seed, "--seed", count=getattr(config, "num_seeds", None) or 1)
        status = function(config)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except MemoryError as error:
        said = f" ({' '.join(str(error).split())})" if str(error) else ""
        print(f"error: out of memory{said}: give fewer or smaller images, or smaller batches", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def _parse(
    config_class: type[Config],
    presets: Mapping[str, Mapping[str, Any]],
    preset: str,
    arguments: list[str],
    description: str | None,
) -> Config:
    import tyro

    fields = {field.name for field in dataclasses.fields(config_class)}
    default = {}
    if preset in fields and (name := _value(arguments, f"--{preset}")) in presets:
        default = dict(presets[name]) | {preset: name}
    if "resume" in fields and (folder := _value(arguments, "--resume")):
        default = stored_settings(config_class, folder) | {"resume": folder}
    start = {"default": config_class(**default)} if default else {}
    if {"-h", "--help"} & set(arguments):
        description = "\n\n".join([description or "", *_choices(config_class)])
    return tyro.cli(config_class, args=arguments, description=description, **start)


def _import_plugin(path: Path) -> None:
    """Import a Python file by its name, as `import` does in a script beside it; ValueError where that fails."""
    file = path.resolve()
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


def _choices(config_class: type) -> Iterator[str]:
    """For every field that names something registered, be it said by a base class: what there is to name."""
    registries = {
        field: registry
        for kind in reversed(config_class.__mro__)
        for field, hint in typing.get_type_hints(kind, include_extras=True).items()
        for registry in getattr(hint, "__metadata__", ())
        if isinstance(registry, Registry)
    }
    for field, registry in registries.items():
        entries = (f"    {entry.usage}: {entry.summary}" for entry in registry.values())
        yield "\n".join([f"--{field.replace('_', '-')} is one of", *entries])


def stored_settings(config_class: type, folder: str | Path) -> dict[str, Any]:
    """What a run was asked for: values of those fields of the config that it knew."""
    with runs.open_run(folder, write=False) as run:
        stored = run.config
    hints = typing.get_type_hints(config_class)
    try:
        return {name: from_json(hint, stored[name], name) for name, hint in hints.items() if name in stored}
    except ValueError as error:
        raise ValueError(f"cannot resume {folder}: {error}; start a new run") from error


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """What follows a flag on the command line, if it is there."""
    for here, following in zip(arguments, [*arguments[1:], None]):
        if here == flag:
            return following
        if here.startswith(f"{flag}="):
            return here.partition("=")[2]
    return None
