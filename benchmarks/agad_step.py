"""How fast AGAD trains and scores with each generator: jaxad's compiled iteration beside PyTorch, eagerly.

    python benchmarks/agad_step.py                                     the naive generator at full width, for a CPU
    python benchmarks/agad_step.py --generators naive unet unetpp      all three
    python benchmarks/agad_step.py --anomalies 8                       with labelled anomalies in every batch
    python benchmarks/agad_step.py --image-size 16 --width 0.25        a quick look

An iteration is all that AGAD does with a batch: G(x) and G(G(x)), D of images and reconstructions, one update of each.
Both sides have the same networks, losses and optimisers and are spared the same work; tests/test_agad_torch.py compares
their values and gradients. "torch-channels-last" is the PyTorch side with its other memory layout. The latency is that
of one image's score, from the call to the number on the host.

Every method has a process of its own, with all cores, for as long as a generator is measured. They take turns, round by
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
GENERATORS = ("naive", "unet", "unetpp")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--generators", nargs="+", choices=GENERATORS, default=["naive"], help="one after another (default naive)")
    add("--rounds", type=int, default=5, help="turns of every method; tables show medians (default 5)")
    add("--iterations", type=int, default=10, help="training iterations of a turn (default 10)")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all; torch where installed")
    add("--batch-size", type=int, default=64, help="default 64")
    add("--anomalies", type=int, default=0, help="labelled ones in every batch (default 0)")
    add("--image-size", type=int, default=32, help="images are square; multiples of 16 (default 32)")
    add("--channels", type=int, default=1, help="of the images (default 1)")
    add("--width", type=float, default=1.0, help="of the networks; 1 is the published size (default 1)")
    add("--compute", choices=("float32", "bfloat16"), default="float32", help="of our convolutions (default float32)")
    add("--images", type=int, default=1024, help="to draw batches from (default 1024)")
    add("--scores", type=int, default=30, help="images scored one by one in a turn (default 30)")
    add("--torch-threads", type=int, default=cores(), help=f"default: all cores ({cores()} here)")
    add("--seed", type=int, default=0, help="of images and weights (default 0)")
    add("--json", type=Path, metavar="FILE", help="written after every turn")
    add("--worker", metavar="SPEC", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not 1 <= args.batch_size <= args.images:
        parser.error(f"--batch-size is {args.batch_size}; give 1 to --images ({args.images})")
    if not 0 <= args.anomalies < args.batch_size:
        parser.error(f"--anomalies is {args.anomalies}; give 0 to {args.batch_size - 1}, less than --batch-size")
    if min(args.rounds, args.iterations, args.scores) < 1:
        parser.error("--rounds, --iterations and --scores are 1 or more")
    return args


# ---- running measurements ----------------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All measurements: {"machine", "settings", "methods" and "errors" by generator, "turns"}."""
    settings = {name: value for name, value in vars(args).items() if name not in ("json", "worker")}
    results = {"machine": machine(), "settings": settings, "methods": {}, "turns": [], "errors": {}}
    save(args.json, results)  # a file that cannot be written is known now, not after the first measurement
    names = ("iterations", "batch_size", "anomalies", "image_size", "channels", "width", "images", "scores", "compute")
    names = (*names, "seed", "torch_threads")
    for generator in args.generators:
        spec = {name: getattr(args, name) for name in names} | {"generator": generator}
        say(generator)
        with started(__file__, args.methods, spec) as found:
            results["methods"][generator], results["errors"][generator] = found.abouts, found.errors
            for turn, method, load, answer in turns(found, args.rounds, "train"):
                rate = args.iterations * args.batch_size / answer["seconds"]
                say(f"round {turn + 1}/{args.rounds}, {method}: {rate:.1f} images/s")
                record = {"generator": generator, "round": turn, "method": method, "images_per_second": rate}
                results["turns"].append(record | {"load_before": load} | answer)
                save(args.json, results)
            for turn, method, _, answer in turns(found, args.rounds, "latency"):
                say(f"round {turn + 1}/{args.rounds}, {method}: {answer['latency']:.2f} ms for an image")
                (record,) = (
                    record
                    for record in results["turns"]
                    if (record["generator"], record["round"], record["method"]) == (generator, turn, method)
                )
                record["latency"] = answer["latency"]
                save(args.json, results)
    return results


# ---- tables ------------------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> str:
    """All tables as text."""
    settings = results["settings"]
    size, labelled = settings["image_size"], settings["anomalies"]
    lines = [
        f"Training iterations of {settings['batch_size']} images {size}x{size}x{settings['channels']}"
        f"{f', {labelled} of them labelled anomalies' if labelled else ''}, width {settings['width']}, "
        f"{settings['iterations']} a round, median of {settings['rounds']} rounds; latency of one image's score"
    ]
    for generator, methods in results["methods"].items():
        lines += [f"\n{generator}", *_generator(results, generator, methods)]
        lines += [f"  NOT MEASURED: {name}: {error}" for name, error in results["errors"][generator].items()]
    return "\n".join(lines)


def _generator(results: dict[str, Any], generator: str, methods: dict[str, Any]) -> list[str]:
    """The lines of one generator."""
    rows = [("method", "with", "images/s", "least", "most", "ms/iteration", "ms/image", "compile s", "peak MiB")]
    batch_size, warnings = results["settings"]["batch_size"], []
    seen = {
        name: [t for t in results["turns"] if (t["generator"], t["method"]) == (generator, name)] for name in methods
    }
    for method, about in methods.items():
        if not (own := seen[method]):
            continue
        rates = [turn["images_per_second"] for turn in own]
        middle, waits = statistics.median(rates), [turn["latency"] for turn in own if "latency" in turn]
        numbers = [f"{value:.1f}" for value in (middle, min(rates), max(rates), 1000 * batch_size / middle)]
        numbers.append(f"{statistics.median(waits):.2f}" if waits else "-")
        numbers.append(f"{about['compile']:.1f}" if about["programs"] else "-")
        rows.append((method, about["method"], *numbers, f"{max(turn['peak_mib'] for turn in own):.0f}"))
        for turn in own:
            if not all(map(math.isfinite, turn["info"].values())):
                warnings.append(f"  DIVERGED: {method} in round {turn['round'] + 1}")
            if turn["programs"]:
                warnings.append(f"  COMPILED WHILE TIMED: {method} in round {turn['round'] + 1}")
    lines = [table(rows)]
    for method in [name for name in methods if name != "ours" and seen.get("ours")]:
        ours = {turn["round"]: turn["images_per_second"] for turn in seen["ours"]}
        values = [ours[t["round"]] / t["images_per_second"] for t in seen[method] if t["round"] in ours]
        if values:
            spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
            lines.append(f"  ours / {method}, images/s: {statistics.median(values):.2f}{spread}")
    return lines + warnings


def main(argv: list[str] | None = None) -> None:
    """Measure and report."""
    args = arguments(argv)
    if args.worker:
        import agad_worker

        agad_worker.main(args.worker)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes are ended, too
    results = measure(args)
    about = results["machine"]
    print(f"{about['processor']}, {about['cores']} cores; torch on {args.torch_threads} threads")
    print(f"versions {about['versions']}; environment {about['environment']}")
    print(report(results))


if __name__ == "__main__":
    main()
