"""AGAD as a detector: an iteration against a plain restatement, what labels do, its settings."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from agads import GANOMALY, IMAGES, LABELS, SKIP, SMALL, leaves_close, mostly_close, started, stepped, trained
from learning import OneClass, assert_learns, before_and_after

from jaxad.methods import DETECTORS
from jaxad.methods.agad import LINEAGE, AGADConfig, agad, make_inference
from jaxad.methods.agad.dcgan import Autoencoder, Discriminator, Encoder
from jaxad.methods.ganomaly import ganomaly
from jaxad.methods.skip_ganomaly import skip_ganomaly
from jaxad.nn.network import make_network, replaced
from jaxad.nn.unet import UNet
from jaxad.types import Batch

# ---- the iteration ---------------------------------------------------------------------------------------------


def bce(logits, target):
    p = jax.nn.sigmoid(logits)
    return -jnp.log(p if target else 1 - p)


def restated(config, generator, discriminator, statistics, labels):
    """(L_G, L_D) as Algorithm 1 reads: every expectation of the images of one class, every pass written out."""
    coded = {"latent_dim": config.latent_dim, "multiplier": config.width}

    def run(module, params, images, statistics):
        """Normalised with the batch's own statistics: those that are given are not used."""
        return make_network(module).apply({"params": params, "batch_stats": statistics}, images, train=True)[0]

    def autoencode(params, images):
        return run(Autoencoder(**coded), params, images, statistics[0]["net"])

    def discriminate(images):
        return run(Discriminator(**coded), discriminator, images, statistics[1])

    x = 2 * IMAGES - 1
    normal, anomalous = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    if config.generator == "naive":
        rebuilt, codes = autoencode(generator["net"], x)
    else:
        unet = UNet(multiplier=config.width, levels=config.levels, dense=False, activation=jnp.tanh)
        rebuilt = run(unet, generator["net"], x, statistics[0]["net"])
    real, fake = discriminate(x), discriminate(rebuilt)
    if config.second_encoder:
        recoded, _ = run(Encoder(**coded), generator["encoder"], rebuilt, statistics[0]["encoder"])
        latent = jnp.mean((codes - recoded) ** 2, 1)
    else:
        latent = jnp.mean((real.latent - fake.latent) ** 2, 1)
    error = jnp.abs(x - rebuilt)

    if config.feature_matching:
        adversarial = jnp.mean((real.features - fake.features)[normal] ** 2)
    else:
        adversarial = jnp.mean(bce(fake.logits[normal], 1))
    of_generator = adversarial + 50 * jnp.mean(error[normal])
    of_generator += config.latent_weight * jnp.mean(latent[normal])
    of_discriminator = jnp.mean(bce(real.logits[normal], 1)) + jnp.mean(bce(fake.logits[normal], 0))
    if config.pseudo_weight:
        again = jnp.abs(
            rebuilt - autoencode(replaced(generator["net"], generator.get("auxiliary", {})), rebuilt).images
        )
        of_generator -= 15 * jnp.mean(again[normal])
    if config.anomalies == "fail" and len(anomalous):
        of_generator += 1 / (jnp.mean(bce(fake.logits[anomalous], config.anomaly_target)) + 1e-6)
        of_generator += 5 / (jnp.mean(latent[anomalous]) + 1e-6)
        if config.pseudo_weight:
            of_generator += 15 / (jnp.mean(again[anomalous]) + 1e-6)
        if config.contextual_reciprocal:
            of_generator += 50 / (jnp.mean(error[anomalous]) + 1e-6)
        of_discriminator += jnp.mean(bce(real.logits[anomalous], 0))
    if config.latent_in_discriminator:
        of_discriminator += config.latent_weight * jnp.mean(latent[normal])
    return of_generator, config.discriminator_weight * of_discriminator


CASES = {
    "semi-supervised": (SMALL, np.zeros(10, int)),
    "supervised": (SMALL, np.asarray(LABELS)),
    "literal target, contextual reciprocal": (
        dataclasses.replace(SMALL, anomaly_target=0, contextual_reciprocal=True),
        np.asarray(LABELS),
    ),
    "without context": (dataclasses.replace(SMALL, pseudo_weight=0.0), np.asarray(LABELS)),
    "auxiliary": (dataclasses.replace(SMALL, auxiliary_norm=True), np.asarray(LABELS)),
    "ganomaly": (GANOMALY, np.asarray(LABELS)),
    "skip-ganomaly": (SKIP, np.asarray(LABELS)),
}


# What the others add is one term or another; compiling them takes as long again, each.
QUICK = ("semi-supervised", "supervised", "auxiliary", "ganomaly")


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_losses_and_gradients_of_an_iteration_equal_its_restatement(case):
    """Adam's first momentum is half of the gradient; the discriminator learns from the generator before its update."""
    config, labels = CASES[case]
    state = started(config)
    after, info = stepped(config, state, jnp.asarray(labels))

    def both(generator, discriminator):
        statistics = state.generator["batch_stats"], state.discriminator["batch_stats"]
        loss = lambda which: lambda *p: restated(config, *p, statistics, labels)[which]  # noqa: E731
        ours = jax.value_and_grad(loss(0), 0)(generator, discriminator)
        return ours, jax.value_and_grad(loss(1), 1)(generator, discriminator)

    (generator, to_generator), (discriminator, to_discriminator) = jax.jit(both)(
        state.generator["params"], state.discriminator["params"]
    )
    np.testing.assert_allclose(info.generator_loss, generator, rtol=1e-4)
    np.testing.assert_allclose(info.discriminator_loss, discriminator, rtol=1e-4)
    for name, gradient in (("generator", to_generator), ("discriminator", to_discriminator)):
        momentum = optax.tree.get(after.opt_state[name], "mu")
        largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))
        leaves_close(momentum, jax.tree.map(lambda g: 0.5 * g, gradient), rtol=1e-3, atol=1e-4 * largest)
    assert after.step == 1
    assert info.reset == 0


def test_labels_of_normal_images_are_as_no_labels():
    state = started(SMALL)
    plain, _ = stepped(SMALL, state, None)
    labelled, _ = stepped(SMALL, state, jnp.zeros(10, jnp.int32))
    for name in ("generator", "discriminator"):
        one, other = (getattr(state, name) for state in (labelled, plain))
        mostly_close(one["params"], other["params"])
        leaves_close(one["batch_stats"], other["batch_stats"], rtol=1e-4, atol=1e-6)


def test_a_batch_of_anomalies_alone_has_losses_too():
    _, info = stepped(SMALL, started(SMALL), jnp.ones(10, jnp.int32))
    assert all(np.isfinite(value) for value in info)
    assert info.contextual == 0
    assert info.generator_loss == info.anomaly_loss > 0


def test_forerunners_ignore_the_losses_of_anomalies():
    _, info = stepped(GANOMALY, started(GANOMALY))
    assert info.anomaly_loss == 0


def test_noise_changes_what_the_generator_sees_and_not_what_it_is_compared_with():
    noisy = dataclasses.replace(SMALL, noise=0.5)
    state = started(SMALL)
    _, exact = stepped(SMALL, state)
    _, info = stepped(noisy, state)
    assert not np.isclose(info.contextual, exact.contextual, rtol=1e-6)
    _, again = stepped(noisy, state, seed=2)
    assert info.contextual != again.contextual


# ---- the discriminator's new start -----------------------------------------------------------------------------


def test_the_discriminator_starts_anew_below_the_threshold_and_only_then():
    state = started(SMALL)
    eager = dataclasses.replace(SMALL, reset_below=1e9)
    kept, _ = stepped(SMALL, state)
    anew, info = stepped(eager, state)
    assert info.reset == 1
    mostly_close(anew.generator["params"], kept.generator["params"])
    # Kernels are as large as at the start and yet others; the optimiser has forgotten.
    one, other = (s.discriminator["params"]["encoder"]["conv0"]["kernel"] for s in (anew, state))
    assert not np.allclose(one, other, atol=1e-3)
    np.testing.assert_allclose(np.std(one), 0.02, rtol=0.3)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(anew.opt_state["discriminator"]))
    never = dataclasses.replace(SMALL, reset_below=0.0)
    mostly_close(stepped(never, state)[0].discriminator["params"], kept.discriminator["params"])


# ---- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"generator": "resnet"}, "choose one of unetpp"),
        ({"running_from": "outputs"}, "choose one of inputs"),
        ({"score": "loss"}, "choose one of image"),
        ({"anomaly_target": 2}, "choose one of 0, 1"),
        ({"anomalies": "like"}, "choose one of fail"),
        ({"levels": 0}, "the least is 1"),
        ({"latent_dim": 0}, "the least is 1"),
        ({"decay_after": 0}, "decay_after is 0; the least is 1"),
        ({"pseudo_weight": -1.0}, "from 0 upwards"),
        ({"noise": float("nan")}, "from 0 upwards"),
        ({"width": 0.0}, "above 0"),
        ({"epsilon": 0.0}, "above 0"),
        ({"learning_rate": float("inf")}, "above 0"),
        ({"b1": 1.0}, "b1 less than 1"),
        ({"second_encoder": True}, "needs 'naive'"),
        ({"auxiliary_norm": True, "pseudo_weight": 0.0}, "drop one of them"),
        ({"frozen_norm": True, "batch_norm": False}, "nothing to act on"),
    ],
)
def test_settings_out_of_range_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        agad(**fields)


@pytest.mark.parametrize(("config", "shape"), [(AGADConfig(), (24, 32, 1)), (SMALL, (30, 30, 1))])
def test_images_that_do_not_fit_are_refused_before_any_compute(config, shape):
    with pytest.raises(ValueError, match="resize"):
        agad(config).init(jax.random.key(0), jnp.zeros((4, *shape)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("agad", (32, 32, 3)),
        ("ganomaly", (64, 32, 2)),
        ("skip_ganomaly", (32, 48, 1)),
    ],
)
def test_full_size_programs_can_be_built(name, shape):
    """Shapes alone, with labels."""
    detector = agad(LINEAGE[name])
    images = jax.ShapeDtypeStruct((4, *shape), jnp.float32)
    state = jax.eval_shape(detector.init, jax.random.key(0), images)
    labels = jax.ShapeDtypeStruct((4,), jnp.int32)
    after, info = jax.eval_shape(detector.step, jax.random.key(0), state, Batch(images, labels))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert all(leaf.shape == () for leaf in jax.tree.leaves(info))
    assert jax.eval_shape(detector.score, state, images).shape == (4,)


def test_bfloat16_convolutions_are_near_and_weights_stay_float32():
    state = trained(SMALL)
    config = dataclasses.replace(SMALL, compute="bfloat16")
    exact, near = (jax.jit(make_inference(c).reconstruct)(state, IMAGES) for c in (SMALL, config))
    np.testing.assert_allclose(near, exact, atol=0.05)
    assert not np.array_equal(near, exact)
    after, info = stepped(config, state)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((after.generator, after.discriminator, info)))


# ---- forerunners as detectors of their own ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "build"), [("ganomaly", ganomaly), ("skip_ganomaly", skip_ganomaly)])
def test_forerunners_are_the_configurations_of_the_lineage(name, build):
    """The very functions, whose iteration is held to its restatement above, but that a step sees images alone."""
    entry = DETECTORS[name]
    assert entry.config().as_agad() == LINEAGE[name]
    built, theirs = build(width=0.1), agad(dataclasses.replace(LINEAGE[name], width=0.1))
    assert built.labels is None
    assert built._replace(labels="anomalies", step=theirs.step) == theirs
    images, key = jnp.zeros((2, 32, 32, 1)), jax.random.key(1)
    state = jax.eval_shape(theirs.init, jax.random.key(0), images)
    unread = Batch(images, object())

    def after(step):
        return jax.eval_shape(lambda state: step(key, state, unread), state)

    assert jax.tree.structure(after(built.step)[0]) == jax.tree.structure(state)
    with pytest.raises((AssertionError, TypeError, AttributeError)):
        after(theirs.step)
    with pytest.raises(ValueError, match="steps is -3; the least is 1"):
        build(steps=-3)
    with pytest.raises(ValueError, match=r"width is 0\.0"):
        build(width=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "detector",
    [ganomaly(width=0.25, latent_dim=16, learning_rate=2e-3), skip_ganomaly(width=0.25, levels=2, learning_rate=2e-3)],
    ids=["ganomaly", "skip_ganomaly"],
)
def test_forerunners_learn(detector):
    assert_learns(*before_and_after(detector, OneClass(0), steps=300))


def test_a_rate_that_falls_makes_smaller_steps_of_the_same_moments():
    """Full ones up to the step it is told, from then on that step's share of them."""
    batch, moved = Batch(jnp.asarray(IMAGES)), {}
    for after in (None, 2):
        config = dataclasses.replace(SMALL, decay_after=after)
        detector, states = agad(config), [started(config)]
        step = jax.jit(detector.step)
        for number in range(4):
            states.append(step(jax.random.key(number), states[-1], batch)[0])
        params = [jax.tree.leaves(state.generator["params"]) for state in states]
        moved[after] = [[np.asarray(b - a) for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(params)]
    for number, share in enumerate((1, 1, 1, 2 / 3)):  # steps 0, 1, 2 and 3
        for whole, falling in zip(moved[None][number], moved[2][number], strict=True):
            np.testing.assert_allclose(falling, share * whole, rtol=1e-3, atol=1e-6)
