"""Masks by kind of defect: figures by scikit-learn, kinds that are seen and kinds that are not, and their pictures."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score

from jaxad import data
from jaxad._utils import files
from jaxad.methods import nbs as sampling
from jaxad.report import kinds_table
from jaxad.runs import segmenter_evaluation
from jaxad.runs.defect_kinds import GROUPS, kind_scores, kinds_over_seeds, kinds_tested, seen_kinds
from jaxad.runs.segmenter_evaluation import VIEWS


@pytest.fixture
def images(rng):
    """Thirty images, ten each of two kinds of defects and ten without any."""
    labels = np.arange(30) % 3
    masks = np.zeros((30, 8, 8), np.uint8)
    masks[labels == 1, 2:4, 3:6], masks[labels == 2, 5:7, 1:4] = 1, 1
    pixels = rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    return data.from_arrays(pixels, labels, masks, name="set", class_names=("good", "hole", "scratch"))


def test_kinds_that_are_to_be_unseen_are_tested_and_never_labelled(images):
    for seed in range(4):
        task = data.few_labels(images, labelled=5, unseen=("scratch",), seed=seed)
        assert seen_kinds(task) == {"hole"}
        assert task.details["unseen"] == ["scratch"]
        assert set(kinds_tested(task)) == {"", "hole", "scratch"}
        assert len(segmenter_evaluation.unseen_images(task)) == 8
        assert (kinds_tested(task)[segmenter_evaluation.unseen_images(task)] == "scratch").all()
    plain = data.few_labels(images, labelled=5)
    assert "unseen" not in plain.details
    assert plain.kinds == {
        name: ("good", "hole", "scratch")[label] for name, label in zip(images.ids, images.labels) if label
    }
    unknown = data.few_labels(images._replace(labels=None, class_names=()), labelled=5)
    assert unknown.kinds == {}
    assert kind_scores(unknown, unknown.test.masks > 0) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen": ("crack",)}, "set has no defects of kind 'crack': choose among hole, scratch"),
        ({"unseen": ("good",)}, "set has no defects of kind 'good'"),
        ({"unseen": ("hole", "scratch")}, "without hole, scratch set has 10 images to label, 0 of them with defects"),
        ({"unseen": ("hole",), "labelled": 21}, "has 20 images to label, .* and 21 are to be labelled"),
        ({"unseen": ("hole",), "setting": "clean"}, "unseen is hole, and the setting clean sees no kind of defect"),
    ],
)
def test_kinds_that_cannot_be_left_out_are_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        data.few_labels(images, **{"labelled": 5} | options)


def test_scores_of_a_kind_are_those_of_its_images(images, rng):
    task = data.few_labels(images, labelled=5, unseen=("scratch",))
    kinds, truth = kinds_tested(task), task.test.masks
    predicted = (truth > 0) ^ (rng.random(truth.shape) < 0.1)
    rows = {row["kind"]: row for row in kind_scores(task, predicted)}
    assert list(rows) == ["hole", "scratch", GROUPS[True], GROUPS[False]]
    for kind in ("hole", "scratch"):
        where = kinds == kind
        assert rows[kind]["images"] == where.sum()
        assert rows[kind]["f1"] == pytest.approx(f1_score(truth[where].ravel(), predicted[where].ravel()))
        assert rows[kind]["precision"] == pytest.approx(precision_score(truth[where].ravel(), predicted[where].ravel()))
    assert (rows["hole"]["seen"], rows["scratch"]["seen"]) == (True, False)
    for group, kind in ((GROUPS[True], "hole"), (GROUPS[False], "scratch")):
        assert {**rows[group], "kind": kind} == rows[kind]  # one kind each
    everything = data.few_labels(images, labelled=12)
    assert [row["kind"] for row in kind_scores(everything, everything.test.masks > 0)] == ["hole", "scratch"]


def test_seeds_that_saw_a_kind_are_apart_from_those_that_did_not():
    def record(seed, hole, scratch):
        rows = [{"kind": "hole", "seen": True, "images": 4, "f1": hole}]
        rows.append({"kind": "scratch", "seen": seed > 0, "images": 2 + seed, "f1": scratch})
        return {"method": "nbs", "seed": seed, "kinds": rows}

    records = [record(0, 0.5, 0.1), record(1, 0.7, 0.4), record(2, 0.6, 0.6), {"method": "l2", "seed": 0}]
    hole, scratch = kinds_over_seeds(records)
    assert (hole["images"], scratch["images"]) == (4.0, 3.0)
    assert hole["unseen"] is None
    assert hole["seen"]["mean"] == pytest.approx(0.6)
    assert hole["seen"]["sd"] == pytest.approx(0.1)
    assert scratch["seen"] == {"values": [0.4, 0.6], "mean": 0.5, "sd": pytest.approx(0.2 / 2**0.5)}
    assert scratch["unseen"] == {"values": [0.1], "mean": 0.1, "sd": None}
    columns, cells = kinds_table([hole, scratch])
    assert cells == [
        ["nbs", "hole", "4", "0.600 ± 0.100", "3", "", ""],
        ["nbs", "scratch", "3", "0.500 ± 0.141", "2", "0.100", "1"],
    ]
    assert all(len(row) == len(columns) for row in cells)


def test_a_training_tells_how_far_it_has_come_whether_visits_are_kept_or_not():
    told, kept = [], []
    for keep in (None, lambda *all_of_it: kept.append(all_of_it)):
        segmenter_evaluation.on_its_way(told.append, 100, keep)(20, "state", "info")
    assert told == ["step 20 of 100"] * 2
    assert kept == [(20, "state", "info")]


def test_visits_are_kept_a_few_times_in_a_training_whatever_its_checkpoints(images, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "current_visits", lambda config, state, images: np.full(images.shape[:3], state))
    task = data.few_labels(images, labelled=5)
    info = {count: sampling.NBSInfo(*np.zeros((len(sampling.NBSInfo._fields), count))) for count in range(1, 21)}
    keep = segmenter_evaluation.visit_keeper(tmp_path, sampling.NBSConfig(), task, 100)
    for done in range(4, 101, 4):
        keep(done, done, info[4])
    found = {int(path.stem): files.read_array(path) for path in (tmp_path / "visits").glob("*.npy")}
    assert sorted(found) == [20, 40, 60, 80, 100]
    assert len(found) == VIEWS
    assert all((visits == steps).all() and visits.shape == (5, 8, 8) for steps, visits in found.items())
    files.write_array(tmp_path / "visits.npy", found[20])
    rows = segmenter_evaluation.visit_rows(tmp_path, task)
    assert [name for name, _ in rows] == ["image", "mask", *(f"after {n} steps" for n in sorted(found)), "best step"]
