"""Weights that version 0.1.0 saved, under the names that they have now.

Networks have become Flax modules since, whose variables have other names and, in places, another layout. A method's
function is given what its file holds, {path: array}, and returns what its state holds now; methods whose states have
not changed have none.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

FORMAT = "jaxad-detector-2"  # of detector.json, as 0.1.0 wrote it
Arrays = dict[str, Any]  # {"params/dense/kernel": array, ...}


def converted(method: str, arrays: Arrays) -> Arrays:
    """What a detector of this method, saved by 0.1.0, would be saved as now."""
    arrays = METHODS.get(method, lambda unchanged: unchanged)(arrays)
    return converted_from_2(method, arrays)


def converted_from_2(method: str, arrays: Arrays) -> Arrays:
    """What a detector of this method, saved by 0.2.0, would be saved as now; what is saved now stays as it is."""
    return SINCE_2.get(method, lambda unchanged: unchanged)(arrays)


def described_as_now(config: Any) -> Any:
    """The settings of a saved detector, with what had no setting before: features were standardised by channel."""
    if isinstance(config, dict) and isinstance(config.get("features"), dict):
        return config | {"features": {"standardise": "channel"} | config["features"]}
    return config


def with_robust_moments(arrays: Arrays) -> Arrays:
    """AMA's location and scale of R by medians, which were not saved: they are those by means, which its score uses."""
    known = {"r_median": "r_mean", "r_spread": "r_sd"}
    return {new: arrays[old] for new, old in known.items() if old in arrays} | arrays


# ---- methods ---------------------------------------------------------------------------------------------------


def ama(arrays: Arrays) -> Arrays:
    """The adversarial mirrored autoencoder: blocks have names, statistics lie by network and layer."""
    last = max(int(name.split("/")[2]) for name in arrays if name.startswith("moments/generator/"))
    generator = {
        f"moments/generator/{2 * block + place}/{old}": rf"statistics/generator/block{block}/norm{place + 1}/{new}"
        for block in range(last // 2)
        for place in (0, 1)
        for old, new in (("mean", "mean"), ("variance", "var"))
    }
    rules = {
        r"encoder/blocks/(\d+)/kernel": r"encoder/conv\1/kernel",
        r"encoder/blocks/(\d+)/norm/scale": r"encoder/norm\1/scale",
        r"encoder/blocks/(\d+)/norm/offset": r"encoder/norm\1/bias",
        r"generator/norm/offset": r"generator/norm/bias",
        r"generator/blocks/(\d+)/(norm\d)/offset": r"generator/block\1/\2/bias",
        r"(generator|critic)/blocks/(\d+)/(.*)": r"\1/block\2/\3",
        r"moments/encoder/(\d+)/mean": r"statistics/encoder/norm\1/mean",
        r"moments/encoder/(\d+)/variance": r"statistics/encoder/norm\1/var",
        **generator,
        r"moments/generator/\d+/mean": r"statistics/generator/norm/mean",
        r"moments/generator/\d+/variance": r"statistics/generator/norm/var",
    }
    return renamed(arrays, rules)


def nbs(arrays: Arrays) -> Arrays:
    """Neural batch sampling: layers have the names of the thesis's tables, from 1; snapshots have a leading axis."""
    rules = {
        r"best/sampler/(dense\d/\w+)": r"best/sampler/params/\1",
        r"best/predictor/last/(\w+)": r"best/predictor/params/conv5/\1",
        r"best/snapshots/code/(\w+)": r"best/snapshots/params/conv8/\1",
        r"best/snapshots/last/(\w+)": r"best/snapshots/params/deconv8/\1",
    }

    def add_layer(old: str, new: str) -> None:
        rules[rf"{old}/(kernel|bias)"] = rf"{new}/\1"
        rules[f"{old}/scale"], rules[f"{old}/offset"] = f"{new}_norm/scale", f"{new}_norm/bias"

    for index in range(7):
        add_layer(f"best/sampler/convs/{index}", f"best/sampler/params/conv{index + 1}")
        add_layer(f"best/predictor/convs/{index}", f"best/predictor/params/conv{index + 1}")
        add_layer(f"best/snapshots/encoder/{index}", f"best/snapshots/params/conv{index + 1}")
        add_layer(f"best/snapshots/decoder/{index}", f"best/snapshots/params/deconv{index + 2}")
        for old, new in (("mean", "mean"), ("variance", "var")):
            rules[f"best/moments/{index}/{old}"] = f"best/predictor/batch_stats/conv{index + 1}_norm/{new}"
    add_layer("best/snapshots/spread", "best/snapshots/params/deconv1")
    arrays = renamed(arrays, rules)
    for name, array in arrays.items():
        if re.fullmatch(r"best/snapshots/params/deconv\d/kernel", name):
            if name.endswith("deconv1/kernel"):  # [L, S, S, code, C], now a matrix
                arrays[name] = array.transpose(0, 3, 1, 2, 4).reshape(len(array), array.shape[3], -1)
            elif array.shape[1] == 4:
                arrays[name] = array[:, ::-1, ::-1]
    return arrays


def anogan(arrays: Arrays) -> Arrays:
    """A generator that is a decoder, and a discriminator that is an encoder."""
    return renamed(
        arrays,
        convnet("generator/", "generator/params/decoder/", bias="BatchNorm_0")
        | convnet_statistics("generator/batch_stats/decoder/")
        | convnet("discriminator/", "discriminator/params/"),
    )


def autoencoder(arrays: Arrays) -> Arrays:
    """A child of the search, of which only the density hypothesis has a network."""
    return renamed(arrays, estimation_network("params/hypothesis/"))


def normalised_encoder(arrays: Arrays) -> Arrays:
    """An encoder with batch normalisation."""
    rules = convnet("params/", "variables/params/", bias="BatchNorm_0")
    return renamed(arrays, rules | convnet_statistics("variables/batch_stats/"))


def conv_autoencoder(arrays: Arrays) -> Arrays:
    """An encoder and a decoder."""
    parts = ("params/encoder/", "params/decoder/")
    return renamed(arrays, convnet(parts[0], parts[0]) | convnet(parts[1], parts[1]))


def dagmm(arrays: Arrays) -> Arrays:
    """An autoencoder and an estimation network."""
    parts = ("params/autoencoder/encoder/", "params/autoencoder/decoder/")
    rules = convnet(parts[0], parts[0]) | convnet(parts[1], parts[1])
    return renamed(arrays, rules | estimation_network("params/density/"))


def patch_features(arrays: Arrays) -> Arrays:
    """Random convolutions, or EfficientNet-lite0, before what is fitted to features."""
    rules = {
        r"network/(\d+)": r"network/Conv_\1/kernel",
        r"network/stem/offset": r"network/stem/bias",
        r"network/blocks/(\d+)/(\w+)/kernel": r"network/block_\1/\2/kernel",
        r"network/blocks/(\d+)/(\w+)/offset": r"network/block_\1/\2/bias",
    }
    return renamed(arrays, rules)


def staged(arrays: Arrays) -> Arrays:
    """What is fitted to features lies within `inner`, but for how they are standardised; of 0.2.0, too."""
    rules = {r"fitted/(centre|scale)": r"\1", r"(bank|seed|buffer|fitted/\w+)": r"inner/\1"}
    return renamed(arrays, rules)


def nearest_neighbours(arrays: Arrays) -> Arrays:
    """Rows as they were, which have become an index; of 0.2.0, too."""
    return indexed(arrays, "fitted/", "fitted/")


def local_outlier_factor(arrays: Arrays) -> Arrays:
    """The same, within what else is fitted; of 0.2.0, too."""
    return indexed(arrays, "fitted/", "fitted/index/")


def indexed(arrays: Arrays, old: str, new: str) -> Arrays:
    """The first `count` of some rows as the index that is now made of them when they are stored."""
    if f"{new}sizes" in arrays:
        return arrays
    from jaxad.methods.common.nearest import index_on_host  # only here: a command that starts has no use for it

    rest = dict(arrays)
    rows, count = np.asarray(rest.pop(f"{old}rows")), int(rest.pop(f"{old}count"))
    return rest | with_prefix(new, index_on_host(rows[:count], len(rows))._asdict())


def agad(arrays: Arrays) -> Arrays:
    """Generator with its second encoder and auxiliary normalisations, discriminator."""
    net = within(arrays, "generator/net/")
    net = unet(net) if within(net, "nodes/") else ganomaly_autoencoder(net)
    second = within(arrays, "generator/encoder/")
    discriminator = with_prefix("encoder/", ganomaly_encoder(within(arrays, "discriminator/encoder/")))
    discriminator["logit/kernel"] = arrays["discriminator/logit/kernel"]
    networks = {
        "generator": ("net", "generator", net),
        "encoder": ("encoder", "generator", ganomaly_encoder(second) if second else {}),
        "discriminator": (None, "discriminator", discriminator),
    }
    new = {"step": arrays["step"]}
    for name, (part, owner, params) in networks.items():
        tail = f"{part}/" if part else ""
        new |= with_prefix(f"{owner}/params/{tail}", params)
        new |= with_prefix(f"{owner}/batch_stats/{tail}", by_norm(within(arrays, f"running/{name}/"), params))
    new |= with_prefix("generator/params/auxiliary/", by_norm(within(arrays, "generator/auxiliary/"), net))
    return new | with_prefix("generator/batch_stats/auxiliary/", by_norm(within(arrays, "running/auxiliary/"), net))


def unet_segmenter(arrays: Arrays) -> Arrays:
    """A U-Net."""
    params = unet(within(arrays, "params/"))
    statistics = by_norm(within(arrays, "running/"), params)
    return with_prefix("variables/params/", params) | with_prefix("variables/batch_stats/", statistics)


METHODS: dict[str, Callable[[Arrays], Arrays]] = {
    "agad": agad,
    "ama": ama,
    "anogan": anogan,
    "autoencoder": autoencoder,
    "classifier": normalised_encoder,
    "conv_autoencoder": conv_autoencoder,
    "dagmm": dagmm,
    "deep_svdd": normalised_encoder,
    "feature_dictionary": patch_features,
    "memory_bank": patch_features,
    "nbs": nbs,
    "unet_segmenter": unet_segmenter,
}

SINCE_2: dict[str, Callable[[Arrays], Arrays]] = {
    "ama": with_robust_moments,
    "feature_dictionary": staged,
    "local_outlier_factor": local_outlier_factor,
    "memory_bank": staged,
    "nearest_neighbours": nearest_neighbours,
}
"""What has changed since 0.2.0; each leaves what is saved now as it is."""


# ---- rules -----------------------------------------------------------------------------------------------------


def convnet(old: str, new: str, *, bias: str = "Conv_0") -> dict[str, str]:
    """Rules for an encoder or a decoder of `nn.convnet`; a block's bias is its convolution's or its normalisation's."""
    return {
        rf"{old}blocks/(\d+)/kernel": rf"{new}ConvBlock_\1/Conv_0/kernel",
        rf"{old}blocks/(\d+)/offset": rf"{new}ConvBlock_\1/{bias}/bias",
        rf"{old}dense/kernel": rf"{new}Dense_0/kernel",
        rf"{old}dense/offset": rf"{new}Dense_0/bias",
        rf"{old}last/kernel": rf"{new}Conv_0/kernel",
        rf"{old}last/offset": rf"{new}Conv_0/bias",
    }


def convnet_statistics(new: str) -> dict[str, str]:
    """Rules for the statistics of such a network."""
    return {
        rf"moments/(\d+)/{old_name}": rf"{new}ConvBlock_\1/BatchNorm_0/{name}"
        for old_name, name in (("mean", "mean"), ("variance", "var"))
    }


def estimation_network(place: str) -> dict[str, str]:
    """Rules for the network of `nn.objectives.density`."""
    return {rf"{place}(hidden|output)_(kernel|bias)": rf"{place}\1/\2"}


# ---- networks: their params, normalisations in the order in which they are computed ----------------------------


def ganomaly_autoencoder(old: Arrays) -> Arrays:
    """GANomaly's. Kernels of transposed convolutions are stored turned by 180 degrees."""
    coder, decoder = within(old, "encoder/"), within(old, "decoder/")
    dense = decoder["dense/kernel"]
    new = {"dense/kernel": dense.reshape(-1, dense.shape[-1]).T} | affine(decoder, "norm")
    for name, array in ganomaly_blocks(decoder).items():
        new[name] = turned(array) if name.endswith("kernel") else array
    return with_prefix("encoder/", ganomaly_encoder(coder)) | with_prefix("decoder/", new)


def ganomaly_encoder(old: Arrays) -> Arrays:
    """GANomaly's."""
    return ganomaly_blocks(old) | {"codes/kernel": old["dense/kernel"]}


def ganomaly_blocks(old: Arrays) -> Arrays:
    """GANomaly's convolutions, each with its normalisation."""
    new: Arrays = {}
    for index in range(sum(name.endswith("/kernel") for name in within(old, "blocks/"))):
        block = within(old, f"blocks/{index}/")
        new |= {f"conv{index}/kernel": block["kernel"]} | affine(block, f"norm{index}")
    return new


def unet(old: Arrays) -> Arrays:
    """U-Net or UNet++: column by column, each from the first level on."""
    new: Arrays = {}
    nodes = {tuple(map(int, name.split("/")[0].split(","))) for name in within(old, "nodes/")}
    for level, column in sorted(nodes, key=lambda node: node[::-1]):
        node = within(old, f"nodes/{level},{column}/")
        if column:
            new[f"node_{level}_{column}/up/kernel"] = turned(node["up/kernel"])
            new[f"node_{level}_{column}/up/bias"] = node["up/bias"]
        for index in range(2):
            layer = within(node, f"convs/{index}/")
            weights = {f"conv{index}/{name}": layer[name] for name in ("kernel", "bias") if name in layer}
            new |= with_prefix(f"node_{level}_{column}/", weights | affine(layer, f"norm{index}"))
    return new | with_prefix("out/", within(old, "out/"))


def affine(old: Arrays, name: str) -> Arrays:
    """The affine part of a normalisation, if there is one."""
    return {f"{name}/scale": old["norm/scale"], f"{name}/bias": old["norm/offset"]} if "norm/scale" in old else {}


def turned(kernel: Any) -> Any:
    """As flax stores that of a transposed convolution: by 180 degrees."""
    return kernel[::-1, ::-1]


# ---- names -----------------------------------------------------------------------------------------------------


def by_norm(numbered: Arrays, params: Arrays) -> Arrays:
    """What was numbered by normalisations, under their names in the params that it belongs to."""
    norms = [name.removesuffix("/scale") for name in params if name.endswith("/scale")]
    leaves = {"mean": "mean", "variance": "var", "scale": "scale", "offset": "bias"}
    new: Arrays = {}
    for name, array in numbered.items():
        index, leaf = name.split("/")
        new[f"{norms[int(index)]}/{leaves[leaf]}"] = array
    return new


def renamed(arrays: Arrays, rules: Mapping[str, str]) -> Arrays:
    """Arrays under new names: of the rules (regular expression of a whole name: replacement) the first that fits."""

    def new(name: str) -> str:
        for pattern, replacement in rules.items():
            if match := re.fullmatch(pattern, name):
                return match.expand(replacement)
        return name

    return {new(name): array for name, array in arrays.items()}


def within(arrays: Arrays, prefix: str) -> Arrays:
    """Those whose names begin so, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def with_prefix(prefix: str, arrays: Arrays) -> Arrays:
    """All of them, with it."""
    return {prefix + name: array for name, array in arrays.items()}
