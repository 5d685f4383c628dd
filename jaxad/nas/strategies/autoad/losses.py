"""What the controller of AutoAD minimises (Li et al., TNNLS 2022, sections IV-B and IV-C).

    exploration_loss   L = NLL(theta) + |eta g|^2 / (2 sigma0^2) + KL[q || p] / C        (Eq. 16)
    policy_loss        -(1/n) sum_k (r_k + eta_cur I_k - b) log P(a_k)                   (Eqs. 4-5, 7)
    imitation_loss     -(1/n) sum_k max(r_k - b, 0) log pi(a_k), a_k of the buffer       (Eqs. 18-19)

Weights are vectors [W]. `Policy` says what the controller makes of given tokens with given weights; all else here is
arithmetic on its log-probabilities. With policy and config bound, each loss is a pure scalar function whose first
argument is what is learned.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxad.nas.strategies.autoad import posterior as bayes
from jaxad.nas.strategies.autoad.config import AutoADConfig
from jaxad.nas.strategies.autoad.controller import Episode
from jaxad.nas.strategies.autoad.reinforce import reinforce_loss, self_imitation_loss
from jaxad.nas.strategies.autoad.replay import Buffer
from jaxad.types import Array, Key

Policy = Callable[[Array, Array, Array], Episode]  # (weights [W], tokens [n, T], carries [n, ...]) -> [n] episodes

PRIOR = bayes.ScaleMixture()
MAX_NEGATIVE_LOG_PROB = 5.0  # of a token, in self-imitation: what is less likely gets no gradient (Oh et al.'s code)


class Learned(NamedTuple):
    """What the optimisers move."""

    posterior: bayes.Posterior  # of the controller's weights [W]; rho is not used by a plain LSTM
    eta: Array  # [W] sharpening step sizes


class Data(NamedTuple):
    """D: the sequences of an iteration. The paper calls D the training set; its likelihood is that of actions."""

    tokens: Array  # [n, T] int32
    carries: Array  # [n, ...] of the LSTM before the first token
    advantages: Array  # [n] rewards less their baseline


def draw_weights(config: AutoADConfig, learned: Learned, key: Key) -> Array:
    """phi ~ q (Eq. 10), or the weights of a plain LSTM -> [W]."""
    return bayes.distribution(learned.posterior).sample(seed=key) if config.bayesian else learned.posterior.mean


def acting_weights(config: AutoADConfig, learned: Learned, noise: Array) -> Array:
    """phi = mean + sd * noise, the sample of q that wrote the architectures, or the weights of a plain LSTM -> [W]."""
    posterior = learned.posterior
    return posterior.mean + bayes.sd_of(posterior.rho) * noise if config.bayesian else posterior.mean


def negative_log_likelihood(policy: Policy, config: AutoADConfig, phi: Array, data: Data) -> Array:
    """NLL(phi) = -log p(D | phi) per sequence -> scalar (the first term of Eqs. 11 and 16).

    Sequences are weighted by their advantages: the plain likelihood would reinforce whatever was drawn.
    """
    share = data.advantages if config.likelihood == "weighted" else jnp.ones_like(data.advantages)
    log_probs = policy(phi, data.tokens, data.carries).log_probs
    return -jnp.mean(share * jnp.sum(log_probs, axis=1))


def sharpened_weights(
    policy: Policy, config: AutoADConfig, learned: Learned, key: Key, phi: Array, data: Data
) -> tuple[Array, Array]:
    """theta = phi - eta * g + sigma0 * noise with g = grad NLL(phi) (Eqs. 13-14), and its divergence from phi.

    phi itself where nothing is sharpened. g is a constant in the gradient of whatever theta is used in.
    """
    if not config.sharpening:
        return phi, jnp.float32(0)
    gradient = lax.stop_gradient(jax.grad(negative_log_likelihood, argnums=2)(policy, config, phi, data))
    theta = bayes.sharpened(phi, gradient, learned.eta, config.sigma0).sample(seed=key)
    return theta, bayes.sharpened_kl(gradient, learned.eta, config.sigma0)


class Divergences(NamedTuple):
    """The last two terms of Eq. 16, in nats, as a person wants to see them."""

    prior: Array  # [] log q(phi) - log p(phi), a one-sample estimate of KL[q || p]; not yet divided by C
    sharpening: Array  # [] KL[N(theta's mean, sigma0^2) || N(phi, sigma0^2)]


def exploration_loss(
    policy: Policy, config: AutoADConfig, learned: Learned, key: Key, data: Data, count: int
) -> tuple[Array, Divergences]:
    """Eq. 16, the variational free energy of a sharpened posterior -> scalar, and its last two terms:

        L = -log p(D | theta) + KL[q(theta | phi, D) || p(theta | phi)] + KL[q(phi) || p(phi)] / C
          = NLL(theta)        + |eta * g|^2 / (2 sigma0^2)              + KL[q(phi) || p(phi)] / C

    at one sample phi ~ q (Eq. 10) and one theta ~ N(phi - eta * g, sigma0^2) (Eqs. 13-14), as an estimate of the
    expectation in Eq. 15; g = grad NLL(phi), p(theta | phi) = N(phi, sigma0^2), and p(phi) is a scale mixture. Eq. 17
    prints "x" before the last divergence of the bound; it is a minus, as the sign in Eq. 16 says.

    Args:
      policy: log-probabilities of given tokens with given weights.
      config: its `prior` scales the last term; its `sharpening` and `bayesian` leave parts out.
      learned: what the loss is differentiated by.
      key: consumed.
      data: D.
      count: C, the sequences of an iteration.
    """
    phi_key, theta_key = jax.random.split(key)
    phi = draw_weights(config, learned, phi_key)
    theta, moved = sharpened_weights(policy, config, learned, theta_key, phi, data)
    kl = bayes.sampled_kl(phi, learned.posterior, PRIOR)
    loss = negative_log_likelihood(policy, config, theta, data) + moved + config.prior * kl / count  # Eq. 16
    return loss, Divergences(kl, moved)


def surprise_loss(policy: Policy, posterior: bayes.Posterior, key: Key, data: Data) -> Array:
    """What a natural-gradient step for the information gain descends: -log p(D | phi) of the actions alone -> scalar.

    Rewards play no part: an architecture shall not be interesting for being bad.
    """
    phi = bayes.distribution(posterior).sample(seed=key)
    return -jnp.mean(jnp.sum(policy(phi, data.tokens, data.carries).log_probs, axis=1))


def policy_loss(
    policy: Policy,
    config: AutoADConfig,
    learned: Learned,
    key: Key,
    noise: Array,
    data: Data,
    rewards: Array,
    baseline: Array,
    own: Array,
) -> Array:
    """REINFORCE -> scalar (Eqs. 4-5); rewards [n] are shaped by curiosity (Eq. 7).

    Only sequences that are the policy's `own` [n] count: others are no sample of it.

    The log-probabilities are those of the weights that wrote the sequences, the sample of q by `noise` [W]: an unbiased
    gradient is one of the policy that acted. With `config.reinforced` "sharpened" they are those of that sample
    sharpened, which saw the rewards and did not act.
    """
    weights = acting_weights(config, learned, noise)
    if config.reinforced == "sharpened":
        weights, _ = sharpened_weights(policy, config, learned, key, weights, data)
    episode = policy(weights, data.tokens, data.carries)
    return reinforce_loss(episode.log_probs, rewards, baseline, own) - config.entropy * jnp.mean(episode.entropies)


def imitation_loss(
    policy: Policy, config: AutoADConfig, learned: Learned, key: Key, chosen: Buffer, baseline: Array
) -> Array:
    """Self-imitation of architectures chosen from the buffer -> scalar (Eqs. 18-19)."""
    phi = draw_weights(config, learned, key)
    log_probs = policy(phi, chosen.tokens, chosen.carries).log_probs
    log_probs = jnp.maximum(log_probs, -MAX_NEGATIVE_LOG_PROB)
    return self_imitation_loss(log_probs, chosen.rewards, baseline)
