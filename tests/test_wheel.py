"""The wheel that users install works in an environment that holds nothing but it and what it requires."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "ci" / "constraints.txt"

Run = Callable[..., subprocess.CompletedProcess[str]]


def _environment() -> dict[str, str]:
    """This process's environment, less what would let the source tree or another environment in."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "COV_"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True, cwd=folder, env=_environment(), timeout=300)
    (built,) = folder.glob("*.whl")
    return built


def _installed(wheel: Path, folder: Path, extra: str = "") -> Path:
    """The programs of a clean environment that holds the wheel, and what it requires."""
    target = folder / "venv"
    venv.create(target, with_pip=True, symlinks=True)
    scripts = target / "bin"
    pip = [str(scripts / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--constraint", str(CONSTRAINTS), f"{wheel}{extra}"],
        check=True, capture_output=True, text=True, env=_environment(), timeout=600,
    )  # fmt: skip
    return scripts


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of the clean environment, in a folder that holds nothing."""
    scripts = _installed(wheel, tmp_path_factory.mktemp("clean"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(command: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(scripts / command), *arguments],
            capture_output=True, text=True, cwd=elsewhere, env=_environment(), timeout=120,
        )  # fmt: skip
        assert done.returncode == code, f"{command} {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return run


def test_wheel_holds_three_packages_and_no_package_called_schemas_or_reports(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"auditor", "auditor_schemas", "auditor_reports"}
    assert "auditor/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_wheel_holds_the_page_of_every_rule(wheel: Path) -> None:
    from auditor.rules import catalogue

    names = set(zipfile.ZipFile(wheel).namelist())
    lacking = [each.rule.slug for each in catalogue() if f"auditor/rule_pages/{each.rule.slug}.md" not in names]
    assert lacking == []


def test_packages_come_from_the_wheel_alone(installed: Run) -> None:
    script = """
import importlib.util, json, sys, auditor, auditor_schemas, auditor_reports
site = [module.__file__ for module in (auditor, auditor_schemas, auditor_reports)]
typed = importlib.util.find_spec("auditor").submodule_search_locations[0] + "/py.typed"
extra = [name for name in ("schemas", "reports", "numpy", "torch") if importlib.util.find_spec(name)]
print(json.dumps({"prefix": sys.prefix, "files": site, "typed": open(typed).read() is not None, "extra": extra}))
"""
    found = json.loads(installed("python", "-c", script).stdout)
    assert all("site-packages" in file and file.startswith(found["prefix"]) for file in found["files"])
    assert found["typed"]
    assert found["extra"] == []


def test_installed_command_knows_its_rules_and_schemas(installed: Run) -> None:
    assert "audit" in installed("auditor", "--help").stdout
    assert "QNT101" in installed("auditor", "rules").stdout
    assert "QNT101" in installed("auditor", "rule", "QNT101").stdout
    schema = json.loads(installed("auditor", "schema", "report").stdout)
    assert "findings" in schema["properties"]


def test_installed_command_forges_and_passes_a_sparse_checkpoint(installed: Run) -> None:
    installed("auditor", "forge", "tiny", "--like", "tiny", "--sparse")
    installed("auditor", "audit", "tiny", "--html", "report.html")
    assert json.loads(installed("auditor", "audit", "tiny", "--json", "-").stdout)["verdict"] == "passed"


def test_installed_command_fails_a_broken_checkpoint(installed: Run) -> None:
    listed = installed("auditor", "forge", "--list-breaks").stdout.splitlines()
    name = next(line.split()[0] for line in listed if "  QNT" in line and "exit 1" in line)
    installed("auditor", "forge", "broken", "--like", "tiny", "--sparse", "--break", name)
    report = json.loads(installed("auditor", "audit", "broken", "--json", "-", code=1).stdout)
    assert report["verdict"] == "failed"


def test_installed_command_writes_every_format_that_needs_no_extra_and_publishes(installed: Run) -> None:
    installed("auditor", "forge", "published", "--like", "tiny", "--sparse")
    files = ["--sarif=r.sarif", "--junit=r.xml", "--markdown=r.md", "--html=r.html", "--json=r.json"]
    installed("auditor", "audit", "published", "--quiet", *files)
    run = json.loads(installed("python", "-c", "print(open('r.sarif').read())").stdout)["runs"][0]
    assert "## Remedy" in run["tool"]["driver"]["rules"][0]["help"]["markdown"]
    assert "1 report of 1 checkpoint" in installed("auditor", "publish", "r.json", "--site", "site").stdout
    assert (
        "pip install 'checkpoint-auditor[tables]'"
        in installed("auditor", "report", "r.json", "--csv", "tables", code=2).stderr
    )


@pytest.mark.parametrize("words", [("serve",), ("service", "doctor")])
def test_the_service_without_its_extra_is_one_line_that_says_what_to_install(
    installed: Run, words: tuple[str, ...], tmp_path: Path
) -> None:
    said = installed("auditor", *words, "--data", str(tmp_path), code=2).stderr
    assert said.count("\n") == 1
    assert "pip install 'checkpoint-auditor[service]'" in said


def test_the_installed_service_audits_and_shows_the_report(
    wheel: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scripts = _installed(wheel, tmp_path_factory.mktemp("service"), "[service]")
    models = tmp_path / "models"
    subprocess.run([str(scripts / "auditor"), "forge", str(models / "v3"), "--like", "v3", "--sparse"], check=True)
    service = subprocess.Popen(
        [str(scripts / "auditor"), "serve", "--data", str(tmp_path / "data"), "--port", "0"],
        env={**_environment(), "AUDITOR_SERVICE_SOURCES__ROOTS": json.dumps([str(models)])},
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert service.stderr is not None
        told = [next(service.stderr) for _ in range(2)]
        making, url = told[0].partition(": ")[2].rpartition(": ")[2].split(), told[1].split()[-1]
        made = [str(scripts / making[0]), *making[1:]]
        token = subprocess.run(made, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = json.dumps({"source": str(models / "v3")}).encode()
        with urlopen(Request(f"{url}/v1/audits?wait=60", body, headers), timeout=90) as answer:
            audit = json.load(answer)
        assert (audit["state"], audit["verdict"]) == ("finished", "passed")
        for path in (audit["links"]["html"], "/", "/rules"):
            with urlopen(Request(f"{url}/{path.removeprefix(url).lstrip('/')}", headers=headers), timeout=30) as page:
                assert page.status == 200
                assert b"<!doctype html>" in page.read(200).lower()
    finally:
        service.terminate()
        assert service.wait(30) == 0
