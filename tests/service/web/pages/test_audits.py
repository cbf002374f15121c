"""Audits on pages: where each is and why, what can be done about it, the form that starts one, and the queue."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import update

import auditor
from auditor.service.audits import policies
from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.audits.workers import Presence
from auditor.service.settings import Settings
from auditor.service.store.tables import audits as table
from tests.service.web.conftest import Service
from tests.service.web.pages.conftest import HOSTILE, OURS, SHOWN, People, checkpoint_id, finish, words


@pytest.fixture(scope="module")
def reports(checkpoint: Path) -> list[bytes]:
    """Two reports of a checkpoint."""
    return [auditor.audit(checkpoint, depth=depth).model_dump_json(indent=2).encode() for depth in ("headers", "full")]


def test_an_audit_that_waits_says_its_place_and_why(people: People, service: Service) -> None:
    audits = service.installation.audits
    for n in range(3):
        last = audits.submit(Order(source=f"hf://org/{n}")).audit
    client = people.somebody("read")
    text = words(client.get(f"/audits/{last}"))
    assert "○ Waiting Place 3 in the queue." in text
    assert "No worker is running" in text
    Presence(service.installation.database, "w").enter()
    assert "0 run in the queue headers; a worker runs 2 at once." in words(client.get(f"/audits/{last}"))


class TestLimitOfAHost:
    """Where one host has a limit of one."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"sources": settings.sources.model_copy(update={"per_host": 1})})

    def test_it_is_named_where_it_keeps_an_audit_waiting(self, people: People, service: Service) -> None:
        audits = service.installation.audits
        Presence(service.installation.database, "w").enter()
        audits.begin(audits.submit(Order(source="hf://org/a")).audit, 1, "w")
        waits = audits.submit(Order(source="hf://org/b")).audit
        assert "1 audit of hf runs, and at most 1 does at once" in words(
            people.somebody("read").get(f"/audits/{waits}")
        )


def test_an_audit_that_will_be_tried_again_says_when_and_what_ended_the_attempt_before(
    people: People, service: Service
) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m")).audit
    audits.begin(audit, 1, "w")
    Presence(service.installation.database, "w").enter()
    audits.conclude(audit, 1, "w", Result(causes=("unreachable",), reason=f"no answer from {HOSTILE}"))
    page = people.somebody("read").get(f"/audits/{audit}")
    assert "Attempt 2 begins in" in words(page)
    assert "The attempt before gave no verdict: unreachable" in words(page)
    assert page.text.count(f"no answer from {SHOWN}") == 2  # of the audit, and of its attempt
    assert "Place" not in words(page)


def test_a_running_audit_shows_how_far_it_is_also_without_scripts(people: People, service: Service) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m", depth="full")).audit
    audits.begin(audit, 1, "w")
    audits.tell("w", {(audit, 1): ('{"what":"bytes","done":1048576,"total":4194304}', f"line\n{HOSTILE}")})
    page = people.somebody("read").get(f"/audits/{audit}")
    assert "▶ Running attempt 1" in words(page)
    assert "1 MiB of 4 MiB (25.0 %)" in words(page)
    assert 'value="1048576" max="4194304"' in page.text
    assert '<noscript><meta http-equiv="refresh"' in page.text
    assert SHOWN.replace("\\x1b", "\\x1b") in page.text
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    log = people.somebody("read").get(f"/audits/{audit}/attempts/1")
    assert SHOWN in log.text


def test_a_running_audit_on_a_cluster_shows_who_reads(people: People, service: Service) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m", depth="full")).audit
    audits.begin(audit, 1, "w")
    by = {"units": 163, "units_left": 40, "workers": 32, "nodes": 4, "retries": 2}
    told = {"what": "bytes", "done": 1 << 20, "total": 4 << 20, **by}
    audits.tell("w", {(audit, 1): (json.dumps(told), None)})
    client = people.somebody("read")
    said = "1 MiB of 4 MiB (25.0 %); 4 nodes, 32 workers, 40 of 163 units left, 2 begun again"
    assert said in words(client.get(f"/audits/{audit}"))
    assert said in words(client.get("/queue"))
    assert client.get(f"/v1/audits/{audit}").json()["progress"] == {**told, "why": None}


@pytest.mark.parametrize("told", ["{", "[]", '{"what":"bytes"}', '{"what":1}', '{"what":"bytes","done":5,"total":0}'])
def test_a_progress_that_says_nothing_harms_nothing(people: People, service: Service, told: str) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m", depth="full")).audit
    audits.begin(audit, 1, "w")
    audits.tell("w", {(audit, 1): (told, None)})
    client = people.somebody("read")
    assert client.get(f"/audits/{audit}").status_code == 200
    assert client.get("/queue").status_code == 200


def test_a_finished_audit_leads_to_its_report_in_every_format_and_to_the_one_before(
    people: People, service: Service, reports: list[bytes]
) -> None:
    first, second = (finish(service, "hf://org/m", report=each) for each in reports)
    client = people.somebody("read")
    page = client.get(f"/audits/{second}")
    places = [each.partition('"')[0] for each in page.text.split('href="')[1:] if f"/{second}/report" in each]
    assert len(places) == 7
    for place in places:
        assert client.get(place).status_code == 200, place
    assert f"/compare?old={first}&amp;new={second}" in page.text
    compared = client.get(f"/compare?old={first}&new={second}")
    assert compared.status_code == 200
    assert "Nothing differs of what could be compared" in words(compared) or "They differ" in words(compared)
    assert f'href="/checkpoints/{checkpoint_id(service, "hf://org/m")}"' in compared.text
    assert "/checkpoints/" not in client.get(f"/v1/diff.html?old={first}&new={second}").text


def test_the_report_is_the_commands_page_and_runs_as_nobody(
    people: People, service: Service, reports: list[bytes]
) -> None:
    audit = finish(service, "hf://org/m", report=reports[0])
    client = people.somebody("read")
    page = client.get(f"/audits/{audit}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "allow-same-origin" not in policy
    assert f'href="/checkpoints/{checkpoint_id(service, "hf://org/m")}"' in page.text
    kept = service.state.rendered.bytes
    assert kept >= len(page.content)
    assert client.get(f"/audits/{audit}/report").content == page.content
    assert service.state.rendered.bytes == kept
    assert "/checkpoints/" not in client.get(f"/v1/audits/{audit}/report.html").text
    assert client.get(f"/audits/{audit}/report", headers={"If-None-Match": page.headers["etag"]}).status_code == 304


def test_what_has_no_report_says_so(people: People, service: Service) -> None:
    audit = service.installation.audits.submit(Order(source="hf://org/m")).audit
    client = people.somebody("read")
    answer = client.get(f"/audits/{audit}/report")
    assert answer.status_code == 409
    assert "It is queued, and there is no report" in words(answer)
    assert client.get(f"/audits/{'0' * 26}").status_code == 404
    assert client.get("/audits/nonsense").status_code == 404
    assert client.get(f"/audits/{audit}/attempts/1").status_code == 404
    assert client.get("/compare?old=1&new=2").status_code == 422


def test_an_audit_is_cancelled_run_again_pinned_and_unpinned_by_buttons(people: People, service: Service) -> None:
    audits = service.installation.audits
    source = str(service.installation.settings.sources.roots[0])
    audit = audits.submit(Order(source=source)).audit
    client = people.somebody("submit")

    def press(what: str, on: str) -> str:
        answer = client.post(f"/audits/{on}/{what}", headers=OURS)
        assert answer.status_code == 303
        return answer.headers["location"].removeprefix("/audits/")

    assert "Cancel" in words(client.get(f"/audits/{audit}"))
    assert press("cancel", audit) == audit
    assert press("cancel", audit) == audit  # pressed twice
    assert "– Cancelled" in words(client.get(f"/audits/{audit}"))
    again = press("rerun", audit)
    assert again != audit
    assert "○ Waiting" in words(client.get(f"/audits/{again}"))
    press("pin", audit)
    assert "Unpin" in words(client.get(f"/audits/{audit}"))
    press("unpin", audit)
    assert "Unpin" not in words(client.get(f"/audits/{audit}"))
    assert client.post(f"/audits/{'0' * 26}/cancel", headers=OURS).status_code == 404


@pytest.mark.parametrize("what", ["cancel", "rerun", "pin", "unpin"])
def test_buttons_are_for_those_who_may_and_from_our_own_pages(people: People, service: Service, what: str) -> None:
    audit = service.installation.audits.submit(Order(source="hf://org/m")).audit
    reader, writer = people.somebody("read"), people.somebody("submit")
    assert reader.post(f"/audits/{audit}/{what}", headers=OURS).status_code == 403
    assert "<button>Cancel" not in reader.get(f"/audits/{audit}").text
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = writer.post(f"/audits/{audit}/{what}", headers=headers)
        assert answer.status_code == 403
        assert answer.headers["content-type"].startswith("text/html")
    assert "○ Waiting" in words(reader.get(f"/audits/{audit}"))


def test_lists_of_audits_are_narrowed_by_state_and_paged(people: People, service: Service) -> None:
    audits = service.installation.audits
    finish(service, "hf://org/done")
    with service.installation.database.write() as connection:
        for n in range(60):
            audits.submit_within(connection, Order(source=f"hf://org/{n}"))
    client = people.somebody("read")
    page = client.get("/audits?state=queued")
    assert "hf://org/done" not in page.text
    assert page.text.count('scope="row"') == 50
    following = page.text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    rest = client.get(following)
    assert rest.text.count('scope="row"') == 10
    assert "First page" in rest.text
    assert "hf://org/done" in client.get("/audits?state=finished").text


def test_a_list_says_of_a_running_audit_nothing_about_the_attempt_before(people: People, service: Service) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m")).audit
    audits.begin(audit, 1, "w")
    audits.conclude(audit, 1, "w", Result(causes=("unreachable",), reason="no such host"))
    client = people.somebody("read")
    assert "no such host" in client.get("/audits").text
    with service.installation.database.write() as connection:
        connection.execute(update(table).values(due_at=0))
    service.installation.recovery.add_due()
    audits.begin(audit, 2, "w")
    for place in ("/audits", "/"):
        assert "no such host" not in client.get(place).text


def test_the_form_starts_an_audit_and_goes_to_it(people: People, service: Service, tmp_path: Path) -> None:
    policies.put(service.installation.database, "strict", 'symlinks = "inside"\n')
    client = people.somebody("submit")
    form = client.get("/audits/new", params={"source": str(tmp_path)})
    assert f'value="{tmp_path}"' in form.text
    assert "strict" in words(form)
    fields = {"source": f"{tmp_path}/", "depth": "sample", "policy": "strict", "seed": "7", "priority": "2",
              "force": "yes", "revision": "", "family": "deepseek-v3", "baseline": ""}  # fmt: skip
    answer = client.post("/audits/new", data=fields, headers=OURS)
    assert answer.status_code == 303
    with service.installation.database.read() as connection:
        row = connection.execute(table.select()).one()
    assert answer.headers["location"] == f"/audits/{row.id}"
    assert (row.source, row.depth, row.policy, row.seed, row.priority, row.force, row.family, row.revision) == (
        str(tmp_path), "sample", "strict", 7, 2, True, "deepseek-v3", None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("source", "", "field required"),
        ("source", "file:///etc", "none of the sources"),
        ("source", "/etc", "below none of the folders"),
        ("source", "https://user:secret@huggingface.co/x", "credentials"),
        ("source", HOSTILE, "do not show"),
        ("depth", "deepest", "input should be"),
        ("policy", "none-such", "there is no policy"),
        ("policy", "<b>", "string should match"),
        ("family", "<b>", "no such family"),
        ("seed", "-1", "valid integer"),
        ("seed", "9" * 19 + "9", "valid integer"),
        ("priority", "10", "less than or equal"),
        ("baseline", "0" * 26, "no finished audit"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field_and_what_was_typed_is_kept(
    people: People, tmp_path: Path, field: str, value: str, said: str
) -> None:
    fields = {"source": str(tmp_path), "depth": "headers", "priority": "5", field: value}
    page = people.somebody("submit").post("/audits/new", data=fields, headers=OURS)
    assert page.status_code == 422
    assert f'id="{field}-fault"' in page.text
    fault = page.text.partition(f'id="{field}-fault"')[2].partition("</p>")[0]
    assert said in fault.lower()
    assert "Not started" in page.text
    if field != "source":
        assert f'value="{tmp_path}"' in page.text
    for raw in ("<script>alert", "<img src=x", "<b>n", "\u202e"):
        assert raw not in page.text


def test_all_that_is_wrong_is_said_at_once(people: People) -> None:
    fields = {"source": "/etc", "depth": "deepest", "seed": "x"}
    page = people.somebody("submit").post("/audits/new", data=fields, headers=OURS)
    for each in ("source", "depth", "seed"):
        assert f'id="{each}-fault"' in page.text
    assert "see the fields marked below" in words(page)


def test_a_reader_is_told_that_the_form_is_not_for_them(people: People) -> None:
    answer = people.somebody("read").get("/audits/new")
    assert answer.status_code == 403
    assert "needs the scope submit" in words(answer)


def test_the_queue_shows_what_runs_what_waits_and_who_works(people: People, service: Service) -> None:
    audits, database = service.installation.audits, service.installation.database
    client = people.somebody("read")
    assert "No worker is running" in words(client.get("/queue"))
    Presence(database, "worker-1").enter()
    running = audits.submit(Order(source="hf://org/runs", depth="full")).audit
    audits.begin(running, 1, "worker-1")
    audits.tell("worker-1", {(running, 1): ('{"what":"shards","done":3,"total":163}', None)})
    for n, priority in enumerate((5, 1)):
        audits.submit(Order(source=f"hf://org/{n}", priority=priority))
    late = audits.submit(Order(source="hf://org/late")).audit
    with database.write() as connection:
        connection.execute(
            update(table).where(table.c.id == late).values(attempt=2, due_at=1 << 50, cause="throttled", job=None)
        )
    Presence(database, "gone").enter()
    Presence(database, "gone").leave()
    text = words(client.get("/queue"))
    assert "hf://org/runs full" in text
    assert "3 of 163 shards (1.8 %) worker-1" in text
    assert text.index("hf://org/1") < text.index("hf://org/0")
    assert re.search(r"hf://org/1 1 headers 1 .* hf://org/0 2 headers 5 .* hf://org/late – headers", text)
    assert "after throttled" in text
    assert "worker-1" in text
    assert "✔ lives 1" in text
    assert "– stopped 0" in text


def test_a_failed_audit_says_why_there_is_no_report(people: People, service: Service) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m")).audit
    audits.begin(audit, 1, "w")
    audits.conclude(audit, 1, "w", Result(causes=("not_found",), reason=HOSTILE))
    page = people.somebody("read").get(f"/audits/{audit}")
    assert "! No report" in words(page)
    assert "There is no report: not_found" in words(page)
    assert SHOWN in page.text
    history = people.somebody("read").get(f"/checkpoints/{checkpoint_id(service, 'hf://org/m')}")
    assert SHOWN in history.text
