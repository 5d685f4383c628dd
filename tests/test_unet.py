"""U-Net and UNet++: as many weights as the published networks, values as PyTorch's layers give them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn import unet


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def shapes(shape=(32, 32, 1), *arguments, **options):
    return jax.eval_shape(lambda key: unet.init_unet(key, shape, *arguments, **options), jax.random.key(0))


def test_numbers_of_weights_are_exactly_those_of_the_published_networks():
    """Table 8 of AGAD has 7.76M and 9.04M."""
    assert count(shapes(dense=False, batch_norm=False)) == 7_759_521
    assert count(shapes(dense=True, batch_norm=False)) == 9_041_601


def test_batch_normalisation_takes_the_place_of_biases():
    for dense in (False, True):
        without, having = (shapes(dense=dense, batch_norm=norm) for norm in (False, True))
        convs = [layer for node in having["nodes"].values() for layer in node["convs"]]
        assert all(layer.keys() == {"kernel", "norm"} for layer in convs)
        assert count(having) - count(without) == sum(layer["norm"]["scale"].size for layer in convs)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("shape", "levels"), [((16, 32, 3), 5), ((8, 8, 1), 3), ((6, 10, 2), 2), ((5, 7, 1), 1)])
def test_any_channels_and_sizes_that_divide(shape, levels, dense):
    params = shapes(shape, 0.1, levels=levels, dense=dense)
    made = jax.eval_shape(unet.generate, params, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    assert made.output.shape == (2, *shape)
    nodes = levels * (levels + 1) // 2 if dense else 2 * levels - 1
    assert len(params["nodes"]) == nodes
    assert len(made.moments) == 2 * nodes


def test_other_sizes_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="images are 28x32; 5 levels need multiples of 16: resize"):
        unet.init_unet(jax.random.key(0), (28, 32, 1))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_values_and_gradients_equal_a_restatement_in_pytorch(rng, dense, batch_norm):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    shape, levels = (8, 12, 2), 3
    params = jax.jit(lambda key: unet.init_unet(key, shape, 0.1, levels=levels, dense=dense, batch_norm=batch_norm))(
        jax.random.key(0)
    )
    params = jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32), params)
    images = rng.uniform(-1, 1, (3, *shape)).astype(np.float32)
    theirs = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), params)

    def conv(x, layer):
        out = functional.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer.get("bias"), padding=1)
        if "norm" in layer:
            out = functional.batch_norm(out, None, None, layer["norm"]["scale"], layer["norm"]["offset"], True)
        return functional.relu(out)

    def node(name, x):
        for layer in theirs["nodes"][name]["convs"]:
            x = conv(x, layer)
        return x

    def up(name, x):
        layer = theirs["nodes"][name]["up"]
        return functional.conv_transpose2d(x, layer["kernel"].permute(2, 3, 0, 1), layer["bias"], stride=2)

    x = torch.tensor(images.transpose(0, 3, 1, 2))
    at = {(0, 0): node("0,0", x)}
    at[1, 0] = node("1,0", functional.max_pool2d(at[0, 0], 2))
    at[2, 0] = node("2,0", functional.max_pool2d(at[1, 0], 2))
    at[1, 1] = node("1,1", torch.cat([at[1, 0], up("1,1", at[2, 0])], 1))
    if dense:
        at[0, 1] = node("0,1", torch.cat([at[0, 0], up("0,1", at[1, 0])], 1))
        skips = [at[0, 0], at[0, 1]]
    else:
        skips = [at[0, 0]]
    last = node("0,2", torch.cat([*skips, up("0,2", at[1, 1])], 1))
    out = theirs["out"]
    made = torch.tanh(functional.conv2d(last, out["kernel"].permute(3, 2, 0, 1), out["bias"]))
    made.square().sum().backward()

    def squared(params):
        made = unet.generate(params, images).output
        return jnp.sum(jnp.square(made)), made

    (_, ours), gradient = jax.jit(jax.value_and_grad(squared, has_aux=True))(params)
    np.testing.assert_allclose(ours, made.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.grad.numpy(), rtol=1e-3, atol=1e-4 * largest)


def test_frozen_moments_repeat_the_batch(rng):
    params = jax.jit(lambda key: unet.init_unet(key, (8, 8, 1), 0.1, levels=2))(jax.random.key(0))
    images = jnp.asarray(rng.uniform(-1, 1, (6, 8, 8, 1)), jnp.float32)
    made, again = jax.jit(lambda x: (first := unet.generate(params, x), unet.generate(params, x, first.moments)))(
        images
    )
    np.testing.assert_allclose(again.output, made.output, rtol=1e-3, atol=1e-5)
    assert np.abs(made.output).max() <= 1
