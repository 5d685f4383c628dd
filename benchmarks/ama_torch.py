"""AMA's training iteration in plain PyTorch, eagerly: what `ama_step.py` compares ours with, and an oracle for it.

Written from the definitions with PyTorch's own layers and optimisers; of jaxad it takes the configuration alone.
It does no work that ours is spared: E and G run forward once for all updates, D(x_j, x_j) is looked up among the
D(x, x), the kernels are normalised once for all that an update judges, E and G learn without gradients of the critic's
weights, and D without those of its images. Images are [B, C, H, W].

The one difference: PyTorch keeps running averages of the unbiased variance, which only the negatives see.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F
from ama_torch_networks import Critic, Encoder, Generator, initialise
from torch import nn
from torch.func import functional_call

from jaxad.methods.ama import AMAConfig
from jaxad.types import Params

Tensor = torch.Tensor

EPSILON = 1e-12
DROPS = (0.3, 0.6, 0.9)
# What `Trainer` has of AMAConfig's choices; all numbers are free.
SUPPORTED = {"mirrored": True, "negatives": "shell", "radius": "sqrt_d", "penalty_norm": "sample"}
SUPPORTED |= {"spectral_norm": True, "compute": "float32"}


# ---- weights of ours ---------------------------------------------------------------------------------------------


# Blocks of the encoder are layers beside each other in Flax, and blocks of all networks modules of their own.
NAMES = {r"^conv(\d+)\.": r"blocks.\1.", r"^norm(\d+)\.": r"blocks.\1.norm.", r"^block(\d+)\.": r"blocks.\1."}


def named_arrays(params: Params) -> dict[str, np.ndarray]:
    """The leaves of one of jaxad's networks by the names, and in the layout, of the network here.

    Kernels [h, w, I, O] become [O, I, h, w], and [I, O] become [O, I].
    """
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *module, last = (str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in path)
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim)
        name = ".".join([*module, names[last]])
        for pattern, ours in NAMES.items():
            name = re.sub(pattern, ours, name)
        arrays[name] = np.transpose(leaf, order) if order else np.asarray(leaf)
    return arrays


def load_params(network: nn.Module, params: Params) -> None:
    """Copy the weights of jaxad's encoder, generator or critic into the network here; ValueError if they differ."""
    arrays, own = named_arrays(params), dict(network.named_parameters())
    if {name: array.shape for name, array in arrays.items()} != {name: tuple(p.shape) for name, p in own.items()}:
        raise ValueError(f"the networks differ: {sorted(arrays)} and {sorted(own)}, or their sizes")
    with torch.no_grad():
        for name, array in arrays.items():
            own[name].copy_(torch.tensor(array))


# ---- spectral normalisation --------------------------------------------------------------------------------------


def init_vectors(network: nn.Module) -> dict[str, Tensor]:
    """A random unit vector [O] for every weight [O, I, ...], by its name."""
    weights = {name: p for name, p in network.named_parameters() if p.ndim > 1}
    return {name: _unit(torch.randn(len(weight), device=weight.device)) for name, weight in weights.items()}


@torch.no_grad()
def power_iteration(network: nn.Module, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors after one more iteration."""
    matrices = {name: network.get_parameter(name).flatten(1) for name in vectors}
    return {name: _unit(matrices[name] @ _unit(u @ matrices[name])) for name, u in vectors.items()}


def effective(network: nn.Module, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All parameters by name, weights divided by their sigma; gradients reach sigma, not the vectors."""
    params = dict(network.named_parameters())
    for name, u in vectors.items():
        along = u @ params[name].flatten(1)
        params[name] = params[name] / torch.dot(_unit(along.detach()), along)
    return params


def _unit(vector: Tensor) -> Tensor:
    return vector / (torch.linalg.vector_norm(vector) + EPSILON)


# ---- training ----------------------------------------------------------------------------------------------------


class Draws(NamedTuple):
    """The randomness of an iteration."""

    negatives: Tensor  # [n, d], codes of the synthetic negatives
    parents: Tensor  # [B, k], indices of the batch
    weights: Tensor  # [B, k], of the parents in an interpolation
    shares: Tensor  # [critic_steps, B], of x in what the penalty looks at


class Trainer:
    """Three networks, their optimisers and the iteration."""

    def __init__(
        self,
        config: AMAConfig,
        image_shape: tuple[int, int, int],
        *,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        """`image_shape` is (H, W, C); ValueError for choices of the configuration that are not written here."""
        for name, value in SUPPORTED.items():
            if getattr(config, name) != value:
                raise ValueError(f"{name} is {getattr(config, name)!r}; the PyTorch version has {value!r} alone")
        if config.interpolation == 0:
            raise ValueError("interpolation is 0; the PyTorch version always interpolates")
        side, _, channels = image_shape
        self.config, self.device, self.done = config, device, 0
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.encoder = Encoder(side, channels, config.latent_dim, config.width)
        self.generator = Generator(side, channels, config.latent_dim, config.width)
        self.critic = Critic(side, channels, config.width)
        for network in (self.encoder, self.generator, self.critic):
            initialise(network)
            network.to(device=device, memory_format=self.layout)
        self.generator.layout = self.layout
        self.vectors = init_vectors(self.critic)
        self.optimisers = {
            "encoder": _adam(self.encoder, config, config.scheduled, 0.5),
            "generator": _adam(self.generator, config, config.scheduled, 0.0),
            "critic": _adam(self.critic, config, config.scheduled * config.critic_steps, 0.0),
        }

    def draw(self, size: int) -> Draws:
        """Randomness for a batch of `size` images."""
        config, device = self.config, self.device
        dim, count = config.latent_dim, math.floor(config.negative_share * size)
        inward = config.direction == "inward"
        inner, outer = (1 - config.delta, 1) if inward else (1, 1 + config.delta)
        hollow = (inner / outer) ** dim
        depth = (hollow + torch.rand(count, 1, device=device) * (1 - hollow)) ** (1 / dim)
        parents = torch.stack([torch.randperm(size, device=device) for _ in range(config.parents)], 1)
        weights = 0.5 - 0.5 * torch.rand(size, config.parents, device=device)
        return Draws(
            F.normalize(torch.randn(count, dim, device=device)) * (math.sqrt(dim) * outer * depth),
            parents,
            weights / weights.sum(1, keepdim=True),
            torch.rand(config.critic_steps, size, device=device),
        )

    def step(self, images: Tensor, draws: Draws | None = None) -> dict[str, Tensor]:
        """One iteration on [B, C, H, W] in [0, 1]; scalars named as those of `AMAInfo`."""
        config, size = self.config, len(images)
        draws = self.draw(size) if draws is None else draws
        images, normal = (2 * images - 1).contiguous(memory_format=self.layout), images.new_ones(size)
        if self.done >= round(config.negative_start * config.scheduled):
            with torch.no_grad():
                made = self.generator(draws.negatives, "frozen")
            images = torch.cat([images[: size - len(made)], made])
            normal[size - len(made) :] = 0
        weights = torch.where(normal > 0, 1.0, -config.negative_weight)
        all_normal = normal[draws.parents].prod(1)
        some_normal = all_normal.sum().clamp(min=1)

        codes = self.encoder(images, "remember")
        rebuilt = self.generator(codes, "remember")
        mixed = self.generator(torch.einsum("bk,bkd->bd", draws.weights, codes[draws.parents]), "batch")

        # What the critic sees is the same in all its updates, but for the images between.
        parents = images[draws.parents.T.flatten()]
        seen, fake = rebuilt.detach(), mixed.detach()
        first = torch.cat([images, images, parents])
        second = torch.cat([images, seen, fake.repeat(config.parents, 1, 1, 1)])
        pairs = self._stack(first, second)
        for share in draws.shares:
            self.vectors = power_iteration(self.critic, self.vectors)
            params = effective(self.critic, self.vectors)
            share = share[:, None, None, None]
            halfway = self._stack(images, share * images + (1 - share) * seen).requires_grad_()
            same, other, *interpolated = self.judge(params, pairs)[0].view(-1, size)
            (slopes,) = torch.autograd.grad(self.judge(params, halfway)[0].sum(), halfway, create_graph=True)
            penalty = (torch.linalg.vector_norm(slopes, dim=(1, 2, 3)) - 1).square().mean()
            wasserstein = (weights * (same - other)).mean()
            differences = (same[draws.parents] - torch.stack(interpolated, 1)).mean(1)
            gap = (all_normal * differences).sum() / some_normal
            critic_loss = -wasserstein - config.interpolation * gap + config.penalty * penalty
            self._learn(critic_loss, "critic")

        params = {name: p.detach() for name, p in effective(self.critic, self.vectors).items()}
        pairs = self._stack(first[size:], torch.cat([rebuilt, mixed.repeat(config.parents, 1, 1, 1)]))
        other, *interpolated = self.judge(params, pairs)[0].view(-1, size)
        realism = (all_normal * torch.stack(interpolated, 1).mean(1)).sum() / some_normal
        norms = torch.linalg.vector_norm(codes, dim=1)
        latent = (normal * norms).sum() / normal.sum().clamp(min=1)
        generator_loss = -(weights * other).mean() - config.interpolation * realism + config.latent_weight * latent
        self._learn(generator_loss, "encoder", "generator")
        self.done += 1
        info = {"wasserstein": wasserstein, "interpolation_gap": gap, "penalty": penalty, "critic_loss": critic_loss}
        info |= {"generator_loss": generator_loss, "code_norm": norms.mean(), "code_norm_sd": norms.std(correction=0)}
        info["error"] = (images - seen).abs().mean() / 2
        return {name: value.detach() for name, value in info.items()}

    def judge(self, params: Mapping[str, Tensor], pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Values [B] and features [B, F] of pairs [B, 2C, H, W], by a critic with these parameters."""
        return functional_call(self.critic, dict(params), (pairs,))

    def _stack(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second], 1).contiguous(memory_format=self.layout)

    def _learn(self, loss: Tensor, *names: str) -> None:
        chosen = [self.optimisers[name] for name in names]
        for optimiser, _ in chosen:
            optimiser.zero_grad()
        # Only these: the images that the penalty looks at are leaves, too.
        loss.backward(inputs=[p for optimiser, _ in chosen for p in optimiser.param_groups[0]["params"]])
        for optimiser, schedule in chosen:
            optimiser.step()
            schedule.step()


def _adam(network: nn.Module, config: AMAConfig, updates: int, b1: float) -> tuple[torch.optim.Optimizer, Any]:
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(b1, 0.9))
    drops = sorted({round(share * updates) for share in DROPS} - {0})
    return optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, drops, gamma=0.1)
