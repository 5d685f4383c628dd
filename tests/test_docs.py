"""The Python that README and docs show runs as it stands, and their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = {page.name: re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S) for page in PAGES}


@pytest.mark.parametrize("page", [name for name, blocks in SHOWN.items() if blocks])
def test_blocks_run_one_after_another(page):
    """In a process of their own: what they register stays there."""
    program = "\n".join(SHOWN[page])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_files_and_functions_of_the_table_of_equations_are_there():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\|.*\|$", page, re.M)
    named = [re.findall(r"`([\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", row) for row in rows]
    assert sum(map(len, named)) > 30
    for file, functions in (found for row in named for found in row):
        content = (ROOT / "jaxad" / file).read_text()
        for function in re.findall(r"\w+", functions):
            assert f"def {function}(" in content, (file, function)


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160
