"""A site's folder is whatever somebody prepared: no write leaves it, no trap holds, no read is unbounded."""

import json
import os
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge
from auditor.reporting.publish import LOCK, PARTIAL
from auditor_reports.site import Record, folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("saved")
    forge(place / "sound", like="tiny", sparse=True)
    assert cli.main(["audit", str(place / "sound"), "--json", str(place / "a.json"), "--quiet"]) == 0
    return place / "a.json"


def _publish(capsys, saved: Path, site: Path) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main(["publish", str(saved), "--site", str(site)])
    out, err = capsys.readouterr()
    assert err.count("\n") == (1 if code else 0), err
    assert not {"\x1b", "\u202e"} & set(out + err)
    return code, out + err


TRAPS = [
    "site.json",
    "index.html",
    LOCK,
    f"index.html{PARTIAL}",
    f"site.json{PARTIAL}",
    "checkpoints",
    "checkpoints/FOLDER",
]


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "folder", "loop"])
def test_no_trap_in_a_site_is_followed_waited_for_or_written_through(saved, tmp_path, capsys, trap, kind):
    site, outside = tmp_path / "site", tmp_path / "outside"
    assert _publish(capsys, saved, site)[0] == 0
    (entry,) = Record.model_validate_json((site / "site.json").read_bytes()).entries
    target = site / trap.replace("FOLDER", folder(entry.uri))
    for path in sorted(site.rglob("*"), reverse=True):
        if path == target or (path.is_relative_to(target) and path != site):
            path.rmdir() if path.is_dir() else path.unlink()
    if trap.startswith("checkpoints"):
        outside.mkdir()
    else:
        outside.write_text("somebody's own")
    if kind == "hard link":
        if outside.is_dir():
            return
        os.link(outside, target)
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(target if kind == "loop" else outside)
    code, _ = _publish(capsys, saved, site)
    assert code in (0, 2, 3)
    if outside.is_dir():
        assert list(outside.iterdir()) == []
    else:
        assert outside.read_text() == "somebody's own"
        assert outside.is_file()


def test_a_giant_record_is_refused_before_it_is_read(saved, tmp_path, capsys):
    (tmp_path / "site").mkdir()
    with (tmp_path / "site" / "site.json").open("wb") as file:
        file.truncate(1 << 40)
    code, said = _publish(capsys, saved, tmp_path / "site")
    assert (code, "larger than" in said) == (2, True)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../../x"},
        {"id": "20260102T030405Z-0123456789abcdef\n"},
        {"id": "20260102T030405Z-0123456789abcde/"},
        {"verdict": "\x1b[31m"},
        {"tensors": "many"},
    ],
)
def test_a_record_with_names_out_of_the_site_is_no_record(saved, tmp_path, capsys, change):
    assert _publish(capsys, saved, tmp_path / "site")[0] == 0
    path = tmp_path / "site" / "site.json"
    record = json.loads(path.read_text())
    record["entries"][0].update(change)
    path.write_text(json.dumps(record))
    before = sorted(each for each in tmp_path.rglob("*"))
    assert _publish(capsys, saved, tmp_path / "site")[0] == 2
    assert sorted(each for each in tmp_path.rglob("*")) == before


def test_what_a_record_says_is_text_on_every_page(saved, tmp_path, capsys):
    assert _publish(capsys, saved, tmp_path / "site")[0] == 0
    path = tmp_path / "site" / "site.json"
    record = json.loads(path.read_text())
    hostile = "\x1b[31m\u202e<script>alert(1)</script>../../x"
    texts = {name: hostile for name, value in record["entries"][0].items() if isinstance(value, str)}
    record["entries"].append({**record["entries"][0], **texts, "id": record["entries"][0]["id"], "verdict": "passed"})
    path.write_text(json.dumps(record))
    assert _publish(capsys, saved, tmp_path / "site")[0] == 0
    for page in (tmp_path / "site").rglob("*"):
        if page.is_file():
            content = page.read_text()
            assert not {"\x1b", "\u202e"} & set(content)
            assert page.suffix == ".json" or "<script>alert" not in content
    assert {each.name for each in tmp_path.iterdir()} == {"site"}
