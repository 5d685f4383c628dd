"""Is AutoAD's exploration alive? What its loss sees of the rewards, and how gains tell architectures apart.

    python benchmarks/exploration.py
    python benchmarks/exploration.py --seeds 8 --priors 1 1e-2 1e-4 --json exploration.json

For each weight of the divergence from the prior in Eq. 16 (`AutoADConfig.prior`), and for fresh controllers of the
default space:

    cosine    of the gradients of the exploration loss with rewards spread over [0, 1] and with none, by the mean of the
              weights: 1 says that rewards make no difference
    share     of the gradient's norm that the rewards account for

Of both gains (`AutoADConfig.gain`), before and after the controller has learned from populations of a made reward: the
standard deviation within a population, in units of its mean, which is 0 where the bonus is a constant; and the gain of
uniform architectures in units of those of architectures that the controller has been rewarded for, which is above 1
where curiosity is one for the unknown.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.compile import enable_compilation_cache
from jaxad.nas import loop
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import AutoADConfig, losses
from jaxad.nas.strategies.autoad.algorithm import make_algorithm, make_policy
from jaxad.runs.progress import table

POPULATION = 6


def gradients(space: SearchSpace, config: AutoADConfig, seed: int) -> tuple[float, float]:
    """(cosine, share) of the exploration loss's gradient by the mean, with rewards and without."""
    search = make_algorithm(space, POPULATION, config)
    policy = make_policy(space, config)
    state = search.init(jax.random.key(seed))
    tokens = space.sample(jax.random.key(1000 + seed), POPULATION)
    carries = jnp.zeros((POPULATION, 2, 2, config.units))

    @jax.jit
    def gradient(advantages: jax.Array) -> jax.Array:
        data = losses.Data(tokens, carries, advantages)
        loss = jax.grad(lambda *a: losses.exploration_loss(policy, config, *a)[0])
        return loss(state.learned, jax.random.key(2000 + seed), data, POPULATION).posterior.mean

    rewards = jnp.linspace(0, 1, POPULATION)
    seeing, blind = (np.asarray(gradient(a), np.float64) for a in (rewards - rewards.mean(), 0 * rewards))
    norms = np.linalg.norm(seeing), np.linalg.norm(blind)
    return float(seeing @ blind / (norms[0] * norms[1])), float(np.linalg.norm(seeing - blind) / norms[0])


def gains(space: SearchSpace, config: AutoADConfig, seed: int, populations: int) -> dict[str, float]:
    """How gains differ within a population, first and last, and those of uniform architectures at the end."""
    search = loop.jit(make_algorithm(space, POPULATION, config))
    state, spreads = search.init(jax.random.key(seed)), []
    values = [np.random.default_rng([seed, t]).random(count) for t, count in enumerate(space.choices_per_token)]
    for number in range(populations):
        ask, tell = jax.random.split(jax.random.fold_in(jax.random.key(3000 + seed), number))
        state, tokens = search.ask(ask, state)
        rewards = np.mean([values[t][np.asarray(tokens)[:, t]] for t in range(space.num_tokens)], 0)
        state, info = search.tell(tell, state, tokens, jnp.asarray(rewards, jnp.float32))
        spreads.append((float(info.gains.std() / info.gains.mean()), float(info.gains.mean())))
    new = space.sample(jax.random.key(4000 + seed), POPULATION)
    _, info = search.tell(jax.random.key(5000 + seed), state, new, jnp.zeros(POPULATION))
    _, own = search.ask(jax.random.key(6000 + seed), state)
    _, known = search.tell(jax.random.key(5000 + seed), state, own, jnp.zeros(POPULATION))
    return {
        "first": spreads[0][0],
        "last": spreads[-1][0],
        "unlike / like": float(info.gains.mean() / known.gains.mean()),
    }


def main(flags: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="fresh controllers (default 4)")
    parser.add_argument("--populations", type=int, default=30, help="that a controller learns from (default 30)")
    parser.add_argument("--priors", type=float, nargs="+", default=[1, 0.1, 1e-2, 1e-3, 1e-4, 1e-5], help="weights")
    parser.add_argument("--num-layers", type=int, default=3, help="of the space (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args(flags)
    enable_compilation_cache()
    space, found = SearchSpace(num_layers=args.num_layers), {"loss": {}, "gains": {}}
    for prior in args.priors:
        config = dataclasses.replace(AutoADConfig(), prior=prior)
        pairs = np.array([gradients(space, config, seed) for seed in range(args.seeds)])
        found["loss"][prior] = dict(zip(("cosine", "share"), pairs.mean(0).tolist()))
    rows = [(prior, round(v["cosine"], 4), round(v["share"], 4)) for prior, v in found["loss"].items()]
    table("exploration loss, with rewards against without", ("prior", "cosine", "share of the rewards"), rows)
    paper = AutoADConfig.paper()
    configs = {
        "default": AutoADConfig(),
        "paper": paper,
        "paper, all weights": dataclasses.replace(paper, gained="all"),
    }
    for name, config in configs.items():
        each = [gains(space, config, seed, args.populations) for seed in range(args.seeds)]
        found["gains"][name] = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
    rows = [(name, *(round(v, 3) for v in facts.values())) for name, facts in found["gains"].items()]
    table("information gains", ("settings", "sd / mean, first", "last population", "unlike / like"), rows)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
