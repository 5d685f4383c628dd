"""Whatever is asked for, given or broken ends in a result or in one line, and loses nothing that was there.

`pytest -m slow tests/test_fuzz.py`; FUZZ_EXAMPLES says how many, by default 1,000 in all.
"""

import contextlib
import dataclasses
import gzip
import importlib
import io
import os
import shutil
import sys
import tempfile
import types
import typing
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripts import EXPERIMENTS, call

from jaxad import data
from jaxad.data.fingerprint import fingerprint
from jaxad.data.lazy import find_images
from jaxad.runs import runner

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

sys.path.append(str(EXPERIMENTS))
SCRIPTS = ("autoad_search", "train_detector", "ama_ood", "agad_oneclass", "nbs_segmentation", "compare_search")
MODULES = {name: importlib.import_module(name) for name in (*SCRIPTS, "refinement", "tables")}
HOMES = {name: sys.modules[module.run.__module__] for name, module in MODULES.items() if hasattr(module, "run")}
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 1000))

pytestmark = pytest.mark.slow


def examples(share):
    """This share of all examples, whatever time each takes."""
    unhealthy = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    number = max(1, round(share * EXAMPLES))
    return settings(max_examples=number, deadline=None, suppress_health_check=unhealthy, database=None)


def check_line(text):
    """One line that a person can read."""
    assert text
    assert "\n" not in text
    assert "Traceback" not in text


# ---- what is asked for -------------------------------------------------------------------------------------------

INTEGERS = ("0", "1", "2", "3", "8", "16", "-1", "1000000", str(10**20), "1.5", "", "x")
FLOATS = ("0", "0.05", "0.5", "1", "-1", "nan", "inf", "1e-300", "1e300", "x")
TEXTS = ("", "x", "none", "None", "auto", "a,b", "0", "1", "é", "../..", "a=b", "=", "steps=2", "steps=-1", "x" * 300)
DATASETS = (
    "digits", "textures:8", "textures:0", "textures:x", "textures", "painted:brick:16", "painted:wood:16", "painted",
    "gaussian", "uniform", "npz:", "npz:nowhere.npz", "folder:nowhere", "folder:", "mvtec:nowhere", "idx:x", "pairs:x",
)  # fmt: skip
FEW = {"num_seeds", "limit", "image_size", "auto_side", "side", "draws"}  # of what is made before any check can end it
LEFT = {"output", "resume", "cache_dir", "data_dir", "quiet", "list", "plugins", "tables", "jobs"}


def values(name, hint):
    """Arguments for a field of this type, good and bad ones."""
    kinds = typing.get_args(hint)
    if name in ("dataset", "ood"):
        return st.lists(st.sampled_from(DATASETS), min_size=1, max_size=1 if name == "dataset" else 2)
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from([[str(kind)] for kind in (*kinds, "other")])
    if typing.get_origin(hint) is tuple:
        return st.lists(values(name, kinds[0]).map(lambda found: found[0]), max_size=3)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return st.one_of([st.just(["None"]), *(values(name, kind) for kind in kinds if kind is not types.NoneType)])
    texts = {int: INTEGERS[:7] if name in FEW else INTEGERS, float: FLOATS}.get(hint, TEXTS)
    return st.sampled_from([[text] for text in texts])


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from(SCRIPTS))
    hints = typing.get_type_hints(MODULES[name].Config)
    fields = [f.name for f in dataclasses.fields(MODULES[name].Config) if f.name not in LEFT]
    flat = [field for field in fields if not dataclasses.is_dataclass(hints[field]) and hints[field] is not bool]
    flags = ["--limit", "40"] if "limit" in flat else []
    for field in draw(st.lists(st.sampled_from(flat), max_size=4)):
        flags += [f"--{field.replace('_', '-')}", *draw(values(field, hints[field]))]
    return name, flags


@examples(0.4)
@given(command_lines())
def test_any_command_line_is_accepted_or_refused_in_one_line(line):
    name, flags = line
    accepted = []

    @contextlib.contextmanager
    def session(config, kind, *about, data=None, **options):
        accepted.append(fingerprint(data))
        yield None  # as if it were finished

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "session", session)
        if hasattr(HOMES[name], "session"):
            patch.setattr(HOMES[name], "session", session)
        patch.setitem(os.environ, "TFDS_DATA_DIR", "/nowhere")
        status, _, err = call(MODULES[name].run, *flags)
    assert "Traceback" not in err
    if accepted:
        assert status == 0
        assert accepted[0].parts
    else:
        assert status == 2
        if err.startswith("error: "):  # otherwise the parser has drawn a box
            check_line(err.strip())


# ---- what is given -----------------------------------------------------------------------------------------------


def picture(suffix, rng, shape=(9, 8)):
    stream = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(suffix, suffix.upper())
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(stream, kind)
    return stream.getvalue()


def archive(rng):
    stream = io.BytesIO()
    images = rng.integers(0, 256, (16, 6, 6, 1), np.uint8)
    np.savez_compressed(stream, images=images, labels=np.arange(16) // 10, masks=images[..., 0] * 0)
    return stream.getvalue()


def idx(rng, labels):
    head = (
        bytes([0, 0, 8, 1 if labels else 3]) + (16).to_bytes(4, "big") + (b"" if labels else 2 * (6).to_bytes(4, "big"))
    )
    body = (np.arange(16) // 10).astype(np.uint8) if labels else rng.integers(0, 256, (16, 6, 6), np.uint8)
    return gzip.compress(head + body.tobytes())


@st.composite
def damages(draw):
    """A change of some bytes."""
    kind = draw(st.sampled_from(["none", "cut", "flip", "zero", "insert", "empty", "other"]))
    at, length = draw(st.floats(0, 1)), draw(st.integers(1, 40))
    junk = draw(st.binary(min_size=1, max_size=20))

    def change(content):
        start = int(at * len(content))
        stop = start + length
        return {
            "none": content, "cut": content[:start], "empty": b"", "other": junk,
            "flip": content[:start] + bytes(b ^ 0xA5 for b in content[start:stop]) + content[stop:],
            "zero": content[:start] + bytes(len(content[start:stop])) + content[stop:],
            "insert": content[:start] + junk + content[start:],
        }[kind]  # fmt: skip

    return change


NAMES = (
    "x.png",
    "ü.png",
    "x y.png",
    "x.PNG",
    ".hidden.png",
    "x",
    "x.txt",
    "x\n.png",
    "-x.png",
    "x.jpg",
    "x.npz",
    "x.tif",
)


@examples(0.4)
@given(
    st.sampled_from(["classes", "alone", "mvtec", "pairs", "npz", "idx"]),
    st.sampled_from(["png", "jpg", "bmp", "tif", "gif", "webp", "pgm"]),
    st.lists(st.tuples(st.integers(0, 30), damages(), st.sampled_from(NAMES)), max_size=4),
    st.integers(0, 100),
)
def test_any_files_are_read_or_refused_in_one_line(layout, suffix, changes, seed):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set"
        made = {
            "classes": {f"{kind}/{i}.{suffix}" for kind in ("good", "bad") for i in range(10)},
            "alone": {f"{i}.{suffix}" for i in range(12)},
            "mvtec": {f"{p}/{i}.{suffix}" for p in ("train/good", "test/good", "test/hole") for i in range(6)}
            | {f"ground_truth/hole/{i}_mask.png" for i in range(6)},
            "pairs": {f"{kind}/{i}.png" for kind in ("images", "masks") for i in range(10)},
            "npz": {"x.npz"},
            "idx": {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"},
        }[layout]
        files = sorted(made)
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            content = archive(rng) if layout == "npz" else idx(rng, "labels" in name) if layout == "idx" else None
            (folder / name).write_bytes(picture(name.rpartition(".")[2], rng) if content is None else content)
        for number, change, name in changes:
            path = folder / files[number % len(files)]
            content = change(path.read_bytes())
            path.write_bytes(content)
            (path.parent / name).write_bytes(content)
        spec = {"classes": "folder", "alone": "folder"}.get(layout, layout) + f":{folder}{'/x.npz' * (layout == 'npz')}"
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        options = (
            {} if layout in ("alone", "mvtec", "pairs") else {"normal_classes": "good" if layout == "classes" else "0"}
        )
        try:
            data.check_task(data.load_task(spec, anomaly_ratio=None, image_size=8, **options))
        except ValueError as error:
            check_line(str(error).replace("\\n", " ").replace("x\n.png", "x.png"))
        for image in find_images([folder], may_be_empty=True):
            with contextlib.suppress(ValueError):
                assert image.read().ndim == 3
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# ---- what is broken ----------------------------------------------------------------------------------------------

FLAGS = {
    "train_detector": (
        "--detector", "conv_autoencoder", "--settings", "steps=4", "widths=[4]", "latent_dim=2", "--checkpoints", "2",
        "--normal-classes", "0", "--batch-size", "8",
    ),
    "agad_oneclass": (
        "--classes", "0", "--gammas", "0", "--steps", "2", "--checkpoints", "1", "--agad.width", "0.05", "--compare",
        "--agad.latent-dim", "4", "--batch-size", "8", "--resamples", "2",
    ),
}  # fmt: skip


@contextlib.contextmanager
def without_pages():
    """Pages are drawn by tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FLAGS:
            patch.setattr(HOMES[name].report, "render_training", lambda **parts: "page")
            patch.setattr(HOMES[name].report, "render_one_class", lambda **parts: "page")
            patch.setattr(HOMES[name].report, "agad_pictures", lambda *parts: {})
        yield


def left(folder):
    """What must not depend on what was broken and mended."""
    return {name: (folder / name).read_bytes() for name in ("best/weights.safetensors", "predictions.csv")}


@pytest.fixture(scope="module", params=FLAGS)
def whole(request, tmp_path_factory):
    """(experiment, archive of its images, folder of its finished run)"""
    folder, rng = tmp_path_factory.mktemp(request.param), np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 1), np.uint8)
    np.savez(folder / "x.npz", images=images, labels=np.arange(60) // 40)
    flags = (*FLAGS[request.param], "--dataset", f"npz:{folder / 'x.npz'}", "--output", folder / "run")
    with without_pages():
        status, _, err = call(MODULES[request.param].run, *flags)
    assert status == 0, err
    return MODULES[request.param], folder / "x.npz", folder / "run"


@examples(0.1)
@given(breaks=st.lists(st.tuples(st.integers(0, 60), damages(), st.booleans()), max_size=3), changed=st.integers(0, 4))
def test_any_broken_run_is_mended_or_refused_in_one_line(whole, breaks, changed):
    experiment, images, finished = whole
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        shutil.copytree(finished, folder)
        for name in ("results.json", "report.html", "predictions.csv"):
            (folder / name).unlink()
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
        touched = set()
        for number, change, gone in breaks:
            path = files[number % len(files)]
            touched.add(path)
            if gone:
                path.unlink(missing_ok=True)
            elif path.exists():
                path.write_bytes(change(path.read_bytes()))
        flags = ["--resume", str(folder)]
        if changed == 0:  # other images
            arrays = dict(np.load(images))
            np.savez(Path(temporary) / "y.npz", images=255 - arrays["images"], labels=arrays["labels"])
            flags += ["--dataset", f"npz:{Path(temporary) / 'y.npz'}"]
        before = {path: path.read_bytes() for path in files if path.exists()}
        with without_pages(), warnings.catch_warnings():
            status, _, err = call(experiment.run, *flags)
        assert "Traceback" not in err
        if status == 0:
            assert changed != 0
            assert left(folder) == left(finished)
        else:
            check_line(err.strip().splitlines()[-1])
            gone = [path for path, content in before.items() if not path.exists() or path.read_bytes() != content]
            assert not gone or status == 2  # what was made again may be new, nothing is missing
            assert all(path.exists() for path in before)


@examples(0.1)
@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode), st.lists(damages(), max_size=2))
def test_any_file_of_a_table_is_read_or_refused_in_one_line(content, changes):
    whole = (EXPERIMENTS / "paper_tables" / "ama-1.toml").read_bytes()
    for change in changes:
        whole = change(whole)
    with tempfile.TemporaryDirectory() as temporary:
        for number, text in enumerate((content, whole)):
            path = Path(temporary) / f"{number}.toml"
            path.write_bytes(text)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(MODULES["tables"], "fill", lambda *parts, **options: None)
                status, _, err = call(
                    MODULES["tables"].run, "--tables", path, "--output", Path(temporary) / "out", "--quiet"
                )
            assert status in (0, 2)
            if status == 2:
                check_line(err.strip())
