"""Starting up costs what it must: nothing heavy is imported before something needs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from auditor.cli.arguments import COMMANDS
from auditor.forge import forge
from tests.servers.serving import folder_server


def _imported(*arguments: str) -> set[str]:
    """The top-level modules that a whole run of the command imports."""
    return {name.partition(".")[0] for name in _modules(*arguments)}


def _modules(*arguments: str) -> set[str]:
    program = (
        "import os, sys; leave = os._exit\n"
        "os._exit = lambda code: (os.write(2, ' '.join(sys.modules).encode()), leave(code))\n"
        "from auditor.cli import entry; entry()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stderr.split())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    forge(folder, like="tiny", sparse=True)
    return folder


def test_import_list_sees_what_is_imported(checkpoint: Path) -> None:
    assert {"auditor", "msgspec", "pydantic"} <= _imported("audit", str(checkpoint), "--quiet")


def test_header_audit_imports_no_numeric_or_page_library(checkpoint: Path) -> None:
    heavy = {"torch", "pandas", "numpy", "jinja2", "safetensors", "huggingface_hub", "obstore", "ssl", "http"}
    assert heavy & _imported("audit", str(checkpoint)) == set()


def test_a_full_audit_imports_ray_for_its_engine_alone(checkpoint: Path) -> None:
    assert "ray" not in _imported("audit", str(checkpoint), "--depth", "full", "--quiet", "--fail-on", "never")


def test_collecting_parts_imports_no_numeric_library(tmp_path: Path) -> None:
    forge(tmp_path / "tiny", like="tiny")
    source, place = str(tmp_path / "tiny"), ("--quiet", "--resume", str(tmp_path / "place"))
    _imported("read", source, "--part", "1/1", *place)
    collecting = ("audit", source, "--depth", "full", "--seed", "1", *place)
    _imported(*collecting)  # which makes the spot check, and keeps it
    assert {"numpy", "numba", "torch", "xxhash"} & _imported(*collecting) == set()


def test_text_formats_import_neither_tables_nor_page_library(checkpoint: Path, tmp_path: Path) -> None:
    formats = [f"--{name}={tmp_path / name}" for name in ("json", "sarif", "junit", "markdown")]
    assert {"pandas", "numpy", "jinja2", "rich"} & _imported("audit", str(checkpoint), "--quiet", *formats) == set()


def test_web_audit_imports_no_client_library(checkpoint: Path) -> None:
    with folder_server(checkpoint) as server:
        imported = _imported("audit", server.url, "--quiet", "--no-cache")
    assert {"torch", "numpy", "huggingface_hub", "obstore", "requests"} & imported == set()


def test_quiet_audit_imports_no_terminal_library(checkpoint: Path) -> None:
    assert "rich" not in _imported("audit", str(checkpoint), "--quiet")


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_neither_models_nor_decoder_nor_terminal_library(argument: str) -> None:
    assert {"pydantic", "msgspec", "rich", "jinja2", "numpy", "torch"} & _imported(argument) == set()


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_the_standard_library_alone(argument: str) -> None:
    ours = {name for name in _modules(argument) if name.startswith("auditor")}
    words = {
        "auditor.errors",
        "auditor.startup",
        "auditor.text",
        "auditor.version",
        "auditor_schemas",
        "auditor_schemas.wording",
    }
    command = {"auditor.cli", *(f"auditor.cli.{name}" for name in ("arguments", "streams"))}
    assert ours <= {"auditor", *words, *command}
    assert _imported(argument) - {"auditor", "auditor_schemas"} <= set(sys.stdlib_module_names) | _imported_by_python()


def _imported_by_python() -> set[str]:
    """What this environment imports at every start."""
    done = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_a_command_imports_its_own_file_and_no_other_commands() -> None:
    commands = {f"auditor.cli.{name}" for name in COMMANDS}
    assert commands & _modules("rules") == {"auditor.cli.rules"}
    assert commands & _modules("rule", "CFG101") == {"auditor.cli.rule"}
    assert commands & _modules("audit", "--help") == {"auditor.cli.audit"}
    assert commands & _modules("--help") == set()


def test_python_api_is_imported_when_first_asked_for() -> None:
    script = "import sys, auditor; lazy = 'pydantic' not in sys.modules; auditor.audit; print(lazy)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"
