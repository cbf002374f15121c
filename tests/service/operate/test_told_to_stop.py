"""The service is told to stop by a signal, at whatever moment."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, threading
from auditor.service.serve import heed_signals

stopped = threading.Event()
heed_signals(stopped)
with stopped._cond:  # as it is for a moment whenever somebody begins or ends to wait for it
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
sys.exit(0 if stopped.wait(30) else 1)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_counts_that_comes_while_the_event_is_held(name: str) -> None:
    """The handler runs in the thread that holds it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM, name], env=environment, timeout=60, check=False)
    assert done.returncode == 0
