"""What the benchmark's units do on nodes of a cluster: read at a pace, as over a network, or nothing."""

import os
import time

from auditor.content.away import Order, read_away, unpacked


def read(data: bytes) -> bytes:
    """Read a unit, and take as long as the node's pace would."""
    begun, pace = time.monotonic(), float(os.environ.get("PACE", "0"))
    answer = read_away(data)
    if pace:
        plan = unpacked(data, Order).plan
        time.sleep(max(0, plan.bytes / pace - (time.monotonic() - begun)))
    return answer


def nothing(data: bytes) -> bytes:
    """Answer at once."""
    return data
