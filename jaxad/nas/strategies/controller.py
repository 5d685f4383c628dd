"""The controller: an LSTM that writes an architecture token by token (AutoAD, section III-D; settings of ENAS).

    input_t   embedding of token t - 1 (zeros for the first)
    logits_t  = 2.5 * tanh(head_t(LSTM(input_t)) / 5)          a head for every position
    P(a)      = prod_t softmax(logits_t)[a_t]

Weights come in as an argument: a posterior sample, its mean and a sharpened sample are the same call. Everything is
written for one sequence; vmap it for a population. Positions have different numbers of choices; heads and embeddings
are as wide as the widest, and choices that do not exist have probability zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad._utils.random import uniform_like
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.lstm import lstm_shapes, lstm_step
from jaxad.types import Array, Key, Params

if TYPE_CHECKING:
    from distrax import Categorical

IMPOSSIBLE = -1e9  # logit of a choice that does not exist: its probability is exactly 0, its gradient too


class Episode(NamedTuple):
    """One written architecture, position by position."""

    tokens: Array  # [T] int32
    log_probs: Array  # [T] of the tokens
    entropies: Array  # [T] of the distributions they were drawn from, in nats
    probabilities: Array  # [T, V], zero beyond the choices of a position
    carry: Array  # of the LSTM after the last token


class Controller(NamedTuple):
    """The policy as pure functions of its weights."""

    init: Callable[[Key], Params]  # (key) -> weights, all uniform in [-0.1, 0.1]
    carry: Callable[[], Array]  # () -> the carry of an LSTM that has read nothing
    sample: Callable[[Params, Key, Array], Episode]  # (weights, key, carry) -> what it writes
    replay: Callable[[Params, Array, Array], Episode]  # (weights, tokens [T], carry) -> what it makes of given tokens


def make_controller(
    space: SearchSpace, *, units: int = 50, layers: int = 2, tanh: float = 2.5, temperature: float = 5.0
) -> Controller:
    """The controller of a space.

    Args:
      units: of every LSTM layer, and length of an embedding.
      layers: of the LSTM.
      tanh: bound of the logits; no choice is ever certain, so exploration never ends.
      temperature: divides the logits before the tanh.
    """
    with warnings.catch_warnings():  # what is beneath it still asks JAX for names that are on their way out
        warnings.simplefilter("ignore", DeprecationWarning)
        from distrax import Categorical  # here: it takes seconds, and not every search has a controller
    counts = np.asarray(space.choices_per_token)
    positions, widest = len(counts), int(counts.max())
    exists = jnp.asarray(np.arange(widest) < counts[:, None])  # [T, V]

    def init(key: Key) -> Params:
        shapes = {
            "embedding": jax.ShapeDtypeStruct((positions, widest, units), jnp.float32),  # the last one is never read
            "lstm": lstm_shapes(units, units, layers),
            "head": {
                "kernel": jax.ShapeDtypeStruct((positions, units, widest), jnp.float32),
                "bias": jax.ShapeDtypeStruct((positions, widest), jnp.float32),
            },
        }
        return uniform_like(key, shapes, -0.1, 0.1)

    def carry() -> Array:
        return jnp.zeros((layers, 2, units))

    def write(params: Params, carry: Array, choose: Callable[[Categorical, Array], Array], source: Array):
        """Position after position; `choose` takes a distribution and the position's entry of `source`."""

        def position(state: tuple[Array, Array], here: tuple) -> tuple[tuple[Array, Array], tuple]:
            carry, x = state
            embedding, kernel, bias, possible, entry = here
            carry, output = lstm_step(params["lstm"], carry, x)
            logits = tanh * jnp.tanh((output @ kernel + bias) / temperature)
            choice = Categorical(logits=jnp.where(possible, logits, IMPOSSIBLE))
            token = choose(choice, entry)
            seen = token, choice.log_prob(token), choice.entropy(), choice.probs
            return (carry, embedding[token]), seen

        inputs = params["embedding"], params["head"]["kernel"], params["head"]["bias"], exists, source
        (carry, _), seen = lax.scan(position, (carry, jnp.zeros(units)), inputs)
        return Episode(*seen, carry)

    def sample(params: Params, key: Key, carry: Array) -> Episode:
        def draw(choice: Categorical, number: Array) -> Array:
            return choice.sample(seed=jax.random.fold_in(key, number))

        return write(params, carry, draw, jnp.arange(positions))

    def replay(params: Params, tokens: Array, carry: Array) -> Episode:
        chex.assert_shape(tokens, (positions,))
        return write(params, carry, lambda _, token: token, jnp.asarray(tokens, jnp.int32))

    return Controller(init, carry, sample, replay)


# ---- candidates and carry-over (Fig. 1, after AutoGAN) -----------------------------------------------------------


class Carried(NamedTuple):
    """The final carries of the best K candidates of the last iteration, with which the next begins."""

    carries: Array  # [K, ...] of the LSTM, best first; zeros until there are any


def no_carry(controller: Controller, keep: int) -> Carried:
    """Nothing carried over yet; keep 0 gives every iteration a fresh start."""
    return Carried(jnp.zeros((keep, *controller.carry().shape)))


def first_carries(controller: Controller, carried: Carried, population: int) -> Array:
    """Where each of the M candidates of a population starts: the kept carries in turn -> [M, ...].

    By place, not by chance, so that whoever sees a proposal later knows how it came about.
    """
    if carried.carries.shape[0] == 0:
        return jnp.broadcast_to(controller.carry(), (population, *controller.carry().shape))
    return carried.carries[jnp.arange(population) % carried.carries.shape[0]]


def carry_over(carried: Carried, carries: Array, rewards: Array) -> Carried:
    """Keep the final carries [M, ...] of the K candidates with the highest rewards [M]; K <= M."""
    keep = carried.carries.shape[0]
    return Carried(carries[jnp.argsort(-rewards)[:keep]])
