"""Fill the papers' tables: methods x tasks x seeds, each cell a run of an experiment, beside the published figures.

    python experiments/tables.py                                   # what there is
    python experiments/tables.py --tables ama-1 --budget smoke     # see it work, in minutes
    python experiments/tables.py --tables ama-1 ama-2 --budget laptop --output runs/tables
    python experiments/tables.py --tables mine.toml                # your own: see jaxad/tables.py for the form

A table names scripts of this folder or of its own. They take --seed, --output, --resume and --quiet, and write
results.json into the folder that --output names, last.

Every cell is a run folder under --output, kept as it is computed: start the same command again after a kill, or after
fetching a missing set, and only what is missing runs. tables.md, tables.html and tables.json are written after every
cell. A cell that cannot run, because its images are not there, leaves a row that says why.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from jaxad._utils import files
from jaxad.report.paper_tables import HEADS, render_tables, table_cells, tables_markdown
from jaxad.report.table_spec import Cell, TableSpec, cells_of, others_of, read_table, rows_of
from jaxad.runs import cli
from jaxad.runs.progress import Progress, table

EXPERIMENTS = Path(__file__).resolve().parent
TABLES = EXPERIMENTS / "paper_tables"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Fill tables of methods x tasks x seeds."""

    tables: tuple[str, ...] = ()
    """Names of tables, or TOML files; without any, all names are listed."""
    budget: Literal["smoke", "laptop", "paper"] = "smoke"
    """Size of every run: smoke (does it work?), laptop (an affordable figure), paper (for accelerators)."""
    seeds: int | None = None
    """Runs of every cell, from different seeds; by default as many as the table says."""
    methods: tuple[str, ...] = ()
    """Only these methods."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    output: str = "runs/tables"
    """Folder of all cells and of the tables."""
    data_dir: str | None = None
    """Where prepared TFDS sets are; by default TFDS_DATA_DIR."""
    quiet: bool = False
    """Print nothing but errors."""


def run(config: Config) -> int:
    """Everything: the status is 0 if all cells are there, otherwise 1."""
    if not config.tables:
        rows = [(path.stem, read_table(path).title) for path in sorted(TABLES.glob("*.toml"))]
        table("tables", ("name", "title"), rows)
        return 0
    if config.seeds is not None and config.seeds < 1:
        raise ValueError(f"--seeds is {config.seeds}; the least is 1")
    specs = {name: with_scripts(chosen(config, read_table(located(name))), located(name)) for name in config.tables}
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    cells = list(dict.fromkeys(cell for spec in specs.values() for cell in cells_of(spec, config.budget, config.seeds)))
    reasons: dict[Cell, str] = {}
    with Progress(len(cells), label="cells", quiet=config.quiet) as progress:
        for done, cell in enumerate(cells):
            progress.update(done, note=f"{cell.script} seed {cell.seed}")
            if reason := fill(config, cell, output):
                reasons[cell] = reason
            write(config, specs, cells, reasons, output)
        progress.update(len(cells))
    lines = write(config, specs, cells, reasons, output)
    if not config.quiet:
        for name, spec in specs.items():
            table(spec.title, HEADS, lines[name])
        print(f"tables:   {output / 'tables.html'}")
    return 1 if reasons else 0


def located(name: str) -> Path:
    """The file of a table, by its name or path."""
    path = TABLES / f"{name}.toml"
    if path.is_file():
        return path
    if not Path(name).is_file():
        known = ", ".join(sorted(p.stem for p in TABLES.glob("*.toml")))
        raise ValueError(f"--tables has {name!r}, which is neither a file nor one of {known}")
    return Path(name)


def with_scripts(spec: TableSpec, file: Path) -> TableSpec:
    """The table with scripts where they are: among the experiments, or beside the table's file."""
    methods = []
    for method in spec.methods:
        places = [EXPERIMENTS / method.script, file.resolve().parent / method.script]
        found = [place for place in places if place.is_file()]
        if not found:
            raise ValueError(f"{file}: {method.name} needs {method.script}, which is neither of {places}")
        methods.append(method if found[0] == places[0] else method._replace(script=str(found[0])))
    return spec._replace(methods=tuple(methods))


def chosen(config: Config, spec: TableSpec) -> TableSpec:
    """The table with the wanted methods and tasks alone."""
    parts = {}
    for what in ("methods", "tasks"):
        wanted, have = getattr(config, what), getattr(spec, what)
        parts[what] = tuple(entry for entry in have if not wanted or entry.name in wanted)
        if not parts[what]:
            names = ", ".join(entry.name for entry in have)
            raise ValueError(f"--{what} {' '.join(wanted)}: {spec.title} has none of them; it has {names}")
    tasks = {task.name for task in parts["tasks"]}
    paper = {place: value for place, value in spec.paper.items() if not config.tasks or place[1] in tasks}
    return spec._replace(**parts, paper=paper)


# ---- cells -------------------------------------------------------------------------------------------------------


def folder_of(cell: Cell, output: Path) -> Path:
    """Where a cell's run is: a name to read and a hash of its command line."""
    text = json.dumps([cell.script, *cell.flags])
    return output / f"{Path(cell.script).stem}-{hashlib.sha256(text.encode()).hexdigest()[:10]}-{cell.seed}"


def fill(config: Config, cell: Cell, output: Path) -> str:
    """Run a cell, or what is left of it; why it has no results, empty where it has."""
    folder = folder_of(cell, output)
    if (folder / "results.json").exists():
        return ""
    command = [sys.executable, str(EXPERIMENTS / cell.script)]
    if (folder / "config.json").exists():
        command += ["--resume", str(folder), "--quiet"]
    else:
        command += [*cell.flags, "--seed", str(cell.seed), "--output", str(folder), "--quiet"]
    environment = dict(os.environ)
    if config.data_dir:
        environment["TFDS_DATA_DIR"] = config.data_dir
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    return last.removeprefix("error: ")


def write(
    config: Config, specs: dict[str, TableSpec], cells: list[Cell], reasons: dict[Cell, str], output: Path
) -> dict[str, list[tuple[str, ...]]]:
    """The tables as they stand, for people and programs; their lines by table."""
    results = {}
    for cell in cells:
        path = folder_of(cell, output) / "results.json"
        if path.exists():
            results[cell] = json.loads(path.read_text())
    rows = {
        name: rows_of(spec, config.budget, config.seeds or spec.seeds[config.budget], results, reasons)
        for name, spec in specs.items()
    }
    full = {name: (spec, table_cells(rows[name], others_of(spec))) for name, spec in specs.items()}
    # Of a cell: to ask here would take hold of the accelerator that the cells need.
    made = next(iter(results.values()), {})
    facts = {"budget": config.budget, "runs": f"{len(results)} of {len(cells)}", **made.get("versions", {})}
    facts["device"] = (made.get("device") or {}).get("kind", "")
    verdict = f"{len(results)} of {len(cells)} runs at budget {config.budget}."
    plain: list[dict[str, Any]] = [
        {"table": name, **row._asdict(), "mean": row.mean, "sd": row.sd}
        for name, found in rows.items()
        for row in found
    ]
    files.write_json(output / "tables.json", {"facts": facts, "rows": plain})
    text = [", ".join(f"{name} {value}" for name, value in facts.items())]
    files.write_text(output / "tables.md", tables_markdown(full, text))
    files.write_text(output / "tables.html", render_tables(full, verdict, facts))
    return {name: lines for name, (_, lines) in full.items()}


if __name__ == "__main__":
    cli.main(run, Config)
