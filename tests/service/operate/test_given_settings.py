"""Settings come from options, the environment, files with a secret each, and one TOML file; what is wrong is named."""

from pathlib import Path

import pytest

from auditor.errors import UsageError
from auditor.service import settings
from auditor.service.settings import files, load


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(settings.PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "service.toml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv(files.SECRETS, str(folder))
    return folder


def test_options_outrank_the_environment_which_outranks_secrets_which_outrank_the_file(toml, secrets, monkeypatch):
    file = toml('port = 1\nattempts = 1\nnice = 1\nopen_files = 1000\nhost = "a"\n')
    for name in ("port", "attempts", "nice"):
        (secrets / name).write_text("2\n")
    monkeypatch.setenv("AUDITOR_SERVICE_PORT", "3")
    monkeypatch.setenv("AUDITOR_SERVICE_NICE", "3")
    found = load(file, port=4)
    assert (found.port, found.nice, found.attempts, found.open_files) == (4, 3, 2, 1000)


def test_file_named_by_the_environment_is_read(toml, monkeypatch):
    monkeypatch.setenv(files.CONFIG, str(toml("port = 7\n")))
    assert load().port == 7


def test_part_of_a_table_leaves_the_rest_as_it_is_by_default(toml):
    found = load(toml("[headers]\neach = 7\n"))
    assert (found.headers.each, found.headers.hours) == (7, load().headers.hours)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1\n", "prot: no such setting; did you mean port?"),
        ("[headers]\neech = 1\n", "headers.eech: no such setting; did you mean each?"),
        ("[nothing]\na = 1\n", "nothing: no such setting"),
        ("port = 70000\n", "port: input should be less than or equal to 65535"),
        ("port = \n", "not TOML: Invalid value"),
        ("port = 1\n\x00", "not TOML"),
    ],
)
def test_fault_of_the_file_names_the_file_and_the_key(toml, text, said):
    file = toml(text)
    with pytest.raises(UsageError) as caught:
        load(file)
    assert f"settings {file}: {said}" in str(caught.value)


def test_every_fault_of_the_file_is_told_at_once(toml):
    with pytest.raises(UsageError, match=r"port.*; .*prot"):
        load(toml("port = -1\nprot = 1\n"))


def test_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")


def test_fault_of_the_environment_is_told_as_such(monkeypatch):
    monkeypatch.setenv("AUDITOR_SERVICE_HEADERS__EACH", "many")
    with pytest.raises(UsageError, match=r"^environment: headers\.each: input should be a valid integer"):
        load()


def test_list_of_the_environment_that_is_no_json_is_told_without_its_value(monkeypatch):
    monkeypatch.setenv("AUDITOR_SERVICE_SOURCES__HOSTS", "hunter2")
    with pytest.raises(UsageError, match="needs JSON") as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_variables_that_no_setting_has_are_found(monkeypatch):
    monkeypatch.setenv("AUDITOR_SERVICE_PROT", "1")
    monkeypatch.setenv("AUDITOR_SERVICE_HEADERS__EACH", "1")
    assert settings.unknown_variables() == ["AUDITOR_SERVICE_PROT"]


def test_secret_is_a_file_named_like_its_setting(secrets):
    (secrets / "database").write_text("postgresql://me:hunter2@host/db\n")
    (secrets / "headers__each").write_text("9")
    found = load()
    assert found.database_url == "postgresql://me:hunter2@host/db"
    assert found.headers.each == 9
    assert "hunter2" not in repr(found)


def test_hidden_files_and_folders_of_a_mounted_secret_are_passed_over(secrets):
    (secrets / "..data").mkdir()
    (secrets / ".hidden").write_text("x")
    assert load().database is None


def test_secret_that_no_setting_has_is_an_error_without_its_value(secrets):
    (secrets / "datbase").write_text("hunter2")
    with pytest.raises(UsageError, match=r"datbase: no such setting; did you mean database\?") as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_wrong_secret_is_told_without_its_value(secrets):
    (secrets / "port").write_text("hunter2")
    with pytest.raises(UsageError, match="port: input should be a valid integer") as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_folder_of_secrets_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(files.SECRETS, str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"AUDITOR_SERVICE_SECRETS .*none: No such file"):
        load()


def test_relative_folders_are_taken_from_where_the_command_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load(data="here", sources={"roots": ["models"]})
    assert found.data == tmp_path / "here"
    assert found.sources.roots == (tmp_path / "models",)


def test_every_setting_has_a_description():
    assert [name for name, field in settings.described() if not field.description] == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Auditor.Example.org/", "https://auditor.example.org"),
        ("https://auditor.example.org:443", "https://auditor.example.org"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_address_that_others_use_is_kept_as_browsers_write_it(given: str, kept: str) -> None:
    assert load(public_url=given).public_url == kept


@pytest.mark.parametrize(
    "given",
    ["auditor.example.org", "ftp://a", "https://", "https://a/b", "https://a?b", "https://u:p@a", "https://a:x"],
)
def test_address_that_nobody_can_use_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="public_url"):
        load(public_url=given)
