"""`lint` says of config.json and the index what the audit says of them, and nothing that only shards could tell."""

import shutil
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.forge import breaks, forge
from auditor.questions.lint import BY_THE_INDEX, DECIDED, lint
from auditor.rules import catalogue
from auditor.verdict.gate import EXIT_CODES

BREAKS = {name: each for name, each in sorted(breaks().items()) if each.depth == "headers"}
# Fields that shapes contradict, and names do not.
IN_SHAPES = {
    "config-wrong-hidden-size", "config-wrong-vocab-size", "config-wrong-expert-size", "config-wrong-dense-size",
    "config-wrong-kv-rank", "config-wrong-head-count", "config-wrong-block-size",
}  # fmt: skip
# Only a policy makes this rule speak, and lint has none.
BY_POLICY = {"CFG109"}


def lone(folder: Path, name: str | None = None, like: str = "tiny") -> Path:
    """A checkpoint of which config.json, what declares its quantisation, and the index alone are left."""
    forge(folder, like=like, sparse=True, break_name=name)
    for path in folder.iterdir():
        if path.name not in ("config.json", "hf_quant_config.json", "model.safetensors.index.json"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return folder


def roots(findings) -> set[tuple[str, str]]:
    return {(each.rule, each.severity) for each in findings if each.caused_by is None and each.severity != "info"}


@pytest.mark.parametrize("name", BREAKS)
def test_lint_and_audit_say_the_same_of_what_two_files_can_tell(name, tmp_path):
    declared = BREAKS[name]
    folder = lone(tmp_path / "checkpoint", name, BREAKS[name].like)
    if not any(folder.iterdir()):
        return
    found = lint(str(folder))
    if declared.rule is None or declared.rule in DECIDED:
        expected = {(declared.rule, declared.severity)} if declared.severity not in (None, "info") else set()
        if name in IN_SHAPES:
            expected = set()
        assert roots(found.findings) == expected
        assert EXIT_CODES[found.verdict] == (declared.exit_code if expected or declared.exit_code == 3 else 0)


@pytest.mark.parametrize("name", [n for n, each in BREAKS.items() if each.rule not in DECIDED and each.rule])
def test_what_only_shards_tell_lint_leaves_to_the_audit(name, tmp_path):
    """Where the index bears a trace, lint says what the index shows, in words about the index."""
    forge(tmp_path / "whole", like=BREAKS[name].like, sparse=True, break_name=name)
    of_audit = {each.rule for each in audit(tmp_path / "whole").findings}
    folder = lone(tmp_path / "checkpoint", name, BREAKS[name].like)
    # An index of other files contradicts the config by its names, and leaves numbers of shards out.
    of_audit |= {"CFG107", "IDX112"}
    # What is said of a file that is not there, or leads nowhere, is another matter.
    if all((folder / file).exists() for file in ("config.json", "model.safetensors.index.json")):
        assert {rule for rule, _ in roots(lint(str(folder)).findings)} <= BY_THE_INDEX.keys() | of_audit


def test_every_rule_that_lint_names_can_fire_there(tmp_path):
    fired = set()
    for name, declared in BREAKS.items():
        if declared.rule in DECIDED or any(rule in DECIDED for rule in declared.also):
            folder = lone(tmp_path / name, name)
            if any(folder.iterdir()):
                fired |= {each.rule for each in lint(str(folder)).findings}
    fired |= {each.rule for each in lint(str(lone(tmp_path / "v3", like="v3"))).findings}
    fired |= {each.rule for each in lint(str(lone(tmp_path / "tiny"))).findings}
    assert DECIDED - fired <= BY_POLICY
    assert {module.rule.id for module in catalogue()} >= DECIDED


def test_lint_words_a_finding_as_the_audit_does(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="config-one-expert-more")
    of_audit = [each for each in audit(tmp_path / "checkpoint").findings if each.caused_by is None]
    of_lint = lint(str(tmp_path / "checkpoint")).findings
    said = {(each.rule, each.message, each.fingerprint) for each in of_audit}
    assert {(each.rule, each.message, each.fingerprint) for each in of_lint if each.caused_by is None} <= said


@pytest.mark.parametrize("argument", ["", "config.json", "model.safetensors.index.json"])
def test_a_folder_is_linted_as_its_files_are(argument, tmp_path, capsys):
    folder = lone(tmp_path / "checkpoint", "unexpected-tensors")
    assert cli.main(["lint", str(folder / argument)]) == 0
    out = capsys.readouterr().out
    assert "WARNING NAM102 unexpected-tensor" in out
    assert "on config.json and model.safetensors.index.json, no shard read" in out


@pytest.mark.parametrize("scale_fmt", ["float", None])
def test_plain_scales_are_no_finding(scale_fmt, tmp_path):
    folder = lone(tmp_path / "checkpoint")
    text = (folder / "config.json").read_text()
    spelt = "null" if scale_fmt is None else f'"{scale_fmt}"'
    (folder / "config.json").write_text(text.replace('"fmt": "e4m3"', f'"fmt": "e4m3", "scale_fmt": {spelt}'))
    found = lint(str(folder))
    assert (found.verdict, roots(found.findings)) == ("passed", set())


def test_what_is_only_worth_knowing_is_a_line_for_each_rule(tmp_path, capsys):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    assert cli.main(["lint", str(tmp_path / "checkpoint")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "  INFO QNT111 unaligned-input-dimension: input dimension 320 is no multiple of 128 (and 5 more)"
    ]
