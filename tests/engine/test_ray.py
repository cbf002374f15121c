"""Full audits on a Ray cluster: the report is the local one's, whatever is killed, and what is wrong is one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge
from tests.engine.cluster import ROOT, SETTINGS, Nodes, busy_workers, ended, reading, stable, told, wait_for
from tests.servers.s3 import s3_server
from tests.servers.serving import Server

# Not imported here: Ray changes logging and signals of a whole process.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")


@pytest.fixture(scope="module")
def local(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("local") / "report.json"
    assert cli.main(["audit", str(tiny), "--depth", "full", "--seed", "1", "--quiet", "--json", str(path)]) == 0
    return stable(json.loads(path.read_text("utf-8")))


# --- the report ---


@pytest.mark.parametrize("options", [(), ("--no-digests",), ("--jobs", "1")])
def test_report_is_that_of_this_machine(nodes: Nodes, tiny: Path, options: tuple[str, ...], tmp_path: Path) -> None:
    code, report = ended(nodes.audit(tiny, *options))
    assert code == 0
    run = report["run"]
    assert (run["engine"], run["device"]) == ("ray", "cpu")
    assert {each["device"] for each in run["nodes"]} == {"cpu"}
    assert {each["node"] for each in run["nodes"]} <= {"127.0.0.2", "127.0.0.3", "127.0.0.4"}
    assert sum(each["bytes"] for each in run["nodes"]) == report["coverage"]["payload_bytes_read"]
    path = tmp_path / "report.json"
    command = ["audit", str(tiny), "--depth", "full", "--seed", "1", "--quiet", *options, "--json", str(path)]
    assert cli.main(command) == 0
    assert stable(report) == stable(json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize("name", ["nan-codes", "zero-filled-tail", "truncated-shard"])
def test_damage_is_found_as_on_this_machine(nodes: Nodes, tmp_path: Path, name: str) -> None:
    broken = forge(tmp_path / "broken", break_name=name).directory
    code, report = ended(nodes.audit(broken))
    assert code == 1
    path = tmp_path / "report.json"
    cli.main(["audit", str(broken), "--depth", "full", "--seed", "1", "--quiet", "--json", str(path)])
    assert stable(report) == stable(json.loads(path.read_text("utf-8")))


def test_parts_are_read_on_it_and_progress_names_its_nodes(
    nodes: Nodes, tiny: Path, local: dict, tmp_path: Path
) -> None:
    place = ("--resume", str(tmp_path / "place"))
    for part in ("1/2", "2/2"):
        options = ("--part", part, "--engine", f"ray://{nodes.address}", "--progress", "json")
        process = nodes.begin("read", str(tiny), *place, *options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.startswith(f"part {part.replace('/', ' of ')} is read")
        last = told(err)[-1]
        assert last["done"] == last["total"]
        assert (last["nodes"], last["workers"], last["units_left"], last["retries"]) == (3, 3, 0, 0)
    code, report = ended(nodes.begin("audit", str(tiny), "--depth", "full", "--seed", "1", "--json", "-", *place))
    assert (code, report["run"]["resumed_shards"]) == (0, report["inventory"]["shards"])
    assert stable(report) == local


def test_the_service_has_its_attempts_read_there(nodes: Nodes, tiny: Path, local: dict, tmp_path: Path) -> None:
    order = {
        "source": str(tiny), "revision": None, "depth": "full", "family": None, "seed": 1, "policy": None,
        "baseline": None, "resume": str(tmp_path / "resume"), "report": str(tmp_path / "report.json"),
        "device": "auto", "jobs": None, "engine": f"ray://{nodes.address}", "hosts": [], "private": False,
        "roots": [str(tiny.parent)], "limits": {"memory": 16 << 30, "files": 4096, "nice": 10},
    }  # fmt: skip
    command = [sys.executable, "-m", "auditor.service.child"]
    with subprocess.Popen(
        command, env=nodes.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        said = [json.loads(line) for line in child.stdout]
    assert said[-1] == {"done": True}
    last = [each["progress"] for each in said if "progress" in each][-1]
    assert (last["what"], last["nodes"], last["units_left"]) == ("bytes", 3, 0)
    report = json.loads(Path(order["report"]).read_text("utf-8"))
    assert report["run"]["engine"] == "ray"
    assert stable(report)["probes"] == local["probes"]


# --- GPUs ---


def test_a_node_whose_gpu_is_none_says_so_once_and_its_processors_read(nodes: Nodes, tiny: Path, local: dict) -> None:
    nodes.ask("gpu")
    try:
        process = nodes.audit(tiny)
        out, err = process.communicate(timeout=120)
        only = nodes.audit(tiny, "--device", "cuda")
        code, incomplete = ended(only)
    finally:
        nodes.ask("remove")
    report = json.loads(out)
    assert (process.returncode, report["incomplete"]) == (0, [])
    assert stable(report)["probes"] == local["probes"]
    assert err.count("has a GPU for Ray that cannot be used, and its processors read: no CUDA device") == 1
    assert report["run"]["device"] == "cpu"
    assert code == 3
    assert all("no CUDA device" in each for each in incomplete["incomplete"])
    assert len(incomplete["incomplete"]) == incomplete["inventory"]["shards"]


@pytest.mark.gpu
def test_a_node_with_a_gpu_and_nodes_without_read_at_once(cuda: str, nodes: Nodes, local: dict) -> None:
    nodes.ask("cuda")
    try:
        code, report = ended(nodes.audit("s3://models/tiny", "--no-cache"))
    finally:
        nodes.ask("remove")
    assert (code, report["incomplete"]) == (0, [])
    on_gpu, on_processors = (
        {each["node"] for each in report["run"]["nodes"] if each["device"] == device} for device in (cuda, "cpu")
    )
    assert len(on_gpu) == 1
    assert on_processors
    assert on_gpu.isdisjoint(on_processors)
    assert report["run"]["device"] == ", ".join(sorted((cuda, "cpu")))
    assert stable(report)["probes"] == local["probes"]


def test_a_cluster_without_the_gpus_that_are_asked_for_is_one_line(nodes: Nodes, tiny: Path) -> None:
    process = nodes.audit(tiny, "--device", "cuda", "--gpu-share", "0.5")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (3, "")
    assert err == "auditor: --device cuda: the Ray cluster has no node with 0.5 of a GPU to give\n"


# --- what dies ---


def test_a_worker_that_is_killed_loses_its_units_alone(nodes: Nodes, slow: Server, local: dict) -> None:
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache", "--progress", "json")
    reading(slow, before)
    wait_for(lambda: bool(busy_workers(nodes.address)))
    for each in busy_workers(nodes.address):
        os.kill(each, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    report = json.loads(out)
    assert (process.returncode, report["incomplete"]) == (0, [])
    assert stable(report)["probes"] == local["probes"]
    assert told(err)[-1]["retries"] > 0
    assert all(line.startswith("{") for line in err.splitlines())  # Ray prints lines of its own on what died


def test_a_node_that_dies_loses_its_units_alone_and_one_that_comes_is_used(
    nodes: Nodes, slow: Server, local: dict
) -> None:
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache")
    reading(slow, before)
    nodes.ask("kill")
    nodes.ask("add")
    code, report = ended(process)  # and standard output is the report's alone
    assert (code, report["incomplete"]) == (0, [])
    assert stable(report)["probes"] == local["probes"]


def test_a_driver_that_is_killed_goes_on_where_it_was(nodes: Nodes, slow: Server, local: dict, tmp_path: Path) -> None:
    place = tmp_path / "place"
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache", "--resume", str(place), "--jobs", "1")
    reading(slow, before)
    wait_for(lambda: len(list(place.glob("*.msgpack"))) > 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, report = ended(nodes.audit("s3://models/tiny", "--no-cache", "--resume", str(place)))
    assert code == 0
    assert report["run"]["resumed_shards"] > 0
    assert stable(report)["probes"] == local["probes"]


def test_an_interruption_leaves_a_report_soon(nodes: Nodes, slow: Server) -> None:
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache", "--jobs", "1")
    reading(slow, before)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    code, report = ended(process)
    assert time.monotonic() - begun < 5
    assert code == 3
    assert any("cancelled after" in each for each in report["incomplete"])


def test_an_interruption_leaves_a_report_soon_where_the_head_hangs(nodes: Nodes, slow: Server) -> None:
    """It takes connections and answers nothing, for which Ray waits as long as it takes."""
    folder = nodes.ask("session").encode()
    head = next(
        int(each.parent.name)
        for each in Path("/proc").glob("[0-9]*/cmdline")
        if b"gcs_server" in (told := each.read_bytes()).partition(b"\0")[0] and folder in told
    )
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache", "--jobs", "1")
    reading(slow, before)
    os.kill(head, signal.SIGSTOP)
    try:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        code, report = ended(process)
    finally:
        os.kill(head, signal.SIGCONT)
    assert time.monotonic() - begun < 5
    assert code == 3
    assert any("cancelled after" in each for each in report["incomplete"])


# --- what nodes lack ---


def test_a_node_that_does_not_see_the_source_leaves_its_units_to_others(nodes: Nodes, local: dict) -> None:
    nodes.ask("blind")
    try:
        code, report = ended(nodes.audit("s3://models/tiny", "--no-cache"))
    finally:
        nodes.ask("remove")
    assert (code, report["incomplete"]) == (0, [])
    assert stable(report)["probes"] == local["probes"]


def test_nodes_that_lack_a_library_or_see_another_source_leave_their_units_to_others(
    nodes: Nodes, local: dict, tmp_path: Path
) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "numba.py").write_text("raise ModuleNotFoundError('No module named numba', name='numba')")
    other = forge(tmp_path / "models" / "tiny", break_name="nan-codes").directory
    with s3_server(other.parent, "models") as server:
        odd = {
            "PYTHONPATH": f"{tmp_path / 'lacking'}{os.pathsep}{nodes.environment['PYTHONPATH']}",
            "AWS_ENDPOINT_URL": server.url,
        }
        for name, value in odd.items():
            nodes.ask(f"with {name}={value}")
        try:
            process = nodes.audit("s3://models/tiny", "--no-cache", "--progress", "json")
            out, err = process.communicate(timeout=120)
        finally:
            for _ in odd:
                nodes.ask("remove")
    report = json.loads(out)
    assert (process.returncode, report["incomplete"]) == (0, []), err
    assert stable(report)["probes"] == local["probes"]
    assert max(each.get("nodes", 0) for each in told(err)) == 5
    assert told(err)[-1]["retries"] > 0
    assert len(report["run"]["nodes"]) <= 3


def test_a_source_that_no_node_sees_makes_the_audit_incomplete(nodes: Nodes, tiny: Path) -> None:
    with s3_server(tiny.parent, "others") as server:
        code, report = ended(nodes.audit("s3://others/tiny", "--no-cache", AWS_ENDPOINT_URL=server.url))
    assert code == 3
    shards = report["inventory"]["shards"]
    assert len(report["incomplete"]) == shards
    for each in report["incomplete"]:
        assert each.startswith("model-")
        assert each.count("127.0.0.") == 3
    assert set(report["incomplete_codes"]) == {"not_found"}


def test_nothing_is_imported_from_the_folder_that_the_audit_is_in(nodes: Nodes, tiny: Path, tmp_path: Path) -> None:
    """That may be the checkpoint's; the installed command does not have it on its path, as `-m` does."""
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    for name in ("ray", "auditor", "pydantic", "numba"):
        told = f"open({str(tmp_path)!r} + '/imported {name}', 'w')\n"
        (source / f"{name}.py").write_text(f"{told}raise ImportError('from the checkpoint')\n", "utf-8")
    words = ["audit", ".", "--depth", "full", "--quiet", "--engine", f"ray://{nodes.address}"]
    command = [sys.executable, "-P", "-m", "auditor", *words]
    done = subprocess.run(command, env=nodes.environment, cwd=source, capture_output=True, text=True, timeout=120)
    assert [each.name for each in tmp_path.glob("imported *")] == []
    assert done.returncode == 0, done.stderr


# --- a cluster that is not as it should be ---


@pytest.mark.parametrize("token", ["another token of forty characters, or so", ""])
def test_a_wrong_token_is_one_line(nodes: Nodes, tiny: Path, token: str) -> None:
    more = {"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": "disabled"}
    begun = time.monotonic()
    process = nodes.audit(tiny, **more)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "refuses the token" in err


def test_a_token_that_ray_finds_by_itself_is_one_and_it_says_nothing_of_it(nodes: Nodes, tmp_path: Path) -> None:
    """For a cluster of this machine alone, with RAY_AUTH_MODE unset, as `ray start` does it."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(SETTINGS["RAY_AUTH_TOKEN"], "utf-8")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(nodes.address, "utf-8")
    program = "from auditor.engine.cluster import Cluster; found = Cluster('auto'); found.close(); print(found.modes)"
    environment = {**nodes.environment, "HOME": str(tmp_path), "RAY_TMPDIR": str(tmp_path)}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{'token'}\n", "")


def test_an_address_where_nobody_listens_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", "ray://127.0.0.1:1"]) == 3
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "the Ray cluster at 127.0.0.1:1 cannot be reached" in said.err


@pytest.mark.parametrize("source", ["https://me:s3cret@127.0.0.1:1/x", "https://127.0.0.1:1/x?sig=s3cret"])
def test_a_secret_in_the_source_s_address_is_not_sent_to_nodes(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", source, "--depth", "full", "--engine", "ray://127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("auditor: --engine ray: a user or query in the source's address would go to every node")
    assert (said.count("\n"), "s3cret" in said) == (1, False)


def test_an_address_of_ipv6_is_one(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", "ray://[::1]:1"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("auditor: the Ray cluster at [::1]:1 cannot be reached: ")
    assert "known" not in said  # as a name with its brackets is not


def test_who_takes_a_connection_and_says_nothing_is_one_line_within_15_s(tiny: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        engine = f"ray://127.0.0.1:{mute.getsockname()[1]}"
        command = [sys.executable, "-m", "auditor", "audit", str(tiny), "--depth", "full", "--engine", engine]
        begun = time.monotonic()
        done = subprocess.run(command, env={**os.environ, **SETTINGS}, capture_output=True, text=True, timeout=60)
    assert time.monotonic() - begun < 15
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith("cannot be used: it does not let this machine in within 12 s\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "engine",
    [
        "spark",
        "ray://",
        "ray://host",
        "ray://host:x",
        "ray:host:1",
        "ray://a b:1",
        "ray://h:0",
        "ray://h:65536",
        "ray://h:1:2",
        "ray://::1:6379",
        "ray://[::1]",
        "ray://[h]:1",
        "ray://[::1:1",
    ],
)
def test_an_engine_that_is_none_is_one_line(tiny: Path, engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", engine]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["audit", str(tiny), "--engine", engine]) == 2


@pytest.mark.parametrize("address", ["local", "ray://127.0.0.1:10001", "http://127.0.0.1:8265", "garbage"])
def test_an_address_of_the_environment_that_is_none_is_one_line(
    tiny: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `local` Ray would start a cluster of its own."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", "ray"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"auditor: RAY_ADDRESS '{address}': needs HOST:PORT")
    assert said.count("\n") == 1


def test_an_address_of_the_environment_is_looked_at_before_ray_is_asked(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", "ray"]) == 3
    assert "the Ray cluster at 127.0.0.1:1 cannot be reached" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", "ray"]) == 2
    assert "pip install 'checkpoint-auditor[ray]'" in capsys.readouterr().err


def test_a_node_with_another_auditor_is_named(nodes: Nodes) -> None:
    """As nodes see it; this machine's paths are theirs here, so it is this side that is another version."""
    program = (
        "import sys; from auditor.engine import cluster; cluster.__version__ = '9.9.9'\n"
        "try: cluster.Cluster(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", program, nodes.address]
    done = subprocess.run(command, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = done.stdout.strip()
    assert said.startswith("UsageError --engine ray: needs auditor 9.9.9 on every node; 127.0.0."), done.stderr
    assert "\n" not in said


def test_a_cluster_without_a_processor_to_give_is_one_line(nodes: Nodes, tiny: Path, tmp_path: Path) -> None:
    empty = Nodes(tmp_path, nodes.environment, head=0, others=0)
    try:
        process = empty.audit(tiny)
        out, err = process.communicate(timeout=60)
    finally:
        empty.close()
    assert (process.returncode, out) == (3, "")
    assert err == "auditor: the Ray cluster has no node with a processor to give\n"


def test_another_version_of_ray_or_python_is_one_line() -> None:
    """In the words that Ray has for it."""
    program = (
        "from auditor.engine.connect import refused\n"
        "from ray._private.utils import check_version_info\n"
        "there = {'ray_version': '2.52.0', 'python_version': '3.10.1'}\n"
        "try: check_version_info(there, 'This process', raise_on_mismatch=True)\n"
        "except RuntimeError as error:\n"
        "    found = refused('10.0.0.1:6379', f'RuntimeError: {error}')\n"
        "    print(type(found).__name__, found)"
    )
    environment = {**os.environ, **SETTINGS}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(
        "UsageError the Ray cluster at 10.0.0.1:6379 has another version of Ray or Python: Ray: 2"
    )
    assert done.stdout.count("\n") == 1
    assert "3.10.1" in done.stdout


def test_a_cluster_tells_nobody_and_asks_nobody(nodes: Nodes, tmp_path: Path) -> None:
    """Ray's own processes send through a proxy where there is one; this one is never reached."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        at = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        head = Nodes(tmp_path, {**nodes.environment, "http_proxy": at, "https_proxy": at}, head=0, others=0)
        try:
            log = Path(head.ask("session")) / "logs" / "dashboard.log"
            wait_for(lambda: log.is_file() and "Usage reporting is disabled" in log.read_text("utf-8"))
            time.sleep(1)
        finally:
            head.close()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_no_secret_is_in_what_ray_keeps(nodes: Nodes) -> None:
    """After all of the audits above: neither the bucket's nor the cluster's own."""
    folder = Path(nodes.ask("session"))
    secrets = [SETTINGS[name].encode() for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")]
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert len(files) > 10
    assert [each.name for each in files if any(secret in each.read_bytes() for secret in secrets)] == []


# --- the engine by itself ---


PROGRAM = """
import json, sys
from auditor.engine.cluster import Cluster
from auditor.engine.ray import ElsewhereError, Ray
from tests.engine.deeds import answer
cluster, said = Cluster(sys.argv[1]), {}
def opened(task, node, data):
    if task.startswith("nowhere"):
        raise ElsewhereError("lacks it")
    return data.decode()
engine = Ray(
    cluster, answer, packed=lambda task, kind: task.encode(), opened=opened, size=len, watch=lambda done: None,
    finished=lambda task, result: said.__setitem__(task, result),
    failed=lambda task, error: said.__setitem__(task, f"! {error}"),
)
engine.run(sys.argv[2:])
cluster.close()
print(json.dumps(said))
"""


def engine_said(nodes: Nodes, *tasks: str) -> dict[str, str]:
    command = [sys.executable, "-c", PROGRAM, nodes.address, *tasks]
    done = subprocess.run(command, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


LARGE = """
import json, sys, time
from auditor.engine.cluster import Cluster
from auditor.engine.ray import Ray
from tests.engine.deeds import answer

class Looked(Cluster):
    def answer(self, reference):
        from ray.experimental import get_object_locations
        time.sleep(0.3)  # where it lies may be said after it is there
        parts = [reference, *self._pieces[reference]]
        stored.append(any(each["node_ids"] for each in get_object_locations(parts).values()))
        return super().answer(reference)

cluster, said, stored = Looked(sys.argv[1]), {}, []
engine = Ray(
    cluster, answer, packed=lambda size, kind: f"bytes {size}".encode(), opened=lambda size, node, data: data,
    size=lambda size: 1, watch=lambda done: None, failed=lambda size, error: said.__setitem__(size, str(error)),
    finished=lambda size, data: said.__setitem__(size, [stored[-1], data == answer(f"bytes {size}".encode())]),
)
engine.run([0, 1, 89_999, 90_000, 90_001, 200_000, 350_000, 1_000_000])
cluster.close()
print(json.dumps(said))
"""


def test_answers_come_back_whole_and_past_the_object_store(nodes: Nodes) -> None:
    command = [sys.executable, "-c", LARGE, nodes.address]
    done = subprocess.run(command, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *usual, huge = json.loads(done.stdout).values()
    assert usual == [[False, True]] * 7
    assert huge[1]


EVERYWHERE = """
import sys
from auditor.engine.cluster import Cluster
from tests.engine.deeds import mark
cluster, folder = Cluster(sys.argv[1]), sys.argv[2]
cluster.everywhere(lambda: mark(folder))
cluster.close()
"""


def test_what_comes_before_tasks_is_done_on_every_node(nodes: Nodes, tmp_path: Path) -> None:
    command = [sys.executable, "-c", EVERYWHERE, nodes.address, str(tmp_path)]
    done = subprocess.run(command, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 3


MIXED = """
import json, sys
from auditor.engine.cluster import Cluster
from auditor.engine.ray import Ray
from tests.engine.deeds import where
cluster, said = Cluster(sys.argv[1], ("cuda", "cpu"), 0.5), []
engine = Ray(
    cluster, where, packed=lambda task, kind: kind.encode(), opened=lambda task, node, data: (node, data.decode()),
    size=len, watch=lambda done: None, failed=lambda task, error: said.append(str(error)),
    finished=lambda task, result: said.append(result),
)
engine.run(list(map(str, range(30))))
cluster.close()
print(json.dumps([engine.workers, said]))
"""


def test_a_cluster_that_mixes_nodes_gives_shares_of_gpus_and_processors_at_once(nodes: Nodes) -> None:
    """As far as scheduling goes: the node says that it has a GPU, and nothing computes on it."""
    nodes.ask("gpu")
    try:
        command = [sys.executable, "-c", MIXED, nodes.address]
        done = subprocess.run(command, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    finally:
        nodes.ask("remove")
    assert done.returncode == 0, done.stderr
    workers, said = json.loads(done.stdout)
    assert (workers, len(said)) == (4, 30)  # one processor on each
    on_gpus = {node for node, told in said if told == "cuda 99"}
    on_processors = {node for node, told in said if told.split()[0] == "cpu"}
    assert len(on_gpus) == 1
    assert on_processors
    assert on_gpus.isdisjoint(on_processors)
    assert sum(told == "cuda 99" for _, told in said) + sum(told.split()[0] == "cpu" for _, told in said) == 30


def test_a_task_that_always_kills_its_worker_ends_alone(nodes: Nodes, tmp_path: Path) -> None:
    once = f"once {tmp_path / 'mark'}"
    said = engine_said(nodes, *map(str, range(20)), "deadly", once, "raises", "nowhere")
    assert {task: said[task] for task in map(str, range(20))} == {task: task for task in map(str, range(20))}
    assert said["deadly"].startswith("! killed its worker 4 times")
    assert said[once] == once
    assert said["raises"].startswith("! ")
    assert said["nowhere"].count("lacks it") == 3
