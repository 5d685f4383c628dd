"""Fill the papers' tables: methods x tasks x seeds, each cell a run of an experiment, beside the published figures.

    python experiments/tables.py                                   # what there is
    python experiments/tables.py --tables ama-1 --budget smoke     # see it work, in minutes
    python experiments/tables.py --tables ama-1 ama-2 --budget laptop --output runs/tables
    python experiments/tables.py --tables mine.toml                # your own; see jaxad/report/table_spec.py

A table names scripts of this folder or of its own. They take --seed, --output, --resume and --quiet, and write
results.json into the folder that --output names, last.

Every cell is a run folder under --output, kept as it is computed: start the same command again after a kill, or after
fetching a missing set, and only what is missing runs. tables.md, tables.html and tables.json are written after every
cell. A cell whose images are not there, or are others than when it ran, leaves a row that says why. Several clients
with the same --output share the work; --scheduler has a Dask cluster do it, of one file system.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Literal

from jaxad._utils.validate import check_at_least
from jaxad.report.paper_tables import HEADS
from jaxad.report.table_files import read_table
from jaxad.report.table_spec import Cell, TableSpec, cells_of, selected
from jaxad.runs import cli, table_runs
from jaxad.runs.claims import Claims
from jaxad.runs.dask_pool import DaskPool
from jaxad.runs.grid import Record, fill
from jaxad.runs.progress import table

EXPERIMENTS = Path(__file__).resolve().parent
TABLES = EXPERIMENTS / "paper_tables"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Fill tables of methods x tasks x seeds."""

    tables: tuple[str, ...] = ()
    """Names of tables, or TOML files; without any, all names are listed."""
    budget: Literal["smoke", "laptop", "paper"] = "smoke"
    """Size of every run: smoke (does it work?), laptop (an affordable figure), paper (for accelerators)."""
    num_seeds: int | None = None
    """Number of seeds of every cell, the first of them 0; by default as many as the table says."""
    methods: tuple[str, ...] = ()
    """Fill the rows of these methods alone."""
    tasks: tuple[str, ...] = ()
    """Fill the rows of these tasks alone."""
    output: str = "runs/tables"
    """Folder of all cells and of the tables."""
    data_dir: str | None = None
    """Where prepared TFDS sets are; by default TFDS_DATA_DIR."""
    jobs: int | None = None
    """Number of cells that run at a time; by default one, or as many as the scheduler has workers."""
    scheduler: str | None = None
    """Dask scheduler whose workers run the cells: its address, such as tcp://host:8786, or its scheduler file."""
    quiet: bool = False
    """Print nothing but errors."""

    is_command_line = True  # errors name flags


def run(config: Config) -> int:
    """Everything: the status is 0 if all cells are there, otherwise 1."""
    if not config.tables:
        table("tables", ("name", "title"), [(p.stem, read_table(p).title) for p in sorted(TABLES.glob("*.toml"))])
        return 0
    check_at_least(config, "num_seeds", "jobs")
    specs = {name: load(config, located(name)) for name in config.tables}
    with DaskPool(config.scheduler) if config.scheduler else nullcontext() as pool:
        return filled(config, specs, pool)


def filled(config: Config, specs: dict[str, TableSpec], pool: DaskPool | None) -> int:
    """Fill the tables, by the workers of a pool or in processes of this machine."""
    output = table_runs.make_folder(config.output)
    wanted = (cell for spec in specs.values() for cell in cells_of(spec, config.budget, config.num_seeds))
    cells = {table_runs.folder_name(cell): cell for cell in wanted}
    runs = table_runs.TableRuns(output, cells, experiments=EXPERIMENTS, data_dir=config.data_dir, pool=pool)
    writing = Lock()

    def write() -> dict[str, list[tuple[str, ...]]]:
        known = {cells[name]: found for name, found in runs.results.items()}
        options = {"budget": config.budget, "num_seeds": config.num_seeds, "num_cells": len(cells)}
        return table_runs.write_tables(specs, known, runs.reasons, output, **options)

    def work(cell: Cell) -> Record:
        try:
            return runs.work(cell)
        finally:
            with writing:
                write()

    open_ones = {name: cell for name, cell in cells.items() if cell not in runs.reasons}
    jobs = config.jobs or (pool and pool.count()) or 1
    with ThreadPoolExecutor(jobs) as threads:  # each waits for a process
        several = {"jobs": jobs, "pool": threads} if jobs > 1 else {}
        fill(
            open_ones, runs.results, work, label="cells", quiet=config.quiet, on_error=lambda name, error: None,
            claims=Claims(output / ".claims", runs.refresh), **several,
        )  # fmt: skip
    lines = write()
    if not config.quiet:
        for name, spec in specs.items():
            table(spec.title, HEADS, lines[name])
        print(f"tables:   {output / 'tables.html'}")
    return 1 if runs.reasons else 0


def located(name: str) -> Path:
    """The file of a table, by its name or path."""
    path = TABLES / f"{name}.toml"
    if path.is_file():
        return path
    if not Path(name).is_file():
        known = ", ".join(sorted(p.stem for p in TABLES.glob("*.toml")))
        raise ValueError(f"--tables has {name!r}, which is neither a file nor one of {known}")
    return Path(name)


def load(config: Config, path: Path) -> TableSpec:
    """A table with the wanted methods and tasks alone, their scripts among the experiments or beside the file."""
    spec = selected(read_table(path), methods=config.methods, tasks=config.tasks)
    return table_runs.with_scripts(spec, EXPERIMENTS, path.resolve().parent)


if __name__ == "__main__":
    cli.main(run, Config)
