"""What has ended is told, whoever is killed between the end and the telling, and no target holds up anything else."""

import threading
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import select
from standardwebhooks import Webhook

from auditor.service.installation import Installation
from auditor.service.notify.targets import Targets
from auditor.service.store.tables import deliveries as table
from tests.servers.serving import Reply, Request, Server
from tests.service.notify.conftest import SECRET, End
from tests.service.running import Running


def start(data: Path, url: str) -> Running:
    """The whole service on SQLite, a worker on PostgreSQL."""
    arguments = ("--port", "0") if url.startswith("sqlite") else ("--role", "worker", "--database", url)
    return Running(
        data,
        *arguments,
        AUDITOR_SERVICE_NOTIFY__HOSTS='["127.0.0.1"]',
        AUDITOR_SERVICE_NOTIFY__PRIVATE="true",
        AUDITOR_SERVICE_NOTIFY__SECRETS__SIGNING=SECRET,
    )


def states(installation: Installation) -> Counter[str]:
    with installation.database.read() as connection:
        return Counter(connection.execute(select(table.c.state)).scalars())


def wait(installation: Installation, expected: Counter[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while states(installation) != expected:
        assert time.monotonic() < deadline, states(installation)
        time.sleep(0.1)


def test_sigkill_between_the_end_and_the_delivery_loses_nothing(
    installation: Installation, targets: Targets, end: End, database_url: str, tmp_path: Path
) -> None:
    arrived, killed = threading.Event(), threading.Event()

    def answer(_: Request) -> Reply:
        if not killed.is_set():
            arrived.set()
            killed.wait(60)
        return Reply(200)

    with Server(answer) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        ended = {end("passed", source=f"hf://org/{n}") for n in range(6)}
        first = start(tmp_path / "data", database_url)
        assert arrived.wait(30)
        first.kill()
        begun = [request.headers["webhook-id"] for request in server.requests]
        killed.set()
        second = start(tmp_path / "data", database_url)
        try:
            wait(installation, Counter(delivered=6), 90)
        finally:
            assert second.stop() == 0
        messages = [Webhook(SECRET).verify(request.body, request.headers) for request in server.requests]
        ids = Counter(request.headers["webhook-id"] for request in server.requests)
    assert {message["data"]["audit"] for message in messages} == ended
    assert len(ids) == 6
    assert all(ids[each] >= 2 for each in begun), "what was under way when it was killed is sent again, as the same"


def test_targets_that_never_answer_hold_up_neither_others_nor_the_end(
    installation: Installation, targets: Targets, end: End, database_url: str, tmp_path: Path
) -> None:
    release = threading.Event()

    def never(_: Request) -> Reply:
        release.wait(120)
        return Reply(200)

    with Server(never) as silent, Server(lambda _: Reply(200)) as quick:
        for n in range(3):  # which have more places than there are
            targets.add("webhook", f"silent {n}", {"url": silent.url, "secret": "signing"})
        targets.add("webhook", "quick", {"url": quick.url, "secret": "signing"})
        for n in range(20):
            end("passed", source=f"hf://org/{n}")
        process = start(tmp_path / "data", database_url)
        wait(installation, Counter(delivered=20, waiting=60), 60)
        time.sleep(5)
        asked = len(silent.requests)
        assert asked <= 12, "a target that does not answer is left alone for a while"
        begun = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - begun < 10
        release.set()
    assert states(installation) == Counter(delivered=20, waiting=60)
