"""Random affine changes against SciPy, and that all that belongs together moves together."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxad.training.augment import SHIFT, TURN, random_transforms, warp


@pytest.mark.parametrize("nearest", [False, True])
def test_warping_equals_scipy(nearest, rng):
    arrays = rng.random((6, 17, 12, 2), np.float32)
    transforms = np.asarray(random_transforms(jax.random.key(0), 6))
    got = jax.jit(lambda a, t: warp(a, t, nearest=nearest))(arrays, transforms)
    sides = np.array(arrays.shape[1:3])
    centre = (sides - 1) / 2
    for array, transform, result in zip(arrays, transforms, np.asarray(got)):
        matrix = transform[:, :2].astype(np.float64)
        offset = centre + transform[:, 2] * sides - matrix @ centre
        for channel in range(2):
            expected = ndimage.affine_transform(
                array[..., channel], matrix, offset, order=0 if nearest else 1, mode="mirror"
            )
            # Where a place is half-way between two pixels, rounding decides which is the nearest.
            close = np.isclose(result[..., channel], expected, atol=1e-4)
            assert close.mean() > (0.97 if nearest else 0.9999)


def test_the_identity_changes_nothing_and_masks_follow_images(rng):
    images = rng.random((2, 9, 8, 1), np.float32)
    bilinear, nearest = (jax.jit(lambda a, t, n=n: warp(a, t, nearest=n)) for n in (False, True))
    identity = np.tile(np.eye(2, 3, dtype=np.float32), (2, 1, 1))
    np.testing.assert_allclose(bilinear(images, identity), images, atol=1e-6)
    flip = identity * np.array([1, -1, 1], np.float32)[None, None]
    np.testing.assert_allclose(bilinear(images, flip), images[:, :, ::-1], atol=1e-6)
    # A bright blot stays under its mask.
    blot = np.zeros((4, 32, 32, 1), np.float32)
    blot[:, 6:16, 10:24] = 1
    transforms = random_transforms(jax.random.key(1), 4)
    moved, mask = bilinear(blot, transforms), nearest(blot, transforms)
    assert set(np.unique(mask)) == {0, 1}
    assert np.abs(moved - mask).mean() < 0.05


def test_transforms_stay_within_their_bounds():
    transforms = np.asarray(random_transforms(jax.random.key(2), 500))
    assert np.abs(transforms[:, :, 2]).max() <= SHIFT + 1e-6
    np.testing.assert_allclose(np.abs(np.linalg.det(transforms[:, :, :2])), 1, rtol=1e-4)  # areas are kept
    signs = {tuple(row) for row in np.sign(transforms[:, [0, 1], [0, 1]]).astype(int).tolist()}
    assert signs == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    turns = np.abs(np.arctan2(transforms[:, 1, 0], transforms[:, 0, 0]))
    assert np.minimum(turns, np.pi - turns).max() <= TURN + 1e-5
