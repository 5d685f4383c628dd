"""ALAD: its objectives by PyTorch, who learns from what, its score, and that it learns to reconstruct."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import OneClass

from jaxad.data import digits
from jaxad.methods.alad import DISCRIMINATORS, ALADConfig, alad, logits_of, make, make_networks, paired
from jaxad.nn import spectral_norm as spectral
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.types import Batch

IMAGES = digits().images[:10].astype(np.float32) / 255
CONFIG = ALADConfig(widths=(4,), pair_widths=(4,), latent_dim=3, hidden=5)
LAST = {"encoder": "Dense_0", "xz": "logit", "xx": "Dense_0", "zz": "logit"}


@pytest.fixture(scope="module")
def stepped():
    """(state, state after a step, its info)"""
    detector = alad(CONFIG)
    state = jax.jit(detector.init)(jax.random.key(0), IMAGES)
    return state, *jax.jit(detector.step)(jax.random.key(1), state, Batch(jnp.asarray(IMAGES)))


def constrained(params, vectors):
    """Weights as used: all layers but the last by their spectral norms."""
    used = dict(params)
    for name, last in LAST.items():
        rest = {layer: inner for layer, inner in params[name].items() if layer != last}
        used[name] = {**params[name], **spectral.normalise_kernels(rest, vectors[name])}
    return used


def bce(logits, target):
    logits = np.asarray(logits, np.float64)  # -log of the sigmoid, and of what it leaves
    return np.mean(target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits))


def test_losses_are_the_cross_entropies_of_all_pairs(stepped):
    state, after, info = stepped
    networks, x = make_networks(CONFIG, IMAGES.shape[1:]), jnp.asarray(2 * IMAGES - 1)
    z = jax.random.normal(jax.random.key(1), (10, 3))

    @jax.jit
    def judged(params):
        params = constrained(params, after.vectors)
        made = make(networks, params, state.statistics, x, z)
        return logits_of(networks, params, x, z, made), made

    before, made = judged(state.params)
    terms = [bce(real, 1.0) + bce(fake, 0.0) for real, fake in before]
    np.testing.assert_allclose([info.xz, info.xx, info.zz], terms, rtol=1e-4)
    np.testing.assert_allclose(info.discriminator_loss, sum(terms), rtol=1e-4)
    np.testing.assert_allclose(info.error, np.abs(x - made.rebuilt).mean() / 2, rtol=1e-4)
    # G and E meet discriminators that have learnt from this batch, with labels exchanged.
    old = {name: state.params[name] for name in ("encoder", "generator")}
    (real, fake), (_, rebuilt), (_, recoded) = judged({**after.params, **old})[0]
    expected = bce(real, 0.0) + bce(fake, 1.0) + bce(rebuilt, 1.0) + bce(recoded, 1.0)
    np.testing.assert_allclose(info.generator_loss, expected, rtol=1e-4)


def test_every_network_moves_and_every_constrained_kernel_is_used_with_norm_one(stepped):
    state, after, _ = stepped
    for name in state.params:
        pairs = zip(jax.tree.leaves(state.params[name]), jax.tree.leaves(after.params[name]), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs), name

    @jax.jit
    def settled(params, vectors):
        """The weights as used once their power iterations have come to an end."""
        rest = {name: {k: v for k, v in params[name].items() if k != last} for name, last in LAST.items()}
        once = lambda _, old: {name: spectral.power_iteration(rest[name], own) for name, own in old.items()}  # noqa: E731
        return constrained(params, jax.lax.fori_loop(0, 100, once, vectors))

    used = settled(after.params, after.vectors)
    for name in DISCRIMINATORS:
        kernels = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(used[name]) if path[-1].key == "kernel"]
        norms = [np.linalg.norm(np.asarray(kernel).reshape(-1, kernel.shape[-1]), 2) for kernel in kernels]
        assert sum(abs(norm - 1) < 1e-2 for norm in norms) == len(norms) - 1, name  # all but the logit's


def test_the_score_is_the_l1_distance_of_features_of_pairs(stepped):
    detector = alad(CONFIG)
    _, state, _ = stepped
    state = jax.jit(detector.calibrate)(state, jnp.asarray(IMAGES))  # statistics of this very batch
    networks, x = make_networks(CONFIG, IMAGES.shape[1:]), jnp.asarray(2 * IMAGES - 1)

    @jax.jit
    def features(state):
        params = constrained(state.params, state.vectors)
        made = make(networks, params, state.statistics, x, jnp.zeros((10, 3)))
        return [networks["xx"].apply({"params": params["xx"]}, paired(x, y)).features for y in (x, made.rebuilt)]

    same, other = (np.asarray(part).reshape(10, -1) for part in features(state))
    np.testing.assert_allclose(jax.jit(detector.score)(state, IMAGES), np.abs(same - other).sum(1), rtol=2e-3)


@pytest.mark.slow
def test_encoder_and_generator_learn_to_invert_each_other_and_features_what_is_normal():
    task = OneClass(0)
    detector = alad(widths=(8, 16), pair_widths=(8, 16), latent_dim=4, hidden=32, learning_rate=2e-3)
    state, history = fit(detector, jax.random.key(0), task.train, steps=250, batch_size=32, chunk=50)
    assert not history.diverged
    error = history.info.error
    value = task.value(detector, calibrate(detector, state, task.train))
    print("error", error[:5].mean(), error[-5:].mean(), "AUROC", value)
    assert error[-5:].mean() < error[:5].mean() / 3
    assert value > 0.95


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"pair_widths": ()}, r"widths are \(\)"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"steps": -2}, "steps is -2; the least is 1"),
    ],
)
def test_configs_say_what_is_wrong_with_them(fields, message):
    with pytest.raises(ValueError, match=message):
        alad(**fields)
