"""The doctor says in a line each what is wrong and what mends it, and nothing of what is not."""

import os
import socket
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from auditor import cli
from auditor.service import settings as given
from auditor.service.access.tokens import Tokens
from auditor.service.audits.order import Order
from auditor.service.installation import Installation
from auditor.service.operate import doctor, surroundings
from auditor.service.operate.doctor import examine
from auditor.service.settings import Settings, files
from auditor.service.store.database import now
from auditor.service.store.tables import workers
from auditor.version import __version__


@pytest.fixture(autouse=True)
def room_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_LEAST_FREE", 0)
    monkeypatch.setattr(surroundings, "_LEAST_SHARE", 0)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith((given.PREFIX, "AWS_", "AUDITOR_PORT")):
            monkeypatch.delenv(name)


@pytest.fixture
def wrong(settings: Settings, installation: Installation):
    """What is wrong with the test's installation, with some settings changed; each line by its part."""
    settings.data.mkdir(mode=0o700, exist_ok=True)

    def found(**changed: object) -> dict[str, str]:
        lines = examine(settings.model_copy(update=changed), online=False)
        return {line.part: line.said for line in lines if line.mark == "wrong"}

    return found


def live(installation: Installation, tool: str = __version__, ago_s: float = 0) -> None:
    with installation.database.write() as connection:
        at = now(connection) - int(ago_s * 1000)
        row = {"host": "h", "pid": 1, "tool": tool, "counter": 0, "started_at": at, "seen_at": at}
        connection.execute(insert(workers).values(id=f"w{tool}{ago_s}", **row))


def test_sound_installation_has_nothing_wrong(wrong) -> None:
    assert wrong() == {}


def test_command_ends_with_0_where_nothing_is_wrong_and_with_1_else(wrong, settings, capsys) -> None:
    where = ["--data", str(settings.data), "--database", settings.database_url]
    assert cli.main(["service", "doctor", *where]) == 0
    said = capsys.readouterr().out
    assert "ok     schema: 0001\n" in said
    settings.data.chmod(0o755)
    assert cli.main(["service", "doctor", *where]) == 1
    assert "wrong  data folder: " in capsys.readouterr().out


def test_settings_that_are_wrong_are_a_line(tmp_path: Path, capsys) -> None:
    file = tmp_path / "service.toml"
    file.write_text("prot = 1\n")
    assert cli.main(["service", "doctor", "--config", str(file)]) == 1
    assert capsys.readouterr().out == f"wrong  settings: settings {file}: prot: no such setting; did you mean port?\n"


def test_variable_that_is_no_setting(wrong, monkeypatch) -> None:
    monkeypatch.setenv("AUDITOR_SERVICE_PROT", "1")
    assert "AUDITOR_SERVICE_PROT is no setting; did you mean port" in wrong()["environment"]


def test_variables_that_kubernetes_makes_of_a_service_called_auditor(wrong, monkeypatch) -> None:
    monkeypatch.setenv("AUDITOR_PORT", "tcp://10.0.0.1:8765")
    assert "enableServiceLinks" in wrong()["environment"]


@pytest.mark.parametrize(("mode", "said"), [(0o644, True), (0o600, False)])
def test_file_of_secrets_that_everybody_may_read(wrong, monkeypatch, tmp_path: Path, mode: int, said: bool) -> None:
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / "database"
    secret.write_text("postgresql://x")
    secret.chmod(mode)
    monkeypatch.setenv(files.SECRETS, str(tmp_path / "secrets"))
    assert ("environment" in wrong()) is said


@pytest.mark.parametrize(("text", "said"), [('database = "postgresql://x"\n', True), ("port = 1\n", False)])
def test_file_of_settings_with_secrets_that_everybody_may_read(wrong, monkeypatch, tmp_path, text, said) -> None:
    file = tmp_path / "service.toml"
    file.write_text(text)
    file.chmod(0o644)
    monkeypatch.setenv(files.CONFIG, str(file))
    assert ("environment" in wrong()) is said


def test_data_folder_that_others_may_look_into(wrong, settings: Settings) -> None:
    settings.data.chmod(0o750)
    assert "mode 750" in wrong()["data folder"]


def test_data_folder_of_another_user(wrong, settings: Settings) -> None:
    os.chown(settings.data, 12345, -1)
    assert "belongs to user 12345" in wrong()["data folder"]
    os.chown(settings.data, os.geteuid(), -1)


def test_data_folder_that_is_not_there(wrong, tmp_path: Path) -> None:
    assert "is not there" in wrong(data=tmp_path / "none")["data folder"]
    assert not (tmp_path / "none").exists()


def test_disk_that_is_nearly_full(wrong, monkeypatch) -> None:
    monkeypatch.setattr(surroundings, "_LEAST_FREE", 1 << 60)
    assert "GiB free of" in wrong()["disk"]


def test_database_that_does_not_answer(wrong) -> None:
    found = wrong(database=Settings(database="postgresql://me:hunter2@127.0.0.1:1/x").database)
    assert "the database does not answer" in found["database"]
    assert "hunter2" not in str(found)


def test_schema_that_is_behind_and_one_that_is_ahead(wrong, installation: Installation) -> None:
    for revision, mend in (("9999", "a newer auditor made it"), (None, "auditor service migrate")):
        with installation.database.write() as connection:
            connection.execute(text("DELETE FROM alembic_version"))
            if revision:
                connection.execute(text(f"INSERT INTO alembic_version VALUES ('{revision}')"))
        assert mend in wrong()["schema"]


def test_damaged_sqlite_database_is_seen(wrong, installation: Installation, settings: Settings) -> None:
    if not installation.database.sqlite:
        return
    for seed in range(200):
        installation.audits.submit(Order(source="hf://org/model", seed=seed))
    installation.close()
    file = settings.data / "auditor.sqlite3"
    content = bytearray(file.read_bytes())
    for page in range(20, len(content) // 4096, 2):
        content[page * 4096 : page * 4096 + 512] = b"\xff" * 512
    file.write_bytes(content)
    assert {"database", "doctor"} & set(wrong())


def test_audits_that_wait_while_no_worker_lives(wrong, installation: Installation) -> None:
    assert wrong() == {}
    installation.audits.submit(Order(source="hf://org/model"))
    live(installation, ago_s=300)
    assert "none lives, 1 audit queued" in wrong()["workers"]
    live(installation)
    assert wrong() == {}


def test_workers_of_different_versions(wrong, installation: Installation) -> None:
    live(installation)
    live(installation, "0.0.1")
    assert "versions differ: 0.0.1" in wrong()["workers"]


def test_store_that_takes_nothing(wrong, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "reports" in wrong(reports=str(tmp_path / "file"))


def test_clock_that_differs_from_the_databases(wrong, installation: Installation, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_SKEW_S", -1.0)
    assert ("clock" in wrong()) is not installation.database.sqlite


def test_address_that_others_reach_without_tokens_or_without_tls(wrong, installation: Installation) -> None:
    found = [line.said for line in examine_address(installation, host="0.0.0.0")]
    assert any("without a token" in each for each in found)
    assert any("without TLS" in each for each in found)
    Tokens(installation.database).create("me", ["admin"])
    assert wrong(host="0.0.0.0", public_url="https://auditor.example.org") == {}
    assert "without TLS" in wrong(host="0.0.0.0")["address"]


def examine_address(installation: Installation, **changed: object) -> list[doctor.Line]:
    lines = examine(installation.settings.model_copy(update=changed), online=False)
    return [line for line in lines if line.part == "address"]


def test_limit_of_open_files_below_the_settings(wrong) -> None:
    assert "raise LimitNOFILE" in wrong(open_files=1 << 40)["limits"]


def test_stores_without_credentials_are_noted(settings: Settings, installation, monkeypatch) -> None:
    allowed = settings.model_copy(update={"sources": settings.sources.model_copy(update={"buckets": ("s3://models",)})})

    def credentials() -> list[str]:
        return [str(line) for line in examine(allowed, online=False) if line.part == "credentials"]

    assert credentials()[0].startswith("note   credentials: none for s3:// in the environment")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAhunter2")
    assert credentials() == ["ok     credentials: s3:// by AWS_ACCESS_KEY_ID"]


def test_hosts_are_connected_to_when_that_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        closing = threading.Thread(target=lambda: server.accept()[0].close(), daemon=True)
        closing.start()
        found = dict(zip(("closes", "none"), surroundings.hosts([f"127.0.0.1:{port}", "none.invalid"]), strict=True))
    assert found["closes"][0] == found["none"][0] == "wrong"
    assert found["none"][1].startswith("none.invalid: ")


def test_packages_that_are_needed_and_not_there(wrong, monkeypatch) -> None:
    monkeypatch.setattr(surroundings, "find_spec", lambda name: None if name == "numba" else name)
    assert wrong()["packages"] == "numba is not installed: needs the extra content, or content.each = 0"


def test_nothing_of_a_line_acts_on_a_terminal() -> None:
    assert str(doctor.Line("wrong", "disk", "a\x1b[2J")) == "wrong  disk: a\\x1b[2J"
