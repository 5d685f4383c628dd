"""How fast AMA trains: jaxad's compiled iteration beside the same iteration in PyTorch, eagerly.

    python benchmarks/ama_step.py                                  with a channel width of a quarter, for a CPU
    python benchmarks/ama_step.py --methods ours --profile         where the time of our iteration goes
    python benchmarks/ama_step.py --image-size 16 --iterations 10  a quick look

An iteration is all that AMA does with a batch: synthetic negatives, E and G forward (also from interpolated codes, of
three parents each), five updates of the critic with gradient penalty and spectral norm, one update of E and G. Both
sides have the same networks, losses and optimisers and are spared the same work; tests/test_ama_torch.py compares
their values and gradients. "torch-channels-last" is the PyTorch side with its other memory layout.

Every method has a process of its own, with all cores, for as long as the benchmark runs. They take turns, round by
round, and sleep in between (OMP_WAIT_POLICY=PASSIVE: also their threads), so that all meet the same machine. What is
timed is training alone, from the call to the last number on the host; compilation is stated apart.
"""

import argparse
import math
import signal
import statistics
import sys
from pathlib import Path
from typing import Any

from interleaved import save, say, started, turns
from search_tables import table
from search_throughput import cores, machine

METHODS = ("ours", "torch", "torch-channels-last")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="turns of every method; tables show medians (default 5)")
    add("--iterations", type=int, default=4, help="training iterations of a turn (default 4)")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all; torch where installed")
    add(
        "--profile",
        type=float,
        nargs="?",
        const=1.0,
        metavar="S",
        help="then time each piece of ours for S seconds (1)",
    )
    add("--batch-size", type=int, default=32, help="from 10: a tenth are synthetic negatives (default 32)")
    add("--image-size", type=int, default=32, help="images are square: 8, 16, 32, 64 ... (default 32)")
    add("--channels", type=int, default=3, help="of the images (default 3)")
    add("--width", type=float, default=0.25, help="of the networks; 1 is the authors' size, for GPUs (default 0.25)")
    add("--latent-dim", type=int, default=128, help="length of a code (default 128)")
    add("--compute", choices=("float32", "bfloat16"), default="float32", help="of our convolutions (default float32)")
    add("--images", type=int, default=1024, help="to draw batches from (default 1024)")
    add("--torch-threads", type=int, default=cores(), help=f"default: all cores ({cores()} here)")
    add("--seed", type=int, default=0, help="of images and weights (default 0)")
    add("--json", type=Path, metavar="FILE", help="written after every turn")
    add("--worker", metavar="SPEC", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not 10 <= args.batch_size <= args.images:
        parser.error(f"--batch-size is {args.batch_size}; give 10 to --images ({args.images})")
    if args.rounds < 1 or args.iterations < 1:
        parser.error("--rounds and --iterations are 1 or more")
    if args.profile is not None and "ours" not in args.methods:
        parser.error("--profile takes ours apart; add it to --methods")
    return args


# ---- running measurements ----------------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All measurements: {"machine", "settings", "methods", "turns", "profile", "errors"}."""
    settings = {name: value for name, value in vars(args).items() if name not in ("json", "worker")}
    results = {"machine": machine(), "settings": settings, "methods": {}, "turns": [], "profile": [], "errors": {}}
    save(args.json, results)  # a file that cannot be written is known now, not after the first measurement
    names = ("iterations", "batch_size", "image_size", "channels", "width", "latent_dim", "images", "seed", "compute")
    spec = {name: getattr(args, name) for name in (*names, "torch_threads")}
    with started(__file__, args.methods, spec) as found:
        results |= {"methods": found.abouts, "errors": found.errors}
        for turn, method, load, answer in turns(found, args.rounds, "train"):
            rate = args.iterations * args.batch_size / answer["seconds"]
            say(f"round {turn + 1}/{args.rounds}, {method}: {rate:.1f} images/s")
            record = {"round": turn, "method": method, "images_per_second": rate, "load_before": load}
            results["turns"].append(record | answer)
            save(args.json, results)
        if args.profile is not None and "ours" in found.workers:
            say("pieces of ours, each compiled apart")
            try:
                results["profile"] = found.workers["ours"].ask(f"profile {args.profile}")["profile"]
            except RuntimeError as error:
                found.errors["profile"] = str(error)
    save(args.json, results)
    return results


# ---- tables ------------------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> str:
    """All tables as text."""
    settings = results["settings"]
    rows = [("method", "with", "images/s", "least", "most", "ms/iteration", "compile s", "ready s", "peak MiB")]
    rates = {method: {} for method in results["methods"]}
    warnings = []
    for turn in results["turns"]:
        rates[turn["method"]][turn["round"]] = turn["images_per_second"]
        if not all(map(math.isfinite, turn["info"].values())):
            warnings.append(f"DIVERGED: {turn['method']} in round {turn['round'] + 1}")
        if turn["programs"]:
            warnings.append(f"COMPILED WHILE TIMED: {turn['method']} in round {turn['round'] + 1}")
    for method, about in results["methods"].items():
        if not (values := list(rates[method].values())):
            continue
        middle = statistics.median(values)
        peak = max(turn["peak_mib"] for turn in results["turns"] if turn["method"] == method)
        numbers = (f"{value:.1f}" for value in (middle, min(values), max(values)))
        duration = f"{1000 * settings['batch_size'] / middle:.1f}"
        rest = (f"{about['compile']:.1f}" if about["programs"] else "-", f"{about['ready']:.1f}", f"{peak:.0f}")
        rows.append((method, about["method"], *numbers, duration, *rest))
    size, count = settings["image_size"], len({turn["round"] for turn in results["turns"]})
    lines = [
        f"\nTraining iterations of {settings['batch_size']} images {size}x{size}x{settings['channels']}, "
        f"width {settings['width']}, {settings['iterations']} a round, median of {count} rounds",
        table(rows),
    ]
    for method in [name for name in rates if name != "ours" and "ours" in rates]:
        values = [rates["ours"][i] / rates[method][i] for i in rates["ours"] if i in rates[method]]
        if values:
            spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
            lines.append(f"  ours / {method}, images/s: {statistics.median(values):.2f}{spread}")
    lines += [f"  {warning}" for warning in dict.fromkeys(warnings)]
    if results["profile"] and rates["ours"]:
        whole = 1000 * settings["batch_size"] / statistics.median(rates["ours"].values())
        lines += ["\nWhere the time of ours goes, each piece compiled apart", breakdown(results["profile"], whole)]
    lines += [f"\nNOT MEASURED: {name}: {error}" for name, error in results["errors"].items()]
    return "\n".join(lines)


def breakdown(profile: list[dict[str, Any]], whole: float) -> str:
    """Pieces with their share of an iteration of `whole` milliseconds; parts of a piece are indented."""
    rows = [("piece", "times", "ms", "ms/iteration", "share")]
    for record in profile:
        spent = record["ms"] * record["times"]
        numbers = (f"{record['ms']:.2f}", f"{spent:.1f}", f"{100 * spent / whole:.1f} %")
        rows.append(("  " * bool(record["part_of"]) + record["piece"], str(record["times"]), *numbers))
    summed = sum(record["ms"] * record["times"] for record in profile if not record["part_of"])
    rows.append(("sum", "", "", f"{summed:.1f}", f"{100 * summed / whole:.1f} %"))
    rows.append(("iteration as trained", "", "", f"{whole:.1f}", "100.0 %"))
    return table(rows)


def main(argv: list[str] | None = None) -> None:
    """Measure and report."""
    args = arguments(argv)
    if args.worker:
        import ama_worker

        ama_worker.main(args.worker)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes are ended, too
    results = measure(args)
    about = results["machine"]
    print(f"{about['processor']}, {about['cores']} cores; torch on {args.torch_threads} threads")
    print(f"versions {about['versions']}; environment {about['environment']}")
    print(report(results))


if __name__ == "__main__":
    main()
