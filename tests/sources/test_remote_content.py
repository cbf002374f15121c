"""Content that lives elsewhere is read as a folder's is: the same report, no more bytes, and nothing half read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import auditor
from auditor.content import Reading
from auditor.errors import ReadError
from auditor.forge import forge
from auditor.sources import open_source
from auditor.sources.http import transport
from auditor.sources.starts import START
from auditor_schemas.report import AuditReport
from tests.places import LISTED, SECRETS, Place, audited, place
from tests.servers.hub import Hub
from tests.servers.proxy import Fault
from tests.servers.serving import Reply, Request, Server, folder_server, ranged

KINDS = ("web", "hub", "s3")
SHARDS = r"\.safetensors(\?|$)"
DEPTHS = ("sample", "full")
SAMPLE = 400_000


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge(tmp_path_factory.mktemp("content") / "tiny").directory


@pytest.fixture(scope="module", params=KINDS)
def there(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(request.param, tmp_path_factory.mktemp(request.param)) as found:
        found.put(tiny)
        yield found


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def options(depth: str) -> list[str]:
    return ["--depth", depth, "--seed", "3", *(["--sample-bytes", str(SAMPLE)] if depth == "sample" else [])]


def reading(depth: str) -> Reading:
    bound = {"sample_bytes": SAMPLE} if depth == "sample" else {}
    return Reading(depth=depth, seed=3, **bound)  # type: ignore[arg-type]


def stable(report: dict, *, lists: bool, declares: bool) -> dict:
    """A report without source and times, what only a listing tells, and what only a store declares."""
    for key in ("started_at", "duration_s", "resumed_shards"):
        del report["run"][key]
    del report["source"]
    unlike = set() if lists else set(LISTED)
    unlike |= {"VAL117"} if declares else set()
    report["outcomes"] = [each for each in report["outcomes"] if each["rule"] not in unlike]
    for each in report["outcomes"] if not lists else ():
        del each["examined"]  # files beside the shards are not seen
    return report


def outcome(report: dict) -> tuple[str, int]:
    """What became of the comparison of digests, and how many were compared."""
    (found,) = [each for each in report["outcomes"] if each["rule"] == "VAL117"]
    return found["outcome"], found["examined"]


@pytest.mark.parametrize("depth", DEPTHS)
def test_report_is_the_one_of_a_folder(depth, there, tiny, monkeypatch, capfd):
    there.hear(monkeypatch)
    code, text, report = audited(there, capfd, *options(depth))
    assert code == 0, text
    assert report is not None
    local = json.loads(auditor.audit(tiny, depth=depth, reading=reading(depth)).model_dump_json())
    declares = there.kind == "hub" and depth == "full"
    assert outcome(report) == (("passed", report["inventory"]["shards"]) if declares else ("not_applicable", 0))
    shapes = {"lists": there.lists, "declares": declares}
    assert stable(report, **shapes) == stable(local, **shapes)


@pytest.mark.parametrize("name", ["nan-codes", "zero-filled-tail"])
def test_damage_is_found_as_in_a_folder(name, there, tiny, monkeypatch, capfd, tmp_path):
    broken = forge(tmp_path / "broken", break_name=name).directory
    there.put(broken)
    try:
        there.hear(monkeypatch)
        code, _, report = audited(there, capfd, *options("full"))
    finally:
        there.put(tiny)
    assert code == 1
    assert report is not None
    local = json.loads(auditor.audit(broken, depth="full", reading=reading("full")).model_dump_json())
    assert report["findings"] == local["findings"]


def test_an_interrupted_spot_check_leaves_what_was_read(there, monkeypatch, capfd):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    there.hear(monkeypatch)
    monkeypatch.setattr("auditor.content.spot.spot_checks", interrupt)
    code, _, report = audited(there, capfd, *options("full"))
    assert code == 3
    assert report is not None
    assert report["incomplete"] == ["cancelled before the functional spot check had ended"]
    assert not report["probes"]["functional"]
    assert report["coverage"]["payload_bytes_read"] == report["inventory"]["payload_bytes"]


# --- digests that a store declares ---


@pytest.fixture
def hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub("org/model", tiny)
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield found
    found.close()


HUB = Place("hub", "hf://org/model", {}, [], lambda _: None, list)


def test_a_shard_that_is_not_the_one_the_hub_declares_is_the_only_root(hub, tiny, monkeypatch, capfd, tmp_path):
    """One code of a block that stays sound: nothing but the digest tells."""
    damaged = Path(shutil.copytree(tiny, tmp_path / "damaged"))
    shard = sorted(damaged.glob("*.safetensors"))[2]
    declared = hashlib.sha256(shard.read_bytes()).hexdigest()
    flip(shard)
    stored = hashlib.sha256(shard.read_bytes()).hexdigest()
    commit = hub.push(damaged)
    real = hub._files

    def files(at: str) -> list[dict[str, object]]:
        found = real(at)
        for each in found:
            if at == commit and each["path"] == shard.name:
                each["lfs"] = {"oid": declared, "size": each["size"], "pointerSize": 135}
        return found

    monkeypatch.setattr(hub, "_files", files)
    code, text, report = audited(HUB, capfd, *options("full"))
    assert code == 1, text
    assert report is not None
    roots = [each for each in report["findings"] if each["caused_by"] is None and each["severity"] != "info"]
    assert [(each["rule"], each["severity"], each["location"]["file"]) for each in roots] == [
        ("VAL117", "error", shard.name)
    ]
    assert (roots[0]["expected"], roots[0]["actual"]) == ({"sha256": declared}, {"sha256": stored})
    assert outcome(report) == ("failed", 5)
    # At other depths nobody has read every byte, and nothing is claimed.
    for more in (options("sample"), [], [*options("full"), "--no-digests"]):
        code, _, report = audited(HUB, capfd, *more)
        assert code == 0
        assert report is not None
        assert outcome(report) == ("not_applicable", 0)


def flip(shard: Path) -> None:
    """Turn the sign of one FP8 code, which no rule about values can object to."""
    data = bytearray(shard.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = min(name for name, each in header.items() if each.get("dtype") == "F8_E4M3")
    begin, end = header[name]["data_offsets"]
    at = next(at for at in range(8 + length + begin, 8 + length + end) if data[at] & 0x7F)
    data[at] ^= 0x80
    shard.write_bytes(data)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_hub_cache_declares_digests_by_the_names_of_its_blobs(damaged, tiny, tmp_path):
    repository = tmp_path / "models--org--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for path in tiny.iterdir():
        kind = "sha256" if path.suffix == ".safetensors" else "sha1"
        blob = repository / "blobs" / hashlib.new(kind, path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(f"../../blobs/{blob.name}")
    shard = min(snapshot.glob("*.safetensors"))
    if damaged:
        flip(shard.resolve())
    report = auditor.audit(snapshot, depth="full", reading=reading("full"))
    roots = [each for each in report.findings if each.caused_by is None and each.severity != "info"]
    assert [(each.rule, each.location.file) for each in roots] == ([("VAL117", shard.name)] if damaged else [])
    assert outcome(report.model_dump(mode="json")) == ("failed" if damaged else "passed", 5)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_folder_that_was_downloaded_into_declares_digests_by_the_clients_notes(damaged, tiny, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    for path in folder.glob("*.safetensors"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        (notes / f"{path.name}.metadata").write_text(f"{'0' * 40}\n{digest}\n1764340000.5\n")
    shard = min(folder.glob("*.safetensors"))
    if damaged:
        flip(shard)
    report = auditor.audit(folder, depth="full", reading=reading("full"))
    roots = [each for each in report.findings if each.caused_by is None and each.severity != "info"]
    assert [(each.rule, each.location.file) for each in roots] == ([("VAL117", shard.name)] if damaged else [])
    assert outcome(report.model_dump(mode="json")) == ("failed" if damaged else "passed", 5)


# --- what is transferred ---


def transferred(requests: list[Request]) -> int:
    """Bytes of shards that were asked for."""
    total = 0
    for request in requests:
        if request.target.path.endswith(".safetensors"):
            begin, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
            total += int(last) + 1 - int(begin)
    return total


def test_a_sample_transfers_what_it_samples_and_the_headers(tmp_path):
    """Shards far larger than what is read ahead, vocabularies of many strips: whatever lies between stays there."""
    wide(tmp_path / "wide")
    with folder_server(tmp_path / "wide") as server:
        report = auditor.audit(
            server.url, depth="sample", reading=Reading(depth="sample", seed=1, sample_bytes=6 << 20)
        )
        read, whole = report.coverage.payload_bytes_read, report.inventory.payload_bytes
        headers = 2 * report.inventory.shards * START  # once for the header audit, once to see that it is the same
        scales = 2 * 4 * report.coverage.blocks_read * 16  # a grid of a weight that is sampled is read whole
        spots = 16 * 128 * 2048  # a strip of one weight of each kind is read again for the functional check
        assert read < whole / 8
        assert transferred(server.requests) <= read + headers + scales + spots


def wide(folder: Path) -> None:
    """A checkpoint of some hundred megabytes whose shards are sparse."""
    from auditor.forge.plan import LIKES, Like

    changes = {
        "num_hidden_layers": 2, "first_k_dense_replace": 1, "n_routed_experts": 4, "n_group": 4, "topk_group": 2,
        "vocab_size": 16_384, "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32,
        "num_key_value_heads": 32, "num_experts_per_tok": 2,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIKES, "wide", Like(config="deepseek-v3", changes=changes, limit=200_000_000, total="payload"))
        forge(folder, like="wide", sparse=True)


def test_a_full_audit_transfers_each_byte_once_beside_headers_and_scales(tiny, tmp_path):
    with folder_server(tiny) as server:
        report = auditor.audit(server.url, depth="full", reading=reading("full"))
        assert report.verdict == "passed"
        files = sum(path.stat().st_size for path in tiny.glob("*.safetensors"))
        headers = 2 * report.inventory.shards * START
        scales = 4 * report.coverage.blocks_read
        assert transferred(server.requests) <= files + headers + scales + (1 << 20)


# --- faults in the middle ---

FAULTS = {
    "reset": (Fault("reset"), "the connection (failed|was closed)"),
    "truncated": (Fault("truncate"), "the answer ended|the connection was closed"),
    "500": (Fault("status", "500"), "HTTP 500"),
    "another ETag": (Fault("etag"), "changed while it was read"),
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_the_middle_is_one_line_and_keeps_the_rest(fault, depth, there, tiny, monkeypatch, capfd):
    """The header audit has been done when the third shard's content fails: the others' content stays judged."""
    there.hear(monkeypatch)
    monkeypatch.setattr(transport, "DEADLINE_S", 1.5)
    what, words = FAULTS[fault]
    victim = sorted(tiny.glob("*.safetensors"))[2].name
    armed = Fault(what.kind, what.value, what.times, re.escape(victim))
    hold_until_headers_are_read(monkeypatch, there, armed)
    code, text, report = audited(there, capfd, *options(depth), "--no-cache")
    assert code == 3, text
    assert report is not None
    assert len(report["incomplete"]) == 1, report["incomplete"]
    (line,) = report["incomplete"]
    assert re.match(rf"{re.escape(victim)}: .*({words})", line), line
    assert "\n" not in line
    assert 0 < report["coverage"]["payload_bytes_read"] < report["inventory"]["payload_bytes"]
    assert report["coverage"]["tensors_read"] > 0


def hold_until_headers_are_read(monkeypatch: pytest.MonkeyPatch, there: Place, fault: Fault) -> None:
    """The fault begins with the reading of content: headers have been audited."""
    from auditor.content import read

    real = read.read_content

    def begin(*args: object, **more: object) -> object:
        there.faults.append(fault)
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(read, "read_content", begin)


def test_passing_fault_in_the_middle_is_mended(there, monkeypatch, capfd):
    there.hear(monkeypatch)
    audited(there, capfd)
    there.faults.append(Fault("truncate", times=2, when=SHARDS))
    there.faults.append(Fault("reset", times=2, when=SHARDS))
    code, text, _ = audited(there, capfd, *options("full"))
    assert code == 0, text


def test_a_finding_of_another_shard_is_kept_beside_a_fault(there, tiny, monkeypatch, capfd, tmp_path):
    broken = forge(tmp_path / "broken", break_name="nan-codes").directory
    (found,) = [each for each in auditor.audit(broken, depth="full").findings if each.rule == "VAL101"]
    victim = max(path.name for path in broken.glob("*.safetensors") if path.name != found.location.file)
    there.put(broken)
    try:
        there.hear(monkeypatch)
        monkeypatch.setattr(transport, "DEADLINE_S", 4.0)
        hold_until_headers_are_read(monkeypatch, there, Fault("status", "500", when=re.escape(victim)))
        code, _, report = audited(there, capfd, *options("full"))
    finally:
        there.put(tiny)
    assert code == 3
    assert report is not None
    assert [line.partition(":")[0] for line in report["incomplete"]] == [victim]
    assert [each["message"] for each in report["findings"] if each["rule"] == "VAL101"] == [found.message]


# --- resumed ---


@pytest.mark.parametrize("depth", DEPTHS)
def test_resumed_audit_reads_no_content_again(depth, there, monkeypatch, capfd, tmp_path):
    """With the cache and without: what the store names its bytes is the same either way."""
    there.hear(monkeypatch)
    state = tmp_path / "state"
    more = [*options(depth), "--resume", str(state)]
    first = audited(there, capfd, *more)[2]
    for way in ([], ["--no-cache"]):
        before = len(there.targets())
        code, text, again = audited(there, capfd, *more, *way)
        assert code == 0, text
        assert first is not None
        assert again is not None
        assert stable(json.loads(json.dumps(again)), lists=True, declares=False) == stable(
            json.loads(json.dumps(first)), lists=True, declares=False
        )
        asked = [target for target in there.targets()[before:] if re.search(SHARDS, target)]
        per_shard = 2 if there.kind == "hub" else 1  # its address, then its storage
        beside = 0 if there.lists else 1  # model.safetensors, which a loader would take first
        assert len(asked) <= per_shard * again["inventory"]["shards"] + beside  # headers, none of it content
    kept = b"".join(path.read_bytes() for path in state.iterdir())
    assert not [secret for secret in SECRETS if secret.encode() in kept]


def test_a_shard_that_another_has_replaced_is_read_again(there, tiny, monkeypatch, capfd, tmp_path):
    """Of the same length, with the same header: the store's name for its bytes tells."""
    there.hear(monkeypatch)
    more = [*options("full"), "--resume", str(tmp_path / "state")]
    assert audited(there, capfd, *more)[0] == 0
    changed = Path(shutil.copytree(tiny, tmp_path / "changed"))
    shard = sorted(changed.glob("*.safetensors"))[2]
    flip(shard)
    os.utime(shard, (1_800_000_000, 1_800_000_000))  # nginx makes its ETag of size and second
    there.put(changed)
    try:
        report = audited(there, capfd, *more)[2]
    finally:
        there.put(tiny)
    assert report is not None
    digests = {each["file"]: each["sha256"] for each in report["content_digest"]["shards"]}
    assert digests[shard.name] == hashlib.sha256(shard.read_bytes()).hexdigest()


def test_what_a_server_does_not_name_is_not_taken_up_again(tiny, tmp_path):
    """Without an ETag nobody knows whether the bytes are still those."""

    def answer(request: Request) -> Reply:
        reply = ranged(tiny / request.target.path.lstrip("/"), request)
        reply.headers.pop("ETag", None)
        return reply

    with Server(answer) as server:
        resumed = Reading(depth="full", seed=3, resume=str(tmp_path / "state"))
        first = auditor.audit(server.url, depth="full", reading=resumed)
        assert first.verdict == "passed"
        server.requests.clear()
        again = auditor.audit(server.url, depth="full", reading=resumed)
        files = sum(path.stat().st_size for path in tiny.glob("*.safetensors"))
        assert transferred(server.requests) > files
        assert same_content(first, again)


def same_content(one: AuditReport, other: AuditReport) -> bool:
    return (one.probes, one.content_digest, one.findings) == (other.probes, other.content_digest, other.findings)


# --- a file by itself ---


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    (tmp_path / "files").mkdir()
    content = os.urandom(40 << 20)
    (tmp_path / "files" / "data.bin").write_bytes(content)
    return content


def test_expected_bytes_are_handed_over_in_any_portions_and_fetched_once(data, tmp_path):
    with folder_server(tmp_path / "files") as server:
        source = open_source(server.url, cache=False)
        file = source.open("data.bin")
        file.expect([(200_000, 210_000), (1 << 20, 11 << 20), (20 << 20, 20 << 20), (39 << 20, 50 << 20)])
        portions = [(200_000, 201_000), (201_000, 209_999), (1 << 20, 6 << 20), (6 << 20, 12 << 20)]
        portions += [(30 << 20, (30 << 20) + 5000), (39 << 20, 40 << 20)]
        for begin, end in portions:
            buffer = bytearray(end - begin)
            file.read_into(begin, memoryview(buffer))
            assert buffer == data[begin:end]
        assert file.read(38 << 20, (39 << 20) + 5) == data[38 << 20 : (39 << 20) + 5]
        spans = [_span(request) for request in server.requests[1:]]
        assert sum(end - begin for begin, end in spans) <= sum(end - begin for begin, end in portions) + (1 << 20) + 20
        file.close()
        source.close()


def _span(request: Request) -> tuple[int, int]:
    begin, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(begin), int(last) + 1


def test_what_is_expected_of_all_files_is_bounded_and_given_back(data, tmp_path, monkeypatch):
    from auditor.sources import remote

    monkeypatch.setattr(remote, "_EXPECTED", 16 << 20)
    with folder_server(tmp_path / "files") as server:
        source = open_source(server.url, cache=False)
        files = [source.open("data.bin") for _ in range(3)]
        for file in files:
            file.expect([(0, len(data))])
            assert source._expected <= 16 << 20  # type: ignore[attr-defined]
        for file in files:
            assert file.read(0, len(data)) == data
            file.close()
        assert source._expected == 0  # type: ignore[attr-defined]
        source.close()


def test_error_of_an_expected_range_is_told_to_who_reads_it_and_to_nobody_else(data, tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 0.3)
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def answer(request: Request) -> Reply:
        if "range" in request.headers and _span(request)[0] >= 8 << 20:
            return Reply(403)
        return ranged(tmp_path / "files" / "data.bin", request)

    with Server(answer) as server:
        source = open_source(server.url, cache=False)
        file = source.open("data.bin")
        file.expect([(1 << 20, 2 << 20), (8 << 20, 9 << 20)])
        assert file.read(1 << 20, 2 << 20) == data[1 << 20 : 2 << 20]
        with pytest.raises(ReadError, match=r"^data\.bin: access is denied"):
            file.read(8 << 20, 9 << 20)
        file.expect([(8 << 20, 9 << 20)])
        file.close()  # with one under way that nobody will read
        source.close()
    assert told == []


def test_closing_the_source_leaves_nobody_waiting(data, tmp_path):
    with folder_server(tmp_path / "files") as server:
        source = open_source(server.url, cache=False)
        file = source.open("data.bin")
        file.expect([(begin, begin + 1000) for begin in range(1 << 20, 30 << 20, 1 << 17)])
        source.close()
        done = threading.Event()

        def read() -> None:
            for begin in range(1 << 20, 30 << 20, 1 << 17):
                try:
                    assert file.read(begin, begin + 1000) == data[begin : begin + 1000]
                except ReadError as error:
                    assert "the audit has ended" in str(error)  # noqa: PT017  # either may be
            done.set()

        threading.Thread(target=read, daemon=True).start()
        assert done.wait(20)
