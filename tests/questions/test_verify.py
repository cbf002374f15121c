"""auditor verify: what is about to be released is what was audited, and it passed."""

import hashlib
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.forge import forge
from auditor_schemas.content import ContentDigest, ShardDigest
from auditor_schemas.report import AuditReport


@pytest.fixture
def sound(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny")
    return tmp_path / "checkpoint"


def _saved(folder: Path, checkpoint: Path, **changes: object) -> Path:
    report = audit(checkpoint)
    (folder / "report.json").write_text(report.model_copy(update=changes).model_dump_json())
    return folder / "report.json"


def _content(checkpoint: Path) -> ContentDigest:
    shards = tuple(
        ShardDigest(file=path.name, bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(checkpoint.glob("*.safetensors"))
    )
    return ContentDigest(sha256="0" * 64, shards=shards, tensors=())


def _verify(capsys, *arguments: object) -> tuple[int, str]:
    code = cli.main(["verify", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out + err


def _flip_last_byte(checkpoint: Path) -> Path:
    """Damage that no header shows."""
    shard = sorted(checkpoint.glob("*.safetensors"))[2]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    return shard


def test_what_was_audited_and_passed_exits_0_and_says_what_was_not_compared(sound, tmp_path, capsys):
    code, out = _verify(capsys, _saved(tmp_path, sound), sound)
    assert code == 0
    assert f"passed at depth headers, fingerprint {audit(sound).source.fingerprint}" in out
    assert "not compared: tensor data, of which depth headers keeps no digests" in out
    assert "not compared: other files" in out


@pytest.mark.parametrize("changed", ["config.json", "model.safetensors.index.json", "shard"])
def test_any_change_of_config_index_or_header_exits_1(sound, tmp_path, capsys, changed):
    report = _saved(tmp_path, sound)
    path = sorted(sound.glob("*.safetensors"))[0] if changed == "shard" else sound / changed
    path.write_bytes(path.read_bytes() + b" ")
    code, out = _verify(capsys, report, sound)
    assert code == 1
    assert "is not what was audited" in out


def test_audit_that_failed_is_no_leave_to_release(tmp_path, capsys):
    forge(tmp_path / "broken", like="tiny", sparse=True, break_name="missing-block-scale")
    code, out = _verify(capsys, _saved(tmp_path, tmp_path / "broken"), tmp_path / "broken")
    assert (code, "is what was audited, and that failed" in out) == (1, True)


def test_fingerprint_that_the_audit_handed_on_outranks_the_report(sound, tmp_path, capsys):
    """Who can replace the report beside the checkpoint cannot replace the output of the audit's job."""
    report = _saved(tmp_path, sound)
    right = audit(sound).source.fingerprint
    assert _verify(capsys, report, sound, "--fingerprint", right)[0] == 0
    for wrong in ("0" * 64, "", right.upper()):
        code, out = _verify(capsys, report, sound, "--fingerprint", wrong)
        assert (code, "is not the report of the audit that was pinned" in out) == (1, True)


def test_digests_of_a_full_audit_see_a_changed_byte(sound, tmp_path, capsys):
    report = _saved(tmp_path, sound, content_digest=_content(sound))
    code, out = _verify(capsys, report, sound)
    assert (code, "compared: every byte of" in out) == (0, True)
    shard = _flip_last_byte(sound)
    code, out = _verify(capsys, report, sound)
    assert (code, f"{shard.name}: SHA-256" in out) == (1, True)
    code, out = _verify(capsys, report, sound, "--no-digests")
    assert (code, "not compared: tensor data, by --no-digests" in out) == (0, True)


def test_full_audit_keeps_what_verify_reads_again(sound, tmp_path, capsys):
    (tmp_path / "report.json").write_text(audit(sound, depth="full").model_dump_json())
    assert _verify(capsys, tmp_path / "report.json", sound)[0] == 0
    _flip_last_byte(sound)
    assert _verify(capsys, tmp_path / "report.json", sound)[0] == 1


def test_digests_that_cover_not_every_shard_are_no_proof(sound, tmp_path, capsys):
    content = _content(sound)
    short = content.model_copy(update={"shards": content.shards[1:]})
    code, out = _verify(capsys, _saved(tmp_path, sound, content_digest=short), sound)
    assert (code, "has no SHA-256 of" in out) == (1, True)


def test_headers_alone_do_not_see_a_changed_byte_and_do_not_claim_to(sound, tmp_path, capsys):
    report = _saved(tmp_path, sound)
    _flip_last_byte(sound)
    code, out = _verify(capsys, report, sound)
    assert (code, "not compared: tensor data" in out) == (0, True)


def test_mirror_in_another_place_is_what_was_audited(sound, tmp_path, capsys):
    forge(tmp_path / "mirror", like="tiny")
    assert _verify(capsys, _saved(tmp_path, sound), tmp_path / "mirror")[0] == 0


def test_revisions_are_shown_where_either_is_known(sound, tmp_path, capsys):
    report = AuditReport.model_validate_json(_saved(tmp_path, sound).read_text())
    source = report.source.model_copy(update={"revision": "abc123"})
    (tmp_path / "report.json").write_text(report.model_copy(update={"source": source}).model_dump_json())
    assert "revision  abc123 audited, none here" in _verify(capsys, tmp_path / "report.json", sound)[1]


def test_what_cannot_be_read_exits_3(sound, tmp_path, capsys):
    report = _saved(tmp_path, sound)
    assert _verify(capsys, report, tmp_path / "absent")[0] == 3
    assert _verify(capsys, tmp_path / "absent.json", sound)[0] == 3
