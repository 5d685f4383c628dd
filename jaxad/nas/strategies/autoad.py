"""AutoAD: a Bayesian controller that is curious and imitates its best (Algorithm 1; Li et al., TNNLS 2022).

`ask` writes a population of architectures with weights phi ~ q. `tell`, one compiled program, learns from their
rewards in three kinds of steps on mean and rho of q and the sharpening step sizes eta. Each kind has an Adam of its
own: the divergence from the prior has gradients that would drown those of the rewards in one Adam for all.

    explore    L = NLL(theta) + |eta g|^2 / (2 sigma0^2) + KL[q || p] / C, theta sharpened     (Eqs. 10-17)
               and what that taught about every architecture: I = KL[q_new || q_old]          (Eqs. 6-7)
    reinforce  -(1/n) sum_k (r_k + eta_cur I_k - b) log P(a_k)                                 (Eqs. 4-5, 7)
    imitate    -(1/n) sum_k max(r_k - b, 0) log pi(a_k) over the buffer of the best            (Eqs. 18-19)

Each part can be switched off, as in Table V. Readings where the paper is silent: the likelihood of Eq. 10 is of
actions, weighted with their advantages (the plain one would reinforce whatever was drawn); C is the number of
sequences of an iteration; actions are drawn before there is anything to sharpen with, so theta is used in losses
only; g is a constant in the gradient; the gain is computed for each architecture from an update with it alone.
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxad._utils.random import uniform_like
from jaxad._utils.validate import check_counts
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies import posterior as bayes
from jaxad.nas.strategies import replay
from jaxad.nas.strategies.controller import Carried, carry_over, first_carries, make_controller, no_carry
from jaxad.nas.strategies.registry import strategy
from jaxad.nas.strategies.reinforce import (
    Baseline,
    init_baseline,
    reinforce_loss,
    self_imitation_loss,
    shaped_rewards,
    update_baseline,
)
from jaxad.types import Array, Key, Params, Search

LIKELIHOODS = ("weighted", "plain")
GAINS = ("natural", "update")
MAX_NEGATIVE_LOG_PROB = 5.0  # of a token, in self-imitation: what is less likely gets no gradient (Oh et al.'s code)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoADConfig:
    """The controller's settings; the constants are the paper's but for learning rate and gain, see `paper`."""

    learning_rate: float = 1e-2
    """Of Adam, for mean, rho and eta. The paper's 3.5e-4 learns nothing within a hundred children."""
    curiosity: float = 0.01
    """eta_cur, weight of the normalised information gain in the reward (Table V: 0, 0.01, 0.1)."""
    buffer: int = 10
    """Architectures in the replay buffer (Table V: 0, 5, 10); 0 needs imitations and revisits of 0."""
    imitations: int = 4
    """Self-imitation steps after every population."""
    revisits: int = 1
    """Architectures of the buffer that train the shared weights once more after every population (line 20)."""
    sharpening: bool = True
    """Sharpen the posterior inside the losses (Eqs. 13-17)."""
    bayesian: bool = True
    """Weights have a posterior; False is a plain LSTM, without curiosity and sharpening."""
    gain: str = "natural"
    """Information gain: of a natural-gradient step on the likelihood (VIME), or of the actual update (Algorithm 1)."""
    likelihood: str = "weighted"
    """Of a population in Eq. 10: weighted by advantage, or plain."""
    keep: int = 0
    """K of Fig. 1: final LSTM states of the best K candidates that the next population starts from."""
    baseline_decay: float = 0.95
    """Of the moving average of rewards."""
    entropy: float = 0.0
    """Weight of an entropy bonus; the paper mentions none."""
    tanh: float = 2.5
    """Bound of the logits."""
    temperature: float = 5.0
    """Divides the logits before the tanh."""
    units: int = 50
    """Of each of the two LSTM layers."""
    prior: float = 1.0
    """Weight of KL[q || p] / C in Eq. 16."""
    sigma0: float = 0.02
    """Standard deviation of a sharpened sample."""
    eta: float = 0.01
    """Standard deviation of the initial sharpening step sizes."""
    history: int = 10
    """Populations whose median gains scale the gain."""

    def check(self) -> None:
        """Raise ValueError for values out of range, and for parts that need each other; `autoad` does so, too."""
        for name in ("learning_rate", "temperature", "tanh", "sigma0"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; give a positive number")
        for name in ("curiosity", "entropy", "eta", "prior"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from 0 upwards")
        for name in ("buffer", "imitations", "revisits", "keep", "units", "history"):
            value, least = getattr(self, name), int(name in ("units", "history"))
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; give a whole number from {least} upwards")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"baseline_decay is {self.baseline_decay}; give a number from 0 to below 1")
        for name, choices in (("likelihood", LIKELIHOODS), ("gain", GAINS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if not self.buffer and (self.imitations or self.revisits):
            raise ValueError("with a buffer of 0 there is nothing to imitate; set imitations and revisits to 0, too")
        if not self.bayesian and (self.curiosity or self.sharpening):
            raise ValueError("a plain LSTM has no posterior to be curious about or to sharpen: set both off with it")

    @classmethod
    def paper(cls) -> "AutoADConfig":
        """The constants of the paper and of the codes it rests on, and its own information gain."""
        return cls(
            learning_rate=3.5e-4, curiosity=0.01, buffer=10, imitations=4, gain="update", likelihood="weighted",
            baseline_decay=0.95, entropy=0.0, tanh=2.5, temperature=5.0, units=50, prior=1.0, sigma0=0.02, eta=0.01,
        )  # fmt: skip


def ablations(config: AutoADConfig) -> dict[str, AutoADConfig]:
    """The full method and each of its parts left out, by name."""
    without = {
        "autoad": {},
        "no-curiosity": {"curiosity": 0.0},
        "no-replay": {"buffer": 0, "imitations": 0, "revisits": 0},
        "no-sharpening": {"sharpening": False},
        "plain-lstm": {"bayesian": False, "curiosity": 0.0, "sharpening": False},
    }
    return {name: dataclasses.replace(config, **changes) for name, changes in without.items()}


class Learned(NamedTuple):
    """What the optimiser moves."""

    posterior: bayes.Posterior  # of the controller's weights [W]; rho is not used by a plain LSTM
    eta: Array  # [W] sharpening step sizes


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


@strategy("autoad", "The learned controller of AutoAD (Li et al., TNNLS 2022).")
def autoad(space: SearchSpace, *, population: int = 1, config: AutoADConfig | None = None, **fields: Any) -> Search:
    """AutoAD as a strategy; its `tell` is one program, and seeds may be vmapped.

    Args:
      population: n, candidates of an iteration (M of Fig. 1).
      config: or its fields as keywords.

    Raises ValueError for settings out of range, or `keep` above `population`.
    """
    known = [field.name for field in dataclasses.fields(AutoADConfig)]
    for name in fields:
        if name not in known:
            raise ValueError(f"strategy 'autoad' has no option {name!r}; it has {', '.join(known)}")
    config = AutoADConfig(**fields) if config is None else dataclasses.replace(config, **fields)
    config.check()
    check_counts(population=population)
    if config.keep > population:
        raise ValueError(f"keep is {config.keep}; of a population of {population} at most {population} can be kept")
    controller = make_controller(space, units=config.units, tanh=config.tanh, temperature=config.temperature)
    optimiser = optax.adam(config.learning_rate)
    prior = bayes.ScaleMixture()
    # Outside the network weights are one vector [W]: what is done with a posterior is one operation, not one a leaf.
    shapes = jax.eval_shape(controller.init, jax.random.key(0))
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def init(key: Key) -> AutoADState:
        weights_key, rho_key, eta_key = jax.random.split(key, 3)
        weights = controller.init(weights_key)
        mean, rho = (ravel_pytree(tree)[0] for tree in (weights, _initial_rho(rho_key, weights, prior)))
        eta = config.eta * jax.random.normal(eta_key, mean.shape)
        learned = Learned(bayes.Posterior(mean, rho), eta)
        buffer = replay.init_buffer(config.buffer, space.num_tokens, controller.carry())
        carried = no_carry(controller, config.keep)
        optimisers = Optimisers(*[optimiser.init(learned)] * 3)
        normaliser = bayes.init_normaliser(config.history)
        return AutoADState(learned, optimisers, init_baseline(), normaliser, buffer, carried, jnp.int32(0))

    def draw_weights(key: Key, learned: Learned) -> Array:
        return bayes.sample(key, learned.posterior) if config.bayesian else learned.posterior.mean

    def ask(key: Key, state: AutoADState) -> tuple[AutoADState, Array]:
        weights_key, actions_key = jax.random.split(key)
        phi = draw_weights(weights_key, state.learned)
        carries = first_carries(controller, state.carried, population)
        keys = jax.random.split(actions_key, population)
        return state, jax.vmap(controller.sample, (None, 0, 0))(unravel(phi), keys, carries).tokens

    # ---- losses --------------------------------------------------------------------------------------------------

    def read(phi: Array, tokens: Array, carries: Array) -> Any:
        return jax.vmap(controller.replay, (None, 0, 0))(unravel(phi), tokens, carries)

    def likelihood(phi: Array, tokens: Array, carries: Array, advantages: Array) -> Array:
        """-log p(D | phi) per sequence -> scalar: the mean over sequences."""
        share = advantages if config.likelihood == "weighted" else jnp.ones_like(advantages)
        return -jnp.mean(share * jnp.sum(read(phi, tokens, carries).log_probs, axis=1))

    def sharpened(key: Key, learned: Learned, phi: Array, data: tuple) -> tuple[Array, Array]:
        """theta, and its divergence from phi; phi itself where nothing is sharpened."""
        if not config.sharpening:
            return phi, jnp.float32(0)
        gradient = lax.stop_gradient(jax.grad(likelihood)(phi, *data))
        theta = bayes.sharpen(key, phi, gradient, learned.eta, config.sigma0)
        return theta, bayes.sharpened_kl(gradient, learned.eta, config.sigma0)

    def explore_loss(learned: Learned, key: Key, data: tuple, count: int) -> tuple[Array, tuple[Array, Array]]:
        phi_key, theta_key = jax.random.split(key)
        phi = draw_weights(phi_key, learned)
        theta, moved = sharpened(theta_key, learned, phi, data)
        kl = bayes.sampled_kl(phi, learned.posterior, prior)
        return likelihood(theta, *data) + moved + config.prior * kl / count, (kl, moved)

    def surprise_loss(posterior: bayes.Posterior, key: Key, data: tuple) -> Array:
        # Of the actions alone: an architecture shall not be interesting for being bad.
        return -jnp.mean(jnp.sum(read(bayes.sample(key, posterior), *data[:2]).log_probs, axis=1))

    def policy_loss(learned: Learned, key: Key, data: tuple, rewards: Array, baseline: Array) -> Array:
        phi_key, theta_key = jax.random.split(key)
        theta, _ = sharpened(theta_key, learned, draw_weights(phi_key, learned), data)
        episode = read(theta, *data[:2])
        return reinforce_loss(episode.log_probs, rewards, baseline) - config.entropy * jnp.mean(episode.entropies)

    def imitation_loss(learned: Learned, key: Key, chosen: replay.Buffer, baseline: Array) -> Array:
        phi = draw_weights(key, learned)
        log_probs = read(phi, chosen.tokens, chosen.carries).log_probs
        log_probs = jnp.maximum(log_probs, -MAX_NEGATIVE_LOG_PROB)
        return self_imitation_loss(log_probs, chosen.rewards, baseline)

    def descend(learned: Learned, opt_state: Any, gradients: Learned) -> tuple[Learned, Any]:
        updates, opt_state = optimiser.update(gradients, opt_state, learned)
        return optax.apply_updates(learned, updates), opt_state

    # ---- Algorithm 1, lines 6 to 20 ------------------------------------------------------------------------------

    def tell(key: Key, state: AutoADState, tokens: Array, rewards: Array) -> tuple[AutoADState, AutoADInfo]:
        chex.assert_shape(tokens, (None, space.num_tokens))
        chex.assert_shape(rewards, (tokens.shape[0],))
        count = tokens.shape[0]
        rewards = jnp.where(jnp.isfinite(rewards), rewards, 0.0).astype(jnp.float32)
        carries = first_carries(controller, state.carried, population)[:count]
        explore_key, surprise_key, policy_key, imitate_key = jax.random.split(key, 4)
        baseline = update_baseline(state.baseline, rewards, config.baseline_decay)
        learned, (exploring, reinforcing, imitating) = state.learned, state.optimisers
        data = (tokens, carries, rewards - baseline.value)

        gains, kl, moved = jnp.zeros(count), jnp.float32(0), jnp.float32(0)
        if config.bayesian:
            alone = jax.vmap(lambda *row: jax.tree.map(lambda leaf: leaf[None], row))(*data)  # a population each
            gradient = jax.grad(explore_loss, has_aux=True)
            if config.gain == "update":
                gradients, _ = jax.vmap(gradient, (None, None, 0, None))(learned, surprise_key, alone, count)
                after, _ = jax.vmap(descend, (None, None, 0))(learned, exploring, gradients)
                gains = jax.vmap(bayes.information_gain, (0, None))(after.posterior, learned.posterior)
            else:
                surprise = jax.vmap(jax.grad(surprise_loss), (None, None, 0))(learned.posterior, surprise_key, alone)
                gains = jax.vmap(bayes.natural_gain, (None, 0))(learned.posterior, surprise)
            gradients, (kl, moved) = gradient(learned, explore_key, data, count)
            learned, exploring = descend(learned, exploring, gradients)
        normaliser, normalised = bayes.normalise_gain(state.normaliser, gains)
        shaped = shaped_rewards(rewards, normalised, config.curiosity)

        gradients = jax.grad(policy_loss)(learned, policy_key, data, shaped, baseline.value)
        learned, reinforcing = descend(learned, reinforcing, gradients)

        buffer = replay.insert(state.buffer, tokens, rewards, carries)
        imitated = jnp.float32(0)
        if config.imitations:

            def imitate(moving: tuple[Learned, Any], number: Array) -> tuple[tuple[Learned, Any], Array]:
                draw_key, phi_key = jax.random.split(jax.random.fold_in(imitate_key, number))
                chosen = replay.draw(draw_key, buffer, count)
                gradients = jax.grad(imitation_loss)(moving[0], phi_key, chosen, baseline.value)
                return descend(*moving, gradients), jnp.mean(jnp.clip(chosen.rewards - baseline.value, 0, 1))

            (learned, imitating), advantages = lax.scan(imitate, (learned, imitating), jnp.arange(config.imitations))
            imitated = advantages[-1]

        shown = read(learned.posterior.mean, tokens, carries)
        carried = state.carried
        if config.keep <= count:  # a last population may be too small to fill the places
            carried = carry_over(carried, shown.carry, rewards)
        num_evaluated = state.num_evaluated + count
        info = AutoADInfo(
            num_evaluated, shown.entropies.mean(0), shown.probabilities.mean(0), rewards, gains,
            config.curiosity * normalised, baseline.value, shaped - baseline.value,
            kl, moved, imitated, buffer.tokens, buffer.rewards,
        )  # fmt: skip
        optimisers = Optimisers(exploring, reinforcing, imitating)
        return AutoADState(learned, optimisers, baseline, normaliser, buffer, carried, num_evaluated), info

    def revisit(key: Key, state: AutoADState) -> Array:
        return replay.draw(key, state.buffer, config.revisits).tokens

    return Search(init, ask, tell, revisit if config.revisits else None)


def _initial_rho(key: Key, mean: Params, prior: bayes.ScaleMixture) -> Params:
    """Deviations uniform between a quarter and a half of the prior's for the LSTM, twice that for all else (sonnet)."""
    sd = (prior.weight * prior.sd1**2 + (1 - prior.weight) * prior.sd2**2) ** 0.5
    share = uniform_like(key, mean, 0.25, 0.5)
    return {
        part: jax.tree.map(lambda u, part=part: bayes.rho_of(u * sd * (1 if part == "lstm" else 2)), share[part])
        for part in mean
    }
