"""How fast architectures are searched: jaxad's evaluator, one `jax.jit` per architecture, and PyTorch eager.

    python benchmarks/search_throughput.py                                  everything; half an hour on two cores
    python benchmarks/search_throughput.py --children 6 --steps 2 --growth  a look, in a few minutes

All methods train the same random children of the paper's space on the same images from the same shared weights,
and score the same validation images. Each measurement has a process of its own and counts everything from the
images on the device to the last reward, compilation included; process start and imports are left out but stated.
JAX methods start with an empty compilation cache ("cold") or with what a search of other children left ("warm").
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search_tables import more, report

METHODS = ("ours", "naive", "torch")
OTHER_CHILDREN = 1_000_003  # added to the seed for the search that leaves a warm cache behind


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--children", type=int, default=100, help="children of a search (default 100)")
    add("--steps", type=int, nargs="+", default=[5, 20], help="training steps of a child (default 5 20)")
    add("--repeats", type=int, default=1, help="rounds of all measurements; tables show medians (default 1)")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all; torch where installed")
    add("--caches", nargs="+", choices=("cold", "warm"), default=["cold", "warm"], help="default: both")
    add("--warm-children", type=int, help="of the search that leaves a warm cache (default: as --children)")
    add(
        "--growth", type=int, nargs="*", default=[25, 50, 100, 200], help="ours, cold, first of --steps (25 50 100 200)"
    )
    add("--limit-children-naive", type=int, metavar="K", help="time naive on the first K and extrapolate (default: no)")
    add("--give-up", type=float, metavar="S", help="end a measurement after S seconds: it takes longer than that")
    add("--interleaved", action="store_true", help="compare population by population, on a noisy machine; cold caches")
    add("--executor", default="auto", help="jaxad's executor: auto, sequential or vmapped (default auto)")
    add("--torch-threads", type=int, default=cores(), help=f"default: all cores ({cores()} here)")
    add("--num-layers", type=int, default=3, help="N of the search space (default 3)")
    add("--image-size", type=int, default=28, help="images are square and grey (default 28)")
    add("--batch-size", type=int, default=64, help="of training and scoring (default 64)")
    add("--train-images", type=int, default=2000, help="default 2000")
    add("--valid-images", type=int, default=1000, help="scored for the reward, by AUROC (default 1000)")
    add("--fit-images", type=int, default=256, help="for the statistics of a hypothesis (default 256)")
    add("--population", type=int, default=10, help="children between two merges (default 10)")
    add("--seed", type=int, default=0, help="of the children (default 0)")
    add("--json", type=Path, metavar="FILE", help="written after every measurement")
    add("--worker", metavar="SPEC", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.interleaved and args.caches != ["cold"]:
        parser.error("--interleaved compares from empty caches only: add --caches cold")
    return args


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- running measurements ----------------------------------------------------------------------------------------


class Bench:
    """Starts the measurements one after another and keeps their results."""

    def __init__(self, args: argparse.Namespace, scratch: Path) -> None:
        self.args, self.scratch = args, scratch
        self.results: list[dict[str, Any]] = []
        self._numbers = itertools.count()
        self._warm: dict[tuple[str, int], Path] = {}

    def run(self, method: str, cache: str, steps: int, children: int, purpose: str, repeat: int = 0) -> None:
        """Measure once; `purpose` is "compare", "growth" or "fill" (the search that leaves a warm cache behind)."""
        if cache == "warm" and (method, steps) not in self._warm:
            self.run(method, "cold", steps, self.args.warm_children or self.args.children, "fill")
        folder = self.scratch / "cache"  # one place for all: it is part of JAX's keys
        shutil.rmtree(folder, ignore_errors=True)
        if cache == "warm":
            shutil.copytree(self._warm[method, steps], folder)
        record, where = self._prepare(method, cache, steps, children, purpose, repeat, folder)
        process = subprocess.run([sys.executable, __file__, "--worker", str(where)], env=environment(method, folder))
        self._finish(record, where, process.returncode)
        if purpose == "fill":
            self._warm[method, steps] = folder.rename(where.with_suffix(".cache"))

    def run_in_turns(self, methods: Sequence[str], steps: int, children: int, repeat: int) -> None:
        """Compare methods from empty caches, a population of each at a time, so that all see the same machine."""
        waiting, processes = deque((method, None) for method in methods), []
        try:
            while waiting:
                method, measurement = waiting.popleft()
                if measurement is None:
                    folder, cache = (
                        self.scratch / f"{next(self._numbers)}.cache",
                        "none" if method == "torch" else "cold",
                    )
                    record, where = self._prepare(method, cache, steps, children, "compare", repeat, folder)
                    command = [sys.executable, __file__, "--worker", str(where)]
                    processes.append(subprocess.Popen(command, env=environment(method, folder)))
                    measurement = processes[-1], record, where
                else:
                    measurement[0].send_signal(signal.SIGCONT)
                process, record, where = measurement
                _, status = os.waitpid(process.pid, os.WUNTRACED)
                if os.WIFSTOPPED(status):
                    waiting.append((method, measurement))
                    continue
                process.returncode = os.waitstatus_to_exitcode(status)
                self._finish(record, where, process.returncode)
        finally:
            for process in processes:
                process.kill()  # also those that stand still

    def _prepare(
        self, method: str, cache: str, steps: int, children: int, purpose: str, repeat: int, folder: Path
    ) -> tuple[dict[str, Any], Path]:
        """What is known of a measurement beforehand, and the file that tells its process what to do."""
        folder.mkdir(exist_ok=True)
        limit = self.args.limit_children_naive
        timed = min(children, limit) if method == "naive" and limit else children
        names = ("num_layers", "image_size", "batch_size", "train_images", "valid_images", "fit_images", "population")
        spec = {name: getattr(self.args, name) for name in (*names, "executor", "torch_threads", "give_up")}
        seed = self.args.seed + (OTHER_CHILDREN if purpose == "fill" else 0)
        where = self.scratch / f"{next(self._numbers)}.spec"
        spec |= {"method": method, "steps": steps, "children": timed, "seed": seed, "cache": str(folder)}
        spec |= {
            "result": str(where.with_suffix(".json")),
            "interleaved": self.args.interleaved and purpose == "compare",
        }
        label = f"{method} {cache}, {timed} children x {steps} steps ({purpose})"
        print(f"[{time.strftime('%H:%M:%S')}] {label}", file=sys.stderr, flush=True)
        record = {"method": method, "cache": cache, "steps": steps, "children": timed, "purpose": purpose}
        record |= {"repeat": repeat, "load_before": os.getloadavg()[0], "command_line": label}
        record |= {"extrapolated_to": children if timed < children else None, "interleaved": spec["interleaved"]}
        where.write_text(json.dumps(spec | {"launched": time.time()}))
        return record, where

    def _finish(self, record: dict[str, Any], where: Path, status: int) -> None:
        """Read what a process measured."""
        if status:
            record["error"] = f"exit status {status}"
        else:
            record |= json.loads(where.with_suffix(".json").read_text())
            children = record["extrapolated_to"] or record["children"]
            record["total"] = record["wall"] * (1 if record["gave_up"] else children / record["children"])
            print(f"    {record['method']} wall {more(record)}{record['wall']:.1f} s", file=sys.stderr, flush=True)
        self.results.append(record)
        self.save()

    def save(self) -> None:
        """Write everything measured so far."""
        if self.args.json:
            settings = {name: value for name, value in vars(self.args).items() if name not in ("json", "worker")}
            text = json.dumps({"machine": machine(), "settings": settings, "measurements": self.results}, indent=1)
            part = self.args.json.with_name(self.args.json.name + ".part")
            part.write_text(text + "\n")
            part.replace(self.args.json)


def environment(method: str, cache: Path) -> dict[str, str]:
    """What a measurement's process sees. Spinning threads would slow down whoever shares the machine."""
    variables = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    return variables | ({"JAX_PLATFORMS": "cpu"} if method == "torch" else {})


def machine() -> dict[str, Any]:
    """Where this runs."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next((line.split(": ")[1] for line in info.read_text().splitlines() if "model name" in line), model)
    versions = {}
    for package in ("jaxad", "jax", "jaxlib", "optax", "numpy", "torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "XLA_FLAGS", "JAX_PLATFORMS")}
    threads["OMP_WAIT_POLICY"] = "PASSIVE"
    system = {"system": platform.platform(), "processor": model, "cores": cores()}
    return system | {"python": platform.python_version(), "versions": versions, "environment": threads}


def main(argv: list[str] | None = None) -> None:
    """Measure and report."""
    args = arguments(argv)
    if args.worker:
        import search_worker

        search_worker.main(args.worker)
        return
    methods = [method for method in args.methods if method != "torch" or find_spec("torch")]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a running measurement is ended, too
    with tempfile.TemporaryDirectory(prefix="jaxad-benchmark-") as scratch:
        bench = Bench(args, Path(scratch))
        bench.save()  # a file that cannot be written is known now, not after the first measurement
        for repeat, steps in itertools.product(range(args.repeats), args.steps):
            if args.interleaved:
                bench.run_in_turns(methods, steps, args.children, repeat)
                continue
            for cache, method in itertools.product(args.caches, methods):
                if method != "torch":
                    bench.run(method, cache, steps, args.children, "compare", repeat)
                elif cache == args.caches[0]:
                    bench.run(method, "none", steps, args.children, "compare", repeat)
        for count in args.growth if "ours" in methods else []:
            if count != args.children or "cold" not in args.caches:
                bench.run("ours", "cold", args.steps[0], count, "growth")
    about = machine()
    measured = [record for record in bench.results if "error" not in record]
    devices = sorted({record["device"] for record in measured if record["method"] != "torch"})
    executors = sorted({f"{record['method']}: {record['executor']}" for record in measured})
    print(f"{about['processor']}, {about['cores']} cores; JAX on {', '.join(devices) or 'nothing'}")
    print("; ".join(executors))
    print(f"versions {about['versions']}; environment {about['environment']}")
    print(report(bench.results))


if __name__ == "__main__":
    main()
