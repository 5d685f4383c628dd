"""The search loop with an executor that trains nothing: who is asked, who learns and who trains when."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nas import loop, supernet
from jaxad.nas.executors.population import evaluate_population
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import autoad
from jaxad.nas.strategies.evolution import regularised_evolution
from jaxad.nas.strategies.random import random_search
from jaxad.nas.trial import Result, Reward

SPACE = SearchSpace(
    num_layers=1, hypotheses=("centroid", "density"), distances=("l1", "l2"), channels=(4, 8), kernels=(1, 3),
    pool_kernels=(1, 3), norms=("batch",), activations=("relu", "elu"),
)  # fmt: skip
SHAPE = (8, 8, 1)


class Pretender:
    """Every child moves its weights by one and is rewarded for its channels."""

    batch_size = 16

    def __init__(self):
        self.trained = []

    def __call__(self, jobs):
        for job in jobs:
            self.trained.append(job.architecture)
            params = jax.tree.map(lambda leaf: leaf + np.float32(1), job.params)
            reward = job.architecture.layers[0].channels / 10
            yield Result(params, Reward(np.float32(reward), np.float32(0.5), np.bool_(True)), None, 16, 0.0)


@functools.cache
def controller():
    """A compiled strategy that learns; its programs serve all tests."""
    return loop.jit(autoad(SPACE, population=2, units=4, buffer=3))


def recorded(search):
    """The strategy, and the populations that it learned from."""
    learned = []

    def tell(key, state, tokens, rewards):
        learned.append((np.asarray(tokens), np.asarray(rewards)))
        return search.tell(key, state, tokens, rewards)

    return search._replace(tell=tell), learned


def explore(search, children, **options):
    executor = Pretender()
    state = loop.start(jax.random.key(0), search, SPACE, 1)
    trials = []
    end = loop.explore(
        search, SPACE, executor, state, key=jax.random.key(1), children=children, image_shape=SHAPE,
        on_trial=trials.append, **options,
    )  # fmt: skip
    return end, trials, executor


def test_children_are_distinct_and_their_rewards_learned_in_order():
    search, learned = recorded(random_search(SPACE, population=3))
    end, trials, executor = explore(search, 9)
    assert end.stopped is None
    assert [t.trial for t in trials] == list(range(9))
    assert len({tuple(t.tokens) for t in trials}) == 9
    np.testing.assert_array_equal(np.concatenate([tokens for tokens, _ in learned]), [t.tokens for t in trials])
    np.testing.assert_allclose(np.concatenate([rewards for _, rewards in learned]), [t.reward for t in trials])
    assert [a.to_json() for a in executor.trained] == [t.architecture for t in trials]


def test_the_rest_of_a_population_is_trained_but_teaches_nothing():
    """It would compile a program of its own for what nobody will use."""
    search, learned = recorded(random_search(SPACE, population=4))
    _, trials, _ = explore(search, 10)
    assert len(trials) == 10
    assert [len(rewards) for _, rewards in learned] == [4, 4]


def test_a_time_budget_ends_within_one_child():
    end, trials, executor = explore(random_search(SPACE, population=3), 9, time_budget=1e-9)
    assert end.stopped == "time budget"
    assert len(trials) == len(executor.trained) == 1


def test_a_space_can_be_exhausted():
    end, trials, _ = explore(random_search(SPACE, population=16), 10**6)
    assert end.stopped == "space exhausted"
    assert len(trials) == SPACE.canonical_cardinality


@pytest.mark.slow
def test_known_architectures_train_the_shared_weights_again():
    """Algorithm 1, line 20: after every population but the last, and never as a trial."""
    shown = []
    _, trials, executor = explore(controller(), 6, on_info=lambda info, costs: shown.append((info, costs)))
    assert len(trials) == 6
    assert len(executor.trained) == 6 + 2
    known = [t.architecture for t in trials]
    for place, before in ((2, 2), (5, 4)):  # third and sixth training
        assert executor.trained[place].to_json() in known[:before]
    assert [int(info.num_evaluated) for info, _ in shown] == [2, 4, 6]
    assert all(costs.strategy > 0 for _, costs in shown)
    assert [costs.revisits > 1e-4 for _, costs in shown] == [True, True, False]


@contextlib.contextmanager
def compilations():
    """Names of the functions compiled within."""
    names = []

    def listen(event, duration, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_ask_and_tell_are_compiled_once():
    controller.cache_clear()  # what is compiled here serves the tests below
    search = controller()
    with compilations() as names:
        explore(search, 7)
    counts = {name: sum(name in compiled for compiled in names) for name in ("ask", "tell", "revisit")}
    assert counts == {"ask": 1, "tell": 1, "revisit": 1}


# ---- populations that begin ahead ------------------------------------------------------------------------------------


def ahead_of(ahead, children=15, population=2, **options):
    """A search by evolution, in which order it asked and was told, and from what weights children began."""
    order, began = [], []
    search = regularised_evolution(SPACE, population=population, population_size=4, sample_size=3)

    def ask(key, state):
        if len(order) < 1 or order[-1] != ("ask", int(state.num_evaluated)):
            order.append(("ask", int(state.num_evaluated)))
        return search.ask(key, state)

    def tell(*given):
        state, info = search.tell(*given)
        order.append(("told", int(state.num_evaluated)))
        return state, info

    class Seen(Pretender):
        def __call__(self, jobs):
            began.extend(float(job.params["projection"]["bias"].max()) for job in jobs)
            return super().__call__(jobs)

    trials, start = [], loop.start(jax.random.key(0), search, SPACE, 1)
    given = {"state": loop.waiting_for(start, ahead), "on_trial": trials.append} | options
    end = loop.explore(
        search._replace(ask=ask, tell=tell), SPACE, Seen(), key=jax.random.key(1), children=children, image_shape=SHAPE,
        ahead=ahead, **given,
    )  # fmt: skip
    return end, trials, order, began


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_populations_ahead_miss_so_many_and_no_more(ahead):
    end, trials, order, began = ahead_of(ahead)
    assert [t.trial for t in trials] == list(range(15))
    assert len({tuple(t.tokens) for t in trials}) == 15
    asked = [known for what, known in order if what == "ask"]
    missing = [max(0, 2 * (number - ahead)) for number in range(8)]  # rewards known to each population
    assert list(dict.fromkeys(asked)) == list(dict.fromkeys(missing))
    # All of its children add 1 to what they use of the bias: a population begins where so many have been merged.
    assert began == [max(0, number - ahead) for number in range(8) for _ in range(2)][:15]
    newest = end.state[-1] if ahead else end.state
    assert int(newest.populations) == 8
    assert float(newest.shared["projection"]["bias"].max()) == 8


def test_a_search_ahead_differs_from_one_that_waits():
    """Evolution has the same first generation, and then knows less."""
    tokens = {ahead: [t.tokens for t in ahead_of(ahead)[1]] for ahead in (0, 1)}
    assert tokens[0][:4] == tokens[1][:4]
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_search_ahead_goes_on_as_if_never_stopped(ahead):
    kept = []
    whole, trials, _, began = ahead_of(ahead, on_population=lambda *given: kept.append(given))
    for state, done, elapsed in kept[:-1]:
        rest = []
        given = {"state": state, "trials": trials[:done], "elapsed": elapsed, "on_trial": rest.append}
        end, _, _, again = ahead_of(ahead, **given)
        assert [t.tokens for t in rest] == [t.tokens for t in trials[done:]]
        assert again == began[done:]
        jax.tree.map(np.testing.assert_array_equal, end.state, whole.state)


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_search_ahead_that_grows_is_the_longer_one(ahead):
    """Populations that the shorter one had no need of begin from the state that they miss the same of."""
    whole, trials, _, began = ahead_of(ahead)
    shorter, first, _, _ = ahead_of(ahead, children=8)
    rest = []
    end, _, _, again = ahead_of(ahead, state=shorter.state, trials=first, on_trial=rest.append)
    assert [t.tokens for t in [*first, *rest]] == [t.tokens for t in trials]
    assert again == began[8:]
    jax.tree.map(np.testing.assert_array_equal, end.state, whole.state)


def test_a_search_ahead_ends_with_its_time_and_with_its_space():
    end, trials, _, _ = ahead_of(2, time_budget=1e-9)
    assert (end.stopped, len(trials)) == ("time budget", 1)
    end, trials, _, _ = ahead_of(2, children=10**6)
    assert end.stopped == "space exhausted"
    assert len({tuple(t.tokens) for t in trials}) == len(trials) == SPACE.canonical_cardinality


def test_a_strategy_that_asking_teaches_cannot_be_asked_ahead():
    state = loop.waiting_for(loop.start(jax.random.key(0), controller(), SPACE, 1), 1)
    with pytest.raises(ValueError, match=r"ahead is 1, and this strategy changes its state when it is asked: .* to 0$"):
        loop.explore(
            controller(), SPACE, Pretender(), state, key=jax.random.key(1), children=6, image_shape=SHAPE, ahead=1
        )


# ---- killed ----------------------------------------------------------------------------------------------------------


def test_stopped_after_a_population_and_continued_is_as_if_never_stopped():
    search, kept = controller(), []
    whole, trials, _ = explore(search, 6, on_population=lambda *given: kept.append(given))
    state, done, elapsed = kept[0]
    again, rest = Pretender(), []
    end = loop.explore(
        search, SPACE, again, state, key=jax.random.key(1), children=6, image_shape=SHAPE, trials=trials[:done],
        elapsed=elapsed, on_trial=rest.append,
    )  # fmt: skip
    assert [t.tokens for t in rest] == [t.tokens for t in trials[done:]]
    jax.tree.map(np.testing.assert_array_equal, end.state.shared, whole.state.shared)


@pytest.mark.parametrize("count", [1, 3])
def test_the_best_come_first_and_failures_never(count):
    def trial(number, reward, status="ok"):
        blank = dict.fromkeys(("population", "params", "flops", "seconds", "elapsed"), 0)
        fields = {"tokens": [number], "architecture": {}, "reason": None, "loss": None}
        return loop.Trial(trial=number, reward=reward, status=status, **blank, **fields)

    trials = [trial(0, 0.5), trial(1, 0.9, "failed"), trial(2, 0.8), trial(3, 0.5)]
    assert [t.trial for t in loop.best_trials(trials, count)] == [2, 0, 3][:count]
    assert jnp.isfinite(trials[0].reward)


def fifths(jobs):
    """Trains by adding a fifth of the child's number; the second child fails."""
    for number, job in enumerate(jobs):
        usable = np.bool_(number != 1)
        params = jax.tree.map(lambda leaf, number=number: leaf + np.float32(number / 5), job.params)
        yield Result(params, Reward(np.float32(number), np.float32(0.5), usable), None, 16, 0.0)


fifths.batch_size = 16


@pytest.mark.parametrize("last", [0, 2, 3])
def test_a_population_returns_what_its_children_learned_wherever_it_was_stopped(last):
    shared = supernet.init(np.random.default_rng(0), SPACE, 1)
    architectures = [SPACE.to_architecture(row) for row in np.asarray(SPACE.sample(jax.random.key(0), 4))]
    shown = []

    def on_outcome(place, outcome):
        shown.append((place, outcome))
        return place == last

    found = evaluate_population(fifths, shared, architectures, jax.random.key(1), on_outcome=on_outcome)
    assert shown == list(enumerate(found.outcomes))
    assert found.stopped
    assert [outcome.status for outcome in found.outcomes] == ["ok", "failed", "ok", "ok"][: last + 1]
    before = [supernet.take(shared, architecture) for architecture in architectures]
    trained = [
        (architecture, weights, jax.tree.map(lambda leaf, number=number: leaf + np.float32(number / 5), weights))
        for number, (architecture, weights) in enumerate(zip(architectures, before))
        if number != 1 and number <= last
    ]
    jax.tree.map(np.testing.assert_array_equal, found.shared, supernet.merge(shared, trained))
    assert not evaluate_population(fifths, shared, architectures, jax.random.key(1)).stopped
