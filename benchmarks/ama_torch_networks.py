"""AMA's networks in PyTorch, as its benchmark trains them."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

Tensor = torch.Tensor
# Of batch normalisation: those of the batch, the same and remembered in the running averages, or these averages.
Statistics = Literal["batch", "remember", "frozen"]

ENCODER_WIDTHS, GENERATOR_WIDTH, CRITIC_WIDTH = (64, 128, 256), 256, 128
SMALLEST, LEAK, MOMENTUM = 4, 0.2, 0.1

# Their attributes have the names of jaxad's parameters, see `ama_torch.named_arrays`.


def normalise(norm: nn.BatchNorm2d, x: Tensor, statistics: Statistics) -> Tensor:
    """Batch normalisation of [B, C, H, W] with its affine part."""
    running = (None, None) if statistics == "batch" else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, *running, norm.weight, norm.bias, statistics != "frozen", MOMENTUM, norm.eps)


class EncoderBlock(nn.Conv2d):
    """[conv4 stride 2, BN, LeakyReLU]: [B, I, H, W] -> [B, O, H/2, W/2]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor, statistics: Statistics) -> Tensor:
        return F.leaky_relu(normalise(self.norm, super().forward(x), statistics), LEAK, inplace=True)


class Encoder(nn.Module):
    """Images [B, C, H, W] to codes [B, d]."""

    def __init__(self, side: int, channels: int, latent_dim: int, width: float) -> None:
        super().__init__()
        levels = round(math.log2(side / SMALLEST))
        widths = [scaled(ENCODER_WIDTHS[min(level, len(ENCODER_WIDTHS) - 1)], width) for level in range(levels)]
        self.blocks = nn.ModuleList(EncoderBlock(*pair) for pair in zip([channels, *widths], widths))
        self.dense = nn.Conv2d(widths[-1], latent_dim, SMALLEST, bias=False)

    def forward(self, x: Tensor, statistics: Statistics) -> Tensor:
        for block in self.blocks:
            x = block(x, statistics)
        return self.dense(x).flatten(1)


class GeneratorBlock(nn.Module):
    """[BN, ReLU, twice as large, conv3, BN, ReLU, conv3] beside conv1: [B, F, H, W] -> [B, F, 2H, 2W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.shortcut = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor, statistics: Statistics) -> Tensor:
        inner = F.relu(normalise(self.norm1, x, statistics), inplace=True)
        inner = self.conv1(F.interpolate(inner, scale_factor=2, mode="nearest"))
        inner = self.conv2(F.relu(normalise(self.norm2, inner, statistics), inplace=True))
        return inner + F.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")


class Generator(nn.Module):
    """Codes [B, d] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, side: int, channels: int, latent_dim: int, width: float) -> None:
        super().__init__()
        features = scaled(GENERATOR_WIDTH, width)
        self.dense = nn.Linear(latent_dim, SMALLEST * SMALLEST * features)
        self.blocks = nn.ModuleList(GeneratorBlock(features) for _ in range(round(math.log2(side / SMALLEST))))
        self.norm = nn.BatchNorm2d(features)
        self.conv = nn.Conv2d(features, channels, 3, padding=1)
        self.layout = torch.contiguous_format

    def forward(self, codes: Tensor, statistics: Statistics) -> Tensor:
        x = self.dense(codes).unflatten(1, (SMALLEST, SMALLEST, -1)).permute(0, 3, 1, 2)
        x = x.contiguous(memory_format=self.layout)
        for block in self.blocks:
            x = block(x, statistics)
        return torch.tanh(self.conv(F.relu(normalise(self.norm, x, statistics), inplace=True)))


class CriticBlock(nn.Module):
    """[ReLU, conv3, ReLU, conv3, pool] beside [conv1, pool]: [B, I, H, W] -> [B, F, H/2, W/2], or as it was."""

    def __init__(self, before: int, width: int, *, halves: bool, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(before, width, 1) if halves else None
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x)), inplace=True))
        if self.shortcut is None:
            return x + inner
        # Pooling commutes with a 1x1 convolution and goes first, as in ours.
        return self.shortcut(F.avg_pool2d(x, 2)) + F.avg_pool2d(inner, 2)


class Critic(nn.Module):
    """Stacked pairs [B, 2C, H, W] to values [B] and features [B, F]."""

    def __init__(self, side: int, channels: int, width: float) -> None:
        super().__init__()
        features, halving = scaled(CRITIC_WIDTH, width), max(1, round(math.log2(side / 8)))
        count = halving + max(4 - halving, 2)
        self.blocks = nn.ModuleList(
            CriticBlock(features if i else 2 * channels, features, halves=i < halving, first=i == 0)
            for i in range(count)
        )
        self.dense = nn.Linear(features, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x = block(x)
        features = F.relu(x).sum((2, 3))
        return self.dense(features)[:, 0], features


def scaled(width: int, multiplier: float) -> int:
    """A number of channels, at least 1."""
    return max(1, round(width * multiplier))


def initialise(network: nn.Module) -> None:
    """Weights of Glorot & Bengio (2010), those of the 3x3 convolutions of a block times sqrt(2); biases 0."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight, math.sqrt(2) if name.endswith(("conv1", "conv2")) else 1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
