"""Where in the latent space: interpolations of codes, and codes that no normal image should have (AMA, section 3.2).

A "typical" code lies near the sphere of radius sqrt(d) (Gaussian annulus theorem). Negatives are drawn from the shell
beside it, or in one of the ways AMA is compared with.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.types import Array, Key

NEGATIVES = ("shell", "scaled", "cube")
DRAWS = ("volume", "radius")
DIRECTIONS = ("inward", "outward")


class Simplex(NamedTuple):
    """How codes are mixed."""

    parents: Array  # [B, k] int32, indices of the batch
    weights: Array  # [B, k], above 0, sum 1


def draw_simplex(key: Key, batch: int, parents: int = 3) -> Simplex:
    """Parents by random permutation, so that each code is used k times; weights U[0, 0.5] divided by their sum.

    Source: AMA, section 3.2, k = 3. (In the authors' code the last weight is what the others leave of 1.)
    """
    order, mix = jax.random.split(key)
    permuted = jax.vmap(lambda i: jax.random.permutation(jax.random.fold_in(order, i), batch))(jnp.arange(parents))
    # From (0, 0.5]: the sum must not be 0.
    weights = 0.5 - jax.random.uniform(mix, (batch, parents), maxval=0.5)
    return Simplex(permuted.T, weights / weights.sum(1, keepdims=True))


def mix_codes(codes: Array, simplex: Simplex) -> Array:
    """Convex combinations [B, d] of codes [B, d]."""
    chex.assert_rank([codes, simplex.parents, simplex.weights], 2)
    return jnp.einsum("bk,bkd->bd", simplex.weights, codes[simplex.parents])


def shell(key: Key, count: int, dim: int, inner: Array | float, outer: Array | float, *, draw: str = "volume") -> Array:
    """Points [n, d] between two spheres around the origin, 0 <= inner < outer, uniform in all directions.

    Uniform in the volume, the radius is r = (r1^d + U (r2^d - r1^d))^(1/d), by inversion of its distribution function
    and in a form that does not overflow; in many dimensions that is r2 for nearly all points, whatever r1 (of 128, one
    in a hundred lies below 0.965 r2). Uniform in the radius, all of the shell is used: r = r1 + U (r2 - r1).
    """
    direction, depth = jax.random.split(key)
    points = jax.random.normal(direction, (count, dim))
    uniform = jax.random.uniform(depth, (count, 1))
    outer = jnp.maximum(outer, 1e-12)  # of collapsed codes the radius is 0
    if draw == "radius":
        radius = inner + uniform * (outer - inner)
    else:
        hollow = (inner / outer) ** dim
        radius = outer * (hollow + uniform * (1 - hollow)) ** (1 / dim)
    return points / jnp.linalg.norm(points, axis=1, keepdims=True) * radius


def atypical(
    key: Key, count: int, dim: int, *, direction: str, delta: float, radius: Array | float, draw: str = "volume"
) -> Array:
    """Codes [n, d] in the shell between `radius` and radius -+ delta * radius (AMA, Fig. 3 b and c).

    The paper has radius sqrt(d) and draws uniformly in the volume; it does not publish delta.
    """
    if direction == "inward":
        return shell(key, count, dim, (1 - delta) * radius, radius, draw=draw)
    return shell(key, count, dim, radius, (1 + delta) * radius, draw=draw)


def scaled_codes(key: Key, codes: Array, *, direction: str) -> Array:
    """Codes of images pulled to or pushed from the origin by a random factor, as the AMA authors' code draws them.

    codes: [n, d]. Inward a * e, outward e / a, with a ~ U(0, 0.5): all of the inner half, and outward without bound.
    """
    chex.assert_rank(codes, 2)
    factor = jax.random.uniform(key, (codes.shape[0], 1), minval=1e-3, maxval=0.5)  # 1 / 0 is no code
    return codes * factor if direction == "inward" else codes / factor


def cube(key: Key, count: int, codes: Array) -> Array:
    """Codes [n, d] uniform in a cube with a corner in the origin, its side the least coordinate size in `codes` [B, d].

    Source: Sipple (2020) as in the AMA authors' code, U[0, 1]^d min |E(batch)|: what Table 3 compares with.
    """
    chex.assert_rank(codes, 2)
    return jax.random.uniform(key, (count, codes.shape[1])) * jnp.min(jnp.abs(codes))
