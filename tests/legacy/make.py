"""Makes the detectors of version 0.1.0 that tests of later versions load: `detectors-0.1.0/NAME/`.

    pip install "jaxad @ git+<this repository>@3949597"     # version 0.1.0
    python tests/legacy/make.py tests/legacy/detectors-0.1.0 [NAME ...]

Later versions cannot run it, and need not: it says where the files come from. Each folder holds what `save_detector`
wrote (`detector.json`, `weights.safetensors`) and `expected.npz`: four images [4, H, W, C] uint8, two ordinary ones and
two of noise, their `scores` [4] and, where the method localises, their `maps` [4, H, W], both float32, as the detector
in memory gave them. Everything is as small as its method allows and trained for a few steps: no weight is
where it started.

The run folder beside them, `runs-0.1.0/begun`, is of

    python experiments/autoad_search.py --preset smoke --quiet --output begun       # interrupted after two children

of which only `config.json` is kept, and in `files.txt` the names of all files with their sizes in bytes.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxad
from jaxad import data, thresholds
from jaxad.batch_sampling import EnvironmentConfig, NBSConfig, make_pile, train_nbs, without_images
from jaxad.detectors import SAVED
from jaxad.detectors.agad import LINEAGE
from jaxad.detectors.features import FeatureConfig
from jaxad.detectors.saved import save_detector
from jaxad.scoring import map_images, score_images
from jaxad.search.child import ChildConfig
from jaxad.search.space import Architecture, Layer
from jaxad.training import fit

NORMAL = 32  # images of training; as many others set the threshold
STEPS, LONG, BATCH = 12, 150, 8  # long: where running averages need it to arrive at what they average
THRESHOLD_RATE = 0.1


class Case(NamedTuple):
    """A detector to make."""

    method: str  # in SAVED
    config: Any
    kind: str = "digits"  # of its images, in SETS
    steps: int = STEPS  # of training


def digits() -> np.ndarray:
    """[64, 8, 8, 1]."""
    return data.digits().images[: 2 * NORMAL]


def colours() -> np.ndarray:
    """[64, 8, 8, 3]: three digits as the channels of an image."""
    images = data.digits().images[..., 0]
    return np.stack([images[first : first + 2 * NORMAL] for first in (0, 100, 200)], 3)


def gravel() -> np.ndarray:
    """[64, 16, 16, 1]."""
    images = data.textures(16)
    return images.images[images.labels == images.class_names.index("gravel")][: 2 * NORMAL]


SETS: dict[str, Callable[[], np.ndarray]] = {"digits": digits, "colours": colours, "gravel": gravel}


def layer(channels: int, norm: str, **changes: Any) -> Layer:
    """A layer with some choices changed."""
    usual = {"kernel": 3, "pool": "average", "pool_kernel": 3, "activation": "elu"}
    return Layer(channels=channels, norm=norm, **usual | changes)


def autoencoder(hypothesis: str, distance: str, *layers: Layer, **child: Any) -> Any:
    """The config of an AutoAD child."""
    architecture = Architecture(hypothesis=hypothesis, distance=distance, layers=layers)
    return SAVED["autoencoder"][0](architecture=architecture, child=ChildConfig(**child), steps=STEPS)


def cases() -> Iterator[tuple[str, Case]]:
    """Every detector by the name of its folder."""

    def case(name: str, kind: str = "digits", base: Any = None, steps: int = STEPS, **fields: Any) -> tuple[str, Case]:
        method = name.split("-")[0]
        config_class = SAVED[method][0]
        if "steps" in (field.name for field in dataclasses.fields(config_class)):  # of its schedule
            fields["steps"] = steps
        config = dataclasses.replace(base, **fields) if base is not None else config_class(**fields)
        return name, Case(method, config, kind, steps)

    # ---- AGAD: three generators, their normalisations, its forerunners; the mixed score asks the discriminator, too
    naive = {"generator": "naive", "width": 0.08, "latent_dim": 5, "learning_rate": 3e-3, "steps": LONG}
    unet = {"width": 0.12, "levels": 3, "latent_dim": 5, "learning_rate": 3e-3, "score": "mixed", "steps": LONG}
    yield case("agad-naive", **naive)
    yield case("agad-naive-mixed-colours", "colours", **naive, score="mixed")
    yield case("agad-naive-auxiliary", "gravel", **naive, auxiliary_norm=True)
    yield case("agad-unet", generator="unet", **unet)
    yield case("agad-unet-no-norm", "gravel", generator="unet", batch_norm=False, **unet | {"steps": STEPS})
    yield case("agad-unet-auxiliary", generator="unet", auxiliary_norm=True, **unet)
    yield case("agad-unetpp", generator="unetpp", **unet)
    yield case("agad-unetpp-no-norm", generator="unetpp", batch_norm=False, **unet | {"steps": STEPS})
    yield case("agad-unetpp-auxiliary", "gravel", generator="unetpp", auxiliary_norm=True, **unet)
    sizes = {"width": 0.08, "levels": 2, "latent_dim": 5, "learning_rate": 3e-3, "steps": LONG}
    yield case("agad-ganomaly", base=LINEAGE["ganomaly"], **sizes)
    yield case("agad-skip_ganomaly", base=LINEAGE["skip_ganomaly"], **sizes)

    # ---- AMA
    ama = {"width": 0.06, "latent_dim": 6, "learning_rate": 3e-3, "critic_steps": 2, "negatives": "none"}
    yield case("ama", **ama)
    yield case("ama-no-mirror", **ama, score="r", mirrored=False)
    yield case("ama-no-spectral_norm", **ama, score="r", spectral_norm=False)
    yield case("ama-gravel", "gravel", **ama, score="r")
    yield case("ama-colours", "colours", **ama, score="r")

    # ---- autoencoders
    few = {"learning_rate": 1e-2}
    yield case("anogan", widths=(6,), latent_dim=4, search_steps=5, **few)
    yield case(
        "anogan-deep", "gravel", widths=(4, 6), latent_dim=4, search_steps=5, starts=2, feature_weight=0.5, **few
    )
    mixed = (
        layer(4, "batch", kernel=5, activation="leaky_relu"),
        layer(5, "instance", kernel=1, pool="max", activation="tanh"),
        layer(6, "none", pool_kernel=1, activation="softplus"),
    )
    children = {
        "density-batch": ("digits", autoencoder("density", "l2", layer(6, "batch"), layer(4, "batch"))),
        "density-none": ("digits", autoencoder("density", "l1", layer(6, "none"), regulariser=1.0)),
        "cluster-none": ("digits", autoencoder("cluster", "l21", layer(6, "none"), regulariser=10.0)),
        "centroid-instance": ("colours", autoencoder("centroid", "l1", layer(6, "instance"), regulariser=10.0)),
        "reconstruction-batch": (
            "gravel",
            autoencoder("reconstruction", "ssim", layer(6, "batch", pool="max"), optimiser="sgd"),
        ),
        "reconstruction-mixed": ("digits", autoencoder("reconstruction", "l2", *mixed)),
        "density-mixed": ("gravel", autoencoder("density", "l21+ssim", *mixed)),
    }
    for name, (kind, config) in children.items():
        yield f"autoencoder-{name}", Case("autoencoder", config, kind)
    yield case("conv_autoencoder-l2", widths=(4, 6), latent_dim=5, **few)
    yield case("conv_autoencoder-ssim", "gravel", distance="ssim", widths=(4, 5, 6), latent_dim=5, **few)
    yield case("conv_autoencoder-sum", "colours", distance="l1+ssim", widths=(4,), latent_dim=5, **few)
    yield case("dagmm", widths=(4, 6), latent_dim=3, components=2, **few)
    yield case("dagmm-colours", "colours", widths=(5,), latent_dim=3, components=3, **few)

    # ---- other networks
    yield case("classifier-msp", classes=10, widths=(6,), **few)
    yield case("classifier-odin", classes=10, widths=(4, 6), score="odin", **few)
    yield case("deep_svdd-one-class", widths=(4, 6), outputs=5, **few)
    yield case("deep_svdd-soft-boundary", "colours", widths=(5,), kernel=3, outputs=5, objective="soft-boundary", **few)
    long = {"steps": LONG, "learning_rate": 1e-2}
    yield case("unet_segmenter", width=0.2, levels=2, **long)
    yield case("unet_segmenter-colours", "colours", width=0.08, levels=3, overlap_weight=0.0, augment=False, **long)
    nbs = NBSConfig(
        environment=EnvironmentConfig(patch=8, shift=3, window=16), episode=4, batch=2, code=4, width=0.04,
        sampler_width=0.1, predictor_width=0.5, period=6, skip=3, profile=3, clone_steps=20, predictor_batch=3,
        memory=7, learning_rate=1e-2,
    )  # fmt: skip
    yield "nbs", Case("nbs", nbs, "painted")

    # ---- what is fitted, not trained
    forest = {"memory": NORMAL, "trees": 5, "samples": 16}
    yield case("isolation_forest", **forest)
    yield case("local_outlier_factor", memory=24, neighbours=5)
    yield case("nearest_neighbours", memory=24)
    yield case("nearest_neighbours-mean-reduced", "gravel", memory=24, neighbours=3, reduce="mean", side=8)
    yield case("one_class_svm", memory=24, nu=0.3)
    yield case("one_class_svm-gamma", "colours", memory=16, gamma=0.05)
    yield case("pca", memory=NORMAL, components=4)
    yield case("pca-likelihood", "colours", memory=NORMAL, components=4, score="likelihood")
    yield case("memory_bank", memory=NORMAL, bank=20, features=FeatureConfig(width=4))
    yield case(
        "memory_bank-resized", "colours", memory=NORMAL, bank=20, blur=0.0,
        features=FeatureConfig(width=3, levels=3, side=12),
    )  # fmt: skip
    yield case("feature_dictionary", memory=NORMAL, clusters=8, components=6, features=FeatureConfig(width=4))
    yield case(
        "feature_dictionary-resized", "colours", memory=NORMAL, clusters=8, components=5, neighbours=1, variance=0.8,
        features=FeatureConfig(width=3, levels=1, side=12),
    )  # fmt: skip


def trained(case: Case) -> tuple[Any, np.ndarray, np.ndarray]:
    """State, calibrated; images that were held out; and the images whose scores are kept."""
    detector = SAVED[case.method][1](case.config)
    if case.method == "nbs":
        return trained_nbs(case.config)
    images = SETS[case.kind]()
    train, held_out = images[:NORMAL], images[NORMAL:]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (NORMAL, *images.shape[1:]), dtype=np.uint8)
    told: dict[str, np.ndarray] = {}
    if case.method == "classifier":
        told["labels"] = data.digits().labels[:NORMAL]
    if case.method == "unet_segmenter":  # every other image has its right half replaced by noise
        told["masks"] = np.zeros(train.shape[:3], np.uint8)
        told["masks"][::2, :, train.shape[2] // 2 :] = 1
        train = np.where(told["masks"][..., None] == 1, noise, train)
    options = {"steps": case.steps, "batch_size": BATCH, "chunk": case.steps}
    state, history = fit(detector, jax.random.key(0), train, **options, **told)
    if history.diverged:
        raise RuntimeError(f"{case} diverged")
    if not getattr(case.config, "batch_norm", True):
        # Without normalisation a U-Net as small as this passes nothing on, and learns to only after very many steps.
        state.generator["net"] = jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(0, 0.25, leaf.shape), jnp.float32), state.generator["net"]
        )
    state = jax.jit(detector.calibrate)(state, jnp.asarray(images[:NORMAL], jnp.float32) / 255)
    return state, held_out, np.concatenate([held_out[:2], noise[:2]])


def trained_nbs(config: NBSConfig) -> tuple[Any, np.ndarray, np.ndarray]:
    """Neural batch sampling learns from all its images at once, and has a training of its own."""
    made = data.painted("gravel", 16, seed=0)
    order = np.argsort(made.labels == 0, kind="stable")  # those with defects first
    pile = make_pile(config, made.images[order[:3]], made.masks[order[:3]], made.images[order[3:8]])
    state, _ = train_nbs(config, jax.random.key(0), pile, steps=STEPS, chunk=STEPS)
    good = made.images[order[::-1][:NORMAL]]
    return without_images(config, state), good, np.concatenate([good[:2], made.images[order[8:10]]])


def make(folder: Path, case: Case) -> None:
    """Train, save, and write down what the detector says."""
    detector = SAVED[case.method][1](case.config)
    state, held_out, images = trained(case)
    scores = score_images(detector, state, images, len(images))
    expected = {"images": images, "scores": scores}
    if detector.score_map is not None:
        expected["maps"] = map_images(detector, state, images, len(images))
    if not all(np.isfinite(values).all() for values in expected.values()) or len(np.unique(scores)) < len(scores):
        raise RuntimeError(f"{folder.name} has scores {scores}")
    save_detector(
        folder,
        name=case.method,
        config=case.config,
        state=state,
        image_shape=images.shape[1:],
        threshold=thresholds.false_positive_rate(score_images(detector, state, held_out, NORMAL), THRESHOLD_RATE),
        details={"summary": folder.name, "seed": 0, "map_scale": 0.5},
    )
    np.savez_compressed(folder / "expected.npz", **expected)


def main(output: Path, names: list[str]) -> None:
    """Make the named detectors, or all."""
    if jaxad.__version__ != "0.1.0":
        raise SystemExit(f"this is jaxad {jaxad.__version__}; the files are those of version 0.1.0")
    known = dict(cases())
    for name in names or known:
        make(output / name, known[name])
        print(name, sum(file.stat().st_size for file in (output / name).iterdir()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
