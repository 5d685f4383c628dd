"""AMA as a detector: an iteration against a plain restatement, its score against SciPy, its settings, its learning."""

import dataclasses
import functools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from scipy import stats
from scipy.stats import median_abs_deviation, norm

from jaxad.data import digits
from jaxad.methods.ama import AMAConfig, ama, draw_negatives, latents, losses, variant, variants
from jaxad.methods.ama.detector import learning_rate
from jaxad.methods.ama.inference import frozen, make_inference
from jaxad.methods.ama.networks import make_networks
from jaxad.nn import spectral_norm as spectral
from jaxad.training.scoring import score_images
from jaxad.types import Batch

SMALL = AMAConfig(width=0.03, latent_dim=5, steps=10, schedule_steps=None, critic_steps=2, negatives="none")
LATE = dataclasses.replace(SMALL, negatives="shell", negative_start=0.5)  # negatives from step 5 on
IMAGES = digits().images[:12].astype(np.float32) / 255
NETWORKS = make_networks(IMAGES.shape[1:], SMALL.latent_dim, SMALL.width)


def encode(params, images):
    """With the statistics of the batch."""
    return NETWORKS.encoder.apply({"params": params}, images, train=True)[0]


def generate(params, codes):
    return NETWORKS.generator.apply({"params": params}, codes, train=True)[0]


def criticise(params, pairs):
    return NETWORKS.critic.apply({"params": params}, pairs)


@functools.cache
def compiled(config, part):
    """A function of the detector, compiled once for all tests."""
    return jax.jit(getattr(ama(config), part))


def started(config, seed=0):
    return compiled(config, "init")(jax.random.key(seed), jnp.asarray(IMAGES))


def stepped(config, state, batch=None, seed=1):
    batch = Batch(jnp.asarray(IMAGES)) if batch is None else batch
    return compiled(config, "step")(jax.random.key(seed), state, batch)


def assert_close(got, expected, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), got, expected)


# ---- the iteration ---------------------------------------------------------------------------------------------


def restated(config, state, key):
    """One iteration as section 3a of the paper's algorithm reads: every expectation from passes of its own."""
    x = 2 * jnp.asarray(IMAGES) - 1
    negatives_key, simplex_key, penalty_key = jax.random.split(key, 3)
    simplex = latents.draw_simplex(simplex_key, len(x), config.parents)
    normal = [True] * len(x)
    if config.negatives != "none":  # the last tenth, made by networks in evaluation mode
        codes = NETWORKS.encoder.apply(frozen(state, "encoder"), x)
        drawn = draw_negatives(config, negatives_key, codes, 1)
        made = NETWORKS.generator.apply(frozen(state, "generator"), drawn)
        x, normal[-1] = x.at[-1].set(made[0]), False
    weights = jnp.array([1.0 if kind else -config.negative_weight for kind in normal])
    # An interpolation with a negative among its parents does not count.
    pure = jnp.asarray(np.array(normal))[simplex.parents].all(1)

    def look(critic, first, second):
        pairs = jnp.concatenate([first, second], -1) if config.mirrored else second
        return criticise(critic, pairs).values

    def autoencoded(encoder, generator):
        codes = encode(encoder, x)
        mixed = sum(simplex.weights[:, j, None] * codes[simplex.parents[:, j]] for j in range(config.parents))
        return codes, generate(generator, codes), generate(generator, mixed)

    def objective(encoder, generator, critic):
        """Eq. 2 with the negatives of Eq. 4."""
        codes, rebuilt, mixed = autoencoded(encoder, generator)
        value = jnp.mean(weights * (look(critic, x, x) - look(critic, x, rebuilt)))
        for j in range(config.parents):
            parent = x[simplex.parents[:, j]]
            gaps = look(critic, parent, parent) - look(critic, parent, mixed)
            value += config.interpolation * jnp.sum(pure * gaps) / jnp.sum(pure) / config.parents
        norms = jnp.linalg.norm(codes[np.flatnonzero(normal)], axis=1)
        return value + config.latent_weight * jnp.mean(norms)

    def improved(carry, update):
        critic, vectors, critic_opt = carry
        vectors = spectral.power_iteration(critic, vectors)
        share = jax.random.uniform(jax.random.fold_in(penalty_key, update), (len(x),))[:, None, None, None]
        rebuilt = autoencoded(state.encoder, state.generator)[1]
        between = share * x + (1 - share) * rebuilt

        def loss(critic):
            critic = spectral.normalise_kernels(critic, vectors)
            pairs = jnp.concatenate([x, between], -1) if config.mirrored else between
            slopes = jax.vmap(jax.grad(lambda pair: criticise(critic, pair[None]).values[0]))(pairs)
            penalty = jnp.mean((jnp.sqrt(jnp.sum(slopes**2, (1, 2, 3))) - 1) ** 2)
            return config.penalty * penalty - objective(state.encoder, state.generator, critic)

        updates, critic_opt = adam(0.0).update(jax.grad(loss)(critic), critic_opt)
        return (optax.apply_updates(critic, updates), vectors, critic_opt), None

    carry = state.critic, state.vectors, state.opt_state["critic"]
    (critic, vectors, _), _ = jax.lax.scan(improved, carry, jnp.arange(config.critic_steps))
    effective = spectral.normalise_kernels(critic, vectors)
    gradients = jax.grad(objective, (0, 1))(state.encoder, state.generator, effective)
    networks = {"critic": critic}
    for name, gradient, b1 in zip(("encoder", "generator"), gradients, (0.5, 0.0)):
        updates, _ = adam(b1).update(gradient, state.opt_state[name])
        networks[name] = optax.apply_updates(getattr(state, name), updates)
    return networks


def averages():
    """Running averages like those of a trained state."""
    return jax.tree.map(lambda leaf: 0.5 * leaf + 0.1, started(SMALL).statistics)


def adam(b1):
    return optax.adam(optax.constant_schedule(SMALL.learning_rate), b1=b1, b2=0.9)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(LATE, marks=pytest.mark.slow, id="shell"),  # test_ama_torch.py has a step in the default suite
        pytest.param(SMALL, marks=pytest.mark.slow, id="none"),
        pytest.param(dataclasses.replace(SMALL, mirrored=False), marks=pytest.mark.slow, id="none, not mirrored"),
    ],
)
def test_an_iteration_equals_its_restatement(config):
    # At this step there are negatives. Averages as they start would hide which mode a network is in.
    state = started(config)._replace(step=jnp.int32(5), statistics=averages())
    after, _ = stepped(config, state)
    expected = jax.jit(partial(restated, config))(state, jax.random.key(1))
    for name, params in expected.items():
        # Adam's first update has the size of the learning rate, whatever the gradient: compare what it moved.
        moved = jax.tree.map(jnp.subtract, getattr(after, name), getattr(state, name))
        wanted = jax.tree.map(jnp.subtract, params, getattr(state, name))
        agree = [np.isclose(a, b, atol=2e-5) for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(wanted))]
        # Where a gradient is zero but for rounding its sign is luck.
        assert np.mean(np.concatenate([a.ravel() for a in agree])) > 0.98, name


def test_the_learning_rate_falls_after_30_60_and_90_percent():
    rate = learning_rate(AMAConfig(learning_rate=1.0), 200)
    for update, expected in (
        (0, 1),
        (59, 1),
        (61, 0.1),
        (119, 0.1),
        (121, 0.01),
        (179, 0.01),
        (181, 0.001),
        (999, 0.001),
    ):
        assert rate(update) == pytest.approx(expected, rel=1e-5)


def test_the_critic_has_more_updates_and_its_rate_falls_by_its_own_count():
    """Half-way through the training every network has passed one drop; Adam's first move has the size of its rate."""
    state = started(SMALL)

    def moved(opt_state):
        after = stepped(SMALL, state._replace(opt_state=opt_state))[0]
        pairs = [(getattr(after, name), getattr(state, name)) for name in ("encoder", "generator", "critic")]
        return [
            np.median(np.concatenate([np.abs(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, pair))]))
            for pair in pairs
        ]

    def at(share):
        counts = {"encoder": 10, "generator": 10, "critic": 20}
        return {
            name: (adams, schedule._replace(count=jnp.int32(share * counts[name])))
            for name, (adams, schedule) in state.opt_state.items()
        }

    np.testing.assert_allclose(np.divide(moved(at(0.5)), moved(at(0))), 0.1, rtol=0.2)


@pytest.mark.slow
def test_labelled_normals_are_as_no_labels_and_labelled_anomalies_are_not():
    state = started(SMALL)
    plain, info = stepped(SMALL, state)
    images = jnp.asarray(IMAGES)
    same, _ = stepped(SMALL, state, Batch(images, jnp.zeros(12, jnp.int32)))
    assert_close(same.critic, plain.critic, rtol=1e-4, atol=1e-6)
    after, other = stepped(SMALL, state, Batch(images, jnp.arange(12) % 2))
    assert not np.isclose(other.wasserstein, info.wasserstein)
    # Labelled anomalies take the place of synthetic ones.
    late, told = stepped(LATE, state._replace(step=jnp.int32(5)), Batch(images, jnp.arange(12) % 2))
    assert_close(told, other, rtol=1e-4, atol=1e-6)
    assert_close(late.critic, after.critic, rtol=1e-4, atol=1e-6)


def test_negatives_wait_for_their_time():
    state = started(SMALL)  # what it starts from does not depend on negatives
    none = stepped(SMALL, state)[0]
    early, _ = stepped(LATE, state)
    assert_close(early.critic, none.critic, rtol=1e-4, atol=1e-6)
    later = state._replace(step=jnp.int32(5))
    with_negatives, info = stepped(LATE, later)
    assert np.isfinite(info.critic_loss)
    assert any(
        not np.allclose(a, b)
        for a, b in zip(jax.tree.leaves(with_negatives.critic), jax.tree.leaves(none.critic), strict=True)
    )


@pytest.mark.slow  # a program of its own
def test_negatives_paired_with_normal_images_train_the_critic_alone():
    """(x, x_n) instead of (x_n, G(E(x_n))): an estimate of Eq. 4 from passes of its own, and no gradient beyond it."""
    config = dataclasses.replace(SMALL, negatives="shell", negative_pair="normal", critic_steps=1)
    state = started(SMALL)._replace(step=jnp.int32(5), statistics=averages())
    _, info = stepped(config, state)

    def estimate(state):
        key = jax.random.split(jax.random.key(1), 3)[0]
        x = 2 * jnp.asarray(IMAGES) - 1
        codes = NETWORKS.encoder.apply(frozen(state, "encoder"), x)
        made = NETWORKS.generator.apply(frozen(state, "generator"), draw_negatives(config, key, codes, 1))
        beside = generate(state.generator, encode(state.encoder, x)).at[-1].set(made[0])
        critic = spectral.normalise_kernels(state.critic, spectral.power_iteration(state.critic, state.vectors))
        same, other = (criticise(critic, jnp.concatenate([x, y], -1)).values for y in (x, beside))
        return jnp.mean(jnp.where(jnp.arange(12) == 11, -5.0, 1.0) * (same - other))

    np.testing.assert_allclose(info.wasserstein, jax.jit(estimate)(state), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", latents.NEGATIVES)
def test_drawn_negatives_are_those_of_the_config(kind, rng):
    codes = jnp.asarray(rng.standard_normal((20, 5)), jnp.float32)
    config = dataclasses.replace(SMALL, negatives=kind, direction="outward")
    drawn = np.linalg.norm(draw_negatives(config, jax.random.key(0), codes, 8), axis=1)
    norms = np.linalg.norm(codes, axis=1)
    if kind == "shell":
        assert ((drawn >= math.sqrt(5) - 1e-5) & (drawn <= 1.5 * math.sqrt(5) + 1e-5)).all()
        median = draw_negatives(dataclasses.replace(config, radius="median"), jax.random.key(0), codes, 8)
        np.testing.assert_allclose(np.linalg.norm(median, axis=1), drawn * np.median(norms) / math.sqrt(5), rtol=1e-4)
    elif kind == "scaled":
        assert (drawn >= 2 * norms[:8] - 1e-5).all()
    else:
        assert (drawn <= math.sqrt(5) * np.abs(codes).min() + 1e-6).all()


def test_running_averages_move_towards_the_batch():
    state = started(SMALL)
    after, _ = stepped(SMALL, state)
    x = 2 * jnp.asarray(IMAGES) - 1
    images = lax.conv_general_dilated(
        x, state.encoder["conv0"]["kernel"], (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    kept = after.statistics["encoder"]["norm0"]
    np.testing.assert_allclose(kept["mean"], 0.1 * images.mean((0, 1, 2)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(kept["var"], 0.9 + 0.1 * images.var((0, 1, 2)), rtol=1e-4)


# ---- the score -------------------------------------------------------------------------------------------------


def test_the_r_score_is_the_distance_of_features_and_calibration_its_mean_and_sd():
    state = started(SMALL)
    images, view = jnp.asarray(IMAGES), make_inference(SMALL)
    r = np.asarray(jax.jit(view.r_score)(state, images))

    def plain(state):
        x, rebuilt = 2 * images - 1, 2 * view.reconstruct(state, images) - 1
        critic = spectral.normalise_kernels(state.critic, state.vectors)
        return [criticise(critic, jnp.concatenate([x, y], -1)).features for y in (x, rebuilt)]

    features = [np.asarray(f) for f in jax.jit(plain)(state)]
    np.testing.assert_allclose(r, np.abs(features[0] - features[1]).sum(1), rtol=1e-4)
    np.testing.assert_allclose([state.r_mean, state.r_sd], [r.mean(), r.std()], rtol=1e-4)


def test_the_a_score_is_scipys_log_density_on_both_sides_and_far_out():
    state = started(SMALL)
    r = np.asarray(jax.jit(make_inference(SMALL).r_score)(state, jnp.asarray(IMAGES)), np.float64)
    score = compiled(SMALL, "score")
    np.testing.assert_allclose(
        score(state, IMAGES), -norm.logpdf(r, float(state.r_mean), float(state.r_sd)), rtol=1e-4, atol=1e-4
    )
    far = state._replace(r_mean=jnp.float32(r.mean() - 1e4), r_sd=jnp.float32(1.0))  # the density itself would be 0
    np.testing.assert_allclose(score(far, IMAGES), -norm.logpdf(r, r.mean() - 1e4, 1.0), rtol=1e-4)
    near = state._replace(r_mean=jnp.float32(2 * r[0] - r.mean()))  # as far on the other side
    np.testing.assert_allclose(score(near, IMAGES)[0], score(state, IMAGES)[0], rtol=1e-3)
    np.testing.assert_allclose(jax.jit(ama(SMALL, score="r").score)(state, IMAGES), r, rtol=1e-4)


def test_robust_and_one_sided_a_scores_are_scipys():
    state = started(SMALL)
    r = np.asarray(jax.jit(make_inference(SMALL).r_score)(state, jnp.asarray(IMAGES)), np.float64)
    middle, spread = np.median(r), median_abs_deviation(r, scale="normal")
    np.testing.assert_allclose([state.r_median, state.r_spread], [middle, spread], rtol=1e-4)
    for moments, loc, scale in (("mean", r.mean(), r.std()), ("median", middle, spread)):
        for sides, density in (("both", norm.logpdf), ("upper", norm.logsf)):
            config = dataclasses.replace(SMALL, moments=moments, sides=sides)
            scores = jax.jit(ama(config).score)(state, IMAGES)
            np.testing.assert_allclose(scores, -density(r, loc, scale), rtol=1e-3, atol=1e-4)
            if sides == "upper":
                np.testing.assert_array_equal(np.argsort(scores), np.argsort(r))


def test_one_image_does_not_decide_the_robust_moments():
    state = started(SMALL)
    images = np.concatenate([IMAGES[:11], np.random.default_rng(0).random((1, 8, 8, 1), np.float32)])
    shifted = compiled(SMALL, "calibrate")(state._replace(critic=jax.tree.map(lambda w: 3 * w, state.critic)), images)
    assert shifted.r_median != shifted.r_mean


def test_the_error_of_pixels_has_a_map():
    detector, view = ama(SMALL, score="l1"), make_inference(SMALL)
    state = started(SMALL)
    error = np.abs(IMAGES - np.asarray(jax.jit(view.reconstruct)(state, IMAGES)))
    np.testing.assert_allclose(jax.jit(detector.score)(state, IMAGES), error.mean((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(jax.jit(detector.score_map)(state, IMAGES), error.mean(3), rtol=1e-3, atol=1e-5)
    assert ama(SMALL).score_map is None


# ---- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"negatives": "some"}, "choose one of shell"),
        ({"direction": "up"}, "choose one of inward"),
        ({"negative_pair": "none"}, "choose one of itself"),
        ({"penalty_norm": "l1"}, "choose one of sample"),
        ({"score": "b"}, "choose one of a"),
        ({"shell_draw": "all"}, "choose one of auto, volume, radius"),
        ({"moments": "mode"}, "choose one of mean, median"),
        ({"sides": "lower"}, "choose one of both, upper"),
        ({"steps": 0}, "the least is 1"),
        ({"critic_steps": 0}, "the least is 1"),
        ({"interpolation": -1.0}, "from 0 upwards"),
        ({"negative_weight": float("nan")}, "from 0 upwards"),
        ({"width": 0.0}, "above 0"),
        ({"learning_rate": float("inf")}, "above 0"),
        ({"delta": 1.0}, "between 0 and 1"),
        ({"negative_start": 2.0}, "from 0 to 1"),
        ({"schedule_steps": 0}, "schedule_steps is 0; give 1 at least"),
    ],
)
def test_settings_out_of_range_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        ama(**fields)


def test_images_and_batches_that_do_not_fit_are_refused_before_any_compute():
    with pytest.raises(ValueError, match="resize to 16"):
        ama(SMALL).init(jax.random.key(0), jnp.zeros((4, 10, 10, 1)))
    config = dataclasses.replace(SMALL, negatives="shell")
    state = jax.eval_shape(ama(config).init, jax.random.key(0), jnp.zeros((12, 8, 8, 1)))
    with pytest.raises(ValueError, match="give 10, or negatives='none'"):
        jax.eval_shape(ama(config).step, jax.random.key(0), state, Batch(jnp.zeros((9, 8, 8, 1))))


def test_inward_negatives_use_the_whole_shell_by_default_and_outward_ones_its_volume():
    inward = dataclasses.replace(LATE, direction="inward")
    assert (LATE.draw, inward.draw, dataclasses.replace(inward, shell_draw="volume").draw) == (
        "volume",
        "radius",
        "volume",
    )
    wide = dataclasses.replace(inward, latent_dim=128)
    drawn = draw_negatives(wide, jax.random.key(0), jnp.zeros((400, 128)), 400)
    shares = np.linalg.norm(drawn, axis=1) / math.sqrt(128)
    assert stats.kstest((shares - 0.5) / 0.5, "uniform").pvalue > 1e-3


def test_all_scores_are_compared_and_the_papers_comes_first():
    found = variants.compared(AMAConfig(), ("no-mirror",))
    assert list(found) == ["ama", "r-score", "robust-score", "one-sided-score", "l1-score", "no-mirror"]
    assert list(variants.compared(AMAConfig(score="r"), ()))[:2] == ["ama", "a-score"]
    trainings = {variants.trained_as(config) for config in found.values()}
    assert len(trainings) == 2  # scores cost none


def test_negatives_that_are_compared_begin_in_time():
    short, long = AMAConfig(steps=200), AMAConfig(steps=5000)
    assert short.first_negatives == long.first_negatives == 2340
    assert variants.in_time(short, ("no-mirror",)) is short
    assert variants.in_time(long, ("no-negatives",)) is long
    used = variants.in_time(short, ("sipple",))
    assert used == dataclasses.replace(short, negative_start=0.0)
    notes = [variants.training_notes(short, config, 100, 10) for config in (used, short)]
    assert (
        "Negatives begin at once, because variants compare them: by their schedule they begin at step 2,340"
        in notes[0][1]
    )
    assert "No synthetic negatives: by their schedule they begin at step 2,340" in notes[1][1]
    assert [line[:36] for line in variants.training_notes(long, long, 100, 10)[1:]] == [
        "The learning rate follows a schedule"
    ]
    whole = dataclasses.replace(long, schedule_steps=None)
    assert len(variants.training_notes(whole, whole, 100, 10)) == 1


def test_variants_change_one_thing():
    assert variant(SMALL, "no-mirror") == dataclasses.replace(SMALL, mirrored=False)
    with pytest.raises(ValueError, match="there is no variant 'mirror' of AMA; choose from no-mirror, "):
        variant(SMALL, "mirror")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 64, 2)])
def test_other_sizes_and_channels(shape):
    """Shapes alone: that the programs can be built."""
    detector = ama(width=0.1, negatives="scaled", spectral_norm=False, penalty_norm="pixel")
    images = jax.ShapeDtypeStruct((12, *shape), jnp.float32)
    state = jax.eval_shape(detector.init, jax.random.key(0), images)
    after, info = jax.eval_shape(detector.step, jax.random.key(0), state, Batch(images))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert all(leaf.shape == () for leaf in jax.tree.leaves(info))
    assert jax.eval_shape(detector.score, state, images).shape == (12,)


def test_the_objective_falls_into_the_named_terms():
    """critic loss = -(Wasserstein) - l_inter gap + weight * penalty, from the same update."""
    _, info = stepped(SMALL, started(SMALL))
    expected = losses.critic_loss(
        info.wasserstein, info.interpolation_gap, info.penalty, interpolation=0.5, penalty_weight=10.0
    )
    np.testing.assert_allclose(info.critic_loss, expected, rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_convolutions_are_near_and_weights_stay_float32():
    state = started(SMALL)
    config = dataclasses.replace(SMALL, compute="bfloat16")
    exact, near = (jax.jit(make_inference(c).reconstruct)(state, jnp.asarray(IMAGES)) for c in (SMALL, config))
    np.testing.assert_allclose(near, exact, atol=0.03)
    assert not np.array_equal(near, exact)
    after, info = stepped(config, state)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((after.encoder, after.critic, info)))
    _, wanted = stepped(SMALL, state)
    np.testing.assert_allclose(info.error, wanted.error, rtol=0.05)


def test_scores_of_one_training_are_those_of_their_detectors_and_see_r_once(monkeypatch):
    config = AMAConfig(width=0.05, latent_dim=4, steps=1)
    images = np.random.default_rng(0).random((12, 8, 8, 1), np.float32)
    configs = variants.compared(config, ())
    state = ama(config).init(jax.random.key(0), images)
    state = jax.jit(ama(config).calibrate)(state, images)
    own = ("ama", "one-sided-score", "l1-score")
    wanted = {name: score_images(ama(configs[name]), state, images) for name in own}
    seen = []
    monkeypatch.setattr(variants, "score_images", lambda *given: seen.append(given) or score_images(*given))
    found = variants.scored(configs, state, images)
    assert list(found) == list(configs) == ["ama", "r-score", "robust-score", "one-sided-score", "l1-score"]
    for name, scores in wanted.items():
        np.testing.assert_allclose(found[name], scores, rtol=1e-5)
    assert len({scores.tobytes() for scores in found.values()}) == len(configs)
    assert len(seen) == 2  # R, and the error of pixels
