"""How fast neural batch sampling trains: steps per second of Algorithm 1, and where the time goes.

    python benchmarks/nbs_loop.py                                      sizes of the experiment's default
    python benchmarks/nbs_loop.py --image-size 256 --channels 3 --patch 64 --width 1 --sampler-width 1 --code 200

The second has the thesis's sizes and is for a GPU (--predictor-width 1 or 2, --batch 16, --predictor-updates 2).

Steps run in one compiled program, whole periods of the autoencoder at a time, so that every kind of step has its share;
what is timed reaches from the call to the last number on the host. The program is compiled once, which is checked. The
pieces are then compiled apart, from the same state, and timed one by one.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxad._utils.compile import kernel_options
from jaxad.data.batches import to_float
from jaxad.methods.nbs import (
    EnvironmentConfig,
    ImagePool,
    NBSConfig,
    NBSState,
    losses,
    make_image_pool,
    train_nbs,
    training,
    updates,
)
from jaxad.methods.nbs import environment as env
from jaxad.methods.nbs.profiles import append, loss_maps
from jaxad.types import Array


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", type=int, default=52, help="in all (default 52)")
    add("--labelled", type=int, default=5, help="default 5")
    add("--image-size", type=int, default=64, help="side, a multiple of --patch (default 64)")
    add("--channels", type=int, default=1, help="default 1")
    add("--patch", type=int, default=16, help="side, a multiple of 8; windows are twice as wide (default 16)")
    add("--width", type=float, default=0.125, help="of the autoencoder; 1 is the thesis's (default 0.125)")
    add("--sampler-width", type=float, default=0.5, help="default 0.5")
    add("--predictor-width", type=float, default=0.5, help="default 0.5")
    add("--code", type=int, default=32, help="default 32")
    add("--batch", type=int, default=8, help="patches of an update of the autoencoder, of 32 in a step (default 8)")
    add("--predictor-updates", type=int, default=6, help="in a step (default 6)")
    add("--periods", type=int, default=2, help="of the autoencoder in a round (default 2)")
    add("--rounds", type=int, default=3, help="after a first one; the median is shown (default 3)")
    add("--seconds", type=float, default=1.0, help="to time each piece for (default 1)")
    add("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    if not 0 < args.labelled < args.images:
        parser.error(f"--labelled is {args.labelled}; give 1 to --images - 1 ({args.images - 1})")
    if min(args.periods, args.rounds) < 1:
        parser.error("--periods and --rounds are 1 or more")
    return args


def setup(args: argparse.Namespace) -> tuple[NBSConfig, ImagePool]:
    """The config, and random images with a square defect on each."""
    environment = EnvironmentConfig(patch=args.patch, shift=3 * args.patch // 8, window=2 * args.patch)
    config = NBSConfig(
        environment=environment, code=args.code, width=args.width, sampler_width=args.sampler_width,
        predictor_width=args.predictor_width, batch=args.batch, predictor_updates=args.predictor_updates,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    side = args.image_size
    images = rng.integers(0, 256, (args.images, side, side, args.channels), dtype=np.uint8)
    masks = np.zeros((args.labelled, side, side), np.uint8)
    masks[:, : side // 8, : side // 8] = 1
    return config, make_image_pool(config, images[: args.labelled], masks, images[args.labelled :])


def measure_steps(config: NBSConfig, pool: ImagePool, periods: int, rounds: int) -> tuple[dict[str, Any], NBSState]:
    """Seconds to compile and of every round, and a state with full profiles."""
    steps, key = periods * config.period, jax.random.key(0)
    began = time.perf_counter()
    state, _ = train_nbs(config, key, pool, steps=steps, chunk=steps)
    first, seconds = time.perf_counter() - began, []
    for turn in range(1, rounds + 1):
        start, began = turn * steps, time.perf_counter()
        state, _ = train_nbs(config, key, pool, steps=start + steps, chunk=steps, state=state, start_step=start)
        seconds.append(time.perf_counter() - began)
    programs = training._program(config, -(-steps // training.ROOM) * training.ROOM)._cache_size()
    if programs != 1:
        raise RuntimeError(f"{programs} programs were compiled for one loop")
    start, whole = (rounds + 1) * steps, config.profile
    state, _ = train_nbs(config, key, pool, steps=start + whole, chunk=whole, state=state, start_step=start)
    return {"steps": steps, "first": first, "seconds": seconds}, state


def pieces(
    config: NBSConfig, pool: ImagePool, state: NBSState
) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """What a step consists of, as functions with their arguments."""
    images, masks, key, state = to_float(pool.images), pool.masks, jax.random.key(1), state.opt_state
    labelled, size = masks.shape[0], config.environment.patch
    optimiser, alpha = optax.adam(config.learning_rate), losses.anomalous_ratio(masks)
    seen = jax.jit(
        lambda: updates.make_seen(config, key, images, state.profiles[..., -1], masks)._replace(labelled=0)
    )()
    seen = seen._replace(labelled=labelled)
    episodes, drawn = jax.jit(lambda: updates.sample(config, key, state.strategy, state.sampler, seen))()
    returns = (jnp.ones(config.episode),) * 2

    def augmented(maps: Array) -> Any:
        return updates.make_seen(config, key, images, maps, masks)[:3]

    def sampled(sampler: Any) -> Any:
        return updates.sample(config, key, state.strategy, sampler, seen)

    def trained(params: Any, opt_state: Any) -> Any:
        patches = env.patches(seen.images, drawn.images, drawn.corners, size)
        return updates.train_autoencoder(config, optimiser, params, opt_state, patches)

    def evaluated(params: Any, profiles: Array) -> Array:
        return append(profiles, loss_maps(config, params, images))

    def pushed(buffer: Any, profiles: Array) -> Any:
        return updates.push(config, key, buffer, profiles[:labelled], masks, jnp.bool_(True))

    def predicted(*known: Any) -> Any:
        return updates.train_predictor(config, optimiser, key, known, state.buffer, alpha)

    def improved(sampler: Any, opt_state: Any) -> Any:
        gradients = jax.grad(updates.policy_loss, 1)(config, sampler, episodes, returns, jnp.float32(0.5))
        return updates.updated(optimiser, gradients, opt_state, sampler)

    opt = state.optimisers
    return {
        "images changed at random": (augmented, (state.profiles[..., -1],)),
        "two episodes of the sampler": (sampled, (state.sampler,)),
        "autoencoder trained": (trained, (state.autoencoder, opt["autoencoder"])),
        "losses of all images": (evaluated, (state.autoencoder, state.profiles)),
        "profiles into the buffer": (pushed, (state.buffer, state.profiles)),
        "predictor trained": (predicted, (state.predictor, opt["predictor"])),
        "sampler trained": (improved, (state.sampler, opt["sampler"])),
    }


def share_of_steps(config: NBSConfig, name: str) -> float:
    """How many of a period's steps have a piece."""
    if name == "predictor trained":
        return (config.period - config.profile + 1) / config.period
    return (config.period - 1 - config.skip) / config.period if name == "sampler trained" else 1.0


def time_piece(function: Callable[..., Any], inputs: tuple[Any, ...], seconds: float) -> float:
    """Milliseconds of a run, the median."""
    program = jax.jit(function, compiler_options=kernel_options()).lower(*inputs).compile()
    jax.block_until_ready(program(*inputs))
    times, ends = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        began = time.perf_counter()
        jax.block_until_ready(program(*inputs))
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    """Measure and report."""
    args = arguments()
    config, pool = setup(args)
    device, load = jax.devices()[0].device_kind, os.getloadavg()[0]
    print(f"JAX {jax.__version__} on {device}, {os.cpu_count()} cores, load {load:.1f} before")
    measured, state = measure_steps(config, pool, args.periods, args.rounds)
    whole = 1000 * statistics.median(measured["seconds"]) / measured["steps"]
    compiled = measured["first"] - statistics.median(measured["seconds"])
    print(f"{1000 / whole:.2f} steps/s, {whole:.1f} ms a step; one program, {compiled:.1f} s to compile")
    print(f"{'piece':32}{'ms':>10}{'of steps':>10}{'ms a step':>12}{'share':>8}")
    records, total = [], 0.0
    for name, (function, inputs) in pieces(config, pool, state).items():
        duration, often = time_piece(function, inputs, args.seconds), share_of_steps(config, name)
        total += duration * often
        print(f"{name:32}{duration:>10.2f}{often:>10.2f}{duration * often:>12.2f}{duration * often / whole:>8.0%}")
        records.append({"piece": name, "milliseconds": duration, "share_of_steps": often})
    print(f"{'together':32}{'':>20}{total:>12.2f}{total / whole:>8.0%}")
    if args.json:
        about = {"jax": jax.__version__, "device": device, "cores": os.cpu_count(), "load": load}
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        out = about | {"settings": settings, "milliseconds_a_step": whole, "loop": measured, "pieces": records}
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
