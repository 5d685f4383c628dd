"""Experiments as a user meets them: processes with flags, that may be killed."""

import contextlib
import doctest
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from safetensors.numpy import load_file

from jaxad._utils import compile as backend
from jaxad.runs import cli
from xla_flags import of_one_device

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def start(script, *flags, cache):
    """A script under way; `cache` is the folder of compiled programs."""
    environment = {**os.environ, "XLA_FLAGS": of_one_device(), "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = [sys.executable, str(EXPERIMENTS / script), *map(str, flags)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(script, *flags, cache):
    """(exit status, standard output, standard error) of a script that runs to its end."""
    process = start(script, *flags, cache=cache)
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def with_flag(flags, name, *values):
    """The flags, in which this one, which is among them, has other values."""
    flags, start = list(flags), list(flags).index(name) + 1
    end = next((at for at in range(start, len(flags)) if str(flags[at]).startswith("--")), len(flags))
    return (*flags[:start], *values, *flags[end:])


def call(function, *flags):
    """What `run` returns, of an imported script's function within this process: no Python has to start.

    Programs stay where this process keeps them.
    """
    module, out, err = sys.modules[function.__module__], io.StringIO(), io.StringIO()
    options = {"presets": getattr(module, "PRESETS", None), "arguments": list(map(str, flags))}
    kept = mock.patch.object(backend, "enable_compilation_cache")
    with kept, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(function, module.Config, **options)
        except SystemExit as end:
            return end.code or 0, out.getvalue(), err.getvalue()


def kill_once(process, condition):
    """SIGKILL as soon as the condition holds; nothing where the process ends before."""
    while not condition() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def killed_and_resumed(script, flags, folder, moments, *, cache):
    """Start a run in a folder, kill it after each of the moments (seconds), and let the last session finish."""
    flags = (*flags, "--output", folder)
    for moment in moments:
        process = start(script, *flags, cache=cache)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (folder / "config.json").exists():
            flags = ("--resume", folder)
    status, _, err = run(script, *flags, cache=cache)
    assert status == 0, err


def same_weights(one, other):
    """Whether two files of weights hold the same names and, bit for bit, the same arrays."""
    expected, found = load_file(one), load_file(other)
    return expected.keys() == found.keys() and all(
        expected[name].tobytes() == found[name].tobytes() for name in expected
    )


def one_line(status, err, message):
    """Whether a script ended as on bad input: status 2, one line, no traceback, the message in it."""
    return status == 2 and message in err and "Traceback" not in err and len(err.strip().splitlines()) == 1


def run_example(function):
    """Run what a docstring shows; it must be there, and say what it says there."""
    (found,) = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={})
    assert found.examples, f"{function.__name__} has no example"
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(found, out=said.append)
    assert not said, "".join(said)
