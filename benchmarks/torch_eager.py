"""The same children in plain PyTorch, eagerly: the yardstick that never compiles.

Written from the definitions, with PyTorch's own layers and optimisers and nothing but NumPy and names taken from
jaxad, so it is also an oracle for the children's losses and scores. Kernels and images come in as NHWC and HWIO and
are kept as PyTorch likes them, NCHW and OIHW.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from torch_objectives import DISTANCES, HYPOTHESES

from jaxad.nas.trial import WORST_REWARD, Job, Result, Reward, TrialConfig, TrialData, batches
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig
from jaxad.types import Params

Tensor = torch.Tensor

ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "linear": lambda x: x,
    "softplus": F.softplus,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "elu": F.elu,
}


# ---- the autoencoder ---------------------------------------------------------------------------------------------


def finish(x: Tensor, layer: Layer, weights: dict[str, Tensor]) -> Tensor:
    """Normalisation, scale and offset, activation."""
    if layer.norm == "batch":
        x = F.batch_norm(x, None, None, weights["scale"], weights["offset"], training=True, eps=1e-5)
    elif layer.norm == "instance" and x.shape[2] * x.shape[3] > 1:
        x = F.instance_norm(x, weight=weights["scale"], bias=weights["offset"], eps=1e-5)
    elif layer.norm == "instance":
        x = x * weights["scale"][:, None, None] + weights["offset"][:, None, None]
    else:
        x = x + weights["offset"][:, None, None]
    return ACTIVATIONS[layer.activation](x)


def encode(architecture: Architecture, params: Params, x: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
    """Images [B, C, H, W] to the latent map, and the (H, W) that each layer received."""
    sizes = []
    for layer, weights in zip(architecture.layers, params["encoder"]):
        sizes.append(x.shape[2:])
        x = F.conv2d(x, weights["kernel"], padding=layer.kernel // 2)
        if layer.pool_kernel > 1 and layer.pool == "max":
            x = F.max_pool2d(x, layer.pool_kernel, ceil_mode=True)
        elif layer.pool_kernel > 1:
            x = F.avg_pool2d(x, layer.pool_kernel, ceil_mode=True, count_include_pad=False)
        x = finish(x, layer, weights)
    return x, sizes


def project(params: Params, latent: Tensor) -> Tensor:
    """Latent map to the vector [B, d] that the hypotheses look at."""
    return latent.mean((2, 3)) @ params["projection"]["kernel"] + params["projection"]["bias"]


def autoencode(architecture: Architecture, params: Params, images: Tensor) -> tuple[Tensor, Tensor]:
    """Images to (reconstruction [B, C, H, W], vector [B, d])."""
    x, sizes = encode(architecture, params, images)
    vector = project(params, x)
    for layer, weights, (height, width) in reversed(list(zip(architecture.layers, params["decoder"], sizes))):
        x = F.conv2d(x, weights["kernel"], padding=layer.kernel // 2)
        x = finish(x, layer, weights)
        if layer.pool_kernel > 1:
            x = F.interpolate(x, scale_factor=layer.pool_kernel, mode="nearest")[:, :, :height, :width]
    return x, vector


# ---- Eq. 2, training, scoring ------------------------------------------------------------------------------------


def loss(architecture: Architecture, config: ChildConfig, params: Params, images: Tensor, step: int) -> Tensor:
    """Mean distance + lambda times the hypothesis, for a batch [B, C, H, W]."""
    x_hat, vector = autoencode(architecture, params, images)
    hypothesis = HYPOTHESES[architecture.hypothesis]
    regulariser = hypothesis.loss(params["hypothesis"], vector, DISTANCES["l2"](x_hat, images), step)
    return DISTANCES[architecture.distance](x_hat, images).mean() + config.regulariser * regulariser


def score(architecture: Architecture, config: ChildConfig, params: Params, stats: Any, images: Tensor) -> Tensor:
    """The same for each image, [B]."""
    x_hat, vector = autoencode(architecture, params, images)
    regulariser = HYPOTHESES[architecture.hypothesis].score(
        params["hypothesis"], stats, vector, DISTANCES["l2"](x_hat, images)
    )
    return DISTANCES[architecture.distance](x_hat, images) + config.regulariser * regulariser


def to_torch(params: Any, device: torch.device | str = "cpu") -> Any:
    """Weights as leaf tensors that want gradients; kernels become OIHW."""

    def convert(leaf: Any) -> Tensor:
        leaf = np.asarray(leaf)
        leaf = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf
        return torch.tensor(leaf, device=device, requires_grad=True)  # a copy

    return jax.tree.map(convert, params)


def to_numpy(params: Any) -> Any:
    """The inverse of `to_torch`."""

    def convert(leaf: Tensor) -> np.ndarray:
        leaf = leaf.detach().cpu().numpy()
        return leaf.transpose(2, 3, 1, 0) if leaf.ndim == 4 else leaf

    return jax.tree.map(convert, params)


class TorchEager:
    """One child after another. Called as jaxad's executors are; the first randomness is PyTorch's own."""

    def __init__(self, data: TrialData, config: TrialConfig, device: torch.device | str = "cpu") -> None:
        def to_device(images: Any) -> Tensor:
            return torch.tensor(np.asarray(images).transpose(0, 3, 1, 2), device=device).contiguous()

        self._config, self._device = config, device
        self._train, self._valid = to_device(data.train), to_device(data.valid)
        self._labels = np.asarray(data.valid_labels)
        self.batch_size = config.batch_size
        self.train_seconds = self.score_seconds = 0.0
        self.synchronise()

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Train and evaluate the jobs in order."""
        for job in jobs:
            yield self.run(job)

    def close(self) -> None:
        """Nothing to end."""

    def synchronise(self) -> None:
        """Wait for the device."""
        if torch.device(self._device).type == "cuda":
            torch.cuda.synchronize()

    def run(self, job: Job, order: np.ndarray | None = None, beliefs: Any = None) -> Result:
        """Train and evaluate a child; batch order and first beliefs are drawn where they are not given."""
        started = time.perf_counter()
        config, architecture = self._config, job.architecture
        generator = torch.Generator().manual_seed(int(np.asarray(jax.random.key_data(job.key)).ravel()[-1]))
        hypothesis = HYPOTHESES[architecture.hypothesis]
        if order is None:
            epochs = batches(config.steps * self.batch_size, len(self._train))
            order = torch.cat([torch.randperm(len(self._train), generator=generator) for _ in range(epochs)])
        else:
            order = torch.tensor(np.asarray(order))
        rows = order.reshape(-1)[: config.steps * self.batch_size].to(self._device)
        rows = rows.reshape(config.steps, self.batch_size)
        params = to_torch(job.params, self._device)
        with torch.no_grad():
            vector = project(params, encode(architecture, params, _to_float(self._train[rows[0]]))[0])
            beliefs = hypothesis.init(generator, vector) if beliefs is None else beliefs
        params["hypothesis"] = jax.tree.map(lambda x: torch.as_tensor(x).to(self._device).requires_grad_(), beliefs)

        optimiser, schedule = self._optimiser(jax.tree.leaves(params))
        for step in range(config.steps):
            optimiser.zero_grad()
            value = loss(architecture, config.child, params, _to_float(self._train[rows[step]]), step)
            value.backward()
            optimiser.step()
            schedule.step()
        value = float(value.detach())
        self.synchronise()
        trained = time.perf_counter()

        with torch.no_grad():
            fitted = self._windows(self._train, min(config.fit_images, len(self._train)))
            vectors = [project(params, encode(architecture, params, images)[0]) for images in fitted]
            stats = hypothesis.fit(params["hypothesis"], torch.cat(vectors)[: len(self._train)])
            windows = self._windows(self._valid, len(self._valid))
            scores = torch.cat([score(architecture, config.child, params, stats, images) for images in windows])
        reward = self._reward_of(scores[: len(self._valid)].cpu().numpy(), value)
        ended = time.perf_counter()
        self.train_seconds += trained - started
        self.score_seconds += ended - trained
        network = to_numpy({name: params[name] for name in job.params})
        return Result(network, reward, None, self.batch_size, ended - started)

    def _optimiser(self, parameters: list[Tensor]) -> tuple[torch.optim.Optimizer, Any]:
        child, steps = self._config.child, self._config.steps
        if child.optimiser == "adam":
            optimiser = torch.optim.Adam(parameters, lr=child.learning_rate)
        else:
            optimiser = torch.optim.SGD(parameters, lr=child.learning_rate, momentum=0.9)
        drops = sorted({steps // 2, 3 * steps // 4} - {0})
        return optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, drops, gamma=0.1)

    def _windows(self, images: Tensor, count: int) -> Iterator[Tensor]:
        for start in range(0, count, self.batch_size):
            rows = (torch.arange(self.batch_size, device=self._device) + start) % len(images)
            yield _to_float(images[rows])

    def _reward_of(self, scores: np.ndarray, value: float) -> Reward:
        usable = bool(math.isfinite(value) and np.isfinite(scores).all() and scores.max() > scores.min())
        if not usable:
            return Reward(np.float32(WORST_REWARD), np.float32(value), np.False_)
        reward = {
            "auroc": lambda: roc_auc_score(self._labels, scores),
            "aupr_out": lambda: average_precision_score(self._labels, scores),
            "aupr_in": lambda: average_precision_score(1 - self._labels, -scores),
        }[self._config.reward]()
        return Reward(np.float32(reward), np.float32(value), np.True_)


def _to_float(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
