"""ONNX files, run by onnxruntime, say what the detector says."""

import subprocess
import sys

import numpy as np
import pytest
from exporting import FEATURES, HELD_OUT, PAPER, agrees, child, child_agrees, fitted
from PIL import Image

from jaxad.methods import DETECTORS
from jaxad.runs.export_fusing import fused
from jaxad.training.scoring import score_images

pytest.importorskip("jax2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

QUICK = {"pca", "one_class_svm"}


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(next(iter(entry.tiny.values())), id=name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name, entry in DETECTORS.items()
        if not name.startswith("outside")
    ],
)
def test_onnx_agrees(config, tmp_path):
    made = agrees(fitted(config), tmp_path, "onnx")
    assert made.batch == "any number, one after another"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_children_of_a_search_agree(seed, tmp_path):
    child_agrees(fitted(child(PAPER if seed < 30 else FEATURES, seed)), tmp_path, "onnx")


def test_the_small_program_scores_photographs(tmp_path):
    loaded = fitted(DETECTORS["pca"].tiny["tiny"])
    made = agrees(loaded, tmp_path / "out", "onnx")
    about = onnxruntime.InferenceSession(made.path).get_modelmeta().custom_metadata_map
    assert about["detector"] == "pca"
    files = []
    for number, image in enumerate(HELD_OUT):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(image[..., 0]).save(files[-1])
    program = made.path.with_name("predict_onnx.py")
    assert "jaxad" not in program.read_text()
    said = subprocess.run([sys.executable, program, *files], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    scores = [float(line.split(" ")[1]) for line in said.stdout.splitlines()]
    np.testing.assert_allclose(scores, score_images(loaded.detector, loaded.state, HELD_OUT), rtol=1e-4)


def test_weights_of_a_loop_are_its_constants(tmp_path):
    """Or onnxruntime would copy all of them for every photograph."""
    import onnx

    made = agrees(fitted(DETECTORS["pca"].tiny["tiny"]), tmp_path, "onnx")
    graph = onnx.load(made.path).graph
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    (body,) = (attribute.g for attribute in loop.attribute if attribute.name == "body")
    assert len(body.input) == len(loop.input) <= 3 + 1  # the number of turns, whether to go on, the photographs
    assert sum(np.prod(tensor.dims) for tensor in body.initializer) > 8 * 64  # the axes of PCA
    assert not any(np.prod(tensor.dims) >= 64 for tensor in graph.initializer)


def test_convolutions_have_their_biases_and_clip(rng):
    """`Add` of a constant that is the same at every pixel, and `Min` of `Max`; others stay."""
    import onnx
    from onnx import helper, numpy_helper

    shapes = ((4, 3, 1, 1), (1, 4, 1, 1), (1, 4, 5, 6))
    kernel, bias, other = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    weights = {"kernel": kernel, "bias": np.tile(bias, (1, 1, 5, 6)), "other": other}
    weights |= {"zero": np.float32(0), "six": np.float32(6)}
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["a"]),
        helper.make_node("Add", ["bias", "a"], ["b"]),
        helper.make_node("Max", ["b", "zero"], ["c"]),
        helper.make_node("Min", ["c", "six"], ["d"]),
        helper.make_node("Conv", ["images", "kernel"], ["e"]),
        helper.make_node("Add", ["e", "other"], ["f"]),
        helper.make_node("Add", ["d", "f"], ["out"]),
    ]
    ends = {"images": (1, 3, 5, 6), "out": (1, 4, 5, 6)}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in ends.items()]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    images = {"images": 3 * rng.standard_normal((1, 3, 5, 6)).astype(np.float32)}
    (expected,) = run(model, images)
    (found,) = run(fused(model), images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Clip", "Conv", "Add", "Add"]
    assert {tensor.name for tensor in model.graph.initializer} == {"kernel", "a_bias", "other", "zero", "six"}


def run(model, images):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, images)
