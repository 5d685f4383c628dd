"""The runs of experiments that tables need: each a folder of its own, and tables as they stand whenever one has ended.

SCRIPT-HASH-SEED/   a run folder, named by its script and a hash of its command line
tables.md, tables.html, tables.json
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxad._utils import files
from jaxad.report.paper_tables import render_tables, table_cells, tables_markdown
from jaxad.report.table_spec import Cell, TableSpec, others_of, rows_of

Results = Mapping[str, Any]  # of a run, as results.json has them


def with_scripts(spec: TableSpec, experiments: Path, beside: Path) -> TableSpec:
    """The table with scripts where they are: named, in the folder of the experiments, or else by their path.

    Raises:
      ValueError: a script that is neither among the experiments nor in the folder `beside`.
    """
    methods = []
    for method in spec.methods:
        places = [experiments / method.script, beside / method.script]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ValueError(f"{spec.title}: {method.name} needs {method.script}, which is neither of {places}")
        methods.append(method if found == places[0] else method._replace(script=str(found)))
    return spec._replace(methods=tuple(methods))


def folder_name(cell: Cell) -> str:
    """The name of a run's folder: its script, a hash of its command line, its seed."""
    digest = hashlib.sha256(json.dumps([cell.script, *cell.flags]).encode()).hexdigest()
    return f"{Path(cell.script).stem}-{digest[:10]}-{cell.seed}"


def finished_runs(cells: Mapping[str, Cell], output: Path) -> dict[str, Results]:
    """The results of those runs that have ended, by the names of their folders."""
    paths = {name: output / name / "results.json" for name in cells}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def run_experiment(cell: Cell, folder: Path, *, experiments: Path, data_dir: str | None = None) -> Results:
    """Run an experiment in a folder, or what is left of it, in a process of its own.

    Args:
      experiments: the folder of scripts that are named.
      data_dir: where prepared TFDS sets are; by default TFDS_DATA_DIR.

    Raises:
      ValueError: what the experiment says for its last where it ends without results.
    """
    command = [sys.executable, str(experiments / cell.script)]
    if (folder / "config.json").exists():
        command += ["--resume", str(folder), "--quiet"]
    else:
        command += [*cell.flags, "--seed", str(cell.seed), "--output", str(folder), "--quiet"]
    environment = os.environ | ({"TFDS_DATA_DIR": data_dir} if data_dir else {})
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        raise ValueError(last.removeprefix("error: "))
    return json.loads((folder / "results.json").read_text())


def write_tables(
    specs: Mapping[str, TableSpec],
    results: Mapping[Cell, Results],
    reasons: Mapping[Cell, str],
    output: Path,
    *,
    budget: str,
    num_seeds: int | None,
    num_cells: int,
) -> dict[str, list[tuple[str, ...]]]:
    """Write tables as they stand, for people and programs.

    Args:
      specs: tables by name.
      results: of the runs that have ended.
      reasons: why others have none.
      num_seeds: seeds of every cell; by default what a table says.
      num_cells: how many runs there will be.

    Returns:
      The lines of every table, under `HEADS`.
    """
    rows = {
        name: rows_of(spec, budget, num_seeds or spec.seeds[budget], results, reasons) for name, spec in specs.items()
    }
    full = {name: (spec, table_cells(rows[name], others_of(spec))) for name, spec in specs.items()}
    # Of a cell: to ask here would take hold of the accelerator that the cells need.
    made = next(iter(results.values()), {})
    facts = {"budget": budget, "runs": f"{len(results)} of {num_cells}", **made.get("versions", {})}
    facts["device"] = (made.get("device") or {}).get("kind", "")
    plain = [
        {"table": name, **row._asdict(), "mean": row.mean, "sd": row.sd}
        for name, found in rows.items()
        for row in found
    ]
    files.write_json(output / "tables.json", {"facts": facts, "rows": plain})
    text = [", ".join(f"{name} {value}" for name, value in facts.items())]
    files.write_text(output / "tables.md", tables_markdown(full, text))
    verdict = f"{len(results)} of {num_cells} runs at budget {budget}."
    files.write_text(output / "tables.html", render_tables(full, verdict, facts))
    return {name: lines for name, (_, lines) in full.items()}
