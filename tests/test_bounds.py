"""What a checkpoint's files can make long is counted before it is paid for, and each limit says that it was reached."""

import json
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.forge import forge
from auditor.questions.diff import compare
from auditor.verdict.gate import EXIT_CODES
from auditor_schemas.policy import Limits, Policy

INDEX = "model.safetensors.index.json"


def entry(begin: int, end: int) -> str:
    return f'{{"dtype":"U8","shape":[{end - begin}],"data_offsets":[{begin},{end}]}}'


def write(path: Path, entries: dict[str, str], payload: int) -> None:
    raw = ("{" + ",".join(f'"{name}":{each}' for name, each in entries.items()) + "}").encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(payload))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound config.json without shards."""
    forge(tmp_path / "forged", like="tiny", sparse=True)
    made = tmp_path / "checkpoint"
    made.mkdir()
    (tmp_path / "forged" / "config.json").rename(made / "config.json")
    return made


def found(folder: Path, rule: str, **limits: int) -> list:
    report = audit(folder, policy=Policy(limits=Limits(**limits)))
    return [each for each in report.findings if each.rule == rule]


def test_ten_thousand_tensors_at_one_place_are_one_finding(folder):
    write(folder / "model.safetensors", {f"t{n}": entry(0, 1) for n in range(10_000)}, 1)
    (finding,) = found(folder, "HDR108")
    assert finding.message.endswith("; and 9,998 more alike in this file")
    assert finding.location.tensor == "t1"
    assert {"t0", "t9999"} <= set(finding.affected)


def test_ten_thousand_entries_without_anything_are_one_finding_and_count_as_tensors(folder):
    write(folder / "model.safetensors", {f"t{n}": "{}" for n in range(10_000)}, 0)
    (finding,) = found(folder, "HDR105")
    assert finding.message == "dtype and shape and data_offsets are missing; and 9,999 more alike in this file"
    report = audit(folder, policy=Policy(limits=Limits(tensors=9_000)))
    assert report.verdict == "incomplete"
    assert report.incomplete == ("1 of 1 shards have 10,000 tensors, limit 9,000 (tensors)",)


def test_shards_wrong_alike_are_one_finding_of_all_of_them(folder):
    for number in range(40):
        write(folder / f"m{number}.safetensors", {f"t{number}": entry(number + 1, number + 2)}, number + 2)
    (finding,) = found(folder, "HDR109")
    assert finding.count == 40
    for number in range(40):
        (folder / f"m{number}.safetensors").write_bytes((number + 100).to_bytes(8, "little") + b"{" * (number + 9))
    (finding,) = found(folder, "HDR102")
    assert finding.count == 40


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"tensors": 299}, "3 of 4 shards have 300 tensors, limit 299 (tensors)"),
        (
            {"header_bytes_in_all": 20_000},
            "4 of 4 shards have 22,732 bytes of headers, limit 20,000 (header_bytes_in_all)",
        ),
        (
            {"name_bytes_in_all": 1_200},
            "4 of 4 shards have 1,600 bytes of tensor names, limit 1,200 (name_bytes_in_all)",
        ),
    ],
    ids=["tensors", "headers", "names"],
)
def test_a_limit_on_all_headers_together_ends_the_reading_and_is_named(folder, limits, says):
    for number in range(4):
        names = [f"{number}.{n:02}" for n in range(100)]
        write(folder / f"m{number}.safetensors", {name: entry(n, n + 1) for n, name in enumerate(names)}, 100)
    assert audit(folder).incomplete == ()
    report = audit(folder, policy=Policy(limits=Limits(**limits)))
    assert EXIT_CODES[report.verdict] == 3
    assert report.incomplete[0] == says


def test_headers_that_are_read_value_by_value_are_bounded_together(folder):
    for number in range(4):
        names = [f"{number}.{n}" for n in range(100)]
        entries = {"__metadata__": "null"} | {name: entry(n, n + 1) for n, name in enumerate(names)}
        write(folder / f"m{number}.safetensors", entries, 100)
    assert audit(folder, policy=Policy(limits=Limits(json_values_in_all=4_000))).incomplete == ()
    report = audit(folder, policy=Policy(limits=Limits(json_values_in_all=2_000)))
    assert report.incomplete[0] == (
        "3 of 4 shards have 2,106 values in headers of unusual form, limit 2,000 (json_values_in_all)"
    )


def test_an_index_of_more_entries_than_tensors_may_be_is_not_read(folder):
    (folder / INDEX).write_text(json.dumps({"weight_map": {f"t{n}": "m.safetensors" for n in range(100)}}))
    report = audit(folder, policy=Policy(limits=Limits(tensors=99)))
    assert EXIT_CODES[report.verdict] == 3
    assert report.incomplete[0].startswith(f"{INDEX}: more than 99 entries (tensors)")


def test_a_tensor_in_two_shards_exits_1(tmp_path, capsys):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="duplicate-tensor")
    (finding,) = [each for each in audit(tmp_path / "checkpoint").findings if each.rule == "IDX109"]
    assert cli.main(["tensor", str(tmp_path / "checkpoint"), finding.affected[0]]) == 1
    assert capsys.readouterr().out.count("  stored ") == 2


def test_an_index_of_another_name_is_named_where_the_index_is_missing(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="consolidated-index")
    (finding,) = [each for each in audit(tmp_path / "checkpoint").findings if each.rule == "IDX101"]
    assert "; 'consolidated.safetensors.index.json' is, " in finding.message


def test_a_tensor_that_changed_shape_and_dtype_is_listed_once(tmp_path):
    for name, dtype, size in (("old", "F32", 16), ("new", "BF16", 4)):
        forge(tmp_path / name, like="tiny", sparse=True)
        each = f'{{"dtype":"{dtype}","shape":[{size // 4},{1 if dtype == "F32" else 2}],"data_offsets":[0,{size}]}}'
        write(tmp_path / name / "extra.safetensors", {"extra": each}, size)
        (tmp_path / name / INDEX).unlink()
    diff = compare(str(tmp_path / "old"), str(tmp_path / "new"))
    assert [change.patterns for change in diff.reshaped] == [("extra",)]
    assert diff.retyped == ()


def test_a_shards_name_is_shown_whole_in_a_message(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    index = json.loads((tmp_path / "checkpoint" / INDEX).read_text())
    names = list(index["weight_map"])
    index["weight_map"][names[0]], index["weight_map"][names[-1]] = (
        index["weight_map"][names[-1]],
        index["weight_map"][names[0]],
    )
    (tmp_path / "checkpoint" / INDEX).write_text(json.dumps(index))
    findings = [each for each in audit(tmp_path / "checkpoint").findings if each.rule == "IDX108"]
    assert findings
    assert all(".safetensors', the tensor is in 'model-" in each.message for each in findings)


@pytest.mark.parametrize("spelling", ["./{}", ".\\{}", "{}/", ".//{}"])
def test_paths_spelled_otherwise_are_one_finding_and_the_shards_are_read(tmp_path, spelling):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    index = json.loads((tmp_path / "checkpoint" / INDEX).read_text())
    index["weight_map"] = {name: spelling.format(path) for name, path in index["weight_map"].items()}
    (tmp_path / "checkpoint" / INDEX).write_text(json.dumps(index))
    report = audit(tmp_path / "checkpoint")
    roots = [each for each in report.findings if each.caused_by is None and each.severity != "info"]
    assert [each.rule for each in roots] == ["IDX104"]
    assert "', the plain path" in roots[0].message
    assert report.coverage.headers_read == report.coverage.shards


def test_elements_packed_in_bytes_are_read_whole_and_contradict_the_config_alone(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", break_name="packed-dtype")
    report = audit(tmp_path / "checkpoint", depth="full")
    roots = [each for each in report.findings if each.caused_by is None and each.severity == "error"]
    assert [(each.rule, each.count) for each in roots] == [("SHP102", 1)]
    assert report.incomplete == ()
    assert report.coverage.payload_bytes_read == report.inventory.payload_bytes


def test_layers_that_the_map_has_no_room_for_are_counted(folder):
    names = [f"model.layers.{3 * n}.eh_proj.weight" for n in range(50_500)]
    write(folder / "model.safetensors", {name: entry(0, 0) for name in names}, 0)
    report = audit(folder)
    (finding,) = [each for each in report.findings if each.rule == "MTP102"]
    assert finding.count > 50_400
    assert len(report.cells) == 50_000
    assert report.left_out["cells"] > 500
