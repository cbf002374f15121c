"""What a pipeline uses: the shell gate end to end, the GitHub action, the GitLab template and the pre-commit hook.

GitHub's and GitLab's own runners cannot run here. Their files are held against the published schemas and actionlint,
each step's script is run as the runner would run it, and pre-commit runs in a real git repository.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from auditor import cli
from auditor.forge import breaks, forge

ROOT = Path(__file__).parent.parent
GATE = ROOT / "ci" / "gate.sh"
BIN = Path(sys.executable).parent
ARTEFACTS = {"report.json", "report.html", "report.sarif", "report.junit.xml", "report.md", "gate.env"}


def _run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AUDITOR", "GITHUB_", "GIT_", "PRE_COMMIT"))}
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env={**clean, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _git(repository: Path, *arguments: object) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = _run("git", *who, *arguments, cwd=repository)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def repository(tmp_path):
    """A scratch git repository with a sound and a broken checkpoint beside it."""
    directory = tmp_path / "repository"
    directory.mkdir()
    _git(directory, "init", "-q", "-b", "main")
    forge(tmp_path / "sound", like="tiny", sparse=True)
    forge(tmp_path / "broken", like="tiny", sparse=True, break_name="missing-block-scale")
    return directory


WAIVING = """
[[waivers]]
rule = "QNT101"
tensor = "model.layers.*"
reason = "repaired in the next upload"
expires = 2999-01-31
owner = "infra"
"""


# --- the shell gate ---


def test_sound_broken_waived_and_baselined_end_0_1_0_0_with_every_artefact(repository):
    (repository / "auditor.toml").write_text(WAIVING)
    cases = [
        ("sound", "../sound", {}, 0, "passed"),
        ("broken", "../broken", {}, 1, "failed"),
        ("waived", "../broken", {"AUDITOR_POLICY": "auditor.toml"}, 0, "passed"),
        ("baselined", "../broken", {"AUDITOR_BASELINE": "broken/report.json"}, 0, "passed"),
    ]
    for out, source, environment, code, verdict in cases:
        done = _run("sh", GATE, source, cwd=repository, AUDITOR_OUT=out, **environment)
        assert (out, done.returncode) == (out, code), done.stdout + done.stderr
        assert {each.name for each in (repository / out).iterdir()} == ARTEFACTS
        assert all(each.stat().st_size > 0 for each in (repository / out).iterdir())
        report = json.loads((repository / out / "report.json").read_text())
        env = dict(line.split("=", 1) for line in (repository / out / "gate.env").read_text().splitlines())
        assert report["verdict"] == verdict
        assert env == {
            "AUDITOR_VERDICT": verdict,
            "AUDITOR_EXIT_CODE": str(code),
            "AUDITOR_FINGERPRINT": report["source"]["fingerprint"],
        }


def test_gate_does_not_read_symlinks_that_leave_the_checkpoint_whatever_the_policy_says(repository, tmp_path):
    forge(tmp_path / "linked", like="tiny", sparse=True, break_name="outside-symlink")
    (repository / "auditor.toml").write_text('symlinks = "follow"\n')
    done = _run("sh", GATE, "../linked", cwd=repository, AUDITOR_POLICY="auditor.toml")
    assert done.returncode == 1
    assert "HDR113 forbidden-symlink" in done.stdout


def test_incomplete_audit_ends_3_and_leaves_its_reports(repository, tmp_path):
    forge(tmp_path / "other", like="tiny", sparse=True, break_name="unsupported-model-type")
    done = _run("sh", GATE, "../other", cwd=repository, AUDITOR_FAIL_ON="never")
    assert done.returncode == 3
    assert {each.name for each in (repository / "auditor-report").iterdir()} == ARTEFACTS


def test_usage_error_ends_2_and_leaves_no_report_of_an_earlier_run(repository):
    out = repository / "auditor-report"
    out.mkdir()
    (out / "report.json").write_text('{"verdict": "passed"}')
    done = _run("sh", GATE, "../sound", cwd=repository, AUDITOR_DEPTH="bottom")
    assert done.returncode == 2
    assert {each.name for each in out.iterdir()} == {"gate.env"}
    assert "AUDITOR_VERDICT=usage\n" in (out / "gate.env").read_text()


def test_command_that_is_not_there_or_is_killed_is_no_pass(repository, tmp_path):
    done = _run("sh", GATE, "../sound", cwd=repository, AUDITOR=str(tmp_path / "absent"))
    assert (done.returncode, "nothing was decided" in done.stderr) == (3, True)
    (tmp_path / "killed").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "killed").chmod(0o755)
    assert _run("sh", GATE, "../sound", cwd=repository, AUDITOR=str(tmp_path / "killed")).returncode == 3
    done = _run("sh", GATE, "../sound", cwd=repository, AUDITOR="true")
    assert (done.returncode, "left no report" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"AUDITOR_POLICY": "../broken/auditor.toml"}, "lies in the checkpoint that it shall judge"),
        ({"AUDITOR_BASELINE": "../sound/../broken/report.json"}, "lies in the checkpoint that it shall judge"),
        ({"AUDITOR_OUT": "../broken/reports"}, "lies in the checkpoint: reports are written elsewhere"),
        ({"AUDITOR_OUT": "link"}, "is a symlink"),
        ({"AUDITOR_POLICY": "--fail-on=never"}, "may not begin with a dash"),
        ({"AUDITOR_OUT": "a\nverdict=passed"}, "may not hold control characters"),
    ],
)
def test_what_an_uploader_could_have_planted_is_refused(repository, tmp_path, environment, says):
    (tmp_path / "broken" / "auditor.toml").write_text(WAIVING)
    (tmp_path / "broken" / "report.json").write_text("{}")
    (repository / "link").symlink_to(tmp_path)
    outputs = tmp_path / "outputs"
    done = _run("sh", GATE, "../broken", cwd=repository, GITHUB_OUTPUT=str(outputs), **environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert not outputs.exists()


def test_gate_without_a_source_is_a_usage_error(repository):
    assert _run("sh", GATE, cwd=repository).returncode == 2
    assert _run("sh", GATE, "a", "b", cwd=repository).returncode == 2
    assert _run("sh", GATE, "--help", cwd=repository).returncode == 2


def _hostile(directory: Path) -> None:
    """A checkpoint whose index names a file that would be a command of the runner."""
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    index["weight_map"]["::error::hostile"] = "::error file=x::hostile.safetensors"
    index["weight_map"]["##[error]hostile"] = "\n::set-env name=X::y"
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_names_from_a_checkpoint_are_no_commands_of_the_runner(repository, tmp_path):
    _hostile(tmp_path / "broken")
    done = _run(
        "sh", GATE, "../broken", cwd=repository, GITHUB_ACTIONS="true",
        GITHUB_OUTPUT=str(tmp_path / "outputs"), GITHUB_STEP_SUMMARY=str(tmp_path / "summary"),
    )  # fmt: skip
    assert done.returncode == 1
    acting, stopped = [], None
    for line in done.stdout.splitlines():  # as the runner reads it
        command = re.match(r"\s*::([^:]*)::(.*)", line)
        if stopped is not None:
            if command and command[1] == stopped:
                stopped = None
        elif command and command[1] == "stop-commands":
            stopped = command[2]
            assert re.fullmatch("[0-9a-f]{32}", stopped)
        elif command or "##[" in line:
            acting.append(line)
    assert (acting, stopped) == ([], None)
    assert "hostile" in done.stdout
    outputs = dict(line.split("=", 1) for line in (tmp_path / "outputs").read_text().splitlines())
    assert outputs["verdict"] == "failed"
    assert outputs["exit-code"] == "1"
    assert re.fullmatch("[0-9a-f]{64}", outputs["fingerprint"])
    assert {outputs[kind] for kind in ("json", "html", "sarif", "junit", "markdown")} == {
        f"auditor-report/{name}" for name in ARTEFACTS - {"gate.env"}
    }
    assert (tmp_path / "summary").read_text() == (repository / "auditor-report" / "report.md").read_text()


def test_two_runs_stop_commands_with_different_words(repository):
    """A word that could be guessed would be a way out."""
    words = set()
    for _ in range(2):
        done = _run("sh", GATE, "../sound", cwd=repository, GITHUB_ACTIONS="true", AUDITOR="true")
        words.add(done.stdout.splitlines()[0])
    assert len(words) == 2


@pytest.mark.parametrize("script", sorted((ROOT / "ci").glob("*.sh")), ids=lambda path: path.name)
def test_shell_is_clean_by_shellcheck(script):
    done = _run("shellcheck", "--severity=style", script, cwd=ROOT)
    assert done.returncode == 0, done.stdout


# --- the GitHub action ---

ACTION = yaml.safe_load((ROOT / "ci" / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]


def test_action_is_valid_by_the_published_schema():
    done = _run("check-jsonschema", "--builtin-schema", "vendor.github-actions", "ci/action.yml", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_action_has_the_inputs_and_outputs_that_pipelines_rely_on():
    assert {"source", "policy", "depth", "fail-on", "baseline"} <= ACTION["inputs"].keys()
    outputs = {"verdict", "fingerprint", "json", "html", "sarif", "junit", "markdown"}
    assert outputs <= ACTION["outputs"].keys()


def test_no_script_of_the_action_holds_a_template():
    for workflow in (ACTION["runs"], *(job for job in _example()["jobs"].values())):
        for step in workflow["steps"]:
            assert "${{" not in step.get("run", "")


def test_every_output_of_the_action_is_one_that_the_gate_writes():
    written = set(re.findall(r"\b([a-z-]+)=%s", GATE.read_text().replace("\\n", "\n")))
    written |= set(re.search(r'^reports="(.*)"$', GATE.read_text(), re.MULTILINE)[1].split())
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.gate.outputs.{name} }}}}"
        assert name in written


def test_reports_are_uploaded_before_the_exit_code_decides():
    names = [step["name"] for step in STEPS]
    assert names[-1] == "Decide"
    uploads = [step for step in STEPS if "uses" in step]
    assert len(uploads) == 2
    for step in (*uploads, STEPS[-1]):
        assert step["if"].startswith("${{ always()")
    for step in uploads:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])


def _example() -> dict:
    return yaml.safe_load((ROOT / "ci" / "examples" / "release.yml").read_text())


def test_release_workflow_and_action_are_clean_by_actionlint(tmp_path):
    """actionlint reads the local action too: inputs and outputs must be its own. Scripts pass through shellcheck."""
    _git(tmp_path, "init", "-q")
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    shutil.copytree(ROOT / "ci", tmp_path / "ci")
    shutil.copy(ROOT / "ci" / "examples" / "release.yml", workflows)
    scripts = [{"run": step["run"], "shell": "bash"} for step in STEPS if "run" in step]
    steps = {"name": "steps", "on": "push", "jobs": {"a": {"runs-on": "ubuntu-latest", "steps": scripts}}}
    (workflows / "steps.yml").write_text(yaml.safe_dump(steps))
    done = _run("actionlint", "-no-color", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # and it would have seen a wrong input
    text = (workflows / "release.yml").read_text().replace("policy: auditor.toml", "polcy: auditor.toml")
    (workflows / "release.yml").write_text(text)
    assert '"polcy" is not defined' in _run("actionlint", "-no-color", cwd=tmp_path).stdout


def _as_runner(step: dict, context: dict[str, str], cwd: Path, **environment: str):
    """Run one step as GitHub's runner does: templates in `env` become values, the script stays as it is."""
    env = {
        name: re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda found: context.get(found[1], ""), value)
        for name, value in step.get("env", {}).items()
    }
    return _run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], cwd=cwd, **env, **environment)


@pytest.mark.parametrize(("source", "code"), [("sound", 0), ("broken", 1), ("absent", 3)])
def test_steps_of_the_action_end_with_the_gates_exit_code(repository, tmp_path, source, code):
    (tmp_path / "auditor" / "bin").mkdir(parents=True)
    (tmp_path / "auditor" / "bin" / "auditor").symlink_to(BIN / "auditor")
    outputs = tmp_path / "outputs"
    runner = {"RUNNER_TEMP": str(tmp_path), "GITHUB_ACTION_PATH": str(ROOT / "ci"), "GITHUB_OUTPUT": str(outputs)}
    context = {f"inputs.{name}": str(each.get("default", "")) for name, each in ACTION["inputs"].items()}
    context["inputs.source"] = f"../{source}"
    gate = next(step for step in STEPS if step.get("id") == "gate")
    done = _as_runner(gate, context, repository, **runner)
    assert done.returncode == 0, done.stderr
    written = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    assert (written["code"], written["exit-code"]) == (str(code), str(code))
    decided = _as_runner(STEPS[-1], {"steps.gate.outputs.code": written["code"]}, repository, **runner)
    assert decided.returncode == code


def test_gate_that_wrote_no_exit_code_is_no_pass(tmp_path):
    assert _as_runner(STEPS[-1], {}, tmp_path).returncode == 3


def test_input_cannot_act_as_a_script(repository, tmp_path):
    """An input reaches the shell as a value, whatever it holds."""
    gate = next(step for step in STEPS if step.get("id") == "gate")
    context = {"inputs.source": '$(touch planted)"; touch planted; "', "inputs.out": "auditor-report"}
    runner = {"RUNNER_TEMP": str(tmp_path), "GITHUB_ACTION_PATH": str(ROOT / "ci")}
    _as_runner(gate, context, repository, **runner, GITHUB_OUTPUT=str(tmp_path / "outputs"))
    assert not (repository / "planted").exists()


def test_release_job_verifies_what_it_releases_before_it_does():
    release = _example()["jobs"]["release"]
    names = [step.get("name", "") for step in release["steps"]]
    assert names.index("Verify that what is released is what was audited") < names.index("Release")
    assert release["needs"] == "audit"


# --- the GitLab template ---


def test_gitlab_template_is_valid_by_the_published_schema():
    command = ("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")
    done = _run(*command, "ci/gitlab.yml", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gitlab_job_keeps_its_reports_when_it_fails():
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".auditor-gate"]
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"] == {
        "junit": "$AUDITOR_OUT/report.junit.xml",
        "dotenv": "$AUDITOR_OUT/gate.env",
    }


def test_script_of_the_gitlab_job_ends_with_the_gates_exit_code(repository, tmp_path):
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".auditor-gate"]
    (tmp_path / "auditor-venv" / "bin").mkdir(parents=True)
    (tmp_path / "auditor-venv" / "bin" / "auditor").symlink_to(BIN / "auditor")
    (tmp_path / "auditor").symlink_to(ROOT)
    for source, code in (("sound", 0), ("broken", 1)):
        environment = {**job["variables"], "AUDITOR_SOURCE": f"../{source}", "CI_BUILDS_DIR": str(tmp_path)}
        done = _run("sh", "-ec", "\n".join(job["script"]), cwd=repository, **environment)
        assert done.returncode == code, done.stderr


# --- the pre-commit hook ---

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def test_hooks_manifest_is_one_that_pre_commit_accepts():
    done = _run("pre-commit", "validate-manifest", ".pre-commit-hooks.yaml", cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def hooked(repository, tmp_path):
    """The repository with the hook installed. `language: system`: the environment is the tests' own, none is made."""
    hook = {**HOOKS[0], "language": "system"}
    config = {"repos": [{"repo": "local", "hooks": [hook]}]}
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    done = _run("pre-commit", "install", cwd=repository, PRE_COMMIT_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    return repository


def _commit(repository: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    _git(repository, "add", "-A")
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return _run("git", *who, "commit", "-m", "x", cwd=repository, PRE_COMMIT_HOME=str(tmp_path / "cache"))


def _put(repository: Path, checkpoint: Path) -> None:
    """Config and index as a git repository has them: the shards are elsewhere."""
    (repository / "model").mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors.index.json"):
        shutil.copy(checkpoint / name, repository / "model")


def test_commit_of_a_sound_config_and_index_without_shards_passes(hooked, tmp_path):
    _put(hooked, tmp_path / "sound")
    done = _commit(hooked, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "auditor (config.json and index)" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("config-not-json", "CFG102 malformed-config"),
        ("config-negative-field", "CFG103 invalid-config-field"),
        ("missing-norm", "NAM101 missing-tensor"),
        ("missing-block-scale", "the config implies FP8, the index has no weight_scale_inv for it"),
        ("index-not-json", "IDX102 malformed-index"),
        ("parent-shard-path", "IDX104 unsafe-shard-path"),
    ],
)
def test_commit_of_a_broken_config_or_index_is_refused(hooked, tmp_path, name, says):
    forge(tmp_path / "other", like="tiny", sparse=True, break_name=name)
    _put(hooked, tmp_path / "other")
    done = _commit(hooked, tmp_path)
    assert done.returncode == 1
    assert says in done.stdout + done.stderr


def test_commit_of_other_files_does_not_ask_the_hook(hooked, tmp_path):
    (hooked / "tokenizer_config.json").write_text("{")
    done = _commit(hooked, tmp_path)
    assert done.returncode == 0
    assert "no files to check" in done.stdout + done.stderr


# --- lint, which the hook runs ---

_SEEN_WITHOUT_SHARDS = {
    "CFG101",
    "CFG102",
    "CFG103",
    "CFG104",
    "CFG105",
    "FIL102",
    "FIL106",
    "IDX102",
    "IDX104",
    "NAM101",
    "NAM103",
    "MTP101",
}


@pytest.mark.parametrize("name", sorted(n for n, each in breaks().items() if each.rule in _SEEN_WITHOUT_SHARDS))
def test_lint_finds_what_needs_no_shard(name, tmp_path, capsys):
    forge(tmp_path / "checkpoint", like=breaks()[name].like, sparse=True, break_name=name)
    for shard in (tmp_path / "checkpoint").glob("*.safetensors"):
        shard.unlink()
    files = [f for f in ("config.json", "model.safetensors.index.json") if (tmp_path / "checkpoint" / f).exists()]
    assert cli.main(["lint", *(str(tmp_path / "checkpoint" / file) for file in files)]) == 1
    out = capsys.readouterr().out
    assert f" {breaks()[name].rule} " in out
    assert "no shard read" in out


def test_lint_of_a_release_without_its_shards_passes(tmp_path, capsys):
    forge(tmp_path / "v3", like="v3", sparse=True)
    for shard in (tmp_path / "v3").glob("*.safetensors"):
        shard.unlink()
    assert cli.main(["lint", str(tmp_path / "v3" / "model.safetensors.index.json")]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["lint"], 2, "FILE"),
        (["lint", "model.safetensors"], 2, "lint reads config.json and model.safetensors.index.json"),
        (["lint", "absent/config.json"], 3, "no such folder"),
        (["lint", "./config.json"], 3, "neither config.json nor model.safetensors.index.json is there"),
    ],
)
def test_lint_says_what_it_cannot_do(arguments, code, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == code
    assert says in capsys.readouterr().err
