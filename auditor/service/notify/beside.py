"""Something that may hang, done beside: whoever waits for it goes on in time, and at once when the process stops."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_LOOK_S = 0.1


def beside(
    act: Callable[[], _T], *, seconds: float, stopped: threading.Event, interrupt: Callable[[], None] | None = None
) -> _T | None:
    """What `act` gives, in a thread that nobody waits for at the end; None where the process stops before.

    Raises what `act` raises, and TimeoutError where it takes longer; it is interrupted then.
    """
    came: list[_T] = []
    failed: list[Exception] = []
    done = threading.Event()

    def run() -> None:
        try:
            came.append(act())
        except Exception as error:  # told to whoever waits
            failed.append(error)
        done.set()

    threading.Thread(target=run, name="auditor-beside", daemon=True).start()
    until = time.monotonic() + seconds
    while not done.wait(_LOOK_S):
        if not stopped.is_set() and time.monotonic() < until:
            continue
        if interrupt is not None:
            interrupt()
        if stopped.is_set():
            return None
        raise TimeoutError
    if failed:
        raise failed[0]
    return came[0]
