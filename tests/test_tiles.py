"""Tiles cover an image, and maps of them are put together where they were."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from jaxad.data.tiles import assemble, cut, grid_of, resize_map, tiles_wanted

SIZES = [(900, 900), (1201, 640), (300, 4000), (7, 5), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_tiles_cover_the_image_and_overlap_as_asked(size, n, ratio):
    grid = grid_of(size, n, overlap=0.25, ratio=ratio)
    count = np.zeros(size, int)
    for top, left in grid.corners:
        assert top >= 0
        assert left >= 0
        assert top + grid.tile[0] <= size[0]
        assert left + grid.tile[1] <= size[1]
        count[top : top + grid.tile[0], left : left + grid.tile[1]] += 1
    assert count.min() >= 1
    assert len(set(grid.corners)) == len(grid.corners) <= n * n
    for starts, part in zip((grid.tops, grid.lefts), grid.tile):
        assert all(part - (b - a) >= 0.25 * part - 1 for a, b in itertools.pairwise(starts))
    if n == 1:
        assert grid.corners == [(0, 0)]


def test_tiles_have_the_ratio_of_the_detector_as_far_as_there_is_room():
    assert grid_of((1000, 1000), 2, overlap=0.0).tile == (500, 500)
    assert grid_of((1000, 1000), 2, overlap=0.5).tile == (667, 667)
    assert grid_of((1000, 2000), 4, overlap=0.0) == ((1000, 2000), (500, 500), (0, 167, 333, 500), (0, 500, 1000, 1500))
    assert grid_of((1000, 1000), 2, overlap=0.0, ratio=2.0).tile == (500, 1000)
    assert grid_of((500, 4000), 2, overlap=0.0) == ((500, 4000), (500, 2000), (0,), (0, 2000))  # no row comes twice


def test_what_lies_in_a_tile_is_what_lies_there_in_the_image(rng):
    image = rng.integers(0, 256, (40, 61, 3), np.uint8)
    grid = grid_of((40, 61), 3)
    for tile, (top, left) in zip(cut(image, grid), grid.corners):
        np.testing.assert_array_equal(tile, image[top : top + grid.tile[0], left : left + grid.tile[1]])
    with pytest.raises(ValueError, match="make one of its size"):
        cut(image[:30], grid)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_constant_map_comes_back_constant(size, n):
    grid = grid_of(size, n)
    maps = np.full((len(grid.corners), 8, 8), 0.3, np.float32)
    found = assemble(maps, grid)
    expected = tuple(max(1, round(side * min(1, 1000 / max(size)))) for side in size)
    assert found.shape == expected
    np.testing.assert_allclose(found, 0.3, rtol=1e-6)


def test_maps_of_tiles_that_are_cut_from_a_map_give_it_back(rng):
    whole = rng.normal(size=(50, 70)).astype(np.float32)
    grid = grid_of((50, 70), 3)
    np.testing.assert_allclose(assemble(np.stack(cut(whole, grid)), grid), whole, atol=1e-6)
    with pytest.raises(ValueError, match="give one for each"):
        assemble(np.stack(cut(whole, grid))[:2], grid)


def test_overlapping_maps_are_averaged():
    grid = grid_of((10, 15), 2, overlap=0.5)
    assert grid.tile == (10, 10)
    assert grid.lefts == (0, 5)
    found = assemble(np.stack([np.full((2, 2), 1.0), np.full((2, 2), 3.0)]), grid)
    np.testing.assert_allclose(found, np.repeat([[1.0, 2.0, 3.0]], 10, 0).repeat(5, 1))


def test_a_defect_is_where_it_was_at_every_scale():
    image = np.zeros((1500, 2400, 1), np.float32)
    image[1100:1140, 1790:1830] = 1  # centre (1120, 1810)
    grid = grid_of(image.shape[:2], 3)
    # What a detector does, with a filter of another library: maps of 64x64 of the tiles, in their means.
    maps = np.stack(
        [ndimage.zoom(tile[..., 0], [64 / side for side in grid.tile], order=1) for tile in cut(image, grid)]
    )
    found = assemble(maps, grid)
    assert found.shape == (625, 1000)
    centre = np.array(ndimage.center_of_mass(found)) * 2.4
    np.testing.assert_allclose(centre, (1120, 1810), atol=12)  # a pixel of a map is 14 of the image


def test_how_many_tiles():
    assert [tiles_wanted((800, side), "auto") for side in (200, 1000, 1001, 4000)] == [1, 1, 2, 4]
    assert tiles_wanted((8, 8), 3) == 3
    assert tiles_wanted((8000, 8000), None) == 1


def test_maps_are_resized_without_bounds():
    found = resize_map(np.array([[-5.0, 7.0]]), (2, 4))
    np.testing.assert_allclose(found, [[-5, -2, 4, 7]] * 2)  # bilinear, centres of pixels


@pytest.mark.parametrize(
    ("n", "options"), [(0, {}), (2, {"overlap": 1.0}), (2, {"overlap": -0.1}), (2, {"ratio": 0.0})]
)
def test_a_grid_out_of_range_is_refused(n, options):
    with pytest.raises(ValueError, match="give at least 1"):
        grid_of((10, 10), n, **options)
