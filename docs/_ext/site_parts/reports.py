"""Reports that the build's own tutorials have written become pages of the gallery.

A tutorial copies its report into the folder that the variable JAXAD_SITE_REPORTS names, and the gallery shows it.
Compiled programs are kept beside them, so that tutorials do not compile what another has compiled.
"""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from site_parts.links import DOCS

SHOWN = re.compile(r'src="(reports/[\w-]+\.html)"')


def gallery() -> list[str]:
    """The reports that the gallery shows, relative to the site."""
    return SHOWN.findall((DOCS / "gallery.md").read_text(encoding="utf-8"))


def begin(app: Any) -> None:
    """Before anything is read: where tutorials put their reports and programs, and where they find the command."""
    folder = Path(app.doctreedir).resolve()
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    os.environ["JAXAD_SITE_REPORTS"] = str(folder / "reports")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "xla"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def finish(app: Any, error: Exception | None) -> None:
    """After the last page: the reports go where the gallery looks for them."""
    from sphinx.util import logging

    if error is not None or app.builder.format != "html":
        return
    for name in gallery():
        report = Path(app.doctreedir) / name
        if report.exists():
            (Path(app.outdir) / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(report, Path(app.outdir) / name)
        else:
            logging.getLogger(__name__).warning(f"the gallery shows {name}, which no tutorial has written")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", begin)
    app.connect("build-finished", finish)
