"""What a network knows of photographs, for the refinement of error maps (AutoAD, Eq. 20).

The paper has s, where the thing is, from DeepLabV3 and L, what it is recognised by, from VGG-16; here both come from
EfficientNet-lite0, s from its features alone. Without its weights both come from random ones, and mean little.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.methods.common.patch_features import FeatureConfig, make_features
from jaxad.methods.common.refinement import grad_cam, principal_object, refine
from jaxad.metrics.pixel import pixel_auroc
from jaxad.nn import efficientnet, pretrained
from jaxad.types import Array, Key

SIDE = 224  # pixels of a side of what the network sees
MAPS = ("error", "error x (1 - L)", "error x s", "refined (Eq. 20)")
PARTS = ("L, recognised by", "s, the thing")


class Knowledge(NamedTuple):
    """A network that knows things."""

    name: str
    features: Callable[[Array], Array]  # [B, 224, 224, 3] in [0, 1] -> places, for the segmentation
    last: Callable[[Array], Array]  # -> the last convolutional layer [B, h, w, F]
    head: Callable[[Array], Array]  # of that -> logits


def make_knowledge(backbone: str, key: Key) -> Knowledge:
    """The network of that name: "efficientnet_lite0", "random", or "auto", the first where its weights are here.

    Raises:
      ValueError: weights that were asked for and are not on this machine.
    """
    keys = jax.random.split(key)
    config = FeatureConfig(backbone=backbone, levels=3)
    name, features = config.backbone, make_features(config)
    example = jnp.zeros((1, SIDE, SIDE, 3))
    params = features.init(keys[0], example)
    if name == "random":
        width = jax.eval_shape(features.apply, params, example).shape[-1]
        dense = jax.random.normal(keys[1], (width, 10)) / np.sqrt(width)

        def places(images: Array) -> Array:
            return features.apply(params, images)

        return Knowledge(name, places, places, lambda maps: jnp.mean(maps, (1, 2)) @ dense)
    weights = efficientnet.from_state_dict(pretrained.load(name))
    return Knowledge(
        name,
        lambda images: features.apply(params, images),
        lambda images: efficientnet.stages(weights, images, [len(efficientnet.BLOCKS) - 1])[0],
        lambda maps: efficientnet.head(weights, maps),
    )


def make_weights(knowledge: Knowledge, size: Sequence[int]) -> Callable[[np.ndarray], tuple[Array, Array]]:
    """What Eq. 20 weighs errors by: photographs [B, 224, 224, 3] uint8 -> L and s, maps [B, *size] in [0, 1]."""

    def to_size(maps: Array) -> Array:
        return jnp.clip(jax.image.resize(maps, (maps.shape[0], *size), "linear"), 0, 1)

    cam = jax.jit(lambda images: to_size(grad_cam(knowledge.last, knowledge.head, images)))
    places = jax.jit(knowledge.features)

    def weights(images: np.ndarray) -> tuple[Array, Array]:
        batch = jnp.asarray(images, jnp.float32) / 255
        return cam(batch), to_size(principal_object(np.asarray(places(batch))))

    return weights


def refined_maps(
    knowledge: Knowledge, images: np.ndarray, errors: np.ndarray, batch_size: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Error maps refined in every way, by the names of `MAPS`, and what that is made of, by those of `PARTS`.

    Args:
      images: [N, 224, 224, 3] uint8.
      errors: [N, H, W], of any size; so are all maps that come back, as [N, H, W].
    """

    weights = make_weights(knowledge, errors.shape[1:])
    batches = [weights(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    recognised, thing = (jnp.concatenate(parts) for parts in zip(*batches))
    made = (errors, refine(errors, recognised), refine(errors, None, thing), refine(errors, recognised, thing))
    return dict(zip(MAPS, map(np.asarray, made))), dict(zip(PARTS, map(np.asarray, (recognised, thing))))


def measure_maps(maps: np.ndarray, on: np.ndarray, off: np.ndarray, groups: tuple[str, ...]) -> dict[str, Any]:
    """How well maps [N, H, W] find what is foreign on a thing, and not what is on its background, image by image.

    Args:
      on, off: [N, H, W] bool, what is foreign on either.
      groups: names of equally large groups of images, one after another.

    Returns:
      "auroc": of the foreign pixels on the thing against all others of the image, mean and sd; "auroc_of_each" group;
      "ratio": mean of these pixels over those of what is foreign on the background, None where the latter are all 0;
      "background": how much of a map's sum lies on that.
    """
    aurocs = [pixel_auroc(m[None], mask[None]) for m, mask in zip(maps, on)]
    there, elsewhere = maps[on].mean(), maps[off].mean()
    shares = [m[mask].sum() / max(m.sum(), 1e-12) for m, mask in zip(maps, off)]
    parts = np.split(np.array(aurocs), len(groups))
    return {
        "auroc": {"mean": float(np.mean(aurocs)), "sd": float(np.std(aurocs, ddof=1))},
        "auroc_of_each": {name: float(np.mean(part)) for name, part in zip(groups, parts)},
        "ratio": float(there / elsewhere) if elsewhere > 0 else None,
        "background": float(np.mean(shares)),
    }
