"""How far a reading is, told to a person on one line and to a program as lines of JSON."""

import fcntl
import io
import json
import logging
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from auditor import audit
from auditor.cli.progress import ProgressLine, ProgressLines, told_by
from auditor.content import Reading, Standing
from auditor.engine.cluster import lets_in_others
from auditor.forge import forge

AT = Standing(done=1 << 30, total=4 << 30, units=20, units_left=15, workers=8, nodes=4, retries=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge(tmp_path_factory.mktemp("progress") / "tiny").directory


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "auditor", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_lines_for_programs_say_how_far_and_who_reads(tiny: Path, tmp_path: Path) -> None:
    done = run("audit", tiny, "--depth", "full", "--quiet", "--progress", "json", "--jobs", "2")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert {"what": "shards", "done": 5, "total": 5} in told
    last = [each for each in told if each["what"] == "bytes"][-1]
    assert last["done"] == last["total"] > 0
    assert (last["units"], last["units_left"], last["workers"], last["nodes"]) == (5, 0, 2, 1)
    assert (last["retries"], last["left_s"]) == (0, 0.0)
    part = run("read", tiny, "--resume", tmp_path / "place", "--part", "1/2", "--progress", "json")
    told = [json.loads(line) for line in part.stderr.splitlines()]
    assert part.returncode == 0
    assert told[-1]["done"] == told[-1]["total"] < last["total"]


def test_without_a_terminal_nothing_is_told_unless_asked_for(tiny: Path) -> None:
    for options in ((), ("--progress", "none"), ("--progress", "auto")):
        assert run("audit", tiny, "--depth", "full", *options).stderr == ""


def test_the_line_names_nodes_workers_units_and_what_was_begun_again() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.standing(AT._replace(done=0))
    time.sleep(1.1)
    line.standing(AT)
    told = stream.getvalue().rpartition("\x1b[K")[2]
    assert told.startswith("reading tensor data: 1 GiB of 4 GiB, ")
    assert "/s, about " in told
    assert told.endswith(" left; 4 nodes, 8 workers, 15 of 20 units left, 2 begun again")


@pytest.mark.parametrize("columns", [40, 80])
def test_a_line_does_not_wrap_on_a_narrow_terminal(columns: int) -> None:
    """What wraps is never taken off the screen again."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(theirs, "w", encoding="utf-8") as stream, open(ours, "rb", buffering=0) as terminal:
        progress = ProgressLine(stream)
        time.sleep(0.11)
        progress.standing(Standing(9 << 30, 29 << 30, 163, 120, 64, 16, 3))
        drawn = terminal.read(1000).decode().rpartition("\x1b[K")[2]
    assert drawn.startswith("9 GiB of 29 GiB")
    assert len(drawn) < columns


def test_the_line_of_one_machine_names_no_nodes() -> None:
    stream = io.StringIO()
    ProgressLine(stream).standing(AT._replace(nodes=1, retries=0, done=4 << 30))
    assert "node" not in stream.getvalue()


def test_rate_and_time_left_are_told_once_known() -> None:
    stream = io.StringIO()
    lines = ProgressLines(stream)
    lines.standing(AT._replace(done=0))
    time.sleep(1.1)
    lines.standing(AT)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["rate"], first["left_s"]) == (0, None)
    assert 0 < second["rate"] < 1 << 30
    assert second["left_s"] == pytest.approx(3 * (1 << 30) / second["rate"], rel=0.2)
    assert (second["nodes"], second["units_left"], second["retries"]) == (4, 15, 2)


def test_progress_of_the_api_is_still_bytes_alone(tiny: Path) -> None:
    told: list[tuple[int, int]] = []
    more: list[Standing] = []
    reading = Reading(depth="full", progress=lambda done, total: told.append((done, total)), standing=more.append)
    audit(str(tiny), depth="full", reading=reading)
    assert told == [(each.done, each.total) for each in more]
    assert told[-1][0] == told[-1][1]


# --- warnings ---


def test_a_warning_is_said_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    told_by(None)["warning"]("no token\x1b[31m")
    assert capsys.readouterr().err == "auditor: warning: no token\\x1b[31m\n"


def test_a_warning_is_a_line_of_its_own_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine()
    line.preparing("compiling")
    told_by(line)["warning"]("no token")
    assert capsys.readouterr().err.endswith("compiling\r\x1b[Kauditor: warning: no token\n")


def test_a_warning_is_a_line_of_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    told_by(ProgressLines())["warning"]("no token")
    assert json.loads(capsys.readouterr().err) == {"what": "warning", "why": "no token"}


def test_a_warning_is_logged_where_nobody_takes_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "auditor"):
        Reading(depth="full").warning("no token")
    assert caplog.messages == ["no token"]


@pytest.mark.parametrize(
    ("modes", "addresses", "open_to_others"),
    [
        (["token", "Token"], ["10.0.0.1", "10.0.0.2"], False),
        (["disabled"], ["10.0.0.1"], True),
        (["token", None], ["10.0.0.1"], True),  # a token here is taken where none is asked for
        ([None], ["127.0.0.2", "10.0.0.1"], True),
        ([None], ["127.0.0.2", "127.0.0.3"], False),
    ],
)
def test_a_cluster_without_a_token_is_open_to_others_beyond_this_machine(
    modes: list[str | None], addresses: list[str], open_to_others: bool
) -> None:
    assert lets_in_others(modes, addresses) == open_to_others
