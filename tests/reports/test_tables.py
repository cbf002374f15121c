"""CSV as pandas and the csv module read it back: numbers are numbers, and no cell is a formula."""

import csv
import io
import subprocess
import sys

import made_reports as made
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor_reports.tables import escaped, render

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("name", ["sound", "broken", "waived_and_known", "incomplete", "many"])
def test_pandas_and_csv_read_every_row_of_every_table(name):
    report = getattr(made, name)()
    files = render(report)
    rows = {
        "inventory.csv": len(report.layout),
        "tallies.csv": len(report.tallies.components) + 2,
        "findings.csv": len(report.findings),
    }
    assert files.keys() == rows.keys()
    for file, count in rows.items():
        assert len(_read(files[file])) == count
        table = list(csv.reader(io.StringIO(files[file]), strict=True))
        assert len(table) == count + 1
        assert {len(row) for row in table} == {len(table[0])}


def test_inventory_sums_to_what_the_report_says():
    table = _read(render(made.sound())["inventory.csv"])
    assert table["tensors"].sum() == 91_991
    assert (table["tensors"] * table["elements_each"]).sum() == 684_531_386_000
    assert table["elements_each"].dtype == "int64"


def test_tallies_are_exact_integers_beside_empty_cells():
    report = made.sound()
    table = _read(render(report)["tallies.csv"]).set_index("component")
    assert table.loc["routed_experts", "from_headers"] == 653_908_770_816
    assert table.loc["scale_elements", "from_headers"] == 41_540_496
    text = render(report)["tallies.csv"]
    assert "routed_experts,653908770816,653908770816,0\n" in text
    assert "scale_elements,,41540496,\n" in text


def test_finding_reads_back_as_it_was():
    report = made.broken()
    table = _read(render(report)["findings.csv"])
    for finding, (_, row) in zip(report.findings, table.iterrows(), strict=True):
        assert (row["rule"], row["severity"], row["fingerprint"]) == (
            finding.rule, finding.severity.value, finding.fingerprint,
        )  # fmt: skip
        assert row["message"] == finding.message
        assert row["count"] == finding.count
        if finding.location.bytes is not None:
            assert (row["byte_begin"], row["byte_end"]) == finding.location.bytes


def test_negative_number_stays_a_number():
    finding = made.finding("CNT101", "contradicted-count", "error", "m", expected=-3, actual=2.5)
    text = render(made.sound().model_copy(update={"findings": (finding,)}))["findings.csv"]
    table = _read(text)
    assert table["expected"].tolist() == [-3]
    assert table["actual"].tolist() == [2.5]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "＋1", "－1", "＠x", "  =1", "'x"]
)
def test_text_that_would_run_as_a_formula_has_an_apostrophe_before_it(text):
    assert escaped(text)[0] in ("'", "\\")


@pytest.mark.parametrize("text", ["model.layers.0.mlp", "a=b", "3-4", "", "x@y", "\\x09"])
def test_text_that_would_not_stays_as_it_is(text):
    assert escaped(text) == text


@given(st.text(max_size=40))
def test_no_text_begins_a_formula_and_the_apostrophe_is_the_only_change(text):
    from auditor_reports.text import shown

    cell = escaped(text)
    assert not cell.lstrip().startswith(STARTS)
    assert cell.removeprefix("'") == shown(text) or cell == shown(text)
    buffer = io.StringIO()
    csv.writer(buffer).writerow([cell, 1])
    assert next(csv.reader(io.StringIO(buffer.getvalue(), newline=""))) == [cell, "1"]


def test_missing_extra_is_one_line_that_says_what_to_install(tmp_path):
    """In a process where pandas cannot be found."""
    script = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pandas' else find(name, *a)\n"
        "from auditor.cli import main\n"
        f"sys.exit(main(['audit', {str(tmp_path)!r}, '--csv', {str(tmp_path / 'tables')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "auditor: --csv needs pandas: pip install 'checkpoint-auditor[tables]'\n"
    assert not (tmp_path / "tables").exists()
