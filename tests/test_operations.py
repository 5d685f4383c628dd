"""Kernels of a child's operations, and their ways back, against the layers that autodiff goes back through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nas.executors import operations as op
from jaxad.nas.executors.kernels import Kernel, Plan, launch
from jaxad.nas.executors.tape import Blocks, Parameter, Tape
from jaxad.nn import layers
from jaxad.nn.actions import Action

SIZES = ((3, 2), (1, 1))
MASK = np.float32([1, 1, 0])


def draw(*shapes):
    rng = np.random.default_rng(0)
    return [np.float32(3 + 2 * rng.standard_normal(shape)) for shape in shapes]


def assert_close(got, expected):
    jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, rtol=2e-5, atol=2e-5), got, expected)


@pytest.mark.parametrize("size", SIZES)
def test_statistics_are_those_of_the_batch_or_of_an_image(size):
    (images,) = draw((5, *size, 3))
    exact = np.float64(images)
    for over, axes in (("batch", (0, 1, 2)), ("image", (1, 2))):
        mean, variance = exact.mean(axes), exact.var(axes)
        gain = 1 / np.sqrt(variance + layers.NORM_EPSILON)
        if over == "image" and size == (1, 1):
            mean, gain = np.zeros((5, 3)), np.ones((5, 3))
        found = op.STATISTICS(images, np.int32(op.OVER.index(over)))
        assert_close(found, tuple(np.broadcast_to(x, (5, 3)) for x in (mean, gain)))


class Weights:
    """Parameters in place of an optimiser: keeps their gradients."""

    def __init__(self, *values):
        self.parameters = [Parameter(value, None, MASK) for value in values]
        self.gradients = {}

    def launch(self, kernel, *args):
        if kernel is not self.update:
            return launch(kernel, *args)
        value, _, self.gradients[id(args[0])] = args
        return value, None

    update = object()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["none", "batch", "instance"])
def test_a_normalisation_and_an_activation_are_one_kernel_with_the_gradients_of_two(size, kind):
    images, scale, offset, gradient = draw((5, *size, 3), 3, 3, (5, *size, 3))
    weights = Weights(scale, offset)
    tape = Tape(weights.launch, weights.update)
    blocks = Blocks([images], masks=[MASK])
    scales = [weights.parameters[0]] if layers.NORMS[kind].scaled else None
    outputs = tape.activate(tape.normalise(blocks, kind), "tanh", scales, [weights.parameters[1]])

    @jax.jit
    def expected(images, scale, offset):
        scale = scale if layers.NORMS[kind].scaled else jnp.ones_like(scale)
        return layers.activate(layers.normalise(images, kind), "tanh", scale, offset) * MASK[None, None, None]

    value, back = jax.vjp(expected, images, scale, offset)
    assert_close(outputs.values[0], value)
    tape.receive(outputs, [gradient])
    tape.backward()
    to_images, to_scale, to_offset = back(gradient)
    assert_close(blocks.gradients[0], to_images)
    assert_close(weights.gradients[id(offset)], to_offset)
    if scales:
        assert_close(weights.gradients[id(scale)], to_scale)


def test_windows_carry_averages_forward_and_upsampling_back():
    images, small = draw((2, 7, 5, 3), (2, 3, 2, 3))
    for run, function, operand in (
        (lambda tape, x: tape.pool(x, "average", 3), lambda x: layers.pool(x, "average", 3), images),
        (lambda tape, x: tape.upsample(x, 3, 7, 5), lambda x: layers.upsample(x, 3, 7, 5), small),
    ):
        tape, blocks = Tape(launch, None), Blocks([operand])
        outputs, (value, back) = run(tape, blocks), jax.vjp(function, operand)
        assert_close(outputs.values[0], value)
        (gradient,) = draw(value.shape)
        tape.receive(outputs, [gradient])
        tape.backward()
        assert_close(blocks.gradients[0], back(gradient)[0])


def test_an_action_sees_what_a_normalisation_has_made():
    images, gradient = draw((5, 3, 2, 3), (5, 3, 2, 3))
    square = Action(name="square", after="norm", choices={"on": lambda features: features**2})
    tape, blocks = Tape(launch, None), Blocks([images], masks=[np.ones(3, np.float32)])
    outputs = tape.act(square, "on", tape.normalise(blocks, "batch"), None, {})
    value, back = jax.vjp(lambda x: layers.normalise(x, "batch") ** 2, images)
    assert_close(outputs.values[0], value)
    tape.receive(outputs, [gradient])
    tape.backward()
    assert_close(blocks.gradients[0], back(gradient)[0])


def test_activations_and_normalisations_are_numbers_in_the_same_programs():
    """As an average is an upsampling back to front, only maxima have programs of their own."""
    update = Kernel(lambda value, state, gradient: (value, state), name="update")

    def shape(*sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.float32)

    def signatures(norm, activation, pool="average"):
        plan = Plan()
        tape, blocks = Tape(plan, update), Blocks([shape(2, 7, 5, 3)], [MASK])
        scale, offset = ([Parameter(shape(3), (), MASK)] for _ in range(2))
        pooled = tape.pool(tape.upsample(blocks, 3, 21, 15), pool, 3)
        outputs = tape.activate(tape.normalise(pooled, norm), activation, scale, offset)
        tape.receive(outputs, [shape(2, 7, 5, 3)])
        tape.backward()
        return set(plan.signatures)

    first = signatures("batch", "elu")
    assert {signature[0].name for signature in first} == {
        "repeat3", "collect3", "statistics", "activate", "activate.gradient", "update",
    }  # fmt: skip
    assert len(first) == 6
    assert signatures("instance", "softplus") == first
    assert {signature[0].name for signature in first - signatures("none", "tanh")} == {"statistics"}
    assert {signature[0].name for signature in signatures("batch", "elu", "max") - first} == {"max3", "max3.gradient"}
