"""Which files a loader would take, and what copying and downloading left between them: one finding for each cause."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from msgspec import structs

from auditor import audit
from auditor.errors import SourceError
from auditor.forge import forge, plan_of
from auditor.forge.plan import Shard, number
from auditor.forge.write import header_bytes, write
from auditor_schemas.policy import Limits, Policy

INDEX = "model.safetensors.index.json"
APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ".ljust(4096, b"\x00")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 7847602\n"


@pytest.fixture
def tiny(tmp_path) -> Path:
    forge(tmp_path / "tiny", like="tiny", sparse=True)
    return tmp_path / "tiny"


def roots(folder: Path, **options) -> list[tuple[str, str]]:
    return [(each.rule, each.severity.value) for each in _roots(folder, **options)]


def _roots(folder: Path, **options):
    return [each for each in audit(folder, **options).findings if each.caused_by is None and each.severity != "info"]


def only(folder: Path):
    """The one finding that there is."""
    found = _roots(folder)
    assert len(found) == 1, [(each.rule, each.message) for each in found]
    return found[0]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def change_config(folder: Path, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change_index(folder: Path, change) -> None:
    path = folder / INDEX
    index = json.loads(path.read_text())
    index["weight_map"] = {name: change(file) for name, file in index["weight_map"].items()}
    path.write_text(json.dumps(index))


# --- what a loader takes first


def test_a_single_file_beside_the_index_is_an_error_that_says_who_loads_it(tiny):
    shutil.copy(shards(tiny)[0], tiny / "model.safetensors")
    found = only(tiny)
    assert (found.rule, found.severity, found.location.file) == ("FIL101", "error", "model.safetensors")
    assert "transformers loads it alone" in found.message


def test_a_single_file_that_the_index_names_beside_others_is_loaded_alone_as_well(tiny):
    first = shards(tiny)[0]
    first.rename(tiny / "model.safetensors")
    change_index(tiny, lambda file: "model.safetensors" if file == first.name else file)
    assert ("FIL101", "error") in roots(tiny)


@pytest.mark.parametrize("value", [INDEX, None])
def test_transformers_weights_may_name_what_is_audited(tiny, value):
    change_config(tiny, transformers_weights=value)
    assert roots(tiny) == []


@pytest.mark.parametrize("value", ["other.safetensors", "other.safetensors.index.json", "model.bin", 7, ""])
def test_transformers_weights_that_names_anything_else_is_an_error(tiny, value):
    change_config(tiny, transformers_weights=value)
    found = only(tiny)
    assert (found.rule, found.severity, found.location.field) == ("FIL102", "error", "transformers_weights")


@pytest.mark.parametrize("names", [["consolidated.safetensors"], ["consolidated-00001-of-00002.safetensors"]])
def test_consolidated_weights_beside_the_shards_are_an_error_that_names_vllm(tiny, names):
    for name in names:
        shutil.copy(shards(tiny)[0], tiny / name)
    found = only(tiny)
    assert (found.rule, found.severity) == ("FIL103", "error")
    assert "vLLM" in found.message


def test_without_an_index_consolidated_weights_beside_a_single_file_are_the_same_error(tiny):
    _merge(tiny)
    shutil.copy(tiny / "model.safetensors", tiny / "consolidated.safetensors")
    assert only(tiny).rule == "FIL103"


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "pytorch_model.bin.index.json"]
)
def test_weights_of_pytorchs_format_are_a_warning(tiny, name):
    (tiny / name).write_bytes(b"PK\x03\x04")
    found = only(tiny)
    assert (found.rule, found.severity) == ("FIL104", "warning")


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "rng_state_0.pth", "scheduler.pt"])
def test_what_trainers_leave_is_no_second_set_of_weights(tiny, name):
    (tiny / name).write_bytes(b"PK\x03\x04")
    assert roots(tiny) == []


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin", None])
def test_an_adapter_is_one_warning(tiny, weights):
    (tiny / "adapter_config.json").write_text('{"base_model_name_or_path": "org/name"}')
    if weights is not None:
        (tiny / weights).write_bytes(b"".join((len(b"{}").to_bytes(8, "little"), b"{}")))
    found = only(tiny)
    assert (found.rule, found.severity) == ("FIL105", "warning")
    assert "AutoModel" in found.message


def test_weights_in_subfolders_that_nothing_names_are_not_looked_at(tiny):
    (tiny / "original").mkdir()
    shutil.copy(shards(tiny)[0], tiny / "original" / "consolidated.safetensors")
    (tiny / "original" / "consolidated.00.pth").write_bytes(b"PK")
    assert roots(tiny) == []


def test_shards_without_their_suffix_are_one_error_though_all_else_agrees(tiny):
    for shard in shards(tiny):
        shard.rename(shard.with_suffix(""))
    change_index(tiny, lambda file: file.removesuffix(".safetensors"))
    found = only(tiny)
    assert (found.rule, found.severity, found.count) == ("FIL106", "error", 5)
    assert "pickle" in found.message


# --- sets of files


def test_two_splits_of_the_same_weights_are_one_finding_with_the_number_of_files(tmp_path):
    plan = plan_of("tiny")
    tensors = list(plan.tensors())
    again = [Shard("", tensors[begin : begin + 40]) for begin in range(0, len(tensors), 40)]
    number(again)
    plan.strays += again
    (tmp_path / "c").mkdir()
    write(plan, tmp_path / "c", strips=None)
    found = only(tmp_path / "c")
    assert (found.rule, found.severity) == ("FIL107", "error")
    assert f"{len(again)} files" in found.message
    assert "TensorRT-LLM" in found.message


def test_a_second_series_of_another_stem_is_one_by_its_tensors(tiny):
    for position, shard in enumerate(shards(tiny)[:2], 1):
        shutil.copy(shard, tiny / f"checkpoint-{position}-of-2.safetensors")
    assert only(tiny).rule == "FIL107"


def test_two_splits_without_an_index_are_the_missing_index_and_the_second_series(tmp_path):
    forge(tmp_path / "c", like="tiny", sparse=True, break_name="second-series")
    (tmp_path / "c" / INDEX).unlink()
    assert sorted(roots(tmp_path / "c")) == [("FIL107", "error"), ("IDX101", "error")]


def test_numbered_files_of_other_tensors_are_strays(tiny):
    (tiny / "adapter-00001-of-00001.safetensors").write_bytes(len(b"{}").to_bytes(8, "little") + b"{}")
    assert roots(tiny) == [("IDX105", "warning")]


def test_apple_double_files_are_one_warning(tiny):
    for shard in shards(tiny):
        (tiny / f"._{shard.name}").write_bytes(APPLE)
    (tiny / "._config.json").write_bytes(APPLE)
    found = only(tiny)
    assert (found.rule, found.severity, found.count) == ("FIL108", "warning", 5)
    assert "AppleDouble" in found.message


def test_apple_double_beside_a_single_file_is_one_warning_too(tiny):
    _merge(tiny)
    (tiny / "._model.safetensors").write_bytes(APPLE)
    assert roots(tiny) == [("FIL108", "warning")]


@pytest.mark.parametrize("data", [b"", b"\x00" * 4096, POINTER, b"<html>", b"\xff" * 64])
def test_damage_in_a_stray_file_is_the_strays_warning(tiny, data):
    (tiny / "adapter.safetensors").write_bytes(data)
    found = only(tiny)
    assert (found.rule, found.severity) == ("IDX105", "warning")
    assert "damaged" in found.message


def test_a_directory_called_like_a_shard_that_nothing_names_is_a_stray(tiny):
    (tiny / "extra.safetensors").mkdir()
    found = only(tiny)
    assert (found.rule, found.severity) == ("IDX105", "warning")
    assert "is a directory" in found.message


def test_a_file_beside_a_single_one_is_a_stray_and_no_second_shard(tiny):
    _merge(tiny)
    (tiny / "adapter.safetensors").write_bytes(len(b"{}").to_bytes(8, "little") + b"{}")
    assert roots(tiny) == [("IDX105", "warning")]


def test_shards_that_lack_most_of_their_series_and_the_index_are_one_error(tiny):
    for path in (*shards(tiny)[1:], tiny / INDEX):
        path.unlink()
    found = only(tiny)
    assert (found.rule, found.severity) == ("IDX114", "error")
    assert found.message.startswith("4 of the 5 shards that the names count are missing")
    assert (found.expected, found.actual) == (5, 1)


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("renamed", [True, False])
@pytest.mark.parametrize(
    "beside", [(), ("model.embed_tokens.weight",), ("model.embed_tokens.weight", "lm_head.weight")]
)
def test_an_mtp_module_alone_is_one_error_that_says_so(tmp_path, indexed, renamed, beside):
    """Some exports hold the main model's embedding and head beside it."""
    plan = plan_of("tiny")
    own = f"model.layers.{plan.mtp_layers[0]}."
    kept = [each for each in plan.tensors() if each.name.startswith(own) or each.name in beside]
    raw, size = header_bytes(Shard("", kept))
    raw = raw.replace(own.encode(), b"model.layers.0.") if renamed else raw
    folder = tmp_path / "c"
    forge(folder, like="tiny", sparse=True)
    for path in shards(folder):
        path.unlink()
    with open(folder / "nextn_layer_parameters.safetensors", "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + size)
    if not indexed:
        (folder / INDEX).unlink()
    change_config(folder, architectures=["DeepseekV3ForCausalLMNextN"], num_hidden_layers=1, first_k_dense_replace=0)
    found = only(folder)
    assert (found.rule, found.severity) == ("IDX115", "error")
    assert "MTP" in found.message
    assert ("none of the 5 files that the index names is there" in found.message) == indexed


def _kept_alone(folder: Path, wanted: str, name: str, change=lambda tensor: tensor) -> None:
    """The folder's shards replaced by one file that holds the tensors whose names begin so; the index goes."""
    kept = [change(each) for each in plan_of("tiny").tensors() if each.name.startswith(wanted)]
    for path in (*shards(folder), folder / INDEX):
        path.unlink()
    raw, size = header_bytes(Shard("", kept))
    with open(folder / name, "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + size)


def test_an_mtp_module_alone_that_is_called_model_safetensors_is_that_one_error(tiny):
    index = (tiny / INDEX).read_bytes()
    _kept_alone(tiny, "model.layers.4.", "model.safetensors")
    (tiny / INDEX).write_bytes(index)
    assert only(tiny).rule == "IDX115"


def test_an_mtp_module_alone_with_an_index_of_its_own_is_one_error(tiny):
    _kept_alone(tiny, "model.layers.4.", "model-00001-of-000001.safetensors")
    names = [each.name for each in plan_of("tiny").tensors() if each.name.startswith("model.layers.4.")]
    (tiny / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "model-00001-of-000001.safetensors")}))
    assert only(tiny).rule == "IDX115"


def test_the_last_shard_of_a_series_alone_is_no_export_of_the_mtp_module_in_it(tiny):
    for path in (*shards(tiny)[:-1], tiny / INDEX):
        path.unlink()
    assert only(tiny).rule == "IDX114"


def test_the_last_shard_alone_beside_the_whole_index_is_no_export_either(tiny):
    for path in shards(tiny)[:-1]:
        path.unlink()
    assert only(tiny).rule == "IDX103"


@pytest.mark.parametrize("prefix", ["language_model.", "module."])
def test_a_wrapped_model_in_a_single_file_is_no_export(tiny, prefix):
    _kept_alone(tiny, "", "model.safetensors", lambda tensor: structs.replace(tensor, name=prefix + tensor.name))
    assert only(tiny).rule == "NAM104"


def test_a_single_file_that_the_index_names_in_another_spelling_is_told_by_the_spelling(tiny):
    _merge(tiny)
    names = [each.name for each in plan_of("tiny").tensors()]
    (tiny / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "./model.safetensors")}))
    assert only(tiny).rule == "IDX104"


# --- what copying left


def test_a_snapshot_that_lost_its_blobs_is_one_error_with_where_its_links_lead(tiny):
    (tiny / "tokenizer.json").write_text("{}")
    files = sorted(tiny.iterdir())
    for path in files:
        path.unlink()
        path.symlink_to(f"../../blobs/{path.stem}")
    found = only(tiny)
    assert (found.rule, found.severity, found.count) == ("FIL109", "error", len(files))
    assert (
        f"{len(files)} symlinks of {len(files)} files lead nowhere, the first to '../../blobs/config'" in found.message
    )


def test_a_broken_link_by_an_absolute_path_shows_its_last_component_alone(tiny):
    shard = shards(tiny)[0]
    shard.unlink()
    shard.symlink_to("/home/somebody/secret/blob")
    found = only(tiny)
    assert "ends with 'blob'" in found.message
    assert "somebody" not in found.model_dump_json()


def test_shards_that_are_broken_links_without_an_index_are_one_error(tiny):
    (tiny / INDEX).unlink()
    for shard in shards(tiny):
        shard.unlink()
        shard.symlink_to("gone")
    assert only(tiny).rule == "FIL109"


def test_only_a_broken_tokenizer_is_a_warning(tiny):
    (tiny / "tokenizer.json").symlink_to("gone")
    found = only(tiny)
    assert (found.rule, found.severity) == ("FIL112", "warning")


def test_names_that_differ_in_case_are_one_error(tiny):
    for shard in shards(tiny):
        shard.rename(tiny / shard.name.capitalize())
    found = only(tiny)
    assert (found.rule, found.severity, found.count) == ("FIL110", "error", 5)
    assert found.message == "is there as 'Model-00001-of-000005.safetensors', which differs in case"


def test_names_that_differ_in_unicode_normalisation_are_one_error(tiny):
    for shard in shards(tiny):
        shard.rename(tiny / unicodedata.normalize("NFD", shard.name.replace("model", "modèle")))
    change_index(tiny, lambda file: unicodedata.normalize("NFC", file.replace("model", "modèle")))
    found = only(tiny)
    assert found.rule == "FIL110"
    assert "differs in Unicode normalisation" in found.message


@pytest.mark.parametrize(
    ("spelled", "difference"), [("weights/{}", "its folder"), ("{} ", "white space"), ("Weights/{}", "its folder")]
)
def test_shards_that_the_index_has_in_a_folder_or_with_a_blank_are_one_error(tiny, spelled, difference):
    change_index(tiny, spelled.format)
    found = only(tiny)
    assert (found.rule, found.count) == ("FIL110", 5)
    assert found.message == f"is there as 'model-00001-of-000005.safetensors', which differs in {difference}"


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        ("/data/model/{}", "by absolute paths"),
        ("../model/{}", "by paths with '..'"),
        ("https://huggingface.co/org/model/resolve/main/{}", "by addresses"),
        ("file:///data/{}", "by addresses"),
    ],
)
def test_shards_that_the_index_has_elsewhere_are_one_error_and_no_strays(tiny, spelled, words):
    change_index(tiny, spelled.format)
    found = only(tiny)
    assert found.rule == "IDX104"
    assert words in found.message
    assert "needs a relative path within the checkpoint" in found.message


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_config_and_index_are_told_by_their_spelling_too(tiny, name):
    (tiny / name).rename(tiny / name.capitalize())
    found = only(tiny)
    assert (found.rule, found.location.file) == ("FIL110", name)


# --- what downloading left


@pytest.mark.parametrize("mark", ["aria2", "incomplete", "part", "crdownload"])
def test_a_downloaders_mark_beside_a_shard_of_full_size_is_a_warning(tiny, mark):
    (tiny / f"{shards(tiny)[1].name}.{mark}").write_bytes(b"\x00")
    found = only(tiny)
    assert (found.rule, found.severity) == ("FIL111", "warning")
    assert found.message.startswith("is a downloader's mark: model-00002-of-000005.safetensors has 2,042,130 bytes")
    assert "still being downloaded" in found.message


@pytest.mark.parametrize(
    "mark",
    [
        ".{}.Ab12Cd",
        "{}.1aF09bC2",
        "{}_.gstmp",
        "{}.aria2__temp",
        "{}.xltd",
        "{}.!qB",
        "{}.tmp.4711",
        ".{}.part",
    ],
)
def test_what_copying_and_downloading_tools_write_until_a_file_is_whole_is_a_mark_of_it(tiny, mark):
    (tiny / mark.format(shards(tiny)[1].name)).write_bytes(b"\x00")
    found = only(tiny)
    assert (found.rule, found.severity) == ("FIL111", "warning")
    assert "model-00002-of-000005.safetensors has 2,042,130 bytes" in found.message


def test_a_mark_in_the_place_of_a_shard_follows_from_the_missing_shard(tiny):
    shard = shards(tiny)[1]
    shard.rename(f"{shard}.incomplete")
    assert only(tiny).rule == "IDX103"


def test_marks_of_shards_that_nothing_names_yet_follow_from_those_that_are_missing(tiny):
    for path in (*shards(tiny)[2:], tiny / INDEX):
        path.rename(f"{path}.incomplete")
    assert only(tiny).rule == "IDX114"
    for path in shards(tiny):
        path.rename(f"{path}.incomplete")
    assert only(tiny).rule == "IDX113"


def test_a_mark_beside_a_short_shard_follows_from_the_short_shard(tiny):
    shard = shards(tiny)[1]
    os.truncate(shard, shard.stat().st_size - 1)
    (tiny / f"{shard.name}.aria2").write_bytes(b"\x00")
    assert only(tiny).rule == "HDR106"


@pytest.mark.parametrize("name", ["notes.part", "log.tmp"])
def test_other_unfinished_files_are_nobodys_business(tiny, name):
    (tiny / name).write_bytes(b"\x00")
    assert roots(tiny) == []


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "generation_config.json", "chat_template.jinja"])
@pytest.mark.parametrize(
    ("data", "kind"), [(POINTER, "git-lfs pointer"), (b"<!DOCTYPE html>", "HTML page"), (b"", "empty")]
)
def test_a_file_that_goes_with_the_weights_is_told_where_it_is_something_else(tiny, name, data, kind):
    (tiny / name).write_bytes(data)
    found = only(tiny)
    assert (found.rule, found.severity, found.location.file) == ("FIL112", "warning", name)
    assert kind in found.message


def test_sound_companions_are_nothing(tiny):
    (tiny / "tokenizer.json").write_text('{"version": "1.0"}')
    (tiny / "generation_config.json").write_text('{"do_sample": true}')
    (tiny / "modeling_deepseek.py").write_text("import torch\n")
    (tiny / "__init__.py").write_bytes(b"")
    change_config(tiny, auto_map={"AutoModel": "modeling_deepseek.DeepseekV3Model"})
    assert roots(tiny) == []


@pytest.mark.parametrize(
    ("mapped", "missing"),
    [
        ({"AutoModel": "modeling_deepseek.DeepseekV3Model"}, True),
        ({"AutoTokenizer": ["tokenization_x.Slow", None]}, True),
        ({"AutoModel": "org/name--modeling_deepseek.DeepseekV3Model"}, False),
        ({}, False),
        ("nonsense", False),
    ],
)
def test_code_that_auto_map_names_is_looked_for(tiny, mapped, missing):
    change_config(tiny, auto_map=mapped)
    assert roots(tiny) == ([("FIL113", "warning")] if missing else [])


def test_a_folder_with_nothing_of_a_checkpoint_is_still_nothing_to_audit(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SourceError, match="nothing to audit"):
        audit(tmp_path)


def _merge(folder: Path) -> None:
    """The checkpoint as one file without an index."""
    for path in (*shards(folder), folder / INDEX):
        path.unlink()
    raw, size = header_bytes(Shard("", list(plan_of("tiny").tensors())))
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + size)


def test_a_stray_file_that_could_not_be_read_leaves_the_audit_whole(tiny):
    raw = b"{" + b" " * 4_000 + b"}"
    (tiny / "adapter.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    largest = max(int.from_bytes(path.read_bytes()[:8], "little") for path in shards(tiny))
    (tiny / "huge.safetensors").write_bytes((largest + 1).to_bytes(8, "little") + b" " * (largest + 1))
    report = audit(tiny, policy=Policy(limits=Limits(header_bytes=largest)))
    assert report.verdict == "passed"
    found = next(each for each in report.findings if each.rule == "IDX105")
    assert (found.severity, found.count) == ("warning", 2)
    assert report.incomplete == ()
