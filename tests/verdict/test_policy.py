"""The policy file: what it changes, and errors that name file, line and key."""

import hashlib
import json
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from auditor import UsageError, audit, cli
from auditor.content import Reading
from auditor.forge import forge
from auditor.globs import matcher
from auditor.rules import catalogue
from auditor.verdict.gate import unmet
from auditor.verdict.policy import line_of, places_of, read_policy
from auditor_schemas.policy import Limits, Policy, Required, WaiverRule
from auditor_schemas.published import SCHEMAS
from auditor_schemas.report import Coverage

ROOT = Path(__file__).parents[2]
RULES = catalogue()

FULL = """
symlinks = "inside"

[severity]
QNT101 = "warning"
unexpected-tensor = "error"

[require]
depth = "headers"
payload = 0.0
fp8_blocks = 0.0
headers = 1.0

[allow]
families = ["deepseek-v3"]
unexpected = ["model.layers.{0-60}.self_attn.rotary_emb.*"]

[[waivers]]
rule = "QNT101"
tensor = "model.layers.{3-60}.*"
reason = "repaired in the next upload"
expires = 2999-01-31
owner = "infra"

[limits]
layers = 100
"""


def _read(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "auditor.toml"
    path.write_text(text)
    return read_policy(path, RULES)[0]


def test_a_number_of_thousands_of_digits_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not TOML"):
        _read(tmp_path, "a = 9" + "9" * 5000)


def _refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(UsageError) as refusal:
        _read(tmp_path, text)
    message = str(refusal.value)
    assert "\n" not in message
    assert message.startswith(f"policy {tmp_path / 'auditor.toml'}, line ")
    return message.partition("auditor.toml, ")[2]


def _checkpoint(tmp_path: Path, name: str | None = None) -> Path:
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    return tmp_path / "checkpoint"


# --- reading ---


def test_every_key_is_read(tmp_path):
    policy = _read(tmp_path, FULL)
    assert policy.symlinks == "inside"
    assert policy.severity["QNT101"] == "warning"
    assert policy.require == Required(depth="headers", headers=1.0)
    assert policy.waivers[0].owner == "infra"
    assert policy.limits == Limits(layers=100)


def test_policy_is_valid_by_its_published_schema():
    document = json.loads(json.dumps(tomllib.loads(FULL), default=str))
    schema = Draft202012Validator(SCHEMAS["policy"]())
    schema.validate(document)
    for broken in (
        {"severity": {"QNT101": "off"}},
        {"limit": {}},
        {"waivers": [{**document["waivers"][0], "tensor": 1}]},
    ):
        assert not schema.is_valid(broken)
    del document["waivers"][0]["tensor"]
    assert not schema.is_valid(document)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("symlink = 'inside'\n", "line 1: symlink: no such key; did you mean symlinks?"),
        ("# x\n\n[limits]\nlayer = 5\n", "line 4: limits.layer: no such key; did you mean layers?"),
        ("[limits]\nfiles = 5\nlayers = 0\n", "line 3: limits.layers: is 0, should be greater than or equal to 1"),
        ("[severity]\n\nQNT1O1 = 'error'\n", "line 3: severity.QNT1O1: no rule QNT1O1; did you mean QNT1"),
        ("[severity]\nmissing-shards = 'info'\n", "no rule missing-shards; did you mean missing-shard"),
        ("[severity]\nQNT101 = 'fatal'\n", "line 2: severity.QNT101: is 'fatal', should be 'error', 'warning' or"),
        ("[severity]\nQNT101 = 'off'\n", "is 'off', should be 'error', 'warning' or 'info'"),
        (
            "[severity]\nQNT101 = 'info'\nmissing-block-scale = 'error'\n",
            "line 3: severity.missing-block-scale: is QNT101 missing-block-scale, which QNT101 names already",
        ),
        ("[require]\ndepth = 'deep'\n", "line 2: require.depth: is 'deep', should be 'headers', 'sample' or 'full'"),
        ("[require]\npayload = 5\n", "line 2: require.payload: is 5, should be less than or equal to 1"),
        (
            "[allow]\nfamilies = [\n 'deepseek-v3',\n 'deepseek-v33',\n]\n",
            "line 2: allow.families[2]: no family 'deepseek-v33'; did you mean deepseek-v3",
        ),
        ("[allow]\nunexpected = ['{9-1}']\n", "line 2: allow.unexpected[1]: {9-1} needs a first number"),
        ("x = 1\nx = 2\n", "not TOML"),
        ("[[waivers]]\nrule = 'QNT101'\ntensor = '*'\nreason = 'x'\n", "line 1: waivers[1].expires: is missing"),
    ],
)
def test_error_names_line_and_key_and_what_was_meant(tmp_path, text, says):
    if says == "not TOML":
        with pytest.raises(UsageError, match=r"not TOML.*line 2"):
            _read(tmp_path, text)
        return
    assert says in _refused(tmp_path, text)


_WAIVER = "[[waivers]]\nrule = 'QNT101'\ntensor = '*'\nreason = 'x'\nexpires = 2999-01-01\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "expires = 2999-01-01",
            "expires = '2999-01-01'",
            "line 10: waivers[2].expires: is '2999-01-01', needs a date",
        ),
        ("expires = 2999-01-01", "expires = 20991231", "line 10: waivers[2].expires: is 20991231, needs a date"),
        ("expires = 2999-01-01", "expires = 2999-01-01T00:00:00", "line 10: waivers[2].expires: is 2999"),
        ("reason = 'x'", "reason = '  '", "line 9: waivers[2].reason: is '  '"),
        ("reason = 'x'\n", "", "line 6: waivers[2].reason: is missing"),
        ("rule = 'QNT101'", "rule = 'QNT999'", "line 7: waivers[2].rule: no rule QNT999"),
        ("tensor = '*'\n", "", "line 6: waivers[2]: names nothing to waive: give a glob as tensor, file or field"),
        ("tensor = '*'", "tensors = '*'", "line 8: waivers[2].tensors: no such key; did you mean tensor?"),
    ],
)
def test_error_in_a_waiver_names_the_waiver_and_its_line(tmp_path, old, new, says):
    assert says in _refused(tmp_path, _WAIVER + _WAIVER.replace(old, new))


def test_every_fault_is_told_in_one_line_in_the_order_of_the_file(tmp_path):
    message = _refused(tmp_path, "a = 1\n[limits]\nlayers = 0\n[require]\ndepth = 1\n")
    assert [part.partition(":")[0] for part in message.split("; line ")] == ["line 1", "3", "5"]


@pytest.mark.parametrize("text", ['s = """\n', "a = [\n1,\n", "\x00", "[a\n", "a = 1e400000\n" * 3])
def test_broken_toml_is_one_line(tmp_path, text):
    (tmp_path / "auditor.toml").write_text(text)
    with pytest.raises(UsageError) as refusal:
        read_policy(tmp_path / "auditor.toml", RULES)
    assert "\n" not in str(refusal.value)


def test_text_that_is_not_utf8_names_its_line(tmp_path):
    (tmp_path / "auditor.toml").write_bytes(b"a = 1\n# \xff\n")
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        read_policy(tmp_path / "auditor.toml", RULES)


_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
_VALUES = st.sampled_from(["1", '"x"', "[\n  1,\n  2,\n]", '"""\na = 1\n[b]\n"""', "{ a = 1 }", "2027-01-01", "'#'"])


@given(st.lists(st.tuples(_NAMES, _VALUES, st.sampled_from(["", "\n", "# c\n"])), unique_by=lambda e: e[0], min_size=1))
def test_line_of_a_key_is_the_line_where_its_statement_begins(entries):
    """Against where the text was really written, whatever values of several lines stand before it."""
    text, begins = "[table]\n", {}
    for name, value, before in entries:
        text += before
        begins[name] = text.count("\n") + 1
        text += f"{name} = {value}\n"
    places = places_of(text)
    assert {name: line_of(("table", name), places) for name in begins} == begins


def test_policy_that_is_not_there_is_a_usage_error(tmp_path, capsys):
    assert cli.main(["audit", str(tmp_path), "--policy", str(tmp_path / "absent.toml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_policy_made_in_python_is_judged_like_a_file(tmp_path):
    checkpoint = _checkpoint(tmp_path)
    with pytest.raises(UsageError, match=r"severity\.QNT999: no rule QNT999"):
        audit(checkpoint, policy=Policy(severity={"QNT999": "error"}))


def test_policy_inside_the_checkpoint_is_not_looked_for(tmp_path):
    checkpoint = _checkpoint(tmp_path, "missing-block-scale")
    (checkpoint / "auditor.toml").write_text('[severity]\nQNT101 = "info"\n')
    report = audit(checkpoint)
    assert (report.verdict, report.policy) == ("failed", None)


def test_report_records_the_policy_by_its_sha256(tmp_path):
    (tmp_path / "auditor.toml").write_text(FULL)
    report = audit(_checkpoint(tmp_path), policy=tmp_path / "auditor.toml")
    assert report.policy.sha256 == hashlib.sha256(FULL.encode()).hexdigest()


# --- severities ---


def test_error_set_to_warning_no_longer_fails_and_is_shown_as_warning(tmp_path):
    report = audit(_checkpoint(tmp_path, "missing-block-scale"), policy=Policy(severity={"QNT101": "warning"}))
    (finding,) = [each for each in report.findings if each.rule == "QNT101"]
    (outcome,) = [each for each in report.outcomes if each.rule == "QNT101"]
    assert (finding.severity, outcome.severity) == ("warning", "warning")
    assert {each.worst for each in report.cells} >= {"warning"}


def test_warning_set_to_error_by_its_slug_fails(tmp_path):
    checkpoint = _checkpoint(tmp_path, "unexpected-tensors")
    assert audit(checkpoint).verdict == "passed"
    assert audit(checkpoint, policy=Policy(severity={"unexpected-tensor": "error"})).verdict == "failed"


def test_rule_set_to_info_explains_nothing_so_what_follows_from_it_gates(tmp_path):
    """Severities act before causes are sought: an info must not hide the errors that it would have explained."""
    checkpoint = _checkpoint(tmp_path, "missing-shard")
    report = audit(checkpoint, policy=Policy(severity={"IDX103": "info"}))
    roots = {each.rule for each in report.findings if each.caused_by is None and each.severity == "error"}
    assert report.verdict == "failed"
    assert "NAM101" in roots
    assert "IDX103" not in roots


# --- what is required ---


def test_less_depth_than_required_fails_with_the_reason_and_no_finding(tmp_path, capsys):
    (tmp_path / "auditor.toml").write_text('[require]\ndepth = "full"\npayload = 0.5\nfp8_blocks = 0.01\n')
    checkpoint = _checkpoint(tmp_path)
    blocks = audit(checkpoint).tallies.scale_elements  # one scale for each block
    code = cli.main(["audit", str(checkpoint), "--policy", str(tmp_path / "auditor.toml")])
    out = capsys.readouterr().out
    assert code == 1
    assert "not enough: the audit is of depth headers, the policy requires full" in out
    assert "bytes of tensor data were read (0 %), the policy requires 50 %" in out
    assert f"0 of {blocks:,} FP8 weight blocks were read" in out


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "passed"), (0.0, "passed")])
def test_full_audit_reads_every_byte_and_block_that_can_be_required(tmp_path, share, verdict):
    forge(tmp_path / "real", like="tiny")
    policy = Policy(require=Required(depth="full", payload=share, fp8_blocks=share, headers=share))
    report = audit(tmp_path / "real", depth="full", policy=policy)
    assert (report.verdict, report.unmet) == (verdict, ())


def test_sample_that_reads_too_little_fails_and_says_how_much_it_read(tmp_path):
    forge(tmp_path / "real", like="tiny")
    policy = Policy(require=Required(depth="sample", payload=1.0))
    report = audit(
        tmp_path / "real", depth="sample", policy=policy, reading=Reading(depth="sample", sample_bytes=100_000)
    )
    assert report.verdict == "failed"
    assert report.unmet[0].startswith(
        f"{report.coverage.payload_bytes_read:,} of {report.inventory.payload_bytes:,} bytes"
    )


def test_requirement_that_is_met_says_nothing(tmp_path):
    report = audit(_checkpoint(tmp_path), policy=Policy(require=Required(depth="headers", headers=1)))
    assert (report.verdict, report.unmet) == ("passed", ())


def test_fail_on_never_states_what_is_missing_and_does_not_fail(tmp_path):
    report = audit(_checkpoint(tmp_path), policy=Policy(require=Required(depth="sample")), fail_on="never")
    assert report.verdict == "passed"
    assert report.unmet == ("the audit is of depth headers, the policy requires sample",)


def test_share_is_exact_at_its_bound_and_nothing_to_read_is_enough():
    def missing(read: int, there: int, share: float) -> list[str]:
        coverage = Coverage(payload_bytes_read=read, blocks_read=0, headers_read=0, shards=0, unread=())
        return unmet(Required(payload=share), "sample", coverage, payload_bytes=there, fp8_blocks=0)

    assert missing(10, 1000, 0.01) == []
    assert missing(9, 1000, 0.01) == ["9 of 1,000 bytes of tensor data were read (0.9 %), the policy requires 1 %"]
    assert missing(0, 0, 1.0) == []


def test_deeper_than_required_is_enough():
    coverage = Coverage(payload_bytes_read=1, blocks_read=1, headers_read=1, shards=1, unread=())
    assert unmet(Required(depth="sample"), "full", coverage, payload_bytes=1, fp8_blocks=1) == []


# --- what is allowed ---


def test_family_that_is_not_allowed_fails_and_names_those_that_are(tmp_path):
    report = audit(_checkpoint(tmp_path), policy=Policy(allow={"families": ["deepseek-v3.2"]}))
    (finding,) = [each for each in report.findings if each.severity == "error"]
    assert (finding.rule, finding.location.field) == ("CFG109", "model_type")
    assert finding.message == "family is deepseek-v3, the policy allows deepseek-v3.2"


def test_unexpected_tensor_that_is_allowed_is_info_and_the_others_stay_warnings(tmp_path):
    checkpoint = _checkpoint(tmp_path, "unexpected-tensors")
    (before,) = [each for each in audit(checkpoint).findings if each.rule == "NAM102"]
    names = sorted(set(before.affected))
    policy = Policy(allow={"unexpected": [names[0]]})
    report = audit(checkpoint, policy=policy, fail_on="warning")
    allowed = [each for each in report.findings if each.rule == "NAM105"]
    assert [(each.severity, each.affected) for each in allowed] == [("info", (names[0],))]
    assert sum(each.count for each in report.findings if each.rule == "NAM102") == before.count - allowed[0].count
    everything = audit(checkpoint, policy=Policy(allow={"unexpected": ["*"]}), fail_on="warning")
    assert everything.verdict == "passed"


# --- globs ---


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("model.*", "model.layers.3.x", True),
        ("model.layers.{3-60}.*", "model.layers.60.x", True),
        ("model.layers.{3-60}.*", "model.layers.61.x", False),
        ("model.layers.{3-60}.*", "model.layers.6.x", True),
        ("*{3-5}.x", "13.x", False),
        ("*{3-5}.x", "a13.4.x", True),
        ("model-{00001-00012}-of-*", "model-00012-of-000163.safetensors", True),
        ("model-{00001-00012}-of-*", "model-12-of-000163.safetensors", False),
        ("[ab]?", "bc", True),
        ("[!ab]?", "bc", False),
        ("[*]x", "*x", True),
        ("a[", "a[", True),
        ("MODEL.*", "model.x", False),
        ("a", "a\n", False),
    ],
)
def test_glob_matches_as_written(glob, name, matches):
    assert bool(matcher(glob)(name)) is matches


@given(st.text("ab*?[]!.-", max_size=12), st.text("ab.*[]", max_size=12))
def test_glob_without_numbers_is_the_shells(glob, name):
    from fnmatch import fnmatchcase

    assert bool(matcher(glob)(name)) == fnmatchcase(name, glob)


def test_hostile_name_costs_a_glob_no_more_than_a_moment():
    begin = time.monotonic()
    assert not matcher("*a*a*a*a*a*a*a*a*{1-9}*b")("a" * 512)
    assert time.monotonic() - begin < 2


# --- documentation ---


def test_every_key_of_the_policy_is_documented():
    text = (ROOT / "docs" / "policy.md").read_text()
    keys = {*Policy.model_fields, *Required.model_fields, *WaiverRule.model_fields, "families", "unexpected"}
    assert [key for key in sorted(keys) if f"`{key}`" not in text and f"## {key}" not in text] == []


def test_documented_policy_is_one(tmp_path):
    for number, block in enumerate((ROOT / "docs" / "policy.md").read_text().split("```toml\n")[1:]):
        path = tmp_path / f"{number}.toml"
        path.write_text(block.partition("```")[0])
        read_policy(path, RULES)


_LONG = {
    "one key of many parts": "a." * 20_000 + "a = 1\n",
    "one table of many parts": "[" + "a." * 20_000 + "a]\n",
    "a quoted key of many parts": '"a b" . ' * 5_000 + "a = 1\n",
    "an inline key of many parts": "x = { " + "a." * 20_000 + "a = 1 }\n",
    "deep arrays": "x = " + "[" * 100_000,
    "many keys": "".join(f"key{number} = 1\n" for number in range(20_000)),
    "many tables": "".join(f"[table{number}]\n" for number in range(20_000)),
    "many empty waivers": "[[waivers]]\n" * 20_000,
    "a long array before a fault": "[allow]\nunexpected = [\n" + "'x',\n" * 50_000 + "]\nx = 1\n",
    "many rules that are not": "[severity]\n" + "".join(f"wrong-shap{number} = 'error'\n" for number in range(15_000)),
    "longer than a policy is": "#" * (1 << 20),
}


@pytest.mark.parametrize("name", _LONG)
def test_a_hostile_policy_is_refused_in_time_in_line_with_its_size(tmp_path, name):
    started = time.perf_counter()
    with pytest.raises(UsageError) as refusal:
        _read(tmp_path, _LONG[name])
    assert len(str(refusal.value)) < 3_000
    assert time.perf_counter() - started < 20  # quadratic readings of these took minutes


def test_dots_in_strings_and_comments_are_no_parts_of_keys(tmp_path):
    reason = "see " + "a.b" * 30
    text = _WAIVER.replace("reason = 'x'", f"reason = '{reason}'") + "# " + "a." * 50
    assert _read(tmp_path, text).waivers[0].reason == reason
    assert _read(tmp_path, _WAIVER.replace("tensor = '*'", "tensor = 'model.layers.{0-4}.mlp.experts.{0-9}.w'"))


def test_lines_of_keys_are_found_in_every_spelling():
    text = """a = 1 # [x]
"b c".d = '''
e = 1
''' # f
[ g . "h" ] # i
'j.k' = { l = [1,
  2], m = "]" }
[[n]]
o = 1
[n.p]
q = \"\"\"\\\"\"\"\"
[[n]]
[[n.r]]
[[n.r]]
s = 1
"""
    tomllib.loads(text)
    lines = {
        ("a",): 1, ("b c",): 2, ("b c", "d"): 2, ("g",): 5, ("g", "h"): 5, ("g", "h", "j.k"): 6,
        ("g", "h", "j.k", "l", 1): 6, ("n",): 8, ("n", 0, "o"): 9, ("n", 0, "p"): 10, ("n", 0, "p", "q"): 11,
        ("n", 1): 12, ("n", 1, "r", 0): 13, ("n", 1, "r", 1, "s"): 15, ("absent",): 1, ("n", 1, "absent"): 12,
    }  # fmt: skip
    places = places_of(text)
    assert {where: line_of(where, places) for where in lines} == lines
