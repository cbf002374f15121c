"""What is typed or handed on as an argument is shown as everything else: one line, and nothing in it acts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge

BAD = "\x1b[31mX\n::error::\u202e\x9b"
ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

COMMANDS = [
    ["audit", BAD],
    ["audit", f"hf://a/{BAD}"],
    ["audit", f"https://127.0.0.1:9/{BAD}"],
    ["audit", f"s3://{BAD}/x"],
    ["audit", f"ftp://{BAD}"],
    ["audit", f"{BAD}://x"],
    ["audit", "hf://a/b", "--revision", BAD],
    ["audit", "SOUND", "--family", BAD],
    ["audit", "SOUND", "--policy", BAD],
    ["audit", "SOUND", "--baseline", BAD],
    ["audit", "SOUND", "--json", f"/{BAD}/x"],
    ["audit", "SOUND", "--json", f"TMP/{BAD}/x"],
    ["audit", "SOUND", "--csv", f"/{BAD}/x"],
    ["audit", "SOUND", "--html", f"TMP/{'x' * 300}{BAD}"],
    ["audit", "SOUND", "--depth", BAD],
    ["audit", "SOUND", "--fail-on", BAD],
    ["audit", "SOUND", "--depth", "full", "--resume", f"SOUND/{BAD}"],
    ["audit", "SOUND", "--depth", "full", "--resume", f"/dev/null/{BAD}"],
    ["audit", "SOUND", "--seed", BAD],
    ["audit", "SOUND", "--sample-bytes", BAD],
    ["audit", "SOUND", "--jobs", BAD],
    ["audit", "SOUND", BAD],
    ["audit", "SOUND", f"--{BAD}"],
    [BAD],
    ["count", BAD],
    ["count", "SOUND", "--family", BAD],
    ["count", f"TMP/{BAD}.json"],
    ["count", "SOUND", "--json", f"/{BAD}/x"],
    ["tensor", "SOUND", BAD],
    ["tensor", BAD, "x"],
    ["report", BAD],
    ["report", "JSON", "--html", f"/{BAD}/x"],
    ["publish", BAD, "--site", "TMP/site"],
    ["publish", "JSON", "--site", f"JSON/{BAD}"],
    ["publish", "JSON", "--site", f"TMP/{BAD}"],
    ["rule", BAD],
    ["schema", BAD],
    ["forge", f"/dev/null/{BAD}"],
    ["forge", "TMP/new", "--break", BAD],
    ["forge", f"TMP/{BAD}", "--sparse"],
    ["diff", BAD, "SOUND"],
    ["diff", "SOUND", BAD],
    ["diff", "SOUND", "SOUND", "--json", f"/{BAD}/x"],
    ["verify", BAD, "SOUND"],
    ["verify", "JSON", BAD],
    ["verify", "JSON", "SOUND", "--fingerprint", BAD],
    ["lint", BAD],
    ["lint", f"TMP/{BAD}/config.json"],
    ["lint", "SOUND/config.json", "--family", BAD],
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    forge(folder / "sound", like="tiny", sparse=True)
    assert cli.main(["audit", str(folder / "sound"), "--json", str(folder / "a.json"), "--quiet"]) == 0
    return {"SOUND": str(folder / "sound"), "JSON": str(folder / "a.json"), "TMP": str(folder)}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: "-".join(each).encode("unicode_escape").decode()[:60])
def test_an_argument_is_text_in_every_message(command, places, capsys):
    for name, path in places.items():
        command = [re.sub(rf"\b{name}\b", path, each) for each in command]
    code = cli.main(command)
    out, err = capsys.readouterr()
    assert code in (0, 1, 2, 3)
    assert not ACTING.search(out + err), out + err
    assert not re.search(r"^\s*::", out + err, re.MULTILINE)
    assert err.count("\n") == 1 or (out and not err)


def test_a_folder_named_in_bytes_that_are_no_text_is_audited_all_the_same(tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff\xfe\x1b"
    forge(tmp_path / "sound", like="tiny", sparse=True)
    os.rename(os.fsencode(tmp_path / "sound"), folder)
    kinds = ("json", "html", "sarif", "junit", "markdown")
    outputs = [part for kind in kinds for part in (f"--{kind}", tmp_path / kind)]
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "audit", folder, *outputs], capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout
    assert json.loads(Path(tmp_path / "json").read_text())["verdict"] == "passed"
