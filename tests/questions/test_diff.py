"""auditor diff: what changed between two checkpoints or two reports, and what could not be compared."""

import base64
import hashlib
import html.parser
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from auditor import audit, cli
from auditor.cli.diff_text import lines
from auditor.forge import forge
from auditor.patterns import expand
from auditor.questions.diff import compare
from auditor_reports.diff import render
from auditor_schemas.content import ContentDigest, TensorDigests
from auditor_schemas.diff import CheckpointDiff
from auditor_schemas.inventory import LayoutRow
from auditor_schemas.published import SCHEMAS
from auditor_schemas.report import AuditReport

INDEX = "model.safetensors.index.json"
HOSTILE = ["<script>alert(1)</script>", "::error::x", "\x1b[31m", "\u202egnp.exe", "=cmd()", "**bold**"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("diffs")


def _checkpoint(folder: Path, name: str | None, **changes: object) -> Path:
    directory = folder / (name or "sound")
    if not directory.exists():
        forge(directory, like="tiny", sparse=True, break_name=name, **changes)
    return directory


def _report(folder: Path, name: str | None) -> Path:
    path = folder / f"{name}.report.json"
    if not path.exists():
        path.write_text(audit(_checkpoint(folder, name)).model_dump_json())
    return path


def _diff(old: Path, new: Path) -> CheckpointDiff:
    return compare(str(old), str(new))


def _names(changes) -> set[str]:
    return {name for change in changes for pattern in change.patterns for name in expand(pattern)}


def _digested(folder: Path, name: str, digests: dict[str, tuple[str, ...]]) -> Path:
    """A report as a full audit saves it, with digests of some tensors."""
    report = AuditReport.model_validate_json(_report(folder, None).read_text())
    rows = tuple(TensorDigests(pattern=pattern, xxh3_128=each) for pattern, each in digests.items())
    content = ContentDigest(sha256=("0" if name == "old" else "1") * 64, shards=(), tensors=rows)
    path = folder / f"{name}.digested.json"
    path.write_text(report.model_copy(update={"content_digest": content}).model_dump_json())
    return path


# --- exit codes ---


def test_same_checkpoint_exits_0_and_says_what_was_not_compared(folder, capsys):
    sound = str(_checkpoint(folder, None))
    assert cli.main(["diff", sound, sound]) == 0
    out = capsys.readouterr().out
    assert "nothing differs of what could be compared" in out
    assert "not compared: the tensors' bytes" in out


def test_different_checkpoints_exit_1(folder, capsys):
    assert cli.main(["diff", str(_checkpoint(folder, None)), str(_checkpoint(folder, "missing-layer"))]) == 1
    assert "removed: 70 tensors" in capsys.readouterr().out


def test_side_that_cannot_be_read_exits_3_in_one_line(folder, tmp_path, capsys):
    assert cli.main(["diff", str(_checkpoint(folder, None)), str(tmp_path / "absent")]) == 3
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "x.json").write_text("{}")
    assert cli.main(["diff", str(tmp_path / "x.json"), str(_checkpoint(folder, None))]) == 3
    err = capsys.readouterr().err
    assert "not an audit report" in err
    assert err.count("\n") == 1


def test_side_that_was_not_read_as_a_whole_exits_3_and_shows_what_is_known(folder, capsys):
    other = _checkpoint(folder, "unsupported-model-type")
    assert cli.main(["diff", str(_checkpoint(folder, None)), str(other)]) == 3
    out = capsys.readouterr().out
    assert "not audited: NEW: model_type 'bailing_moe'" in out
    assert "model_type: 'deepseek_v3' → 'bailing_moe'" in out


@pytest.mark.parametrize("arguments", [["diff"], ["diff", "a"], ["diff", "a", "b", "c"]])
def test_wrong_arguments_exit_2(arguments, capsys):
    assert cli.main(arguments) == 2


# --- checkpoints ---


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("missing-layer", "removed"), ("unexpected-tensors", "added"), ("transposed-router", "reshaped"),
        ("bf16-router-bias", "retyped"),
    ],
)  # fmt: skip
def test_each_kind_of_change_is_told_apart(folder, name, kind):
    diff = _diff(_checkpoint(folder, None), _checkpoint(folder, name))
    assert not diff.same
    kinds = ("added", "removed", "reshaped", "retyped", "moved", "changed_bytes")
    assert [each for each in kinds if getattr(diff, each)] == [kind]


def test_change_names_every_tensor_with_old_and_new_kind(folder):
    diff = _diff(_checkpoint(folder, None), _checkpoint(folder, "transposed-router"))
    (change,) = diff.reshaped
    assert change.old.dtype == change.new.dtype == "BF16"
    assert change.old.shape == tuple(reversed(change.new.shape))
    finding = next(each for each in audit(_checkpoint(folder, "transposed-router")).findings if each.rule == "SHP101")
    assert _names([change]) == {name for pattern in finding.affected for name in expand(pattern)}


def test_difference_of_two_checkpoints_turned_round_is_the_opposite(folder):
    one, other = _checkpoint(folder, None), _checkpoint(folder, "missing-layer")
    there, back = _diff(one, other), _diff(other, one)
    assert _names(there.removed) == _names(back.added)
    assert {each.change for each in there.findings} - {"known"} == {"new"}
    assert {each.change for each in back.findings} - {"known"} == {"gone"}


def test_moved_tensors_are_told_with_both_shards(folder, tmp_path):
    forge(tmp_path / "moved", like="tiny", sparse=True)
    old = tmp_path / "moved" / "model-00002-of-000005.safetensors"
    held = {n for n, f in json.loads((tmp_path / "moved" / INDEX).read_text())["weight_map"].items() if f == old.name}
    old.rename(tmp_path / "moved" / "other.safetensors")
    index = (tmp_path / "moved" / INDEX).read_text().replace(old.name, "other.safetensors")
    (tmp_path / "moved" / INDEX).write_text(index)
    diff = _diff(_checkpoint(folder, None), tmp_path / "moved")
    (move,) = diff.moved
    assert (move.old, move.new, move.count) == ((old.name,), ("other.safetensors",), len(held))
    assert _names([move]) == held
    assert diff.not_compared == tuple(each for each in diff.not_compared if "bytes" in each)


def test_config_fields_are_compared_nested_and_typed(folder, tmp_path):
    forge(tmp_path / "changed", like="tiny", sparse=True)
    path = tmp_path / "changed" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["activation_scheme"] = "static"
    config["new_field"] = [1]
    config["use_cache"] = 1
    del config["rms_norm_eps"]
    path.write_text(json.dumps(config))
    diff = _diff(_checkpoint(folder, None), tmp_path / "changed")
    changes = {each.field: (each.change, each.old, each.new) for each in diff.config}
    assert changes["quantization_config.activation_scheme"] == ("changed", "dynamic", "static")
    assert changes["new_field"] == ("added", None, [1])
    assert changes["rms_norm_eps"][0] == "removed"
    assert changes["use_cache"] == ("changed", True, 1)


def test_figures_stand_before_and_after(folder):
    diff = _diff(_checkpoint(folder, None), _checkpoint(folder, "config-one-expert-more"))
    changed = [each for each in diff.figures if each.old != each.new]
    assert changed
    assert all(each.new > each.old for each in changed)
    assert any("→" in line and "(+" in line for line in lines(diff))


def test_same_layout_with_other_header_bytes_differs_by_its_fingerprint_alone(folder):
    diff = _diff(_checkpoint(folder, None), _checkpoint(folder, "metadata-without-format"))
    assert not diff.same
    assert "the fingerprints differ" in "\n".join(lines(diff))


# --- reports ---


def test_report_stands_for_its_checkpoint(folder):
    direct = _diff(_checkpoint(folder, None), _checkpoint(folder, "missing-layer"))
    saved = _diff(_report(folder, None), _report(folder, "missing-layer"))
    assert _names(saved.removed) == _names(direct.removed)
    assert [(each.change, each.rule) for each in saved.findings] == [(e.change, e.rule) for e in direct.findings]
    assert any("config.json fields: OLD is a report, which does not hold them" in each for each in saved.not_compared)


def test_report_and_its_own_checkpoint_are_the_same(folder, capsys):
    sound, report = str(_checkpoint(folder, None)), str(_report(folder, None))
    assert cli.main(["diff", report, sound]) == 0
    assert cli.main(["diff", sound, report]) == 0
    assert "config.json fields" not in capsys.readouterr().out


def test_changed_bytes_are_known_where_both_reports_have_digests(folder):
    router = "model.layers.{1-3}.mlp.gate.weight"
    old = _digested(folder, "old", {router: ("a", "b", "c"), "lm_head.weight": ("d",)})
    new = _digested(folder, "new", {router: ("a", "X", "c"), "lm_head.weight": ("d",)})
    diff = _diff(old, new)
    assert _names(diff.changed_bytes) == {"model.layers.2.mlp.gate.weight"}
    assert not diff.same
    assert not any("bytes" in each for each in diff.not_compared)


def test_reports_of_full_audits_show_which_tensor_changed_in_bytes(tmp_path):
    forge(tmp_path / "one", like="tiny", seed=1)
    forge(tmp_path / "other", like="tiny", seed=1)
    shard = sorted((tmp_path / "other").glob("*.safetensors"))[2]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    for name in ("one", "other"):
        (tmp_path / f"{name}.json").write_text(audit(tmp_path / name, depth="full").model_dump_json())
    diff = _diff(tmp_path / "one.json", tmp_path / "other.json")
    header = json.loads(shard.read_bytes()[8 : 8 + int.from_bytes(shard.read_bytes()[:8], "little")])
    last = max((each["data_offsets"][1], name) for name, each in header.items() if name != "__metadata__")[1]
    assert _names(diff.changed_bytes) == {last}
    assert (diff.same, diff.bytes_compared, diff.old.fingerprint) == (False, True, diff.new.fingerprint)


def test_digests_of_one_side_alone_say_nothing(folder):
    diff = _diff(_digested(folder, "old", {"lm_head.weight": ("d",)}), _report(folder, None))
    assert diff.changed_bytes == ()
    assert "the tensors' bytes: NEW was audited at depth headers and has no digests" in diff.not_compared


def test_hostile_report_is_bounded_and_refused_in_one_line(folder, tmp_path, capsys):
    report = AuditReport.model_validate_json(_report(folder, None).read_text())
    row = LayoutRow(pattern="a.{0-99999999}.{0-99999999}", shape=(1,), dtype="BF16", files=("x",), count=10**16)
    (tmp_path / "x.json").write_text(report.model_copy(update={"layout": (row,)}).model_dump_json())
    assert cli.main(["diff", str(tmp_path / "x.json"), str(_checkpoint(folder, None))]) == 3
    assert "names 10,000,000,000,000,000 tensors, limit 600,000" in capsys.readouterr().err
    digests = ContentDigest(
        sha256="", shards=(), tensors=(TensorDigests(pattern="a.{0-9999}.{0-9999}", xxh3_128=("a", "b")),)
    )
    (tmp_path / "x.json").write_text(report.model_copy(update={"content_digest": digests}).model_dump_json())
    assert cli.main(["diff", str(tmp_path / "x.json"), str(_checkpoint(folder, None))]) == 3
    assert "names 100,000,000 tensors, has 2 digests" in capsys.readouterr().err


# --- formats ---


def test_json_is_valid_by_its_schema_and_reads_back_equal(folder, tmp_path, capsys):
    old, new = str(_checkpoint(folder, None)), str(_checkpoint(folder, "config-one-expert-more"))
    assert cli.main(["diff", old, new, "--json", "-"]) == 1
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMAS["diff"]()).validate(document)
    assert CheckpointDiff.model_validate(document) == _diff(Path(old), Path(new))


def test_text_is_folded_and_cut(folder):
    text = list(lines(_diff(_checkpoint(folder, None), _checkpoint(folder, "missing-layer"))))
    assert len(text) < 60
    assert any("{0-7}" in line for line in text)
    assert any("more; --json has all" in line for line in text)


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def _page(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    return page


def test_page_has_no_script_loads_nothing_and_allows_its_own_style_alone(folder, tmp_path, capsys):
    old, new = str(_checkpoint(folder, None)), str(_checkpoint(folder, "missing-layer"))
    assert cli.main(["diff", old, new, "--html", str(tmp_path / "diff.html")]) == 1
    text = (tmp_path / "diff.html").read_text()
    page = _page(text)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [a for _, a in page.tags if "style" in a or "src" in a or any(k.startswith("on") for k in a)]
    assert all(a["href"].startswith("#") for t, a in page.tags if t == "a")
    targets = {a["href"][1:] for t, a in page.tags if t == "a"}
    assert targets <= {a.get("id") for _, a in page.tags}
    assert "model.layers.2.mlp.experts.{0-7}.gate_proj.weight" in page.text
    assert "NAM103 missing-layer" in page.text


def test_styles_hash_is_the_policys(folder):
    text = render(_diff(_checkpoint(folder, None), _checkpoint(folder, None)))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    policy = next(a["content"] for _, a in _page(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}';" in policy


def test_hostile_names_show_as_text_in_page_and_terminal(folder, tmp_path):
    report = AuditReport.model_validate_json(_report(folder, None).read_text())
    rows = tuple(LayoutRow(pattern=name, shape=(1,), dtype="BF16", files=(name,), count=1) for name in HOSTILE)
    source = report.source.model_copy(update={"uri": "".join(HOSTILE), "fingerprint": None})
    hostile = report.model_copy(update={"layout": (*report.layout, *rows), "source": source})
    (tmp_path / "hostile.json").write_text(hostile.model_dump_json())
    diff = _diff(_report(folder, None), tmp_path / "hostile.json")
    page = _page(render(diff))
    terminal = "\n".join(lines(diff))
    assert "script" not in {tag for tag, _ in page.tags}
    for text in (page.text, terminal):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "<script>alert(1)</script>" in text
    assert not [line for line in terminal.splitlines() if line.lstrip().startswith("::")]
