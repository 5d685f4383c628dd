"""AGAD's training iteration in plain PyTorch, eagerly: what `agad_step.py` compares ours with, and an oracle for it.

Written from the definitions with PyTorch's own layers and optimisers; of jaxad it takes the configuration alone. As in
ours, each network runs forward once in an iteration and goes backward for itself: the generator without gradients of
the discriminator's weights, the discriminator without those of its images. Images are [B, C, H, W].

The one difference: PyTorch keeps running averages of the unbiased variance.
"""

import re
from typing import Any, NamedTuple

import ama_torch
import numpy as np
import torch
import torch.nn.functional as F
from agad_torch_networks import Discriminator, initialise, make_generator, remember
from torch import nn

from jaxad.methods.agad import AGADConfig
from jaxad.types import Params

Tensor = torch.Tensor

# What `Trainer` has of AGADConfig's choices; all numbers are free.
SUPPORTED = {"batch_norm": True, "anomalies": "fail", "feature_matching": False, "second_encoder": False}
SUPPORTED |= {"latent_in_discriminator": False, "discriminator_weight": 1.0, "noise": 0.0, "auxiliary_norm": False}
SUPPORTED |= {"frozen_norm": False, "running_from": "inputs", "compute": "float32", "score": "image"}


# ---- weights of ours ---------------------------------------------------------------------------------------------

NAMES = {  # from jaxad's, as of Flax
    r"^(en|de)coder\.conv(\d+)\.": r"\1coder.blocks.\2.",
    r"^(en|de)coder\.norm(\d+)\.": r"\1coder.blocks.\2.norm.",
    r"^node_(\d+)_(\d+)\.": r"nodes.\1,\2.",
    r"\bconv([01])\.": r"convs.\1.",
    r"\bnorm([01])\.": r"convs.\1.norm.",
}


def named_arrays(params: Params) -> dict[str, np.ndarray]:
    """The leaves of jaxad's generator ("net") or discriminator by the names, and in the layout, of the network here."""
    arrays = {}
    for name, array in ama_torch.named_arrays(params).items():
        for pattern, ours in NAMES.items():
            name = re.sub(pattern, ours, name)
        if array.ndim == 4 and (".up." in name or name.startswith("decoder.blocks.")):
            # Flax stores the kernel of a transposed convolution turned by 180 degrees.
            array = array.swapaxes(0, 1)[:, :, ::-1, ::-1]
        if name == "decoder.dense.weight":
            sides = params["encoder"]["codes"]["kernel"].shape[:2]
            array = array.T.reshape(array.shape[1], *sides, -1).transpose(0, 3, 1, 2)
        arrays[name] = array
    return arrays


def load_params(network: nn.Module, params: Params) -> None:
    """Copy such weights into the network here; ValueError if they differ."""
    arrays, own = named_arrays(params), dict(network.named_parameters())
    if {name: array.shape for name, array in arrays.items()} != {name: tuple(p.shape) for name, p in own.items()}:
        raise ValueError(f"the networks differ: {sorted(arrays)} and {sorted(own)}, or their sizes")
    with torch.no_grad():
        for name, array in arrays.items():
            own[name].copy_(torch.tensor(np.ascontiguousarray(array)))


# ---- training ----------------------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """Of one class of images."""

    adversarial: Tensor
    contextual: Tensor
    pseudo: Tensor
    latent: Tensor


class Trainer:
    """Both networks, their optimisers and the iteration."""

    def __init__(
        self,
        config: AGADConfig,
        image_shape: tuple[int, int, int],
        *,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        """`image_shape` is (H, W, C); ValueError for choices of the configuration that are not written here."""
        for name, value in SUPPORTED.items():
            if getattr(config, name) != value:
                raise ValueError(f"{name} is {getattr(config, name)!r}; the PyTorch version has {value!r} alone")
        if not config.pseudo_weight:
            raise ValueError("pseudo_weight is 0; the PyTorch version always has the second pass")
        self.config = config
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.generator = make_generator(config, image_shape)
        self.discriminator = Discriminator(image_shape, config.latent_dim, config.width)
        for network in (self.generator, self.discriminator):
            initialise(network)
            network.to(device=device, memory_format=self.layout)
        self.optimisers = {name: self._adam(name) for name in ("generator", "discriminator")}

    def step(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """One iteration on [B, C, H, W] in [0, 1], labels [B]; scalars named as those of `AGADInfo`."""
        config = self.config
        x = (2 * images - 1).contiguous(memory_format=self.layout)
        anomalous = torch.zeros(len(x), dtype=torch.bool, device=x.device) if labels is None else labels > 0
        remember(self.generator, True)
        rebuilt = self.generator(x)
        remember(self.generator, False)  # averages see the inputs alone
        again = self.generator(rebuilt)
        fake = rebuilt.detach().requires_grad_()  # where the two networks meet
        real_logit, z = self.discriminator(x)
        fake_logit, z_hat = self.discriminator(fake)

        contextual = (x - rebuilt).abs().flatten(1).mean(1)
        pseudo = (rebuilt - again).abs().flatten(1).mean(1)
        latent = (z - z_hat).square().mean(1)

        def of_class(members: Tensor, target: float) -> Terms:
            logits = fake_logit[members]
            bce = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
            return Terms(bce, *(value[members].mean() for value in (contextual, pseudo, latent)))

        none = x.new_zeros(())
        normal = of_class(~anomalous, 1.0) if not bool(anomalous.all()) else Terms(none, none, none, none)
        of_judge = config.adversarial_weight * normal.adversarial + config.latent_weight * normal.latent
        of_maker = config.contextual_weight * normal.contextual - config.pseudo_weight * normal.pseudo
        on_anomalies, error = none, none
        if bool(anomalous.any()):
            terms = of_class(anomalous, float(config.anomaly_target))
            seen = config.adversarial_weight / (terms.adversarial + config.epsilon)
            seen = seen + config.latent_weight / (terms.latent + config.epsilon)
            made = config.pseudo_weight / (terms.pseudo + config.epsilon)
            if config.contextual_reciprocal:
                made = made + config.contextual_weight / (terms.contextual + config.epsilon)
            of_judge, of_maker = of_judge + seen, of_maker + made
            on_anomalies, error = seen + made, terms.contextual
        parameters = list(self.generator.parameters())
        (through,) = torch.autograd.grad(of_judge, fake, retain_graph=True)
        gradients = torch.autograd.grad([of_maker, rebuilt], parameters, [torch.ones_like(of_maker), through])

        judge_loss = self._judge_loss(real_logit, fake_logit, anomalous)
        judge_gradients = torch.autograd.grad(judge_loss, list(self.discriminator.parameters()))
        self._learn("generator", gradients)
        self._learn("discriminator", judge_gradients)
        anew = bool(judge_loss < config.reset_below)
        if anew:
            initialise(self.discriminator)
            self.optimisers["discriminator"] = self._adam("discriminator")
        info: dict[str, Any] = {"generator_loss": of_judge + of_maker, "discriminator_loss": judge_loss}
        info |= normal._asdict() | {"anomalous_contextual": error, "anomaly_loss": on_anomalies}
        return {name: value.detach() for name, value in info.items()} | {"reset": x.new_tensor(float(anew))}

    def score(self, images: Tensor) -> Tensor:
        """Scores [B] of images in [0, 1], with running statistics."""
        self.generator.eval()
        with torch.no_grad():
            x = (2 * images - 1).contiguous(memory_format=self.layout)
            scores = torch.linalg.vector_norm((x - self.generator(x)).flatten(1) / 2, dim=1)
        self.generator.train()
        return scores

    def _judge_loss(self, real: Tensor, fake: Tensor, anomalous: Tensor) -> Tensor:
        loss = F.binary_cross_entropy_with_logits
        total = real.new_zeros(())
        if not bool(anomalous.all()):
            normal = ~anomalous
            total = total + loss(real[normal], torch.ones_like(real[normal]))
            total = total + loss(fake[normal], torch.zeros_like(fake[normal]))
        if bool(anomalous.any()):
            total = total + loss(real[anomalous], torch.zeros_like(real[anomalous]))
        return total

    def _adam(self, name: str) -> torch.optim.Adam:
        betas = (self.config.b1, 0.999)
        return torch.optim.Adam(getattr(self, name).parameters(), lr=self.config.learning_rate, betas=betas)

    def _learn(self, name: str, gradients: tuple[Tensor, ...]) -> None:
        for parameter, gradient in zip(getattr(self, name).parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimisers[name].step()
