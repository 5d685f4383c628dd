"""Refined error maps (AutoAD, Eq. 20): an anomaly counts where a salient object is, and where it is not typical of it.

    a = |g(f(x)) - x|^2  *  (1 - L)  *  s

L says what a classifier recognises the object by (Grad-CAM, Selvaraju et al., ICCV 2017), so 1 - L brings out what does
not belong to it; s is 1 on the object and 0 on the background. Both are maps of pixels. Eq. 20 prints the first as the
mean of 1 - dy/dA over the pixels of a feature map, one number for a whole image, which would change no map's shape; the
authors say that they follow Grad-CAM, and so does this.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import linalg, ndimage

from jaxad.types import Array


def grad_cam(
    features: Callable[[Array], Array], head: Callable[[Array], Array], images: Array, classes: Array | None = None
) -> Array:
    """Where a classifier sees what it says: [B, H, W] in [0, 1], 1 at the most telling pixel of each image.

    The features A of the last convolutional layer, weighted by the mean of dy/dA over pixels, where that is positive;
    all 0 for an image in which nothing speaks for the class.

    Args:
      features: images [B, H, W, C] -> [B, h, w, F].
      head: these features -> logits [B, K], of each image from its own features.
      images: [B, H, W, C], whatever `features` takes.
      classes: [B] ints; by default what the classifier says.
    """
    chex.assert_rank(images, 4)
    maps = features(images)
    chex.assert_rank(maps, 4)
    if classes is None:
        classes = jnp.argmax(head(maps), 1)
    chex.assert_shape(classes, images.shape[:1])

    def evidence(maps: Array) -> Array:
        return jnp.sum(jnp.take_along_axis(head(maps), classes[:, None], 1))

    weights = jnp.mean(jax.grad(evidence)(maps), (1, 2), keepdims=True)
    seen = jax.nn.relu(jnp.sum(weights * maps, 3))
    largest = jnp.max(seen, (1, 2), keepdims=True)
    seen = jnp.where(largest > 0, seen / jnp.where(largest > 0, largest, 1.0), 0.0)
    return jax.image.resize(seen, images.shape[:3], "linear", precision=lax.Precision.HIGHEST)


def refine(errors: Array, recognised: Array | None = None, saliency: Array | None = None) -> Array:
    """Eq. 20: errors [B, H, W] times 1 - `recognised` and `saliency`, maps of the same form in [0, 1] or None.

    What weighs nothing is 0, also where an error is infinite.
    """
    chex.assert_rank(errors, 3)
    for weights in (recognised, saliency):
        if weights is not None:
            chex.assert_equal_shape([errors, weights])
    for weights in (None if recognised is None else 1 - recognised, saliency):
        if weights is not None:
            errors = jnp.where(weights == 0, 0.0, errors * weights)
    return errors


def first_component(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Coordinates [n] of centred rows [n, F] along their first principal direction, and its singular value.

    One eigenvector of the smaller of the two Gram matrices: a singular value decomposition would find all directions.
    """
    wide = rows.shape[0] <= rows.shape[1]
    gram = rows @ rows.T if wide else rows.T @ rows
    last = len(gram) - 1
    values, vectors = linalg.eigh(gram, subset_by_index=(last, last))
    size = float(np.sqrt(max(values[0], 0.0)))
    return size * vectors[:, 0] if wide else rows @ vectors[:, 0], size


def principal_object(features: np.ndarray) -> np.ndarray:
    """The most conspicuous thing in images, a stand-in for the semantic segmentation of the paper: [B, h, w] of 0, 1.

    The first principal component of an image's features [B, h, w, F] divides its places in two; the part with less of
    the image's edge is the thing, its largest connected piece, holes filled: what lies on it belongs to it. All of an
    image whose features are all the same.
    """
    masks = []
    for places in np.asarray(features, np.float64):
        rows = places.reshape(-1, places.shape[-1])
        component, size = first_component(rows - rows.mean(0))
        part = (component > 0).reshape(places.shape[:2])
        if size <= 1e-9 * max(np.abs(rows).max(), 1e-300):
            masks.append(np.ones(part.shape, bool))
            continue
        edge = np.ones(part.shape, bool)
        edge[1:-1, 1:-1] = False
        if part[edge].mean() > 0.5:
            part = ~part
        pieces, count = ndimage.label(part)
        areas = ndimage.sum_labels(part, pieces, np.arange(1, count + 1))
        masks.append(ndimage.binary_fill_holes(pieces == 1 + np.argmax(areas)))
    return np.stack(masks).astype(np.float32)
