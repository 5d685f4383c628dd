"""The controller against NumPy and enumeration: a proper distribution over all sequences of a tiny space."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax

from jaxad.nas.strategies.autoad.controller import (
    FusedLSTMCell,
    carry_over,
    first_carries,
    make_controller,
    no_carry,
)
from jaxad.nas.strategies.autoad.reinforce import (
    init_baseline,
    reinforce_loss,
    self_imitation_loss,
    shaped_rewards,
    update_baseline,
)
from spaces import TINY

ALL = np.array(list(TINY.enumerate()), np.int32)
CONTROLLER = make_controller(TINY, units=5)
INIT, REPLAY = jax.jit(CONTROLLER.init), jax.jit(CONTROLLER.replay)


def weights(seed=0, scale=20.0):
    """Far from the uniform start, so that every weight matters."""
    return jax.tree.map(lambda leaf: scale * np.asarray(leaf), INIT(jax.random.key(seed)))


replay_all = jax.vmap(CONTROLLER.replay, (None, 0, None))
episodes = jax.jit(replay_all)


def numpy_log_probs(params, tokens, carry):
    """One sequence, written again from the definition in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    carry, x, log_probs = np.asarray(carry, np.float64), np.zeros(5), []
    for position, token in enumerate(tokens):
        after = []
        for layer, (cell, output) in zip(("lstm_0", "lstm_1"), carry):
            gates = params[layer]["gates"]
            i, f, g, o = np.split(np.concatenate([x, output]) @ gates["kernel"] + gates["bias"], 4)
            cell = expit(f) * cell + expit(i) * np.tanh(g)
            x = expit(o) * np.tanh(cell)
            after.append([cell, x])
        carry = np.array(after)
        count = TINY.choices_per_token[position]
        raw = x @ params["head"]["kernel"][position] + params["head"]["bias"][position]
        log_probs.append(log_softmax(2.5 * np.tanh(raw[:count] / 5))[token])
        x = params["embedding"]["embedding"][position, token]
    return np.array(log_probs), carry


def test_log_probabilities_equal_numpy(rng):
    params, carry = weights(), jnp.asarray(rng.normal(size=(2, 2, 5)), jnp.float32)
    for tokens in ALL[:: len(ALL) // 5]:
        episode = REPLAY(params, tokens, carry)
        log_probs, after = numpy_log_probs(params, tokens, carry)
        np.testing.assert_allclose(episode.log_probs, log_probs, atol=1e-4)
        np.testing.assert_allclose(episode.carry, after, atol=1e-4)


def cells(rng):
    """The weights of a cell of 4 units and 3 inputs, its carry and a sequence of inputs."""
    gates = {"kernel": rng.normal(size=(7, 16)).astype(np.float32), "bias": rng.normal(size=16).astype(np.float32)}
    carry = tuple(rng.normal(size=4).astype(np.float32) for _ in range(2))
    return gates, carry, rng.normal(size=(6, 3)).astype(np.float32)


def outputs_of(cell, variables, carry, inputs):
    outputs = []
    for x in inputs:
        carry, y = cell.apply(variables, carry, x)
        outputs.append(y)
    return np.stack([*outputs, *carry])


def test_the_cell_is_flaxs_with_its_weights_in_one_matrix(rng):
    gates, carry, inputs = cells(rng)
    parts = zip("ifgo", np.split(gates["kernel"], 4, axis=1), np.split(gates["bias"], 4))
    theirs = {}
    for gate, kernel, bias in parts:
        theirs |= {f"i{gate}": {"kernel": kernel[:3]}, f"h{gate}": {"kernel": kernel[3:], "bias": bias}}
    expected = outputs_of(nn.OptimizedLSTMCell(4), {"params": theirs}, carry, inputs)
    found = outputs_of(FusedLSTMCell(4), {"params": {"gates": gates}}, carry, inputs)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_cell_is_pytorchs(rng):
    torch = pytest.importorskip("torch")
    gates, carry, inputs = cells(rng)
    layer = torch.nn.LSTM(3, 4)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor(gates["kernel"][:3].T))
        layer.weight_hh_l0.copy_(torch.tensor(gates["kernel"][3:].T))
        layer.bias_ih_l0.copy_(torch.tensor(gates["bias"]))
        layer.bias_hh_l0.zero_()
        cell, output = (torch.tensor(part)[None] for part in carry)
        outputs, (output, cell) = layer(torch.tensor(inputs), (output, cell))
    found = outputs_of(FusedLSTMCell(4), {"params": {"gates": gates}}, carry, inputs)
    np.testing.assert_allclose(found, np.concatenate([outputs, cell, output]), atol=1e-6)


def test_probabilities_of_all_sequences_sum_to_one():
    for seed in range(3):
        log_probs = episodes(weights(seed), ALL, CONTROLLER.carry()).log_probs
        np.testing.assert_allclose(np.exp(np.asarray(log_probs, np.float64).sum(1)).sum(), 1, atol=1e-5)


def test_samples_follow_the_probabilities():
    params = weights()
    keys = jax.random.split(jax.random.key(1), 20_000)
    sampled = jax.jit(jax.vmap(CONTROLLER.sample, (None, 0, None)))(params, keys, CONTROLLER.carry())
    expected = np.exp(np.asarray(episodes(params, ALL, CONTROLLER.carry()).log_probs).sum(1))
    places = {tuple(tokens): place for place, tokens in enumerate(ALL.tolist())}
    counts = np.bincount([places[tuple(t)] for t in np.asarray(sampled.tokens).tolist()], minlength=len(ALL))
    error = np.abs(counts / 20_000 - expected) / np.sqrt(expected * (1 - expected) / 20_000)
    assert error.max() < 5
    again = episodes(params, np.asarray(sampled.tokens)[: len(ALL)], CONTROLLER.carry())  # as many as there are above
    np.testing.assert_allclose(again.log_probs, np.asarray(sampled.log_probs)[: len(ALL)], atol=1e-5)
    np.testing.assert_allclose(again.carry, np.asarray(sampled.carry)[: len(ALL)], atol=1e-5)


def test_entropies_are_those_of_the_probabilities_and_bounded_by_the_tanh():
    episode = episodes(weights(scale=1000.0), ALL, CONTROLLER.carry())
    p = np.asarray(episode.probabilities, np.float64)
    expected = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=-1)
    np.testing.assert_allclose(episode.entropies, expected, atol=1e-5)
    exists = np.arange(p.shape[-1]) < np.array(TINY.choices_per_token)[:, None]
    assert (p[:, ~exists] == 0).all()
    assert p[:, exists].min() > np.exp(-2.5) / (np.exp(-2.5) + 2 * np.exp(2.5)) - 1e-6  # never certain


def test_weights_start_uniform_in_a_tenth():
    leaves = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(INIT(jax.random.key(3)))])
    assert np.abs(leaves).max() <= 0.1
    np.testing.assert_allclose(leaves.std(), 0.1 / np.sqrt(3), rtol=0.1)


# ---- gradients against enumeration -------------------------------------------------------------------------------


REWARDS = np.random.default_rng(3).random(len(ALL)).astype(np.float32)


@jax.jit
@jax.grad
def gradient_of_expectation(params, objective):
    probabilities = jnp.exp(jnp.sum(replay_all(params, ALL, CONTROLLER.carry()).log_probs, axis=1))
    return jnp.sum(probabilities * objective)


def expected_gradient(objective):
    """Gradient of a sum over all sequences of probability times objective, by differentiating the probabilities."""
    return gradient_of_expectation(weights(), objective)


@functools.cache
def gradients_of(loss):
    """Gradients of a loss (log-probabilities, rewards, baseline) of one sequence, for all of them."""

    def one(params, tokens, reward, baseline):
        return loss(CONTROLLER.replay(params, tokens, CONTROLLER.carry()).log_probs[None], reward[None], baseline)

    return jax.jit(jax.vmap(jax.grad(one), (None, 0, 0, None)))


def mean_gradient(loss, baseline):
    """Mean over all sequences, by their probability, of the gradients of a loss of one sequence."""
    params = weights()
    share = np.exp(np.sum(episodes(params, ALL, CONTROLLER.carry()).log_probs, axis=1))
    gradients = gradients_of(loss)(params, ALL, REWARDS, np.float32(baseline))
    return jax.tree.map(lambda leaf: np.tensordot(share, leaf, 1), gradients)


@pytest.mark.parametrize("baseline", [0.0, 0.4, -3.0])
def test_reinforce_descends_where_the_expected_reward_rises_whatever_the_baseline(baseline):
    found = mean_gradient(reinforce_loss, baseline)
    exact = expected_gradient(REWARDS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -b, atol=2e-5), found, exact)


def test_self_imitation_is_the_gradient_of_clipped_advantages():
    found = mean_gradient(self_imitation_loss, 0.5)
    exact = expected_gradient(np.clip(REWARDS - 0.5, 0, 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -b, atol=2e-5), found, exact)


def test_empty_places_and_large_advantages():
    log_probs = jnp.array([[-1.0, -2.0], [-3.0, -1.0]])
    value = self_imitation_loss(log_probs, jnp.array([-jnp.inf, 9.0]), jnp.float32(0.5))
    assert float(value) == pytest.approx(4.0 / 2)
    gradient = jax.grad(self_imitation_loss)(log_probs, jnp.array([-jnp.inf, 9.0]), jnp.float32(0.5))
    np.testing.assert_array_equal(gradient, [[0, 0], [-0.5, -0.5]])


def test_baseline_and_shaped_rewards_by_hand():
    state = update_baseline(init_baseline(), jnp.array([0.2, 0.6]), jnp.array([0.01, 0.03]), 0.9)
    assert float(state.value) == pytest.approx(0.4)  # the first rewards
    assert float(state.bonus) == pytest.approx(0.02)
    state = update_baseline(state, jnp.array([1.0]), jnp.array([0.0]), 0.9)
    assert float(state.value) == pytest.approx(0.9 * 0.4 + 0.1)
    assert float(state.bonus) == pytest.approx(0.9 * 0.02)
    np.testing.assert_allclose(shaped_rewards(jnp.array([0.5, 0.6]), jnp.array([1.0, 2.0]), 0.1), [0.6, 0.8])


# ---- candidates and carry-over -----------------------------------------------------------------------------------


def test_the_best_candidates_are_carried_over_by_place():
    carried = no_carry(CONTROLLER, 2)
    carries = jnp.arange(4.0)[:, None, None, None] * jnp.ones((1, 2, 2, 5))
    carried = carry_over(carried, carries, jnp.array([0.1, 0.9, 0.3, 0.8]))
    np.testing.assert_array_equal(carried.carries[:, 0, 0, 0], [1, 3])
    np.testing.assert_array_equal(first_carries(CONTROLLER, carried, 5)[:, 0, 0, 0], [1, 3, 1, 3, 1])


def test_without_carry_over_every_candidate_starts_afresh():
    assert not np.asarray(first_carries(CONTROLLER, no_carry(CONTROLLER, 0), 3)).any()
    assert not np.asarray(first_carries(CONTROLLER, no_carry(CONTROLLER, 2), 3)).any()  # nothing kept yet
