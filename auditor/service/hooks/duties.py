"""What a worker does beside audits: it delivers notifications, and looks at what is watched."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypedDict

from auditor.service.hooks.watches import LOOK, Watches
from auditor.service.notify.deliveries import DELIVER, Deliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from auditor.service.installation import Installation
    from auditor.service.jobs import Queue, Step


class Duties(TypedDict):
    """What `Worker` takes by these names."""

    kinds: dict[str, Sequence[Step]]
    queues: Sequence[Queue]
    chores: Sequence[Callable[[], object]]


def duties(installation: Installation, stopped: threading.Event) -> Duties:
    """The further jobs of a worker. `stopped` has what is under way end at once, to be done by another worker."""
    deliveries = Deliveries(installation, stopped)
    watches = Watches(installation, stopped)
    return {
        "kinds": {DELIVER: (deliveries.send, deliveries.settle), LOOK: (watches.look, watches.conclude)},
        "queues": (deliveries.queue, watches.queue),
        "chores": (deliveries.add_due, watches.add_due),
    }
