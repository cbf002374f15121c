"""Every defect that forge can make is found, as the one finding it declares, at full and at tiny size."""

from pathlib import Path

import pytest

from auditor import audit
from auditor.errors import UsageError
from auditor.forge import breaks, forge
from auditor.rules import catalogue
from auditor.verdict.gate import EXIT_CODES

# Breaks of values need content and are in test_value_breaks.py.
BREAKS = sorted(name for name, each in breaks().items() if each.depth == "headers")


# What only the sizes of a release show.
OF_RELEASES = {"other-rope-theta"}


def _roots(report):
    return [finding for finding in report.findings if finding.caused_by is None and finding.severity != "info"]


def _assert_declared(directory: Path, name: str) -> None:
    declared = breaks()[name]
    report = audit(directory)
    roots = _roots(report)
    assert len(report.incomplete_codes) == len(report.incomplete)
    assert EXIT_CODES[report.verdict] == declared.exit_code, [finding.message for finding in roots]
    if declared.severity is None:
        assert roots == []
    elif declared.severity == "info":
        assert roots == []
        assert declared.rule in {finding.rule for finding in report.findings if finding.severity == "info"}
    else:
        assert [(finding.rule, finding.severity) for finding in roots] == [(declared.rule, declared.severity)]
    strict = audit(directory, fail_on="warning")
    expected = 1 if declared.severity == "warning" and declared.exit_code == 0 else declared.exit_code
    assert EXIT_CODES[strict.verdict] == expected


@pytest.mark.parametrize("name", sorted(OF_RELEASES))
def test_break_of_a_release_yields_what_it_declares_and_is_refused_of_other_sizes(name, tmp_path):
    forge(tmp_path / "checkpoint", like="v3", sparse=True, break_name=name)
    _assert_declared(tmp_path / "checkpoint", name)
    with pytest.raises(UsageError, match="has nothing of that kind"):
        forge(tmp_path / "tiny", like="tiny", sparse=True, break_name=name)


@pytest.mark.parametrize("name", sorted(set(BREAKS) - OF_RELEASES))
def test_break_of_a_tiny_checkpoint_yields_what_it_declares_and_nothing_else_above_info(name, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    _assert_declared(tmp_path / "checkpoint", name)


def test_tensors_without_an_element_are_written_with_real_content_too(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", break_name="ungathered-tensors")
    _assert_declared(tmp_path / "checkpoint", "ungathered-tensors")


@pytest.mark.slow
@pytest.mark.parametrize("like", ["v3", "v3.2"])
@pytest.mark.parametrize("name", BREAKS)
def test_break_of_a_full_size_checkpoint_yields_what_it_declares_and_nothing_else_above_info(name, like, tmp_path):
    forge(tmp_path / "checkpoint", like=like, sparse=True, break_name=name)
    _assert_declared(tmp_path / "checkpoint", name)


@pytest.mark.parametrize("like", ["tiny", "v3", "v3.2"])
def test_sound_checkpoint_yields_nothing_above_info(like, tmp_path):
    forge(tmp_path / "checkpoint", like=like, sparse=True)
    report = audit(tmp_path / "checkpoint")
    assert report.verdict == "passed"
    assert _roots(report) == []
    # CFG112 is about a field, and compares what two tensors hold.
    alone = [outcome for outcome in report.outcomes if outcome.reason == "the family says what is expected"]
    assert all(each.rule[3] == "2" for each in alone)
    structural = [each for each in report.outcomes if not each.rule.startswith(("VAL", "CFG112")) and each not in alone]
    assert {outcome.outcome for outcome in structural} <= {"passed", "failed"}
    values = [outcome for outcome in report.outcomes if outcome.rule.startswith(("VAL", "CFG112"))]
    assert {(each.outcome, each.reason) for each in values} == {
        ("not_applicable", "tensor data is not read at depth headers")
    }


def test_every_rule_can_be_seen_firing():
    """Each rule has a break, but for those that need a policy, a permission or a limit, which other tests reach.

    VAL117 compares with what a store declares: tests/sources/test_remote_content.py has the store, forge only folders.
    """
    shown = {rule for each in breaks().values() for rule in (each.rule, *each.also, each.structure)}
    elsewhere = {"HDR111", "HDR113", "CNT102", "CNT101", "QNT111", "NAM105", "CFG109", "VAL117"}
    elsewhere |= {"VAL126", "VAL127", "VAL128"}  # no break: tests/content/test_formats_of_rows.py
    elsewhere |= {"VAL121", "VAL122", "VAL125"}  # notes about what is no defect: tests/rules/test_legitimate_values.py
    assert {module.rule.id for module in catalogue()} - shown <= elsewhere


def test_a_forged_release_has_the_published_figures(tmp_path):
    """Source: FACTS of the release: tensors, shards, payload and parameter counts."""
    forge(tmp_path / "v3", like="v3", sparse=True)
    report = audit(tmp_path / "v3")
    assert (report.inventory.tensors, report.inventory.shards) == (91_991, 163)
    assert report.inventory.payload_bytes == 688_574_839_360
    assert report.inventory.by_dtype == {"BF16": 3_918_786_560, "F32": 41_555_600, "F8_E4M3": 680_571_043_840}
    assert report.tallies.scale_elements == 41_540_496
    exact = {figure.name: [count.parameters for count in figure.counts] for figure in report.figures}
    assert exact == {
        "main model, total": [671_026_419_200],
        "main model, activated per token": [37_552_297_472, 36_625_618_432],
        "MTP module, unique parameters": [11_507_286_272, 11_610_068_224],
        "MTP module, activated per token": [2_438_676_736, 2_541_458_688],
        "everything stored": [684_531_386_000, 684_489_845_504],
    }
    verdicts = {figure.published: figure.verdict for figure in report.figures}
    assert verdicts == {
        "671B": "matches_rounded",
        "36.7B": "contradicted",
        "11.5B": "matches_rounded",
        "2.4B": "matches_rounded",
        "685B": "matches_rounded",
    }
    assert len(report.layout) == 43


ALONE = sorted(name for name, each in breaks().items() if each.structure is not None)


@pytest.mark.parametrize("name", ALONE)
def test_break_is_found_by_structure_alone_as_the_one_root_it_declares(name, tmp_path):
    declared = breaks()[name]
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    report = audit(tmp_path / "checkpoint", family="structure")
    severity = {each.rule: each.severity for each in report.outcomes}[declared.structure]
    found = {(each.rule, each.severity) for each in report.findings if each.caused_by is None}
    assert found == {(declared.structure, severity)}
    assert report.verdict == ("failed" if severity == "error" else "passed")


def test_structure_alone_finds_nothing_in_a_sound_checkpoint(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    report = audit(tmp_path / "checkpoint", family="structure")
    assert (report.verdict, report.findings) == ("passed", ())
