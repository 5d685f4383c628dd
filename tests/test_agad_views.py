"""AGAD's variants of batch normalisation, statistics by hand, and what a trained state sees and scores."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agads import GANOMALY, IMAGES, LABELS, SKIP, SMALL, leaves_close, started, stepped, trained

from jaxad.methods.agad import AGADConfig, agad, auroc_by_batches, learns_from, make_inference, variant
from jaxad.methods.agad.dcgan import Autoencoder, Discriminator, Encoder
from jaxad.metrics import image as metrics
from jaxad.nn.network import make_network, replaced
from jaxad.types import Batch

# ---- batch normalisation (Table 5) -----------------------------------------------------------------------------


NET, ENCODER, DISCRIMINATOR = (
    make_network(module(latent_dim=SMALL.latent_dim, multiplier=SMALL.width, momentum=0.0))
    for module in (Autoencoder, Encoder, Discriminator)
)


def part(generator, name="net", affine=None):
    """Variables of a network, with other affine parts if these are given."""
    variables = {kind: parts[name] for kind, parts in generator.items()}
    return variables | {"params": replaced(variables["params"], affine or {})}


@jax.jit
def passed(generator, images, affine=None):
    """Reconstructions and the statistics of the batch; momentum is 0."""
    made, variables = NET.apply(part(generator, affine=affine), images, train=True)
    return made.images, variables["batch_stats"]


def moved(old, new):
    return jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, new)


@pytest.mark.slow
def test_shared_averages_see_inputs_or_both_passes_over_two_batches():
    x = 2 * IMAGES - 1
    for config in (SMALL, dataclasses.replace(SMALL, running_from="both")):
        state = started(config)
        expected = state.generator["batch_stats"]["net"]
        for _ in range(2):
            rebuilt, seen = passed(state.generator, x)
            expected = moved(expected, seen)
            if config.running_from == "both":
                expected = moved(expected, passed(state.generator, rebuilt)[1])
            state, _ = stepped(config, state)
            leaves_close(state.generator["batch_stats"], {"net": expected}, rtol=1e-3, atol=1e-6)


def test_auxiliary_averages_see_reconstructions_alone():
    config = dataclasses.replace(SMALL, auxiliary_norm=True)
    state, x = started(config), 2 * IMAGES - 1
    before, after = state.generator["batch_stats"], stepped(config, state)[0].generator["batch_stats"]
    rebuilt, seen = passed(state.generator, x)
    leaves_close(after["net"], moved(before["net"], seen), rtol=1e-3, atol=1e-6)
    affine = state.generator["params"]["auxiliary"]
    assert not np.allclose(
        affine["decoder"]["norm"]["scale"], part(state.generator)["params"]["decoder"]["norm"]["scale"]
    )
    _, seen = passed(state.generator, rebuilt, affine)
    leaves_close(after["auxiliary"], moved(before["auxiliary"], seen), rtol=1e-3, atol=1e-6)


def test_frozen_normalisation_keeps_anomalies_out_of_all_averages():
    """They follow the normal images alone; without freezing they follow all."""
    config = dataclasses.replace(SMALL, frozen_norm=True)
    state = started(config)
    before, after = state.generator["batch_stats"], stepped(config, state)[0].generator["batch_stats"]
    _, alone = passed(state.generator, (2 * IMAGES - 1)[np.flatnonzero(LABELS == 0)])
    leaves_close(after["net"], moved(before["net"], alone), rtol=1e-3, atol=1e-6)
    shared, _ = stepped(SMALL, state)
    _, together = passed(state.generator, 2 * IMAGES - 1)
    leaves_close(shared.generator["batch_stats"]["net"], moved(before["net"], together), rtol=1e-3, atol=1e-6)
    assert state.discriminator["batch_stats"] == {}  # at 8x8 the discriminator has no normalisation


def test_frozen_normalisation_needs_labels():
    config = dataclasses.replace(SMALL, frozen_norm=True)
    with pytest.raises(ValueError, match="there are no labels: give them"):
        jax.eval_shape(agad(config).step, jax.random.key(0), started(config), Batch(IMAGES))


def test_all_four_rows_of_table_5_can_be_trained():
    for auxiliary in (False, True):
        config = dataclasses.replace(SMALL, auxiliary_norm=auxiliary, frozen_norm=True)
        after, info = stepped(config, started(config))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, info)))


# ---- scores ----------------------------------------------------------------------------------------------------


def test_the_score_is_the_distance_to_the_reconstruction_and_the_map_its_pixels():
    state, view = trained(SMALL), make_inference(SMALL)
    rebuilt, score, maps, again = jax.jit(
        lambda s: (view.reconstruct(s, IMAGES), view.score(s, IMAGES), view.score_map(s, IMAGES),
                   view.reconstruct_again(s, IMAGES))
    )(state)  # fmt: skip
    expected = np.linalg.norm((np.asarray(IMAGES) - rebuilt).reshape(10, -1), axis=1)
    np.testing.assert_allclose(score, expected, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(maps).reshape(10, -1), axis=1), expected, rtol=1e-4)
    np.testing.assert_allclose(again, jax.jit(view.reconstruct)(state, rebuilt), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [pytest.param(GANOMALY, id="ganomaly"), pytest.param(SKIP, id="skip-ganomaly", marks=pytest.mark.slow)],
)
def test_scores_of_the_forerunners(config):
    state, view = trained(config), make_inference(config)
    x = 2 * IMAGES - 1

    def plain(state):
        rebuilt = 2 * view.reconstruct(state, IMAGES) - 1
        if config.second_encoder:
            codes = NET.apply(part(state.generator), x).codes
            other, _ = ENCODER.apply(part(state.generator, "encoder"), rebuilt)
            return jnp.mean((codes - other) ** 2, 1)
        latent = [DISCRIMINATOR.apply(state.discriminator, images).latent for images in (x, rebuilt)]
        return 0.9 * jnp.mean((x - rebuilt) ** 2, (1, 2, 3)) + 0.1 * jnp.mean((latent[0] - latent[1]) ** 2, 1)

    np.testing.assert_allclose(jax.jit(view.score)(state, IMAGES), jax.jit(plain)(state), rtol=1e-4)
    assert (agad(config).score_map is None) == (config.score == "latent")


@pytest.mark.slow
def test_the_batch_score_is_a_diagnostic_that_depends_on_the_batch():
    # Weights so large that reconstructions differ, as they do after a long training.
    state, view = trained(SMALL), make_inference(SMALL)
    params = jax.tree.map(lambda leaf: 4 * leaf, state.generator["params"])
    state = state._replace(generator=state.generator | {"params": params})
    whole, part = (jax.jit(view.batch_score)(state, images) for images in (IMAGES, IMAGES[:4]))
    assert not np.allclose(whole[:4], part, rtol=1e-3)
    frozen, alone = (jax.jit(view.score)(state, images) for images in (IMAGES, IMAGES[:4]))
    np.testing.assert_allclose(frozen[:4], alone, rtol=1e-4)
    score = jax.jit(view.batch_score)
    told = auroc_by_batches(SMALL, state, np.asarray(IMAGES), np.asarray(LABELS), batch_size=5, seed=3)
    for name, order in (
        ("batches, shuffled", np.random.default_rng(3).permutation(10)),
        ("batches, normal first", np.argsort(LABELS, kind="stable")),
    ):
        scores = np.concatenate([score(state, IMAGES[order[i : i + 5]]) for i in (0, 5)])
        assert told[name] == pytest.approx(float(metrics.auroc(scores, LABELS[order])), abs=1e-6)


# ---- variants --------------------------------------------------------------------------------------------------


def test_a_variant_changes_one_thing_and_a_forerunner_keeps_the_sizes():
    assert variant(SMALL, "no-adcon") == dataclasses.replace(SMALL, pseudo_weight=0.0)
    found = variant(SMALL, "ganomaly")
    assert (found.width, found.latent_dim, found.score, found.second_encoder) == (0.1, 6, "latent", True)
    with pytest.raises(ValueError, match=r"there is no variant 'agad' of AGAD; choose from no-adcon, .*skip-ganomaly"):
        variant(SMALL, "agad")


def test_variants_without_meaning_are_left_out():
    config = AGADConfig(frozen_norm=True)
    assert [learns_from(config, "freezebn", gamma) for gamma in (0.0, 0.05, "all")] == [False, True, True]
    ganomaly = variant(SMALL, "ganomaly")
    assert [learns_from(ganomaly, "ganomaly", gamma) for gamma in (0.0, 0.05, "all")] == [True, False, False]
