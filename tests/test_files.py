"""Files hold what was meant, or stay as they were."""

import csv
import dataclasses
import enum
import json
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxad._utils.files import (
    Prediction,
    append_line,
    from_json,
    read_array,
    read_lines,
    to_json,
    write_array,
    write_json,
    write_predictions,
    write_text,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    left: int
    right: object


def test_json_of_everything_a_result_holds(tmp_path):
    value = {
        "nan": float("nan"),
        "inf": [np.inf, -np.float32("inf")],
        "array": np.array([[1.5, np.nan]]),
        "scalars": (np.int64(3), np.bool_(True), np.float16(0.5), jnp.bfloat16(0.5), jnp.arange(2)),
        "pair": Pair(1, Colour.RED),
        "config": Optimizer(),
        "set": {3, 1},
        1: "Größe \udcff",
    }
    expected = {
        "nan": None,
        "inf": [None, None],
        "array": [[1.5, None]],
        "scalars": [3, True, 0.5, 0.5, [0, 1]],
        "pair": {"left": 1, "right": "RED"},
        "config": {"rate": 0.1, "betas": [0.9, 0.999]},
        "set": [1, 3],
        "1": "Größe \udcff",
    }
    write_json(tmp_path / "new" / "results.json", value)
    assert json.loads((tmp_path / "new" / "results.json").read_text("utf-8")) == expected
    assert to_json(expected) == expected
    before = (tmp_path / "new" / "results.json").read_bytes()
    with pytest.raises(ValueError, match="is a function, which JSON cannot hold"):
        write_json(tmp_path / "new" / "results.json", {"a": [lambda: 0]})
    assert (tmp_path / "new" / "results.json").read_bytes() == before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    optimizers: tuple[Optimizer, ...] = (Optimizer(), Optimizer(rate=1))
    best: Optimizer | None = None
    seed: int | None = None
    size: int | tuple[int, int] = (2, 3)
    mode: Literal["fast", "exact"] = "exact"
    shuffled: bool = True
    name: str = "a"
    found: Pair = dataclasses.field(default_factory=lambda: Pair(1, None))
    scores: dict[str, float] = dataclasses.field(default_factory=lambda: {"a": 1.5})
    anything: Any = None

    def __post_init__(self):
        if self.name == "taken":
            raise ValueError("name is taken; choose another")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizers": (), "best": Optimizer(betas=(0, 0.5)), "seed": 3, "size": 4},
        {"shuffled": False, "found": Pair(2, [1, {"x": 2}]), "scores": {}, "anything": {"y": [None]}},
    ],
)
def test_what_became_json_comes_back(fields):
    value = Training(**fields)
    assert from_json(Training, json.loads(json.dumps(to_json(value))), "training") == value


def without_left(record):
    del record["found"]["left"]


MISFITS = {
    "no record": (lambda r: r.update(best=[1]), "training.best has fields list; give exactly rate, betas"),
    "a missing field": (without_left, "training.found has fields ['right']; give exactly left, right"),
    "an unknown field": (lambda r: r["found"].update(up=1), "has fields ['left', 'right', 'up']; give exactly left"),
    "one value for many": (lambda r: r.update(optimizers=3), "training.optimizers is 3; give a list"),
    "too few": (lambda r: r["optimizers"][0].update(betas=[1]), "optimizers[0].betas has 1 entries; give 2"),
    "text for a number": (lambda r: r.update(seed="3"), "training.seed is '3'; give a value of type int"),
    "what was NaN": (lambda r: r["scores"].update(a=None), "training.scores.a is None; give a value of type float"),
    "a number for a truth": (lambda r: r.update(shuffled=1), "training.shuffled is 1; give a value of type bool"),
    "a truth for a number": (lambda r: r["found"].update(left=True), "found.left is True; give a value of type int"),
    "an unknown choice": (lambda r: r.update(mode="slow"), "training.mode is 'slow'; choose one of fast, exact"),
    "what the class refuses": (lambda r: r.update(name="taken"), "name is taken; choose another"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_json_that_does_not_fit_is_named(misfit):
    change, message = MISFITS[misfit]
    record = to_json(Training())
    change(record)
    with pytest.raises(ValueError) as error:
        from_json(Training, record, "training")
    assert message in str(error.value)


def test_what_older_files_lack_has_its_default():
    record = to_json(Training(seed=3, optimizers=(Optimizer(rate=2),)))
    del record["mode"], record["scores"], record["optimizers"][0]["betas"]
    assert from_json(Training, record, "training") == Training(seed=3, optimizers=(Optimizer(rate=2),))


def test_text_and_predictions(tmp_path):
    write_text(tmp_path / "report.html", "<p>Größe</p>\n")
    assert (tmp_path / "report.html").read_bytes() == "<p>Größe</p>\n".encode()
    score = np.float32(0.1)
    rows = [
        Prediction('a, "b".png', "test", np.int32(1), score, np.bool_(True)),
        ("7", "valid", None, -1e30, None),
    ]
    write_predictions(tmp_path / "predictions.csv", rows)
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["id", "part", "label", "score", "decision"]
    assert (read[0]["id"], read[0]["label"], read[0]["decision"]) == ('a, "b".png', "1", "1")
    assert np.float32(read[0]["score"]) == score
    assert (read[1]["label"], float(read[1]["score"]), read[1]["decision"]) == ("", -1e30, "")
    with pytest.raises(ValueError, match="row 0 has 2 fields, expected id, part"):
        write_predictions(tmp_path / "predictions.csv", [("a", "test")])


def test_lines_survive_a_torn_one(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_lines(path) == []
    append_line(path, {"a": np.float32(1.5)})
    path.write_bytes(path.read_bytes() + b'{"b": 2, "c')
    append_line(path, {"d": [np.nan]})
    assert read_lines(path) == [{"a": 1.5}, {"d": [None]}]


def test_arrays_come_back_and_damaged_ones_are_named(tmp_path):
    path, array = tmp_path / "a.npy", np.arange(6.0).reshape(2, 3)
    write_array(path, array)
    np.testing.assert_array_equal(read_array(path), array)
    whole = path.read_bytes()
    for content in (b"", whole[:3], whole[:40], whole[:-1], b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*a.npy: ") as error:
            read_array(path)
        assert "\n" not in str(error.value)
    with open(path, "wb") as file:
        np.savez(file, array)
    with pytest.raises(ValueError, match="it is an archive, not an array"):
        read_array(path)
    with pytest.raises(ValueError, match="No such file"):
        read_array(tmp_path / "none.npy")
