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

from jaxad.nas.trial import WORST_REWARD, Job, Result, TrialConfig, TrialData, Verdict, batches
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives import CentroidParams, ClusterParams
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


# ---- distances: reconstruction and images [B, C, H, W] -> [B] ----------------------------------------------------


def l1(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (x_hat - x).abs().mean((1, 2, 3))


def l2(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared difference."""
    return (x_hat - x).square().mean((1, 2, 3))


def l21(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean norm of the columns of every channel, over sqrt(H)."""
    return torch.linalg.vector_norm(x_hat - x, dim=2).mean((1, 2)) / math.sqrt(x.shape[2])


def ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """1 - structural similarity, Gaussian window of 11 (or what fits), where the whole window fits."""
    width = min(11, (min(x.shape[2:]) - 1) // 2 * 2 + 1)
    window = torch.exp(-0.5 * (torch.arange(width, device=x.device) - width // 2).square() / (1.5 * width / 11) ** 2)
    window = window / window.sum()
    luma = x.new_tensor((0.2125, 0.7154, 0.0721) if x.shape[1] == 3 else [1 / x.shape[1]] * x.shape[1])
    a, b = ((images * luma[:, None, None]).sum(1) - 0.5 for images in (x_hat, x))
    moments = torch.cat([a, b, a * a + b * b, a * b])[:, None]
    moments = F.conv2d(F.conv2d(moments, window[None, None, :, None]), window[None, None, None, :])[:, 0]
    mean_a, mean_b, power, product = moments.chunk(4)
    variances, covariance = power - mean_a.square() - mean_b.square(), product - mean_a * mean_b
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return 1 - (luminance * (2 * covariance + c2) / (variances + c2)).mean((1, 2))


DISTANCES = {"l1": l1, "l2": l2, "l21": l21, "ssim": ssim}


# ---- hypotheses: beliefs, vectors [B, d], errors [B] -------------------------------------------------------------


class Density:
    """A Gaussian mixture of the latents, from a small estimation network."""

    @staticmethod
    def init(generator: torch.Generator, z: Tensor, components: int = 4, hidden: int = 10) -> dict[str, Any]:
        def glorot(rows: int, columns: int) -> Tensor:
            limit = math.sqrt(6 / (rows + columns))
            return ((torch.rand(rows, columns, generator=generator) * 2 - 1) * limit).to(z.device)

        kernels = glorot(z.shape[1], hidden), glorot(hidden, components)
        biases = z.new_zeros(hidden), z.new_zeros(components)
        layers = ({"kernel": kernel, "bias": bias} for kernel, bias in zip(kernels, biases, strict=True))
        return dict(zip(("hidden", "output"), layers, strict=True))

    @staticmethod
    def fit(beliefs: dict[str, Any], z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hidden = torch.tanh(z @ beliefs["hidden"]["kernel"] + beliefs["hidden"]["bias"])
        gamma = torch.softmax(hidden @ beliefs["output"]["kernel"] + beliefs["output"]["bias"], 1)
        share = gamma / gamma.sum(0)
        means = share.T @ z
        centred = z[:, None] - means
        covariances = torch.einsum("bk,bkd,bke->kde", share, centred, centred)
        jitter = 1e-6 + 1e-4 * covariances.diagonal(dim1=1, dim2=2).mean(1)
        covariances = covariances + jitter[:, None, None] * torch.eye(z.shape[1], device=z.device)
        factors, failed = torch.linalg.cholesky_ex(covariances)
        factors = torch.where(failed[:, None, None] > 0, torch.nan, factors)
        return gamma.mean(0), means, factors, covariances.diagonal(dim1=1, dim2=2)

    @staticmethod
    def score(beliefs: dict[str, Any], stats: Any, z: Tensor, errors: Tensor) -> Tensor:
        weights, means, factors, _ = stats
        centred = (z[None] - means[:, None]).transpose(1, 2)
        whitened = torch.linalg.solve_triangular(factors, centred, upper=False).square().sum(1)  # [K, B]
        log_det = 2 * factors.diagonal(dim1=1, dim2=2).log().sum(1) + z.shape[1] * math.log(2 * math.pi)
        return -torch.logsumexp(weights.log()[:, None] - 0.5 * (log_det[:, None] + whitened), 0)

    @staticmethod
    def loss(beliefs: dict[str, Any], z: Tensor, errors: Tensor, step: int) -> Tensor:
        stats = Density.fit(beliefs, z)
        return Density.score(beliefs, stats, z, errors).mean() + 0.005 * (1 / stats[3]).sum()


class Cluster:
    """Clusters of the latents with Student-t assignments."""

    @staticmethod
    def init(generator: torch.Generator, z: Tensor, clusters: int = 10, lloyd_steps: int = 10) -> ClusterParams:
        z = z.cpu()
        centres = z[torch.randint(len(z), (1,), generator=generator)]
        while len(centres) < clusters:
            nearest = torch.cdist(z, centres).square().amin(1).nan_to_num() + 1e-30
            centres = torch.cat([centres, z[torch.multinomial(nearest, 1, generator=generator)]])
        for _ in range(lloyd_steps):
            member = F.one_hot(torch.cdist(z, centres).argmin(1), clusters).float()
            size = member.sum(0)[:, None]
            centres = torch.where(size > 0, member.T @ z / size.clamp(min=1), centres)
        return ClusterParams(centres)

    @staticmethod
    def _q(beliefs: ClusterParams, z: Tensor) -> Tensor:
        q = 1 / (1 + (z[:, None] - beliefs.centres).square().sum(2))
        return q / q.sum(1, keepdim=True)

    @staticmethod
    def fit(beliefs: ClusterParams, z: Tensor) -> Tensor:
        return Cluster._q(beliefs, z).sum(0)

    @staticmethod
    def score(beliefs: ClusterParams, stats: Tensor, z: Tensor, errors: Tensor) -> Tensor:
        q = Cluster._q(beliefs, z)
        p = q.square() / stats
        p = (p / p.sum(1, keepdim=True)).detach()
        return (p * (p / q).log()).sum(1)

    @staticmethod
    def loss(beliefs: ClusterParams, z: Tensor, errors: Tensor, step: int) -> Tensor:
        return Cluster.score(beliefs, Cluster.fit(beliefs, z), z, errors).mean()


class Centroid:
    """A sphere that holds all but a tenth of the latents."""

    @staticmethod
    def init(generator: torch.Generator, z: Tensor) -> CentroidParams:
        mean = z.mean(0)
        return CentroidParams(torch.where(mean.abs() < 0.1, torch.where(mean < 0, -0.1, 0.1), mean))

    @staticmethod
    def fit(beliefs: CentroidParams, z: Tensor) -> Tensor:
        return torch.quantile((z - beliefs.centre.detach()).square().sum(1), 0.9)

    @staticmethod
    def score(beliefs: CentroidParams, stats: Tensor, z: Tensor, errors: Tensor) -> Tensor:
        return (z - beliefs.centre.detach()).square().sum(1) - stats

    @staticmethod
    def loss(beliefs: CentroidParams, z: Tensor, errors: Tensor, step: int) -> Tensor:
        radius = Centroid.fit(beliefs, z.detach()) if step >= 10 else z.new_zeros(())
        return radius + Centroid.score(beliefs, radius, z, errors).clamp(min=0).mean() / 0.1


class Reconstruction:
    """The squared error."""

    @staticmethod
    def init(generator: torch.Generator, z: Tensor) -> tuple[()]:
        return ()

    @staticmethod
    def fit(beliefs: tuple[()], z: Tensor) -> tuple[()]:
        return ()

    @staticmethod
    def score(beliefs: tuple[()], stats: Any, z: Tensor, errors: Tensor) -> Tensor:
        return errors

    @staticmethod
    def loss(beliefs: tuple[()], z: Tensor, errors: Tensor, step: int) -> Tensor:
        return errors.mean()


HYPOTHESES = {"density": Density, "cluster": Cluster, "centroid": Centroid, "reconstruction": Reconstruction}


# ---- Eq. 2, training, scoring ------------------------------------------------------------------------------------


def loss(architecture: Architecture, config: ChildConfig, params: Params, images: Tensor, step: int) -> Tensor:
    """Mean distance + lambda times the hypothesis, for a batch [B, C, H, W]."""
    x_hat, vector = autoencode(architecture, params, images)
    hypothesis = HYPOTHESES[architecture.hypothesis]
    regulariser = hypothesis.loss(params["hypothesis"], vector, l2(x_hat, images), step)
    return DISTANCES[architecture.distance](x_hat, images).mean() + config.regulariser * regulariser


def score(architecture: Architecture, config: ChildConfig, params: Params, stats: Any, images: Tensor) -> Tensor:
    """The same for each image, [B]."""
    x_hat, vector = autoencode(architecture, params, images)
    regulariser = HYPOTHESES[architecture.hypothesis].score(params["hypothesis"], stats, vector, l2(x_hat, images))
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
        """Train and judge the jobs in order."""
        for job in jobs:
            yield self.run(job)

    def close(self) -> None:
        """Nothing to end."""

    def synchronise(self) -> None:
        """Wait for the device."""
        if torch.device(self._device).type == "cuda":
            torch.cuda.synchronize()

    def run(self, job: Job, order: np.ndarray | None = None, beliefs: Any = None) -> Result:
        """Train and judge a child; batch order and first beliefs are drawn where they are not given."""
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
        verdict = self._judge(scores[: len(self._valid)].cpu().numpy(), value)
        ended = time.perf_counter()
        self.train_seconds += trained - started
        self.score_seconds += ended - trained
        network = to_numpy({name: params[name] for name in job.params})
        return Result(network, verdict, None, self.batch_size, ended - started)

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

    def _judge(self, scores: np.ndarray, value: float) -> Verdict:
        usable = bool(math.isfinite(value) and np.isfinite(scores).all() and scores.max() > scores.min())
        if not usable:
            return Verdict(np.float32(WORST_REWARD), np.float32(value), np.False_)
        reward = {
            "auroc": lambda: roc_auc_score(self._labels, scores),
            "aupr_out": lambda: average_precision_score(self._labels, scores),
            "aupr_in": lambda: average_precision_score(1 - self._labels, -scores),
        }[self._config.reward]()
        return Verdict(np.float32(reward), np.float32(value), np.True_)


def _to_float(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
