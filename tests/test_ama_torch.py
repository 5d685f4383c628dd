"""The PyTorch side of the AMA benchmark does the work of ours: same values, same gradients, same training."""

import importlib
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad.methods.ama import AMAConfig, ama, draw_negatives, latents, losses
from jaxad.methods.ama.inference import frozen
from jaxad.methods.ama.networks import make_networks
from jaxad.nn import spectral_norm as spectral
from jaxad.types import Batch

torch = pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
ama_torch, ama_torch_networks = map(importlib.import_module, ("ama_torch", "ama_torch_networks"))

SIDE, CHANNELS, SIZE = 16, 3, 12
# In steps this small the critic hardly changes within an iteration, so that rounding is not amplified.
CONFIG = AMAConfig(width=1 / 16, latent_dim=8, negative_start=0.0, learning_rate=1e-5, schedule_steps=None)
NETWORKS = make_networks((SIDE, SIDE, CHANNELS), CONFIG.latent_dim, CONFIG.width)


def perturbed(params, rng):
    """Weights that are nowhere 0 or 1, as they are after initialisation."""
    return jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32), params)


@pytest.fixture(scope="module")
def state():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(size=(SIZE, SIDE, SIDE, CHANNELS)), jnp.float32)
    state = jax.jit(ama(CONFIG).init)(jax.random.key(0), images)
    return state._replace(
        encoder=perturbed(state.encoder, rng),
        generator=perturbed(state.generator, rng),
        critic=perturbed(state.critic, rng),
    )


@pytest.fixture(params=[False, True], ids=["channels_first", "channels_last"])
def trainer(request, state):
    return loaded(state, request.param)


def loaded(state, channels_last=False):
    torch.manual_seed(0)
    trainer = ama_torch.Trainer(CONFIG, (SIDE, SIDE, CHANNELS), channels_last=channels_last)
    for name in ("encoder", "generator", "critic"):
        ama_torch.load_params(getattr(trainer, name), getattr(state, name))
    kernels = [name for name, array in ama_torch.named_arrays(state.critic).items() if array.ndim > 1]
    trainer.vectors = {name: torch.tensor(np.asarray(u)) for name, u in zip(kernels, state.vectors, strict=True)}
    return trainer


def to_torch(images):
    return torch.tensor(np.moveaxis(np.asarray(images), -1, 1) if images.ndim == 4 else np.asarray(images))


def to_numpy(tensor):
    array = tensor.detach().numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def agree(theirs, ours, tolerance=1e-4):
    """Up to a share of the largest number."""
    ours = np.asarray(ours)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=tolerance * np.abs(ours).max())


def agree_by_name(theirs, ours, tolerance=1e-4):
    """Tensors by name, as the tree of arrays in our layout."""
    ours = ama_torch.named_arrays(ours)
    assert theirs.keys() == ours.keys()
    largest = max(np.abs(array).max() for array in ours.values())
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name].detach().numpy(), array, 0, tolerance * largest, err_msg=name)


def test_codes_and_images(state, trainer, rng):
    images, codes = rng.uniform(-1, 1, (SIZE, SIDE, SIDE, CHANNELS)).astype(np.float32), rng.normal(size=(SIZE, 8))
    codes = codes.astype(np.float32)
    for name, inputs in (("encoder", images), ("generator", codes)):
        ours, _ = jax.jit(partial(getattr(NETWORKS, name).apply, train=True))(frozen(state, name), inputs)
        agree(to_numpy(getattr(trainer, name)(to_torch(inputs), "batch")), ours)
    ours = jax.jit(NETWORKS.generator.apply)(frozen(state, "generator"), codes)
    agree(to_numpy(trainer.generator(to_torch(codes), "frozen")), ours)


def critic_terms(critic, vectors, pairs, halfway):
    """Values, features, penalty, and one loss of them all."""
    critic = spectral.normalise_kernels(critic, vectors)
    values, features = NETWORKS.critic.apply({"params": critic}, pairs)
    penalty = losses.gradient_penalty(lambda p: NETWORKS.critic.apply({"params": critic}, p).values, halfway)
    return values.mean() + 10 * penalty, (values, features, penalty)


def test_critic_and_its_gradient(state, trainer, rng):
    pairs, halfway = rng.uniform(-1, 1, (2, SIZE, SIDE, SIDE, 2 * CHANNELS)).astype(np.float32)
    vectors = spectral.power_iteration(state.critic, state.vectors)
    program = jax.jit(jax.grad(critic_terms, has_aux=True))
    gradient, (values, features, penalty) = program(state.critic, vectors, pairs, halfway)

    theirs = ama_torch.power_iteration(trainer.critic, trainer.vectors)
    for u, vector in zip(theirs.values(), vectors, strict=True):
        agree(u, vector)
    params = ama_torch.effective(trainer.critic, theirs)
    judged = trainer.judge(params, to_torch(pairs))
    agree(to_numpy(judged[0]), values)
    agree(to_numpy(judged[1]), features)
    between = to_torch(halfway).requires_grad_()
    (slopes,) = torch.autograd.grad(trainer.judge(params, between)[0].sum(), between, create_graph=True)
    theirs = (torch.linalg.vector_norm(slopes, dim=(1, 2, 3)) - 1).square().mean()
    agree(theirs.item(), penalty)
    (judged[0].mean() + 10 * theirs).backward()
    agree_by_name({name: p.grad for name, p in trainer.critic.named_parameters()}, gradient)


def is_statistics(node):
    return "mean" in node


def our_draws(seed):
    """The randomness of our step with this seed."""
    negatives, simplex, penalty = jax.random.split(jax.random.key(seed), 3)
    count = int(CONFIG.negative_share * SIZE)
    codes = draw_negatives(CONFIG, negatives, jnp.zeros((SIZE, CONFIG.latent_dim)), count)
    simplex = latents.draw_simplex(simplex, SIZE, CONFIG.parents)
    keys = jax.vmap(lambda i: jax.random.fold_in(penalty, i))(jnp.arange(CONFIG.critic_steps))
    shares = jax.vmap(lambda key: jax.random.uniform(key, (SIZE,)))(keys)
    arrays = codes, simplex.parents, simplex.weights, shares
    return ama_torch.Draws(*(torch.tensor(np.array(array)) for array in arrays))


def test_a_step_has_our_gradients_and_arrives_where_ours_does(state, rng):
    """Adam's first momentum is a share of the gradient, and as b1 = 0 for the critic, there of the last one."""
    images = jnp.asarray(rng.uniform(size=(SIZE, SIDE, SIDE, CHANNELS)), jnp.float32)
    ours, info = jax.jit(ama(CONFIG).step)(jax.random.key(5), state, Batch(images))
    trainer = loaded(state)
    theirs = trainer.step(to_torch(images), our_draws(5))

    assert list(theirs) == list(info._fields)
    for name, value in theirs.items():
        np.testing.assert_allclose(value, getattr(info, name), rtol=1e-4, err_msg=name)
    same = []
    for name, (optimiser, _) in trainer.optimisers.items():
        params = dict(getattr(trainer, name).named_parameters())
        momenta = {key: optimiser.state[p]["exp_avg"] for key, p in params.items()}
        agree_by_name(momenta, optax.tree.get(ours.opt_state[name], "mu"), 3e-4)
        before, after = (ama_torch.named_arrays(getattr(s, name)) for s in (state, ours))
        for key, p in params.items():
            moved = p.detach().numpy() - before[key], after[key] - before[key]
            same.append(np.isclose(*moved, rtol=0, atol=0.1 * CONFIG.learning_rate).ravel())
    # The first updates of Adam are signs, which rounding decides where a gradient is zero.
    assert np.mean(np.concatenate(same)) > 0.98

    for name in ("encoder", "generator"):
        norms = [m for m in getattr(trainer, name).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        kept = jax.tree.leaves(ours.statistics[name], is_leaf=is_statistics)
        for norm, statistics in zip(norms, kept, strict=True):
            agree(norm.running_mean, statistics["mean"], 1e-3)
            np.testing.assert_allclose(norm.running_var, statistics["var"], rtol=1e-2)  # theirs is unbiased


def test_draws():
    trainer = ama_torch.Trainer(CONFIG, (8, 8, 1))
    drawn = trainer.draw(40)
    assert drawn.negatives.shape == (4, 8)
    radii = drawn.negatives.norm(dim=1) / 8**0.5
    assert bool(((radii >= 1) & (radii <= 1.5)).all())
    np.testing.assert_array_equal(drawn.parents.sort(0).values, np.arange(40)[:, None].repeat(3, 1))
    np.testing.assert_allclose(drawn.weights.sum(1), 1, rtol=1e-5)
    assert drawn.shares.shape == (5, 40)


def test_refuses_what_it_does_not_do(state):
    with pytest.raises(ValueError, match="negatives is 'cube'"):
        ama_torch.Trainer(AMAConfig(negatives="cube"), (8, 8, 1))
    with pytest.raises(ValueError, match="interpolation is 0"):
        ama_torch.Trainer(AMAConfig(interpolation=0.0), (8, 8, 1))
    with pytest.raises(ValueError, match="the networks differ"):
        ama_torch.load_params(ama_torch_networks.Critic(8, 1, 1 / 16), state.critic)
