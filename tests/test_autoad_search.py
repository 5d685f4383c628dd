"""The main experiment as a user meets it: a process with flags, killed and resumed, fed nonsense."""

import importlib
import json
import random
import sys

import numpy as np
import pytest
import scripts

sys.path.append(str(scripts.EXPERIMENTS))
experiment = importlib.import_module("autoad_search")

TINY = (  # its children share nearly all of their programs, as those of `spaces.FEW`
    *(
        "--hypotheses",
        "centroid",
        "reconstruction",
        "--distances",
        "l1",
        "l2",
        "--channels",
        "4",
        "--kernels",
        "1",
        "3",
    ),
    *("--pools", "max", "--pool-kernels", "1", "--norms", "none", "--activations", "relu", "linear"),
    *("--dataset", "digits", "--limit", "150", "--anomaly-ratio", "0.2", "--num-layers", "1", "--children", "6"),
    *("--population", "2", "--steps", "2", "--batch-size", "16", "--retrain-top", "1", "--retrain-steps", "4"),
)
VOLATILE = ("seconds", "elapsed")


def start(*flags, cache):
    return scripts.start("autoad_search.py", *flags, cache=cache)


def run(*flags, cache):
    return scripts.run("autoad_search.py", *flags, cache=cache)


def ended(*flags):
    """What `run` returns, without a process of its own: for what ends before anything is compiled."""
    return scripts.call(experiment.run, *flags)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    status, out, err = run(*TINY, "--output", folder, cache=cache)
    assert status == 0, err
    assert "auroc" in out
    return folder


def trials(folder):
    lines = (folder / "trials.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in VOLATILE} for line in lines]


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    return {k: content[k] for k in ("task", "strategy", "seed", "best", "retrain", "threshold", "test")}


def assert_same_run(one, other):
    assert trials(one) == trials(other)
    assert results(one) == results(other)
    names = sorted(path.name for path in (one / "checkpoint").glob("*.safetensors"))
    assert names == sorted(path.name for path in (other / "checkpoint").glob("*.safetensors"))
    for part in ("best/weights.safetensors", *(f"checkpoint/{name}" for name in names)):
        assert scripts.same_weights(one / part, other / part), part


def test_a_run_leaves_everything_a_person_wants(finished):
    content = json.loads((finished / "results.json").read_text())
    assert {"task", "strategy", "seed", "search", "best", "test", "versions", "device"} <= content.keys()
    facts = {"children", "unique_children", "failed_children", "compiles", "seconds", "children_per_minute"}
    assert facts | {"best_valid"} <= content["search"].keys()
    assert content["search"]["children"] == content["search"]["unique_children"] == 6
    for metric in ("auroc", "aupr_in", "aupr_out", "fpr95"):
        measured = content["test"][metric]
        assert 0 <= measured["low"] <= measured["value"] <= measured["high"] <= 1
    assert {"detector.json", "weights.safetensors"} <= {path.name for path in (finished / "best").iterdir()}
    assert "<html" in (finished / "report.html").read_text()
    assert len((finished / "predictions.csv").read_text().splitlines()) > 60


def test_the_tested_detector_is_the_best_on_validation(finished):
    content = json.loads((finished / "results.json").read_text())
    usable = [trial for trial in trials(finished) if trial["status"] == "ok"]
    assert content["best"]["tokens"] == max(usable, key=lambda trial: trial["reward"])["tokens"]


def killed_and_resumed(folder, cache, moments, flags=TINY):
    """Start a run, kill it after each of the moments (seconds), and let the last session finish."""
    scripts.killed_and_resumed("autoad_search.py", flags, folder, moments, cache=cache)


@pytest.mark.slow  # test_search_function.py kills a search within its process
def test_killed_once_and_resumed_equals_uninterrupted(finished, tmp_path, cache):
    # The kill comes when the first population is on disk, wherever the next one is by then.
    folder = tmp_path / "killed"
    process = start(*TINY, "--output", folder, cache=cache)
    scripts.kill_once(process, lambda: list((folder / "checkpoint").glob("step-*")))
    assert not (folder / "results.json").exists()
    status, _, err = run("--resume", folder, cache=cache)
    assert status == 0, err
    assert_same_run(finished, folder)


@pytest.mark.slow
def test_the_controller_resumes_bit_for_bit(tmp_path, cache):
    """Posterior, optimisers, baseline, buffer, normaliser and keys: what the second half proposes rests on all."""
    flags = (*TINY, "--strategy", "autoad", "--controller.keep", "1", "--controller.learning-rate", "0.05")
    status, _, err = run(*flags, "--output", tmp_path / "whole", cache=cache)
    assert status == 0, err
    killed_and_resumed(tmp_path / "killed", cache, [], flags)
    folder = tmp_path / "half"
    process = start(*flags, "--output", folder, cache=cache)
    scripts.kill_once(process, lambda: list((folder / "checkpoint").glob("step-*")))
    assert run("--resume", folder, cache=cache)[0] == 0
    assert_same_run(tmp_path / "whole", folder)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    log = [json.loads(line) for line in (folder / "controller.jsonl").read_text().splitlines()]
    assert {record["num_evaluated"] for record in log} == {2, 4, 6}
    assert "Controller" in (folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_random_moments_and_resumed_equals_uninterrupted(finished, tmp_path, cache, seed):
    moments = random.Random(seed)
    killed_and_resumed(tmp_path / "killed", cache, [moments.uniform(1, 25) for _ in range(3)])
    assert_same_run(finished, tmp_path / "killed")


PAINTED = (
    *("--dataset", "painted:brick:16", "--limit", "64", "--reward", "pixel_auroc", "--num-layers", "1"),
    *("--children", "4", "--population", "2", "--steps", "2", "--batch-size", "16", "--retrain-top", "1"),
    *("--retrain-steps", "4", "--strategy", "random"),
)


@pytest.mark.slow
def test_pixels_can_be_what_is_searched_for(tmp_path, cache):
    """Killed once, like any other search; the report shows masks, maps and what they flag."""
    folder = tmp_path / "killed"
    process = start(*PAINTED, "--output", folder, cache=cache)
    scripts.kill_once(process, lambda: list((folder / "checkpoint").glob("step-*")))
    status, out, err = run("--resume", folder, cache=cache)
    assert status == 0, err
    assert "pixel_auroc" in out
    content = json.loads((folder / "results.json").read_text())
    assert {"pixel_auroc", "au_pro", "rpro", "f1", "threshold"} <= content["segmentation"].keys()
    assert content["retrain"]["valid"] == max(content["retrain"]["candidates"][0]["valid"])
    assert "masks of validation anomalies" in content["notes"][0]
    page = (folder / "report.html").read_text()
    for words in ("Pixel AUROC", "RPRO", "flagged", "validation Pixel AUROC"):
        assert words in page


def test_resuming_a_finished_run_changes_nothing(finished):
    before = (finished / "results.json").read_bytes()
    status, out, _ = ended("--resume", finished)
    assert status == 0
    assert "finished" in out
    assert (finished / "results.json").read_bytes() == before


def bad_images(folder, value):
    images = np.full((40, 8, 8, 1), 0.5, np.float32)
    images[3, 2, 2, 0] = value
    np.savez(folder / "bad.npz", images=images, labels=np.arange(40) % 2)
    return f"npz:{folder / 'bad.npz'}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset", "digits", "--anomaly-ratio", "0"), "anomal"),
        (("--dataset", "digits", "--children", "0"), "--children is 0"),
        (("--dataset", "digits", "--learning-rate", "-1"), "learning_rate is -1"),
        (("--dataset", "digits", "--output", "/proc/nowhere"), "/proc/nowhere"),
        (("--dataset", "digits", "--reward", "rpro"), "--reward rpro needs masks"),
        (("--resume", "/no/such/run"), "/no/such/run"),
        (("--dataset", "fashion_mnist", "--ood", "fashion_mnist"), "fashion_mnist"),
        (("--dataset", "digits", "--normal-classes", "eleven"), "eleven"),
    ],
)
def test_nonsense_ends_at_once_in_one_line(flags, message, tmp_path):
    flags = flags if "--resume" in flags or "--output" in flags else (*flags, "--output", tmp_path / "run")
    status, _, err = ended(*flags)
    assert scripts.one_line(status, err, message)
    assert not (tmp_path / "run").exists()


def test_the_process_ends_so_too(cache, tmp_path):
    status, _, err = run("--dataset", "no_such_set", "--output", tmp_path / "run", cache=cache)
    assert scripts.one_line(status, err, "no_such_set")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "nan"), (7.0, "7")])
def test_bad_pixels_end_at_once_in_one_line(value, word, tmp_path):
    flags = ("--dataset", bad_images(tmp_path, value), "--normal-classes", "0", "--output", tmp_path / "run")
    status, _, err = ended(*flags)
    assert status == 2
    assert word in err.lower()
    assert len(err.strip().splitlines()) == 1


def test_resume_refuses_changed_settings_and_foreign_checkpoints(finished, tmp_path, cache):
    before = trials(finished)
    status, _, err = ended("--resume", finished, "--steps", "9")
    assert status == 2
    assert "steps" in err
    assert trials(finished) == before
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "trials.jsonl"):
        (copy / name).write_bytes((finished / name).read_bytes())
    (copy / "checkpoint").mkdir()
    (copy / "checkpoint" / "step-00000002.safetensors").write_bytes(b"not a checkpoint at all")
    (copy / "checkpoint" / "step-00000004.safetensors").write_bytes(b"")
    status, _, err = run("--resume", copy, cache=cache)
    assert status == 2
    assert "no checkpoint" in err
    assert len(err.strip().splitlines()) == 1
    assert trials(copy) == before


@pytest.mark.slow
def test_time_budget_still_retrains_and_reports(tmp_path, cache):
    status, _, err = run(
        *TINY, "--strategy", "random", "--time-budget", "0.5", "--output", tmp_path / "run", cache=cache
    )
    assert status == 0, err
    content = json.loads((tmp_path / "run" / "results.json").read_text())
    assert content["search"]["children"] == 1
    assert content["search"]["stopped"] == "time budget"
