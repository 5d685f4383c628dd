"""The dense CRF: pair by pair against NumPy and the authors' code, by the grid against pair by pair."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from scipy.ndimage import gaussian_filter

from jaxad.nn import bilateral as filtering
from jaxad.nn.crf import CRFConfig, refine

SMALL = CRFConfig(smooth_sd=1.5, bilateral_sd=6.0, colour_sd=40.0, bilateral_weight=4.0, iterations=4, method="exact")


def brute_force(probability, image, config):
    """Mean field over two labels as the paper has it, with whole kernel matrices in float64."""
    height, width, channels = image.shape
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).reshape(-1, 2)
    colours = 255.0 * image.reshape(-1, channels).astype(np.float64)
    if channels == 1:
        colours = np.repeat(colours, 3, 1)
    smooth = places / config.smooth_sd
    bilateral = np.concatenate([places / config.bilateral_sd, colours / config.colour_sd], 1)
    weighted = []
    for weight, features in ((config.smooth_weight, smooth), (config.bilateral_weight, bilateral)):
        kernel = np.exp(-((features[:, None] - features[None]) ** 2).sum(-1) / 2)
        scale = 1 / np.sqrt(kernel.sum(1))
        weighted.append(weight * scale[:, None] * kernel * scale[None])
    p = probability.reshape(-1).astype(np.float64)
    unary = -np.log(np.clip(np.stack([1 - p, p]), 1e-5, 1))
    q = np.exp(-unary) / np.exp(-unary).sum(0)
    for _ in range(config.iterations):
        energy = unary + sum(q[::-1] @ kernel for kernel in weighted)  # Potts: the other label costs
        q = np.exp(energy.min(0) - energy)
        q /= q.sum(0)
    return q[1].reshape(height, width)


@pytest.mark.parametrize(("shape", "pairs"), [((13, 11, 3), 2**22), ((9, 14, 1), 1000), ((6, 7, 5), 1)])
def test_pair_by_pair_equals_numpy(shape, pairs, rng, monkeypatch):
    """Also in several chunks, of which the last is not full, and for other numbers of channels."""
    monkeypatch.setattr(filtering, "PAIRS", pairs)
    images = rng.random((2, *shape), np.float32)
    probabilities = rng.random((2, *shape[:2]), np.float32)
    probabilities[0, 0, :2] = 0, 1
    got = jax.jit(lambda p, x: refine(p, x, SMALL))(probabilities, images)
    expected = [brute_force(p, x, SMALL) for p, x in zip(probabilities, images)]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("pydensecrf") is None, reason="pydensecrf is not installed")
def test_pair_by_pair_is_near_the_authors_code():
    from pydensecrf import densecrf
    from pydensecrf.utils import unary_from_softmax

    image, probability = crop(skimage.data.astronaut(), 60, 200)
    model = densecrf.DenseCRF2D(32, 32, 2)
    model.setUnaryEnergy(unary_from_softmax(np.stack([1 - probability, probability])))
    model.addPairwiseGaussian(sxy=3, compat=3)
    model.addPairwiseBilateral(sxy=80, srgb=13, rgbim=(255 * image).astype(np.uint8), compat=10)
    theirs = np.array(model.inference(5))[1].reshape(32, 32)
    ours = refine(probability[None], image[None], method="exact")[0]
    assert np.abs(ours - theirs).mean() < 0.02  # their filter is an approximation, too


def crop(picture, top, left, size=32):
    """A crop in [0, 1], and probabilities as a blurred segmenter might give them: brighter is likelier."""
    image = np.atleast_3d(picture)[top : top + size, left : left + size].astype(np.float32) / 255
    noise = np.random.default_rng(top).standard_normal((size, size))
    smooth = gaussian_filter(image.mean(-1) + 0.3 * noise, 2)
    z = (smooth - np.median(smooth)) / smooth.std()
    return image, (1 / (1 + np.exp(-1.5 * z))).astype(np.float32)


PICTURES = {
    "brick": (60, 40), "grass": (100, 300), "gravel": (200, 220), "camera": (100, 200),
    "astronaut": (60, 200), "coffee": (150, 250), "chelsea": (100, 150),
}  # fmt: skip


@pytest.fixture(scope="module")
def crops():
    """Two from each picture; those of one number of channels together."""
    places = [(name, top + k, left + k) for name, (top, left) in PICTURES.items() for k in (0, 31)]
    made = [crop(getattr(skimage.data, name)(), top, left) for name, top, left in places]
    return [tuple(map(np.stack, zip(*(c for c in made if c[0].shape[2] == channels)))) for channels in (1, 3)]


@pytest.mark.parametrize("sds", [{}, {"bilateral_sd": 10.0, "colour_sd": 30.0}])
def test_the_grid_is_near_pair_by_pair(sds, crops):
    for images, probabilities in crops:
        refined = {
            method: np.asarray(jax.jit(lambda p, x, m=method: refine(p, x, method=m, **sds))(probabilities, images))
            for method in ("grid", "exact")
        }
        errors = np.abs(refined["grid"] - refined["exact"]).mean((1, 2))
        assert errors.max() < 0.02, errors
        # And the CRF does something to these images.
        assert np.abs(refined["exact"] - probabilities).mean() > 0.1


def test_grey_is_three_equal_channels(crops):
    images, probabilities = (x[:2] for x in crops[0])
    run = jax.jit(lambda p, x: refine(p, x, method="exact"))
    np.testing.assert_allclose(run(probabilities, images), run(probabilities, images.repeat(3, -1)), atol=2e-4)


def test_a_blot_follows_the_edge_and_a_speck_goes():
    """What it is for: probabilities end where the picture has an edge, and a lone pixel is not believed."""
    image = np.full((1, 32, 32, 3), 0.2, np.float32)
    image[:, :, 16:] = 0.8
    probability = np.full((1, 32, 32), 0.2, np.float32)
    probability[:, 4:28, 14:30] = 0.8  # two columns too far to the left
    probability[:, 16, 5] = 0.9
    refined = np.asarray(refine(probability, image))[0] > 0.5
    assert refined[8:24, 17:28].all()
    assert not refined[:, :15].any()


def test_without_kernels_or_iterations_probabilities_stay(rng):
    probabilities, images = rng.random((1, 8, 8), np.float32), rng.random((1, 8, 8, 3), np.float32)
    np.testing.assert_allclose(refine(probabilities, images, iterations=0), probabilities, atol=3e-5)
    plain = refine(probabilities, images, smooth_weight=0.0, bilateral_weight=0.0)
    np.testing.assert_allclose(plain, probabilities, atol=3e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"smooth_sd": 0.0}, "above 0"),
        ({"colour_sd": float("nan")}, "above 0"),
        ({"bilateral_weight": -1.0}, "from 0 upwards"),
        ({"iterations": -1}, "the least is 0"),
        ({"method": "lattice"}, "choose one of grid, exact"),
        ({"bilateral_sd": 0.1, "colour_sd": 1.0}, "widen the bilateral kernel"),
    ],
)
def test_settings_out_of_range_are_refused_before_any_compute(fields, words):
    shapes = jax.ShapeDtypeStruct((1, 8, 8), jnp.float32), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda p, x: refine(p, x, **fields), *shapes)


P, X = np.full((2, 4, 4), 0.25, np.float32), np.full((2, 4, 4, 3), 0.5, np.float32)
ONE_NAN = np.where(np.arange(32).reshape(2, 4, 4) == 5, np.nan, P)


@pytest.mark.parametrize(
    ("probabilities", "images", "words"),
    [
        (P, X[:, :, :3], r"probabilities have shape \(2, 4, 4\) and images \(2, 4, 3, 3\); .*: resize one of them"),
        (P[0], X, r"give \[B, H, W\] and"),
        (P, (255 * X).astype(np.uint8), "images are uint8; give floats in .*: divide bytes by 255"),
        (P, 255 * X, "images go from 127.5 to 127.5; give"),
        (8 * P - 3, X, "probabilities go from -1 to -1; give .*: take the sigmoid of logits"),
        (P > 0.5, X, "probabilities are bool; give floats"),
        (ONE_NAN, X, "1 of 32 probabilities are NaN"),
        (P, np.where(ONE_NAN[..., None] > 0, X, np.nan), "3 of 96 images are NaN"),
    ],
)
def test_inputs_that_would_give_other_maps_are_refused(probabilities, images, words):
    for kind in (np.asarray, jnp.asarray):
        with pytest.raises(ValueError, match=words) as raised:
            refine(kind(probabilities), kind(images))
        assert "\n" not in str(raised.value)
    refine(P, X + np.float32(0.5 + 1e-6), iterations=0)  # what resizing leaves
