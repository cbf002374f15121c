"""Audits on a Ray cluster of which something is killed in the middle: the report is that of this machine's engine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.engine.cluster import Nodes, busy_workers, ended, judged, reading
from tests.servers.serving import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed"),
]
SOURCE = "s3://models/tiny"
Kill = Callable[[Nodes, "subprocess.Popen[str]"], None]


@pytest.fixture(scope="module")
def alone(nodes: Nodes) -> str:
    """What this machine's engine says of the same bucket."""
    words = ("audit", SOURCE, "--depth", "full", "--seed", "1", "--no-cache", "--json", "-")
    return judged(ended(nodes.begin(*words))[1])


def kill_workers(nodes: Nodes, _: subprocess.Popen[str]) -> None:
    for each in busy_workers(nodes.address):
        os.kill(each, signal.SIGKILL)


def kill_a_node(nodes: Nodes, _: subprocess.Popen[str]) -> None:
    nodes.ask("kill")
    nodes.ask("add")


def kill_the_driver(_: Nodes, driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGKILL)


def take_the_source_away(nodes: Nodes, _: subprocess.Popen[str]) -> None:
    """From one node, which is another one: a process keeps the environment that it began with."""
    nodes.ask("kill")
    nodes.ask("blind")
    nodes.ask("remove")
    nodes.ask("add")


@pytest.mark.parametrize("moment", range(5))
@pytest.mark.parametrize("kill", [kill_workers, kill_a_node, kill_the_driver, take_the_source_away])
def test_report_is_the_same_whatever_is_killed(
    nodes: Nodes, slow: Server, alone: str, tmp_path: Path, kill: Kill, moment: int
) -> None:
    options = ("--no-cache", "--resume", str(tmp_path / "place"), *(("--no-digests",) if moment == 4 else ()))
    if moment == 4:
        words = ("audit", SOURCE, "--depth", "full", "--seed", "1", "--no-cache", "--no-digests", "--json", "-")
        alone = judged(ended(nodes.begin(*words))[1])
    before = len(slow.requests)
    driver = nodes.audit(SOURCE, *options)
    reading(slow, before)
    time.sleep(random.Random(moment).uniform(0, 2))
    kill(nodes, driver)
    if kill is kill_the_driver:
        driver.communicate()
        driver = nodes.audit(SOURCE, *options)
    code, report = ended(driver)
    assert (code, report["incomplete"]) == (0, [])
    assert judged(report) == alone


def test_what_only_a_node_that_died_could_read_is_not_waited_for(nodes: Nodes, slow: Server, tmp_path: Path) -> None:
    """The one that is left does not see the source: Ray itself would wait for another for ever."""
    doomed = Nodes(tmp_path, nodes.environment, head=0, others=0)
    try:
        doomed.ask("blind")
        doomed.ask("add")
        before = len(slow.requests)
        driver = doomed.audit(SOURCE, "--no-cache")
        reading(slow, before)
        doomed.ask("kill")
        code, report = ended(driver)
    finally:
        doomed.close()
    assert code == 3
    assert any("no node could read it: 127.0.0.3: " in each for each in report["incomplete"]), report["incomplete"]


def test_a_cluster_without_a_node_is_waited_for_a_minute(nodes: Nodes, slow: Server, tmp_path: Path) -> None:
    doomed = Nodes(tmp_path, nodes.environment, head=0, others=1)
    try:
        before = len(slow.requests)
        driver = doomed.audit(SOURCE, "--no-cache")
        reading(slow, before)
        doomed.ask("kill")
        code, report = ended(driver)
    finally:
        doomed.close()
    assert code == 3
    assert any("the cluster has no node left" in each for each in report["incomplete"]), report["incomplete"]


def test_a_head_that_is_killed_ends_the_audit_and_another_cluster_goes_on(
    nodes: Nodes, slow: Server, alone: str, tmp_path: Path
) -> None:
    options = ("--no-cache", "--resume", str(tmp_path / "place"))
    doomed = Nodes(tmp_path, nodes.environment, others=0)
    try:
        before = len(slow.requests)
        driver = doomed.audit(SOURCE, *options)
        reading(slow, before)
        doomed.ask("head")
        code, report = ended(driver)  # and not as Ray ends a process after a minute, with 1
        assert code == 3
        assert "the Ray cluster's head does not answer any more" in report["incomplete"][0]
    finally:
        doomed.close()
    code, report = ended(nodes.audit(SOURCE, *options))
    assert (code, report["incomplete"]) == (0, [])
    assert judged(report) == alone
