"""Which audit says how a checkpoint stands: never one of a pull request."""

from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.hooks.asking import Asked, Asking
from auditor.service.installation import Installation
from auditor.service.store.tables import checkpoints

COMMIT, NEWER = "0" * 40, "1" * 40
PULL, MAIN, TAG = "hub:refs/pr/3", "hub:refs/heads/main", "hub:refs/tags/v1"


def ask(installation: Installation, revision: str, origin: str, before: str | None = None) -> str:
    """What a hook of the hub asks for."""
    asked = Asked(source="hf://org/model", revision=revision, origin=origin, before=before)
    return Asking(installation).submit([asked])[0].audit


def finish(installation: Installation, audit: str) -> None:
    installation.audits.begin(audit, 1, "w")
    result = Result(report="a" * 64, verdict="failed", tool="1")
    assert installation.audits.conclude(audit, 1, "w", result) == "finished"


def latest(installation: Installation) -> str | None:
    with installation.database.read() as connection:
        row = connection.execute(checkpoints.select()).one()
    return row.latest_audit


def test_a_pull_requests_audit_is_never_the_latest(installation: Installation) -> None:
    audit = ask(installation, COMMIT, PULL)
    finish(installation, audit)
    assert latest(installation) is None
    main = ask(installation, NEWER, MAIN)
    finish(installation, main)
    assert latest(installation) == main
    named = installation.audits.submit(Order(source="hf://org/model", revision="refs/pr/3")).audit
    finish(installation, named)
    assert latest(installation) == main


def test_a_tag_and_a_commit_that_a_person_names_are_the_latest(installation: Installation) -> None:
    for audit in (
        ask(installation, COMMIT, TAG),
        installation.audits.submit(Order(source="hf://org/model", revision=NEWER)).audit,
    ):
        finish(installation, audit)
        assert latest(installation) == audit


def test_a_commit_that_a_person_named_before_a_pull_request_had_it_is_the_latest(installation: Installation) -> None:
    audit = installation.audits.submit(Order(source="hf://org/model", revision=COMMIT)).audit
    assert ask(installation, COMMIT, PULL) == audit
    finish(installation, audit)
    assert latest(installation) == audit


def test_a_pull_request_that_a_branch_has_too_is_the_latest(installation: Installation) -> None:
    audit = ask(installation, COMMIT, PULL)
    assert ask(installation, COMMIT, MAIN) == audit
    finish(installation, audit)
    assert latest(installation) == audit


def test_a_pull_request_that_a_branch_takes_over_is_the_latest_from_then_on(installation: Installation) -> None:
    before = ask(installation, NEWER, MAIN)
    audit = ask(installation, COMMIT, PULL)
    for each in (audit, before):
        finish(installation, each)
    assert latest(installation) == before
    assert ask(installation, COMMIT, "hub:refs/pr/4") == audit
    assert latest(installation) == before
    assert ask(installation, COMMIT, MAIN) == audit
    assert latest(installation) == audit


def test_an_old_commit_that_gets_a_tag_is_not_the_latest_again(installation: Installation) -> None:
    old, new = ask(installation, COMMIT, MAIN), ask(installation, NEWER, MAIN)
    for each in (old, new):
        finish(installation, each)
    assert ask(installation, COMMIT, TAG) == old
    assert latest(installation) == new


def test_a_branch_that_goes_back_has_the_earlier_commits_audit_be_the_latest(installation: Installation) -> None:
    old, new = ask(installation, COMMIT, MAIN), ask(installation, NEWER, MAIN, COMMIT)
    for each in (old, new):
        finish(installation, each)
    assert ask(installation, COMMIT, MAIN, NEWER) == old
    assert latest(installation) == old
    assert ask(installation, NEWER, MAIN, COMMIT) == new
    assert latest(installation) == new


def test_a_push_that_is_told_twice_or_late_moves_nothing(installation: Installation) -> None:
    old, new = ask(installation, COMMIT, MAIN, "2" * 40), ask(installation, NEWER, MAIN, COMMIT)
    for each in (old, new):
        finish(installation, each)
    assert ask(installation, COMMIT, MAIN, "2" * 40) == old
    assert latest(installation) == new
    pull = ask(installation, "3" * 40, PULL)
    finish(installation, pull)
    assert ask(installation, "3" * 40, PULL, NEWER) == pull
    assert latest(installation) == new
