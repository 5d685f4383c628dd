"""What leaves the library says what the detector says, to the last decision, or it does not leave."""

import contextlib
import fractions
import functools
import json
import operator
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exporting import FEATURES, HELD_OUT, IMAGES, PAPER, agrees, child, child_agrees, fitted
from jax import lax
from PIL import Image
from scripts import call, one_line

import jaxad
from jaxad._utils.compile import plain_forms
from jaxad.data.fitting import WAYS, fit_images
from jaxad.data.fitting_jax import fit_bytes, to_channels_bytes
from jaxad.data.images import to_channels
from jaxad.methods import DETECTORS
from jaxad.metrics import thresholds
from jaxad.runs import export as exporting
from jaxad.runs import export_formats, export_parity, saving
from jaxad.runs.detection import map_image, read_for, score_rows
from jaxad.runs.export_folding import folded
from jaxad.runs.export_program import make_program
from jaxad.runs.held_out import held_out
from jaxad.runs.programs.export import run as script

pytest.importorskip("flatbuffers")

PCA = DETECTORS["pca"].tiny["tiny"]
QUICK = {"pca", "one_class_svm", "isolation_forest"}


def cases():
    """Every registered detector, those first whose programs compile quickly."""
    for name, entry in DETECTORS.items():
        if not name.startswith("outside"):
            config = next(iter(entry.tiny.values()))
            yield pytest.param(config, id=name, marks=[] if name in QUICK else [pytest.mark.slow])


@pytest.mark.parametrize("config", list(cases()))
def test_stablehlo_agrees(config, tmp_path):
    made = agrees(fitted(config), tmp_path, "stablehlo")
    assert made.batch.startswith("any number")


@pytest.mark.parametrize(
    ("space", "seed"),
    [
        pytest.param(space, seed, marks=[pytest.mark.slow] if seed else [], id=f"{name}-{seed}")
        for name, space, count in (("pixels", PAPER, 30), ("features", FEATURES, 10))
        for seed in range(count)
    ],
)
def test_children_of_a_search_agree(space, seed, tmp_path):
    child_agrees(fitted(child(space, seed)), tmp_path, "stablehlo")


def test_random_children_have_every_choice():
    """So that what the slow tests export is the search space, and not a corner of it."""
    architectures = [child(PAPER, seed).architecture for seed in range(30)]
    for name, known in (("hypothesis", PAPER.hypotheses), ("distance", PAPER.distances)):
        assert {getattr(one, name) for one in architectures} == set(known)
    layers = [layer for one in architectures for layer in one.layers]
    for name, known in (("norm", PAPER.norms), ("pool", PAPER.pools), ("activation", PAPER.activations)):
        assert {getattr(layer, name) for layer in layers} == set(known)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("have", "want"), [((30, 41), (8, 8)), ((41, 30), (8, 8)), ((30, 20), (22, 22)), ((5, 9), (9, 5))]
)
def test_photographs_are_resized_to_the_byte(how, have, want, rng):
    photographs = rng.integers(0, 256, (2, *have, 3), dtype=np.uint8)
    photographs[0, :, : have[1] // 2] = 255  # sums of weights reach as far as they can
    np.testing.assert_array_equal(fit_bytes(photographs, want, how), fit_images(photographs, want, how))


def test_grey_is_exact_wherever_it_is_computed(rng):
    colours = rng.integers(0, 256, (1, 40, 50, 3), dtype=np.uint8)
    colours[0, 0, :2] = [[0, 0, 250], [250, 0, 0]]  # 28.5 and 74.75 of 255
    weights = [fractions.Fraction(part, 1000) for part in (299, 587, 114)]
    half = fractions.Fraction(1, 2)
    exact = [int(sum(map(operator.mul, weights, colour)) + half) for colour in colours.reshape(-1, 3).tolist()]
    np.testing.assert_array_equal(to_channels(colours, 1).ravel(), exact)
    np.testing.assert_array_equal(to_channels_bytes(colours, 1).ravel(), exact)
    np.testing.assert_array_equal(to_channels_bytes(colours[..., :1], 3), to_channels(colours[..., :1], 3))
    with pytest.raises(ValueError, match="cannot turn 3 channels into 2"):
        to_channels_bytes(colours, 2)


def test_colour_photographs_of_another_size_and_tiles_agree(rng):
    """All of what `detect.py` does to a photograph: fitting, channels, tiles, their highest score, their mean map."""
    loaded = fitted(PCA)
    photographs = rng.integers(0, 256, (3, 20, 14, 3), dtype=np.uint8)
    for details in ({"fit": "crop"}, {"fit": "pad"}, {"tiles": 2, "tiled_from": [14, 14]}):
        one = loaded._replace(details=details)
        found = jax.jit(make_program(one, (20, 14, 3)).__call__)(photographs)
        np.testing.assert_allclose(found[0], score_rows(one, [read_for(one, p) for p in photographs], 8), rtol=1e-5)
        maps = [map_image(one, p) for p in photographs]
        np.testing.assert_allclose(found[1], maps, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"cover 1\d\d\d pixels; the limit is 1000"):
        make_program(loaded._replace(details={"tiles": 2, "tiled_from": [1200, 1200]}), (20, 14, 3))


def test_what_depends_on_constants_alone_is_computed_once(rng):
    matrix = np.tril(rng.normal(size=(3, 4, 4))).astype(np.float32) + 2 * np.eye(4, dtype=np.float32)
    constant, other = jnp.asarray(matrix), jnp.asarray(matrix[0])

    def function(x):
        scaled = x * jax.nn.softplus(jnp.sum(jnp.exp(constant)))
        sums = [jnp.einsum(how, other, x) for how in ("ij,pjk->ipk", "ij,pjk->pki", "jl,pjk->pkl")]
        return [jax.scipy.linalg.solve_triangular(constant, scaled, lower=True), jax.nn.relu(x), *sums]

    x = rng.normal(size=(3, 4, 2)).astype(np.float32)
    simple = folded(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    for found, wanted in zip(simple(x), function(x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    names = [equation.primitive.name for equation in jax.make_jaxpr(simple)(x).eqns]
    assert "exp" in str(jax.make_jaxpr(function)(x))
    products = [e for e in jax.make_jaxpr(simple)(x).eqns if e.primitive.name == "dot_general"]
    assert sorted(product.invars[0].aval.ndim for product in products) == [2, 2, 2, 3]
    assert not {"exp", "triangular_solve", "jit", "pjit", "custom_jvp_call"} & set(names)


def test_a_transposition_of_axes_of_length_1_is_a_reshaping(rng):
    x = rng.random((1, 3, 4, 1)).astype(np.float32)
    for permutation, moves in (((1, 0, 2, 3), False), ((3, 1, 0, 2), False), ((0, 2, 1, 3), True)):
        simple = folded(lambda x, axes=permutation: [jnp.transpose(x, axes)], jax.ShapeDtypeStruct(x.shape, x.dtype))
        names = [equation.primitive.name for equation in jax.make_jaxpr(simple)(x).eqns]
        assert names == (["transpose"] if moves else ["reshape"])
        np.testing.assert_array_equal(simple(x)[0], x.transpose(permutation))


def test_decisions_are_those_of_the_threshold_itself():
    """Which is a float64 that may lie between two scores of float32; a score that is no number is no normal one."""
    loaded = fitted(PCA)
    score = export_parity.expected(loaded, HELD_OUT).scores[0]
    above = np.nextafter(np.float64(score), np.inf)
    for value, anomalous in ((above, False), (float(score), False), (np.nextafter(np.float64(score), 0), True)):
        program = make_program(loaded._replace(threshold=thresholds.fixed(value)), (8, 8, 1))
        assert bool(thresholds.decide(score, value)) == anomalous == bool(score > program.threshold)
    nowhere = loaded._replace(
        state=jax.tree.map(lambda leaf: leaf * jnp.nan if leaf.dtype == jnp.float32 else leaf, loaded.state)
    )
    found = make_program(nowhere, (8, 8, 1))(HELD_OUT)
    assert np.isnan(found[0]).all()
    assert found[2].all()


def wrong(by):
    """A way to write StableHLO whose score is off by a share of the range."""

    def write(program, about):
        spoiled = program._replace(outputs=lambda images: (lambda a, *b: (a + by, *b))(*program.outputs(images)))
        return export_formats._stablehlo(spoiled, about)

    return export_formats.Attempt(f"off by {by}", write)


def test_nothing_is_written_without_agreement(tmp_path, monkeypatch):
    loaded, right = fitted(PCA), export_formats.FORMATS["stablehlo"]
    apart = float(np.ptp(export_parity.expected(loaded, HELD_OUT).scores))
    attempts = {"stablehlo": right._replace(attempts=(wrong(2e-5 * apart),))}
    monkeypatch.setattr(exporting, "FORMATS", attempts)
    with pytest.raises(ValueError, match=r"pca cannot be exported: stablehlo: its scores differ by 2.0e-05 of their"):
        jaxad.export(loaded, tmp_path / "none", HELD_OUT, formats=["stablehlo"])
    assert not (tmp_path / "none").exists()
    monkeypatch.setitem(attempts, "stablehlo", right._replace(attempts=(wrong(apart), *right.attempts)))
    (made,) = jaxad.export(loaded, tmp_path / "second", HELD_OUT, formats=["stablehlo"])
    assert (made.batch, "differ by 1.0e+00" in made.reason) == ("any number, together", True)


def test_a_shorter_batch_or_another_decision_is_no_agreement():
    loaded = fitted(PCA)
    wanted = export_parity.expected(loaded, HELD_OUT)
    names = ("score", "map", "anomalous", "threshold")
    right = make_program(loaded, (8, 8, 1))

    def compared(spoil):
        def run(images):
            return spoil([np.asarray(part) for part in right(images)])

        return export_parity.compare(run, names, HELD_OUT, wanted, batch=4).problem

    assert compared(lambda found: found) == ""
    assert "scores differ by nan" in compared(lambda found: [found[0][:2], *found[1:]])
    assert "maps differ by" in compared(lambda found: [found[0], found[1] + 1, *found[2:]])
    assert "10 of 9 decisions" in compared(lambda found: [*found[:2], ~found[2], found[3]])  # the first comes twice


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run of files: (its folder, the folder of its test photographs)."""
    folder = tmp_path_factory.mktemp("run")
    loaded = fitted(PCA)
    saving.save(
        folder / "best", loaded.config, loaded.state, image_shape=(8, 8, 1), threshold=loaded.threshold, details={}
    )
    (folder / "photos").mkdir()
    rows = ["id,part,label,score,decision"]
    for number, image in enumerate(HELD_OUT):
        file = folder / "photos" / f"{number}.png"
        Image.fromarray(image[..., 0]).resize((11, 9)).save(file)
        rows.append(f"{file},{'test' if number else 'valid'},0,0,0")
    (folder / "predictions.csv").write_text("\n".join(rows))
    return folder


def test_the_script_exports_a_run_and_the_small_program_scores_photographs(run_folder, tmp_path):
    loaded = saving.load(run_folder)
    photographs = held_out(run_folder, loaded)
    assert photographs.shape == (8, 9, 11, 1)  # the files of the test, as they are
    status, out, err = call(script, run_folder, "--formats", "stablehlo", "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    assert "any number, together" in out
    kept = json.loads((tmp_path / "out" / "export.json").read_text())
    assert kept["images"] == [9, 11, 1]
    assert kept["artefacts"][0]["path"] == "detector.stablehlo"
    assert kept["artefacts"][0]["parity"]["images"] == 8
    program = tmp_path / "out" / "predict_stablehlo.py"
    assert "jaxad" not in program.read_text()
    assert len(program.read_text().splitlines()) <= 40
    files = [run_folder / "photos" / f"{number}.png" for number in range(1, 9)]
    Image.fromarray(IMAGES[0, :, :, 0]).save(tmp_path / "small.png")
    said = subprocess.run([sys.executable, program, *files, tmp_path / "small.png"], capture_output=True, text=True)
    assert "small.png is 8x8, L; give 9x11, grey" in said.stderr
    scores = score_rows(loaded, [read_for(loaded, p) for p in photographs], 8)
    lines = [line.split(" ") for line in said.stdout.splitlines()]
    np.testing.assert_allclose([float(score) for _, score, _ in lines], scores, rtol=1e-5)
    verdicts = ["anomalous" if each else "normal" for each in thresholds.decide(scores, loaded.threshold)]
    assert [verdict for verdict, _, _ in lines] == verdicts


def test_images_of_a_run_without_files_are_loaded_once_more(run_folder, tmp_path):
    loaded = saving.load(run_folder)
    with pytest.raises(ValueError, match="does not say what it was tested on: name images"):
        held_out(tmp_path, loaded)
    (tmp_path / "predictions.csv").write_text("id,part,label,score,decision\ndigits/3,test,0,0,0\n")
    with pytest.raises(ValueError, match="are not to be had"):
        held_out(tmp_path, loaded)
    config = {"dataset": "digits", "seed": 3, "limit": 40, "auto_side": None, "image_size": "auto"}
    stored = {"format": "jaxad-run-2", "name": "detector", "created": "", "config": config}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    np.testing.assert_array_equal(
        held_out(tmp_path, loaded, most=5)[[0, -1]],
        jaxad.load_task("digits", limit=40, seed=3).test.images[[0, -1]],
    )
    assert len(held_out(tmp_path, loaded, [run_folder / "photos"], most=4)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formats": ["tflite"]}, "formats are ['tflite']; give some of onnx, stablehlo"),
        ({"formats": "onnx"}, "formats are 'onnx'; give some of"),
        ({"images": HELD_OUT / np.float32(255)}, "images are float32 of shape (9, 8, 8, 1); give uint8"),
        ({"images": HELD_OUT[..., 0]}, "images are uint8 of shape (9, 8, 8); give uint8 [N, H, W, C]"),
        ({"images": HELD_OUT[:1]}, "there is one image; give at least two"),
        ({"images": np.repeat(HELD_OUT[:1], 3, 0)}, "the scores of 3 images are all the same"),
        ({"details": {"ranges": {"uint16": [0, 4095]}}}, "pca was trained on images of more than 8 bits"),
        ({"folder": "."}, "is not empty: choose a new or empty one"),
    ],
)
def test_nonsense_is_refused_in_one_line(change, message, tmp_path):
    (tmp_path / "there.txt").write_text("")
    loaded = fitted(PCA)._replace(details=change.get("details", {}))
    images, formats = change.get("images", HELD_OUT), change.get("formats", ["stablehlo"])
    with pytest.raises(ValueError) as error:
        jaxad.export(loaded, tmp_path / change.get("folder", "new"), images, formats=formats)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(export_formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx needs jax2onnx and onnxruntime: pip install 'jaxad\[export\]'"):
        jaxad.export(fitted(PCA), tmp_path, HELD_OUT)


def test_the_script_says_what_is_wrong_in_one_line(tmp_path):
    status, _, err = call(script, tmp_path, "--output", tmp_path / "out")
    assert one_line(status, err, "holds no detector")
    status, _, err = call(script, tmp_path, "--output", tmp_path / "out", "--limit", 1)
    assert one_line(status, err, "--limit is 1; give at least 2")


def test_images_stay_channels_first_from_convolution_to_convolution(rng):
    """One change of layout before the first and one behind the last, however many there are; only where asked for."""
    kernels = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 3, 3, 8), (3, 3, 1, 8), (1, 1, 8, 4))]
    convolve = functools.partial(lax.conv_general_dilated, padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def network(images):
        first = jnp.clip(convolve(images, kernels[0], (2, 2)) + jnp.arange(8.0)[None, None, None], 0, 6)
        second = first + jnp.tanh(convolve(first, kernels[1], (1, 1), feature_group_count=8))
        return (jnp.mean(convolve(second, kernels[2], (1, 1)), (1, 2)),)

    images = rng.random((1, 9, 11, 3), np.float32)
    changes = []
    for forms in (plain_forms(), contextlib.nullcontext()):
        with forms:
            simpler = folded(network, jax.ShapeDtypeStruct(images.shape, images.dtype))
        np.testing.assert_allclose(simpler(images)[0], network(images)[0], rtol=1e-4, atol=1e-5)
        names = [equation.primitive.name for equation in jax.make_jaxpr(simpler)(images).eqns]
        changes.append(names.count("transpose"))
    assert changes == [2, 0]
