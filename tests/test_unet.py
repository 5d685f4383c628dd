"""U-Net and UNet++: as many weights as the published networks, values as PyTorch's layers give them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn.network import make_network
from jaxad.nn.unet import UNet


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def shapes(shape=(32, 32, 1), **settings):
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(make_network(UNet(**settings)).init, jax.random.key(0), images)


def test_numbers_of_weights_are_exactly_those_of_the_published_networks():
    """Table 8 of AGAD has 7.76M and 9.04M."""
    assert count(shapes(dense=False, batch_norm=False)["params"]) == 7_759_521
    assert count(shapes(dense=True, batch_norm=False)["params"]) == 9_041_601


def test_batch_normalisation_takes_the_place_of_biases():
    for dense in (False, True):
        without, having = (shapes(dense=dense, batch_norm=norm)["params"] for norm in (False, True))
        norms = []
        for name, node in having.items():
            if name != "out":
                assert node.keys() - {"up"} == {"conv0", "norm0", "conv1", "norm1"}
                assert node["conv0"].keys() == node["conv1"].keys() == {"kernel"}
                norms += [node["norm0"], node["norm1"]]
        assert count(having) - count(without) == sum(norm["scale"].size for norm in norms)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("shape", "levels"), [((16, 32, 3), 5), ((8, 8, 1), 3), ((6, 10, 2), 2), ((5, 7, 1), 1)])
def test_any_channels_and_sizes_that_divide(shape, levels, dense):
    settings = {"multiplier": 0.1, "levels": levels, "dense": dense}
    variables = shapes(shape, **settings)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    assert jax.eval_shape(make_network(UNet(**settings)).apply, variables, images).shape == (2, *shape)
    nodes = levels * (levels + 1) // 2 if dense else 2 * levels - 1
    assert len(variables["params"]) == nodes + 1
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * 2 * nodes


def test_other_sizes_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="images are 28x32; 5 levels need multiples of 16: resize"):
        shapes((28, 32, 1))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_values_and_gradients_equal_a_restatement_in_pytorch(rng, dense, batch_norm):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    shape, levels = (8, 12, 2), 3
    settings = {"multiplier": 0.1, "levels": levels, "dense": dense, "batch_norm": batch_norm, "activation": jnp.tanh}
    network = make_network(UNet(**settings))
    images = rng.uniform(-1, 1, (3, *shape)).astype(np.float32)
    variables = jax.jit(lambda key: network.init(key, images))(jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32), variables.pop("params")
    )
    theirs = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), params)

    def conv(x, node, index):
        layer = node[f"conv{index}"]
        out = functional.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer.get("bias"), padding=1)
        if batch_norm:
            norm = node[f"norm{index}"]
            out = functional.batch_norm(out, None, None, norm["scale"], norm["bias"], True)
        return functional.relu(out)

    def node(name, x):
        for index in range(2):
            x = conv(x, theirs[name], index)
        return x

    def up(name, x):
        # Flax stores the kernel of a transposed convolution turned by 180 degrees.
        layer = theirs[name]["up"]
        kernel = layer["kernel"].flip(0, 1).permute(2, 3, 0, 1)
        return functional.conv_transpose2d(x, kernel, layer["bias"], stride=2)

    x = torch.tensor(images.transpose(0, 3, 1, 2))
    at = {(0, 0): node("node_0_0", x)}
    at[1, 0] = node("node_1_0", functional.max_pool2d(at[0, 0], 2))
    at[2, 0] = node("node_2_0", functional.max_pool2d(at[1, 0], 2))
    at[1, 1] = node("node_1_1", torch.cat([at[1, 0], up("node_1_1", at[2, 0])], 1))
    if dense:
        at[0, 1] = node("node_0_1", torch.cat([at[0, 0], up("node_0_1", at[1, 0])], 1))
        skips = [at[0, 0], at[0, 1]]
    else:
        skips = [at[0, 0]]
    last = node("node_0_2", torch.cat([*skips, up("node_0_2", at[1, 1])], 1))
    out = theirs["out"]
    made = torch.tanh(functional.conv2d(last, out["kernel"].permute(3, 2, 0, 1), out["bias"]))
    made.square().sum().backward()

    def squared(params):
        made, _ = network.apply({**variables, "params": params}, images, train=True)
        return jnp.sum(jnp.square(made)), made

    (_, ours), gradient = jax.jit(jax.value_and_grad(squared, has_aux=True))(params)
    np.testing.assert_allclose(ours, made.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.grad.numpy(), rtol=1e-3, atol=1e-4 * largest)


def test_frozen_moments_repeat_the_batch(rng):
    network = make_network(UNet(multiplier=0.1, levels=2, activation=jnp.tanh, momentum=0.0))
    images = jnp.asarray(rng.uniform(-1, 1, (6, 8, 8, 1)), jnp.float32)

    def twice(key):
        made, variables = network.apply(network.init(key, images), images, train=True)
        return made, network.apply(variables, images)

    made, again = jax.jit(twice)(jax.random.key(0))
    np.testing.assert_allclose(again, made, rtol=1e-3, atol=1e-5)
    assert np.abs(made).max() <= 1
