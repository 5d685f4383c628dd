"""One side of `ama_step.py`, in a process of its own: prepares, and then trains for a while whenever it is asked to."""

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from interleaved import serve

from jaxad._utils.compile import kernel_options
from jaxad.methods.ama import AMAConfig, AMAState, ama, draw_negatives, latents, losses
from jaxad.methods.ama.inference import frozen, networks_of
from jaxad.nn import spectral_norm as spectral
from jaxad.training import loop as training
from jaxad.types import Array, Params

Answer = dict[str, Any]


def make_config(spec: dict[str, Any], compute: str = "float32") -> AMAConfig:
    """What is trained: AMA with synthetic negatives from the first step."""
    return AMAConfig(width=spec["width"], latent_dim=spec["latent_dim"], negative_start=0.0, compute=compute)


def make_images(spec: dict[str, Any]) -> np.ndarray:
    """Noise, uint8 [N, H, W, C]: how long a step takes does not depend on what is seen."""
    shape = (spec["images"], spec["image_size"], spec["image_size"], spec["channels"])
    return np.random.default_rng(spec["seed"]).integers(0, 256, shape, np.uint8)


# ---- the methods -------------------------------------------------------------------------------------------------


class Ours:
    """jaxad's detector in jaxad's training loop, a chunk of steps at a time."""

    def __init__(self, spec: dict[str, Any]) -> None:
        jax.config.update("jax_enable_compilation_cache", False)
        self._spec, self._config, self._done = spec, make_config(spec, spec["compute"]), 0
        self._images = jax.device_put(make_images(spec))
        self._detector, self._state = ama(self._config), None
        device = jax.devices()[0]
        self.name = f"jax {jax.__version__}, {device.device_kind}"

    def run(self, iterations: int) -> dict[str, float]:
        """Train on, and say what the last step did."""
        until, spec = self._done + iterations, self._spec
        self._state, history = training.fit(
            self._detector,
            jax.random.key(spec["seed"]),
            self._images,
            steps=until,
            batch_size=spec["batch_size"],
            chunk=spec["iterations"],
            state=self._state,
            start_step=self._done,
        )
        jax.block_until_ready(self._state)
        self._done = until
        return {name: float(values[-1]) for name, values in history.info._asdict().items()}

    def profile(self, seconds: float) -> list[dict[str, Any]]:
        """Where the time goes, each piece timed for so long."""
        images = 2 * self._images[: self._spec["batch_size"]].astype(jnp.float32) / 255 - 1
        return [measure(piece, seconds) for piece in pieces(self._config, self._state, images)]


class Torch:
    """The same iteration in PyTorch."""

    def __init__(self, spec: dict[str, Any], *, channels_last: bool) -> None:
        import torch
        from ama_torch import Trainer

        torch.set_num_threads(spec["torch_threads"])
        torch.manual_seed(spec["seed"])
        torch.backends.cudnn.benchmark = True  # shapes never change
        self._torch, self._size = torch, spec["batch_size"]
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        images = make_images(spec)
        self._images = torch.tensor(images.transpose(0, 3, 1, 2), device=self._device)
        self._trainer = Trainer(make_config(spec), images.shape[1:], device=self._device, channels_last=channels_last)
        self._batches = self._rows()
        where = torch.cuda.get_device_name() if self._device == "cuda" else f"{torch.get_num_threads()} threads"
        self.name = f"torch {torch.__version__}, {where}"

    def run(self, iterations: int) -> dict[str, float]:
        """Train on, and say what the last step did."""
        infos = [self._trainer.step(self._images[next(self._batches)].float() / 255) for _ in range(iterations)]
        return {name: float(value) for name, value in infos[-1].items()}  # waits for the device

    def _rows(self) -> Iterator[Any]:
        while True:
            order = self._torch.randperm(len(self._images), device=self._device)
            yield from order[: len(order) // self._size * self._size].view(-1, self._size)


METHODS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ours": Ours,
    "torch": lambda spec: Torch(spec, channels_last=False),
    "torch-channels-last": lambda spec: Torch(spec, channels_last=True),
}


# ---- where the time goes -----------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Part of an iteration, as a program of its own."""

    name: str
    part_of: str  # the piece that contains it, or ""
    times: int  # in an iteration
    function: Callable[..., Any]
    args: tuple[Any, ...]


def pieces(config: AMAConfig, state: AMAState, images: Array) -> list[Piece]:
    """What a step is made of, for images [B, H, W, C] in [-1, 1], from the same functions as the detector's step.

    Pieces are compiled apart. What the compiler shares, fuses or keeps between them shows as the difference between
    their sum and the iteration.
    """
    size, count = len(images), math.floor(config.negative_share * len(images))
    keys = jax.random.split(jax.random.key(0), 3)
    simplex = latents.draw_simplex(keys[0], size, config.parents)
    normal = (jnp.arange(size) < size - count).astype(jnp.float32)
    weights = losses.image_weights(1 - normal, config.negative_weight)
    all_normal = jnp.prod(normal[simplex.parents], 1)
    nets, networks = networks_of(config, state), (state.encoder, state.generator)
    adam = optax.adam(config.learning_rate, b1=0.0, b2=0.9)
    adams = adam.init(state.critic), adam.init(networks)

    def negatives(generator: Params, key: Array) -> Array:
        codes = draw_negatives(config, key, jnp.zeros((size, config.latent_dim)), count)
        return nets.generator.apply(frozen(state, "generator") | {"params": generator}, codes)

    def autoencode(networks: tuple[Params, Params]) -> tuple[Array, Array, Array]:
        codes, _ = nets.encoder.apply({"params": networks[0]}, images, train=True)
        mixed = latents.mix_codes(codes, simplex)
        return codes, *(nets.generator.apply({"params": networks[1]}, which, train=True)[0] for which in (codes, mixed))

    def stack(rebuilt: Array, mixed: Array, *, real: bool) -> Array:
        pairs = [(images, images)] if real else []
        pairs += [(images, rebuilt), *((images[parents], mixed) for parents in simplex.parents.T)]
        return jnp.concatenate([losses.stack_pairs(*pair) for pair in pairs])

    def normalised(critic: Params, vectors: tuple[Array, ...]) -> tuple[Params, tuple[Array, ...]]:
        vectors = spectral.power_iteration(critic, vectors)
        return spectral.normalise_kernels(critic, vectors), vectors

    def judged(critic: Params, pairs: Array) -> Array:
        return nets.critic.apply({"params": critic}, pairs).values

    def distances(critic: Params, pairs: Array) -> Array:
        same, other, *interpolated = judged(critic, pairs).reshape(-1, size)
        gap = losses.interpolation_gap(same[simplex.parents], jnp.stack(interpolated, 1), all_normal)
        return -losses.wasserstein(same, other, weights) - config.interpolation * gap

    def penalty(critic: Params, halfway: Array) -> Array:
        return losses.gradient_penalty(lambda p: judged(critic, p), halfway, config.penalty_norm)

    def critic_update(
        critic: Params, vectors: tuple[Array, ...], opt_state: Any, pairs: Array, halfway: Array
    ) -> tuple[Any, ...]:
        vectors = spectral.power_iteration(critic, vectors)

        def loss(critic: Params) -> Array:
            critic = spectral.normalise_kernels(critic, vectors)
            return distances(critic, pairs) + config.penalty * penalty(critic, halfway)

        updates, opt_state = adam.update(jax.grad(loss)(critic), opt_state)
        return optax.apply_updates(critic, updates), vectors, opt_state

    def generator_loss(critic: Params, codes: Array, rebuilt: Array, mixed: Array) -> Array:
        other, *interpolated = judged(critic, stack(rebuilt, mixed, real=False)).reshape(-1, size)
        interpolated = jnp.stack(interpolated, 1)
        distance = losses.wasserstein(jnp.zeros_like(other), other, weights)
        gap = losses.interpolation_gap(jnp.zeros_like(interpolated), interpolated, all_normal)
        norm = losses.code_norm(codes, normal)
        return losses.generator_loss(
            distance, gap, norm, interpolation=config.interpolation, latent=config.latent_weight
        )

    to_made = jax.grad(generator_loss, (1, 2, 3))

    def learn(networks: Any, opt_state: Any, backward: Callable[..., Any], upstream: Any) -> tuple[Any, Any]:
        updates, opt_state = adam.update(*backward(upstream), opt_state)
        return optax.apply_updates(networks, updates), opt_state

    def generator_update(
        networks: Any, opt_state: Any, backward: Callable[..., Any], critic: Params, made: tuple[Array, Array, Array]
    ) -> tuple[Any, Any]:
        return learn(networks, opt_state, backward, to_made(critic, *made))

    made, backward = compiled(lambda networks: jax.vjp(autoencode, networks))(networks)
    upstream = jax.tree.map(jnp.ones_like, made)
    pairs, few = stack(*made[1:], real=True), stack(*made[1:], real=False)
    halfway = losses.stack_pairs(images, losses.between(images, made[1], jax.random.uniform(keys[1], (size,))))
    plain, steps = normalised(state.critic, state.vectors)[0], config.critic_steps
    critic_name, generator_name = "critic update", "update of E and G"
    return [
        Piece("synthetic negatives", "", 1, negatives, (state.generator, keys[2])),
        Piece("E and G forward", "", 1, lambda networks: jax.vjp(autoencode, networks), (networks,)),
        Piece(critic_name, "", steps, critic_update, (state.critic, state.vectors, adams[0], pairs, halfway)),
        Piece("spectral norm", critic_name, steps, normalised, (state.critic, state.vectors)),
        Piece(f"D forward, {len(pairs)} pairs", critic_name, steps, judged, (plain, pairs)),
        Piece("the same with gradient", critic_name, steps, jax.grad(distances), (plain, pairs)),
        Piece(f"gradient penalty, {size} pairs", critic_name, steps, penalty, (plain, halfway)),
        Piece("the same with gradient", critic_name, steps, jax.grad(penalty), (plain, halfway)),
        Piece(generator_name, "", 1, generator_update, (networks, adams[1], backward, plain, made)),
        Piece(f"through D, {len(few)} pairs", generator_name, 1, to_made, (plain, *made)),
        Piece("through G and E, and Adam", generator_name, 1, learn, (networks, adams[1], backward, upstream)),
    ]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """With the options that training has."""
    return jax.jit(function, compiler_options=kernel_options() if jax.default_backend() == "cpu" else None)


def measure(piece: Piece, seconds: float, least: int = 3) -> dict[str, Any]:
    """Median milliseconds of a piece, run for so many seconds and at least so many times."""
    program, times = compiled(piece.function), []
    jax.block_until_ready(program(*piece.args))
    ends = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < ends:
        started = time.perf_counter()
        jax.block_until_ready(program(*piece.args))
        times.append(time.perf_counter() - started)
    milliseconds = 1000 * statistics.median(times)
    print(f"    {piece.name}: {milliseconds:.2f} ms", file=sys.stderr, flush=True)
    return {"piece": piece.name, "part_of": piece.part_of, "times": piece.times, "ms": milliseconds, "runs": len(times)}


def main(text: str) -> None:
    """Serve the side that the JSON describes until standard input ends."""
    serve(text, METHODS)
