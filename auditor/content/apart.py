"""Content read in a second process, which imports what that takes while this one imports what judging takes.

Made ready before it is known what the config says; that is then all it has to be told.
"""

import os
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING

from auditor.ahead import Ahead
from auditor.content import Reading

if TYPE_CHECKING:
    from auditor.content.plan import Blocks
    from auditor.facts import Inventory
    from auditor.probes import Content
    from auditor.reader import Answer, More
    from auditor.sources import Source

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def reader(reading: Reading) -> "More":
    """What the other process makes itself ready for: to read content as `reading` says."""
    parent = os.getpid()

    def ready(source: "Source", inventory: "Inventory") -> "Answer":
        _die_with(parent)
        _be_interrupted_once()
        from msgspec import msgpack

        from auditor.content.native import prepare
        from auditor.content.plan import Blocks
        from auditor.content.read import read_content

        prepare()

        def answer(question: bytes) -> bytes:
            blocks, mtp_layers = msgpack.decode(question, type=tuple[Blocks | None, tuple[int, ...]])
            return msgpack.encode(read_content(source, inventory, blocks, reading, mtp_layers=mtp_layers))

        return answer

    return ready


def read_apart(source: "Source", blocks: "Blocks | None", mtp_layers: Iterable[int]) -> "Content | None":
    """What the other process reads, as the `reading` that it was given says; None where it does not."""
    if not isinstance(source, Ahead):
        return None
    from msgspec import msgpack

    from auditor.probes import Content

    answer = source.ask(msgpack.encode((blocks, tuple(mtp_layers))))
    return None if answer is None else msgpack.decode(answer, type=Content)


def _die_with(parent: int) -> None:
    """An audit that is killed reads no further."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    except AttributeError:  # another system than Linux
        return
    if os.getppid() != parent:
        os._exit(1)


def _be_interrupted_once() -> None:
    """A terminal interrupts both processes, and the other passes its own on: a second would cost what was read."""

    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
