"""Numbers that nobody can mean are refused in one line before memory is taken: sizes and seeds."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from jaxad import data
from jaxad._utils import memory
from jaxad._utils.validate import MOST, SEEDS, check_seed
from jaxad.data.foreign import disturb, photographs
from jaxad.methods import config_of
from jaxad.methods.classical.pca import PCAConfig, pca
from jaxad.runs import cli
from jaxad.runs.search_config import SearchConfig
from jaxad.training.scoring import score_images

# ---- memory


def test_memory_that_is_there_is_more_than_this_process_has_and_less_than_the_machine_has():
    there = memory.available_memory()
    assert 10**7 < there < 10**14


@pytest.mark.parametrize(
    ("count", "words"), [(5, "5 bytes"), (1234, "1.23 kB"), (99_999_999, "100 MB"), (5e14, "500 TB")]
)
def test_numbers_of_bytes_are_said_for_people(count, words):
    assert memory.in_units(int(count)) == words


def test_the_least_limit_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("4000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 1500\n")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert memory.available_memory() == 2500
    memory.check_memory(2500, "10 things", "give fewer")
    with pytest.raises(
        ValueError, match=r"10 things take at least 2\.5 kB of memory, and 2\.5 kB are free: give fewer"
    ):
        memory.check_memory(2501, "10 things", "give fewer")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() > 10**7


def test_sizes_that_cannot_fit_are_refused_with_the_estimate_before_anything_is_decoded(tmp_path, rng, monkeypatch):
    for kind in ("good", "bad"):
        (tmp_path / kind).mkdir()
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(tmp_path / kind / f"{i}.png")
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    said = r"images of 100000x100000 pixels take at least .* of memory, and 1 GB are free: give a smaller image size"
    for spec in (f"folder:{tmp_path}", "digits"):
        with pytest.raises(ValueError, match=said):
            data.load_task(spec, image_size=100_000)
    for make in (photographs, lambda side: data.resize(np.zeros((2, 9, 9, 3), np.float32), side)):
        with pytest.raises(ValueError, match=said):
            make(100_000)
    assert data.load_task(f"folder:{tmp_path}", image_size=12).train.images.shape[1:3] == (12, 12)


# ---- seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    is_command_line = True

    seed: int = 0
    num_seeds: int = 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seed", "-1"), "--seed is -1; seeds are integers from 0 to 4294967295"),
        (("--seed", str(2**32)), "--seed is 4294967296; seeds are integers from 0 to 4294967295"),
        (("--seed", "99999999999999999999"), "--seed is 99999999999999999999; seeds are integers from 0"),
        (("--seed", str(2**32 - 2), "--num-seeds", "3"), "of which 3 are wanted from there on"),
        ((), None),
        (("--seed", str(2**32 - 1)), None),
    ],
)
def test_a_command_line_names_the_seed_and_its_limit(flags, message, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(lambda config: None, Settings, arguments=list(flags))
    err = capsys.readouterr().err
    assert (end.value.code, len(err.splitlines())) == ((None, 0) if message is None else (2, 1))
    assert message is None or message in err


def test_seeds_beyond_the_limit_would_have_had_the_keys_of_others():
    np.testing.assert_array_equal(
        jax.random.key_data(jax.random.key(7)), jax.random.key_data(jax.random.key(7 + SEEDS))
    )
    check_seed(np.uint32(7))
    for seed in (-1, SEEDS, 1.0, "3", None):
        with pytest.raises(ValueError, match=r"seed is .*from 0 to 4294967295"):
            check_seed(seed)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**20, 0.5])
def test_tasks_refuse_them_likewise(seed):
    for make in (data.load_task, data.load, data.load_class_sets):
        with pytest.raises(ValueError, match=r"seed is .*from 0 to 4294967295"):
            make("digits", seed=seed)
    with pytest.raises(ValueError, match=r"seed is .*from 0 to 4294967295"):
        data.load_labelled("painted:brick:64", seed=seed)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 8 GiB"), "Unable to allocate 8 GiB"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: none left"), "RESOURCE_EXHAUSTED: none left"),
        (jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 9"), "INTERNAL: Out of memory allocating 9"),
    ],
)
def test_too_little_memory_ends_in_one_line(capsys, error, said):
    def function(config):
        raise error

    with pytest.raises(SystemExit) as end:
        cli.main(function, Settings, arguments=[])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"error: out of memory ({said}): give fewer or smaller images, or smaller batches\n"
    )


def test_draws_that_do_not_fit_into_memory_are_refused_at_once():
    with pytest.raises(
        ValueError, match=r"1000000000000 draws of 4 photographs of 8x8 pixels take at least .* fewer draws"
    ):
        disturb(np.zeros((4, 8, 8, 3), np.uint8), 10**12, np.random.default_rng(0))


@pytest.mark.parametrize("children", [2.5, 4.0, True, "4"])
def test_numbers_of_things_are_whole(children):
    with pytest.raises(ValueError, match=rf"children is {children!r}; give a whole number"):
        SearchConfig(children=children).check()
    for options in ({"limit": 20.5}, {"valid_anomalies": 2.5}):
        with pytest.raises(ValueError, match=r"(limit is 20|valid_anomalies is 2)\.5; give a whole number"):
            data.load_task("digits", normal_classes="0", **options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Many(Settings):
    limit: int | None = None
    sizes: tuple[int, ...] = ()
    within: PCAConfig = dataclasses.field(default_factory=PCAConfig)


@pytest.mark.parametrize("flag", ["--limit", "--num-seeds", "--sizes 3", "--within.components"])
def test_no_number_is_greater_than_can_be_counted(flag, capsys):
    for number, said in ((MOST, ""), (MOST + 1, f"error: {flag.split()[0]} is {MOST + 1}; the most is {MOST}\n")):
        with pytest.raises(SystemExit):
            cli.main(lambda config: None, Many, arguments=[*flag.split(), str(number)])
        assert capsys.readouterr().err == said


def test_settings_of_a_detector_are_numbers_that_can_be_counted():
    """JAX would raise a TypeError of many lines."""
    for make in (lambda: pca(components=10**20), lambda: config_of("pca", ["components=100000000000000000000"])):
        with pytest.raises(ValueError, match=r"^components is 1(0{20}); the most is 2147483647$"):
            make()
    with pytest.raises(ValueError, match=r"^widths is 3000000000; the most is 2147483647$"):
        config_of("deep_svdd", ["widths=[8,3000000000]"])


@pytest.mark.parametrize("name", ["agad", "ama", "ganomaly", "nbs", "skip_ganomaly", "unet_segmenter"])
def test_multipliers_of_channels_have_a_limit(name):
    with pytest.raises(ValueError, match=r"^width is 1e\+30; give a number above 0 and up to 1000$"):
        config_of(name, ["width=1e30"])


@pytest.mark.parametrize("seed", [-1, SEEDS, 0.5])
def test_a_search_refuses_seeds_that_would_be_others(seed):
    with pytest.raises(ValueError, match=rf"seed is {seed}; .*from 0 to 4294967295"):
        SearchConfig(seed=seed).check()


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, bool])
def test_scores_of_numbers_whose_white_nobody_knows_are_refused(dtype):
    images = np.zeros((2, 4, 4, 1), dtype)
    with pytest.raises(ValueError, match=rf"images are {np.dtype(dtype)}; give uint8, or floats in \[0, 1\]"):
        score_images(pca(), None, images)
