"""The Python that README and docs show runs as it stands, and their links lead somewhere."""

import os
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


@pytest.mark.slow
def test_the_minimal_detector_keeps_the_contract_in_a_folder_of_its_own(tmp_path):
    """By the command that the page shows."""
    (tmp_path / "mean_image.py").write_text(SHOWN["extending.md"][0])
    (words,) = re.findall(r"^PYTHONPATH=FOLDER python (.*?)  #", (ROOT / "docs" / "extending.md").read_text(), re.M)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, *words.split()], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 10


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
