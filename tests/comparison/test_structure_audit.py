"""An audit of structure alone: when it is made, what it says it is worth, and what transformers saves passes it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from auditor import audit, cli
from auditor.errors import UsageError
from auditor.reporting.formats import FORMATS
from auditor_schemas.policy import Allowed, Policy
from auditor_schemas.wording import CONSISTENT, STRUCTURE_ONLY
from tests.sparse_tables import Tensors, write_sparse

TENSORS: Tensors = {
    f"model.layers.{layer}.{name}": kind
    for layer in range(4)
    for name, kind in {"norm.weight": ("BF16", (64,)), "mlp.weight": ("BF16", (64, 64))}.items()
}
LET = Policy(allow=Allowed(families=("deepseek-v3", "structure")))


def written(directory: Path, config: object, tensors: Tensors | None = None) -> Path:
    return write_sparse(directory / "x", tensors or TENSORS, config=config)


# --- choosing


def test_an_unknown_model_type_is_incomplete_and_the_message_offers_structure(tmp_path):
    report = audit(written(tmp_path, {"model_type": "llama"}))
    assert report.verdict == "incomplete"
    assert "--family structure" in report.incomplete[0]


@pytest.mark.parametrize("config", [{"model_type": "llama"}, {"model_type": 7}, {}, {"architectures": "?"}, None])
def test_a_policy_that_allows_structure_has_unknown_checkpoints_audited_so(config, tmp_path):
    report = audit(written(tmp_path, config), policy=LET)
    assert (report.verdict, report.family, report.meaning) == ("passed", "structure", CONSISTENT)


def test_a_policy_that_allows_structure_leaves_known_families_theirs(tmp_path):
    from auditor.forge import forge

    forge(tmp_path / "y", like="tiny", sparse=True)
    report = audit(tmp_path / "y", policy=LET)
    assert (report.verdict, report.family, report.meaning, report.structure) == ("passed", "deepseek-v3", None, None)


def test_a_policy_without_structure_forbids_it(tmp_path):
    policy = Policy(allow=Allowed(families=("deepseek-v3",)))
    report = audit(written(tmp_path, None), family="structure", policy=policy)
    assert report.verdict == "failed"
    assert {each.rule for each in report.findings} == {"CFG109"}


@pytest.mark.parametrize("command", [["count"], ["tensor"], ["lint"]])
def test_what_needs_a_config_refuses_structure(command, tmp_path, capsys):
    folder = str(written(tmp_path, {"model_type": "llama"}))
    name = ["model.layers.0.norm.weight"] if command == ["tensor"] else []
    assert cli.main([*command, folder, *name, "--family", "structure"]) == 2
    assert "expects nothing of a config" in capsys.readouterr().err


def test_a_family_that_is_not_there_is_answered_with_structure_among_those_that_are(tmp_path):
    with pytest.raises(UsageError, match="structure"):
        audit(written(tmp_path, None), family="structures")


# --- config.json


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "deepseek_v3", "hidden_size": "many"},
        {"quantization_config": None},
        {"quantization_config": [1]},
        {
            "quantization_config": {
                "quant_method": 3,
                "ignore": {"a": 1},
                "config_groups": [1],
                "weight_block_size": [0, 1],
            }
        },
        {"text_config": {"quantization_config": {}}},
    ],
)
def test_fields_of_any_kind_are_no_fault(config, tmp_path):
    report = audit(written(tmp_path, config), family="structure")
    assert (report.verdict, report.findings) == ("passed", ())


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1, "a": 2}', "<html>"])
def test_a_config_that_is_no_object_stays_an_error(text, tmp_path):
    folder = written(tmp_path, None)
    (folder / "config.json").write_text(text)
    report = audit(folder, family="structure")
    assert report.verdict == "failed"
    assert {each.rule for each in report.findings} == {"CFG102"}


def test_rules_that_need_expectations_say_why_they_did_not_look(tmp_path):
    report = audit(written(tmp_path, None), family="structure")
    reasons = {each.rule: (each.outcome, each.reason) for each in report.outcomes}
    assert reasons["NAM101"] == reasons["SHP101"] == ("not_applicable", "the audit is of structure alone")
    assert reasons["CFG101"] == ("not_applicable", "config.json need not be there")
    assert reasons["NAM202"][0] == "passed"


def test_a_declaration_beside_a_silent_config_is_read(tmp_path):
    tensors: Tensors = {
        f"layers.{n}.a.{name}": kind
        for n in range(4)
        for name, kind in {
            "weight": ("U8", (64, 32)), "weight_scale": ("F8_E4M3", (64, 4)), "weight_scale_2": ("F32", ()),
        }.items()
    }  # fmt: skip
    folder = written(tmp_path, {"model_type": "x"}, tensors)
    assert {each.rule for each in audit(folder, family="structure").findings} == {"QNT209"}
    declared = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]},
    }
    (folder / "hf_quant_config.json").write_text(json.dumps(declared))
    report = audit(folder, family="structure")
    assert {each.rule for each in report.findings} == {"QNT213"}
    assert report.structure.declared == "nvfp4 (hf_quant_config.json: quantization)"


def test_names_that_have_nothing_in_common_are_beyond_a_limit(tmp_path):
    tensors: Tensors = {f"a{n:x}x.weight": ("F32", (1,)) for n in range(100_001)}
    report = audit(written(tmp_path, None, tensors), family="structure")
    assert (report.verdict, report.incomplete_codes, report.meaning) == ("incomplete", ("limit",), None)
    assert "more than 100,000 patterns" in report.incomplete[0]


# --- what the verdict says


def test_every_view_says_what_a_pass_is_worth(tmp_path, capsys):
    folder = written(tmp_path, None)
    assert cli.main(["audit", str(folder), "--family", "structure"]) == 0
    assert CONSISTENT in capsys.readouterr().out
    report = audit(folder, family="structure")
    assert json.loads(report.model_dump_json())["meaning"] == CONSISTENT
    assert CONSISTENT[1:] in FORMATS["html"].render(report)
    assert CONSISTENT in FORMATS["markdown"].render(report).replace("`", "")
    page = FORMATS["html"].render(report)
    assert "Consistent with itself." in page
    assert "every tensor held against the others, without a family" in page
    assert "every tensor that config.json implies" not in page


def test_a_failed_audit_claims_no_consistency(tmp_path):
    folder = written(tmp_path, None)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    report = audit(folder, family="structure")
    assert (report.verdict, report.meaning) == ("failed", STRUCTURE_ONLY)


def test_a_missing_shard_explains_what_it_took_along(tmp_path):
    tensors: Tensors = {
        f"model.layers.{layer}.mlp.experts.{expert}.{name}": kind
        for layer in range(4)
        for expert in range(8)
        for name, kind in {"w1.weight": ("F8_E4M3", (128, 128)), "w1.weight_scale_inv": ("F32", (1, 1))}.items()
    }
    folder = write_sparse(tmp_path / "x", tensors, per_shard=9)
    (folder / "model-00004-of-00008.safetensors").unlink()
    report = audit(folder, family="structure")
    assert report.verdict == "failed"
    assert {each.rule for each in report.findings if each.caused_by is None and each.severity == "error"} == {"IDX103"}


# --- what transformers saves


def _saved(directory: Path, kind: str, *, tied: bool) -> Path:
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": tied,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.save_pretrained(directory / "saved", max_shard_size="100KB")
    return directory / "saved"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Mistral", "Gemma2"])
def test_what_transformers_saves_of_a_dense_model_is_consistent(kind, tied, tmp_path):
    report = audit(_saved(tmp_path, kind, tied=tied), family="structure")
    assert report.verdict == "passed"
    assert [each for each in report.findings if each.severity != "info"] == []
    assert report.structure.formats == ()


def _fp8(weight: Any) -> dict[str, Any]:
    """One scale for the weight, one for the activations that it meets."""
    scale = weight.abs().max().float() / 448
    codes = (weight.float() / scale).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.25)}


def _packed(weight: Any, across: int) -> dict[str, Any]:
    """Four bits in groups of 32 inputs, eight codes to an I32: along inputs (0) as GPTQ, along outputs (1) as AWQ."""
    rows, columns = weight.shape
    shape = (columns // 8, rows) if across == 0 else (columns, rows // 8)
    scales = (weight.reshape(rows, -1, 32).abs().amax(-1) / 7).T.to(torch.float16).contiguous()
    integers = {"dtype": torch.int32, "generator": torch.Generator().manual_seed(7)}
    return {
        "qweight": torch.randint(-(2**31), 2**31 - 1, shape, **integers),
        "qzeros": torch.full((columns // 32, rows // 8), 0x77777777, dtype=torch.int32),
        "scales": scales,
        **({"g_idx": torch.arange(columns, dtype=torch.int32) // 32} if across == 0 else {}),
    }


WRITERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "FP8": (_fp8, {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]}),
    "GPTQ": (lambda weight: _packed(weight, 0), {"quant_method": "gptq", "bits": 4, "group_size": 32}),
    "AWQ": (lambda weight: _packed(weight, 1), {"quant_method": "awq", "bits": 4, "group_size": 32}),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Mistral"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_dense_model_that_was_quantised_is_consistent_at_every_depth(name, kind, tied, tmp_path):
    write, declared = WRITERS[name]
    folder = _saved(tmp_path, kind, tied=tied)
    tensors = {key: value for path in folder.glob("*.safetensors") for key, value in load_file(path).items()}
    stored: dict[str, Any] = {}
    for key, value in tensors.items():
        if key.endswith("_proj.weight"):
            stored |= {f"{key.removesuffix('weight')}{part}": each for part, each in write(value).items()}
        else:
            stored[key] = value if value.dim() > 1 else 0.5 + torch.rand_like(value)  # norms begin as ones
    for path in folder.glob("model*"):
        path.unlink()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "quantization_config": declared}))
    for depth in ("headers", "full"):
        report = audit(folder, family="structure", depth=depth)
        assert [(each.rule, each.message) for each in report.findings if each.severity != "info"] == []
        assert report.verdict == "passed"
        assert [(each.format, each.weights) for each in report.structure.formats] == [(name, 4 * 7)]


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe"])
def test_what_transformers_saves_of_experts_is_consistent(kind, tmp_path):
    report = audit(_saved(tmp_path, kind, tied=False), family="structure")
    assert report.verdict == "passed"
    assert [each for each in report.findings if each.severity != "info"] == []


def test_values_are_read_without_a_family(tmp_path):
    np = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    tensors = {f"layers.{n}.a.weight": np.ones((8, 8), np.float32) * n for n in range(4)}
    tensors["layers.2.a.weight"][3, 4] = np.nan
    (tmp_path / "x").mkdir()
    save_file(tensors, tmp_path / "x" / "model.safetensors", metadata={"format": "pt"})
    report = audit(tmp_path / "x", family="structure", depth="full")
    assert report.verdict == "failed"
    assert "VAL102" in {each.rule for each in report.findings}


# --- exclusions by regular expressions


def with_exclusions(folder, entries):
    """FP8 layers, the last of which is plain, under a list of modules that are left as they were."""
    tensors: Tensors = {}
    for layer in range(4):
        codes: Tensors = {"weight": ("F8_E4M3", (256, 256)), "weight_scale_inv": ("F32", (2, 2))}
        kept = codes if layer < 3 else {"weight": ("BF16", (256, 256))}
        tensors |= {f"model.layers.{layer}.mlp.up_proj.{name}": kind for name, kind in kept.items()}
    declared = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": entries}
    report = audit(written(folder, {"model_type": "x", "quantization_config": declared}, tensors), family="structure")
    return {each.slug for each in report.findings}


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([], {"plain-among-codes"}),
        ([r"re:.*layers\.3\.mlp.*"], set()),
        ([r"re:^model\.layers\.[3-9]\..*up_proj$"], set()),
        ([r"re:.*layers\.3\..*", r"re:.*visual.*"], {"idle-exclusion"}),
        ([r"re:.*layers\.3\..*", r"re:.*layers\.1\..*"], {"coded-exclusion"}),
        ([r"re:layers\.3.*"], {"plain-among-codes"}),  # an expression says how a name begins
        ([r"re:(?=model).*"], set()),  # what cannot be evaluated may mean anything
    ],
)
def test_expressions_leave_out_what_they_match(entries, found, tmp_path):
    assert with_exclusions(tmp_path, entries) == found
