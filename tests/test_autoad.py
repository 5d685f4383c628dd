"""Algorithm 1: it learns, each part can be left out, and nothing but its state matters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import AutoADConfig, ablations, algorithm, autoad, losses
from jaxad.nas.strategies.autoad.controller import make_controller
from jaxad.nas.strategies.autoad.posterior import Posterior
from jaxad.nas.strategies.registry import make_strategy
from jaxad.training import checkpoint
from spaces import TINY

COMPLETE = AutoADConfig(units=6, buffer=4, keep=2, revisits=3)


def jitted(config=COMPLETE):
    return compiled(config)


@functools.cache  # of equal settings, whether they were given or not
def compiled(config):
    search = autoad(TINY, population=4, config=config)
    return search._replace(init=jax.jit(search.init), ask=jax.jit(search.ask), tell=jax.jit(search.tell))


def table():
    """A reward for each choice of TINY's tokens; the best sequence is known."""
    rng = np.random.default_rng(8)
    return [jnp.asarray(rng.random(count), jnp.float32) for count in TINY.choices_per_token]


def reward_of(tokens):
    return sum(values[tokens[..., t]] for t, values in enumerate(table())) / TINY.num_tokens


def run(search, seed, populations):
    state = search.init(jax.random.key(seed))
    info = None
    for number in range(populations):
        state, tokens = search.ask(jax.random.fold_in(jax.random.key(100 + seed), number), state)
        tell_key = jax.random.fold_in(jax.random.key(200 + seed), number)
        state, info = search.tell(tell_key, state, tokens, reward_of(tokens))
    return state, info


def same(a, b):
    def one(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)

    jax.tree.map(one, a, b)


def test_what_it_proposes_and_reports_has_the_promised_shapes():
    search = jitted()
    state = search.init(jax.random.key(0))
    asked, tokens = search.ask(jax.random.key(1), state)
    assert tokens.shape == (4, TINY.num_tokens)
    assert tokens.dtype == jnp.int32
    assert (np.asarray(tokens) < np.array(TINY.choices_per_token)).all()
    same(asked._replace(noise=state.noise, asked=state.asked), state)
    np.testing.assert_array_equal(asked.asked, tokens)
    state, info = search.tell(jax.random.key(2), asked, tokens, jnp.linspace(0, 1, 4))
    assert int(state.num_evaluated) == int(info.num_evaluated) == 4
    np.testing.assert_allclose(info.rewards, np.linspace(0, 1, 4), atol=1e-6)
    assert info.probabilities.shape == (TINY.num_tokens, max(TINY.choices_per_token))
    np.testing.assert_allclose(info.probabilities.sum(1), 1, atol=1e-5)
    assert (np.asarray(info.gains) > 0).all()
    np.testing.assert_allclose(np.median(info.curiosity), COMPLETE.curiosity, rtol=1e-4)  # one median, its own scale
    assert float(info.kl_sharpening) > 0
    np.testing.assert_allclose(info.advantages, info.rewards + info.curiosity - info.baseline, atol=1e-6)
    assert float(info.buffer_rewards[0]) == 1.0


def test_every_learned_number_moves():
    search = jitted()
    before = search.init(jax.random.key(0))
    after, _ = run(search, 0, 1)
    for part in ("mean", "rho"):
        for name, moved in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(jnp.subtract, getattr(after.learned.posterior, part), getattr(before.learned.posterior, part))
        ):
            assert np.any(np.asarray(moved) != 0), (part, name)
    assert all(
        np.any(np.asarray(a != b)) for a, b in zip(*map(jax.tree.leaves, (after.learned.eta, before.learned.eta)))
    )


def test_a_whole_search_is_one_program_for_each_function():
    search = jitted()
    run(search, 0, 1)
    programs = [function._cache_size() for function in (search.init, search.ask, search.tell)]
    run(search, 1, 3)
    assert [function._cache_size() for function in (search.init, search.ask, search.tell)] == programs


@pytest.mark.slow
def test_a_last_population_may_be_smaller():
    search = jitted()
    state, _ = run(search, 0, 1)
    _, tokens = search.ask(jax.random.key(5), state)
    state, info = search.tell(jax.random.key(6), state, tokens[:1], jnp.array([0.5]))
    assert int(info.num_evaluated) == 5
    assert state.carried.carries.shape[0] == COMPLETE.keep


def test_failed_children_are_the_worst_for_the_policy_and_never_imitated():
    search = jitted()
    state, tokens = search.ask(jax.random.key(1), search.init(jax.random.key(0)))
    other, _ = search.ask(jax.random.key(1), search.init(jax.random.key(0)))
    failed, told = search.tell(jax.random.key(2), state, tokens, jnp.array([0.5, jnp.nan, jnp.inf, 0.7]))
    worst, _ = search.tell(jax.random.key(2), other, tokens, jnp.array([0.5, 0.0, 0.0, 0.7]))
    np.testing.assert_allclose(told.rewards, [0.5, 0, 0, 0.7], atol=1e-7)
    same(failed.optimisers.reinforce, worst.optimisers.reinforce)
    assert int((failed.buffer.rewards > -jnp.inf).sum()) == 2
    assert int((worst.buffer.rewards > -jnp.inf).sum()) > 2


def test_the_sample_that_acted_is_kept_and_reinforced():
    """The noise in the state writes the same architectures again, and another one gives another gradient."""
    search = jitted()
    state, tokens = search.ask(jax.random.key(1), search.init(jax.random.key(0)))
    weights = jax.jit(lambda *given: losses.acting_weights(COMPLETE, *given))(state.learned, state.noise)
    replay = algorithm.make_policy(TINY, COMPLETE)
    controller = algorithm.make_controller(TINY, units=COMPLETE.units)
    _, unravel = jax.flatten_util.ravel_pytree(jax.jit(controller.init)(jax.random.key(0)))
    keys = jax.random.split(jax.random.split(jax.random.key(1))[1], 4)
    write = jax.jit(lambda key: controller.sample(unravel(weights), key, controller.carry()))
    written = [write(key) for key in keys]
    np.testing.assert_array_equal(np.stack([one.tokens for one in written]), tokens)
    log_probs = jax.jit(replay)(weights, tokens, jnp.zeros((4, *controller.carry().shape))).log_probs
    np.testing.assert_allclose(log_probs, np.stack([one.log_probs for one in written]), atol=1e-5)
    moved, _ = search.tell(jax.random.key(2), state, tokens, reward_of(tokens))
    otherwise, _ = search.tell(jax.random.key(2), state._replace(noise=-state.noise), tokens, reward_of(tokens))
    assert not np.array_equal(moved.learned.posterior.mean, otherwise.learned.posterior.mean)


@pytest.mark.parametrize("on_policy", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_what_was_trained_in_place_of_proposals_is_no_sample_of_the_policy(on_policy):
    search = jitted(dataclasses.replace(COMPLETE, on_policy=on_policy))
    state, tokens = search.ask(jax.random.key(1), search.init(jax.random.key(0)))
    moved, _ = search.tell(jax.random.key(2), state, (tokens + 1) % 2, reward_of(tokens))
    reinforced = moved.optimisers.reinforce[0].mu.posterior.mean
    assert bool(np.any(reinforced)) is not on_policy
    assert np.any(moved.optimisers.explore[0].mu.posterior.mean)
    assert np.isfinite(moved.buffer.rewards).any()
    moved, _ = search.tell(jax.random.key(2), state, tokens, reward_of(tokens))
    assert np.any(moved.optimisers.reinforce[0].mu.posterior.mean)


def test_the_bonus_is_in_the_baseline():
    """A bonus that is the same for all moves no probability: it leaves the advantages."""
    search = jitted()
    state, tokens = search.ask(jax.random.key(1), search.init(jax.random.key(0)))
    state, info = search.tell(jax.random.key(2), state, tokens, jnp.full(4, 0.5))
    np.testing.assert_allclose(info.advantages.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(state.baseline.bonus, info.curiosity.mean(), rtol=1e-5)
    np.testing.assert_allclose(info.baseline, 0.5 + info.curiosity.mean(), rtol=1e-5)


def test_a_saved_state_goes_on_as_if_never_saved(tmp_path):
    search = jitted()
    state, _ = run(search, 0, 2)
    checkpoint.save(tmp_path / "state", state)
    again = checkpoint.restore(tmp_path / "state", jax.eval_shape(search.init, jax.random.key(0)))
    for number in range(2):

        def both(seed, function, *arguments, number=number):
            return [function(jax.random.fold_in(jax.random.key(seed), number), *given) for given in zip(*arguments)]

        (_, a), (_, b) = both(7, search.ask, (state, again))
        (state, _), (again, _) = both(8, search.tell, (state, again), (a, b), (reward_of(a), reward_of(b)))
    same(state, again)


@pytest.mark.slow
def test_vmapped_seeds_equal_separate_searches():
    search, together = jitted(), autoad(TINY, population=4, config=COMPLETE)
    states = jax.jit(jax.vmap(together.init))(jax.vmap(jax.random.key)(jnp.arange(2)))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 4, TINY.num_tokens)), jnp.int32)
    tokens = tokens % jnp.asarray(TINY.choices_per_token)[None, None]
    keys = jax.random.split(jax.random.key(9), 2)
    both, _ = jax.jit(jax.vmap(together.tell))(keys, states, tokens, reward_of(tokens))
    for seed in range(2):
        key = jax.random.split(jax.random.key(9), 2)[seed]
        alone, _ = search.tell(key, search.init(jax.random.key(seed)), tokens[seed], reward_of(tokens[seed]))
        jax.tree.map(
            lambda a, b, seed=seed: np.testing.assert_allclose(a[seed], b, atol=2e-5),
            both.learned.posterior,
            alone.learned.posterior,
        )


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("autoad", "plain-lstm") else pytest.param(name, marks=pytest.mark.slow)
        for name in ablations(COMPLETE)
    ],
)
def test_each_part_can_be_left_out(name):
    search = jitted(ablations(COMPLETE)[name])
    before = search.init(jax.random.key(0))
    state, info = run(search, 0, 1)
    moved = {
        part: any(np.any(np.asarray(a != b)) for a, b in zip(*map(jax.tree.leaves, (new, old))))
        for part, new, old in (
            ("mean", state.learned.posterior.mean, before.learned.posterior.mean),
            ("rho", state.learned.posterior.rho, before.learned.posterior.rho),
            ("eta", state.learned.eta, before.learned.eta),
        )
    }
    assert moved == {"mean": True, "rho": name != "plain-lstm", "eta": name not in ("no-sharpening", "plain-lstm")}
    assert bool((np.asarray(info.curiosity) == 0).all()) == (name in ("no-curiosity", "plain-lstm"))
    assert info.buffer_rewards.shape == (0 if name == "no-replay" else 4,)
    assert (search.revisit is None) == (name == "no-replay")
    assert bool((np.asarray(info.gains) == 0).all()) == (name == "plain-lstm")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"gain": "update"},
        {"gained": "lstm"},
        {"gain": "update", "gained": "lstm"},
        {"likelihood": "plain"},
        {"entropy": 0.1},
        {"reinforced": "sharpened"},
        {"baseline": "external"},
    ],
)
def test_options_change_what_is_learned(change):
    usual, _ = run(jitted(), 0, 1)
    other, info = run(jitted(dataclasses.replace(COMPLETE, **change)), 0, 1)
    difference = jax.tree.map(lambda a, b: np.any(np.asarray(a != b)), usual.learned.posterior, other.learned.posterior)
    assert any(jax.tree.leaves(difference))
    assert (np.asarray(info.gains) > 0).all()


def test_the_gain_is_of_the_weights_that_are_named():
    controller = make_controller(TINY, units=3)
    weights = controller.init(jax.random.key(0))
    marked = {part: jax.tree.map(lambda leaf, n=n: n + 0 * leaf, weights[part]) for n, part in enumerate(weights)}
    mean = ravel_pytree(marked)[0]
    posterior = Posterior(mean, -mean)
    lstm = [n for n, part in enumerate(weights) if part.startswith("lstm")]
    assert len(lstm) == 2
    of_all, of_lstm = (
        algorithm._gained(controller, AutoADConfig(units=3, gained=gained))(posterior) for gained in ("all", "lstm")
    )
    assert of_all is posterior
    np.testing.assert_array_equal(of_lstm.mean, mean[np.isin(mean, lstm)])
    np.testing.assert_array_equal(of_lstm.rho, -of_lstm.mean)
    assert len(of_lstm.mean) == sum(
        leaf.size for part in weights for leaf in jax.tree.leaves(weights[part]) if "lstm" in part
    )


@pytest.mark.slow
@pytest.mark.parametrize("gained", ["all", "lstm"])
def test_an_architecture_unlike_those_seen_teaches_more_than_one_like_them(gained):
    search, ratios = jitted(dataclasses.replace(COMPLETE, gained=gained)), []
    for seed in range(3):
        state, _ = run(search, seed, 40)
        _, like = search.ask(jax.random.key(6000 + seed), state)
        unlike = TINY.sample(jax.random.key(7000 + seed), 4)
        told = [search.tell(jax.random.key(5000 + seed), state, tokens, jnp.zeros(4))[1] for tokens in (unlike, like)]
        ratios.append(np.mean(told[0].gains) / np.mean(told[1].gains))
    assert min(ratios) > 1.2


@pytest.mark.slow
def test_gains_tell_architectures_apart_at_the_papers_constants():
    """Of the recurrent weights; those of all weights are nearly a constant while nothing has been learned."""
    spreads = {}
    for gained in ("all", "lstm"):
        config = dataclasses.replace(AutoADConfig.paper(), gained=gained)
        search = autoad(SearchSpace(num_layers=3), population=10, config=config)
        state, tokens = jax.jit(search.ask)(jax.random.key(1), search.init(jax.random.key(0)))
        _, info = jax.jit(search.tell)(jax.random.key(2), state, tokens, jnp.linspace(0, 1, 10))
        spreads[gained] = float(info.gains.std() / info.gains.mean())
    assert AutoADConfig.paper().gained == "lstm"
    assert spreads["all"] < 0.1 < spreads["lstm"]


def test_children_that_were_imitated_train_again():
    search = jitted()
    state, info = run(search, 0, 2)
    known = {tuple(t) for t, r in zip(np.asarray(info.buffer_tokens).tolist(), info.buffer_rewards) if r > -np.inf}
    again = np.asarray(search.revisit(jax.random.key(0), state))
    assert again.shape == (COMPLETE.revisits, TINY.num_tokens)
    assert {tuple(t) for t in again.tolist()} <= known
    np.testing.assert_array_equal(again, state.replayed)


@pytest.mark.slow
def test_it_beats_uniform_sampling_for_ten_of_ten_seeds():
    """A known reward table: after 60 populations the mean reward of proposals is well above that of the space."""
    search = autoad(TINY, population=4, config=COMPLETE)

    def learn(seed):
        def step(state, number):
            ask_key, tell_key = jax.random.split(jax.random.fold_in(steps_key, number))
            state, tokens = search.ask(ask_key, state)
            rewards = reward_of(tokens)
            state, _ = search.tell(tell_key, state, tokens, rewards)
            return state, rewards.mean()

        start_key, steps_key = jax.random.split(jax.random.key(seed))
        return jax.lax.scan(step, search.init(start_key), jnp.arange(60))[1]

    means = np.asarray(jax.jit(jax.vmap(learn))(jnp.arange(10)))
    every = np.asarray(reward_of(jnp.array(list(TINY.enumerate()))), np.float64)
    assert (means[:, -10:].mean(1) > every.mean() + every.std()).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"curiosity": -0.1}, r"curiosity is -0\.1; give a number from 0"),
        ({"eta": -1.0}, r"eta is -1\.0"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0; give a positive number"),
        ({"buffer": 0}, "with a buffer of 0 there is nothing to imitate"),
        ({"buffer": -1}, "buffer is -1; give a whole number from 0"),
        ({"units": 0}, "units is 0; give a whole number from 1"),
        ({"keep": 5}, "keep is 5; of a population of 4 at most 4"),
        ({"likelihood": "hope"}, "likelihood is 'hope'; choose one of weighted, plain"),
        ({"gain": "all"}, "gain is 'all'; choose one of natural, update"),
        ({"reinforced": "both"}, "reinforced is 'both'; choose one of acting, sharpened"),
        ({"baseline": "no"}, "baseline is 'no'; choose one of shaped, external"),
        ({"baseline_decay": 1.0}, r"baseline_decay is 1\.0"),
        ({"bayesian": False}, "a plain LSTM has no posterior"),
        ({"luck": 1}, "has no option 'luck'"),
    ],
)
def test_nonsense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make_strategy("autoad", TINY, population=4, **fields)


def test_a_population_of_nobody_is_refused():
    with pytest.raises(ValueError, match="population is 0; give an integer of at least 1"):
        autoad(TINY, population=0)
