"""The documentation site, as far as it can be asked without building it."""

import re
import sys
from pathlib import Path

import pytest

import jaxad
from jaxad.methods import DETECTORS

DOCS = Path(__file__).parents[1] / "docs"
sys.path.append(str(DOCS / "_ext"))

from site_parts import docstrings, links, methods, public, reports  # noqa: E402

BUILT_IN = [name for name, entry in DETECTORS.items() if entry.config.__module__.startswith("jaxad.")]


def test_every_page_is_in_the_table_of_contents():
    listed = set(re.findall(r"^[\w/]+$", (DOCS / "index.md").read_text(), re.M))
    own = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert {name for name in own if not name.startswith("generated/")} - {"index"} <= listed
    assert {"api/index", "generated/methods/index"} <= listed


def test_tutorials_are_run_and_show_nothing_that_was_not():
    for page in (DOCS / "tutorials").glob("*.md"):
        text = page.read_text()
        assert text.startswith("---\nfile_format: mystnb\nkernelspec:\n  name: python3\n"), page.name
        assert "```{code-cell}" in text
        assert not re.search(r"^```(python|py)\b", text, re.M), page.name


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_detector_has_a_page_that_says_what_it_is_when_to_use_it_and_how(name):
    entry = DETECTORS[name]
    what, use = methods.description(entry)
    assert what
    assert use.startswith("Use it")
    page = methods.page(name, entry)
    assert entry.summary in page
    for part in ("What it is", "When to use it", "Command", "Figures", "Paper", "Settings"):
        assert f"\n## {part}\n" in page
    assert "```bash" in page
    assert not re.search(r"\(\w+ et al[^()]*\d{4}\)\.\n\nWhere", page)  # a paper whose title is not known


def test_figures_of_a_page_are_rows_of_the_tables_of_measurements():
    found = list(methods.figures("padim", DETECTORS["padim"].summary))
    assert "Photographs" in {table.heading for table in found}
    rows = [row for table in found for row in table.rows]
    assert any(row.startswith("| padim, deep |") for row in rows)
    assert all("padim" in row.lower() for row in rows)
    texts = [(links.ROOT / page).read_text() for page in methods.MEASURED]
    assert all(any(row in text for text in texts) for row in rows)
    # The autoencoder of a published table is not the detector of that name.
    assert not any("| AutoEncoder |" in row for table in methods.figures("autoencoder", "") for row in table.rows)


def test_links_lead_to_pages_of_the_site_and_files_to_their_source():
    text = "[a](../README.md#detectors) [b](cluster.md) [c](../jaxad/types.py) [d](https://example.org/x.md)\n"
    code = "```python\n[e](../README.md)\n```\n"
    assert links.rewritten(text + code, DOCS) == (
        "[a](index.md#detectors) [b](cluster.md) [c](generated/source/jaxad/types.py.md) [d](https://example.org/x.md)\n"
        + code
    )
    assert links.rewritten("![a picture](docs/report.png)", links.ROOT) == "![a picture](report.png)"


def test_every_public_name_is_in_the_reference():
    assert public.faults(public.public_names(), public.documented()) == []
    assert public.faults(["jaxad.fit"], ["jaxad.search"]) == [
        "jaxad.fit is public and not in the API reference: list it in docs/api/"
    ]
    text = "`jaxad.data.with_known` of jaxad.data, jaxad/types.py\nfrom jaxad.types import Array, Batch"
    assert public.called([text]) == {"jaxad.data.with_known", "jaxad.types.Array", "jaxad.types.Batch"}


def test_docstrings_become_markup_that_says_the_same():
    text = ["Of `x_` and |y|, **fields.", "", "    s(x) = |x|", "", "Args:", "  a_: `b`s.", "", ">>> f(*a)", "1"]
    assert docstrings.as_rst(text) == [
        r"Of ``x_`` and \|y\|, \*\*fields.", "", "::", "", "    s(x) = |x|", "", "Args:", r"  a\_: ``b``\ s.", "",
        ">>> f(*a)", "1",
    ]  # fmt: skip
    said = docstrings.field_comments(jaxad.Detector)
    assert said["init"] == "(key, images [B, H, W, C]) -> state; images give the shapes"
    assert docstrings.field_comments(jaxad.Search)["tell"].startswith("(key, state, tokens [P, T]")
    assert docstrings.owner_of("jaxad.types.Detector.init") is jaxad.Detector


def test_the_gallery_shows_reports_that_tutorials_write():
    written = set()
    for page in (DOCS / "tutorials").glob("*.md"):
        written |= set(re.findall(r'JAXAD_SITE_REPORTS"\], "([\w.]+)"', page.read_text()))
    assert {f"reports/{name}" for name in written} == set(reports.gallery())
    assert len(written) == 2
