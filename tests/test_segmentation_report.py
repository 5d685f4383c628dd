"""The page of a segmentation run: what it shows, and what it leaves out where there is nothing to show."""

import numpy as np
import pytest

from jaxad.methods.nbs import NBSInfo, sampling_rows, training_curves
from jaxad.report import PIXELS, comparison_table, render_segmentation, sampling_table
from jaxad.runs.segmentation import mean_over_seeds, over_seeds


def record(method, seed, value):
    test = {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name in PIXELS}
    reading = {"precision": value, "recall": value, "f1": value, "iou": value}
    readings = {"threshold": reading} | ({} if method == "l2" else {"1/2, CRF": reading})
    facts = {"method": method, "seed": seed, "reading": "threshold", "threshold": 0.5, "labelled_f1": 0.75}
    return facts | {"test": test | {"prevalence": 0.1, "f1_all_anomalous": 0.18}, "readings": readings}


RECORDS = [record("nbs", 0, 0.6), record("nbs", 1, 0.7), record("l2", 0, 0.3), record("l2", 1, 0.5)]


def render(records, curves, **changes):
    rng = np.random.default_rng(0)
    images = rng.random((3, 8, 8, 1))
    seeds = sorted({one["seed"] for one in records})
    results = {
        "task": {"name": "painted:<brick>", "images": {"labelled": 5, "test": 3}},
        "method": "nbs", "seeds": seeds, "segmentation": mean_over_seeds(records[: len(seeds)]),
        "intervals": "Intervals are over seeds.", "comparison": over_seeds(records, tuple(PIXELS)),
        "trainings": records, "seconds": 61.0, "notes": ["A note."], "sampling": [],
        "kinds": [{"method": "nbs", "kind": "<hole>", "images": 2.0, "seen": None,
                   "unseen": {"values": [0.25], "mean": 0.25, "sd": None}}],
    }  # fmt: skip
    parts = {
        "masks": [("image", images), ("nbs", images > 0.5), ("truth", images > 0.4)],
        "visits": [("image", images), ("visits", images)],
        "profiles": {"normal": rng.random((20, 10)), "anomalous": rng.random((9, 10))},
        "unseen": [("image", images), ("truth", images > 0.4)],
        "unseen_kinds": ["hole", "hole", "crack"],
        "lives": {"normal": rng.random((3, 5)), "anomalous": np.where(np.eye(3, 5) > 0, np.nan, 1.0)},
    }
    return render_segmentation(
        config={"steps": 4}, results=results, curves=curves, program="python x.py", **parts | changes
    )


@pytest.fixture
def trained():
    """Records of two seeds of four steps, and of a method without curves."""
    curves = [{name: [[None, 2.0 + seed, None, 4.0]] for name in NBSInfo._fields} for seed in (0, 1)]
    return [*({"method": "nbs", "curves": one} for one in curves), {"method": "l2"}]


def test_curves_are_joined_and_their_late_half_is_summed_up(trained):
    curves = training_curves(trained)
    assert list(curves) == ["nbs"]
    np.testing.assert_array_equal(curves["nbs"].prediction, [[np.nan, 2, np.nan, 4], [np.nan, 3, np.nan, 4]])
    info = NBSInfo(*np.ones((len(NBSInfo._fields), 2, 6)))
    info = info._replace(prediction=np.tile([9, 9, 9, np.nan, 1.0, 3], (2, 1)), entropy=np.full((2, 6), np.nan))
    info = info._replace(anomalous_loss=np.tile([0, 0, 0, 2.0, 4, 6], (2, 1)))
    (row,) = sampling_rows({"uniform": info})
    assert row == {
        "method": "uniform", "anomalous_patches": 1, "anomalous_pixels": 1, "prediction": 2, "loss_ratio": 4,
        "prediction_sd": 1, "entropy": None,
    }  # fmt: skip
    columns, rows = sampling_table([row])
    assert len(columns) == len(rows[0])
    assert rows[0] == ["uniform", "1.0000", "1.0000", "4.0000", "2.0000", "1.0000", ""]


def test_the_page_shows_everything(trained):
    text = render(RECORDS, training_curves(trained)["nbs"]._asdict())
    for title in ("Comparison", "Masks", "From maps to masks", "Training", "Where the sampler goes", "All figures"):
        assert f">{title}<" in text
    assert "painted:&lt;brick&gt;" in text
    assert "Loss profiles" in text
    assert "over the whole life of an autoencoder" in text
    assert "&lt;hole&gt;" in text
    assert "kinds of defects that no labelled image shows" in text
    assert "Test F1 0.650" in text


def test_what_is_not_there_is_left_out():
    text = render(RECORDS[:1], {}, visits=[], profiles={}, unseen=[], unseen_kinds=[], lives={})
    assert "Where the sampler goes" not in text
    assert "that no labelled image shows." not in text
    assert ">Training<" not in text


def test_the_table_tells_how_far_the_first_is_ahead():
    columns, rows = comparison_table(over_seeds(RECORDS, tuple(PIXELS)))
    assert columns[-1] == "F1 of nbs minus this"
    assert rows[0][:2] == ["nbs", "0.650 ± 0.071"]
    assert rows[0][-1] == ""
    assert rows[1][-1].startswith("+0.250 [")
    single = comparison_table(over_seeds([RECORDS[0], RECORDS[2]], tuple(PIXELS)))[1]
    assert (single[0][1], single[1][-1]) == ("0.600", "+0.300")
