"""What the benchmark's units do on nodes of a cluster: read at a pace, as over a network, or nothing."""

import os
import time

import msgspec

from auditor.content.away import Order, read_away


def read(data: bytes) -> bytes:
    """Read a unit, and take as long as the node's pace would."""
    begun, pace = time.monotonic(), float(os.environ.get("PACE", "0"))
    answer = read_away(data)
    if pace:
        plan = msgspec.msgpack.decode(data, type=Order).plan
        time.sleep(max(0, plan.bytes / pace - (time.monotonic() - begun)))
    return answer


def nothing(data: bytes) -> bytes:
    """Answer at once."""
    return data
