"""From a frozen config dataclass to a command line whose errors are one line long."""

import dataclasses
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxad._utils.files import from_json
from jaxad._utils.memory import is_of_memory
from jaxad._utils.plugins import import_plugin
from jaxad._utils.registry import Registry
from jaxad._utils.validate import check_at_least, check_countable, check_seed, check_share
from jaxad.runs import folder as runs
from jaxad.runs.progress import line
from jaxad.runs.same_run import PROGRAMS, SCRIPT, check_program

Config = TypeVar("Config")

MAY_DIFFER = frozenset({"output", "resume", "cache_dir", "quiet", "data_dir", "plugins"})
"""Flags that change no result: a resumed run may be given others."""
_PLACES = ("output", "resume", "cache_dir", "data_dir")


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
    # What may be written, such as "--ama.steps" or "steps=" (of a list), and the field that would overrule it: to give
    # both is an error, and such a field of a preset gives way.
    overruled_by: typing.ClassVar[Mapping[str, str]] = {}
    # How it is started, where that is not a script of experiments/; `program_of` reads it.
    program: typing.ClassVar[str | None] = None

    def say(self, *lines: str) -> None:
        """Print, unless asked to be quiet; never raises because nobody reads it any more."""
        if not self.quiet:
            line("\n".join(lines))


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

    With the flag `check_data`, for configs that have it, it is said what is in their data instead, and the status is 1
    where no task can be made of them. Fields and their docstrings become flags and their help; the docstring of the
    calling script's module is the help's introduction. Bad input (a ValueError) and too little memory end in one line
    on standard error and exit status 2, an interrupt in 130.

    Args:
      presets: field values by the name of a preset. Flags override them.
      preset: the field whose value names a preset.
      arguments: the command line, by default that of the process. With `--resume RUN`, for configs that have such a
        field, the defaults are the settings of that run.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        said = sys.modules[function.__module__].__doc__
        config = _parse(config_class, presets or {}, preset, arguments, said)
        if plugins := getattr(config, "plugins", ()):
            # By their full names, which a run keeps: it may be resumed from another folder.
            config = dataclasses.replace(config, plugins=tuple(map(import_plugin, plugins)))
        if hasattr(config, "seed"):
            check_seed(config.seed, "--seed", count=getattr(config, "num_seeds", None) or 1)
        check_countable(config)
        status = _say_data(config) if getattr(config, "check_data", False) else function(config)
    except ValueError as error:
        line(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except OSError as error:  # whatever a machine may refuse where nobody has thought of it
        what = f"{error.filename}: " if error.filename else ""
        line(f"error: {what}{error.strerror or error}; check path, permissions and free space", file=sys.stderr)
        status = 2
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        said = f" ({' '.join(str(error).split())})" if str(error) else ""
        line(f"error: out of memory{said}: give fewer or smaller images, or smaller batches", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        line("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def _say_data(config: Any) -> int:
    """Print what is in the data that a config names; the status is 0 where they make a task, otherwise 1."""
    from jaxad.report.data_check import data_check_lines

    found = config.checked()
    for checked in found:
        for said in data_check_lines(checked):
            line(said)
    return 1 if any(checked.problem for checked in found) else 0


def _parse(
    config_class: type[Config],
    presets: Mapping[str, Mapping[str, Any]],
    preset: str,
    arguments: list[str],
    description: str | None,
) -> Config:
    import tyro

    fields = {field.name for field in dataclasses.fields(config_class)}
    _check_arguments(config_class, preset, arguments)
    default = {}
    if preset in fields and (name := _value(arguments, f"--{preset}")) in presets:
        default = dict(presets[name]) | {preset: name}
    for written, field in getattr(config_class, "overruled_by", {}).items():
        if any(_is(argument, written) for argument in arguments):
            if _values(arguments, field):
                both = f"{written.rstrip('=')} and {_flag(field)}"
                raise ValueError(f"{both} are both given, and only one of them would count: give one")
            default.pop(field, None)  # what a preset says gives way to what is written
    if "resume" in fields and (folder := _value(arguments, "--resume")):
        default = stored_settings(config_class, folder) | {"resume": folder}
    start = {"default": config_class(**default)} if default else {}
    if {"-h", "--help"} & set(arguments):
        description = "\n\n".join([description or "", *_choices(config_class)])
    return tyro.cli(config_class, args=arguments, description=description, **start)


def _check_arguments(config_class: type, preset: str, arguments: Sequence[str]) -> None:
    """Raise ValueError for flags that would be overruled without a word."""
    hints = typing.get_type_hints(config_class)
    lists = {name for name, hint in hints.items() if typing.get_origin(hint) is tuple}
    for name in hints:
        flag, values = _flag(name), _values(arguments, name)
        if len(values) > 1 and name in {preset, "resume", *lists}:
            how = "give all its values after one" if name in lists else "give one"
            raise ValueError(f"{flag} is given {len(values)} times, and only the last would count: {how}")
        if name in _PLACES and "" in values:
            raise ValueError(
                f"{flag} is empty: give a folder, or leave it out (a variable of the shell that is not set?)"
            )
    output, resume = ((_values(arguments, name) or [None])[-1] for name in ("output", "resume"))
    if "resume" in hints and output and resume and Path(output).absolute() != Path(resume).absolute():
        raise ValueError(
            f"--output is {output} and --resume {resume}: a run goes on in its own folder; leave out --output, or "
            "copy the run and resume the copy"
        )


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
    mine = next((name for name, program in PROGRAMS.items() if program == program_of(config_class)), None)
    if mine is not None and run.name in PROGRAMS:  # first of all: of another program's settings all would differ
        check_program(run.path, run.name, mine)
    hints = typing.get_type_hints(config_class)
    try:
        return {name: from_json(hint, stored[name], name) for name, hint in hints.items() if name in stored}
    except ValueError as error:
        raise ValueError(f"cannot resume {folder}: {error}; start a new run") from error


def program_of(config_class: type) -> str:
    """The start of the command line that a config is of: what its class says, or else its script."""
    file = getattr(sys.modules[config_class.__module__], "__file__", None) or ""
    return getattr(config_class, "program", None) or f"{SCRIPT}{Path(file).name}"


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """What follows a flag on the command line, if it is there."""
    return next(iter(_values(arguments, flag.removeprefix("--"))), None)


def _values(arguments: Sequence[str], name: str) -> list[str | None]:
    """What follows the flag of a field, wherever it is on the command line."""
    return [
        argument.partition("=")[2] if "=" in argument else following
        for argument, following in zip(arguments, [*arguments[1:], None])
        if _is(argument, _flag(name))
    ]


def _is(argument: str, written: str) -> bool:
    """Whether an argument is what is written, be it a flag, which underscores do not change, or "name=" of a value."""
    if not written.startswith("--"):
        return argument.startswith(written)
    return argument.partition("=")[0].replace("_", "-") == written


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
