"""`jaxad.search`: from a task to a tested detector, in memory or in a folder that a killed search goes on in."""

import dataclasses
import json
from concurrent import futures

import jax
import numpy as np
import pytest
from scripts import run_example

import jaxad
from jaxad.nas.loop import Costs
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import AutoADConfig
from jaxad.runs import cli
from jaxad.runs import search as runs_search
from jaxad.runs.exploration import Explored
from jaxad.runs.folder import create_run
from jaxad.runs.search import SearchConfig
from spaces import FEW

TASK = jaxad.load_task("digits", normal_classes=["0"], anomaly_ratio=0.3, limit=120)
TINY = FEW | {
    "strategy": "autoad", "num_layers": 1, "children": 3, "population": 1, "steps": 2, "retrain_steps": 4,
    "rivals": ("pca",), "quiet": True,
}  # fmt: skip


def search(task=TASK, **options):
    return jaxad.search(task, **TINY | options)


@pytest.fixture(scope="module")
def told():
    """What the callbacks were told."""
    return {"trials": [], "steps": []}


@pytest.fixture(scope="module")
def derived():
    """Keys that were derived on the host, by the name of the function."""
    return {"split": set(), "fold_in": set()}


def noting(name, derived):
    """A function of `jax.random` that notes the keys it gives."""
    original = getattr(jax.random, name)

    def noted(*arguments):
        keys = original(*arguments)
        if not isinstance(keys, jax.core.Tracer):
            data = np.asarray(jax.random.key_data(jax.random.clone(keys)))
            derived[name].update(map(tuple, data.reshape(-1, 2).tolist()))
        return keys

    return noted


@pytest.fixture(scope="module")
def found(told, derived, tmp_path_factory):
    """A search that writes nothing, begun in an empty folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        for name in derived:
            patch.setattr(jax.random, name, noting(name, derived))
        return search(on_trial=told["trials"].append, on_retrain=told["steps"].append)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The same search in a folder, killed in the search and in the retraining."""
    folder = tmp_path_factory.mktemp("runs") / "killed"

    def kill(trial):
        if trial.trial == 1:
            raise KeyboardInterrupt

    def kill_late(steps):
        if steps > TINY["retrain_steps"]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(output=folder, on_trial=kill)
    with pytest.raises(KeyboardInterrupt):
        jaxad.search(TASK, resume=folder, on_retrain=kill_late, quiet=True)
    (folder / "trials.jsonl").write_bytes((folder / "trials.jsonl").read_bytes()[:900])  # lost with the machine's power
    told = (folder / "controller.jsonl").read_text().splitlines()
    (folder / "controller.jsonl").write_text(f'[1]\n{{}}\n{told[-1]}\n{{"num_evaluated": 1')
    return jaxad.search(TASK, resume=folder, quiet=True)


def same(one, other):
    """Bitwise, but for times, and for what a saved detector does without."""
    volatile = {"seconds": 0.0, "elapsed": 0.0}
    trials = [[dataclasses.replace(t, **volatile) for t in result.trials] for result in (one, other)]
    assert trials[0] == trials[1]
    assert (one.config, one.threshold, one.test) == (other.config, other.threshold, other.test)
    states = [result.state._replace(**dict.fromkeys(result.detector.transient)) for result in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_the_result_is_what_a_person_goes_on_with(found):
    assert found.folder is None
    scores = jaxad.score_images(found.detector, found.state, TASK.test.images)
    flagged = scores[TASK.test.labels == 1] > found.threshold.value
    assert found.test["auroc"]["value"] == found.results["test"]["auroc"]["value"]
    assert 0 <= flagged.mean() <= 1
    again = jaxad.evaluate(found.detector, found.state, TASK)
    assert again.test["auroc"]["value"] == found.test["auroc"]["value"]
    assert again.threshold == found.threshold
    assert found.child.architecture.to_json() == found.results["best"]["architecture"]
    assert len(found.trials) == found.results["search"]["children"] == TINY["children"]
    assert "seconds" in found.results["search"]


def test_any_executor_may_train_the_children(found):
    """The result is the same, and says who has trained them."""
    with futures.ThreadPoolExecutor(2) as pool:
        again = search(pool=pool, workers=2)
    same(found, again)
    (row,) = again.results["workers"]
    assert row["children"] > TINY["children"]  # some of them train once more, as the controller wants it
    assert row["children_per_minute"] > 0
    assert row["sent_megabytes"] > row["received_megabytes"] > 0  # images and weights one way, weights the other
    assert "workers" not in found.results


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers is -1; give a whole number from 0"),
        ({"workers": 2, "scheduler": "tcp://here:1"}, "workers and scheduler are both given: give one"),
        ({"workers": 2, "executor": "vmapped"}, "executor is vmapped, and workers train children one by one"),
        ({"child_timeout": 0.0}, "child_timeout is 0.0; give seconds above 0"),
        ({"pool": futures.Executor()}, "pool is given, and not how many children"),
    ],
)
def test_workers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        search(**options)


def test_no_two_keys_of_a_search_are_one(found, derived):
    """`fold_in(key, i)` is `split(key, n)[i]`: whoever derives by both has to look out."""
    assert min(len(keys) for keys in derived.values()) > 3
    assert not derived["split"] & derived["fold_in"]


@pytest.mark.slow
def test_the_example_runs_and_writes_nothing(found, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_example(jaxad.search)
    assert not list(tmp_path.iterdir())


def test_callbacks_are_told_everything(found, told):
    assert told["trials"] == found.trials
    assert told["steps"] == sorted(told["steps"])
    assert told["steps"][-1] == SearchConfig().retrain_top * TINY["retrain_steps"]


def test_nothing_is_written_unless_asked(found, monkeypatch, tmp_path):
    """(The fixture searched in an empty folder; what is saved is saved on request.)"""
    found.save(tmp_path / "detector")
    loaded = jaxad.load(tmp_path / "detector")
    assert (loaded.config, loaded.threshold) == (found.config, found.threshold)
    assert loaded.with_target_fpr(loaded.threshold.details["target"]).threshold == found.threshold
    np.testing.assert_array_equal(
        jaxad.score_images(loaded.detector, loaded.state, TASK.test.images[:8]),
        jaxad.score_images(found.detector, found.state, TASK.test.images[:8]),
    )


def test_a_folder_changes_no_number_and_neither_does_a_kill(found, finished):
    same(found, finished)
    names = {path.name for path in finished.folder.iterdir()}
    assert {"best", "results.json", "predictions.csv", "report.html", "trials.jsonl", "controller.jsonl"} <= names
    page = (finished.folder / "report.html").read_text()
    assert "jaxad.search(task, num_layers=1, hypotheses=" in page
    assert "Controller" in page


def test_what_is_finished_is_loaded(finished):
    before = (finished.folder / "results.json").read_bytes()
    same(jaxad.search(TASK, resume=finished.folder), finished)
    assert (finished.folder / "results.json").read_bytes() == before


def test_a_run_goes_on_as_it_began_or_not_at_all(finished):
    folder = finished.folder
    with pytest.raises(ValueError, match="children is 3 in the run but 5 was asked for"):
        jaxad.search(TASK, resume=folder, children=5)
    other = TASK._replace(train=TASK.train._replace(images=TASK.train.images[::-1].copy()))
    with pytest.raises(
        ValueError, match="its data are others than when it was begun: the same images come in another order"
    ):
        jaxad.search(other, resume=folder)
    jaxad.search(TASK, resume=folder, time_budget=1.0)  # which changes no number
    with pytest.raises(ValueError, match="give one of them"):
        jaxad.search(TASK, output=folder, resume=folder)
    with pytest.raises(ValueError, match="already holds a run"):
        search(output=folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(SearchConfig, cli.RunConfig):
    """As a script has it."""


def test_the_run_of_a_command_is_left_to_it(tmp_path):
    create_run(tmp_path / "run", Command(), name="autoad").close()
    with pytest.raises(ValueError, match="was begun by a command: continue it with the command and --resume"):
        jaxad.search(TASK, resume=tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"children": 0}, "^children is 0; the least is 1"),
        ({"time_budget": 0.0}, "^time_budget is 0.0"),
        ({"target_fpr": 1.0}, "^target_fpr is 1.0; give a share between 0 and 1"),
        ({"reward": "rpro"}, "^reward rpro needs masks"),
        ({"space": "large"}, "^space is 'large'; choose one of auto, paper, features"),
        ({"rivals": ("pca", "luck")}, "^rivals has 'luck'; give auto, none, or some of pca, nearest_neighbours"),
        ({"rivals": ("none", "pca")}, "^rivals has 'none'"),
        ({"min_layers": 9}, "^min_layers is 9; the most is num_layers"),
        ({"strategy": "luck"}, "there is no strategy 'luck'; choose one of"),
        ({"controller": dataclasses.replace(SearchConfig().controller, keep=9)}, "^controller.keep is 9; the most is"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        search(output=tmp_path / "run", **fields)
    assert not (tmp_path / "run").exists()
    assert Command(**{k: v for k, v in TINY.items() if k != "quiet"}).num_layers == 1


def test_batches_hold_no_more_images_than_there_are():
    config = SearchConfig(batch_size=65536)
    assert config.trial_config(TASK).batch_size == len(TASK.train.images)
    assert SearchConfig(batch_size=16).trial_config(TASK).batch_size == 16


def test_a_command_line_is_told_of_its_flags():
    with pytest.raises(ValueError, match=r"^--retrain-steps is 0; the least is 1"):
        Command(retrain_steps=0).check()
    with pytest.raises(ValueError, match=r"^--controller\.keep is 9; the most is --population 6"):
        Command(strategy="autoad", controller=dataclasses.replace(SearchConfig().controller, keep=9)).check()


def test_settings_of_the_controller_are_not_ignored():
    changed = dataclasses.replace(SearchConfig().controller, units=7)
    with pytest.raises(ValueError, match=r"^--controller has settings of strategy autoad, and --strategy is random"):
        Command(strategy="random", controller=changed).check()
    Command(strategy="autoad", controller=changed).check()
    Command(strategy="random", controller=AutoADConfig.paper()).check()  # a preset's


def test_a_task_without_anomalies_is_refused():
    normal = TASK.valid._replace(labels=np.zeros_like(TASK.valid.labels))
    with pytest.raises(ValueError, match="no anomaly among"):
        search(TASK._replace(valid=normal))


def test_a_hopeless_search_says_what_to_do(found, monkeypatch):
    failed = [dataclasses.replace(trial, status="failed", reason="loss is not finite") for trial in found.trials]
    explored = Explored(SearchSpace(num_layers=1), (8, 8, 1), failed, [], 1.0, 0, None, Costs(0.0, 0.0))
    monkeypatch.setattr(runs_search, "explore_task", lambda *arguments, **options: explored)
    with pytest.raises(ValueError, match=r"no child could be used \(loss is not finite\): lower learning_rate"):
        search()


def test_the_folder_holds_the_settings_and_what_the_task_is(finished):
    stored = json.loads((finished.folder / "config.json").read_text())
    assert (stored["name"], stored["config"]["children"]) == ("search", 3)
    assert stored["config"]["task"]["name"] == TASK.name


def test_labelled_anomalies_are_refused_in_one_line(tmp_path):
    labelled = jaxad.data.with_known(TASK, 1)
    with pytest.raises(
        ValueError, match="1 labelled anomalies to train on, from which no search learns: leave"
    ) as error:
        search(labelled, output=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_what_normalisation_of_children_goes_by_reaches_their_trials():
    found = [SearchConfig(**options).trial_config(TASK).statistics for options in ({}, {"statistics": "batch"})]
    assert found == ["training", "batch"]
    with pytest.raises(ValueError, match="statistics is 'both'; choose one of training, batch"):
        SearchConfig(statistics="both").check(TASK)
