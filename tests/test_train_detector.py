"""Any detector from the command line: a run, a kill and resume, classes for those that need them, nonsense."""

import dataclasses
import importlib
import json
import sys
import types

import jax
import numpy as np
import pytest
from scripts import EXPERIMENTS, call, kill_once, one_line, run, same_weights, start

import jaxad
from jaxad import data
from jaxad.methods import DETECTORS, config_of
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.methods.deep_svdd import DeepSVDDConfig
from jaxad.methods.padim import PaDiMConfig
from jaxad.nn.architecture import Architecture, Layer
from jaxad.runs import one_detector, saving
from jaxad.runs.one_detector import settings_of

sys.path.append(str(EXPERIMENTS))
experiment = importlib.import_module("train_detector")

SCRIPT = "train_detector.py"
TINY = ("--preset", "smoke", "--limit", "150", "--checkpoints", "3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    status, out, err = run(SCRIPT, *TINY, "--detector", "deep_svdd", "--output", folder, cache=cache)
    assert status == 0, err
    assert "auroc" in out
    return folder


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    del content["training"]["seconds"]
    return content


def test_a_run_leaves_everything_a_person_wants(finished):
    content = results(finished)
    assert {"task", "method", "seed", "training", "threshold", "test", "versions"} <= content.keys()
    assert (content["method"], content["chosen_by"]) == ("deep_svdd", "last")
    for metric in ("auroc", "aupr_in", "aupr_out", "fpr95"):
        assert 0 <= content["test"][metric]["low"] <= content["test"][metric]["value"] <= 1
    page = (finished / "report.html").read_text()
    assert "Training" in page
    assert "jaxad train" in page
    loaded = saving.load(finished / "best")
    assert loaded.name == "deep_svdd"
    assert loaded.threshold.value == content["threshold"]["value"]


@pytest.mark.slow
def test_killed_at_a_checkpoint_and_resumed_equals_uninterrupted(finished, tmp_path, cache):
    folder = tmp_path / "killed"
    process = start(SCRIPT, *TINY, "--detector", "deep_svdd", "--output", folder, cache=cache)
    kill_once(process, lambda: (folder / "checkpoint" / "state.safetensors").exists())
    assert not (folder / "results.json").exists()
    status, _, err = run(SCRIPT, "--resume", folder, cache=cache)
    assert status == 0, err
    assert results(folder) == results(finished)
    assert same_weights(folder / "best" / "weights.safetensors", finished / "best" / "weights.safetensors")


@pytest.mark.slow
def test_a_classifier_learns_the_classes_of_normal_images(tmp_path, cache):
    flags = (
        "--detector",
        "classifier",
        "--normal-classes",
        "0",
        "1",
        "2",
        "--steps",
        "3",
        "--output",
        tmp_path / "run",
    )
    status, _, err = run(SCRIPT, *TINY, *flags, cache=cache)
    assert status == 0, err
    assert results(tmp_path / "run")["training"]["steps"] == 3
    status, _, err = run(SCRIPT, *TINY, *flags, "--normal-classes", "0", "--output", tmp_path / "one", cache=cache)
    assert one_line(status, err, "two normal classes")


@pytest.mark.slow
def test_pixels_are_tested_where_there_are_masks(tmp_path, cache):
    from PIL import Image

    rng = np.random.default_rng(0)
    root = tmp_path / "category"
    for part, count in (("train/good", 12), ("test/good", 6), ("test/hole", 6)):
        (root / part).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(100, 140, (16, 16, 3), np.uint8)
            if part == "test/hole":
                image[4:10, 4:10] = 255
            Image.fromarray(image).save(root / part / f"{i}.png")
    mask = np.zeros((16, 16), np.uint8)
    mask[4:10, 4:10] = 255
    (root / "ground_truth/hole").mkdir(parents=True)
    for i in range(6):
        Image.fromarray(mask).save(root / "ground_truth/hole" / f"{i}_mask.png")
    flags = ("--detector", "memory_bank", "--dataset", f"mvtec:{root}", "--batch-size", "4", "--limit", "12")
    status, out, err = run(SCRIPT, *flags, "--output", tmp_path / "run", cache=cache)
    assert status == 0, err
    assert "segmentation" in out
    measured = results(tmp_path / "run")["segmentation"]
    assert {"pixel_auroc", "au_pro", "aupimo", "rpro", "f1", "threshold"} <= measured.keys()
    assert measured["pixel_auroc"]["value"] > 0.9
    assert "Pixels" in (tmp_path / "run" / "report.html").read_text()


def test_known_anomalies_reach_the_training_with_as_many_a_batch_as_the_method_wants(monkeypatch, tmp_path):
    given = {}

    def fit_saved(detector, key, images, **options):
        given.update(options, images=images)
        return types.SimpleNamespace(seconds=1.5)

    monkeypatch.setattr(one_detector, "fit_saved", fit_saved)
    task = experiment.Config(**experiment.PRESETS["smoke"], labelled=4).load()
    folder, options = types.SimpleNamespace(path=tmp_path), {"batch_size": 16, "checkpoints": 1, "quiet": True}
    for name, anomalies, steps in (("devnet", 8, 1000), ("deep_sad", None, 1000), ("agad", 2, 1000)):
        method = settings_of(name, ())
        facts = one_detector.fit_detector(name, method, "a detector", task, folder, jax.random.key(0), **options)[1]
        np.testing.assert_array_equal(given["labels"], task.train.labels)
        assert (given["anomalies_per_batch"], given["steps"]) == (anomalies, steps)
        told = {"labelled_anomalies": 4, "anomalies_per_batch": anomalies, "seconds": 1.5}
        assert facts == {"steps": steps, "batch_size": 16} | told


@pytest.mark.slow
def test_a_few_labels_train_and_are_told(tmp_path):
    preset = experiment.PRESETS["smoke"] | {"steps": 3, "detector": "devnet", "settings": ("widths=[4]",)}
    experiment.run(experiment.Config(**preset, labelled=4, output=str(tmp_path / "run"), quiet=True))
    content = results(tmp_path / "run")
    told = {"steps": 3, "batch_size": 16, "labelled_anomalies": 4, "anomalies_per_batch": 8}
    assert content["training"] == told
    assert "4 labelled anomalies were used to train, and none to choose the state." in content["notes"]
    parts = {row["part"]: row["anomalous"] for row in content["task"]["parts"]}
    assert parts["train"] == 4
    assert parts["valid"] > 0


def test_the_papers_settings_are_those_of_the_paper_preset_unless_others_are_given():
    def method(**fields):
        return experiment.Config(**experiment.PRESETS["paper"] | fields, preset="paper").method()

    assert method(detector="anogan").search_steps == 500
    assert method(detector="deep_svdd").widths == (32, 64, 128)
    assert method(detector="deep_sad", settings=("widths=[8]",)).widths == (8,)
    assert method(detector="anogan", steps=7).steps == 7
    assert experiment.Config(detector="anogan").method().search_steps == 100


@pytest.mark.parametrize("name", [name for name in DETECTORS if getattr(DETECTORS[name].config, "paper", ())])
def test_the_papers_settings_are_settings(name):
    assert settings_of(name, (), preset="paper") != DETECTORS[name].config()


@pytest.mark.parametrize("name", [name for name in DETECTORS if getattr(DETECTORS[name].config, "laptop", ())])
def test_commands_train_networks_of_a_gpu_at_a_size_for_a_laptop(name):
    """Unless they are asked for others, or for those of the paper."""

    def method(*settings, **fields):
        return experiment.Config(detector=name, settings=settings, **fields).method()

    entry = DETECTORS[name]
    small, published, paper = method(), entry.config(), method(preset="paper")
    assert small == config_of(name, entry.config.laptop)
    widths = [field.name for field in dataclasses.fields(published) if field.name in ("width", "widths", "pair_widths")]
    for field in widths:
        full = getattr(published, field)
        assert getattr(small, field) < full <= getattr(paper, field)
        asked = method(f"{field}={list(full) if isinstance(full, tuple) else full}")
        assert asked == dataclasses.replace(small, **{field: full})
    assert widths


def test_all_detectors_can_be_listed(capsys):
    experiment.run(experiment.Config(list=True))
    out = capsys.readouterr().out
    for name in DETECTORS:
        assert name in out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"detector": "magic"}, "no detector 'magic'"),
        ({"detector": "autoencoder"}, "architecture"),
        ({"detector": "unet_segmenter"}, "unet_segmenter learns from masks"),
        (
            {"detector": "devnet"},
            "devnet learns from labelled anomalies, and .* has none .*: give --labelled 10",
        ),
        (
            {"detector": "pca", "labelled": 3},
            "pca cannot use labelled anomalies, .* agad, ama, deep_sad, devnet",
        ),
        ({"detector": "ganomaly", "labelled": 3}, "ganomaly cannot use labelled anomalies"),
        ({"detector": "deep_sad", "labelled": -1}, "--labelled is -1; the least is 0"),
        ({"detector": "deep_sad", "labelled": 500}, "labelled is 500, and validation has .* give 0 to"),
        ({"detector": "deep_sad", "labelled": 2, "tiles": 2}, "--labelled is 2: .*leave out --tiles"),
        ({"detector": "deep_sad", "steps": -5}, "--steps is -5; the least is 1"),
        ({"detector": "conv_autoencoder", "settings": ("widths=[4,4,4,4]",)}, "images are 8x8; 4 levels halve them"),
        ({"settings": ("neighbours",)}, "neighbours"),
        ({"steps": 0}, "--steps is 0"),
        ({"auto_side": 0}, "--auto-side is 0"),
        ({"target_fpr": 2.0}, "--target-fpr is 2"),
    ],
)
def test_nonsense_is_refused_in_one_line_before_anything_is_written(fields, message, tmp_path):
    config = experiment.Config(**experiment.PRESETS["smoke"] | fields, output=str(tmp_path / "run"), quiet=True)
    with pytest.raises(ValueError, match=message) as error:
        experiment.run(config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("detector", "asked", "side"),
    [("padim", None, 224), ("padim", 64, 64), ("pca", None, 64), ("pca", 96, 96), ("ama", None, 32)],
)
def test_photographs_have_the_side_that_the_detector_wants_or_that_is_asked_for(detector, asked, side, monkeypatch):
    monkeypatch.setattr(data.TaskConfig, "load_task", lambda self, seed: self.auto_side)
    assert experiment.Config(detector=detector, auto_side=asked).load() == side


def test_settings_as_text_become_a_config():
    config = config_of("deep_svdd", ["steps=7", "learning_rate=0.5"])
    assert config == DeepSVDDConfig(steps=7, learning_rate=0.5)
    with pytest.raises(ValueError, match="steps"):
        config_of("deep_svdd", ["steps=many"])
    with pytest.raises(ValueError, match="learning_rate is -1"):
        config_of("deep_svdd", ["learning_rate=-1"])
    with pytest.raises(ValueError, match="deep_svdd: steps is given twice, as 7 and as 9"):
        config_of("deep_svdd", ["steps=7", "learning_rate=0.5", "steps=9"])
    assert config_of("classifier", ["widths=[8,16]", "score=odin"]).widths == (8, 16)


def test_settings_within_others_have_dots():
    default = PaDiMConfig(features=FeatureConfig(backbone="random"))
    config = config_of("padim", ["features.backbone=random", "features.use=deep", "features.side=96", "dimensions=5"])
    features = dataclasses.replace(default.features, use="deep", side=96)
    assert config == PaDiMConfig(features=features, dimensions=5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("features.level=deep", "no setting features.level; give one of backbone, use"),
        ("features.use.more=1", "no setting features.use.more; give a whole value"),
        ("dimensions.more=1", "no setting dimensions.more; give a whole value"),
        ("features.use=most", "features.use is 'most'"),
        ("feature.use=deep", "no setting 'feature.use=deep'"),
    ],
)
def test_a_setting_that_is_not_there_is_named(setting, message):
    with pytest.raises(ValueError, match=message):
        config_of("padim", [setting])


def test_what_a_search_has_found_is_trained_anew(tmp_path):
    """The architecture and settings of another folder, on other images; settings that are given here go before."""
    layer = Layer(channels=4, kernel=3, pool="max", pool_kernel=3, norm="batch", activation="relu")
    architecture = Architecture(hypothesis="reconstruction", distance="l1", layers=(layer,))
    config = AutoencoderConfig(architecture=architecture, steps=3)
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 9, 3), np.uint8)
    state = autoencoder(config).init(jax.random.key(0), images / np.float32(255))
    jaxad.save(tmp_path / "found" / "best_child", config, state, image_shape=(9, 9, 3))
    flags = ("--architecture", tmp_path / "found", "--dataset", "digits", "--limit", "100", "--batch-size", "16")
    status, _, err = call(experiment.run, *flags, "--settings", "steps=4", "--output", tmp_path / "anew")
    assert status == 0, err
    loaded = jaxad.load(tmp_path / "anew")
    assert loaded.config == dataclasses.replace(config, steps=4)
    assert (loaded.image_shape, results(tmp_path / "anew")["method"]) == ((8, 8, 1), "autoencoder")


def test_what_has_no_architecture_is_refused(finished, tmp_path):
    for flags, message in {
        ("--architecture", finished): "holds a deep_svdd, which has no architecture",
        ("--architecture", tmp_path / "nothing"): "holds no detector",
        ("--architecture", finished, "--detector", "pca"): "--detector is pca, and --architecture",
    }.items():
        status, _, err = call(experiment.run, *flags, "--output", tmp_path / "out")
        assert one_line(status, err, message)
        assert not (tmp_path / "out").exists()
