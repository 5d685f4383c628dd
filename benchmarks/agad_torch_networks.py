"""AGAD's networks in PyTorch, as its benchmark trains them."""

import torch
import torch.nn.functional as F
from torch import nn

from jaxad.methods.agad import AGADConfig

Tensor = torch.Tensor

WIDTH, DEEP_WIDTH, LEAK, SPREAD = 64, 32, 0.2, 0.02

# Attributes have the names of jaxad's parameters, but that blocks are modules here: see `agad_torch.named_arrays`.


def scaled(width: int, multiplier: float) -> int:
    """A number of channels, at least 1."""
    return max(1, round(width * multiplier))


class Norm(nn.BatchNorm2d):
    """Batch normalisation that says whether it remembers what it sees."""

    remembers = True

    def forward(self, x: Tensor) -> Tensor:
        running = (self.running_mean, self.running_var)
        if self.training and not self.remembers:
            running = (None, None)
        return F.batch_norm(x, *running, self.weight, self.bias, self.training, 0.1, self.eps)


class Halving(nn.Conv2d):
    """[conv4 stride 2, BN, LeakyReLU], the normalisation where wanted."""

    def __init__(self, before: int, after: int, *, norm: bool) -> None:
        super().__init__(before, after, 4, stride=2, padding=1, bias=False)
        self.norm = Norm(after) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return F.leaky_relu(x if self.norm is None else self.norm(x), LEAK, inplace=True)


class Doubling(nn.ConvTranspose2d):
    """[transposed conv4 stride 2, BN, ReLU], or tanh at the end."""

    def __init__(self, before: int, after: int, *, norm: bool) -> None:
        super().__init__(before, after, 4, stride=2, padding=1, bias=False)
        self.norm = Norm(after) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return torch.tanh(x) if self.norm is None else F.relu(self.norm(x), inplace=True)


def encoder_form(image_shape: tuple[int, int, int], width: float) -> tuple[list[int], tuple[int, int]]:
    """Widths of the halvings, and the size that they end in."""
    height, sides_width, _ = image_shape
    widths: list[int] = []
    while min(height, sides_width) >= 8 and height % 2 == sides_width % 2 == 0:
        height, sides_width = height // 2, sides_width // 2
        widths.append(scaled(WIDTH * 2 ** len(widths), width))
    return widths, (height, sides_width)


class Encoder(nn.Module):
    """Images [B, C, H, W] to codes [B, d, 1, 1]."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: float) -> None:
        super().__init__()
        widths, sides = encoder_form(image_shape, width)
        pairs = zip([image_shape[2], *widths], widths)
        self.blocks = nn.ModuleList(Halving(*pair, norm=i > 0) for i, pair in enumerate(pairs))
        self.codes = nn.Conv2d(widths[-1], latent_dim, sides, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.codes(x)


class Decoder(nn.Module):
    """Codes [B, d, 1, 1] to images [B, C, H, W]."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: float) -> None:
        super().__init__()
        widths, sides = encoder_form(image_shape, width)
        widths = widths[::-1]
        self.dense = nn.ConvTranspose2d(latent_dim, widths[0], sides, bias=False)
        self.norm = Norm(widths[0])
        after = [*widths[1:], image_shape[2]]
        self.blocks = nn.ModuleList(
            Doubling(*pair, norm=i < len(widths) - 1) for i, pair in enumerate(zip(widths, after))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.dense(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        return x


class Autoencoder(nn.Module):
    """GANomaly's encoder and decoder."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: float) -> None:
        super().__init__()
        self.encoder = Encoder(image_shape, latent_dim, width)
        self.decoder = Decoder(image_shape, latent_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Layer(nn.Conv2d):
    """[conv3, BN, ReLU]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1, bias=False)
        self.norm = Norm(after)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(super().forward(x)), inplace=True)


class Node(nn.Module):
    """Two layers, on what comes up from below."""

    def __init__(self, before: int, width: int, below: int | None = None) -> None:
        super().__init__()
        self.up = None if below is None else nn.ConvTranspose2d(below, width, 2, stride=2)
        self.convs = nn.ModuleList([Layer(before, width), Layer(width, width)])

    def forward(self, *skips: Tensor, below: Tensor | None = None) -> Tensor:
        x = torch.cat([*skips, self.up(below)], 1) if below is not None else skips[0]
        for layer in self.convs:
            x = layer(x)
        return x


class UNet(nn.Module):
    """U-Net, or UNet++ if dense."""

    def __init__(self, image_shape: tuple[int, int, int], width: float, levels: int, *, dense: bool) -> None:
        super().__init__()
        widths = [scaled(DEEP_WIDTH * 2**level, width) for level in range(levels)]
        channels = image_shape[2]
        self.levels, self.dense = levels, dense
        nodes = {f"{i},0": Node(before, after) for i, (before, after) in enumerate(zip([channels, *widths], widths))}
        for i, j in self._coming_up():
            skips = j if dense else 1
            nodes[f"{i},{j}"] = Node((skips + 1) * widths[i], widths[i], widths[i + 1])
        self.nodes = nn.ModuleDict(nodes)
        self.out = nn.Conv2d(widths[0], channels, 1)

    def _coming_up(self) -> list[tuple[int, int]]:
        if self.dense:
            return [(i, j) for j in range(1, self.levels) for i in range(self.levels - j)]
        return [(self.levels - 1 - j, j) for j in range(1, self.levels)]

    def forward(self, x: Tensor) -> Tensor:
        made = {(0, 0): self.nodes["0,0"](x)}
        for i in range(1, self.levels):
            made[i, 0] = self.nodes[f"{i},0"](F.max_pool2d(made[i - 1, 0], 2))
        for i, j in self._coming_up():
            skips = [made[i, k] for k in range(j if self.dense else 1)]
            made[i, j] = self.nodes[f"{i},{j}"](*skips, below=made[i + 1, j - 1])
        return torch.tanh(self.out(made[0, self.levels - 1]))


class Discriminator(nn.Module):
    """Images to logits [B] and latent vectors [B, d]."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: float) -> None:
        super().__init__()
        self.encoder = Encoder(image_shape, latent_dim, width)
        self.logit = nn.Linear(latent_dim, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.encoder(x).flatten(1)
        return self.logit(latent)[:, 0], latent


def make_generator(config: AGADConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    """The generator of a configuration, for images (H, W, C)."""
    if config.generator == "naive":
        return Autoencoder(image_shape, config.latent_dim, config.width)
    return UNet(image_shape, config.width, config.levels, dense=config.generator == "unetpp")


def initialise(network: nn.Module) -> None:
    """Kernels N(0, 0.02), scales N(1, 0.02), biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
            nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def remember(network: nn.Module, does: bool) -> None:
    """Whether normalisations remember what they see from now on."""
    for module in network.modules():
        if isinstance(module, Norm):
            module.remembers = does
