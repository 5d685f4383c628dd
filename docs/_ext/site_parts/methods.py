"""A page for each registered detector, made of what its file, the registry and the measurements in docs say of it.

What it is comes from the docstring of its module (of its package, where it has one of its own), when to use it from the
paragraph there, or in that of its constructor, that begins with "Use it". Figures are the rows of tables in docs that
name it. So a new detector has its page by itself.
"""

import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from site_parts.links import DOCS, GENERATED, ROOT, rewritten, write

FOLDER = GENERATED / "methods"
MEASURED = ("docs/results.md", "docs/exporting.md", "experiments/paper_tables/RESULTS.md")
COMMANDS = ("README.md", "docs/methods.md", "docs/searching.md")
ALIASES = {  # names by which tables and commands call a detector, beside its own and that of its paper
    "autoencoder": ("AutoAD", "Table IV's architecture", "found for Fashion-MNIST", "autoad_search", "--architecture"),
    "classifier": ("MSP", "ODIN"),
    "conv_autoencoder": ("AutoEncoder", "l2 autoencoder"),
    "unet_segmenter": ("U-Net", "U-Net on the labelled images", "unet"),
}
OWNERS = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
MOST = 8  # commands of a page
LEARNS = {
    None: "normal images alone",
    "anomalies": "normal images, and labelled anomalies where there are some",
    "classes": "normal images with the class of each",
    "masks": "images with masks of their defects",
}


class Found(NamedTuple):
    """Rows of one table that are of a method."""

    page: str  # of the repository
    heading: str
    caption: str  # the sentence before the table
    head: list[str]  # its first two lines
    rows: list[str]


def description(entry: Any) -> tuple[str, str]:
    """What a detector is, and when to use it (empty where nobody has said), as Markdown."""
    home = importlib.import_module(entry.build.__module__)
    package = importlib.import_module(home.__name__.rpartition(".")[0])
    said = package if home.__name__.endswith(".detector") else home
    constructor = paragraphs(inspect.getdoc(entry.build) or "")
    texts = paragraphs(inspect.getdoc(said) or "")
    use = next((text for text in (*constructor, *texts) if text.startswith("Use it")), "")
    return "\n\n".join(as_markdown(text) for text in texts if not text.startswith("Use it")), as_markdown(use)


def paragraphs(text: str) -> list[str]:
    """Of a docstring."""
    return [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]


def as_markdown(text: str) -> str:
    """A paragraph; one that is indented, or that aligns columns, is a formula."""
    lines = text.splitlines()
    if lines and (all(line.startswith("    ") for line in lines) or re.search(r"\S {3,}\S", text)):
        return "```text\n" + textwrap.dedent(text) + "\n```"
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part if index % 2 else linked(re.sub(r"([\\*|<])", r"\\\1", part)) for index, part in enumerate(parts)
    )


def linked(text: str) -> str:
    """Text in which the pages that it names are links."""
    return re.sub(r"docs/(\w+)\.md", r"[\1](docs/\1.md)", text)


def plain(name: str) -> str:
    """Of a name, what comparing counts: letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def names_of(name: str, summary: str) -> set[str]:
    """By which tables may call a detector, made plain."""
    lead = re.split(r"[,(]", summary)[0]
    proper = {lead} if len(lead.split()) <= 2 else set()
    return {plain(alias) for alias in {name, *proper, *ALIASES.get(name, ())}}


def tables(page: str) -> Iterator[tuple[str, str, list[str]]]:
    """(heading, sentence before, lines) of every table of a page of the repository."""
    heading, before, block = "", "", []
    for line in (*(ROOT / page).read_text(encoding="utf-8").splitlines(), ""):
        if line.startswith("|"):
            block.append(line)
            continue
        if block:
            yield heading, before, block
            block, before = [], ""
        if line.startswith("#"):
            heading, before = line.lstrip("# "), ""
        elif line.strip():
            before = f"{before} {line.strip()}".strip()
        elif not before.endswith((":", ".")):
            before = ""
    return


def cells(row: str) -> list[str]:
    """Of a row, without emphasis, and without what follows a name."""
    return [re.split(r",| \(| w/o", cell.strip().strip("*`"))[0].strip("`") for cell in row.strip("|").split("|")]


def is_of(cell: str, name: str, names: set[str]) -> bool:
    """Whether a cell of a table names a detector."""
    return OWNERS[cell] == name if cell in OWNERS else plain(cell) in names


def figures(name: str, summary: str) -> Iterator[Found]:
    """What tables of docs say of a detector; a table with a column of it is shown whole."""
    names = names_of(name, summary)
    for page in MEASURED:
        for heading, before, (first, rule, *rows) in ((h, b, t) for h, b, t in tables(page) if len(t) > 2):
            of_all = any(is_of(cell, name, names) for cell in cells(first)[1:])
            mine = rows if of_all else [row for row in rows if any(is_of(cell, name, names) for cell in cells(row)[:2])]
            if mine and re.search(r"\d", "".join(mine)):
                caption = re.split(r"(?<=[.)]) (?=[A-Z`])", before)[-1] if before.endswith(":") else ""
                yield Found(page, heading, caption, [first, rule], mine)


def commands(name: str) -> list[str]:
    """Lines of docs that run a detector."""
    wanted = [re.escape(alias) for alias in (name, *ALIASES.get(name, ())) if " " not in alias]
    # Its name is a word, or the beginning of that of a script, such as ama_ood.py.
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(wanted)})(?:_\w+\.py|\.py)?(?![\w.:/-])")
    found: dict[str, None] = {}
    for page in COMMANDS:
        for block in re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S):
            found |= dict.fromkeys(
                " ".join(line.split(" #")[0].split()) for line in block.splitlines()
                if line.startswith("python experiments/") and pattern.search(line.split(" #")[0].replace("/", " "))
            )  # fmt: skip
    return sorted(found, key=lambda line: "train_detector" not in line)[:MOST]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def facts(name: str, entry: Any) -> list[tuple[str, str]]:
    """What the contract says of a detector."""
    from jaxad.runs.rivals import CLASSICAL, OF_FEATURES

    detector = entry.build(next(iter(entry.tiny.values())))
    learns = LEARNS[getattr(entry.config, "labels", None)]
    if getattr(entry.config, "needs_anomalies", False):
        learns = "normal images, and labelled anomalies, without which it cannot be trained"
    sees = "features of patches" if detector.stage is not None else "pixels"
    if name == "autoencoder":
        sees = "pixels, or features, as its architecture says"
    return [
        ("learns from", learns),
        ("sees", sees),
        ("says where", "no" if detector.score_map is None else "yes, by maps"),
        ("stands beside a search", "yes, as a rival" if name in (*CLASSICAL, *OF_FEATURES) else "no"),
        ("trained by", "a loop of its own" if entry.whole else "`jaxad.fit`"),
    ]


def trained_by(name: str, entry: Any) -> list[str]:
    """The command that trains any detector, with what this one needs; none for one that it cannot train."""
    learns = getattr(entry.config, "labels", None)
    bare = [field for field in dataclasses.fields(entry.config) if _is_needed(field)]
    if entry.whole or learns == "masks" or bare:
        return []
    needed = " --labelled 10" if getattr(entry.config, "needs_anomalies", False) else ""
    classes = " --normal-classes ONE ANOTHER" if learns == "classes" else ""
    return [f"jaxad train --detector {name} --dataset folder:PHOTOS{classes}{needed}"]


def _is_needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def page(name: str, entry: Any) -> str:
    """The page of a detector, in Markdown; links begin at the root of the repository."""
    what, use = description(entry)
    config, file = entry.config, f"{entry.build.__module__.replace('.', '/')}.py"
    lines = [f"# `{name}`", entry.summary, "## What it is", what, "## When to use it"]
    lines += [use] if use else []
    lines += ["| | |\n|---|---|\n" + "\n".join(f"| {left} | {right} |" for left, right in facts(name, entry))]
    lines += ["## Command"]
    shown = [*trained_by(name, entry), *commands(name)]
    lines += ["```bash\n" + "\n".join(shown) + "\n```"] if shown else []
    lines += [f'In Python it is `jaxad.detectors()["{name}"].build(...)`, with the settings below as keywords.']
    lines += ["## Figures", *figure_lines(name, entry.summary)]
    equations = "[the table of equations](docs/architecture.md#where-the-equations-are)"
    lines += ["## Paper", *papers(entry.summary), f"Where equations are computed is in {equations}."]
    if (ROOT / file).exists():
        lines[-1] += f" The source is [{file}]({file})."
    settings = f".. autoclass:: {config.__module__}.{config.__name__}\n   :inherited-members: object"
    lines += ["## Settings", f"```{{eval-rst}}\n{settings}\n```"]
    return "\n\n".join(lines) + "\n"


def figure_lines(name: str, summary: str) -> Iterator[str]:
    """Tables, each with where it is from."""
    found = list(figures(name, summary))
    if not any(table.page != "docs/exporting.md" for table in found):
        yield "How well it finds anomalies has not been measured here."
    if found:
        yield "These are rows of tables of other pages, which say how they were measured."
    for table in found:
        yield f"[{table.heading}]({table.page}#{slug(table.heading)}){': ' * bool(table.caption)}{table.caption}"
        links = rewritten("\n".join((*table.head, *table.rows)), (ROOT / table.page).parent, ROOT)
        yield links


def papers(summary: str) -> Iterator[str]:
    """What is published of a method that a summary cites in brackets, in full where docs/papers.md has it."""
    said = dict(re.findall(r"^\| ([^|]*\d{4}) \| (.*) \|$", (DOCS / "papers.md").read_text(encoding="utf-8"), re.M))
    for cited in re.findall(r"\(([^()]*\d{4})\)", summary):
        for each in cited.split("; "):
            each = each.removeprefix("after ")
            yield f"{said.get(each, each)}."


def index(entries: Any) -> str:
    """The page that lists all."""
    rows = "\n".join(f"| [`{name}`]({name}.md) | {entry.summary} |" for name, entry in entries.items())
    listed = "\n".join(entries)
    return (
        "# Detectors\n\nEvery registered detector, one page each: what it is, when to use it, command, figures, paper, "
        "settings.\nHow they are used together is in [methods and their experiments](docs/methods.md).\n\n"
        f"| name | what it is |\n|---|---|\n{rows}\n\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
    )


def write_pages(app: Any) -> None:
    """All pages, before Sphinx looks for pages."""
    from jaxad.methods import DETECTORS

    entries = {name: entry for name, entry in DETECTORS.items() if entry.config.__module__.startswith("jaxad.")}
    for name, entry in entries.items():
        write(FOLDER / f"{name}.md", rewritten(page(name, entry), ROOT, FOLDER))
    write(FOLDER / "index.md", rewritten(index(entries), ROOT, FOLDER))
    for old in FOLDER.glob("*.md"):
        if old.stem not in (*entries, "index"):
            old.unlink()


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_pages)
