"""SARIF that the OASIS schema accepts, within what GitHub takes, and that says what the report says."""

import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import made_reports as made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft202012Validator, FormatChecker

from auditor.reporting.formats import FORMATS
from auditor_reports.sarif import LOCATIONS, RESULTS, render, uri
from auditor_schemas.finding import Location
from auditor_schemas.report import AuditReport

FOREIGN = Path(__file__).parents[1] / "data" / "foreign"
SCHEMA = json.loads((FOREIGN / "sarif-schema-2.1.0.json").read_text())
# Draft 4 has no uri-reference of its own, and the schema names it: the checker of all drafts judges it.
FORMATS_OF_ALL_DRAFTS = FormatChecker()
VALIDATOR = Draft4Validator(SCHEMA, format_checker=FORMATS_OF_ALL_DRAFTS)
GITHUB = Draft202012Validator(
    json.loads((FOREIGN / "github-upload-sarif-schema.json").read_text()), format_checker=FORMATS_OF_ALL_DRAFTS
)


def _run(report: AuditReport) -> dict[str, Any]:
    document = json.loads(render(report))
    VALIDATOR.validate(document)
    GITHUB.validate(document)
    (run,) = document["runs"]
    assert isinstance(run, dict)
    return run


def test_schema_checks_the_uris_too():
    """The format checker has a judge for uri-reference; without one a broken URI would pass in silence."""
    assert not FORMATS_OF_ALL_DRAFTS.conforms("a b<c>", "uri-reference")
    assert FORMATS_OF_ALL_DRAFTS.conforms("a%20b", "uri-reference")


@pytest.mark.parametrize("name", ["sound", "broken", "waived_and_known", "incomplete", "many"])
def test_oasis_schema_accepts_it_and_github_takes_it(name):
    report = getattr(made, name)()
    text = render(report)
    run = _run(report)
    assert len(gzip.compress(text.encode())) < 10_000_000
    assert len(run["results"]) <= RESULTS <= 25_000
    assert len(run["tool"]["driver"]["rules"]) <= 25_000
    assert all(len(rule["properties"]["tags"]) <= 10 for rule in run["tool"]["driver"]["rules"])
    assert all(1 <= len(result["locations"]) <= LOCATIONS <= 1_000 for result in run["results"])
    for rule in run["tool"]["driver"]["rules"]:
        assert 0 < len(rule["shortDescription"]["text"]) <= 1024
        assert 0 < len(rule["fullDescription"]["text"]) <= 1024
        assert rule["help"]["text"]


def test_clean_checkpoint_has_notes_alone_and_a_broken_one_has_errors():
    assert {result["level"] for result in _run(made.sound())["results"]} == {"note"}
    assert "error" in {result["level"] for result in _run(made.broken())["results"]}


def test_fifty_thousand_findings_are_one_result_per_rule_and_layer_that_counts_what_it_left_out():
    (run,) = json.loads(render(made.many()))["runs"]
    results = run["results"]
    keys = [(result["ruleId"], result["properties"]["layers"]) for result in results]
    assert len(keys) == len(set(keys)) == 3 * 62
    assert sum(result["properties"]["findings"] for result in results) == 50_000
    assert sum(result["occurrenceCount"] for result in results) == 50_000
    for result in results:
        left_out = result["properties"]["findings"] - len(result["locations"])
        assert f"{left_out} locations left out here" in result["message"]["text"]


def test_findings_in_too_many_layers_fall_back_to_one_result_per_rule():
    findings = tuple(
        made.finding("NAM101", "missing-tensor", "error", "is missing", fingerprint=made.fingerprint(n),
                     location=Location(tensor=f"model.layers.{n}.x"))
        for n in range(RESULTS + 1)
    )  # fmt: skip
    (result,) = _run(made.sound().model_copy(update={"findings": findings}))["results"]
    assert result["properties"]["findings"] == RESULTS + 1


def test_worst_names_in_every_place_stay_below_ten_megabytes_uncompressed():
    nasty = "\u3042<" * 250
    findings = tuple(
        made.finding("NAM101", "missing-tensor", "error", f"{n}{nasty}", fingerprint=made.fingerprint(n),
                     expected=nasty, actual=nasty, affected=(nasty,) * 9,
                     location=Location(tensor=f"model.layers.{n % 4000}.{n}{nasty}", file=f"{n}{nasty * 3}"))
        for n in range(50_000)
    )  # fmt: skip
    report = made.sound().model_copy(update={"findings": findings})
    assert len(render(report).encode()) < 10_000_000


def test_lone_finding_keeps_its_own_fingerprint_and_a_group_changes_with_its_members():
    one = made.finding("NAM101", "missing-tensor", "error", "a", location=Location(tensor="model.layers.1.a"))
    two = made.finding("NAM101", "missing-tensor", "error", "b", location=Location(tensor="model.layers.1.b"))

    def prints(*findings):
        (result,) = _run(made.sound().model_copy(update={"findings": findings}))["results"]
        return result["partialFingerprints"]

    assert prints(one)["auditorFinding/v1"] == one.fingerprint
    assert prints(one)["primaryLocationLineHash"].startswith(one.fingerprint)
    assert prints(one, two) == prints(two, one) != prints(one)


def test_tensor_is_a_logical_location_and_a_span_a_byte_region():
    at = Location(file="model-00001-of-000163.safetensors", tensor="lm_head.weight", bytes=(34_127, 34_191))
    report = made.sound().model_copy(update={"findings": (made.finding("SHP101", "s", "error", "m", location=at),)})
    (result,) = _run(report)["results"]
    (place,) = result["locations"]
    assert place["logicalLocations"] == [{"fullyQualifiedName": "lm_head.weight", "kind": "tensor"}]
    assert place["physicalLocation"]["region"] == {"byteOffset": 34_127, "byteLength": 64}
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "model-00001-of-000163.safetensors"


def test_waiver_is_an_accepted_suppression_with_its_reason_owner_and_expiry():
    results = {result["ruleId"]: result for result in _run(made.waived_and_known())["results"]}
    (suppression,) = results["NAM101"]["suppressions"]
    assert suppression == {
        "kind": "external",
        "status": "accepted",
        "justification": "the router is loaded from elsewhere",
        "properties": {"expires": "2099-01-31", "owner": "team-moe"},
    }


def test_known_finding_is_unchanged_since_the_baseline_and_suppressed():
    results = {result["ruleId"]: result for result in _run(made.waived_and_known())["results"]}
    assert results["SHP101"]["baselineState"] == "unchanged"
    assert results["SHP101"]["suppressions"][0]["status"] == "accepted"
    assert results["IDX110"]["baselineState"] == "new"
    assert results["IDX110"]["suppressions"] == []


def test_suppressions_are_on_all_results_or_on_none():
    assert all("suppressions" in result for result in _run(made.waived_and_known())["results"])
    assert not any("suppressions" in result for result in _run(made.broken())["results"])


def test_incomplete_audit_did_not_execute_successfully_and_says_why():
    (invocation,) = _run(made.incomplete())["invocations"]
    texts = [each["message"]["text"] for each in invocation["toolExecutionNotifications"]]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 3
    assert len(texts) == 2
    assert any("permission denied" in text for text in texts)
    (crash,) = (each for each in invocation["toolExecutionNotifications"] if "associatedRule" in each)
    assert crash["associatedRule"]["id"] == "SHP101"
    assert "ZeroDivisionError" in crash["message"]["text"]


def test_failed_audit_executed_successfully():
    (invocation,) = _run(made.broken())["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (True, 1)


def test_rules_bring_their_pages_as_help():
    document = json.loads(FORMATS["sarif"].render(made.sound()))
    VALIDATOR.validate(document)
    rules = {rule["id"]: rule for rule in document["runs"][0]["tool"]["driver"]["rules"]}
    assert "## Remedy" in rules["QNT101"]["help"]["markdown"]
    assert all("markdown" in rule["help"] for rule in rules.values())


@given(st.text(max_size=60))
def test_artifact_uri_is_relative_and_leads_nowhere_else(path):
    made_uri = uri(path)
    parts = urlsplit(made_uri)
    assert made_uri.isascii()
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert not made_uri.startswith("/")
    assert all(segment not in ("", ".", "..") for segment in made_uri.split("/"))
    assert FORMATS_OF_ALL_DRAFTS.conforms(made_uri, "uri-reference")


@pytest.mark.parametrize("path", ["model.safetensors", "a b/c%d.safetensors", "模型.safetensors", "x:y#z?.safetensors"])
def test_artifact_uri_of_a_file_inside_decodes_to_it(path):
    assert unquote(uri(path)) == path
