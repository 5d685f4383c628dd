"""The numbers in the pictures are the numbers of the data, and odd data is drawn without a warning."""

import io
import subprocess
import sys

import matplotlib.collections
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc

from jaxad.nn.actions import ACTIONS
from jaxad.report import plots
from jaxad.report.plots import detection
from jaxad.report.plots import style as look
from jaxad.report.plots.league import spread


def architectures(rng, count, layers=2):
    def layer():
        return {
            "channels": int(rng.choice([3, 8, 256])),
            "kernel": int(rng.choice([1, 7])),
            "pool": str(rng.choice(["max", "average"])),
            "pool_kernel": int(rng.choice([1, 3])),
            "norm": str(rng.choice(["none", "batch"])),
            "activation": str(rng.choice(["relu", "leaky_relu", "elu"])),
        }

    return [
        {
            "hypothesis": str(rng.choice(["density", "cluster"])),
            "distance": str(rng.choice(["l1", "ssim"])),
            "layers": [layer() for _ in range(layers)],
        }
        for _ in range(count)
    ]


def lines(figure, axis=0):
    """Label -> (x, y) of the labelled lines of an axis."""
    found = figure.axes[axis].get_lines()
    return {line.get_label(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in found}


def draw(figure):
    """Really draw: layout and tick formatters only run then."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    ticks = [
        label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels(which="both")
    ]
    assert not [label for label in ticks if "mathdefault" in label.get_text()]  # what reads as TeX where none is parsed
    return figure


def texts(figure):
    return " ".join(text.get_text() for ax in figure.axes for text in ax.texts)


REWARDS = [None, 0.5, 0.7, float("nan"), 0.6, 0.9, 0.2, 0.8, 0.65]


def test_best_so_far_equals_a_loop():
    figure = plots.best_so_far(REWARDS, top=3)
    _, best = lines(figure)["best so far"]
    x, mean = lines(figure)["mean of best 3"]
    np.testing.assert_array_equal(x, np.arange(1, 10))
    for i in range(len(REWARDS)):
        seen = sorted((r for r in REWARDS[: i + 1] if r is not None and r == r), reverse=True)
        np.testing.assert_equal(best[i], seen[0] if seen else np.nan)
        np.testing.assert_allclose(mean[i], np.mean(seen[:3]) if seen else np.nan)
    np.testing.assert_array_equal(lines(figure)["failed child"][0], [1, 4])


def test_the_best_so_far_of_several_seeds_is_that_of_each(rng):
    rewards = rng.random((2, 3, 12))
    rewards[rng.random(rewards.shape) < 0.4] = np.nan
    rewards[0, 0, :2] = np.nan, np.inf
    for top in (1, 3):
        found = plots.running_best(rewards, top)
        for i, j in np.ndindex(2, 3):
            np.testing.assert_array_equal(found[i, j], plots.running_best(rewards[i, j].tolist(), top))
    assert np.isnan(plots.running_best(rewards)[0, 0, :2]).all()
    assert plots.running_best([]).shape == (0,)


def test_curves_are_medians_between_quartiles(rng):
    curves = {f"method {i}": plots.running_best(rng.random((5, 7))) for i in range(10)}
    figure = draw(plots.compared_curves(curves, np.arange(2, 9), xlabel="children"))
    drawn = lines(figure)
    assert list(drawn) == list(curves)
    for name, values in curves.items():
        x, y = drawn[name]
        np.testing.assert_array_equal(x, np.arange(2, 9))
        np.testing.assert_allclose(y, np.median(values, axis=0))
    evals = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(evals) == len(curves)
    low, high = np.percentile(curves["method 0"], (25, 75), axis=0)
    corners = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([corners.min(), corners.max()], [low[0], high[-1]])


def test_lives_are_drawn_by_age_with_their_medians(rng):
    lives = {"normal": rng.uniform(1, 2, (4, 6)), "anomalous": rng.uniform(3, 9, (4, 6))}
    lives = {name: np.where(np.arange(24).reshape(4, 6) < 21, values, np.nan) for name, values in lives.items()}
    figure = draw(plots.life_profiles(lives))
    left, right = figure.axes
    for line, values in zip(left.get_lines(), lives.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 7))
        np.testing.assert_allclose(line.get_ydata(), np.nanmedian(values, 0))
    *each, median = right.get_lines()
    ratios = lives["anomalous"] / lives["normal"]
    for line, ratio in zip(each, ratios, strict=True):
        np.testing.assert_allclose(line.get_ydata(), ratio)
    np.testing.assert_allclose(median.get_ydata(), np.nanmedian(ratios, 0))


def test_panels_have_the_quartiles_of_every_method(rng):
    pair = {name: rng.random((9, 4)) for name in ("autoad", "random")}
    figure = draw(plots.compared_panels([("best", pair, np.arange(4)), ("sd", pair, np.arange(4))], xlabel="children"))
    for ax, title in zip(figure.axes, ("best", "sd")):
        assert ax.get_title(loc="left") == title
        for line, band, values in zip(ax.get_lines(), ax.collections, pair.values(), strict=True):
            np.testing.assert_allclose(line.get_ydata(), np.median(values, axis=0))
            corners = band.get_paths()[0].vertices[:, 1]
            expected = np.percentile(values, (25, 75), axis=0)
            np.testing.assert_allclose([corners.min(), corners.max()], [expected[0].min(), expected[1].max()])


def test_time_axis_turns_to_minutes():
    short = plots.best_so_far([0.5, 0.6], seconds=[10.0, 20.0])
    long = plots.best_so_far([0.5, 0.6], seconds=[60.0, 600.0])
    assert short.axes[0].get_xlabel() == "search time (s)"
    assert long.axes[0].get_xlabel() == "search time (min)"
    np.testing.assert_allclose(lines(long)["best so far"][0], [1, 10])


def test_window_statistics_equal_numpy(rng):
    rewards = rng.uniform(size=45)
    rewards[3] = np.nan
    figure = plots.window_mean(rewards, window=20)
    x, mean = lines(figure)["mean of the window"]
    np.testing.assert_array_equal(x, [20, 40, 45])
    expected = [np.nanmean(rewards[:20]), rewards[20:40].mean(), rewards[40:].mean()]
    np.testing.assert_allclose(mean, expected)
    _, _, deviation = plots.windows(rewards, 20)
    np.testing.assert_allclose(deviation, [np.nanstd(rewards[:20]), rewards[20:40].std(), rewards[40:].std()])
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].max(), np.max(mean + deviation))
    np.testing.assert_allclose(band[:, 1].min(), np.min(mean - deviation))
    with pytest.raises(ValueError, match="window = 0"):
        plots.windows(rewards, 0)


def test_parallel_coordinates_draw_the_best_last(rng):
    population, rewards = architectures(rng, 5), [0.3, 0.9, None, 0.5, 0.7]
    figure = draw(plots.parallel_coordinates(population, rewards, top=2))
    bands, others, best = [
        c for c in figure.axes[0].collections if isinstance(c, matplotlib.collections.LineCollection)
    ]
    np.testing.assert_allclose(others.get_array(), [0.3, 0.5])
    np.testing.assert_allclose(best.get_array(), [0.7, 0.9])
    assert others.get_clim() == best.get_clim() == (0.3, 0.9)
    assert all(len(segment) == 2 + 6 * 2 for segment in best.get_segments())
    assert best.get_linewidth()[0] > others.get_linewidth()[0]
    trained = [a for a, reward in zip(population, rewards) if reward is not None]
    values = plots.action_columns(trained).values()
    assert len(bands.get_segments()) == sum(len(set(column)) for column in values)


def test_parallel_coordinates_put_lines_into_the_band_of_their_choice(rng):
    population = architectures(rng, 30)
    rewards = rng.uniform(size=30)
    figure = plots.parallel_coordinates(population, rewards, top=30)
    order = np.argsort(rewards)
    segments = figure.axes[0].collections[-1].get_segments()
    for j, values in enumerate(plots.action_columns(population).values()):
        levels = sorted(set(values))
        band = np.floor([segment[j, 1] * len(levels) for segment in segments])
        np.testing.assert_array_equal(band, [levels.index(values[i]) for i in order])


def test_parallel_coordinates_thin_out_a_crowd(rng):
    figure = plots.parallel_coordinates(architectures(rng, 50, 1), rng.uniform(size=50), top=5, most=20)
    others, best = figure.axes[0].collections[-2:]
    assert (len(others.get_array()), len(best.get_array())) == (15, 5)
    assert "one in 3 of the other 45" in figure.axes[0].get_title("left")


def test_reward_by_action_boxes_hold_the_medians(rng):
    population = architectures(rng, 40)
    rewards = rng.uniform(size=40)
    rewards[0] = np.nan
    figure = draw(plots.reward_by_action(population, rewards))
    panels = {ax.get_title("left"): ax for ax in figure.axes}
    assert list(panels) == [action.name.replace("_", " ") for action in ACTIONS]
    for name in ("distance", "channels"):
        ax = panels[name]
        medians = [line.get_ydata()[0] for line in ax.get_lines() if line.get_color() == look.BLUE]
        for tick, median in zip(ax.get_xticklabels(), medians):
            chosen = []
            for architecture, reward in zip(population, rewards):
                layers = architecture["layers"] if name == "channels" else [architecture]
                chosen += [reward for layer in layers if str(layer[name]) == tick.get_text()]
            np.testing.assert_allclose(median, np.nanmedian(chosen))
        assert len(medians) == len(ax.get_xticklabels())


def test_pareto_front_equals_all_pairs(rng):
    cost, rewards = rng.integers(1, 12, 60).astype(float), rng.integers(0, 12, 60) / 12
    front = plots.pareto_front(cost, rewards)
    for i in range(60):
        beaten = any(
            cost[j] <= cost[i] and rewards[j] >= rewards[i] and (cost[j], rewards[j]) != (cost[i], rewards[i])
            for j in range(60)
        )
        on_front = any((cost[j], rewards[j]) == (cost[i], rewards[i]) for j in front)
        assert beaten != on_front
    figure = draw(plots.reward_by_cost(cost, rewards))
    x, y = lines(figure)["best at this cost"]
    np.testing.assert_array_equal(x, cost[front])
    np.testing.assert_array_equal(y, rewards[front])
    assert figure.axes[0].get_xscale() == "log"


def test_labels_of_a_league_move_as_little_as_it_takes(rng):
    """The least squares of moves under which neighbours keep a distance are an isotonic regression."""
    places, gap = np.sort(rng.uniform(size=30).round(2)), 0.02
    steps = gap * np.arange(30)
    expected = IsotonicRegression().fit_transform(np.arange(30), places - steps) + steps
    np.testing.assert_allclose(spread(places, gap), expected, atol=1e-12)
    assert np.diff(spread(places, gap)).min() >= gap - 1e-12
    np.testing.assert_array_equal(spread(places[:1], gap), places[:1])


def test_a_league_draws_a_point_for_each_that_has_a_value():
    (ax,) = plots.value_by_seconds(["a", "b", "c", "d"], [1, 10, 3, 0], [0.5, 0.9, None, 0.7], [0, 1, 0, 0]).axes
    points = {(*line.get_xdata(), *line.get_ydata()): line.get_marker() for line in ax.lines}
    assert points == {(1, 0.5): "o", (10, 0.9): "D"}
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert ax.get_xscale() == "log"
    (ax,) = plots.value_by_seconds(["a"], [1], [None], [False]).axes
    assert "no detector has a validation AUROC" in ax.texts[0].get_text()


def test_child_seconds_draws_the_median():
    figure = draw(plots.child_seconds([1.0, None, 3.0, 0.0, 8.0]))
    _, y = lines(figure)["median 3 s"]
    assert y[0] == 3.0
    dots = figure.axes[0].get_lines()[0]
    np.testing.assert_array_equal(dots.get_xdata(), [1, 3, 5])
    assert draw(plots.child_seconds([0.1, 30.0])).axes[0].get_yscale() == "log"


def test_worker_timeline_has_a_bar_for_every_child():
    (ax,) = draw(plots.worker_timeline(["a:1", "b:2"], [[(0.0, 2.0), (3.0, 4.5)], [(1.0, 2.5)]])).axes
    paths = [path.get_extents() for bars in ax.collections for path in bars.get_paths()]
    assert [(box.x0, box.x1) for box in paths] == [(0.0, 2.0), (3.0, 4.5), (1.0, 2.5)]
    assert [round(np.mean([box.y0, box.y1])) for box in paths] == [0, 0, 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a:1", "b:2"]
    (ax,) = draw(plots.worker_timeline(list("abc") * 20, [[(0.0, 600.0)]] * 60)).axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("search time (min)", "60 workers")
    assert "no worker has trained" in texts(plots.worker_timeline(["a"], [[]]))


def test_retraining_draws_a_line_for_every_seed():
    candidates = [("trial 3", [10, 20, 40], [[0.5, 0.9, 0.8], [0.6, None, 0.7]]), ("trial 7", [40], [[0.4]])]
    (ax,) = draw(plots.retraining(candidates)).axes
    lines = ax.get_lines()
    np.testing.assert_array_equal(lines[1].get_ydata(), [0.6, np.nan, 0.7])
    assert [line.get_color() for line in lines] == [look.BLUE, look.BLUE, look.ORANGE]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["trial 3", "trial 7"]
    assert "nothing was retrained" in texts(plots.retraining([]))


def test_roc_equals_scikit_learn(rng):
    labels = (rng.uniform(size=300) < 0.2).astype(int)
    scores = np.round(rng.normal(size=300) + labels, 1)  # many ties
    figure = draw(plots.roc_curve(labels, scores, validation=(labels[:100], scores[:100]), resamples=50))
    drawn = lines(figure)
    auroc = roc_auc_score(labels, scores)
    false, true, _ = sklearn_roc(labels, scores, drop_intermediate=False)
    x, y = drawn[f"test, AUROC {auroc:.3f}"]
    np.testing.assert_allclose(x, false, atol=1e-12)
    np.testing.assert_allclose(y, true, atol=1e-12)
    np.testing.assert_allclose(plots.area(x, y), auroc, atol=1e-12)
    assert f"validation, AUROC {roc_auc_score(labels[:100], scores[:100]):.3f}" in drawn
    given = plots.roc_curve(labels, scores, interval=(0.5, 0.4, 0.6), resamples=5)
    assert "test, AUROC 0.500 [0.400, 0.600]" in lines(given)


def test_weighted_roc_equals_scikit_learn(rng):
    labels = np.r_[np.zeros(40, int), np.ones(20, int)]
    scores, weights = rng.normal(size=60).round(1), rng.integers(1, 5, 60)
    false, true = plots.roc_points(labels, scores, weights)
    expected = sklearn_roc(labels, scores, sample_weight=weights, drop_intermediate=False)
    np.testing.assert_allclose((false, true), expected[:2], atol=1e-12)


def test_bootstrap_band_holds_the_curve(rng):
    labels = np.arange(400) % 4 == 0
    scores = rng.normal(size=400) + labels
    grid = np.linspace(0, 1, 11)
    low, high = detection._bootstrap_band(labels, scores, grid, resamples=200, seed=0)
    curve = np.interp(grid, *plots.roc_points(labels, scores))
    assert (low <= curve + 1e-12).all()
    assert (curve <= high + 1e-12).all()
    # At a fixed threshold the rate is a proportion of 100 anomalies; along the curve it can only spread wider.
    spread = (high - low)[5] / (2 * 1.96 * np.sqrt(curve[5] * (1 - curve[5]) / 100))
    assert 0.8 < spread < 2.5


def test_histogram_shares_sum_to_one_class_each(rng):
    labels = np.r_[np.zeros(90), np.ones(10)]
    scores = rng.normal(size=100) + 3 * labels
    figure = draw(plots.score_histogram(labels, scores, threshold=1.5, bins=10))
    patches = {p.get_label(): p.get_data() for p in figure.axes[0].patches if not p.get_label().startswith("_")}
    for name, part in (("normal (90)", labels == 0), ("anomalous (10)", labels == 1)):
        values, edges, _ = patches[name]
        expected, _ = np.histogram(scores[part], edges)
        np.testing.assert_allclose(values, 100 * expected / part.sum())
        np.testing.assert_allclose(values.sum(), 100)
    assert lines(figure)["threshold 1.5"][0][0] == 1.5


def test_histogram_gathers_far_scores_in_the_outermost_bins(rng):
    scores = np.r_[rng.normal(size=500), 1e9]
    figure = draw(plots.score_histogram(np.zeros(501), scores))
    values, edges, _ = figure.axes[0].patches[-1].get_data()
    assert edges[-1] < 10
    np.testing.assert_allclose(values.sum(), 100)
    assert "beyond" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_reconstructions_share_one_scale_and_put_normals_first(rng, channels):
    inputs = rng.uniform(size=(4, 6, 8, channels)).astype(np.float32)
    maps = rng.uniform(size=(4, 6, 8))
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    labels = np.array([1, 0, 1, 0])
    figure = draw(plots.reconstructions(inputs, labels, reconstructed=1 - inputs, error_maps=maps, scores=scores))
    images = figure.axes[0].get_images()
    assert len(images) == 12
    assert len({image.get_clim() for image in images[8:]}) == 1
    np.testing.assert_allclose(images[8].get_clim(), (0, np.quantile(maps, 0.995)), rtol=1e-6)
    shown = inputs[..., :3] if channels >= 3 else inputs.mean(-1)
    for position, i in enumerate((1, 3, 0, 2)):
        np.testing.assert_allclose(images[position].get_array(), shown[i], atol=1e-6)
        np.testing.assert_allclose(images[8 + position].get_array(), maps[i], atol=1e-6)
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == ["normal\n0.2", "normal\n0.4", "anomalous\n0.1", "anomalous\n0.3"]


def test_large_images_are_reduced_by_block_means(rng):
    images = rng.uniform(size=(2, 300, 151, 1)).astype(np.float32)
    small = plots.displayable(images)
    assert small.shape == (2, 100, 50)
    expected = images[:, :, :150, 0].reshape(2, 100, 3, 50, 3).mean((2, 4))
    np.testing.assert_allclose(small, expected, atol=1e-6)
    assert plots.displayable(np.ones((1, 2, 400, 1), np.float32)).shape == (1, 1, 100)


NOTHING = {
    "none": ([], []),
    "one": ([0.5], [12.0]),
    "two equal": ([0.5, 0.5], [3.0, 3.0]),
    "failed only": ([None, None, float("nan")], [1.0, None, 2.0]),
}


@pytest.mark.parametrize("name", NOTHING)
def test_few_or_failed_trials_are_drawn(rng, name):
    rewards, numbers = NOTHING[name]
    population = architectures(rng, len(rewards))
    draw(plots.best_so_far(rewards))
    draw(plots.best_so_far(rewards, seconds=numbers))
    draw(plots.window_mean(rewards))
    draw(plots.parallel_coordinates(population, rewards))
    draw(plots.reward_by_action(population, rewards))
    draw(plots.reward_by_cost(numbers, rewards))
    draw(plots.child_seconds(numbers))
    if name in ("none", "failed only"):
        assert "no child has a reward" in texts(plots.best_so_far(rewards))


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([], []),
        ([0], [1.0]),
        ([0, 0, 0], [1.0, 2.0, 3.0]),
        ([1, 1], [0.0, 0.0]),
        ([0, 1, 0, 1], [0.0, 0.0, 0.0, 0.0]),
        ([0, 1, 0, 1], [1e30, 1e30, 1e30, 1e30]),
        ([0, 1, 0, 1], [np.nan, np.inf, 1.0, 2.0]),
        ([0, 1], [np.nan, np.nan]),
    ],
)
def test_odd_scores_are_drawn(labels, scores):
    roc = draw(plots.roc_curve(labels, scores, resamples=5))
    draw(plots.score_histogram(labels, scores, threshold=0.5))
    finite = {label for label, score in zip(labels, scores) if np.isfinite(score)}
    assert ("needs normal and anomalous" in texts(roc)) == (finite != {0, 1})


def test_reconstructions_without_maps_or_images(rng):
    inputs = rng.uniform(size=(2, 5, 5, 1))
    assert len(draw(plots.reconstructions(inputs, [0, 0])).axes[0].get_images()) == 2
    draw(plots.reconstructions(inputs, [1, 1], error_maps=np.zeros((2, 5, 5))))
    draw(plots.reconstructions(np.zeros((0, 5, 5, 1)), []))
    with pytest.raises(ValueError, match="inputs have shape"):
        plots.reconstructions(inputs[0], [0, 1])


def test_mismatched_input_is_refused(rng):
    with pytest.raises(ValueError, match="seconds has 1 entries"):
        plots.best_so_far([0.1, 0.2], seconds=[1.0])
    with pytest.raises(ValueError, match="rewards has 2 entries"):
        plots.parallel_coordinates(architectures(rng, 3), [0.1, 0.2])
    with pytest.raises(ValueError, match="other than 0"):
        plots.score_histogram([0, 2], [0.1, 0.2])


def test_dollars_and_architectures_of_different_depth_are_drawn(rng):
    population = architectures(rng, 3, 1) + architectures(rng, 3, 2)
    population[0]["distance"] = "$l_2$ and $"
    draw(plots.parallel_coordinates(population, rng.uniform(size=6)))
    draw(plots.reward_by_action(population, rng.uniform(size=6)))


def test_matplotlib_is_imported_only_for_drawing():
    code = "import sys; import jaxad.report.plots, jaxad.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_architecture_is_drawn_from_image_to_reconstruction():
    layers = [
        {"channels": 8, "kernel": 3, "pool": "max", "pool_kernel": 3, "norm": "batch", "activation": "relu"},
        {"channels": 64, "kernel": 1, "pool": "average", "pool_kernel": 1, "norm": "none", "activation": "leaky_relu"},
    ]
    chosen = {"hypothesis": "density", "distance": "l21", "layers": layers, "input": "deep"}
    figure = draw(plots.architecture(chosen, [(28, 28, 3), (10, 10, 8), (10, 10, 64)]))
    (ax,) = figure.axes
    boxes = sorted(ax.patches, key=lambda box: box.get_x())
    assert len(boxes) == 5
    heights, widths = ([getattr(box, f"get_{side}")() for box in boxes] for side in ("height", "width"))
    assert heights == heights[::-1]
    assert heights[0] > heights[1] == heights[2]
    assert widths[2] > widths[1] > widths[0]
    said = [text.get_text() for text in ax.texts]
    assert "conv 3×3\nmax 3×3\nbatch\nrelu" in said
    assert "conv 1×1\nleaky relu" in said
    assert "conv 3×3\nbatch\nrelu\nupsample 3×3" in said
    assert said.count("10×10×8") == 2
    assert {"deep", "l21", "density"} < set(said)
    with pytest.raises(ValueError, match="there are 2 sizes for 2 layers"):
        plots.architecture(chosen, [(28, 28, 3), (10, 10, 8)])


def test_what_is_drawn_once_is_what_savefig_writes():
    from jaxad.report.overlays import overlay, png

    rng, file = np.random.default_rng(0), io.BytesIO()
    image, heat = rng.random((12, 16, 3)), rng.random((12, 16))
    overlay(image, heat, scale=0.9, title="a title").savefig(file, format="png", pil_kwargs={"compress_level": 3})
    assert png(overlay(image, heat, scale=0.9, title="a title"), compress_level=3) == file.getvalue()
