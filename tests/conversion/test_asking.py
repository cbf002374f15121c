"""auditor diff --values as people call it: exit codes, outputs, samples, resumed work, what cannot be read."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator

from auditor import cli
from auditor.conversion import Comparing, read
from auditor.conversion.renames import MOST_BYTES, MOST_PATTERNS, Names, Rename
from auditor.errors import UsageError
from auditor.forge import forge
from auditor.forge.convert import nvfp4_export
from auditor.forge.plan import plan
from auditor.forge.write import write
from auditor.questions.diff import compare
from auditor.questions.values import compare_values
from auditor_reports.diff import render
from auditor_schemas.published import SCHEMAS
from tests import kept
from tests.conversion.converted import SCALE, cast, saved, without_quantisation
from tests.servers.serving import folder_server

ONE = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def bf16(tmp_path_factory, codes, config) -> Path:
    return saved(tmp_path_factory.mktemp("cast") / "bf16", cast(codes), without_quantisation(config))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, codes, config) -> Path:
    made = cast(codes, change=lambda name, scale: scale * scale if name == ONE else scale)
    return saved(tmp_path_factory.mktemp("cast") / "damaged", made, without_quantisation(config))


def _asked(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["diff", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_faithful_conversion_exits_0_and_is_named(fp8, bf16, capsys):
    code, out, _ = _asked(capsys, fp8, bf16, "--values")
    assert code == 0
    assert "\nfaithful: NEW is OLD, converted faithfully" in out
    assert "FP8 in 128 × 128 blocks, F32 scales → BF16: FP8 × scale, to the nearest BF16" in out
    assert "config.json" in out
    # Without --values the same two differ, as they always did.
    code, out, _ = _asked(capsys, fp8, bf16)
    assert code == 1
    assert "retyped: 136 tensors" in out
    assert "faithful" not in out


def test_what_is_no_conversion_exits_1_with_the_worst_tensor(fp8, damaged, capsys):
    code, out, _ = _asked(capsys, fp8, damaged, "--values")
    assert code == 1
    assert "unfaithful: NEW is not what a conversion of OLD gives: 1 tensor differs" in out
    assert ONE in out
    assert "scales applied twice" in out


def test_lossy_conversion_exits_0_with_figures(codes, config, tmp_path, capsys):
    wide = cast(codes, torch.float32)
    old = saved(tmp_path / "old", wide, config)
    new = saved(tmp_path / "new", {n: e.bfloat16() if n + SCALE in codes else e for n, e in wide.items()}, config)
    code, out, _ = _asked(capsys, old, new, "--values")
    assert code == 0
    assert "lossy: NEW is OLD within what its format rounds" in out
    assert "root mean square" in out


def test_json_follows_the_schema_and_has_values_only_where_asked(fp8, damaged, tmp_path, capsys):
    for words, there in (((), False), (("--values",), True)):
        target = tmp_path / "diff.json"
        _asked(capsys, fp8, damaged, *words, "--json", target)
        document = json.loads(target.read_text())
        Draft202012Validator(SCHEMAS["diff"]()).validate(document)
        assert ("values" in document) == there
    assert document["values"]["verdict"] == "unfaithful"
    assert document["values"]["tensors"][0]["new"] == ONE
    assert document["values"]["tensors"][0]["first"]["file"].endswith(".safetensors")


def test_page_has_the_verdict_and_every_table_and_acts_on_nothing(fp8, damaged, codes, config, tmp_path, capsys):
    target = tmp_path / "diff.html"
    _asked(capsys, fp8, damaged, "--values", "--html", target)
    page = target.read_text("utf-8")
    assert "<h1>Not what a conversion gives</h1>" in page
    assert "scales applied twice" in page
    assert "Tensors that are not the same, the worst first" in page
    hostile = "<script>alert(1)</script>\x1b[31m"
    made = saved(tmp_path / "hostile", {**cast(codes), hostile: torch.ones(3)}, config)
    diff = compare_values(str(fp8), str(made), Comparing())
    assert "<script>alert" not in render(diff)
    _, out, _ = _asked(capsys, fp8, made, "--values")
    assert "\x1b" not in out


def test_difference_without_values_is_the_same_page_as_ever(fp8, bf16):
    page = render(compare(str(fp8), str(bf16)))
    assert "<h1>They differ</h1>" in page
    assert "Values by relation" not in page


@pytest.mark.parametrize("words", [["--map", "x"], ["--sample-bytes", "1MB"], ["--seed", "1"], ["--resume", "x"]])
def test_options_of_values_need_them(fp8, bf16, words, capsys):
    code, _, err = _asked(capsys, fp8, bf16, *words)
    assert code == 2
    assert "add --values" in err


def test_a_report_has_no_values(fp8, bf16, tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    code, _, err = _asked(capsys, fp8, tmp_path / "report.json", "--values")
    assert code == 2
    assert "NEW is a file" in err


def test_seed_needs_a_sample(fp8, bf16, capsys):
    assert _asked(capsys, fp8, bf16, "--values", "--seed", 3)[0] == 2


# --- samples ---


def test_sample_reads_no_more_than_asked_and_says_its_seed(fp8, bf16, capsys):
    diff = compare_values(str(fp8), str(bf16), Comparing(sample_bytes=4_000_000, seed=5))
    values = diff.values
    assert values.verdict == "faithful"
    assert values.seed == 5
    assert 2_000_000 < values.bytes_read <= 4_000_000
    assert "a sample" in values.conclusion
    code, out, _ = _asked(capsys, fp8, bf16, "--values", "--sample-bytes", "4MB")
    assert code == 0
    assert "seed " in out


def test_same_seed_reads_the_same(fp8, damaged):
    how = [Comparing(sample_bytes=20_000_000, seed=seed) for seed in (1, 1)]
    one, other = (compare_values(str(fp8), str(damaged), each).values for each in how)
    assert one == other
    assert one.verdict == "unfaithful"


def test_sample_that_nothing_fits_into_is_undecided(fp8, bf16):
    values = compare_values(str(fp8), str(bf16), Comparing(sample_bytes=1)).values
    assert values.verdict == "undecided"
    assert values.unread_codes == ("limit",)


def test_sample_does_not_look_for_renamed_tensors_and_says_so(fp8, codes, config, tmp_path):
    made = {name.replace("embed_tokens", "tok"): each for name, each in codes.items()}
    new = str(saved(tmp_path / "new", made, config))
    values = compare_values(str(fp8), new, Comparing(sample_bytes=1_000_000)).values
    assert values.verdict == "undecided"
    assert "may have other names in NEW" in values.unread[0]
    assert compare_values(str(fp8), new, Comparing()).values.verdict == "faithful"


# --- interrupted work ---


def test_finished_files_are_taken_up_again(fp8, bf16, tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    how = Comparing(resume=str(state))
    first = compare_values(str(fp8), str(bf16), how).values
    again = compare_values(str(fp8), str(bf16), how).values
    assert (first.resumed_files, again.resumed_files) == (0, 3)
    assert again.model_copy(update={"resumed_files": 0}) == first


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_changed_file_is_read_again(fp8, bf16, tmp_path, side):
    sides = {"old": Path(shutil.copytree(fp8, tmp_path / "old")), "new": Path(shutil.copytree(bf16, tmp_path / "new"))}
    (tmp_path / "state").mkdir(mode=0o700)
    how = Comparing(resume=str(tmp_path / "state"))
    compare_values(str(sides["old"]), str(sides["new"]), how)
    path = sorted(sides[side].glob("*.safetensors"))[0]
    data = bytearray(path.read_bytes())
    data[-100:] = bytes(reversed(data[-100:]))
    path.write_bytes(data)
    values = compare_values(str(sides["old"]), str(sides["new"]), how).values
    assert values.resumed_files < 3
    assert values.verdict == "unfaithful"


def test_an_edited_result_does_not_count(fp8, damaged, tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    how = Comparing(resume=str(tmp_path / "state"))
    compare_values(str(fp8), str(damaged), how)
    found = []

    def without_difference(values):
        for pair in values["pairs"]:
            found.append(pair["relation"])
            pair["relation"] = "same_values"

    for path in (tmp_path / "state").glob("values-*"):
        kept.changed(path, without_difference)
    assert "different" in found
    values = compare_values(str(fp8), str(damaged), how).values
    assert values.verdict == "unfaithful"


def test_a_state_folder_inside_a_checkpoint_is_refused(fp8, bf16, capsys):
    code, _, err = _asked(capsys, fp8, bf16, "--values", "--resume", bf16 / "state")
    assert code == 2
    assert "lies inside the checkpoint" in err


def test_interruption_keeps_what_is_known_and_is_undecided(fp8, bf16, monkeypatch):
    def interrupted(self, tasks, meanwhile=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("auditor.engine.local.Local.run", interrupted)
    values = compare_values(str(fp8), str(bf16), Comparing()).values
    assert values.verdict == "undecided"
    assert values.unread_codes == ("cancelled",)


# --- what cannot be read ---


def test_a_shard_that_cannot_be_read_is_3(fp8, bf16, tmp_path, capsys):
    new = Path(shutil.copytree(bf16, tmp_path / "new"))
    path = sorted(new.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-1000])
    code, out, _ = _asked(capsys, fp8, new, "--values")
    assert code == 3
    assert "not read: NEW" in out


def test_a_file_that_changes_while_it_is_read_is_3(fp8, bf16, tmp_path, monkeypatch):
    new = Path(shutil.copytree(bf16, tmp_path / "new"))
    path = sorted(new.glob("*.safetensors"))[0]
    compared = read.Comparer.compare
    seen = []

    def changing(self, pair):
        seen.append(pair)
        if len(seen) == 2:  # the file is open
            os.utime(path, ns=(1, 1))
        return compared(self, pair)

    monkeypatch.setattr(read.Comparer, "compare", changing)
    values = compare_values(str(fp8), str(new), Comparing(jobs=1)).values
    assert values.verdict == "undecided"
    assert values.unread_codes == ("changed",)


def test_old_that_lacks_a_shard_is_not_decided_and_new_that_lacks_one_left_it_out(fp8, bf16, tmp_path):
    old, new = Path(shutil.copytree(fp8, tmp_path / "old")), Path(shutil.copytree(bf16, tmp_path / "new"))
    sorted(old.glob("*.safetensors"))[1].unlink()
    assert compare_values(str(old), str(bf16), Comparing()).values.verdict == "undecided"
    sorted(new.glob("*.safetensors"))[1].unlink()
    values = compare_values(str(fp8), str(new), Comparing()).values
    assert values.verdict == "unfaithful"
    assert values.left_out


def test_local_and_remote_sides_mix(fp8, bf16, damaged):
    with folder_server(bf16) as server:
        values = compare_values(str(fp8), server.url, Comparing()).values
    assert values.verdict == "faithful"
    assert values.bytes_read == values.bytes_total
    with folder_server(fp8) as old, folder_server(damaged) as new:
        values = compare_values(old.url, new.url, Comparing()).values
    assert values.verdict == "unfaithful"


def test_an_export_of_4_bits_is_paired_and_not_compared(tmp_path, capsys):
    forge(tmp_path / "fp8", like="tiny", sparse=True)
    export = plan("tiny")
    nvfp4_export(export, lambda name: "self_attn" in name, ["lm_head", "*self_attn*"])
    (tmp_path / "nvfp4").mkdir()
    write(export, tmp_path / "nvfp4", strips=None)
    code, out, _ = _asked(capsys, tmp_path / "fp8", tmp_path / "nvfp4", "--values")
    assert code == 3
    assert "not compared: values of NVFP4 of 111 tensors" in out
    assert "left out" not in out


@pytest.mark.parametrize("name", ["STRIP_BYTES", "_MOST_ROWS"])
def test_what_takes_more_memory_than_it_may_is_compared_by_its_bytes_or_said(fp8, bf16, monkeypatch, name):
    monkeypatch.setattr(f"auditor.conversion.measure.{name}", 100)
    assert compare_values(str(fp8), str(bf16), Comparing()).values.verdict == "undecided"
    assert compare_values(str(bf16), str(bf16), Comparing()).values.verdict == "faithful"


# --- maps ---


def _map(folder: Path, text: str | bytes) -> str:
    path = folder / "map.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no pattern"),
        ("a.b", "is no pattern"),
        ("a => b c", "is no pattern"),
        ("a.*.b => c.b", "1 * on the left and 0 on the right"),
        ("a.**.b => c.**.b", "two * in one part"),
        ("no.such.tensor => other", "line 1: no.such.tensor fits no tensor of OLD"),
        ("model.norm.weight => x\nlm_head.weight => x", "both become 'x'"),
        (b"\xff\xfe => a", "is not UTF-8"),
        (b"# " + b"x" * MOST_BYTES, "more than 1,048,576 bytes"),
        ("\n".join(f"a{n} => b{n}" for n in range(MOST_PATTERNS + 1)), "more than 1,000 patterns"),
    ],
)
def test_a_map_that_cannot_be_one_is_refused_with_its_line(fp8, bf16, tmp_path, text, why):
    path = _map(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        compare_values(str(fp8), str(bf16), Comparing(map=path))
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_map_that_is_no_file_is_refused(fp8, bf16, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="--map"):
            compare_values(str(fp8), str(bf16), Comparing(map=str(path)))


def test_a_map_of_stars_takes_time_in_line_with_its_size():
    renames = [Rename((f"x*{n}",) * 9, ("*",) * 9, n) for n in range(MOST_PATTERNS)]
    names = [".".join(["x" * 100] * 8 + [f"x{n}"]) for n in range(2000)]
    begin = time.monotonic()
    with pytest.raises(UsageError):  # some fits none
        Names(renames, "map").applied(names)
    assert time.monotonic() - begin < 20
