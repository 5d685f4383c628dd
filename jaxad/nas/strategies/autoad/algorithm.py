"""Algorithm 1 of AutoAD, lines 8 to 22, as the functions of a `Search` (Li et al., TNNLS 2022).

`ask` writes a population of architectures with weights phi ~ q. `tell`, one compiled program, learns from their
rewards in three kinds of steps on mean and rho of q and the sharpening step sizes eta. Each kind has an Adam of its
own: the divergence from the prior has gradients that would drown those of the rewards in one Adam for all.

    explore    `losses.exploration_loss` (Eq. 16), and what its step taught about every architecture (Eqs. 6-7)
    reinforce  `losses.policy_loss` (Eqs. 4-5) with rewards shaped by that (Eq. 7)
    imitate    `losses.imitation_loss` (Eqs. 18-19) over the buffer of the best

Each part can be switched off, as in Table V. Readings where the paper is silent: the likelihood is of actions,
weighted with their advantages (the plain one would reinforce whatever was drawn); C is the number of sequences of an
iteration, and the divergence is spread over the search by the weight `prior`; actions are drawn before there is
anything to sharpen with, so theta is used in the exploration loss only, and REINFORCE differentiates the sample of q
that acted; g is a constant in the gradient; the gain is computed for each architecture from an update with it alone;
the baseline is of what it is subtracted from, the bonus included. A failed child counts as the worst reward for the
policy, and is never imitated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxad._utils.random import uniform_like
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import losses, replay
from jaxad.nas.strategies.autoad import posterior as bayes
from jaxad.nas.strategies.autoad.config import AutoADConfig
from jaxad.nas.strategies.autoad.controller import (
    Carried,
    Controller,
    Episode,
    carry_over,
    first_carries,
    make_controller,
    no_carry,
)
from jaxad.nas.strategies.autoad.losses import Data, Learned
from jaxad.nas.strategies.autoad.reinforce import Baseline, init_baseline, shaped_rewards, update_baseline
from jaxad.types import Array, Key, Params, Search

WORST = 0.0  # reward of a failed child, the lower bound of all rewards


class Optimisers(NamedTuple):
    """States of Adam, one for each kind of step."""

    explore: optax.OptState
    reinforce: optax.OptState
    imitate: optax.OptState


class AutoADState(NamedTuple):
    """All that the rest of a search depends on."""

    learned: Learned
    optimisers: Optimisers
    baseline: Baseline
    normaliser: bayes.Normaliser
    buffer: replay.Buffer
    carried: Carried
    noise: Array  # [W] of the sample of q that wrote the last proposals
    asked: Array  # [P, T] int32, these proposals
    replayed: Array  # [R, T] int32, what the last self-imitation learned from: these children train again
    num_evaluated: Array  # [] int32 children so far


class AutoADInfo(NamedTuple):
    """What a person wants to see after each `tell`."""

    num_evaluated: Array  # [] int32
    entropies: Array  # [T] nats, of the controller with its mean weights, averaged over the population
    probabilities: Array  # [T, V] likewise
    rewards: Array  # [P] external
    gains: Array  # [P] information gain before normalisation, nats
    curiosity: Array  # [P] what it added to the reward
    baseline: Array  # []
    advantages: Array  # [P] of the shaped rewards
    kl_prior: Array  # [] one-sample estimate of KL[q || p], nats
    kl_sharpening: Array  # [] nats
    imitated: Array  # [] mean clipped advantage of the last imitation step
    buffer_tokens: Array  # [S, T]
    buffer_rewards: Array  # [S], -inf where a place is free


def make_algorithm(space: SearchSpace, population: int, config: AutoADConfig) -> Search:
    """The functions of `autoad`, which has checked the arguments."""
    controller = _controller(space, config)
    optimiser, unravel = optax.adam(config.learning_rate), _unravelling(controller)
    policy, gained = make_policy(space, config), _gained(controller, config)

    def init(key: Key) -> AutoADState:
        weights_key, rho_key, eta_key = jax.random.split(key, 3)
        weights = controller.init(weights_key)
        mean, rho = (ravel_pytree(tree)[0] for tree in (weights, _initial_rho(rho_key, weights)))
        eta = config.eta * jax.random.normal(eta_key, mean.shape)
        learned = Learned(bayes.Posterior(mean, rho), eta)
        buffer = replay.init_buffer(config.buffer, space.num_tokens, controller.carry())
        carried = no_carry(controller, config.keep)
        optimisers = Optimisers(*[optimiser.init(learned)] * 3)
        normaliser = bayes.init_normaliser(config.history)
        asked, replayed = (jnp.zeros((rows, space.num_tokens), jnp.int32) for rows in (population, config.revisits))
        return AutoADState(
            learned, optimisers, init_baseline(), normaliser, buffer, carried, jnp.zeros(mean.shape), asked, replayed,
            jnp.int32(0),
        )  # fmt: skip

    def ask(key: Key, state: AutoADState) -> tuple[AutoADState, Array]:
        weights_key, actions_key = jax.random.split(key)
        noise = jax.random.normal(weights_key, state.noise.shape)
        phi = losses.acting_weights(config, state.learned, noise)
        carries = first_carries(controller, state.carried, population)
        keys = jax.random.split(actions_key, population)
        tokens = jax.vmap(controller.sample, (None, 0, 0))(unravel(phi), keys, carries).tokens
        return state._replace(noise=noise, asked=tokens), tokens

    def descend(learned: Learned, opt_state: Any, gradients: Learned) -> tuple[Learned, Any]:
        updates, opt_state = optimiser.update(gradients, opt_state, learned)
        return optax.apply_updates(learned, updates), opt_state

    # ---- Algorithm 1, lines 10 to 22 -----------------------------------------------------------------------------

    exploration = jax.grad(functools.partial(losses.exploration_loss, policy, config), has_aux=True)
    surprise = jax.grad(functools.partial(losses.surprise_loss, policy))
    reinforcement = jax.grad(functools.partial(losses.policy_loss, policy, config))
    imitation = jax.grad(functools.partial(losses.imitation_loss, policy, config))

    def information_gains(learned: Learned, opt_state: Any, key: Key, data: Data) -> Array:
        """What each sequence [n] would teach alone -> [n] nats (Eqs. 6-7)."""
        count = len(data.tokens)
        alone = jax.tree.map(lambda leaf: leaf[:, None], data)  # as populations of one
        before = gained(learned.posterior)

        def natural(data: Data) -> Array:
            return bayes.natural_gain(before, gained(surprise(learned.posterior, key, data)))

        def of_update(data: Data) -> Array:
            gradients, _ = exploration(learned, key, data, count)
            after, _ = descend(learned, opt_state, gradients)
            return bayes.information_gain(gained(after.posterior), before)

        return jax.vmap(natural if config.gain == "natural" else of_update)(alone)

    def imitate(
        learned: Learned, opt_state: Any, key: Key, buffer: replay.Buffer, count: int, baseline: Array
    ) -> tuple[Learned, Any, Array, Array]:
        """The self-imitation steps (Eqs. 18-19); the last mean clipped advantage, and all that was imitated [.., T]."""

        def step(moving: tuple[Learned, Any], number: Array) -> tuple[tuple[Learned, Any], tuple[Array, Array]]:
            draw_key, phi_key = jax.random.split(jax.random.fold_in(key, number))
            chosen = replay.draw(draw_key, buffer, count)
            gradients = imitation(moving[0], phi_key, chosen, baseline)
            return descend(*moving, gradients), (jnp.mean(jnp.clip(chosen.rewards - baseline, 0, 1)), chosen.tokens)

        (learned, opt_state), (advantages, seen) = lax.scan(step, (learned, opt_state), jnp.arange(config.imitations))
        # The first of every mini-batch comes first: `revisits` of one a step are one of each step.
        return learned, opt_state, advantages[-1], jnp.swapaxes(seen, 0, 1).reshape(-1, seen.shape[-1])

    def tell(key: Key, state: AutoADState, tokens: Array, rewards: Array) -> tuple[AutoADState, AutoADInfo]:
        chex.assert_shape(tokens, (None, space.num_tokens))
        chex.assert_shape(rewards, (tokens.shape[0],))
        count = tokens.shape[0]
        usable = jnp.isfinite(rewards)
        rewards = jnp.where(usable, rewards, WORST).astype(jnp.float32)
        carries = first_carries(controller, state.carried, population)[:count]
        explore_key, surprise_key, policy_key, imitate_key = jax.random.split(key, 4)
        expected = update_baseline(state.baseline, rewards, jnp.zeros(count), config.baseline_decay).value
        learned, (exploring, reinforcing, imitating) = state.learned, state.optimisers
        data = Data(tokens, carries, rewards - expected)

        gains, divergences = jnp.zeros(count), losses.Divergences(jnp.float32(0), jnp.float32(0))
        if config.bayesian:
            gains = information_gains(learned, exploring, surprise_key, data)
            gradients, divergences = exploration(learned, explore_key, data, count)
            learned, exploring = descend(learned, exploring, gradients)
        normaliser, normalised = bayes.normalise_gain(state.normaliser, gains)
        shaped = shaped_rewards(rewards, normalised, config.curiosity)
        baseline = update_baseline(state.baseline, rewards, shaped - rewards, config.baseline_decay)
        subtracted = baseline.value + (baseline.bonus if config.baseline == "shaped" else 0.0)

        # At the posterior that acted: the exploration step has moved it since.
        own = jnp.all(tokens == state.asked[:count], axis=1) if config.on_policy else jnp.ones(count, bool)
        gradients = reinforcement(state.learned, policy_key, state.noise, data, shaped, subtracted, own)
        learned, reinforcing = descend(learned, reinforcing, gradients)

        succeeded = jnp.where(usable, rewards, -jnp.inf)
        buffer, imitated = replay.insert(state.buffer, tokens, succeeded, carries), jnp.float32(0)
        replayed = state.replayed
        if config.imitations:
            learned, imitating, imitated, seen = imitate(learned, imitating, imitate_key, buffer, count, baseline.value)
            replayed = seen[jnp.arange(config.revisits) % len(seen)]

        shown = policy(learned.posterior.mean, tokens, carries)
        carried = state.carried
        if config.keep <= count:  # a last population may be too small to fill the places
            carried = carry_over(carried, shown.carry, rewards)
        num_evaluated = state.num_evaluated + count
        info = AutoADInfo(
            num_evaluated, shown.entropies.mean(0), shown.probabilities.mean(0), rewards, gains,
            config.curiosity * normalised, subtracted, shaped - subtracted,
            divergences.prior, divergences.sharpening, imitated, buffer.tokens, buffer.rewards,
        )  # fmt: skip
        optimisers = Optimisers(exploring, reinforcing, imitating)
        state = AutoADState(
            learned,
            optimisers,
            baseline,
            normaliser,
            buffer,
            carried,
            state.noise,
            state.asked,
            replayed,
            num_evaluated,
        )
        return state, info

    def revisit(key: Key, state: AutoADState) -> Array:
        if config.imitations:
            return state.replayed  # line 20 of Algorithm 1: the children of the mini-batches that were imitated
        return replay.draw(key, state.buffer, config.revisits).tokens

    return Search(init, ask, tell, revisit if config.revisits else None)


def make_policy(space: SearchSpace, config: AutoADConfig) -> losses.Policy:
    """What the controller makes of given architectures with given weights, which are one vector [W]."""
    controller = _controller(space, config)
    unravel = _unravelling(controller)

    def policy(weights: Array, tokens: Array, carries: Array) -> Episode:
        return jax.vmap(controller.replay, (None, 0, 0))(unravel(weights), tokens, carries)

    return policy


def _controller(space: SearchSpace, config: AutoADConfig) -> Controller:
    return make_controller(space, units=config.units, tanh=config.tanh, temperature=config.temperature)


def _unravelling(controller: Controller) -> Callable[[Array], Params]:
    """From a vector [W] to weights. What is done with a posterior is then one operation, and not one for every leaf."""
    shapes = jax.eval_shape(controller.init, jax.random.key(0))
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))[1]


def _gained(controller: Controller, config: AutoADConfig) -> Callable[[bayes.Posterior], bayes.Posterior]:
    """From the posterior of all weights, or a gradient by it, to that of those whose gain counts."""
    if config.gained == "all":
        return lambda posterior: posterior
    shapes = jax.eval_shape(controller.init, jax.random.key(0))
    counted = {
        part: jax.tree.map(lambda leaf, part=part: np.full(leaf.size, part.startswith(config.gained)), leaves)
        for part, leaves in shapes.items()
    }
    places = np.flatnonzero(np.concatenate(jax.tree.leaves(counted)))  # in the order of `ravel_pytree`
    return lambda posterior: jax.tree.map(lambda leaf: leaf[places], posterior)


def _initial_rho(key: Key, mean: Params) -> Params:
    """Deviations uniform between a quarter and a half of the prior's for the LSTM, twice that for all else (sonnet)."""
    sd, share = losses.PRIOR.sd, uniform_like(key, mean, 0.25, 0.5)
    return {
        part: jax.tree.map(lambda u, part=part: bayes.rho_of(u * sd * (1 if part.startswith("lstm") else 2)), leaves)
        for part, leaves in share.items()
    }
