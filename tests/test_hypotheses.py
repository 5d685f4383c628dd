"""Hypotheses against SciPy Gaussians, plain NumPy loops, finite differences, and degenerate latents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from jaxad.nn.network import replaced
from jaxad.nn.objectives import (
    HYPOTHESES,
    CentroidParams,
    ClusterParams,
    Hypothesis,
    Mixture,
    make_hypothesis,
    mixture_energy,
)


def gradient_of(name, argnums, **options):
    return jax.jit(jax.grad(make_hypothesis(name, **options).loss, argnums))


@functools.cache
def compiled(name, **options):
    """The functions of a hypothesis, jitted; tests that use equal shapes share what is compiled."""
    return Hypothesis(*(jax.jit(function) for function in make_hypothesis(name, **options)))


def latents(rng, n, d=3, scale=1.0):
    groups = rng.standard_normal((3, d)) * 3
    z = groups[rng.integers(0, 3, n)] + rng.standard_normal((n, d))
    return (scale * z).astype(np.float32)


def oracle_gamma(params, z):
    hidden, output = jax.tree.map(np.asarray, (params["hidden"], params["output"]))
    logits = np.tanh(z @ hidden["kernel"] + hidden["bias"]) @ output["kernel"] + output["bias"]
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def oracle_mixture(gamma, z):
    """phi, mu, Sigma by loops, float64, with the documented jitter."""
    phi, means, covariances = [], [], []
    for k in range(gamma.shape[1]):
        total = gamma[:, k].sum()
        mu = sum(g * row for g, row in zip(gamma[:, k], z)) / total
        sigma = sum(g * np.outer(row - mu, row - mu) for g, row in zip(gamma[:, k], z)) / total
        sigma += (1e-6 + 1e-4 * np.diag(sigma).mean()) * np.eye(z.shape[1])
        phi.append(gamma[:, k].mean())
        means.append(mu)
        covariances.append(sigma)
    return np.array(phi), np.array(means), np.array(covariances)


def oracle_energy(phi, means, covariances, z):
    logs = [np.log(p) + multivariate_normal(m, s).logpdf(z) for p, m, s in zip(phi, means, covariances)]
    return -logsumexp(np.array(logs), axis=0)


def test_token_order_and_configs():
    assert HYPOTHESES.standard == ("density", "cluster", "centroid", "reconstruction")
    for name in HYPOTHESES.standard:
        make, config = HYPOTHESES[name]
        assert (make.__name__, config.__name__) == (name, f"{name.capitalize()}Config")


def test_mixture_energy_equals_scipy(rng):
    phi = np.array([0.2, 0.5, 0.3])
    means = rng.standard_normal((3, 4))
    roots = rng.standard_normal((3, 4, 4))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(4)
    z = 3 * rng.standard_normal((20, 4))
    mixture = Mixture(*(jnp.asarray(a, jnp.float32) for a in (np.log(phi), means, np.linalg.cholesky(covariances))))
    energy = jax.jit(mixture_energy)(mixture, jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(energy, oracle_energy(phi, means, covariances, z), rtol=2e-4, atol=1e-4)
    # Far away the density underflows, the energy must not.
    assert np.isfinite(mixture_energy(mixture, jnp.full((1, 4), 1e4))).all()


def test_density_equals_scipy_and_numpy(rng):
    hypothesis = compiled("density")
    train, batch = latents(rng, 60), latents(rng, 16)
    params = hypothesis.init(jax.random.key(0), train[:8])
    # The initial network assigns almost evenly; larger weights make four components that really differ.
    larger = {
        "hidden": {"bias": params["hidden"]["bias"] + 0.3},
        "output": {"kernel": params["output"]["kernel"] * 8},
    }
    params = replaced(params, larger)
    errors = np.zeros(16, np.float32)

    fitted = oracle_mixture(oracle_gamma(params, train.astype(float)), train.astype(float))
    score = hypothesis.score(params, hypothesis.fit(params, train), batch, errors)
    np.testing.assert_allclose(score, oracle_energy(*fitted, batch), rtol=1e-3, atol=1e-3)

    own = oracle_mixture(oracle_gamma(params, batch.astype(float)), batch.astype(float))
    penalty = 0.005 * sum((1 / np.diag(sigma)).sum() for sigma in own[2])
    expected = oracle_energy(*own, batch).mean() + penalty
    assert penalty > 1e-3
    np.testing.assert_allclose(hypothesis.loss(params, batch, errors, 0), expected, rtol=1e-3)


def oracle_q(centres, z):
    q = np.array([[1 / (1 + sum((a - b) ** 2 for a, b in zip(row, c))) for c in centres] for row in z])
    return q / q.sum(axis=1, keepdims=True)


def oracle_cluster_rows(q, f):
    weights = q**2 / f
    p = weights / weights.sum(axis=1, keepdims=True)
    return (p * np.log(p / q)).sum(axis=1), p


def test_cluster_equals_numpy(rng):
    hypothesis = compiled("cluster", clusters=4)
    train, batch = latents(rng, 40), latents(rng, 9)
    params = hypothesis.init(jax.random.key(0), train)
    assert params.centres.shape == (4, 3)
    errors = np.zeros(9, np.float32)
    centres = np.asarray(params.centres, np.float64)

    q = oracle_q(centres, batch)
    loss = hypothesis.loss
    np.testing.assert_allclose(
        loss(params, batch, errors, 0), oracle_cluster_rows(q, q.sum(axis=0))[0].mean(), rtol=1e-4
    )
    expected = oracle_cluster_rows(q, oracle_q(centres, train).sum(axis=0))[0]
    score = hypothesis.score(params, hypothesis.fit(params, train), batch, errors)
    np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-6)

    # P is a constant: the gradient is that of KL with P frozen, by central differences in float64.
    target = oracle_cluster_rows(q, q.sum(axis=0))[1]

    def frozen(centres, z):
        return (target * np.log(target / oracle_q(centres, z))).sum(axis=1).mean()

    gradient = gradient_of("cluster", (0, 1), clusters=4)(params, batch, errors, 0)
    for got, argument in ((gradient[0].centres, 0), (gradient[1], 1)):
        point = [centres, batch.astype(np.float64)]
        numeric = np.zeros_like(point[argument])
        for index in np.ndindex(numeric.shape):
            shift = np.zeros_like(numeric)
            shift[index] = 1e-5
            up, down = list(point), list(point)
            up[argument], down[argument] = point[argument] + shift, point[argument] - shift
            numeric[index] = (frozen(*up) - frozen(*down)) / 2e-5
        np.testing.assert_allclose(got, numeric, atol=2e-5)


def test_cluster_centres_start_in_separate_groups(rng):
    groups = 20 * np.array([[1, 0], [0, 1], [-1, -1], [2, 2]], np.float32)
    z = (groups[rng.integers(0, 4, 64)] + 0.1 * rng.standard_normal((64, 2))).astype(np.float32)
    centres = compiled("cluster", clusters=4).init(jax.random.key(3), z).centres
    found = np.linalg.norm(np.asarray(centres)[:, None] - groups[None], axis=2).min(axis=0)
    assert found.max() < 0.2


@pytest.mark.parametrize("nu", [0.1, 0.35])
def test_centroid_equals_numpy(rng, nu):
    hypothesis = compiled("centroid", nu=nu, warmup_steps=5)
    train, batch = latents(rng, 50), latents(rng, 12)
    centre = np.array([0.3, -1.0, 0.1], np.float32)
    params = CentroidParams(jnp.asarray(centre))
    errors = np.zeros(12, np.float32)
    distances = ((batch - centre) ** 2).sum(axis=1)

    loss = hypothesis.loss
    np.testing.assert_allclose(loss(params, batch, errors, 4), distances.mean() / nu, rtol=1e-5)
    radius = np.quantile(distances, 1 - nu)
    expected = radius + np.maximum(0, distances - radius).mean() / nu
    np.testing.assert_allclose(loss(params, batch, errors, 5), expected, rtol=1e-5)

    train_radius = np.quantile(((train - centre) ** 2).sum(axis=1), 1 - nu)
    score = hypothesis.score(params, hypothesis.fit(params, train), batch, errors)
    np.testing.assert_allclose(score, distances - train_radius, rtol=1e-4, atol=1e-4)

    # R is a constant and c is not trained: only instances outside pull, each by 2 (z - c) / (nu B).
    by_params, by_z = gradient_of("centroid", (0, 1), nu=nu, warmup_steps=5)(params, batch, errors, 5)
    outside = (distances > radius)[:, None]
    np.testing.assert_allclose(by_z, outside * 2 * (batch - centre) / (nu * 12), rtol=1e-4, atol=1e-6)
    assert not np.any(by_params.centre)


def test_centre_of_the_sphere_stays_away_from_zero():
    z = np.array([[0.05, -0.05, 0.0, 0.7, -0.3], [0.03, -0.01, 0.0, 0.9, -0.5]], np.float32)
    centre = compiled("centroid").init(jax.random.key(0), z).centre
    np.testing.assert_allclose(centre, [0.1, -0.1, 0.1, 0.8, -0.4], rtol=1e-5)


def test_reconstruction_is_the_error(rng):
    hypothesis = compiled("reconstruction")
    z, errors = latents(rng, 6), rng.random(6, dtype=np.float32)
    params = hypothesis.init(jax.random.key(0), z)
    np.testing.assert_allclose(hypothesis.loss(params, z, errors, 0), errors.mean(), rtol=1e-6)
    np.testing.assert_array_equal(hypothesis.score(params, hypothesis.fit(params, z), z, errors), errors)
    np.testing.assert_allclose(gradient_of("reconstruction", 2)(params, z, errors, 0), np.full(6, 1 / 6))


def test_density_gradient_equals_finite_differences(rng):
    hypothesis = compiled("density")
    z = latents(rng, 12)
    params = hypothesis.init(jax.random.key(1), z)
    params = replaced(params, {"output": {"kernel": params["output"]["kernel"] * 4}})
    errors = jnp.zeros(12)
    loss = hypothesis.loss
    gradient = gradient_of("density", (0, 1))(params, z, errors, 0)
    point = (params, jnp.asarray(z))
    for leaf in range(5):  # kernels and biases of both layers, then z
        leaves, structure = jax.tree.flatten(point)
        direction = rng.standard_normal(leaves[leaf].shape).astype(np.float32)
        sides = []
        for sign in (1, -1):
            moved = list(leaves)
            moved[leaf] = moved[leaf] + sign * 1e-2 * direction
            moved_params, moved_z = jax.tree.unflatten(structure, moved)
            sides.append(float(loss(moved_params, moved_z, errors, 0)))
        expected = (sides[0] - sides[1]) / 2e-2
        got = float(np.vdot(jax.tree.leaves(gradient)[leaf], direction))
        np.testing.assert_allclose(got, expected, rtol=0.03, atol=5e-3)


@pytest.mark.parametrize("name", HYPOTHESES.builtin)
def test_degenerate_latents_stay_finite(rng, name):
    """Fewer instances than dimensions, equal instances, one instance, any scale: all stays finite."""
    hypothesis = make_hypothesis(name)
    d = 10
    key = jax.random.key(0)

    @jax.jit
    def everything(key, z, errors):
        params = hypothesis.init(key, z)
        value, gradient = jax.value_and_grad(hypothesis.loss, argnums=(0, 1, 2))(params, z, errors, 20)
        stats = hypothesis.fit(params, z)
        return value, gradient, stats, hypothesis.score(params, stats, z, errors)

    line = rng.standard_normal((6, 1)) * rng.standard_normal((1, d))
    low_rank = rng.standard_normal((6, 2)) @ rng.standard_normal((2, d))
    cases = {
        "random": rng.standard_normal((6, d)),
        "huge": 1e4 * rng.standard_normal((6, d)),
        "small": 1e-3 * rng.standard_normal((6, d)),
        "offset": 100 + 1e-2 * rng.standard_normal((6, d)),
        "constant": np.full((6, d), 0.7),
        "zero": np.zeros((6, d)),
        "line": line,
        "low rank": 50 * low_rank,
        "two alike": np.repeat(rng.standard_normal((2, d)), 3, axis=0),
    }
    for case, z in cases.items():
        z = z.astype(np.float32)
        errors = rng.random(6, dtype=np.float32)
        outcome = everything(jax.random.clone(key), z, errors)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outcome)), case
        assert outcome[3].shape == (6,)
    outcome = everything(key, rng.standard_normal((1, d)).astype(np.float32), np.ones(1, np.float32))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outcome)), "one instance"


@pytest.mark.parametrize("name", HYPOTHESES.builtin)
def test_vmap_and_permutation(rng, name):
    """A population equals its members; the loss ignores the order of the batch, the scores follow it."""
    hypothesis = make_hypothesis(name)
    keys = jax.random.split(jax.random.key(7), 3)
    order = rng.permutation(12)
    z = np.stack([latents(rng, 12) for _ in range(3)])
    errors = rng.random((3, 12), dtype=np.float32)

    def run(params, z, errors):
        return hypothesis.loss(params, z, errors, 20), hypothesis.score(params, hypothesis.fit(params, z), z, errors)

    params = jax.jit(jax.vmap(hypothesis.init))(keys, z)
    batched = jax.jit(jax.vmap(run))(params, z, errors)
    run = jax.jit(run)
    for member in range(3):
        own = jax.tree.map(lambda leaf: leaf[member], (params, z, errors))  # noqa: B023
        loss, score = run(*own)
        np.testing.assert_allclose(loss, batched[0][member], rtol=2e-4)
        np.testing.assert_allclose(score, batched[1][member], rtol=2e-4, atol=1e-4)
        shuffled_loss, shuffled_score = run(own[0], own[1][order], own[2][order])
        np.testing.assert_allclose(shuffled_loss, loss, rtol=2e-4)
        np.testing.assert_allclose(shuffled_score, score[order], rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["density", "centroid", "nearest_cluster"])
def test_far_latents_are_anomalous(rng, name):
    hypothesis = compiled(name)
    train = rng.standard_normal((80, 3)).astype(np.float32)
    params = hypothesis.init(jax.random.key(0), train)
    z = np.array([[0, 0, 0], [8, 8, 8]], np.float32)
    near, far = hypothesis.score(params, hypothesis.fit(params, train), z, np.zeros(2, np.float32))
    assert far > near


def test_undecided_latents_are_anomalous_to_cluster():
    hypothesis = compiled("cluster", clusters=2)
    params = ClusterParams(jnp.array([[-3.0, 0.0], [3.0, 0.0]]))
    stats = hypothesis.fit(params, jnp.array([[-3.0, 0.0], [3.0, 0.0]]))
    in_a_cluster, beside = hypothesis.score(params, stats, jnp.array([[-3.0, 0.0], [-0.8, 0.0]]), jnp.zeros(2))
    assert beside > in_a_cluster


def test_the_nearest_cluster_is_scored_as_by_a_loop_and_trained_as_the_clusters_are(rng):
    hypothesis, papers = compiled("nearest_cluster", clusters=4), compiled("cluster", clusters=4)
    train, batch = latents(rng, 40), latents(rng, 9)
    params, errors = hypothesis.init(jax.random.key(0), train), np.zeros(9, np.float32)
    np.testing.assert_array_equal(params.centres, papers.init(jax.random.key(0), train).centres)
    np.testing.assert_array_equal(hypothesis.loss(params, batch, errors, 0), papers.loss(params, batch, errors, 0))

    def nearest(z):
        return np.array([min(((row - centre) ** 2).sum() for centre in np.asarray(params.centres)) for row in z])

    stats = hypothesis.fit(params, train)
    expected = nearest(batch) / (nearest(batch) + nearest(train).mean())
    np.testing.assert_allclose(hypothesis.score(params, stats, batch, errors), expected, rtol=1e-4)


def test_the_farther_from_all_clusters_the_more_anomalous_where_the_papers_score_falls_to_nothing(rng):
    train = latents(rng, 200)
    away = np.array([1.0, 0.5, -2.0], np.float32) * np.array([[0], [1], [10], [100], [1000]], np.float32)
    z, zeros = train.mean(0) + away, np.zeros(5, np.float32)
    scores = {}
    for name in ("nearest_cluster", "cluster"):
        hypothesis = compiled(name)
        params = hypothesis.init(jax.random.key(0), train)
        scores[name] = np.asarray(hypothesis.score(params, hypothesis.fit(params, train), z, zeros))
    assert (np.diff(scores["nearest_cluster"][1:]) > 0).all()
    assert 0 <= scores["nearest_cluster"].min() < scores["nearest_cluster"].max() < 1
    assert scores["cluster"][-1] < 0.1 * scores["cluster"][0]


def test_bad_names_options_and_shapes(rng):
    with pytest.raises(ValueError, match="density, cluster, centroid, reconstruction"):
        make_hypothesis("svdd")
    with pytest.raises(ValueError, match="clusters, lloyd_steps"):
        make_hypothesis("cluster", k=3)
    for name, option, value in [
        ("centroid", "nu", 0),
        ("centroid", "nu", 1.5),
        ("centroid", "warmup_steps", -1),
        ("cluster", "clusters", 0),
        ("density", "components", 0),
        ("density", "jitter", 0.0),
        ("density", "covariance_penalty", float("nan")),
    ]:
        with pytest.raises(ValueError, match=option):
            make_hypothesis(name, **{option: value})
    hypothesis = make_hypothesis("centroid")
    with pytest.raises(AssertionError):
        hypothesis.loss(CentroidParams(jnp.ones(3)), jnp.ones((4, 3)), jnp.ones(5), 0)
