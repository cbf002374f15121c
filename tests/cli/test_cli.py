"""The command line's contract: verdicts, exit codes, outputs and one-line complaints."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge
from auditor.rules import catalogue
from auditor_schemas.report import AuditReport

REPORT_KEYS = {
    "schema_version", "tool", "source", "run", "family", "verdict", "policy", "baseline", "outcomes", "findings",
    "figures", "inventory", "layout", "cells", "parallelism", "tallies", "coverage", "probes", "content_digest",
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sound") / "checkpoint"
    forge(directory, like="tiny", sparse=True)
    return directory


def _broken(tmp_path: Path, name: str) -> Path:
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    return tmp_path / "checkpoint"


def _run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return code, out, err


# --- exit codes, one by one ---


def test_sound_checkpoint_exits_0(sound, capsys):
    code, out, err = _run(capsys, "audit", sound)
    assert code == 0
    assert out.startswith("✔ PASSED at depth headers: checkpoint\n")
    assert err == ""


def test_diagnosed_damage_exits_1(tmp_path, capsys):
    code, out, _ = _run(capsys, "audit", _broken(tmp_path, "missing-shard"))
    assert code == 1
    assert "FAILED" in out
    assert "IDX103 missing-shard" in out


def test_invalid_config_exits_1(tmp_path, capsys):
    code, out, _ = _run(capsys, "audit", _broken(tmp_path, "config-negative-field"))
    assert code == 1
    assert "CFG103" in out
    assert "hidden_size" in out


def test_missing_index_exits_1_and_still_audits_the_headers(tmp_path, capsys):
    code, out, _ = _run(capsys, "audit", _broken(tmp_path, "missing-index"), "--json", "-")
    report = json.loads(out)
    assert code == 1
    assert report["coverage"]["headers_read"] == 5


def test_warnings_alone_exit_0_and_1_where_warnings_fail(tmp_path, capsys):
    broken = _broken(tmp_path, "unexpected-tensors")
    assert _run(capsys, "audit", broken)[0] == 0
    assert _run(capsys, "audit", broken, "--fail-on", "warning")[0] == 1


def test_fail_on_never_exits_0_on_damage(tmp_path, capsys):
    assert _run(capsys, "audit", _broken(tmp_path, "missing-shard"), "--fail-on", "never")[0] == 0


def test_fail_on_never_does_not_lower_a_3(tmp_path, capsys):
    assert _run(capsys, "audit", _broken(tmp_path, "unsupported-model-type"), "--fail-on", "never")[0] == 3


def test_unsupported_model_type_exits_3_and_names_what_is_supported(tmp_path, capsys):
    code, out, _ = _run(capsys, "audit", _broken(tmp_path, "unsupported-model-type"))
    assert code == 3
    assert "deepseek_v3" in out
    assert "deepseek_v32" in out
    assert "--family" in out


def test_fork_under_another_name_audits_like_its_parent_with_family(tmp_path, capsys):
    fork = _broken(tmp_path, "unsupported-model-type")
    code, out, _ = _run(capsys, "audit", fork, "--family", "deepseek-v3", "--json", "-")
    report = json.loads(out)
    assert code == 0
    assert report["family"] == "deepseek-v3"
    assert [each for each in report["findings"] if each["severity"] == "error"] == []


def test_nothing_to_audit_exits_3(tmp_path, capsys):
    code, out, err = _run(capsys, "audit", tmp_path)
    assert (code, out) == (3, "")
    assert "nothing to audit" in err
    assert err.count("\n") == 1


def test_missing_folder_exits_3(tmp_path, capsys):
    code, _, err = _run(capsys, "audit", tmp_path / "absent")
    assert code == 3
    assert "no such folder" in err


def test_unreadable_shard_exits_3_and_keeps_the_findings(tmp_path):
    """Incomplete outranks failed. Permission is taken away from a process that is not root."""
    broken = _broken(tmp_path, "transposed-router")
    shards = sorted(broken.glob("*.safetensors"))
    shards[-1].chmod(0)
    for folder in (tmp_path, broken, *tmp_path.parents):
        if folder.is_relative_to(Path("/tmp")) and folder != Path("/tmp"):
            folder.chmod(0o755)
    code, report = _audit_as_nobody(broken)
    assert code == 3
    assert report["verdict"] == "incomplete"
    assert "Permission denied" in report["incomplete"][0]
    assert report["incomplete_codes"] == ["unreadable"]
    roots = {each["rule"] for each in report["findings"] if each["severity"] == "error"}
    assert roots == {"HDR111", "SHP101"}


def _audit_as_nobody(directory: Path) -> tuple[int, dict]:
    """Audit in a child process that root's rights do not help."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        os.dup2(writer, 1)
        sys.stdout = os.fdopen(1, "w")
        os._exit(cli.main(["audit", str(directory), "--json", "-"]))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        out = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(out)


def test_only_what_was_read_is_said_to_be_read(sound, tmp_path, capsys):
    assert "read: config.json, index, 5 of 5 headers;" in _run(capsys, "audit", sound)[1]
    for name, rest in (("config.json", "index, "), ("model.safetensors.index.json", "config.json, ")):
        copy = tmp_path / name
        shutil.copytree(sound, copy)
        (copy / name).unlink()
        assert f"read: {rest}5 of 5 headers;" in _run(capsys, "audit", copy)[1]


def test_limit_that_is_reached_exits_3(sound, tmp_path, capsys):
    policy = tmp_path / "auditor.toml"
    policy.write_text("[limits]\nheader_bytes = 100\n")
    code, out, _ = _run(capsys, "audit", sound, "--policy", policy)
    assert code == 3
    assert "limit 100 (header_bytes)" in out


def test_crashing_rule_is_errored_and_exits_3(sound, capsys, monkeypatch):
    import auditor.run

    def crash(inventory):
        raise ZeroDivisionError("division by zero")

    crashing = catalogue()[0].__class__(rule=catalogue()[0].rule, check=crash, needs=("inventory",))
    monkeypatch.setattr(auditor.run, "catalogue", lambda: (crashing, *catalogue()[1:]))
    code, out, _ = _run(capsys, "audit", sound, "--json", "-")
    report = json.loads(out)
    assert code == 3
    assert report["outcomes"][0]["outcome"] == "errored"
    assert "ZeroDivisionError" in report["incomplete"][0]
    # Rules about values need content, and those of structure speak where no family does.
    others = [each for each in report["outcomes"][1:] if not re.match("VAL|CFG112|[A-Z]{3}2", each["rule"])]
    assert {each["outcome"] for each in others} <= {"passed", "failed"}


def test_unexpected_exception_exits_3_in_one_line(sound, capsys, monkeypatch):
    import auditor.opening

    def fail(*_):
        raise RuntimeError("surprise")

    monkeypatch.setattr(auditor.opening, "read_config", fail)
    code, out, err = _run(capsys, "audit", sound)
    assert (code, out) == (3, "")
    assert "RuntimeError: surprise" in err
    assert err.count("\n") == 1


def test_output_that_cannot_be_written_exits_3_and_loses_no_other(sound, tmp_path, capsys):
    code, out, err = _run(capsys, "audit", sound, "--json", "/dev/full", "--html", tmp_path / "report.html")
    assert code == 3
    assert "cannot write /dev/full" in err
    assert "PASSED" in out
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_cancelled_audit_exits_3_and_still_writes_its_report(tmp_path, stop):
    """The walk is made slow from outside: a policy cannot, so a shard stands on a slow file system's stand-in."""
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    program = (
        "import sys, time, auditor.inventory.walk as walk, auditor.cli as cli\n"
        "read = walk.read_shard\n"
        "def slow(*a, **k):\n    print('reading', file=sys.stderr, flush=True); time.sleep(5); return read(*a, **k)\n"
        "walk.read_shard = slow\n"
        "cli.entry()\n"
    )
    report = tmp_path / "report.json"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "audit", str(tmp_path / "checkpoint"), "--json", str(report), "--quiet"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(0.1)
    process.send_signal(stop)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert b"cancelled after 0" in out, out
    assert json.loads(report.read_bytes())["verdict"] == "incomplete"


# --- usage ---


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (["audit"], "SOURCE"),
        (["audit", "x", "--depth", "bottom"], "headers"),
        (["audit", "x", "--fail-on", "sometimes"], "warning"),
        (["audit", "x", "--family", "llama"], "deepseek-v3"),
        (["audit", "x", "--json", "-", "--html", "-"], "give one of them a file"),
        (["audit", "x", "--sarif", "-", "--markdown", "-"], "give one of them a file"),
        (["audit", "x", "--sarif", "out", "--junit", "./out"], "give one of them a file"),
        (["audit", "x", "--csv", "-"], "give it a folder"),
        (["audit", "x", "--csv", "no/such/folder"], "create it first"),
        (["audit", "x", "--markdown", "."], "give a file name in it"),
        (["publish", "--site", "x"], "REPORT.json"),
        (["publish", "x.json"], "--site"),
        (["audit", "x", "--json", "/no/such/folder/report.json"], "create it first"),
        (["audit", "ftp://bucket/x"], "give a folder, hf://"),
        (["rule", "QNT999"], "auditor rules"),
        (["rule", "mismatched-block-scales"], "mismatched-block-scale"),
        (["forge"], "--list-breaks"),
        (["forge", "x", "--like", "v3"], "--sparse"),
        (["forge", "x", "--break", "missing-shart"], "missing-shard"),
        (["schema", "reports"], "report"),
        (["adit", "x"], "audit"),
    ],
)
def test_usage_error_is_one_line_with_the_mend_and_exits_2(arguments, mend, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert mend in err


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[limits]\nlayer = 3\n", "limits.layer"),
        ("[limits]\nlayers = -1\n", "limits.layers"),
        ("[limits]\nlayers = '3'\n", "limits.layers"),
        ("symlinks = 'never'\n", "symlinks"),
        ("[limits\n", "line 1"),
    ],
)
def test_invalid_policy_exits_2_and_names_the_key(text, key, sound, tmp_path, capsys):
    policy = tmp_path / "auditor.toml"
    policy.write_text(text)
    code, _, err = _run(capsys, "audit", sound, "--policy", policy)
    assert code == 2
    assert key in err
    assert err.count("\n") == 1


def test_a_policy_inside_the_checkpoint_is_never_discovered(tmp_path, capsys):
    broken = _broken(tmp_path, "missing-shard")
    (broken / "auditor.toml").write_text("fail_on = 'never'\n")
    assert _run(capsys, "audit", broken)[0] == 1


# --- outputs ---


def test_json_on_standard_output_is_the_report_and_nothing_else(sound, capsys):
    code, out, err = _run(capsys, "audit", sound, "--json", "-")
    report = AuditReport.model_validate_json(out)
    assert (code, err) == (0, "")
    assert json.loads(out).keys() >= REPORT_KEYS
    assert report.verdict == "passed"


def test_report_is_written_whatever_the_exit_code(tmp_path, capsys):
    for name, code in (("missing-shard", 1), ("unsupported-model-type", 3), ("config-not-json", 1)):
        forge(tmp_path / name, like="tiny", sparse=True, break_name=name)
        target = tmp_path / f"{name}.json"
        assert _run(capsys, "audit", tmp_path / name, "--json", target)[0] == code
        assert json.loads(target.read_text()).keys() >= REPORT_KEYS


def test_notes_are_a_line_for_each_rule(tmp_path, capsys):
    _, out, _ = _run(capsys, "audit", _broken(tmp_path, "outside-symlink"))
    assert len([line for line in out.splitlines() if line.startswith("INFO    HDR112 outside-symlink  ")]) == 1


def test_quiet_prints_the_verdict_line_alone(sound, capsys):
    code, out, err = _run(capsys, "audit", sound, "--quiet")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert "passed at depth headers" in out


def test_html_is_one_page_and_report_makes_it_again_from_the_json(sound, tmp_path, capsys):
    first, again, saved = tmp_path / "a.html", tmp_path / "b.html", tmp_path / "r.json"
    assert _run(capsys, "audit", sound, "--html", first, "--json", saved)[0] == 0
    assert _run(capsys, "report", saved, "--html", again, "--quiet")[0] == 0
    assert first.read_text() == again.read_text()


def test_every_format_is_written_by_the_audit_and_again_from_its_report(tmp_path, capsys):
    broken, saved = _broken(tmp_path, "missing-shard"), tmp_path / "report.json"
    names = ("html", "sarif", "junit", "markdown", "csv")
    first, again = ([f"--{name}={tmp_path / f'{turn}.{name}'}" for name in names] for turn in ("first", "again"))
    assert _run(capsys, "audit", broken, "--json", saved, "--quiet", *first)[0] == 1
    assert _run(capsys, "report", saved, "--quiet", *again)[0] == 1
    for name in names:
        one, other = tmp_path / f"first.{name}", tmp_path / f"again.{name}"
        files = ["inventory.csv", "tallies.csv", "findings.csv"] if name == "csv" else [""]
        for file in files:
            content = (one / file if file else one).read_bytes()
            assert len(content) > 500
            assert content == (other / file if file else other).read_bytes()
    assert sorted(path.name for path in (tmp_path / "first.csv").iterdir()) == sorted(files)


@pytest.mark.parametrize("name", ["sarif", "junit", "markdown"])
def test_format_on_standard_output_is_that_and_nothing_else(name, sound, tmp_path, capsys):
    target = tmp_path / "file"
    code, out, err = _run(capsys, "audit", sound, f"--{name}", "-", "--json", tmp_path / "report.json")
    assert (code, err) == (0, "")
    assert _run(capsys, "report", tmp_path / "report.json", f"--{name}", target)[0] == 0
    assert out == target.read_text()


def test_standard_output_that_nobody_reads_costs_no_file(sound, tmp_path):
    """The reader is gone before a byte is written; every file is there all the same."""
    files = {"--html": tmp_path / "a.html", "--sarif": tmp_path / "a.sarif", "--junit": tmp_path / "a.xml"}
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "auditor", "audit", str(sound), "--json", "-"]
    command += [str(part) for pair in files.items() for part in pair]
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            command, stdout=gone, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert all(path.stat().st_size > 500 for path in files.values())


@pytest.mark.parametrize("name", ["sarif", "junit", "markdown"])
def test_format_that_cannot_be_written_exits_3_and_loses_no_other(name, sound, tmp_path, capsys):
    others = [each for each in ("json", "html", "sarif", "junit", "markdown") if each != name]
    arguments = [part for each in others for part in (f"--{each}", tmp_path / each)]
    code, out, err = _run(capsys, "audit", sound, f"--{name}", "/dev/full", *arguments)
    assert code == 3
    assert "cannot write /dev/full" in err
    assert "PASSED" in out
    assert all((tmp_path / each).stat().st_size > 500 for each in others)


def test_workflow_commands_are_off_while_names_are_printed_in_a_workflow(sound, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for arguments in (["--quiet"], []):
        lines = _run(capsys, "audit", sound, *arguments)[1].splitlines()
        token = lines[0].removeprefix("::stop-commands::")
        assert len(token) == 32
        assert lines[-1] == f"::{token}::"


def test_report_of_a_failed_audit_exits_as_the_audit_did(tmp_path, capsys):
    saved = tmp_path / "r.json"
    _run(capsys, "audit", _broken(tmp_path, "missing-shard"), "--json", saved)
    assert _run(capsys, "report", saved)[0] == 1


def test_report_of_something_else_is_one_line_and_exits_3(tmp_path, capsys):
    other = tmp_path / "x.json"
    other.write_text('{"verdict": "passed"}')
    code, _, err = _run(capsys, "report", other)
    assert code == 3
    assert err.count("\n") == 1


def test_output_without_a_terminal_has_no_escape_sequences(tmp_path, capsys):
    _, out, err = _run(capsys, "audit", _broken(tmp_path, "missing-shard"))
    assert "\x1b" not in out + err


def test_hostile_tensor_names_are_shown_as_escapes(tmp_path, capsys):
    """A name with a terminal's escape, a right-to-left override and a workflow command stays text."""
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    forge(tmp_path / "tiny", like="tiny", sparse=True)
    (directory / "config.json").write_bytes((tmp_path / "tiny" / "config.json").read_bytes())
    name = "\x1b[31mmodel\u202e\n::error::<script>"
    header = json.dumps({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    code, out, _ = _run(capsys, "audit", directory)
    assert code == 1
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[31mmodel\\u202e\\x0a::error::" in out


def test_absolute_paths_stay_out_of_the_report(sound, capsys):
    _, out, _ = _run(capsys, "audit", sound, "--json", "-")
    assert str(sound.parent) not in out


# --- the other commands ---


def test_count_needs_only_a_config(capsys, tmp_path):
    target = tmp_path / "count.json"
    config = Path(__file__).parents[1] / "data" / "config.deepseek-v3.json"
    code, out, _ = _run(capsys, "count", config, "--json", target)
    result = json.loads(target.read_text())
    assert code == 0
    assert "671,026,419,200" in out
    assert "36,625,618,432" in out
    assert result["conventions"]["mtp_unique"]["parameters"] == 11_507_286_272
    assert {figure["verdict"] for figure in result["figures"]} == {"matches_rounded", "contradicted"}


def test_count_of_a_checkpoint_compares_headers_and_config(sound, tmp_path, capsys):
    assert _run(capsys, "count", sound)[0] == 0
    code, out, _ = _run(capsys, "count", _broken(tmp_path, "missing-expert"))
    assert code == 1
    assert "differs" in out


def test_count_of_an_invalid_config_exits_1_and_of_none_3(tmp_path, capsys):
    assert _run(capsys, "count", _broken(tmp_path, "config-negative-field"))[0] == 1
    assert _run(capsys, "count", tmp_path)[0] == 3


def test_tensor_shows_expected_actual_place_and_scale(sound, capsys):
    code, out, _ = _run(capsys, "tensor", sound, "model.layers.1.self_attn.kv_a_proj_with_mqa.weight")
    assert code == 0
    assert "expected  F8_E4M3" in out
    assert "actual    F8_E4M3" in out
    assert "stored    model-0000" in out
    assert "scale     F32" in out


def test_tensor_of_no_such_name_suggests_one(sound, capsys):
    code, _, err = _run(capsys, "tensor", sound, "model.layers.1.mlp.gate.weigth")
    assert code == 3
    assert "did you mean model.layers.1.mlp.gate.weight" in err


def test_tensor_that_is_missing_exits_1(tmp_path, capsys):
    code, out, _ = _run(capsys, "tensor", _broken(tmp_path, "missing-head"), "lm_head.weight")
    assert code == 1
    assert "missing" in out


def test_rules_lists_every_rule_and_rule_prints_its_page(capsys):
    code, out, _ = _run(capsys, "rules")
    assert code == 0
    for module in catalogue():
        assert f"{module.rule.id}  " in out
        code, page, _ = _run(capsys, "rule", module.rule.id)
        assert code == 0
        assert page.startswith(f"# {module.rule.id} ")
        assert module.rule.slug in page


def test_the_layouts_that_can_be_forged_are_listed(capsys):
    code, out, _ = _run(capsys, "forge", "--list-likes")
    assert code == 0
    assert {"v3", "v3.2", "tiny"} <= set(out.splitlines())


def test_forge_writes_and_lists(tmp_path, capsys):
    assert _run(capsys, "forge", tmp_path / "a", "--sparse")[0] == 0
    code, _, err = _run(capsys, "forge", tmp_path / "a", "--sparse")
    assert code == 2
    assert err.count("\n") == 1
    code, out, _ = _run(capsys, "forge", "--list-breaks")
    assert code == 0
    assert "missing-shard" in out
    depths = {line.split()[0]: line.split()[5] for line in out.splitlines()}
    assert (depths["missing-shard"], depths["nan-scale"]) == ("headers", "full")


def test_forging_a_break_of_values_without_content_is_a_usage_error_with_the_mend(tmp_path, capsys):
    code, _, err = _run(capsys, "forge", tmp_path / "a", "--sparse", "--break", "nan-scale")
    assert (code, err.count("\n")) == (2, 1)
    assert "drop --sparse" in err


def test_help_and_version_exit_0(capsys):
    for command in (
        [],
        ["audit"],
        ["count"],
        ["tensor"],
        ["report"],
        ["publish"],
        ["rules"],
        ["rule"],
        ["forge"],
        ["schema"],
    ):
        assert _run(capsys, *command, "--help")[0] == 0
    assert _run(capsys, "--version")[0] == 0


def test_reader_that_goes_away_is_no_traceback(sound):
    process = subprocess.run(
        f"{sys.executable} -m auditor audit {sound} --json - | head -c 10",
        shell=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert b"Traceback" not in process.stderr


@pytest.mark.parametrize("name", [None, "missing-block-scale"])
def test_a_reader_that_goes_away_makes_no_verdict_of_failure(name, tmp_path):
    """Exit 1 means failed: `auditor audit X | head -1` must not end so for a checkpoint that passes."""
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    process = subprocess.Popen(
        [sys.executable, "-m", "auditor", "audit", str(tmp_path / "checkpoint")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (3, b"")
