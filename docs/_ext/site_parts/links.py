"""Links of Markdown pages that lead somewhere on GitHub lead to the same in the site.

Pages of docs/ link each other as files, which MyST understands. Everything else of the repository is either a page of
the site (`PAGES`) or a file, of which the site gets a page with its source.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
GENERATED = DOCS / "generated"
PAGES = {
    "README.md": "index.md", "CHANGELOG.md": "changelog.md", "experiments/paper_tables/RESULTS.md": "paper_tables.md"
}  # fmt: skip
LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
LANGUAGES = {".py": "python", ".toml": "toml", ".html": "html"}


def rewritten(text: str, folder: Path, docs_folder: Path = DOCS) -> str:
    """Markdown with links as the site wants them.

    Args:
      text: of a file.
      folder: that of the file, from which its links begin.
      docs_folder: that of the page which shows it, to which they have to be relative.
    """
    parts = re.split(r"(^```.*?^```|^~~~.*?^~~~)", text, flags=re.M | re.S)

    def leading(match: re.Match) -> str:
        target = destination(folder, match[2])
        if target is None:
            return match[0]
        return f"{match[1]}{Path(os.path.relpath(target, docs_folder)).as_posix()}{match[3]}"

    return "".join(part if index % 2 else LINK.sub(leading, part) for index, part in enumerate(parts))


def destination(folder: Path, target: str) -> Path | None:
    """The file of the site's sources that a link from a folder leads to; None for links elsewhere."""
    if "://" in target or target.startswith("mailto:"):
        return None
    path = (folder / target).resolve()
    if not path.is_relative_to(ROOT) or not path.is_file():
        return None  # Sphinx says so
    if (page := PAGES.get(path.relative_to(ROOT).as_posix())) is not None:
        return DOCS / page
    return path if path.is_relative_to(DOCS) else source_page(path)


def source_page(path: Path) -> Path:
    """Where the page with the source of a file is."""
    return GENERATED / "source" / f"{path.relative_to(ROOT).as_posix()}.md"


def linked_files(pages: Iterable[Path]) -> set[Path]:
    """All files of the repository that pages link and that are no pages themselves."""
    found = set()
    for page in pages:
        for _, target, _ in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            if (place := destination(page.parent, target)) is not None and place == source_page_or_none(path):
                found.add(path)
    return found


def source_page_or_none(path: Path) -> Path | None:
    """As `source_page`, of files of the repository."""
    return source_page(path) if path.is_relative_to(ROOT) else None


def write(path: Path, text: str) -> None:
    """A generated page; one that has not changed is not touched, so that Sphinx does not read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_sources(app: Any) -> None:
    """A page for every file that some page links."""
    pages = [*(ROOT / name for name in PAGES), *DOCS.rglob("*.md")]
    for path in sorted(linked_files(pages)):
        name = path.relative_to(ROOT).as_posix()
        language = LANGUAGES.get(path.suffix, "text")
        shown = f"```{{literalinclude}} /../{name}\n:language: {language}\n```"
        write(source_page(path), f"---\norphan: true\n---\n# `{name}`\n\n{shown}\n")


def on_source(app: Any, docname: str, content: list[str]) -> None:
    """Sphinx has read a page."""
    folder = (DOCS / docname).parent
    if Path(app.env.doc2path(docname)).suffix == ".md":
        content[0] = rewritten(content[0], folder, folder)


def on_include(app: Any, path: Path, parent: str, content: list[str]) -> None:
    """A page of docs/ has included a file from elsewhere."""
    content[0] = rewritten(content[0], (DOCS / path).resolve().parent)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_sources)
    app.connect("source-read", on_source)
    app.connect("include-read", on_include)
