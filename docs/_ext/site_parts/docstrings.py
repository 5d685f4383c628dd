"""The docstrings of the package, which are plain text with a little Markdown, as the reStructuredText of autodoc.

Single backticks are code, indented paragraphs are formulas or code, and nothing else is markup. Fields of a NamedTuple
are documented by comments beside them.
"""

import ast
import dataclasses
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

SECTION = re.compile(r"^(Args|Returns|Raises|Yields):$")


def as_rst(lines: Sequence[str]) -> list[str]:
    """Lines of a docstring, indentation of its own removed, with its markup replaced."""
    done: list[str] = []
    literal = example = False
    before = ""  # the last line that is not empty
    for index, line in enumerate(lines):
        indented = line.startswith("    ")
        if not line.strip():
            example = False
            done.append(line)
            continue
        if indented and not literal and index and not lines[index - 1].strip() and before and not before[0].isspace():
            if not SECTION.match(before):  # formulas, or code
                done += ["::", ""]
                literal = True
        elif not indented:
            literal = False
        example = example or line.lstrip().startswith(">>>")
        done.append(line if literal or example else escaped(line))
        before = line
    return done


def escaped(line: str) -> str:
    """A line of text: code in double backticks, and what would be markup said to be none."""
    parts = re.split(r"(``.+?``|`[^`]+`)", line)
    for index, part in enumerate(parts):
        if index % 2:
            code = part.strip("`")
            parts[index] = f"``{code}``"
        else:
            plain = re.sub(r"(\w)_(?!\w)", r"\1\\_", re.sub(r"([*|\\])", r"\\\1", part))
            # "`Stage`s" would not be code.
            parts[index] = f"\\ {plain}" if index and plain and (plain[0].isalnum() or plain[0] == "_") else plain
    return "".join(parts)


@functools.cache
def field_comments(kind: type) -> dict[str, str]:
    """What the source of a NamedTuple, or of a dataclass, says of its fields in comments beside or above them."""
    lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    (tree,) = ast.parse("\n".join(lines)).body
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        beside = lines[node.end_lineno - 1][len(lines[node.end_lineno - 1].encode()[: node.end_col_offset].decode()) :]
        said = beside.strip().lstrip("#").strip()
        above = node.lineno - 2
        while not said and above >= 0 and lines[above].strip().startswith("#"):
            said, above = lines[above].strip().lstrip("#").strip(), above - 1
        found[node.target.id] = said
    return found


def owner_of(name: str) -> type | None:
    """The class of an attribute by its full name, such as jaxad.types.Detector.init."""
    path = name.split(".")[:-1]
    for end in range(len(path) - 1, 0, -1):
        if (module := sys.modules.get(".".join(path[:end]))) is not None:
            try:
                found = functools.reduce(getattr, path[end:], module)
            except AttributeError:
                continue
            return found if inspect.isclass(found) else None
    return None


def on_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Sphinx has found a docstring, which napoleon is to see afterwards."""
    if lines and lines[0].startswith("Alias for field number") and (kind := owner_of(name)) is not None:
        lines[:] = [field_comments(kind).get(name.rpartition(".")[2], ""), ""]
    lines[:] = as_rst(lines)


def on_signature(app: Any, what: str, name: str, thing: Any, options: Any, signature: Any, returns: Any) -> Any:
    """A config has its fields listed below it, with what they mean: no need for them in its head as well."""
    return ("", "") if what == "class" and dataclasses.is_dataclass(thing) else None


def setup(app: Any) -> None:
    """Called by Sphinx; napoleon connects with the default priority of 500."""
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    app.connect("autodoc-process-signature", on_signature)
