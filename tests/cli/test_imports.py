"""Starting up costs what it must: nothing heavy is imported before something needs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from auditor.forge import forge
from tests.servers.serving import folder_server


def _imported(*arguments: str) -> set[str]:
    """The top-level modules that a whole run of the command imports."""
    command = [sys.executable, "-X", "importtime", "-c", "from auditor.cli import entry; entry()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


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


def test_text_formats_import_neither_tables_nor_page_library(checkpoint: Path, tmp_path: Path) -> None:
    formats = [f"--{name}={tmp_path / name}" for name in ("json", "sarif", "junit", "markdown")]
    assert {"pandas", "numpy", "jinja2", "rich"} & _imported("audit", str(checkpoint), "--quiet", *formats) == set()


def test_web_audit_imports_no_client_library(checkpoint: Path) -> None:
    with folder_server(checkpoint) as server:
        imported = _imported("audit", server.url, "--quiet", "--no-cache")
    assert {"torch", "numpy", "huggingface_hub", "obstore", "requests", "http", "ssl"} & imported == set()


def test_quiet_audit_imports_no_terminal_library(checkpoint: Path) -> None:
    assert "rich" not in _imported("audit", str(checkpoint), "--quiet")


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_neither_models_nor_decoder_nor_terminal_library(argument: str) -> None:
    assert {"pydantic", "msgspec", "rich", "jinja2", "numpy", "torch"} & _imported(argument) == set()


def test_python_api_is_imported_when_first_asked_for() -> None:
    script = "import sys, auditor; lazy = 'pydantic' not in sys.modules; auditor.audit; print(lazy)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"
