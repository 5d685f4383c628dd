"""Populations over devices: children, seeds or classes are a leading axis, and every device takes its share of it.

Members never talk to each other, so nothing is communicated while they train. Several hosts work unchanged: call
`jax.distributed.initialize()` first, run the same program on each of them, and the mesh spans the devices of all
(`jaxad.nas.executors.hosts` does so for a search).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

POPULATION = "population"


def population_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis "population" over `devices`, by default all of all hosts.

    Raises ValueError for no device at all.
    """
    devices = jax.devices() if devices is None else list(devices)
    if not devices:
        raise ValueError("devices is empty; give at least one device, or None for all of them")
    return Mesh(np.asarray(devices, dtype=object), (POPULATION,))


def shard_population(tree: Any, mesh: Mesh) -> Any:
    """Put a pytree of arrays [P, ...] on the devices of a mesh, P / devices members on each.

    Raises ValueError where an array has no leading axis or P is not a multiple of the number of devices: pad P first.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shape = np.shape(leaf)
        if not shape or shape[0] % mesh.size:
            name = jax.tree_util.keystr(path) or "the array"
            raise ValueError(
                f"{name} of shape {shape} cannot be divided over {mesh.size} devices; "
                "repeat members until its leading axis is a multiple of that number"
            )
    return _put(tree, NamedSharding(mesh, PartitionSpec(POPULATION)))


def population_shapes(tree: Any, mesh: Mesh) -> Any:
    """What `shard_population` would return, as shapes: to compile for a population before it is there."""
    sharding = NamedSharding(mesh, PartitionSpec(POPULATION))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a whole copy of a pytree of arrays on every device of a mesh."""
    return _put(tree, NamedSharding(mesh, PartitionSpec()))


def _put(tree: Any, sharding: NamedSharding) -> Any:
    """Put whole arrays where a sharding says; on several hosts each takes its own part of what all of them have."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    # `jax.device_put` would have all hosts compare their arrays first: one more thing that they have to do together.
    def part(leaf: Any) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(part, tree)


def population_map(function: Callable[..., Any], mesh: Mesh, shared: Sequence[int] = ()) -> Callable[..., Any]:
    """`jax.vmap` of a function of one member, computed where the members are; to be jitted.

    Args:
      function: of any pytrees of one member; arguments at the positions `shared` are given whole to all members.
      mesh: from `population_mesh`; arguments come from `shard_population`, the shared ones from `replicate`.

    Returns:
      A function of arrays with a leading axis P, a multiple of the number of devices, that returns such arrays.
      Devices cannot communicate: XLA left to divide `jax.vmap` by itself gathers operands of batched operations.
    """

    def local(*args: Any) -> Any:
        return jax.vmap(function, in_axes=[None if i in shared else 0 for i in range(len(args))])(*args)

    def whole(*args: Any) -> Any:
        specs = tuple(PartitionSpec() if i in shared else PartitionSpec(POPULATION) for i in range(len(args)))
        # Unchecked: hand-written gradients (custom_vjp) do not say which devices their results differ on.
        members = PartitionSpec(POPULATION)
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=members, check_vma=False)(*args)

    return whole


def gather(tree: Any) -> Any:
    """A pytree of arrays [P, ...] divided over devices, as NumPy arrays, whole on every host."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
