"""Populations over eight emulated devices: the same numbers as on one, and nothing is communicated."""

import os
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxad.nn.conv import conv
from jaxad.training import parallel

COLLECTIVES = re.compile(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast")


def test_mesh_has_one_axis_over_all_or_the_given_devices():
    assert parallel.population_mesh().shape == {"population": len(jax.devices())}
    assert parallel.population_mesh(jax.devices()[1:3]).devices.tolist() == jax.devices()[1:3]
    with pytest.raises(ValueError, match="devices is empty; give at least one"):
        parallel.population_mesh([])


def test_every_device_gets_its_share_of_a_population(rng):
    mesh = parallel.population_mesh()
    tree = {"kernel": rng.random((16, 3, 2)), "key": jax.random.split(jax.random.key(0), 8)}
    sharded = parallel.shard_population(tree, mesh)
    shares = {shard.device: shard.data for shard in sharded["kernel"].addressable_shards}
    for number, device in enumerate(jax.devices()):
        np.testing.assert_array_equal(shares[device], tree["kernel"][2 * number : 2 * number + 2].astype(np.float32))
    assert {shard.data.shape for shard in sharded["key"].addressable_shards} == {(1,)}
    np.testing.assert_array_equal(parallel.gather(sharded["kernel"]), tree["kernel"].astype(np.float32))


def test_shapes_foretell_what_sharding_returns(rng):
    mesh = parallel.population_mesh()
    array = rng.random((8, 3), np.float32)
    shape, sharded = parallel.population_shapes(array, mesh), parallel.shard_population(array, mesh)
    assert (shape.shape, shape.dtype, shape.sharding) == (sharded.shape, sharded.dtype, sharded.sharding)


@pytest.mark.parametrize("shape", [(12, 3), (4,), ()])
def test_a_population_that_cannot_be_divided_is_named(shape):
    mesh = parallel.population_mesh()
    message = rf"\['loss'\] of shape {re.escape(str(shape))} cannot be divided over 8 devices; repeat members"
    with pytest.raises(ValueError, match=message):
        parallel.shard_population({"fine": np.zeros(8), "loss": np.zeros(shape)}, mesh)


def test_every_device_gets_a_whole_copy(rng):
    images = rng.random((3, 2), np.float32)
    copy = parallel.replicate({"images": images}, parallel.population_mesh())["images"]
    assert {shard.device for shard in copy.addressable_shards} == set(jax.devices())
    for shard in copy.addressable_shards:
        np.testing.assert_array_equal(shard.data, images)


def train(kernel: jax.Array, rate: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Three steps of gradient descent on a convolution that should reproduce its images: one member's work."""

    def step(kernel, _):
        loss, gradient = jax.value_and_grad(lambda k: jnp.mean(jnp.square(conv(images, k) - images)))(kernel)
        return kernel - rate * gradient, loss

    return lax.scan(step, kernel, length=3)


def test_eight_devices_equal_one_and_never_communicate(rng):
    kernels, rates = rng.normal(size=(16, 3, 3, 2, 2)).astype(np.float32), np.linspace(0.01, 0.1, 16, dtype=np.float32)
    images = rng.random((4, 6, 6, 2), np.float32)
    alone = jax.jit(train)
    expected = [alone(*member, images) for member in zip(kernels, rates)]
    for devices in (jax.devices()[:1], jax.devices()):
        mesh = parallel.population_mesh(devices)
        population = parallel.shard_population((kernels, rates), mesh)
        shared = parallel.replicate(images, mesh)
        program = jax.jit(parallel.population_map(train, mesh, shared=[2])).lower(*population, shared).compile()
        assert not COLLECTIVES.search(program.as_text())
        trained, losses = program(*population, shared)
        assert trained.sharding.device_set == set(devices)
        np.testing.assert_allclose(trained, np.stack([kernel for kernel, _ in expected]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(losses, np.stack([loss for _, loss in expected]), rtol=1e-5)


def test_communication_would_be_seen(rng):
    population = parallel.shard_population(rng.random((8, 3), np.float32), parallel.population_mesh())
    program = jax.jit(lambda members: members - jnp.mean(members, axis=0, keepdims=True)).lower(population).compile()
    assert COLLECTIVES.search(program.as_text())


PROCESS = """
import sys
import jax
import numpy as np
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jaxad import parallel
mesh = parallel.population_mesh()
members = parallel.shard_population(np.arange(8.0, dtype=np.float32), mesh)
shared = parallel.replicate(np.float32(3), mesh)
program = jax.jit(parallel.population_map(lambda member, factor: member * factor, mesh, shared=[1]))
print(mesh.size, *parallel.gather(program(members, shared)))
"""


@pytest.mark.slow
def test_two_hosts_share_a_population():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(rank)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        for host in hosts:
            output, _ = host.communicate(timeout=120)
            assert output.splitlines()[-1] == "4 0.0 3.0 6.0 9.0 12.0 15.0 18.0 21.0"
    finally:
        for host in hosts:
            host.kill()
