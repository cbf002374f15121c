"""Fills an installation with finished audits: service_rows.py DATA CHECKPOINTS AUDITS; or DATA queue N SOURCE."""

import sys
from pathlib import Path

from sqlalchemy import insert

from auditor.service.audits.order import Order
from auditor.service.installation import open_installation
from auditor.service.settings import load
from auditor.service.store.database import new_id, now
from auditor.service.store.tables import audits, checkpoints

STEP = 5_000


def finished(data: Path, places: int, count: int) -> None:
    """So many checkpoints, and so many audits of them, each with a verdict."""
    installation = open_installation(load(None, data=data))
    with installation.database.write() as connection:
        at = now(connection)
        ids = [new_id(at) for _ in range(places)]
        latest: dict[str, str] = {}
        rows = []
        for n in range(count):
            audit = f"{at - count + n:012x}{n:014x}"
            latest[ids[n % places]] = audit
            rows.append(
                {
                    "id": audit, "checkpoint": ids[n % places], "source": f"hf://org/model-{n % places}",
                    "depth": "headers", "force": False, "priority": 5, "queue": "headers", "host": "hf",
                    "request": f"{n:064x}", "created_at": at - count + n, "state": "finished", "due_at": at,
                    "started_at": at, "ended_at": at, "verdict": ("passed", "failed")[n % 3 == 0],
                    "errors": n % 3, "warnings": 0, "report": f"{n:064x}", "tool": "0.1.0",
                }
            )  # fmt: skip
        connection.execute(
            insert(checkpoints),
            [
                {
                    "id": each,
                    "source": f"hf://org/model-{n}",
                    "created_at": at,
                    "latest_audit": latest.get(each),
                    "latest_at": at,
                }
                for n, each in enumerate(ids)
            ],
        )
        for begin in range(0, count, STEP):
            connection.execute(insert(audits), rows[begin : begin + STEP])
    installation.close()


def queued(data: Path, database: str | None, source: str, count: int) -> None:
    """So many audits that wait."""
    installation = open_installation(load(None, data=data, database=database))
    with installation.database.write() as connection:
        for n in range(count):
            order = Order(source=source, depth="headers", policy_text=f"# {n}", force=True)
            installation.audits.submit_within(connection, order)
    installation.close()


if __name__ == "__main__":
    if sys.argv[2] == "queue":
        queued(Path(sys.argv[1]), sys.argv[5] if len(sys.argv) > 5 else None, sys.argv[4], int(sys.argv[3]))
    else:
        finished(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
