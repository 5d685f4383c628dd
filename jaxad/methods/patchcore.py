"""PatchCore (Roth et al., CVPR 2022): how far each patch is from all patches seen in normal images.

    s(patch) = min over m in M of |f(patch) - m|        M = a coreset of the training patches       (Eqs. 5 and 6)

M is chosen greedily, always the patch furthest from those chosen already (k-centre), by distances after a random
projection that keeps them (Johnson & Lindenstrauss). The score of an image is that of its worst patch. As the authors'
code does, it is not weighted by the neighbourhood of m (Eq. 7).

Departures: the coreset has a fixed size instead of a share of the patches, because arrays have fixed shapes, and is
chosen from a random part of them, because each choice looks at all; features are standardised, by default at each place
(`features.standardise`), so that no stage of the network drowns another.

Use it on photographs whose parts have no fixed places: a patch counts as normal wherever in an image it was seen, up to
what is usual at its place (`features.standardise=channel`: anywhere).
Memory and time grow with the bank.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxad.methods.common.image_buffer import ImageBuffer, empty, places_of, remember
from jaxad.methods.common.nearest import index, nearest
from jaxad.methods.common.on_features import on_features
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.methods.registry import detector
from jaxad.types import Array, Batch, Detector, Key

PROJECTED = 128  # dimensions that the choice of the coreset looks at


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryBankConfig:
    """What is remembered, and by which features."""

    features: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
    """Features of patches."""
    memory: int = 256
    """Images to choose patches from: the first ones seen."""
    patches: int = 256
    """Patches of each of them that are kept to choose from, drawn at random where there are more."""
    bank: int = 2048
    """Patches of the coreset M."""
    candidates: int = 20_000
    """Patches, drawn at random where there are more, that it is chosen from."""
    blur: float = 4 / 224
    """Smoothing of anomaly maps: standard deviation as a share of the image's longer side (the paper: 4 of 224)."""

    def check(self) -> None:
        """Raise ValueError for values out of range; `memory_bank` does so, too."""
        self.features.check()
        for name in ("memory", "patches", "bank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        if self.candidates < self.bank:
            raise ValueError(f"candidates is {self.candidates}; give at least bank, which is {self.bank}")
        if not 0 <= self.blur < 1:
            raise ValueError(f"blur is {self.blur}; give a share of the image's side from 0 to 1")


class MemoryBankState(NamedTuple):
    """All that choosing and scoring need."""

    bank: Array  # [K, F] the coreset
    seed: Array  # uint32, of the projection and the first patch
    buffer: ImageBuffer  # patches of images seen [M, p, F], of use until `calibrate`


class MemoryBankInfo(NamedTuple):
    """One step: scalars."""

    remembered: Array  # int32, images in the buffer


TINY = MemoryBankConfig(memory=64, bank=200, features=FeatureConfig(backbone="random", width=8))


@detector(
    "memory_bank",
    "PatchCore, nearest neighbours of patches (Roth et al., CVPR 2022).",
    config=MemoryBankConfig,
    tiny=TINY,
)
def memory_bank(config: MemoryBankConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`memory_bank(bank=500)`), or of a config with changed fields.

    `step` remembers features of images, `calibrate` chooses the coreset from their patches; the images given to
    `calibrate` are not looked at, so that a threshold on them stays honest. One pass over the training images suffices.
    """
    config = dataclasses.replace(config or MemoryBankConfig(), **fields)
    config.check()
    return on_features(_bank_of_maps(config), config.features, blur=config.blur)


def _bank_of_maps(config: MemoryBankConfig) -> Detector:
    """The same, of feature maps [B, h, w, F]."""

    def init(key: Key, maps: Array) -> MemoryBankState:
        chex.assert_rank(maps, 4)
        seed_key, draw_key = jax.random.split(key)
        rows = maps.reshape(-1, maps.shape[3])
        # Any patches will do for a state that has seen nothing yet; choosing them well takes seconds.
        drawn = jax.random.randint(draw_key, (config.bank,), 0, rows.shape[0])
        seed = jax.random.bits(seed_key, (), jnp.uint32)
        kept = jax.eval_shape(lambda: places_of(maps, seed, config.patches)).shape[1:]
        return MemoryBankState(rows[drawn], seed, empty(config.memory, kept))

    def step(key: Key, state: MemoryBankState, batch: Batch) -> tuple[MemoryBankState, MemoryBankInfo]:
        buffer = remember(state.buffer, places_of(batch.images, state.seed, config.patches))
        return state._replace(buffer=buffer), MemoryBankInfo(buffer.count)

    def calibrate(state: MemoryBankState, maps: Array) -> MemoryBankState:
        buffer = state.buffer
        patches, valid = rows_of(buffer)
        draw_key, coreset_key = jax.random.split(jax.random.key(state.seed))
        drawn = some_of(draw_key, valid, config.candidates)
        patches = patches[drawn]
        bank = patches[greedy_coreset(coreset_key, patches, valid[drawn], config.bank)]
        # A loaded detector remembers nothing, and stays as it was.
        return state._replace(bank=jnp.where(buffer.count == 0, state.bank, bank))

    def score_map(state: MemoryBankState, maps: Array) -> Array:
        """[B, h, w]: of each patch, to the nearest one of the bank."""
        patches = maps.reshape(-1, maps.shape[3])
        return nearest(index(state.bank), patches, 1).distances.reshape(maps.shape[:3])

    def score(state: MemoryBankState, maps: Array) -> Array:
        return jnp.max(score_map(state, maps), (1, 2))

    return Detector(init, step, calibrate, score, score_map, transient=("buffer",))


def rows_of(buffer: ImageBuffer) -> tuple[Array, Array]:
    """Features of all patches [P, F] of a buffer of patches [M, p, F], and whether each has been seen."""
    patches = buffer.rows.reshape(-1, buffer.rows.shape[2])
    return patches, jnp.arange(patches.shape[0]) < buffer.count * buffer.rows.shape[1]


def some_of(key: Key, valid: Array, most: int) -> Array:
    """Indices [min(P, most)] of random rows, none twice, the valid ones [P] first."""
    size = valid.shape[0]
    if size <= most:
        return jnp.arange(size)
    return lax.top_k(jnp.where(valid, jax.random.uniform(key, (size,)), -1.0), most)[1]


def greedy_coreset(key: Key, rows: Array, valid: Array, size: int) -> Array:
    """Indices [size] of valid rows [P, F] that leave no other far from them: the first at random, then the furthest.

    Where there are fewer valid rows than that, some appear twice.
    """
    chex.assert_rank([rows, valid], [2, 1])
    first_key, projection_key = jax.random.split(key)
    if rows.shape[1] > PROJECTED:
        projection = jax.random.normal(projection_key, (rows.shape[1], PROJECTED)) / math.sqrt(PROJECTED)
        rows = jnp.matmul(rows, projection, precision=lax.Precision.HIGHEST)
    sizes = jnp.sum(jnp.square(rows), 1)
    first = jax.random.randint(first_key, (), 0, jnp.maximum(jnp.sum(valid), 1))
    first = jnp.searchsorted(jnp.cumsum(valid), first + 1)

    def add(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen, distances = carry
        newest = chosen[number - 1]
        # By a product, which reads all rows once; what is equal to what was chosen comes out as 0 but for rounding.
        squared = sizes + sizes[newest] - 2 * jnp.matmul(rows, rows[newest], precision=lax.Precision.HIGHEST)
        distances = jnp.minimum(distances, squared)
        return chosen.at[number].set(jnp.argmax(distances).astype(jnp.int32)), distances

    chosen = jnp.zeros(size, jnp.int32).at[0].set(first.astype(jnp.int32))
    distances = jnp.where(valid, jnp.inf, -1.0)
    return lax.fori_loop(1, size, add, (chosen, distances))[0]
