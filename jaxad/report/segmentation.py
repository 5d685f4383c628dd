"""The page of a segmentation run: masks of several methods beside the truth, their figures, how the first trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.report import plots
from jaxad.report.common import made_parts, task_parts
from jaxad.report.format import brackets, interval
from jaxad.report.html import Bullets, Figure, Section, Table, Text, Tiles, duration, number, page

Rows = Sequence[tuple[str, np.ndarray]]  # of pictures [k, H, W, C], with their names

# Figure in results["segmentation"]: (name on the page, what it means).
PIXELS = {
    "f1": ("F1", "harmonic mean of precision and recall, pixels of all test images pooled"),
    "precision": ("Precision", "of the pixels in predicted masks, how many are anomalous"),
    "recall": ("Recall", "of the anomalous pixels, how many are in predicted masks"),
    "iou": ("IoU", "pixels in both masks, of those in either"),
    "pixel_auroc": ("Pixel AUROC", "chance that a random anomalous pixel scores above a random normal one"),
    "au_pro": ("AU-PRO", "mean share of a defect that is found, over false-positive rates up to 0.3"),
}
RPRO = ("RPRO", "mean share of a defect that is found, at the threshold that anomaly-free images set")

# Title of the panel -> {name of the curve: field of the info of neural batch sampling}.
PANELS = {
    "Loss of labelled pixels": {"normal": "normal_loss", "anomalous": "anomalous_loss"},
    "Predictor's loss (Eq. 3.2)": {"l_pred": "prediction"},
    "Rewards of cloning and coverage": {"clone": "clone", "cover": "cover"},
    "Anomalies in training patches": {"share of patches": "anomalous_patches", "share of pixels": "anomalous_pixels"},
    "Policy": {"entropy": "entropy", "share of jumps": "jumps"},
    "Weight of cloning (Eq. 3.3)": {"beta": "clone_weight"},
}


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of what `runs.segmentation.over_seeds` found: mean ± sd, and what the first is ahead in F1."""
    columns = ["method", *(name for name, _ in PIXELS.values()), f"F1 of {rows[0]['method']} minus this"]
    cells = []
    for index, row in enumerate(rows):
        gap = row["f1_gap"]
        ahead = "" if index == 0 else f"{gap['mean']:+.3f}"
        if index > 0 and gap["low"] is not None:
            ahead += f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        cells.append([row["method"], *(_spread(row[name]) for name in PIXELS), ahead])
    return columns, cells


def sampling_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of what `jaxad.methods.nbs.sampling_rows` found."""
    names = {
        "anomalous_patches": "patches with anomalies", "anomalous_pixels": "anomalous pixels",
        "loss_ratio": "loss of anomalous / normal pixels", "prediction": "l_pred", "prediction_sd": "its sd over steps",
        "entropy": "entropy of the policy",
    }  # fmt: skip
    cells = [["" if row[name] is None else f"{row[name]:.4f}" for name in names] for row in rows]
    return ["method", *names.values()], [[row["method"], *own] for row, own in zip(rows, cells)]


def kinds_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of what `runs.defect_kinds.kinds_over_seeds` found: mean ± sd of F1, and of how many seeds."""
    columns = ["method", "kind of defect", "images", "F1, seen", "seeds", "F1, unseen", "seeds"]
    cells = []
    for row in rows:
        of = [["", ""] if row[s] is None else [_spread(row[s]), str(len(row[s]["values"]))] for s in ("seen", "unseen")]
        cells.append([row["method"], row["kind"], f"{row['images']:.3g}", *of[0], *of[1]])
    return columns, cells


def render_segmentation(
    *,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    masks: Rows,
    visits: Rows,
    curves: Mapping[str, np.ndarray],
    profiles: Mapping[str, np.ndarray],
    program: str,
    unseen: Rows = (),
    unseen_kinds: Sequence[str] = (),
    lives: Mapping[str, np.ndarray] | None = None,
) -> str:
    """The page, as HTML text.

    Args:
      config, results: the plain data of config.json and results.json.
      masks, visits: rows (name, [k, H, W, C]) of test images with masks, and of labelled ones with the sampler's
        visits; no visits without a sampler.
      unseen, unseen_kinds: rows as of masks of test images whose kinds of defects no labelled image shows, and these.
      curves: {field of the info: [seeds, steps]} of the first method; empty if it has none.
      profiles: {kind of pixel: [n, L]} of loss profiles, each image's divided by its mean; empty if there are none.
      lives: of `loss_lives`, of the first method; empty if it has none.
      program: the start of the command line.
    """
    test, seeds = results["segmentation"], results["seeds"]
    tiles = [(number(interval(test[name])[0]), PIXELS[name][0], brackets(test[name])) for name in PIXELS]
    tiles.append((duration(results["seconds"]), "training and test", f"{len(results['trainings'])} trainings"))
    columns, rows = comparison_table(results["comparison"])
    seeds_text = f"Mean ± standard deviation over {len(seeds)} seed(s), each with labelled images of its own."
    seeds_text += " Differences are paired by seed, with 95 % intervals by Student's t." if len(seeds) > 1 else ""
    sections = [
        Section(title="Summary", parts=[Tiles(items=tiles), Bullets(items=list(results["notes"]))]),
        Section(title="Comparison", parts=[Text(text=seeds_text), Table(columns=columns, rows=rows)]),
        Section(
            title="Masks",
            parts=[_figure(plots.image_rows(masks), "Test images of the first seed, predicted masks, and the truth.")],
        ),
        Section(title="Kinds of defects", parts=_kinds(results.get("kinds", ()), unseen, unseen_kinds)),
        Section(title="From maps to masks", parts=_readings(results["trainings"])),
        Section(title="Training", parts=_training(curves, profiles, lives or {}, results["sampling"])),
        Section(title="Where the sampler goes", parts=_visits(visits)),
        Section(title="All figures", parts=_figures(test, results["intervals"])),
        Section(title="Task", parts=task_parts(results["task"])),
        Section(title="How this was made", parts=made_parts(config, results, program)),
    ]
    value, low, high = interval(test["f1"])
    verdict = f"Test F1 {number(value)} (95 % interval {number(low)} to {number(high)}) by {results['method']}."
    return page(f"Segmentation of {results['task']['name']}", verdict, sections, subtitle="jaxad segmentation run")


def _spread(entry: Mapping[str, Any]) -> str:
    return f"{entry['mean']:.3f}" + ("" if entry["sd"] is None else f" ± {entry['sd']:.3f}")


def _figure(drawing: Any, caption: str) -> Figure:
    return Figure(drawing=drawing, alt=caption, caption=caption, wide=True)


def _readings(trainings: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Test F1 of every way from maps to masks, and which one the labelled images chose."""
    names = list(dict.fromkeys(name for one in trainings for name in one["readings"]))
    rows = []
    for one in trainings:
        scores = [one["readings"].get(name) for name in names]
        cells = ["" if score is None else f"{score['f1']:.3f}" for score in scores]
        known = one["labelled_f1"]
        rows.append([one["method"], one["seed"], *cells, one["reading"], "" if known is None else f"{known:.3f}"])
    text = (
        "Test F1 of every reading. The one in use has the best F1 on the labelled images, as has its threshold; the "
        "thesis cuts probabilities at 1/2, after the CRF. Where none of these has a defect, no region of 0.1 % of an "
        "image is above the threshold in any of them."
    )
    columns = ["method", "seed", *names, "in use", "its F1 on labelled images"]
    return [Text(text=text), Table(columns=columns, rows=rows)]


def _kinds(rows: Sequence[Mapping[str, Any]], unseen: Rows, unseen_kinds: Sequence[str]) -> list[Any]:
    """F1 by kind, seen or not, and images of kinds that are not."""
    if not rows:
        return []
    text = (
        "F1 of the pixels of all test images with a kind of defect. A kind is seen where a labelled image shows it: a "
        "matter of the seed, unless kinds were left out. Images with several kinds count for their first."
    )
    columns, cells = kinds_table(rows)
    parts: list[Any] = [Text(text=text), Table(columns=columns, rows=cells)]
    if unseen:
        caption = "Test images of the first seed with kinds of defects that no labelled image shows."
        drawing = plots.image_rows(unseen, titles=tuple(unseen_kinds))
        parts.append(_figure(drawing, caption))
    return parts


def _training(
    curves: Mapping[str, np.ndarray],
    profiles: Mapping[str, np.ndarray],
    lives: Mapping[str, np.ndarray],
    sampling: Sequence[Mapping[str, Any]],
) -> list[Any]:
    """Curves of the first method, a line for every seed, what each method sampled, and loss profiles of test pixels."""
    parts = []
    if curves:
        panels = {title: {name: curves[field] for name, field in fields.items()} for title, fields in PANELS.items()}
        caption = "What happened in training; a line for every seed. The autoencoder begins anew again and again."
        steps = np.arange(curves["prediction"].shape[1]) + 1
        parts.append(_figure(plots.training_curves(steps, panels, lines={}), caption))
    if lives:
        caption = "Losses of labelled pixels over the whole life of an autoencoder, of all lives in turn and all seeds."
        parts.append(_figure(plots.life_profiles(lives), caption))
    if sampling:
        columns, rows = sampling_table(sampling)
        parts.append(Table(columns=columns, rows=rows, caption="Means over the second half of training and all seeds."))
    if profiles:
        caption = "Loss profiles of test pixels at the best step, first seed: medians and quartiles."
        parts.append(Figure(drawing=plots.profile_bands(profiles), alt=caption, caption=caption))
    return parts


def _visits(rows: Sequence[tuple[str, np.ndarray]]) -> list[Any]:
    if not rows:
        return []
    caption = (
        "Labelled images, their masks, and how often the sampler visits each pixel (white: most), on its way through "
        "training and as it was at the best step."
    )
    return [_figure(plots.image_rows(rows), caption)]


def _figures(test: Mapping[str, Any], intervals: str) -> list[Any]:
    known = PIXELS | ({"rpro": RPRO} if "rpro" in test else {})
    rows = [[name, interval(test[field])[0], brackets(test[field]), text] for field, (name, text) in known.items()]
    rows.append(["F1 of flagging every pixel", test["f1_all_anomalous"], "", "what needs no detector at all"])
    return [Table(columns=["Metric", "Value", "95 % interval", "What it says"], rows=rows, caption=intervals)]
