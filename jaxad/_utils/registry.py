"""Things with names: each is registered by a decorator in the file that defines it, and found without any list of them.

A registry belongs to a package. A module of that package registers what it defines when it is imported, and the
registry imports the modules only once somebody asks: for a name first the modules that are called so or have it in
quotes, which keeps heavy modules out of the way of those who want another, then all modules. What is defined elsewhere
is registered by importing it.
"""

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar


class Registered(Protocol):
    """What every entry tells of itself."""

    @property
    def usage(self) -> str:
        """How it is written on a command line."""

    @property
    def summary(self) -> str:
        """What it is, in one sentence."""


Entry = TypeVar("Entry", bound=Registered)


class Registry(Mapping[str, Entry]):
    """A mapping from name to entry, in the order of names; importing what there is to register happens on demand.

    As metadata of a field of a config, `Annotated[str, REGISTRY]`, it has the command line's help list its entries.

    Args:
      kind: what the entries are, for messages, such as "detector".
      package: full name of the package whose modules register entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}  # of an entry, the full name of what was registered
        self._complete = False

    def add(self, name: str, entry: Entry, source: Callable[..., Any]) -> None:
        """Register an entry; what was defined anew, in a notebook or by a reload, replaces its predecessor.

        Args:
          source: the function or class that the entry describes.

        Raises:
          ValueError: a name that is no identifier, or one that something else has.
        """
        origin = f"{source.__module__}.{source.__qualname__}"
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{self.kind} {name!r} is no name: use letters, digits and underscores")
        if self._origins.get(name, origin) != origin:
            raise ValueError(f"{self.kind} {name!r} is registered by {self._origins[name]}: give {origin} another name")
        self._entries[name], self._origins[name] = entry, origin

    @contextlib.contextmanager
    def temporarily(self, name: str, entry: Entry) -> Iterator[None]:
        """An entry, or another one of that name, while the context lasts."""
        before = name in self and self._entries[name]
        self._entries[name] = entry
        try:
            yield
        finally:
            if before:
                self._entries[name] = before
            else:
                del self._entries[name]

    def named(self, name: str) -> Entry:
        """The entry of that name; ValueError lists the names there are."""
        if name not in self:
            raise ValueError(f"there is no {self.kind} {name!r}; choose one of {', '.join(self)}")
        return self._entries[name]

    def first(self, wanted: Callable[[Entry], bool]) -> Entry | None:
        """The first entry that is wanted, looked for among what has been imported before anything else is."""
        return next(filter(wanted, self._entries.values()), None) or next(filter(wanted, self.values()), None)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries and not self._complete:
            self._import_one(name)
            if name not in self._entries:
                self._import_all()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._import_all()
        return len(self._entries)

    __hash__, __eq__ = object.__hash__, object.__eq__  # a registry is only itself

    def __repr__(self) -> str:
        return f"<registry of {self.kind}: {', '.join(self)}>"

    def _import_one(self, name: str) -> None:
        """Import what looks like the home of a name, until something registers it."""
        if not isinstance(name, str) or not name.isidentifier():
            return
        for folder in map(Path, importlib.import_module(self.package).__path__):
            files = sorted(folder.rglob("*.py"), key=lambda file: file.stem != name)
            for file in files:
                if file.stem == name or f'"{name}"'.encode() in file.read_bytes():
                    parts = file.relative_to(folder).with_suffix("").parts
                    importlib.import_module(".".join([self.package, *parts]).removesuffix(".__init__"))
                    if name in self._entries:
                        return

    def _import_all(self) -> None:
        if self._complete:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, f"{self.package}."):
            importlib.import_module(module.name)
        self._complete = True
