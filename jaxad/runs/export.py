"""A detector leaves the library: one file that makes a decision of the bytes of a photograph, wherever it is run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxad._utils.files import to_json, write_atomic, write_json
from jaxad._utils.version import VERSION
from jaxad.data.depth import BYTES
from jaxad.runs.detection import depth_of, fit_of
from jaxad.runs.export_formats import FORMATS, check_packages, described
from jaxad.runs.export_parity import BATCH, Expected, Parity, compare, expected
from jaxad.runs.export_predictors import predictor
from jaxad.runs.export_program import Program, make_program
from jaxad.runs.progress import line, table
from jaxad.runs.saving import LoadedDetector, load


class Exported(NamedTuple):
    """What became of one format."""

    format: str
    path: Path | None  # of the artefact; None where there is none
    batch: str  # how many photographs it takes at a time
    size: int  # bytes
    parity: Parity | None  # with the detector
    reason: str  # why there is none, or not the best form of it; empty where there is


def export(
    run: str | Path | LoadedDetector,
    folder: str | Path,
    images: np.ndarray,
    *,
    formats: Sequence[str] = ("onnx", "stablehlo"),
) -> list[Exported]:
    """Write a detector as programs that need no part of this library, each with all that it does to a photograph.

    An artefact takes photographs [B, H, W, C] uint8 and has the outputs "score" [B], "map" [B, h, w] where the detector
    localises and, where it has a threshold, "anomalous" [B] and "threshold": resizing, scaling, features and
    aggregation are part of it. It is written only if it agrees with the detector on `images`: scores and maps to 1e-5
    of their range, decisions exactly. Beside it come a small program that scores files with it, and `export.json`, with
    what was compared.

    Args:
      run: folder of a finished run or of a saved detector, or what `jaxad.load` returns.
      folder: new or empty; nothing is written where no format agrees.
      images: [N, H, W, C] uint8, photographs as they will come, of 1 or 3 channels, at least two that differ. Their
        shape is that of the photographs that the artefact takes. Held-out images, on which no threshold was set.
      formats: "onnx", and "stablehlo", for CPU, CUDA and TPU at once. Both need `pip install 'jaxad[export]'`.

    Returns:
      What became of each format: its file and how it agrees, or the reason why there is none.

    Raises:
      ValueError: images of another form, a format that is not known or whose packages are missing, a folder that is not
        empty, a detector of other images than those of 8 bits, or of which no format agrees; in one line.

    >>> import jax, jaxad, tempfile
    >>> entry, images = jaxad.detectors()["pca"], jaxad.load_task("digits").train.images
    >>> config = entry.config(components=8)
    >>> state, _ = jaxad.fit(entry.build(config), jax.random.key(0), images, steps=4, batch_size=32)
    >>> state = jaxad.calibrate(entry.build(config), state, images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxad.save(f"{folder}/saved", config, state, image_shape=images.shape[1:])
    ...     (made,) = jaxad.export(f"{folder}/saved", f"{folder}/out", images[:9], formats=["stablehlo"])
    ...     made.path.name, made.parity.score < 1e-5
    ('detector.stablehlo', True)
    """
    folder, images = Path(folder), np.asarray(images)
    _check(folder, images, formats)
    loaded = run if isinstance(run, LoadedDetector) else load(run, trainable=False)
    if depth_of(loaded).range_of("uint8") != BYTES:
        raise ValueError(f"{loaded.name} was trained on images of more than 8 bits, and an artefact takes bytes")
    program = make_program(loaded, images.shape[1:])
    wanted = expected(loaded, images)
    about = {
        "jaxad": VERSION, "detector": loaded.name, "config": to_json(loaded.config), "fit": fit_of(loaded),
        "threshold": to_json(loaded.threshold), "images": list(images.shape[1:]), "outputs": list(program.all_names),
    }  # fmt: skip
    found = [_exported(name, program, images, wanted, about, folder) for name in formats]
    if all(made.path is None for made in found):
        raise ValueError(f"{loaded.name} cannot be exported: {'; '.join(f'{m.format}: {m.reason}' for m in found)}")
    kept = [to_json(made) | {"path": made.path and made.path.name} for made in found]  # beside them, wherever that is
    write_json(folder / "export.json", about | {"artefacts": kept})
    return found


def show(made: Sequence[Exported]) -> None:
    """Print what became of each format, and why something is not there."""
    rows = []
    for each in made:
        compared = [None] * 4 if each.parity is None else list(each.parity)
        rows.append([each.format, each.batch or "not written", each.size / 1e6 if each.path else None, *compared])
    columns = ("format", "photographs at a time", "MB", "images", "scores differ by", "maps by", "decisions")
    table("exported; differences are shares of the range", columns, rows)
    for each in made:
        if each.reason:
            line(f"{each.format}: {'instead of' if each.path else 'not written because of'} {each.reason}")
        if each.path:
            line(f"{each.path}: python {each.path.parent / f'predict_{each.format}.py'} PHOTOGRAPH ...")


def _check(folder: Path, images: np.ndarray, formats: Sequence[str]) -> None:
    if isinstance(formats, str) or not formats or set(formats) - set(FORMATS) or len(set(formats)) < len(formats):
        raise ValueError(f"formats are {formats!r}; give some of {', '.join(FORMATS)}, each once, in a list")
    for name in formats:
        check_packages(name)
    if images.ndim != 4 or 0 in images.shape or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        given = f"{images.dtype} of shape {images.shape}"
        raise ValueError(f"images are {given}; give uint8 [N, H, W, C] with 1 or 3 channels, as photographs are stored")
    if len(images) < 2:
        raise ValueError("there is one image; give at least two that differ, better twenty")
    try:
        used = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}): choose another folder") from error
    if used:
        raise ValueError(f"folder {folder} is not empty: choose a new or empty one")


def _exported(
    name: str, program: Program, images: np.ndarray, wanted: Expected, about: dict[str, Any], folder: Path
) -> Exported:
    """The first way to write a format that agrees, written; or why none does."""
    form, reasons = FORMATS[name], []
    for attempt in form.attempts:
        try:
            content = attempt.write(program, described(about))
            run = form.load(content)
            parity = compare(run, program.all_names, images, wanted, batch=1 if attempt.static else BATCH)
        except Exception as error:  # whatever exporters and runtimes raise: then there is no artefact
            reasons.append(_one_line(error))
            continue
        if not parity.problem:
            path = folder / form.file
            write_atomic(path, [content])
            script, text = predictor(name, form.file, program.photograph, program.all_names)
            write_atomic(folder / script, [text.encode()])
            return Exported(name, path, attempt.batch, len(content), parity, "; ".join(reasons))
        reasons.append(parity.problem)
    return Exported(name, None, "", 0, None, "; ".join(dict.fromkeys(reasons)))


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__
