"""Saved reports are anybody's files: what contradicts itself is refused, and no verdict is believed."""

import json
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.errors import UsageError
from auditor.forge import breaks, forge
from auditor.reporting.saved import read_report
from auditor_schemas.report import AuditReport


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    directory = tmp_path_factory.mktemp("broken") / "checkpoint"
    forge(directory, like="tiny", sparse=True, break_name="missing-block-scale")
    return directory


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sound") / "checkpoint"
    forge(directory, like="tiny", sparse=True)
    return directory


def _document(checkpoint: Path, **options: object) -> dict:
    return json.loads(audit(checkpoint, **options).model_dump_json())


def _saved(folder: Path, document: object) -> Path:
    (folder / "report.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return folder / "report.json"


def _run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def _passed(report: dict) -> None:
    report["verdict"] = "passed"


def _follows_from_nothing(report: dict) -> None:
    for each in report["findings"]:
        each["caused_by"] = "0" * 64
    report["verdict"] = "passed"


def _follows_from_itself(report: dict) -> None:
    for each in report["findings"]:
        each["caused_by"] = each["fingerprint"]
    report["verdict"] = "passed"


def _known_without_a_baseline(report: dict) -> None:
    for each in report["findings"]:
        each["status"] = "known"
    report["verdict"] = "passed"


def _waived_without_a_policy(report: dict) -> None:
    waiver = {"reason": "x", "owner": None, "expires": "2099-01-01"}
    for each in report["findings"]:
        each.update(status="waived", waiver=waiver)
    report["verdict"] = "passed"


def _milder_than_its_rule(report: dict) -> None:
    for each in report["findings"]:
        each["severity"] = "info"
    report["verdict"] = "passed"


def _without_findings(report: dict) -> None:
    report["findings"] = []
    report["verdict"] = "passed"


def _without_the_outcome(report: dict) -> None:
    found = {each["rule"] for each in report["findings"]}
    report["outcomes"] = [each for each in report["outcomes"] if each["rule"] not in found]


def _outcome_passed(report: dict) -> None:
    for each in report["outcomes"]:
        each["outcome"] = "passed"


def _rule_of_no_kind(report: dict) -> None:
    for each in (*report["findings"], *report["outcomes"]):
        if each["outcome" if "outcome" in each else "rule"] in ("failed", report["findings"][0]["rule"]):
            each["rule"] = "X\x1b1"


def _two_outcomes_of_one_rule(report: dict) -> None:
    report["outcomes"].append(report["outcomes"][0])


def _crashed_and_complete(report: dict) -> None:
    report["outcomes"][0]["outcome"] = "errored"


def _more_headers_than_shards(report: dict) -> None:
    report["coverage"]["headers_read"] = report["coverage"]["shards"] + 1


def _more_bytes_read_than_there_are(report: dict) -> None:
    report["coverage"]["payload_bytes_read"] = report["inventory"]["payload_bytes"] + 1


def _elements_that_do_not_add_up(report: dict) -> None:
    report["inventory"]["elements"] += 1


def _negative_count(report: dict) -> None:
    report["inventory"]["tensors"] = -1


def _finding_of_nothing(report: dict) -> None:
    report["findings"][0]["count"] = 0


CONTRADICTIONS = [each for name, each in list(globals().items()) if name.startswith("_") and getattr(
    each, "__annotations__", None) == {"report": dict, "return": None}]  # fmt: skip


@pytest.mark.parametrize("change", CONTRADICTIONS, ids=lambda each: each.__name__.strip("_"))
def test_a_report_that_contradicts_itself_is_refused_by_everything_that_reads_it(broken, tmp_path, capsys, change):
    document = _document(broken)
    change(document)
    saved = _saved(tmp_path, document)
    for command in (
        ["verify", saved, broken],
        ["report", saved, "--html", tmp_path / "a.html"],
        ["publish", saved, "--site", tmp_path / "site"],
        ["diff", saved, broken],
        ["audit", broken, "--baseline", saved],
    ):
        code, out, err = _run(capsys, *command)
        assert (code, out) == (2, ""), (command[0], out, err)
        assert "contradicts itself" in err
        assert err.count("\n") == 1
        assert "\x1b" not in err
    assert not (tmp_path / "a.html").exists()
    assert not (tmp_path / "site").exists()


def test_reports_of_every_break_contradict_nothing(tmp_path):
    for number, each in enumerate(breaks().values()):
        if each.depth != "headers":
            continue
        folder = tmp_path / str(number)
        forge(folder, like=each.like, sparse=True, break_name=each.name)
        for fail_on in ("error", "warning", "never"):
            document = audit(folder, fail_on=fail_on).model_dump_json()
            read_report(_saved(tmp_path, document))


def test_report_of_depth_full_contradicts_nothing(tmp_path):
    forge(tmp_path / "full", like="tiny", break_name="nan-scale")
    read_report(_saved(tmp_path, audit(tmp_path / "full", depth="full").model_dump_json()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"verdict":"failed"', '"verdict":"failed","verdict":"passed"'),
        ('"verdict":"failed"', '"verdict":"failed","verd\\u0069ct":"failed"'),
        ('"depth":"headers"', '"depth":"headers","depth":"headers"'),
        ('"count":', '"count":0,"count":'),
    ],
)
def test_a_key_that_is_there_twice_is_refused_as_in_config_json(broken, tmp_path, capsys, old, new):
    text = audit(broken).model_dump_json()
    assert old in text
    saved = _saved(tmp_path, text.replace(old, new, 1))
    for command in (["verify", saved, broken], ["report", saved], ["audit", broken, "--baseline", saved]):
        code, out, err = _run(capsys, *command)
        assert (code, out) == (2, "")
        assert "twice" in err


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"a":' * 50_000, "[" * 1_000_000, "NaN", "\xff\xfe",
                                  "1" * 100_000, '"' + "x" * 1000])  # fmt: skip
def test_what_is_no_report_is_one_line_and_exit_3(broken, tmp_path, capsys, text):
    saved = tmp_path / "report.json"
    saved.write_bytes(text.encode("latin-1"))
    for command in (["verify", saved, broken], ["report", saved], ["diff", saved, broken]):
        code, out, err = _run(capsys, *command)
        assert (code, out) == (3, ""), err
        assert err.count("\n") == 1
        assert "not an audit report" in err


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_refused_before_any_format_stumbles_over_it(
    sound, tmp_path, capsys, number
):
    document = json.dumps(_document(sound))
    duration = json.loads(document)["run"]["duration_s"]
    saved = _saved(tmp_path, document.replace(f'"duration_s": {duration}', f'"duration_s": {number}'))
    for command in (["report", saved, "--sarif", tmp_path / "x.sarif"], ["verify", saved, sound]):
        code, out, err = _run(capsys, *command)
        assert (code, out) == (2, "")
        assert err.endswith(f"has the number '{number}', which no audit writes\n")


def test_an_audit_that_nothing_could_fail_is_no_pass(sound, broken, tmp_path, capsys):
    for folder in (sound, broken):
        saved = _saved(tmp_path, _document(folder, fail_on="never"))
        code, out, _ = _run(capsys, "verify", saved, folder)
        assert code == 1
        assert "--fail-on never" in out


def test_report_shows_an_audit_that_gated_nothing_as_it_was(broken, tmp_path, capsys):
    saved = _saved(tmp_path, _document(broken, fail_on="never"))
    code, out, _ = _run(capsys, "report", saved, "--quiet")
    assert (code, "1 error" in out) == (0, True)


def test_rules_that_this_auditor_does_not_know_prove_nothing(broken, sound, tmp_path, capsys):
    document = _document(sound)
    document["outcomes"].append({**document["outcomes"][0], "rule": "VAL999", "slug": "from-the-future"})
    code, out, err = _run(capsys, "verify", _saved(tmp_path, document), sound)
    assert (code, out) == (2, "")
    assert "VAL999" in err


def test_a_pass_without_all_the_rules_of_its_version_proves_nothing(sound, tmp_path, capsys):
    document = _document(sound)
    document["outcomes"] = [each for each in document["outcomes"] if each["outcome"] == "failed"]
    code, out, err = _run(capsys, "verify", _saved(tmp_path, document), sound)
    assert (code, out) == (2, "")
    assert "did not run" in err


# --- names out of the checkpoint ---


NOT_ITS_OWN = [
    "../secret", "SECRET", "/dev/zero", "config.json", "a\x1bb", "", "./model-00001-of-000005.safetensors",
    "../checkpoint/config.json", "sub/../config.json",
]  # fmt: skip


@pytest.mark.parametrize("name", NOT_ITS_OWN)
def test_no_name_out_of_the_checkpoint_is_opened_hashed_or_measured(tmp_path, capsys, name):
    checkpoint, secret = tmp_path / "checkpoint", tmp_path / "secret"
    forge(checkpoint, like="tiny")
    secret.write_bytes(b"hf_token" * 1000)
    name = str(secret) if name == "SECRET" else name
    document = _document(checkpoint, depth="full")
    digests = {"file": name, "bytes": 1, "sha256": "0" * 64}
    for place in (0, len(document["content_digest"]["shards"])):
        changed = json.loads(json.dumps(document))
        changed["content_digest"]["shards"].insert(place, digests)
        secret.chmod(0)
        before = secret.stat().st_atime_ns
        code, out, err = _run(capsys, "verify", _saved(tmp_path, changed), checkpoint)
        assert (code, out) == (2, "")
        assert "8,000" not in err
        assert "SHA-256 of" in err
        assert err.count("\n") == 1
        assert "\x1b" not in err
        assert secret.stat().st_atime_ns == before


def test_one_shard_with_two_digests_is_refused(tmp_path, capsys):
    forge(tmp_path / "checkpoint", like="tiny")
    document = _document(tmp_path / "checkpoint", depth="full")
    document["content_digest"]["shards"].append(document["content_digest"]["shards"][0])
    assert _run(capsys, "verify", _saved(tmp_path, document), tmp_path / "checkpoint")[0] == 2


def test_a_report_larger_than_any_audit_writes_is_refused_before_it_is_read(tmp_path, capsys, broken):
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    code, _, err = _run(capsys, "verify", tmp_path / "huge.json", broken)
    assert (code, "larger than" in err) == (3, True)


def test_saved_reports_come_back_equal(broken, tmp_path):
    report = audit(broken)
    assert read_report(_saved(tmp_path, report.model_dump_json(indent=2))) == report
    changed = report.model_copy(update={"verdict": "passed"})
    with pytest.raises(UsageError, match="contradicts itself"):
        read_report(_saved(tmp_path, changed.model_dump_json()))
    assert isinstance(report, AuditReport)
