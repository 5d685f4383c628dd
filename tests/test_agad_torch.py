"""The PyTorch side of the AGAD benchmark does the work of ours: same values, same gradients, same training."""

import dataclasses
import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad.methods.agad import AGADConfig, agad
from jaxad.types import Batch

torch = pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
agad_torch, agad_torch_networks = map(importlib.import_module, ("agad_torch", "agad_torch_networks"))

SHAPE, SIZE = (16, 16, 2), 8
BASE = AGADConfig(generator="naive", width=0.1, latent_dim=8, levels=3)
LABELS = np.array([0, 1, 0, 0, 1, 0, 0, 1])


def loaded(config, state, channels_last=False):
    torch.manual_seed(0)
    trainer = agad_torch.Trainer(config, SHAPE, channels_last=channels_last)
    agad_torch.load_params(trainer.generator, state.generator["params"]["net"])
    agad_torch.load_params(trainer.discriminator, state.discriminator["params"])
    return trainer


def to_torch(images):
    return torch.tensor(np.moveaxis(np.asarray(images), -1, 1))


@pytest.mark.parametrize(
    ("generator", "labels"),
    [
        pytest.param("naive", None, id="naive-normal"),
        pytest.param("unet", LABELS, id="unet-labelled"),
        pytest.param("naive", LABELS, id="naive-labelled", marks=pytest.mark.slow),
        pytest.param("unet", None, id="unet-normal", marks=pytest.mark.slow),
        pytest.param("unetpp", None, id="unetpp-normal", marks=pytest.mark.slow),
        pytest.param("unetpp", LABELS, id="unetpp-labelled", marks=pytest.mark.slow),
    ],
)
def test_a_step_has_our_gradients_and_arrives_where_ours_does(rng, generator, labels):
    """Adam's first momentum is half of the gradient."""
    config = dataclasses.replace(BASE, generator=generator, contextual_reciprocal=labels is not None)
    images = jnp.asarray(rng.uniform(size=(SIZE, *SHAPE)), jnp.float32)
    state = jax.jit(agad(config).init)(jax.random.key(0), images)
    # Weights that are nowhere 0 or 1, as they are after initialisation.
    shaken = lambda leaf: leaf + rng.normal(0, 0.05, leaf.shape).astype(np.float32)  # noqa: E731
    for name in ("generator", "discriminator"):
        variables = getattr(state, name)
        state = state._replace(**{name: {**variables, "params": jax.tree.map(shaken, variables["params"])}})
    batch = Batch(images, None if labels is None else jnp.asarray(labels))
    ours, info = jax.jit(agad(config).step)(jax.random.key(5), state, batch)
    trainer = loaded(config, state, channels_last=generator == "unet")
    theirs = trainer.step(to_torch(images), None if labels is None else torch.tensor(labels))

    assert list(theirs) == list(info._fields)
    for name, value in theirs.items():
        np.testing.assert_allclose(value, getattr(info, name), rtol=1e-3, atol=1e-6, err_msg=name)
    same = []
    for name in ("generator", "discriminator"):
        select = (lambda tree: tree["net"]) if name == "generator" else (lambda tree: tree)
        wanted = agad_torch.named_arrays(select(optax.tree.get(ours.opt_state[name], "mu")))
        before, after = (agad_torch.named_arrays(select(getattr(s, name)["params"])) for s in (state, ours))
        params = dict(getattr(trainer, name).named_parameters())
        largest = max(np.abs(array).max() for array in wanted.values())
        for key, p in params.items():
            momentum = trainer.optimisers[name].state[p]["exp_avg"].numpy()
            np.testing.assert_allclose(momentum, wanted[key], rtol=0, atol=1e-3 * largest, err_msg=key)
            moved = p.detach().numpy() - before[key], after[key] - before[key]
            same.append(np.isclose(*moved, rtol=0, atol=0.1 * config.learning_rate).ravel())
    # The first updates of Adam are signs, which rounding decides where a gradient is zero.
    assert np.mean(np.concatenate(same)) > 0.97

    norms = [m for m in trainer.generator.modules() if isinstance(m, agad_torch_networks.Norm)]
    found = sorted(float(norm.running_mean.sum()) for norm in norms)
    leaves = jax.tree_util.tree_leaves_with_path(ours.generator["batch_stats"])
    means = sorted(float(leaf.sum()) for path, leaf in leaves if path[-1].key == "mean")
    np.testing.assert_allclose(found, means, rtol=1e-2, atol=1e-4)


def test_scores_with_running_statistics(rng):
    images = jnp.asarray(rng.uniform(size=(SIZE, *SHAPE)), jnp.float32)
    state = jax.jit(agad(BASE).init)(jax.random.key(0), images)
    ours = jax.jit(agad(BASE).score)(state, images)
    np.testing.assert_allclose(loaded(BASE, state).score(to_torch(images)), ours, rtol=1e-4)


def test_the_discriminator_starts_anew(rng):
    trainer = agad_torch.Trainer(dataclasses.replace(BASE, reset_below=1e9), SHAPE)
    info = trainer.step(torch.rand(SIZE, 2, 16, 16))
    assert info["reset"] == 1
    assert not trainer.optimisers["discriminator"].state


def test_refuses_what_it_does_not_do():
    with pytest.raises(ValueError, match="auxiliary_norm is True"):
        agad_torch.Trainer(dataclasses.replace(BASE, auxiliary_norm=True), SHAPE)
    with pytest.raises(ValueError, match="pseudo_weight is 0"):
        agad_torch.Trainer(dataclasses.replace(BASE, pseudo_weight=0.0), SHAPE)
