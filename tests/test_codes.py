"""Each code beside a reason to be incomplete, provoked: programs decide by it whether another attempt is worth it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from auditor import audit
from auditor.content import Reading
from auditor.errors import AuditorError, ReadError, SourceError, Unread, UsageError, code_of
from auditor.forge import forge
from auditor.gather import Subject
from auditor.reporting.saved import read_report
from auditor.rules import catalogue
from auditor.run import Terms, conduct
from auditor.sources import open_source
from auditor.sources.folder import Folder
from auditor.sources.http import transport
from auditor_schemas.codes import Code
from auditor_schemas.policy import Limits, Policy
from auditor_schemas.report import AuditReport
from tests.servers.hub import Hub
from tests.servers.parts import free_port
from tests.servers.serving import Reply, Request, Server, ranged


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    return tmp_path / "checkpoint"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DEADLINE_S", 0.5)


def codes(report: AuditReport) -> set[str]:
    """The codes of an incomplete report, of which each sentence has one."""
    assert report.verdict == "incomplete"
    assert len(report.incomplete_codes) == len(report.incomplete) > 0
    return set(report.incomplete_codes)


def of_shards(folder: Path, answer: Callable[[Request], Reply]) -> set[str]:
    """The codes of an audit over a server that answers for its shards as told, and well for all else."""

    def answered(request: Request) -> Reply:
        path = request.target.path
        return answer(request) if path.endswith(".safetensors") else ranged(folder / path.lstrip("/"), request)

    with Server(answered) as server:
        return codes(audit(server.url, cache=False))


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (401, {}, "unauthorized"),
        (403, {}, "forbidden"),
        (429, {}, "throttled"),
        (429, {"Retry-After": "3600"}, "throttled"),
        (503, {"Retry-After": "3600"}, "throttled"),
        (503, {}, "unreachable"),
        (500, {}, "unreachable"),
        (501, {}, "unreachable"),
        (400, {}, "unusable"),
        (412, {}, "changed"),
        (302, {"Location": "https://elsewhere.example/x"}, "not_allowed"),
        (302, {"Location": "http://10.0.0.1/x"}, "not_allowed"),
    ],
)
def test_a_status_has_its_code(tiny: Path, status: int, headers: dict[str, str], code: str) -> None:
    assert of_shards(tiny, lambda _: Reply(status, b"", headers)) == {code}


def test_a_page_in_the_place_of_a_shard_is_unusable(tiny: Path) -> None:
    page = b"<!doctype html><html>"
    assert of_shards(tiny, lambda _: Reply(200, page, {"Content-Type": "text/html"})) == {"unusable"}


def test_a_whole_shard_where_a_range_was_asked_is_unusable(tiny: Path) -> None:
    assert of_shards(tiny, lambda _: Reply(200, bytes(200_000))) == {"unusable"}


def test_nobody_there_is_unreachable(tiny: Path) -> None:
    assert codes(audit(f"http://127.0.0.1:{free_port()}/model", cache=False)) == {"unreachable"}
    assert codes(audit("https://no-such-host.invalid/model", cache=False)) == {"unreachable"}


def test_a_header_beyond_the_limit_is_a_limit(tiny: Path) -> None:
    assert codes(audit(tiny, policy=Policy(limits=Limits(header_bytes=100)))) == {"limit"}
    assert codes(audit(tiny, policy=Policy(limits=Limits(config_bytes=100, index_bytes=100)))) == {"limit"}
    assert codes(audit(tiny, policy=Policy(limits=Limits(files=2)))) == {"limit"}
    assert codes(audit(tiny, policy=Policy(limits=Limits(shards=1, tensors=20)))) == {"limit"}


def test_an_interruption_is_a_cancellation(tiny: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    assert codes(audit(tiny, progress=interrupt)) == {"cancelled"}
    assert codes(audit(tiny, depth="full", progress=interrupt)) == {"cancelled"}


def test_a_model_that_no_family_knows_is_unsupported(tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    assert codes(audit(tiny)) == {"unsupported"}
    (tiny / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq", "bits": 4}}))
    assert codes(audit(tiny)) == {"unsupported"}


@pytest.mark.parametrize(("error", "code"), [(ZeroDivisionError(), "crashed"), (MemoryError(), "out_of_memory")])
def test_a_rule_that_crashes_has_crashed_unless_memory_was_short(tiny: Path, monkeypatch, error, code) -> None:
    def crash(inventory: object) -> None:
        del inventory
        raise error

    first, *others = catalogue()
    crashing = first.__class__(rule=first.rule, check=crash, needs=("inventory",))
    monkeypatch.setattr("auditor.run.catalogue", lambda: (crashing, *others))
    assert codes(audit(tiny)) == {code}


class Short(Folder):
    """A folder whose shards take more memory than any machine has, once their headers have been read."""

    opened = 0

    def open(self, path: str):
        self.opened += path.endswith(".safetensors")
        return super().open(path) if self.opened <= 5 else bytearray(1 << 62)


def test_content_that_takes_too_much_memory_says_so(tiny: Path) -> None:
    source = Short(str(tiny), symlinks="follow")
    report = conduct(Subject(source=source, reading=Reading(depth="full")), Terms())[1]
    assert codes(report) == {"out_of_memory"}


def test_a_shard_that_is_gone_when_its_content_is_read_has_changed(tiny: Path) -> None:
    shard = max(tiny.glob("*.safetensors"))
    report = audit(
        tiny,
        depth="full",
        progress=lambda done, total: shard.unlink(missing_ok=True) if done == total else None,
    )
    assert codes(report) == {"changed"}


def test_a_folder_for_finished_work_that_takes_none_is_not_saved(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / "audit.msgpack").mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    report = audit(tiny, depth="full", reading=Reading(depth="full", resume=str(tmp_path / "state")))
    assert codes(report) == {"not_saved"}


# --- audits that end without a report ---


def cause(source: str | Path, **options: object) -> str:
    with pytest.raises(AuditorError) as raised:
        audit(source, cache=False, **options)
    return raised.value.code


def test_what_ends_an_audit_has_a_code(tmp_path: Path, tiny: Path) -> None:
    assert cause(tmp_path / "absent") == "nothing"
    assert cause(tiny / "config.json") == "nothing"
    (tmp_path / "empty").mkdir()
    assert cause(tmp_path / "empty") == "nothing"
    assert cause(tiny, depth="deep") == "usage"
    assert cause("ftp://example.com/x") == "usage"
    assert cause("http://example.com/x") == "not_allowed"


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthorized"), (403, "forbidden"), (404, "not_found"), (500, "unreachable")]
)
def test_a_listing_that_is_refused_has_the_code_of_its_status(monkeypatch, status: int, code: str) -> None:
    with Server(lambda _: Reply(status)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert cause("hf://org/model") == code


def test_a_listing_that_is_none_is_unusable(monkeypatch) -> None:
    with Server(lambda _: Reply(200, b'{"sha": "main"}')) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert cause("hf://org/model") == "unusable"


def test_a_listed_file_that_is_gone_has_changed(monkeypatch, tiny: Path) -> None:
    hub = Hub("org/model", tiny)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.storage_url = "http://127.0.0.1:1"  # nobody listens there
    assert codes(audit("hf://org/model", cache=False)) == {"unreachable"}
    hub.storage_url = hub.storage.url
    source = open_source("hf://org/model", cache=False)
    assert source.entries(100)[1] is None
    shard = min(tiny.glob("*.safetensors"))
    shard.unlink()
    with pytest.raises(ReadError, match="was listed and is not there any more") as raised:
        source.open(shard.name)
    assert raised.value.code == "changed"
    hub.close()


# --- what carries a code ---


def test_an_exception_and_a_sentence_keep_their_code_in_another_process() -> None:
    for error in (ReadError("x", code="throttled"), SourceError("x"), UsageError("x")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.code) == (type(error), str(error), error.code)
    sentence = pickle.loads(pickle.dumps(Unread("x: too long", "limit")))
    assert (sentence, sentence.code) == ("x: too long", "limit")


def test_every_exception_has_a_code_that_a_report_can_have() -> None:
    errors = [SourceError("x"), UsageError("x"), ReadError("x"), MemoryError(), OSError(), ValueError()]
    assert {code_of(error) for error in errors} <= set(get_args(Code))


def test_a_saved_report_may_lack_codes_and_not_have_others_than_sentences(tiny: Path, tmp_path: Path) -> None:
    document = json.loads(audit(tiny, policy=Policy(limits=Limits(header_bytes=100))).model_dump_json())
    path = tmp_path / "report.json"
    for codes_ in (None, [], ["limit"] * len(document["incomplete"])):
        document["incomplete_codes"] = codes_
        if codes_ is None:
            del document["incomplete_codes"]
        path.write_text(json.dumps(document))
        assert read_report(path).incomplete_codes == tuple(codes_ or ())
    document["incomplete_codes"] = ["limit"]
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="it has 1 codes for 5 reasons to be incomplete"):
        read_report(path)
    document["incomplete_codes"] = ["lost"]
    path.write_text(json.dumps(document))
    with pytest.raises(SourceError, match="incomplete_codes"):
        read_report(path)
