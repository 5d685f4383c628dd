"""The report is one safe, self-contained, well-formed page that holds every number of the run."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxad.report import html as pages
from jaxad.report import render_report
from jaxad.report.common import task_parts
from jaxad.report.format import METRICS, architecture_line, command
from jaxad.report.league import league_parts
from jaxad.report.search_sections import trial_parts
from jaxad.report.workers import worker_parts

EVIL = "<script>alert('cat & dog')</script>"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Checks that tags nest; collects attributes, headings and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.words.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def text(self, *tags):
        return [words for tag, words in self.words if words and (not tags or tag in tags)]


def make_run(children=24):
    rng = np.random.default_rng(0)
    layer = {"channels": 16, "kernel": 3, "pool": "max", "pool_kernel": 1, "norm": "none", "activation": "relu"}
    trials = []
    for i in range(children):
        failed = i % 6 == 5
        other = layer | {"kernel": int(rng.choice([1, 5])), "pool_kernel": 3, "norm": "batch"}
        trials.append(
            {
                "trial": i,
                "tokens": [0, 1, i],
                "architecture": {
                    "hypothesis": "density" if i % 2 else "cluster",
                    "distance": "ssim",
                    "layers": [layer | {"channels": int(rng.choice([8, 32]))}, other],
                },
                "reward": 0.0 if failed else 0.5 + 0.011 * i,
                "status": "failed" if failed else ("cached" if i == 3 else "ok"),
                "reason": "loss is NaN" if failed else None,
                "loss": None if failed else 0.04,
                "params": 1000 + 100 * i,
                "flops": 1e6 + i,
                "seconds": 0.5,
                "elapsed": 0.5 * (i + 1),
            }
        )
    best = max(trials, key=lambda t: t["reward"])
    results = {
        "task": {
            "name": f"digits against {EVIL}",
            "parts": [
                {"part": "train", "images": 600, "normal": 600, "anomalous": 0},
                {"part": "test", "images": 1210, "normal": 1149, "anomalous": 61},
            ],
            "image_shape": [8, 8, 1],
            "classes": {"normal": ["zero"], "anomalous": [EVIL]},
        },
        "strategy": "evolution",
        "seed": 7,
        "search": {
            "children": children,
            "unique_children": 23,
            "failed_children": 4,
            "compiles": 11,
            "seconds": 125.0,
            "children_per_minute": 11.5,
            "best_valid": best["reward"],
            "spread": {"children": 20, "p10": 0.512, "p50": 0.633, "p90": 0.744},
        },
        "best": {key: best[key] for key in ("tokens", "architecture", "params", "flops")} | {"table": "as text"},
        "test": {
            "auroc": {"value": 0.9513, "low": 0.9391, "high": 0.9634},
            "aupr_in": {"value": 0.9871, "low": 0.9812, "high": 0.9923},
            "aupr_out": {"value": 0.6142, "low": 0.5643, "high": 0.6654},
            "fpr95": {"value": 0.2215, "low": 0.1816, "high": 0.2627},
            "f1_max": {"value": 0.6688, "low": 0.6189, "high": 0.7171},
            "pixel_auroc": 0.8888,
            "prevalence": 0.0504,
            "f1_all_anomalous": 0.0960,
        },
        "retrain": {
            "seeds": 2,
            "steps": 200,
            "step": 40,
            "valid": 0.941,
            "candidates": [
                {
                    "trial": 3,
                    "search_reward": 0.95,
                    "evals": [10, 40, 200],
                    "curves": [[0.8, 0.941, 0.9], [0.7, None, 0.923]],
                    "valid": [0.941, 0.923],
                },
                {"trial": 5, "search_reward": 0.9, "evals": [200], "curves": [[None], [None]], "valid": [-1, -1]},
            ],
        },
        "threshold": 0.5,
        "versions": {"jaxad": "0.1.0", "jax": "9.8.7"},
        "device": "cpu: two cores",
        "limits": ["Validation anomalies come from the source of the test anomalies."],
        "notes": [],
    }
    config = {"dataset": "digits", "ood": ["a b", "c"], "data_dir": None, "cache": False, "learning_rate": 0.1}
    labels = np.arange(60) % 6 == 0
    images = rng.uniform(size=(4, 8, 8, 1))
    pictures = {
        "test_scores": 0.3 + 0.4 * labels + rng.normal(0, 0.1, 60),
        "test_labels": labels,
        "valid_scores": 0.3 + 0.4 * labels + rng.normal(0, 0.1, 60),
        "valid_labels": labels,
        "inputs": images,
        "reconstructions": images * 0.9,
        "error_maps": rng.uniform(size=(4, 8, 8)),
        "example_labels": np.array([0, 0, 1, 1]),
        "example_scores": np.array([0.1, 0.2, 0.3, 0.4]),
    }
    return {"config": config, "trials": trials, "results": results, "pictures": pictures}


@pytest.fixture(scope="module")
def run():
    return make_run()


@pytest.fixture(scope="module")
def html(run):
    return render_report(**run)


@pytest.fixture(scope="module")
def outline(html):
    return Outline(html)


def test_page_loads_nothing_from_elsewhere(html, outline):
    assert not re.search(r"https?:|@import|//cdn", html)
    for tag, name, value in outline.attributes:
        if name in ("href", "src", "xlink:href"):
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:80])
    for target in re.findall(r"url\(([^)]*)\)", html):
        assert target.startswith("#")
    assert not {"link", "iframe", "object", "img"} & set(outline.tags)


def test_ids_are_unique_and_every_reference_has_one(html, outline):
    ids = [value for _, name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = {value[1:] for _, name, value in outline.attributes if name == "href" and value[0] == "#"}
    references |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert references
    assert references <= set(ids)


def test_names_from_outside_are_escaped(html, outline):
    assert EVIL not in html
    assert outline.tags.count("script") == 1  # the page's own, for sorting
    assert any(EVIL in words for words in outline.text("h1"))
    assert any(EVIL in words for words in outline.text("dd"))


def test_every_metric_and_interval_is_on_the_page(run, outline):
    cells = outline.text("td")
    for name, metric in run["results"]["test"].items():
        if isinstance(metric, dict):
            row = cells.index(METRICS[name][0])
            expected = [f"{metric['value']:.3f}", f"{metric['low']:.3f} – {metric['high']:.3f}"]
            assert cells[row + 1 : row + 3] == expected
    assert cells[cells.index("Pixel AUROC") + 1] == "0.889"
    chance = {"AUROC": "0.500", "AUPR-Out": "0.050", "AUPR-In": "0.950", "F1-max": "0.096"}
    assert {name: cells[cells.index(name) + 3] for name in chance} == chance


def test_verdict_names_result_architecture_and_budget(outline):
    (verdict,) = [words for words in outline.text("p") if words.startswith("Test AUROC")]
    assert "0.951 (95 % interval 0.939 to 0.963)" in verdict
    assert "cluster + ssim" in verdict
    assert "24 children in 2 min 05 s by evolution search" in verdict


def standing(detector, valid, returned=False, pixels=None):
    return {
        "detector": detector, "valid": valid, "test_auroc": 0.876, "test_pixel_auroc": pixels, "fit_seconds": 12.3,
        "score_milliseconds": 45.6, "megabytes": 7.89, "returned": returned,
    }  # fmt: skip


def with_league(run, *lines, returned):
    results = run["results"] | {"league": list(lines), "verdict": f"Worth it? {EVIL}", "returned": returned}
    return Outline(render_report(**run | {"results": results}))


def test_a_rival_that_was_returned_is_named_and_the_child_keeps_its_figures(run):
    lines = standing("padim", 0.97, True, 0.812), standing("child", 0.95), standing(EVIL, None)
    outline = with_league(run, *lines, returned="padim")
    assert outline.text("h2")[:3] == ["Summary", "League", "Task"]
    (verdict,) = [words for words in outline.text("p") if words.startswith("Test AUROC")]
    assert "with padim, which validation prefers to 24 children" in verdict
    assert "cluster" not in verdict
    assert "parameters of the best child" in outline.text("span")
    assert any("Returned and tested is padim" in words for words in outline.text("p"))
    paragraphs = outline.text("p", "td")
    assert paragraphs.index(f"Worth it? {EVIL}") < paragraphs.index("padim (returned)")
    cells = outline.text("td")
    start = cells.index("padim (returned)")
    assert cells[start : start + 7] == ["padim (returned)", "0.970", "0.876", "0.812", "12.3", "45.6", "7.89"]
    assert cells[start + 7 : start + 11] == ["child", "0.950", "0.876", "–"]
    assert cells[start + 14 : start + 16] == [EVIL, "–"]
    assert "padim (returned)" in outline.text("text")
    assert EVIL not in outline.text("text")  # it has no value to draw


def test_a_child_that_was_returned_is_the_headline(run):
    lines = standing("best child of the search", 0.97, True), standing("padim", 0.5)
    outline = with_league(run, *lines, returned="cluster + ssim")
    (verdict,) = [words for words in outline.text("p") if words.startswith("Test AUROC")]
    assert "with cluster + ssim: " in verdict
    assert "parameters" in outline.text("span")
    assert "Test pixels" not in outline.text("th")
    assert "best child of the search (returned)" in outline.text("td")


def test_a_choice_by_both_metrics_shows_both(run):
    lines = standing("padim", 0.9, True) | {"valid_pixel_auroc": 0.71}, standing("svm", 0.91)
    outline = with_league(run, *lines, returned="padim")
    columns = outline.text("th")
    first = columns.index("Detector")
    assert columns[first + 1 : first + 4] == ["Validation AUROC", "Validation pixels", "Test AUROC"]
    assert "0.710" in outline.text("td")
    assert any("by the mean of its two metrics" in words for words in outline.text("caption", "figcaption", "p"))


def test_a_league_of_one_has_no_picture(run):
    found = [part.kind for part in league_parts([standing("child", 0.9, True)], "", "pixel_auroc")]
    assert found == ["table"]


def test_workers_have_a_table_and_a_timeline(run):
    row = {"worker": EVIL, "children": 2, "busy_seconds": 3.5, "children_per_minute": 34.3, "sent_megabytes": 1.5}
    workers = [row | {"received_megabytes": 0.5, "spans": [[0.0, 2.0], [2.0, 3.5]]}]
    html = render_report(**run | {"results": run["results"] | {"workers": workers}})
    assert EVIL not in html
    shown = Outline(html)
    assert "Workers" in shown.text("h2")
    assert shown.tags.count("svg") == 13
    assert [part.kind for part in worker_parts(workers)] == ["table", "figure"]
    assert worker_parts([]) == []


def test_all_sections_are_there_in_order(outline):
    expected = ["Summary", "Task", "Test result", "What it sees", "Best architecture", "Search", "All trials"]
    assert outline.text("h2") == [*expected, "How this was made"]
    assert outline.tags.count("svg") == 12
    labels = [value for tag, name, value in outline.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == 12
    assert all(len(label) > 20 for label in labels)


def test_numbers_in_pictures_keep_their_digits(outline):
    legend = [words for words in outline.text("text") if words.startswith("test, AUROC")]
    assert legend == ["test, AUROC 0.951 [0.939, 0.963]"]


def test_counts_at_the_threshold_equal_numpy(run, outline):
    scores, labels = run["pictures"]["test_scores"], run["pictures"]["test_labels"]
    found, alarms = np.sum(scores[labels] > 0.5), np.sum(scores[~labels] > 0.5)
    (sentence,) = [words for words in outline.text("p") if words.startswith("At the threshold 0.500")]
    assert f"{found} of 10 anomalies are found and {alarms} of 50 normal" in sentence


def test_trials_are_sorted_and_failures_counted(run, outline):
    cells = outline.text("td")
    start = cells.index("22")  # the best child that did not fail
    order = [int(cell) for cell in cells[start::8][:20]]
    expected = sorted((t for t in run["trials"] if t["status"] != "failed"), key=lambda t: -t["reward"])
    assert order == [t["trial"] for t in expected]
    assert cells[cells.index("loss is NaN") + 1] == "4"
    assert any(words.startswith("4 of 24 trials failed") for words in outline.text("p"))


def test_table_of_trials_ends_at_fifty():
    trials = make_run(80)["trials"]
    details, *_, by_hypothesis = trial_parts(trials)
    for name, failed, count, share in by_hypothesis.rows:
        own = [t for t in trials if t["architecture"]["hypothesis"] == name]
        assert (failed, count) == (sum(t["status"] == "failed" for t in own), len(own))
        assert share == f"{failed / count:.0%}"
    assert sum(row[2] for row in by_hypothesis.rows) == len(trials)
    (table,) = details.parts
    assert len(table.rows) == 50
    assert table.rows[0][0] == 79


def test_best_architecture_is_shown_as_in_table_iv(run, outline):
    best = run["results"]["best"]["architecture"]
    cells = outline.text("td")
    rows = {name: cells[cells.index(name) + 1] for name in ("Definition hypothesis", "Output channels")}
    assert rows == {"Definition hypothesis": "cluster", "Output channels": str(best["layers"][0]["channels"])}
    assert [words for words in outline.text("th") if words.startswith("Layer-")] == ["Layer-1", "Layer-2"]


@pytest.mark.parametrize(
    "parts",
    [
        {"train": {"images": 60, "normal": 60}, "test": {"images": 20, "normal": 19}},
        [{"part": "train", "images": 60, "normal": 60}, {"part": "test", "images": 20, "normal": 19}],
        [("train", 60, 60), ["test", 20, 19]],
    ],
)
def test_parts_of_a_task_may_be_named_or_not(parts):
    table = task_parts({"parts": parts})[-1]
    assert list(table.columns) == ["part", "images", "normal"]
    assert [list(row) for row in table.rows] == [["train", 60, 60], ["test", 20, 19]]


def test_architecture_line_skips_what_does_nothing():
    layer = {"channels": 16, "kernel": 3, "pool": "max", "pool_kernel": 1, "norm": "none", "activation": "relu"}
    busy = layer | {"pool": "average", "pool_kernel": 5, "norm": "batch"}
    line = architecture_line({"hypothesis": "density", "distance": "l1", "layers": [layer, busy]})
    assert line == "density + l1: 16@3×3 relu → 16@3×3 average-pool 5 batch norm relu"


def test_command_repeats_every_setting(run):
    assert command(run["config"]).replace(" \\\n   ", "") == (
        "jaxad search --dataset digits --ood 'a b' c --no-cache --learning-rate 0.1"
    )


@pytest.mark.parametrize("results", [{}, {"search": {"children": 3}, "test": {"auroc": None}, "best": None}])
def test_missing_data_leaves_sections_out(results):
    outline = Outline(render_report(config={}, trials=[], results=results, pictures={}))
    assert outline.text("h2")[0] == "Summary"
    assert not {"What it sees", "All trials", "Task", "Best architecture"} & set(outline.text("h2"))
    assert any(words.startswith("No test AUROC") for words in outline.text("p"))


def test_a_search_of_failures_has_a_report():
    trials = [t | {"status": "failed", "reward": None, "reason": EVIL} for t in make_run(3)["trials"]]
    html = render_report(config={"reward": "aupr_out"}, trials=trials, results={}, pictures={})
    outline = Outline(html)
    assert EVIL not in html
    assert EVIL in outline.text("td")
    assert "no child has a reward" in outline.text("text")


def test_unknown_pictures_are_refused(run):
    with pytest.raises(ValueError, match="no use for example_maps"):
        render_report(**run | {"pictures": {"example_maps": np.zeros((1, 2, 2))}})


def test_any_method_can_make_a_page():
    sections = [
        pages.Section(title="Empty", parts=[None]),
        pages.Section(
            title="One",
            intro=EVIL,
            parts=[
                pages.Bullets(items=[EVIL]),
                pages.Code(text=EVIL),
                pages.Tiles(items=[(EVIL, EVIL, EVIL)]),
                pages.Facts(items={EVIL: EVIL}),
                pages.Details(summary=EVIL, parts=[None, pages.Text(text=EVIL)]),
                pages.Table(columns=[EVIL], rows=[[EVIL], [None], ["group"], EVIL, [3.0]], caption=EVIL),
            ],
        ),
    ]
    html = pages.page(EVIL, EVIL, sections, subtitle=EVIL)
    outline = Outline(html)
    assert EVIL not in html
    assert outline.text("h2") == ["One"]
    assert sum(EVIL in words for _, words in outline.words) >= 15


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (True, "True"),
        ("as it is", "as it is"),
        (0, "0"),
        (1234, "1,234"),
        (134_200, "134 k"),
        (2_500_000, "2.5 M"),
        (0.5, "0.500"),
        (1.0, "1.000"),
        (0.00123456, "0.00123"),
        (58.21, "58.2"),
        (-3.14159, "-3.14"),
        (np.float32(0.25), "0.250"),
        (np.int64(7), "7"),
    ],
)
def test_numbers_read_well(value, text):
    assert pages.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.25, "0.25 s"), (42.4, "42 s"), (59.7, "1 min 00 s"), (250, "4 min 10 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds, text):
    assert pages.duration(seconds) == text


def test_command_reaches_into_nested_settings():
    config = {"seed": 3, "controller": {"units": 6, "sharpening": False, "keep": None}}
    assert command(config).split()[2:] == [
        *("\\", "--seed", "3", "\\", "--controller.units", "6", "\\", "--controller.no-sharpening")
    ]
