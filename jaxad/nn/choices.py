"""Tables of choices: what each name that an action may take means, said in one place.

A table maps a name to what it does. Its `standard` names are those of every search space that does not say otherwise,
in the order of the token; it may have more, which a space must ask for. `add` makes a further name legal everywhere: in
architectures and search spaces, both executors, the stand-alone detector, costs, files and reports. It changes neither
what a known name means nor what any space holds, so that importing a module that adds names changes no search.

    >>> import jax
    >>> from jaxad.nas.space import SearchSpace
    >>> from jaxad.nn.layers import ACTIVATIONS
    >>> _ = ACTIVATIONS.add("gelu", jax.nn.gelu)
    >>> SearchSpace(activations=("relu", "gelu")).choices_per_token[-1]
    2
    >>> "gelu" in SearchSpace().activations
    False
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from jax import lax

from jaxad.types import Array

Entry = TypeVar("Entry")


_generation = 0


def generation() -> int:
    """How often the meaning of a name has changed: what was made of names before may differ from what they make now."""
    return _generation


class Choices(Mapping[str, Entry]):
    """The names that one action may take, and what they mean; the standard ones first, in their order.

    Args:
      action: what is chosen, for messages, such as "activation".
      standard: the names every search space holds unless it says otherwise.
      more: names that a search space holds only where it says so; their meaning is as fixed as that of standard ones.
    """

    def __init__(
        self, action: str, standard: Mapping[str, Entry], more: Mapping[str, Entry] = MappingProxyType({})
    ) -> None:
        self.action = action
        self.standard = tuple(standard)
        self.builtin = (*self.standard, *more)
        self._entries = {**standard, **more}

    def add(self, name: str, entry: Entry, *, replace: bool = False) -> Entry:
        """Make a name legal, and return its entry; the same entry may be added twice.

        Args:
          entry: what the table holds for each name, see where it is defined.
          replace: whether a name that was added before may get another meaning, as when a notebook's cell runs again.

        Raises:
          ValueError: a name that is no identifier, or that is known already; names the table is made with keep their
            meaning.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{self.action} {name!r} is no name: use letters, digits and underscores")
        known = name in self._entries and self._entries[name] is not entry
        if known and (name in self.builtin or not replace):
            raise ValueError(f"{self.action} {name!r} is known already; give another name")
        self._enter(name, entry)
        return entry

    @contextlib.contextmanager
    def temporarily(self, name: str, entry: Entry) -> Iterator[Entry]:
        """`add` a name for as long as the context lasts."""
        self.add(name, entry)
        try:
            yield entry
        finally:
            self._enter(name, None)

    def check(self, role: str, name: Any) -> None:
        """ValueError, which says that `role` is this, unless the name is known."""
        if not isinstance(name, str) or name not in self._entries:
            remedy = f"choose one of {', '.join(self)}, or import" if self else "import"
            raise ValueError(f"{role} is {name!r}; {remedy} first what adds this {self.action}")

    def _enter(self, name: str, entry: Entry | None) -> None:
        """Say what a name means, or forget it."""
        global _generation
        if entry is None:
            del self._entries[name]
        else:
            self._entries[name] = entry
        _generation += 1

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<choices of {self.action}: {', '.join(self)}>"


class OneOf(NamedTuple):
    """A choice that is known at run time only: one of some names, by its place among them."""

    names: tuple[str, ...]  # static
    index: Array  # scalar int32


def choose(options: Mapping[str, Callable[..., Any]], choice: str | OneOf | Array, *operands: Any) -> Any:
    """Call the option of a name or, for a choice at run time, branch on it; a bare integer counts all options."""
    if isinstance(choice, str):
        return options[choice](*operands)
    names, index = at_run_time(options, choice)
    return lax.switch(index, [options[name] for name in names], *operands)


def at_run_time(options: Mapping[str, Any], choice: OneOf | Array) -> OneOf:
    """The names among which a choice at run time falls, and its place among them."""
    return choice if isinstance(choice, OneOf) else OneOf(tuple(options), choice)
