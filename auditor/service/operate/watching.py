"""The watches of an installation as administration sees them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from auditor.service.hooks.watches import Watches
from auditor.service.installation import Installation
from auditor.text import shown


def lines(installation: Installation) -> Iterator[str]:
    """A line for each watch, the oldest first."""
    for row in Watches(installation).all():
        what = row.source if row.revision is None else f"{row.source} at {row.revision}"
        policy = f", policy {row.policy}" if row.policy else ""
        looked = "not looked at yet" if row.looked_at is None else f"looked at {_minute(row.looked_at)}"
        failed = f": {row.reason}" if row.reason else ""
        yield f"{row.id}  {shown(what)}  every {row.every_s} s, {row.depth}{shown(policy)}; {looked}{shown(failed)}"


def _minute(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="minutes").replace("+00:00", "Z")
