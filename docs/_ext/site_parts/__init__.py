"""What the documentation needs beyond Sphinx: a part a file, each also of use without Sphinx, so that tests can ask it.

Sphinx is handed all parts by `setup`.
"""

from typing import Any

from site_parts import docstrings, links, methods, public, reports


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    for part in (methods, links, docstrings, public, reports):  # pages are written before their links are looked at
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
