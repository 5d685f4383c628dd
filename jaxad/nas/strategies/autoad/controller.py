"""The controller: an LSTM that writes an architecture token by token (AutoAD, sections IV-B and V-C; after ENAS).

    input_t   embedding of token t - 1 (zeros for the first)
    logits_t  = 2.5 * tanh(head_t(LSTM(input_t)) / 5)          a head for every position
    P(a)      = prod_t softmax(logits_t)[a_t]

Weights come in as an argument: a posterior sample, its mean and a sharpened sample are the same call. Everything is
written for one sequence; vmap it for a population. Positions have different numbers of choices; heads and embeddings
are as wide as the widest, and choices that do not exist have probability zero.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad._utils.distributions import distrax
from jaxad._utils.random import uniform_like
from jaxad.nas.space import SearchSpace
from jaxad.types import Array, Key, Params

IMPOSSIBLE = -1e9  # logit of a choice that does not exist: its probability is exactly 0, its gradient too
OWN = ("head", "embedding")  # what every position has of its own


class FusedLSTMCell(nn.Module):
    """`flax.linen.OptimizedLSTMCell` with its eight kernels and four biases in one `Dense`, for one sequence.

        i, f, g, o = W [x, h] + b
        c <- sigmoid(f) * c + sigmoid(i) * tanh(g)
        h <- sigmoid(o) * tanh(c)                         (Hochreiter & Schmidhuber 1997; Gers et al. 2000)

    The three lines are by hand for the time that compiling takes, which a short search waits for: `tell` reads its
    architectures seven times, six of them with gradients, and each carries every leaf of the weights along. In CPU time
    on two cores, for three layers and populations of six: 3.9 s to compile `tell` and 0.139 s to run it with this cell,
    5.7 s and 0.151 s with Flax's, 3.7 s and 0.138 s with plain functions of the same matrices.
    """

    features: int

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        """(cell [F], output [F]) and an input [I] -> the next (cell, output), and the output."""
        cell, output = carry
        i, f, g, o = jnp.split(nn.Dense(4 * self.features, name="gates")(jnp.concatenate([x, output])), 4)
        cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * nn.tanh(g)
        output = nn.sigmoid(o) * nn.tanh(cell)
        return (cell, output), output


class Position(nn.Module):
    """What the controller does at one position: LSTM cells of all positions, a head and an embedding of its own."""

    units: int
    layers: int
    choices: int  # V, of the position that has most

    def setup(self) -> None:
        self.lstm = [FusedLSTMCell(self.units) for _ in range(self.layers)]
        self.head = nn.Dense(self.choices)
        self.embedding = nn.Embed(self.choices, self.units)

    def __call__(self, carry: Any, x: Array) -> tuple[Any, Array]:
        """The input [units] through the cells -> their next (cell, output), and logits [V] before the tanh."""
        after = []
        for cell, before in zip(self.lstm, carry):
            state, x = cell(before, x)
            after.append(state)
        return after, self.head(x)

    def embed(self, token: Array) -> Array:
        """The input [units] that a token written here is for the next position."""
        return self.embedding(token)

    def everything(self, carry: Any, x: Array) -> Any:
        """All there is, for the shapes of the parameters."""
        return self(carry, x), self.embed(jnp.int32(0))


class Episode(NamedTuple):
    """One written architecture, position by position."""

    tokens: Array  # [T] int32
    log_probs: Array  # [T] of the tokens
    entropies: Array  # [T] of the distributions they were drawn from, in nats
    probabilities: Array  # [T, V], zero beyond the choices of a position
    carry: Array  # of the LSTM after the last token


class Controller(NamedTuple):
    """The policy as pure functions of its weights, which are the parameters of `Position`.

    Those of its `head` and `embedding` have a leading axis [T], one entry a position.
    """

    init: Callable[[Key], Params]  # (key) -> weights, all uniform in [-0.1, 0.1]
    carry: Callable[[], Array]  # () -> the carry [layers, 2, units] of an LSTM that has read nothing
    sample: Callable[[Params, Key, Array], Episode]  # (weights, key, carry) -> what it writes
    replay: Callable[[Params, Array, Array], Episode]  # (weights, tokens [T], carry) -> what it makes of given tokens


def make_controller(
    space: SearchSpace, *, units: int = 50, layers: int = 2, tanh: float = 2.5, temperature: float = 5.0
) -> Controller:
    """The controller of a space.

    Args:
      space: whose tokens it writes.
      units: of every LSTM layer, and length of an embedding.
      layers: of the LSTM.
      tanh: bound of the logits; no choice is ever certain, so exploration never ends.
      temperature: divides the logits before the tanh.
    """
    counts = np.asarray(space.choices_per_token)
    positions, widest = len(counts), int(counts.max())
    exists = jnp.asarray(np.arange(widest) < counts[:, None])  # [T, V]
    module = Position(units, layers, widest)

    def init(key: Key) -> Params:
        # Flax says what there is to draw; one draw for all of it compiles faster than one for every leaf.
        start = _cells(carry()), jnp.zeros(units)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *start, method=module.everything))["params"]
        own = {part: jax.tree.map(lambda leaf: _stacked(positions, leaf), shapes[part]) for part in OWN}
        return uniform_like(key, shapes | own, -0.1, 0.1)

    def carry() -> Array:
        return jnp.zeros((layers, 2, units))

    def write(params: Params, carry: Array, choose: Callable[[Array, Array], Array], source: Array) -> Episode:
        """Position after position; `choose` takes logits [V] and the position's entry of `source`."""
        shared = {part: leaves for part, leaves in params.items() if part not in OWN}

        def position(state: tuple[Any, Array], here: tuple) -> tuple[tuple[Any, Array], tuple]:
            cells, x = state
            own, possible, entry = here
            variables = {"params": shared | own}
            cells, raw = module.apply(variables, cells, x)
            logits = jnp.where(possible, tanh * jnp.tanh(raw / temperature), IMPOSSIBLE)
            token = choose(logits, entry)
            return (cells, module.apply(variables, token, method=module.embed)), (token, logits)

        inputs = {part: params[part] for part in OWN}, exists, source
        (cells, _), (tokens, logits) = lax.scan(position, (_cells(carry), jnp.zeros(units)), inputs)
        policy = distrax.Categorical(logits=logits)
        after = jnp.stack([jnp.stack(cell) for cell in cells])
        return Episode(tokens, policy.log_prob(tokens), policy.entropy(), policy.probs, after)

    def sample(params: Params, key: Key, carry: Array) -> Episode:
        def draw(logits: Array, number: Array) -> Array:
            return distrax.Categorical(logits=logits).sample(seed=jax.random.fold_in(key, number))

        return write(params, carry, draw, jnp.arange(positions))

    def replay(params: Params, tokens: Array, carry: Array) -> Episode:
        chex.assert_shape(tokens, (positions,))
        return write(params, carry, lambda _, token: token, jnp.asarray(tokens, jnp.int32))

    return Controller(init, carry, sample, replay)


def _cells(carry: Array) -> list[tuple[Array, Array]]:
    """A carry [layers, 2, units] as Flax's cells have it: (cell, output) of every layer."""
    return [(layer[0], layer[1]) for layer in carry]


def _stacked(count: int, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype)


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
