"""Rows that are due: several processes look at once, and each row gets one job."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select, text

from auditor.service.installation import Installation, open_installation
from auditor.service.notify.deliveries import Deliveries, announcing
from auditor.service.notify.targets import Targets
from auditor.service.settings import Settings
from auditor.service.store.tables import deliveries as table
from tests.service.notify.conftest import End


def test_of_many_that_look_at_once_one_gives_a_row_its_job(
    installation: Installation, settings: Settings, targets: Targets, end: End
) -> None:
    targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    for n in range(10):
        end(source=f"hf://org/{n}")
    with installation.database.write() as connection:
        connection.execute(table.update().values(job=None, due_at=0))
    turn = threading.Barrier(4)

    def look(_: int) -> int:
        opened = open_installation(settings, announce=announcing)
        try:
            deliveries = Deliveries(opened)
            turn.wait(30)
            return deliveries.add_due()
        finally:
            opened.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(look, range(4))) == 10
    jobs = "workflow_status" if installation.database.sqlite else "dbos.workflow_status"
    with installation.database.read() as connection:
        assert connection.execute(select(func.count(), func.max(table.c.attempt)).select_from(table)).one() == (10, 2)
        waiting = text(f"SELECT count(*) FROM {jobs} WHERE status = 'ENQUEUED' AND workflow_uuid LIKE '%.2'")
        assert connection.execute(waiting).scalar_one() == 10
