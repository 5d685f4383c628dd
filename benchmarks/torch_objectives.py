"""Distances and hypotheses of a child in PyTorch, which `torch_eager.py` trains."""

import math
from typing import Any

import torch
import torch.nn.functional as F

from jaxad.nn.objectives import CentroidParams, ClusterParams

Tensor = torch.Tensor


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
