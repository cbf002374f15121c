"""What a link that leaves the checkpoint leads to is never quoted, unless it is what should be there."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.forge import forge

INDEX = "model.safetensors.index.json"
SECRET = "hf_TOPSECRET0123456789abcdefghijklm"
PARTS = ("hf_T", "TOPSECRET", "0123456789abc", "7453010", "SESAME")  # the last but one: its first bytes as a number


def _header(document: str) -> bytes:
    return len(document).to_bytes(8, "little") + document.encode() + b"\x00" * 8


ENTRY = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
TEXTS = [
    SECRET.encode(),
    b"\xef\xbb\xbf" + SECRET.encode(),
    json.dumps({"token": SECRET}).encode(),
    json.dumps({"model_type": SECRET, "token": SECRET}).encode(),
    json.dumps({"model_type": "deepseek_v3", "hidden_size": SECRET, "architectures": [SECRET]}).encode(),
    json.dumps({"model_type": "deepseek_v3", "transformers_weights": SECRET, "auto_map": {SECRET: SECRET}}).encode(),
    json.dumps({"weight_map": SECRET}).encode(),
    json.dumps({"weight_map": {SECRET: 7}}).encode(),
    json.dumps({"weight_map": {"a": "b"}, "metadata": {"total_size": SECRET}}).encode(),
    f'{{"{SECRET}": 1, "{SECRET}": 2}}'.encode(),
    f'{{"token": {SECRET}}}'.encode(),
    f'"{SECRET}"'.encode(),
    f"[{SECRET}]".encode(),
    _header(SECRET),
    _header(f'{{"{SECRET}": 5}}'),
    _header(f'{{"{SECRET}": {ENTRY}, "{SECRET}": {ENTRY}}}'),
    _header(f'{{"__metadata__": {{"token": 5, "{SECRET}": 6}}, "SESAME": {{"dtype": "{SECRET}"}}}}'),
    _header(f'{{"SESAME": {{"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "{SECRET}": 1}}}}'),
    _header(f'{{"SESAME": {ENTRY}, "token": {SECRET}}}'),
]


def _said(folder: Path, *arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main([*arguments, str(folder)])
    assert code in (1, 3), (code, err.getvalue())
    return out.getvalue() + err.getvalue()


@pytest.mark.parametrize("name", ["config.json", INDEX, "model-00003-of-000005.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("data", TEXTS, ids=range(len(TEXTS)))
def test_a_linked_secret_is_nowhere_in_what_is_written(tmp_path, name, data):
    folder = tmp_path / "checkpoint"
    forge(folder, like="tiny", sparse=True)
    (tmp_path / "secret").write_bytes(data)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../secret")
    report = audit(folder)
    said = ""
    if name != "tokenizer.json":
        assert report.verdict in ("failed", "incomplete")
        outputs = [f"--{each}={tmp_path / each}" for each in ("json", "html", "sarif", "junit", "markdown")]
        said = _said(folder, "audit", *outputs)
        said += "".join((tmp_path / each).read_text() for each in ("json", "html", "sarif", "junit", "markdown"))
    said += report.model_dump_json()
    assert [part for part in PARTS if part in said] == []


def test_the_link_itself_and_that_nothing_is_shown_are_said(tmp_path):
    folder = tmp_path / "checkpoint"
    forge(folder, like="tiny", sparse=True)
    (tmp_path / "secret").write_bytes(SECRET.encode())
    for name in ("config.json", "model-00003-of-000005.safetensors"):
        (folder / name).unlink()
        (folder / name).symlink_to("../secret")
    found = {each.rule: each for each in audit(folder).findings if each.caused_by is None}
    assert {"CFG102", "HDR102", "HDR112"} <= set(found)
    for rule in ("CFG102", "HDR102"):
        assert "reached by a link that leaves the checkpoint" in found[rule].message


def test_a_sound_checkpoint_behind_links_is_as_sound(tmp_path):
    forge(tmp_path / "store", like="tiny", sparse=True)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in (tmp_path / "store").iterdir():
        (folder / path.name).symlink_to(path)
    report = audit(folder)
    assert report.verdict == "passed"
    assert {each.severity for each in report.findings} == {"info"}


def test_damage_behind_a_link_keeps_its_rule(tmp_path):
    forge(tmp_path / "store", like="tiny", sparse=True, break_name="truncated-shard")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in (tmp_path / "store").iterdir():
        (folder / path.name).symlink_to(path)
    roots = [each.rule for each in audit(folder).findings if each.caused_by is None and each.severity != "info"]
    assert roots == ["HDR106"]
