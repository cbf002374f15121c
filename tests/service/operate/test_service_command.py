"""`auditor service …`: what is told where, and the exit codes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge
from auditor.service import settings as given
from auditor.service.access.tokens import Tokens
from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.hooks.asking import Asked, Asking
from auditor.service.installation import Installation, Lock
from auditor.service.notify.targets import Targets
from auditor.service.settings import Settings

POLICY = 'symlinks = "inside"\n'


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command on the test's installation: exit code, standard output and standard error."""
    for name in list(os.environ):
        if name.startswith(given.PREFIX):
            monkeypatch.delenv(name)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        where = ["--data", str(settings.data), "--database", settings.database_url]
        words = [str(each) for each in arguments]
        code = cli.main(["service", *words, *([] if "--data" in words else where)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    return file


def test_token_is_printed_once_and_good_at_once(command, installation: Installation) -> None:
    code, token, said = command("token", "create", "me", "--scope", "read", "--days", "3")
    holder = Tokens(installation.database).judge(token.strip())
    assert code == 0
    assert holder is not None
    assert (holder.name, holder.scopes) == ("me", {"read"})
    assert holder.id in said
    code, listed, _ = command("token", "list")
    assert code == 0
    assert holder.id in listed
    assert token.strip() not in listed


def test_revoked_token_is_no_longer_good(command, installation: Installation) -> None:
    _, token, _ = command("token", "create", "me")
    holder = Tokens(installation.database).judge(token.strip())
    assert holder is not None
    assert command("token", "revoke", holder.id)[0] == 0
    assert Tokens(installation.database).judge(token.strip()) is None
    assert "revoked" in command("token", "list")[1]


@pytest.mark.parametrize("days", ["0", "-1", "soon", "36501", "9" * 5000, "\u0663"])
def test_token_is_good_for_a_number_of_days_that_can_be(command, days: str) -> None:
    code, made, said = command("token", "create", "me", f"--days={days}")
    assert (code, made) == (2, "")
    assert "needs 1 to 36500 days" in said


def test_token_that_is_not_there_cannot_be_revoked(command) -> None:
    code, _, said = command("token", "revoke", "none\x1b[2J")
    assert code == 2
    assert said.startswith("auditor: no token")
    assert "\x1b" not in said


def test_policy_is_kept_as_it_was_written(command, policy: Path) -> None:
    assert command("policy", "add", "strict", policy)[0] == 0
    assert command("policy", "show", "strict")[:2] == (0, POLICY)
    assert command("policy", "list")[1].endswith("  strict\n")
    policy.write_text("# none\n")
    command("policy", "add", "strict", policy)
    assert command("policy", "show", "strict")[1] == "# none\n"
    assert command("policy", "remove", "strict")[0] == 0
    assert command("policy", "list")[1] == ""


@pytest.mark.parametrize("what", ["show", "remove"])
def test_policy_that_is_not_there_is_an_error(command, what) -> None:
    assert command("policy", what, "none")[0] == 2


def test_policy_that_is_none_is_refused_with_its_line(command, policy: Path) -> None:
    policy.write_text('symlinks = "outside"\n')
    code, _, said = command("policy", "add", "strict", policy)
    assert code == 2
    assert "line 1: symlinks" in said


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 101, "-x", "a\n"])
def test_policy_needs_a_name_that_can_stand_in_a_url(command, policy: Path, name: str) -> None:
    assert command("policy", "add", "--", name, policy)[0] == 2


def test_watch_is_added_listed_and_removed(command, policy: Path) -> None:
    command("policy", "add", "strict", policy)
    code, made, _ = command("watch", "add", "hf://org/model", "--every", "6h", "--revision", "v2", "--policy", "strict")
    assert code == 0
    wanted = f"{made.strip()}  hf://org/model at v2  every 21600 s, headers, policy strict; not looked at yet\n"
    assert command("watch", "list")[1] == wanted
    code, _, said = command("policy", "remove", "strict")
    assert code == 2
    assert "the watch of hf://org/model uses it" in said
    assert command("watch", "remove", made.strip())[0] == 0
    assert command("watch", "list")[1] == ""
    assert command("watch", "remove", made.strip())[0] == 2


def test_watch_of_a_source_needs_no_further_word(command) -> None:
    code, made, _ = command("watch", "hf://org/model", "--every", "1h")
    assert code == 0
    assert command("watch", "list")[1].startswith(f"{made.strip()}  hf://org/model  every 3600 s")
    code, _, said = command("watch", "hf://org/model")
    assert code == 2
    assert "is watched already" in said


def test_folder_cannot_be_watched_with_or_without_the_word(command, tmp_path: Path) -> None:
    for words in ([str(tmp_path)], ["add", str(tmp_path)]):
        code, _, said = command("watch", *words)
        assert code == 2
        assert "a folder cannot be watched" in said


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, command: object) -> None:  # which clears the environment
    monkeypatch.setenv("AUDITOR_SERVICE_NOTIFY__HOSTS", '["ci.example", "huggingface.co"]')
    monkeypatch.setenv("AUDITOR_SERVICE_NOTIFY__SECRETS", '{"ci": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"}')


@pytest.mark.usefixtures("secrets")
def test_target_is_added_listed_switched_and_removed(command, installation: Installation) -> None:
    words = ["hub", "comments", "repositories=org/*,other/one", "pulls=false", "branches=main", "secret=ci"]
    code, made, _ = command("target", "add", *words)
    target = made.strip()
    assert code == 0
    row = Targets(installation.database, installation.settings).one(target)
    assert row is not None
    assert json.loads(row.options) == {
        "secret": "ci",
        "endpoint": "https://huggingface.co",
        "repositories": ["org/*", "other/one"],
        "pulls": False,
        "branches": ["main"],
    }
    listed = command("target", "list")[1]
    assert listed.startswith(
        f"{target}  hub      comments  secret=ci endpoint=https://huggingface.co repositories=org/*,"
    )
    assert listed.endswith("; on\n")
    assert command("target", "off", target)[:2] == (0, f"{target}: off\n")
    assert "switched off by an administrator" in command("target", "list")[1]
    assert command("target", "on", target)[:2] == (0, f"{target}: on\n")
    assert command("target", "list")[1] == listed
    assert command("target", "remove", target)[:2] == (0, f"{target}: removed\n")
    assert command("target", "list")[1] == ""
    for what in ("off", "on", "remove"):
        assert command("target", what, target)[0] == 2


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pager", "x", "secret=ci"], "no kind of target"),
        (["webhook", "x", "secret=ci"], "url: Field required"),
        (["webhook", "x", "url=https://ci.example/", "secret=none"], "none named 'none'"),
        (["webhook", "x", "url=https://elsewhere.example/", "secret=ci"], "notify.hosts"),
        (["webhook", "x", "url"], "as option=value"),
        (["webhook", "x", "secret=ci", "secret=ci"], "each option once"),
        (["webhook", "x", "url=https://ci.example/", "secret=ci", "colour=red"], "colour"),
    ],
)
def test_target_that_cannot_be_told_is_refused(command, words: list[str], said: str) -> None:
    code, _, told = command("target", "add", *words)
    assert code == 2
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["hf://org/model", "--every", "soon"],
        ["hf://org/model", "--every", "1s"],
        ["hf://org/model", "--policy", "none"],
        ["https://not.allowed.example/model"],
        ["/tmp"],
    ],
)
def test_watch_that_cannot_be_is_refused(command, words: list[str]) -> None:
    code, _, said = command("watch", "add", *words)
    assert code == 2
    assert said.count("\n") == 1


def test_backup_is_restored_by_the_command(command, installation: Installation, tmp_path: Path) -> None:
    installation.audits.submit(Order(source="hf://org/model"))
    code, said, _ = command("backup", tmp_path / "backup")
    assert code == 0
    assert said.startswith(f"{tmp_path / 'backup'}: the database and 0 reports, ")
    assert command("restore", tmp_path / "backup")[0] == 2
    if installation.database.sqlite:
        there = ("--data", tmp_path / "new")
        assert command("restore", tmp_path / "backup", *there)[0] == 0
        assert command("token", "list", *there)[0] == 0


def test_site_is_written_from_the_stored_reports(command, installation, tmp_path, monkeypatch) -> None:
    assert command("export", tmp_path / "site")[0] == 3
    forge(tmp_path / "tiny", like="tiny", sparse=True)
    assert cli.main(["audit", str(tmp_path / "tiny"), "--quiet", "--json", str(tmp_path / "report.json")]) == 0
    report = installation.reports.put((tmp_path / "report.json").read_bytes())
    audit = installation.audits.submit(Order(source=str(tmp_path / "tiny"))).audit
    installation.audits.begin(audit, 1, "w")
    installation.audits.conclude(audit, 1, "w", Result(report=report, verdict="passed", tool="1"))
    code, said, _ = command("export", tmp_path / "site")
    assert code == 0
    assert "1 report of 1 checkpoint, 1 new" in said
    assert len(json.loads((tmp_path / "site" / "site.json").read_text())["entries"]) == 1
    assert "0 new" in command("export", tmp_path / "site")[1]


def test_reports_of_pull_requests_are_not_of_the_site(command, installation, tmp_path: Path) -> None:
    forge(tmp_path / "tiny", like="tiny", sparse=True)
    assert cli.main(["audit", str(tmp_path / "tiny"), "--quiet", "--json", str(tmp_path / "report.json")]) == 0
    data = (tmp_path / "report.json").read_bytes()
    pull, taken = (Asked(source="hf://org/model", revision=n * 40, origin="hub:refs/pr/3") for n in "01")
    for n, each in enumerate((pull, taken)):
        audit = Asking(installation).submit([each])[0].audit
        installation.audits.begin(audit, 1, "w")
        report = installation.reports.put(data + b"\n" * n)
        installation.audits.conclude(audit, 1, "w", Result(report=report, verdict="passed", tool="1"))
    assert command("export", tmp_path / "site")[0] == 3
    Asking(installation).submit([replace(taken, origin="hub:refs/heads/main")])
    assert "1 report of 1 checkpoint, 1 new" in command("export", tmp_path / "site")[1]


def test_migrate_makes_and_keeps_the_schema(command, tmp_path: Path) -> None:
    there = ("--data", tmp_path / "new")
    assert command("migrate", *there)[1] == "schema 0001, before: none\n"
    assert command("migrate", *there)[1] == "schema 0001\n"


def test_migrate_is_refused_while_the_data_is_served(command, installation, settings: Settings) -> None:
    lock = Lock(settings.data)
    code, _, said = command("migrate")
    lock.release()
    assert code == 2
    assert "another auditor serves this data" in said


def test_administration_works_beside_a_served_folder(command, installation, settings: Settings, tmp_path: Path) -> None:
    lock = Lock(settings.data)
    try:
        assert command("token", "list")[0] == 0
        assert command("backup", tmp_path / "backup")[0] == 0
    finally:
        lock.release()


def test_folder_without_an_installation_is_an_error_and_stays_as_it_is(command, tmp_path: Path) -> None:
    code, _, said = command("token", "list", "--data", tmp_path / "new")
    assert code == 2
    assert "no such database" in said
    assert not (tmp_path / "new").exists()


def test_database_that_is_away_is_incomplete_and_told_without_its_password(command, tmp_path: Path) -> None:
    away = ("--data", tmp_path / "new", "--database", "postgresql://me:hunter2@127.0.0.1:1/none")
    for words in (["token", "list"], ["migrate"]):
        code, _, said = command(*words, *away)
        assert code == 3
        assert said.startswith("auditor: the database does not answer: ")
        assert "hunter2" not in said


def test_database_of_another_kind_is_refused(command, tmp_path: Path) -> None:
    assert command("token", "list", "--data", tmp_path, "--database", "mysql://x/y")[0] == 2


def test_help_needs_no_extra() -> None:
    program = "import sys; sys.modules['sqlalchemy'] = sys.modules['pydantic_settings'] = None\n"
    program += "from auditor.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)

    assert run("service", "--help").returncode == 0
    done = run("service", "token", "list")
    assert done.returncode == 2
    assert done.stderr == "auditor: pydantic_settings is not installed: pip install 'checkpoint-auditor[service]'\n"
