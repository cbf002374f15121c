"""A report is rendered by the name of a format, without a command; what the command writes is that."""

from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.forge import forge
from auditor.reporting.formats import FORMATS, render
from auditor.reporting.saved import read_report


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_command_writes_is_what_is_rendered_by_name(name: str, tmp_path: Path) -> None:
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="missing-expert")
    (tmp_path / "report.json").write_text(audit(tmp_path / "checkpoint").model_dump_json())
    report = read_report(tmp_path / "report.json")
    assert cli.main(["report", str(tmp_path / "report.json"), f"--{name}", str(tmp_path / name)]) == 1
    rendered = render(report, name)
    if isinstance(rendered, str):
        assert (tmp_path / name).read_text() == rendered
    else:
        assert {path.name: path.read_text() for path in (tmp_path / name).iterdir()} == rendered
