"""Watches: due by the database's clock, looked at once, and an audit where the checkpoint has changed."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, select, update

from auditor.errors import UsageError
from auditor.service.audits.life import Result
from auditor.service.hooks.asking import Asked, Asking
from auditor.service.hooks.watches import Watches, seconds
from auditor.service.installation import Installation
from auditor.service.settings import Settings
from auditor.service.store.tables import audits, origins
from tests.servers.hub import Hub
from tests.servers.serving import Reply, Request, Server, folder_server

Look = Callable[[str], Row[Any]]


@pytest.fixture
def watched(installation: Installation) -> Watches:
    return Watches(installation)


@pytest.fixture
def look(installation: Installation, watched: Watches) -> Look:
    """One look at a watch, as a worker takes it, whenever it is due."""

    def run(watch: str) -> Row[Any]:
        watched.look_now(watch)
        assert watched.add_due() == 1
        row = watched.one(watch)
        assert row is not None
        seen = watched.look(watch, row.attempt)
        assert seen is not None
        watched.conclude(watch, row.attempt, seen)
        found = watched.one(watch)
        assert found is not None
        return found

    return run


def every_audit(installation: Installation) -> list[Row[Any]]:
    with installation.database.read() as connection:
        return list(connection.execute(select(audits).order_by(audits.c.id)))


def test_the_first_look_asks_for_an_audit_of_the_commit(
    hub: Hub, watched: Watches, look: Look, installation: Installation
) -> None:
    watch = watched.add("hf://org/model", depth="full")
    row = look(watch)
    assert (row.commit, row.reason, row.failures, row.job) == (hub.main, None, 0, None)
    (audit,) = every_audit(installation)
    assert (audit.source, audit.revision, audit.depth, audit.state) == ("hf://org/model", hub.main, "full", "queued")
    with installation.database.read() as connection:
        assert connection.execute(select(origins.c.origin)).scalars().all() == ["hub:refs/heads/main"]


def test_an_unchanged_checkpoint_is_not_audited_again_and_a_changed_one_is(
    hub: Hub, checkpoint: Path, watched: Watches, look: Look, installation: Installation
) -> None:
    watch = watched.add("hf://org/model")
    look(watch)
    look(watch)
    assert len(every_audit(installation)) == 1
    commit = hub.push(checkpoint)
    assert look(watch).commit == commit
    assert [each.revision for each in every_audit(installation)][1:] == [commit]


def test_a_look_at_the_hub_asks_for_the_commit_alone(hub: Hub, watched: Watches, look: Look) -> None:
    hub.branch("release", hub.revisions[hub.main])
    look(watched.add("hf://org/model", revision="release"))
    (request,) = hub.requests
    assert request.target.path == "/api/models/org/model/revision/release"
    assert request.query == {"expand": "sha"}


def test_the_pause_after_a_look_is_what_was_asked_for(hub: Hub, watched: Watches, look: Look) -> None:
    row = look(watched.add("hf://org/model", every_s=1000))
    assert 950_000 <= row.due_at - row.looked_at <= 1_050_000


def test_failures_are_kept_and_pauses_grow_to_a_day(hub: Hub, watched: Watches, look: Look) -> None:
    watch = watched.add("hf://org/model", revision="nowhere", every_s=3600)
    pauses = []
    for turn in range(1, 9):
        row = look(watch)
        assert row.failures == turn
        assert "no such revision" in row.reason
        pauses.append((row.due_at - row.looked_at) / 1000)
    assert pauses[0] < 3800
    assert pauses == sorted(pauses) or pauses[-2] > 80_000
    assert 0.94 * 86_400 < pauses[-1] < 1.06 * 86_400
    hub.branch("nowhere", hub.revisions[hub.main])
    row = look(watch)
    assert (row.failures, row.reason) == (0, None)


def test_a_source_that_is_no_longer_allowed_is_not_asked(
    hub: Hub, installation: Installation, settings: Settings, watched: Watches
) -> None:
    watch = watched.add("hf://org/model")
    watched.add_due()
    sources = settings.sources.model_copy(update={"organisations": ("others",)})
    stricter = Watches(replace(installation, settings=settings.model_copy(update={"sources": sources})))
    seen = stricter.look(watch, 1)
    assert seen == {"reason": "'org': not on the list of allowed organisations"}
    assert hub.requests == []
    with pytest.raises(UsageError, match="not on the list"):
        stricter.add("hf://org/other")


def test_a_private_address_is_refused_where_the_settings_do_not_allow_it(
    hub: Hub, installation: Installation, settings: Settings
) -> None:
    sources = settings.sources.model_copy(update={"private": False})
    closed = replace(installation, settings=settings.model_copy(update={"sources": sources}))
    watched = Watches(closed)
    watch = watched.add("hf://org/model")
    watched.add_due()
    seen = watched.look(watch, 1)
    assert seen is not None
    assert "private address" in seen["reason"]
    assert hub.requests == []


def test_a_look_that_ran_twice_asks_once(hub: Hub, watched: Watches, installation: Installation) -> None:
    watch = watched.add("hf://org/model")
    watched.add_due()
    seen = watched.look(watch, 1)
    assert seen is not None
    assert watched.conclude(watch, 1, seen) is not None
    assert watched.conclude(watch, 1, seen) is None
    assert len(every_audit(installation)) == 1


def test_a_look_that_hangs_neither_holds_up_the_end_of_the_process_nor_others(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, stopped = threading.Event(), threading.Event()

    def hang(_: Request) -> Reply:
        release.wait(20)
        return Reply(404)

    with Server(hang) as server:
        watched = Watches(installation, stopped)
        watch = watched.add(server.url)
        watched.add_due()
        monkeypatch.setattr("auditor.service.hooks.watches._LOOK_S", 0.5)
        assert watched.look(watch, 1) == {"reason": "it could not be looked at within 0.5 s"}
        stopped.set()
        begun = time.monotonic()
        assert watched.look(watch, 1) is None
        assert time.monotonic() - begun < 2
        release.set()


def test_one_look_at_a_time(hub: Hub, watched: Watches, opened: Installation, asking: Asking) -> None:
    watch = watched.add("hf://org/model")
    other = Watches(opened)
    assert [watched.add_due(), other.add_due(), watched.add_due()] == [1, 0, 0]
    assert watched.look(watch, 2) is None


def test_a_look_whose_job_was_lost_is_taken_anew(hub: Hub, watched: Watches, installation: Installation) -> None:
    watch = watched.add("hf://org/model")
    watched.add_due()
    installation.jobs.end([f"{watch}.1"])
    assert watched.add_due() == 1
    row = watched.one(watch)
    assert row is not None
    assert (row.attempt, row.job) == (2, f"{watch}.2")
    assert watched.look(watch, 1) is None


def test_of_the_jobs_of_a_watch_the_last_one_is_kept(
    hub: Hub, watched: Watches, look: Look, installation: Installation
) -> None:
    watch = watched.add("hf://org/model")
    for _ in range(4):
        look(watch)
    assert installation.jobs.alive([f"{watch}.{n}" for n in range(5)]) == {f"{watch}.4"}


def test_a_hook_and_a_watch_of_one_commit_are_one_audit(
    hub: Hub, watched: Watches, look: Look, asking: Asking, installation: Installation
) -> None:
    (told,) = asking.submit([Asked(source="hf://org/model", revision=hub.main, origin="hub:refs/heads/main")])
    with installation.database.write() as connection:
        connection.execute(update(audits).values(state="failed", ended_at=1, cause="not_found"))
    watch = watched.add("hf://org/model")
    look(watch)
    (audit,) = every_audit(installation)
    assert audit.id == told.audit


def test_a_web_server_is_watched_by_what_it_calls_the_files(
    tmp_path: Path, watched: Watches, look: Look, installation: Installation
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text("{}")
    with folder_server(folder) as server:
        watch = watched.add(f"{server.url}/")
        first = look(watch)
        assert first.reason is None
        assert look(watch).commit == first.commit
        (folder / "config.json").write_text('{"a": 1}')
        assert look(watch).commit != first.commit
    # The second change came while the first audit was queued, which reads what is there when it begins.
    assert [(each.source, each.revision) for each in every_audit(installation)] == [(server.url, None)]


def test_a_change_while_an_audit_reads_is_audited_afterwards(
    tmp_path: Path, watched: Watches, look: Look, installation: Installation
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with folder_server(folder) as server:
        watch = watched.add(f"{server.url}/")
        first = look(watch).commit
        (audit,) = every_audit(installation)
        assert installation.audits.begin(audit.id, 1, "worker") is not None
        (folder / "config.json").write_text('{"a": 1}')
        assert look(watch).commit == first
        installation.audits.conclude(audit.id, 1, "worker", Result(causes=("not_found",)))
        assert look(watch).commit != first
    assert [each.state for each in every_audit(installation)] == ["failed", "queued"]


def test_a_web_server_that_tells_no_version_is_said_to_be_one(watched: Watches, look: Look) -> None:
    with Server(lambda request: Reply(206, b"{}", {"Content-Range": "bytes 0-1/2"})) as server:
        assert "neither ETag nor Last-Modified" in look(watched.add(f"{server.url}/")).reason


def test_a_full_queue_is_told_and_the_change_is_asked_for_later(
    hub: Hub, watched: Watches, look: Look, monkeypatch: pytest.MonkeyPatch, installation: Installation
) -> None:
    monkeypatch.setattr(installation.audits, "_waiting", 0)
    watch = watched.add("hf://org/model")
    row = look(watch)
    assert row.reason == "more audits wait than the settings allow"
    assert row.commit is None
    monkeypatch.setattr(installation.audits, "_waiting", 10)
    assert look(watch).commit == hub.main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "/models/a"}, "a folder cannot be watched"),
        ({"source": "hf://org/model@main"}, "give it as --revision"),
        ({"source": "hf://org/model", "revision": "a" * 40}, "a commit never changes"),
        ({"source": "hf://org/model", "every_s": 59}, "between a minute and 30 days"),
        ({"source": "hf://org/model", "policy": "strict"}, "no policy named 'strict'"),
    ],
)
def test_what_cannot_be_watched_is_refused(watched: Watches, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        watched.add(**arguments)


def test_one_watch_for_each_source_and_revision(watched: Watches) -> None:
    watched.add("hf://org/model")
    with pytest.raises(UsageError, match="is watched already"):
        watched.add("hf://org/model")
    other = watched.add("hf://org/model", revision="main")
    assert [each.revision for each in watched.every()] == [None, "main"]
    assert watched.remove(other)
    assert not watched.remove(other)
    assert len(watched.every()) == 1


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172_800)])
def test_times_are_read(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "0h", "h", "1w", "-1h", "1.5h", "99999999s", "1h "])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        seconds(text)
