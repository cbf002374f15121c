"""What people's tools legitimately make of such a checkpoint yields nothing above info."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from auditor import audit
from auditor.forge import LIKES, forge, plan_of
from auditor.forge.plan import Plan, Shard, number
from auditor.forge.write import write
from auditor.patterns import layer_of

INDEX = "model.safetensors.index.json"


def _quantization(**fields) -> dict:
    config = plan_of("tiny").config["quantization_config"]
    return {"quantization_config": {**config, **fields}}


CONFIGS = {
    "experts pruned, everything in step": {"n_routed_experts": 6, "n_group": 2, "topk_group": 1},
    "one group, full-rank queries, no MTP module": {
        "q_lora_rank": None, "n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 0,
    },
    "two MTP modules": {"num_nextn_predict_layers": 2},
    "an MTP module in BF16 that is exempt": _quantization(modules_to_not_convert=["model.layers.4"]),
    "an MTP module in BF16 that is ignored": _quantization(ignored_layers=["model.layers.4"]),
}  # fmt: skip


def _written(plan: Plan, folder: Path) -> Path:
    folder.mkdir(parents=True)
    write(plan, folder, strips=None)
    return folder


def _assert_sound(folder: Path) -> None:
    report = audit(folder)
    above = [(each.rule, each.message) for each in report.findings if each.severity != "info"]
    assert (report.verdict, above) == ("passed", [])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_and_tensors_in_step_are_sound(name, tmp_path, monkeypatch):
    tiny = LIKES["tiny"]
    monkeypatch.setitem(LIKES, "variant", replace(tiny, changes={**tiny.changes, **CONFIGS[name]}))
    _assert_sound(_written(plan_of("variant"), tmp_path / "c"))


def test_the_spellings_of_transformers_5_are_sound(tmp_path):
    plan = plan_of("tiny")
    plan.config["dtype"] = plan.config.pop("torch_dtype")
    scaling = plan.config.pop("rope_scaling")
    plan.config["rope_parameters"] = {
        **scaling,
        "rope_type": scaling.pop("type"),
        "rope_theta": plan.config.pop("rope_theta"),
    }
    _assert_sound(_written(plan, tmp_path / "c"))


def test_shards_in_a_subfolder_that_the_index_names_are_sound(tmp_path):
    plan = plan_of("tiny")
    for shard in plan.shards:
        shard.file = f"weights/{shard.file}"
    (tmp_path / "c" / "weights").mkdir(parents=True)
    write(plan, tmp_path / "c", strips=None)
    _assert_sound(tmp_path / "c")


@pytest.mark.parametrize("indexed", [True, False])
def test_a_single_file_is_sound_with_and_without_an_index(tmp_path, indexed):
    plan = plan_of("tiny")
    plan.shards = [Shard("model.safetensors", list(plan.tensors()))]
    if not indexed:
        plan.edit_index = lambda _: None
    _assert_sound(_written(plan, tmp_path / "c"))


def test_a_hub_cache_without_links_is_sound(tmp_path):
    repository = tmp_path / "models--org--name"
    (repository / "blobs").mkdir(parents=True)
    folder = _written(plan_of("tiny"), repository / "snapshots" / ("0" * 40))
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    _assert_sound(folder)


def test_rich_metadata_and_pretty_headers_are_sound(tmp_path):
    plan = plan_of("tiny")
    for shard in plan.shards:
        shard.metadata = {
            "format": "pt",
            "total_parameters": "1",
            "quantisation": '{"by": ["a", "b"]}',
            "note": 'ü \\ "',
        }
        shard.edit = lambda raw: msgspec.json.format(raw, indent=2)
    _assert_sound(_written(plan, tmp_path / "c"))


def test_an_mtp_layer_in_a_file_of_its_own_is_sound(tmp_path):
    plan = plan_of("tiny")
    mtp = [each for each in plan.tensors() if layer_of(each.name) in plan.mtp_layers]
    plan.drop({each.name for each in mtp}.__contains__)
    plan.shards.append(Shard("mtp.safetensors", mtp))
    _assert_sound(_written(plan, tmp_path / "c"))


def test_very_uneven_shards_are_sound(tmp_path):
    plan = plan_of("tiny")
    tensors = list(plan.tensors())
    plan.shards = [Shard("", tensors[:1]), Shard("", tensors[1:2]), Shard("", tensors[2:])]
    number(plan.shards)
    _assert_sound(_written(plan, tmp_path / "c"))


@pytest.mark.parametrize("metadata", [None, {}, {"total_parameters": 1_000, "total_size": None}])
def test_an_index_without_metadata_or_with_more_is_sound(tmp_path, metadata):
    forge(tmp_path / "c", like="tiny", sparse=True)
    index = json.loads((tmp_path / "c" / INDEX).read_text())
    kept = {"weight_map": index["weight_map"]}
    if metadata is not None:
        if "total_size" in metadata:
            metadata = {**metadata, "total_size": index["metadata"]["total_size"]}
        kept = {"metadata": metadata, **kept}
    (tmp_path / "c" / INDEX).write_text(json.dumps(kept))
    _assert_sound(tmp_path / "c")


@pytest.mark.parametrize(
    "name",
    ["README.md", "LICENSE", ".gitattributes", "model.gguf", "figures.pdf", "events.out.tfevents.1", "notes.txt"],
)
def test_other_files_beside_the_weights_are_nothing(tmp_path, name):
    forge(tmp_path / "c", like="tiny", sparse=True)
    (tmp_path / "c" / name).write_bytes(b"anything")
    _assert_sound(tmp_path / "c")
