"""What a signal must get through: code that catches what it does not expect, and code whose exceptions nobody gets."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAD = """
import os, signal, weakref
from vidrestore.cli.failing import report
from vidrestore.cli.stopping import stop_on_signals

class Thing:
    pass

class Mortal:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def asked(_=None):
    os.kill(os.getpid(), signal.SIGTERM)

stop_on_signals()
try:
    {body}
    signal.pause()
    print("went on")
except BaseException as error:
    raise SystemExit(report(error))
"""


@pytest.mark.parametrize(
    "body",
    [
        "asked()",
        "exec('try:\\n asked()\\nexcept Exception:\\n pass')",
        "Mortal()",
        "thing = Thing(); ref = weakref.ref(thing, asked); del thing",
    ],
    ids=["plain", "caught", "destructor", "callback"],
)
def test_a_signal_is_heard_wherever_it_comes(body: str) -> None:
    command = [sys.executable, "-c", _HEAD.format(body=body)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "vidrestore: error: stopped: terminated\n")
