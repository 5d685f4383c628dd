"""Prepared sets that are damaged, and sets that cannot be prepared: one line, soon, that names file and remedy."""

import shutil
import socket
import time

import pytest
from prepared_sets import prepare

from jaxad import data
from jaxad.data.sources import tfds as prepared


def torn(file, change):
    content = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(change(content))


def mangled(content):
    third = len(content) // 3
    return (
        content[:third] + bytes(value ^ 0x5A for value in content[third : third + 200_000]) + content[third + 200_000 :]
    )


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "mnist", images=100)
    return folder


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("mnist-test.array_record-00000-of-00001", lambda content: content[: len(content) // 2]),
        ("mnist-test.array_record-00000-of-00001", lambda content: content[:-10]),
        ("mnist-test.array_record-00000-of-00001", lambda content: b""),
        ("mnist-test.array_record-00000-of-00001", mangled),
        ("mnist-test.array_record-00000-of-00001", None),
        ("dataset_info.json", lambda content: b""),
        ("dataset_info.json", lambda content: content[:200]),
        ("dataset_info.json", lambda content: b"[]"),
    ],
)
def test_damaged_files_are_named_with_what_to_do(mnist, tmp_path, file, change):
    folder = tmp_path / "mnist" / "3.0.1"
    shutil.copytree(mnist / "mnist" / "3.0.1", folder)
    assert len(data.load("mnist", split="test", limit=20, data_dir=tmp_path).ids) == 20
    if change is None:
        (folder / file).unlink()
    else:
        torn(folder / file, change)
    with pytest.raises(ValueError, match=rf"cannot read .*{file} \(.*\): copy it again, or remove .*3\.0\.1") as error:
        data.load("mnist", split="test", limit=20, data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_a_set_that_is_known_and_cannot_be_opened_is_not_unknown(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"cannot open mnist in .* \(.+\): check the name after it, or copy or prepare"
    ):
        data.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("answers", [False, True])
def test_a_proxy_that_is_dead_or_silent_is_waited_for_a_bounded_time(tmp_path, monkeypatch, answers):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:  # it takes the connection, and says nothing
            server.listen(5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, address)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(prepared, "PATIENCE", 0.2)
        began = time.monotonic()
        with pytest.raises(ValueError, match=r"cifar100 is not prepared in .*no network.*TFDS_DATA_DIR"):
            data.load("cifar100", data_dir=tmp_path)
        assert time.monotonic() - began < 20  # importing TFDS is most of it
