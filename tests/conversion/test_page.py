"""docs/conversions.md can be followed as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from auditor import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conversions.md"


def test_the_commands_of_the_page_lead_to_a_proven_conversion(tmp_path, monkeypatch, capsys):
    page = PAGE.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    commands = re.findall(r"^auditor (.*)$", page.partition("## What is said")[0], re.MULTILINE)
    assert [each.split()[0] for each in commands] == ["forge", "audit", "diff"]
    codes = [cli.main(commands[0].split())]
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    capsys.readouterr()
    codes += [cli.main(each.split()) for each in commands[1:]]
    assert codes == [0, 0, 0]
    (told,) = re.findall(r"```\n(faithful: .*?)```", page, re.DOTALL)
    assert told in capsys.readouterr().out
    assert "A faithful conversion" in Path("conversion.html").read_text("utf-8")
