"""One cause of many disagreements is one finding that names it, and what else is wrong is still told."""

import re
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from auditor import audit
from auditor.forge import plan_of
from auditor.forge.convert import bf16_conversion, unquantise
from auditor.forge.plan import Plan
from auditor.forge.write import write


@pytest.fixture
def roots(tmp_path):
    """The findings of a changed checkpoint that follow from no other, those for information left out."""

    def found(change: Callable[[Plan], object], like: str = "tiny") -> list[tuple[str, str, int, str]]:
        plan = plan_of(like)
        change(plan)
        directory = tmp_path / f"checkpoint-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        write(plan, directory, strips=None)
        return [
            (each.rule, each.severity.value, each.count, each.message)
            for each in audit(directory).findings
            if each.caused_by is None and each.severity != "info"
        ]

    return found


def renaming(pattern: str, replacement: str) -> Callable[[Plan], None]:
    return lambda plan: plan.rewrite(lambda each: (replace(each, name=re.sub(pattern, replacement, each.name)),))


def shaped(plan: Plan, wanted: str, shape: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
    plan.rewrite(
        lambda each: (
            replace(each, shape=shape(each.shape), origin=shape(each.shape)) if re.search(wanted, each.name) else each,
        )
    )


def both(*changes: Callable[[Plan], object]) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        for each in changes:
            each(plan)

    return change


# --- names

NAMES = {
    "prefix": (r"^", "language_model.", 309, "have 'language_model.' in their names"),
    "prefix but for lm_head": (r"^(?!lm_head)", "language_model.", 308, "have 'language_model.' in their names"),
    "prefix of some": (r"^(?=model\.layers\.[123])", "module.", 210, "have 'module.' in their names"),
    "infix": (r"^model\.", "model.language_model.", 308, "have 'language_model.' in their names"),
    "infix of layers": (r"^(model\.layers\.\d+\.)", r"\1_orig_mod.", 306, "have '_orig_mod.' in their names"),
    "infix of modules": (r"(_proj)\.", r"\1.base_layer.", 263, "have 'base_layer.' in their names"),
    "two words": (r"^", "base_model.model.", 309, "have 'base_model.model.' in their names"),
    "no model": (r"^model\.", "", 308, "lack 'model.' in front"),
    "other head": (r"^model\.", "transformer.", 308, "have 'transformer.' where 'model.' is needed"),
    "other word": (r"\.self_attn\.", ".attention.", 60, "have 'attention.' where 'self_attn.' is needed"),
    "nested words": (r"^(?:(model\.layers\.\d+\.))?", r"_wrapped.\1_wrapped.", 309, "have '_wrapped.' in their names"),
    "last word": (r"\.weight$", ".weight_orig", 169, "have 'weight_orig' where 'weight' is needed"),
    "one word fewer": (r"\.gate\.(e_score)", r".\1", 4, "where 'gate.e_score_correction_bias' is needed"),
    "MTP module": (r"^model\.layers\.4\.", "mtp.", 76, "have 'mtp.' where 'model.layers.4.' is needed"),
    "MTP modules": (r"^model\.layers\.4\.", "model.mtp.layers.0.", 76, "have 'model.mtp.layers.0.' where"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_with_one_piece_too_many_too_few_or_other_are_one_finding_that_shows_the_piece(name, roots):
    pattern, replacement, count, words = NAMES[name]
    (found,) = roots(renaming(pattern, replacement))
    assert found[:3] == ("NAM104", "error", count)
    assert words in found[3]
    assert re.search(r"such as '\S+' for '(model\.\S+|lm_head)\.\w+'", found[3])  # whole names


@pytest.mark.slow
@pytest.mark.parametrize("like", ["v3", "v3.2"])
@pytest.mark.parametrize("name", ["prefix but for lm_head", "infix of layers", "no model"])
def test_the_same_holds_at_full_size(name, like, roots):
    pattern, replacement, _, words = NAMES[name]
    (found,) = roots(renaming(pattern, replacement), like)
    assert (found[0], words in found[3]) == ("NAM104", True)


def test_copies_under_another_name_are_not_told_as_absent(tmp_path):
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    plan = plan_of("tiny")
    renaming("^", "module.")(plan)
    write(plan, directory, strips=None)
    assert "MTP104" not in {each.rule for each in audit(directory).findings}


def test_what_is_missing_beside_a_prefix_is_still_missing(roots):
    found = roots(
        both(renaming("^", "module."), lambda plan: plan.drop(lambda name: name.endswith("2.mlp.gate.weight")))
    )
    assert [each[:3] for each in found] == [("NAM101", "error", 1), ("NAM104", "error", 308)]


def test_names_of_another_format_are_one_finding_though_some_are_alike(roots):
    words = {
        "model.layers": "blk", "self_attn.q_a_proj": "attn_q_a", "self_attn.": "attn_", "mlp": "ffn",
        "layernorm": "norm", "embed_tokens": "token_embd",
    }  # fmt: skip
    found = roots(both(*(renaming(re.escape(old), new) for old, new in words.items())))
    assert [each[:2] for each in found] == [("NAM104", "error")]
    assert "tensors of other names are, such as" in found[0][3]


def test_a_tensor_that_is_missing_where_another_name_is_too_many_stays_two_findings(roots):
    """The undeclared module's norm is no final norm under another name."""

    def change(plan):
        plan.drop("model.norm.weight".__eq__)
        del plan.config["num_nextn_predict_layers"]

    assert [each[0] for each in roots(change)] == ["NAM101", "MTP102"]


def test_an_mtp_module_under_another_name_without_a_norm_lacks_the_norm(roots):
    found = roots(
        both(
            renaming(r"^model\.layers\.4\.", "mtp."),
            lambda plan: plan.drop("mtp.enorm.weight".__eq__),
        )
    )
    assert [each[:3] for each in found] == [("NAM101", "error", 1), ("NAM104", "error", 75)]


@pytest.mark.parametrize("by", [1, 3])
def test_layers_numbered_from_another_number_are_one_finding(by, roots):
    (found,) = roots(lambda plan: numbered_from(plan, by))
    assert (found[0], f"numbered from {by}" in found[3]) == ("NAM111", True)


def test_what_is_missing_from_layers_under_wrong_numbers_is_told_with_them(roots):
    gone = "model.layers.3.input_layernorm.weight"
    (found,) = roots(both(lambda plan: plan.drop(gone.__eq__), lambda plan: numbered_from(plan, 1)))
    assert (found[0], found[3].endswith(f"under the right numbers missing: {gone}")) == ("NAM111", True)


def test_a_missing_first_layer_is_no_other_numbering(roots):
    found = roots(lambda plan: plan.drop(lambda name: name.startswith("model.layers.0.")))
    assert [each[0] for each in found] == ["NAM103"]


@pytest.mark.slow
def test_a_release_numbered_from_one_is_one_finding(roots):
    (found,) = roots(lambda plan: numbered_from(plan, 1), "v3")
    assert found[0] == "NAM111"


def numbered_from(plan: Plan, by: int) -> None:
    def name(old: str) -> str:
        return re.sub(r"^model\.layers\.(\d+)", lambda found: f"model.layers.{int(found[1]) + by}", old)

    plan.rewrite(lambda each: (replace(each, name=name(each.name)),))


# --- numbers beyond the config


def twin(plan: Plan, part: str, other: str) -> None:
    plan.rewrite(
        lambda each: (each, replace(each, name=each.name.replace(part, other))) if part in each.name else (each,)
    )


@pytest.mark.parametrize(
    ("part", "other", "words"),
    [
        ("layers.2.mlp.experts.1.", "layers.2.mlp.experts.8.", "expert 8: the config has 8"),
        ("layers.2.mlp.experts.1.", "layers.2.mlp.experts.99.", "expert 99: the config has 8"),
        ("layers.2.mlp.experts.1.", "layers.0.mlp.experts.1.", "expert 1: the config has none in this layer"),
        ("layers.2.", "layers.7.", "layer 7: the config has 5"),
        ("layers.2.input_layernorm.", "layers.5.input_layernorm.", "layer 5: the config has 5"),
    ],
)
def test_a_layer_or_expert_that_the_config_does_not_count_is_an_error(part, other, words, roots):
    (found,) = roots(lambda plan: twin(plan, part, other))
    assert found[:2] == ("NAM107", "error")
    assert words in found[3]


def test_a_buffer_stays_a_warning_even_in_a_layer_that_the_config_does_not_count(roots):
    found = roots(lambda plan: twin(plan, "layers.2.input_layernorm.weight", "layers.9.self_attn.rotary_emb.inv_freq"))
    assert [each[:3] for each in found] == [("NAM102", "warning", 1)]


def test_an_undeclared_mtp_module_stays_a_warning(roots):
    found = roots(lambda plan: plan.config.pop("num_nextn_predict_layers"))
    assert [each[:2] for each in found] == [("MTP102", "warning")]


# --- fused and split


def fuse(
    plan: Plan, *, scales: bool = True, dtype: str | None = None, swapped: bool = False, layers: str = "."
) -> None:
    """The experts of a layer in two stacks, as transformers 5 keeps them."""
    experts, width = plan.config["n_routed_experts"], plan.config["hidden_size"]
    inner = plan.config["moe_intermediate_size"]

    def change(each):
        found = re.match(r"(model\.layers\.(\d+)\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.weight(.*)", each.name)
        if found is None or not re.fullmatch(layers, found[2]):
            return (each,)
        if found[3] != "0" or found[4] == "up" or (found[5] and not scales):
            return ()
        shape = (2 * inner, width) if found[4] == "gate" else (width, inner)
        shape = tuple(-(-side // 128) for side in shape) if found[5] else shape
        shape = (experts, *(shape[::-1] if swapped else shape))
        name = found[1] + ("gate_up_proj" if found[4] == "gate" else "down_proj") + found[5].removeprefix("_scale")
        name = name.replace("_inv", "_scale_inv")
        return (replace(each, name=name, shape=shape, origin=shape, dtype=dtype or each.dtype),)

    plan.rewrite(change)


def joined(plan: Plan, first: str, second: str, name: str, wanted: str = ".") -> None:
    """The rows of two projections in one."""
    rows = {each.name: each.origin[0] for each in plan.tensors()}

    def change(each):
        if not re.search(wanted, each.name) or f".{first}." not in each.name:
            return () if re.search(wanted, each.name) and f".{second}." in each.name else (each,)
        other = rows[each.name.replace(first, second)]
        origin = (each.origin[0] + other, each.origin[1])
        shape = tuple(-(-side // 128) for side in origin) if each.values == "scales" else origin
        return (replace(each, name=each.name.replace(first, name), shape=shape, origin=origin),)

    plan.rewrite(change)


def kv_b_split(plan: Plan, *, stacked: bool) -> None:
    heads, latent = plan.config["num_attention_heads"], plan.config["kv_lora_rank"]
    sides = {"k_b_proj": plan.config["qk_nope_head_dim"], "v_b_proj": plan.config["v_head_dim"]}

    def change(each):
        if ".kv_b_proj." not in each.name:
            return (each,)
        made = []
        for name, side in sides.items():
            shape = (heads, side, latent) if stacked else (heads * side, latent)
            shape = tuple(-(-side // 128) for side in shape) if each.values == "scales" else shape
            made.append(replace(each, name=each.name.replace("kv_b_proj", name), shape=shape, origin=shape))
        return made

    plan.rewrite(change)


FUSED = {
    "experts in stacks": (fuse, 8, "'mlp.experts.gate_up_proj' (8, 384, 320)"),
    "experts in stacks without scales": (lambda plan: fuse(plan, scales=False), 8, "'mlp.experts.down_proj'"),
    "experts in stacks of BF16": (lambda plan: fuse(plan, scales=False, dtype="BF16"), 8, "'mlp.experts.down_proj'"),
    "experts in stacks of columns": (lambda plan: fuse(plan, swapped=True), 8, "(8, 320, 384)"),
    "one layer's experts": (lambda plan: fuse(plan, layers="2"), 2, "stored fused in"),
    "BF16 conversion": (both(bf16_conversion, fuse), 8, "stored fused in"),
    "gate and up of each expert": (
        lambda plan: joined(plan, "gate_proj", "up_proj", "gate_up_proj", r"\.experts\."), 32, "are stored fused in"
    ),
    "gate and up": (lambda plan: joined(plan, "gate_proj", "up_proj", "gate_up_proj"), 37, "'mlp.gate_up_proj.weight'"),
    "query and latent": (
        lambda plan: joined(plan, "q_a_proj", "kv_a_proj_with_mqa", "fused_qkv_a_proj_with_mqa"), 5,
        "self_attn.q_a_proj.weight and self_attn.kv_a_proj_with_mqa.weight are stored fused in",
    ),
    "keys and values": (lambda plan: kv_b_split(plan, stacked=False), 10, "self_attn.kv_b_proj.weight is stored split"),
    "keys and values by head": (lambda plan: kv_b_split(plan, stacked=True), 10, "is stored split in"),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_tensors_stored_fused_or_split_are_one_finding(name, roots):
    change, count, words = FUSED[name]
    (found,) = roots(change)
    assert found[:3] == ("NAM106", "error", count)
    assert words in found[3]


@pytest.mark.slow
@pytest.mark.parametrize("like", ["v3", "v3.2"])
@pytest.mark.parametrize("name", ["experts in stacks", "gate and up"])
def test_a_release_stored_fused_is_one_finding(name, like, roots):
    (found,) = roots(FUSED[name][0], like)
    assert found[0] == "NAM106"


def test_what_is_missing_beside_fused_tensors_is_still_missing(roots):
    def change(plan):
        fuse(plan)
        gone = (
            "layers.2.mlp.experts.down_proj",
            "layers.2.mlp.experts.down_proj_scale_inv",
            "layers.1.mlp.gate.weight",
        )
        plan.drop(lambda name: name.endswith(gone))

    assert [each[:3] for each in roots(change)] == [
        ("NAM101", "error", 16),
        ("NAM101", "error", 1),
        ("NAM106", "error", 7),
    ]


# --- ranks


def rank(plan: Plan, of: int, whole: str = "$^") -> None:
    """What one tensor-parallel rank holds."""

    def change(each):
        row = plan.row(each.name)
        if row is None or row.split is None or re.search(whole, each.name):
            return (each,)
        origin = tuple(side // of if axis == row.split else side for axis, side in enumerate(each.origin))
        shape = tuple(-(-side // 128) for side in origin) if each.values == "scales" else origin
        return (replace(each, shape=shape, origin=origin),)

    plan.rewrite(change)


def experts_kept(plan: Plan, kept: str) -> None:
    plan.drop(lambda name: (found := re.search(r"\.experts\.(\d+)\.", name)) is not None and found[1] not in kept)


def layers_kept(plan: Plan, kept: range, *ends: str) -> None:
    def gone(name: str) -> bool:
        found = re.match(r"model\.layers\.(\d+)\.", name)
        return name not in ends if found is None else int(found[1]) not in kept

    plan.drop(gone)


ENDS = ("model.norm.weight", "lm_head.weight")
RANKS = {
    "two": (lambda plan: rank(plan, 2), "one of 2 ranks"),
    "four, vocabulary whole": (lambda plan: rank(plan, 4, "embed_tokens|head"), "one of 4 ranks"),
    "two, shared experts whole": (lambda plan: rank(plan, 2, "shared_experts"), "one of 2 ranks"),
    "two of a BF16 conversion": (both(bf16_conversion, lambda plan: rank(plan, 2)), "one of 2 ranks"),
    "experts": (lambda plan: experts_kept(plan, "0123"), "experts 0 to 3 of 8 and the whole router: one of 2"),
    "later experts": (lambda plan: experts_kept(plan, "45"), "experts 4 to 5 of 8 and the whole router: one of 4"),
    "both": (
        both(lambda plan: rank(plan, 2, r"\.experts\."), lambda plan: experts_kept(plan, "0123")), "one of 2 expert-par"
    ),
    "first stage": (lambda plan: layers_kept(plan, range(2), "model.embed_tokens.weight"), "0 to 1 are there"),
    "middle stage": (lambda plan: layers_kept(plan, range(1, 3)), "1 to 2 are there"),
    "last stage": (lambda plan: layers_kept(plan, range(2, 5), *ENDS), "2 to 3 are there"),
}  # fmt: skip


@pytest.mark.parametrize("name", RANKS)
def test_one_rank_of_a_model_that_was_spread_is_one_finding(name, roots):
    change, words = RANKS[name]
    (found,) = roots(change)
    assert found[:2] == ("NAM109", "error")
    assert words in found[3]


@pytest.mark.slow
@pytest.mark.parametrize("like", ["v3", "v3.2"])
@pytest.mark.parametrize("of", [4, 16])
def test_one_rank_of_a_release_is_one_finding(of, like, roots):
    (found,) = roots(lambda plan: rank(plan, of), like)
    assert (found[0], f"one of {of} ranks" in found[3]) == ("NAM109", True)


def test_a_tensor_that_is_missing_from_a_rank_is_still_missing(roots):
    found = roots(
        both(lambda plan: rank(plan, 2), lambda plan: plan.drop(lambda name: name.endswith("1.mlp.gate.weight")))
    )
    assert [each[0] for each in found] == ["NAM101", "NAM109"]


@pytest.mark.parametrize("field", ["num_attention_heads", "moe_intermediate_size", "intermediate_size", "vocab_size"])
def test_one_field_twice_too_large_is_no_rank(field, roots):
    found = roots(lambda plan: plan.config.update({field: 2 * plan.config[field]}))
    assert [(each[0], f"{field} is" in each[3]) for each in found] == [("CFG107", True)]


def test_experts_that_lack_in_one_layer_are_no_rank(roots):
    found = roots(lambda plan: plan.drop(lambda name: re.search(r"layers\.2\.mlp\.experts\.[4-7]\.", name) is not None))
    assert [each[:3] for each in found] == [("NAM101", "error", 24)]


def test_a_missing_head_beside_missing_layers_and_a_final_norm_is_no_stage(roots):
    assert "NAM109" not in [each[0] for each in roots(lambda plan: layers_kept(plan, range(2), *ENDS[:1]))]


# --- dtypes


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_a_checkpoint_in_another_float_dtype_is_one_finding_that_names_the_field(dtype, roots):
    def change(plan):
        bf16_conversion(plan)
        plan.alter(lambda name: not name.endswith("e_score_correction_bias"), dtype=dtype)

    (found,) = roots(change)
    assert found == ("SHP106", "error", 169, f"torch_dtype is bfloat16, the 169 tensors that it gives BF16 are {dtype}")


def test_so_is_one_whose_quantised_weights_are_as_they_should_be(roots):
    def change(plan):
        plan.rewrite(lambda each: (replace(each, dtype="F32") if each.dtype == "BF16" else each,))
        plan.config["dtype"] = plan.config.pop("torch_dtype")

    (found,) = roots(change)
    assert found == ("SHP106", "error", 33, "dtype is bfloat16, the 33 tensors that it gives BF16 are F32")


def test_some_kinds_of_tensors_in_another_dtype_are_told_by_kind(roots):
    found = roots(lambda plan: plan.alter(lambda name: name.endswith(("mlp.gate.weight", "norm.weight")), dtype="F16"))
    assert [each[:3] for each in found] == [("SHP102", "error", 4), ("SHP103", "warning", 24)]


# --- layers and experts that config and shards have in other numbers


def cut(plan: Plan, layers: int, **changes: int) -> None:
    """config.json and index edited alike, the shards as they were."""
    plan.config.update(num_hidden_layers=layers, **changes)
    behind = (each.name for each in plan.tensors() if each.name.startswith("model.layers."))
    plan.moved.update({name: None for name in behind if int(name.split(".")[2]) >= layers})


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("changes", [{}, {"num_nextn_predict_layers": 0}], ids=["with MTP", "without MTP"])
def test_layers_that_config_and_index_leave_out_are_one_finding(layers, changes, roots):
    (found,) = roots(lambda plan: cut(plan, layers, **changes))
    assert found[:2] == ("NAM108", "error")
    assert f"{layers} to 4" in found[3]


@pytest.mark.slow
def test_a_release_cut_to_a_few_layers_is_one_finding(roots):
    (found,) = roots(lambda plan: cut(plan, 5, num_nextn_predict_layers=0), "v3")
    assert found[0] == "NAM108"


def test_what_is_missing_from_the_layers_that_stay_is_still_missing(roots):
    found = roots(both(lambda plan: plan.drop("model.layers.1.mlp.gate.weight".__eq__), lambda plan: cut(plan, 3)))
    assert [each[0] for each in found] == ["NAM101", "NAM108"]


def test_layers_that_the_config_alone_leaves_out_are_the_configs(roots):
    found = roots(lambda plan: plan.config.update(num_hidden_layers=2))
    assert [each[0] for each in found] == ["CFG107"]


def fewer_experts(plan: Plan, counts: dict[str, int]) -> None:
    def change(each):
        kept = counts.get(each.name.split(".")[2] if each.name.startswith("model.layers.") else "")
        expert = re.search(r"\.experts\.(\d+)\.", each.name)
        if kept is None or (expert is None and ".mlp.gate." not in each.name):
            return (each,)
        if expert is not None:
            return (each,) if int(expert[1]) < kept else ()
        shape = (kept, *each.shape[1:])
        return (replace(each, shape=shape, origin=shape),)

    plan.rewrite(change)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"2": 6}, "1 of 4 MoE layers have other routers and experts: 6 in layer 2"),
        ({"2": 6, "3": 6}, "2 of 4 MoE layers have other routers and experts: 6 in layers 2, 3"),
        ({"1": 5, "2": 6, "3": 7, "4": 4}, "4 in layer 4, 5 in layer 1, 6 in layer 2 and 1 more"),
    ],
)
def test_layers_with_fewer_experts_are_one_finding(counts, words, roots):
    (found,) = roots(lambda plan: fewer_experts(plan, counts))
    assert found[:2] == ("NAM110", "error")
    assert words in found[3]


def test_fewer_experts_in_every_layer_are_the_configs_field(roots):
    (found,) = roots(lambda plan: fewer_experts(plan, dict.fromkeys("1234", 6)))
    assert (found[0], found[3]) == ("CFG107", "n_routed_experts is 8, the tensors show 6")


# --- shapes


@pytest.mark.parametrize("wanted", [".", r"layers\.2\.", r"_proj"])
def test_tensors_without_an_element_are_one_finding_whatever_shapes_they_need(wanted, roots):
    (found,) = roots(lambda plan: shaped(plan, wanted, lambda shape: (0,)))
    assert found[:2] == ("SHP105", "error")


@pytest.mark.slow
def test_a_release_of_placeholders_is_one_finding(roots):
    (found,) = roots(lambda plan: shaped(plan, "", lambda shape: (0,)), "v3")
    assert found[:3] == ("SHP105", "error", 91_991)


def test_placeholders_of_a_bf16_model_that_keeps_its_quantization_config_are_told_first(roots):
    (found,) = roots(both(unquantise, lambda plan: shaped(plan, "", lambda shape: (0,))))
    assert found[0] == "SHP105"


def test_a_tensor_of_another_shape_beside_empty_ones_is_still_told(roots):
    def change(plan):
        shaped(plan, r"layers\.2\.", lambda shape: (0,))
        shaped(plan, r"layers\.1\.input_layernorm", lambda shape: (shape[0] + 1,))

    assert [each[:3] for each in roots(change)] == [("SHP101", "error", 1), ("SHP105", "error", 70)]


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        (lambda shape: shape[::-1], "(transposed)"),
        (lambda shape: (1, *shape), "(dimensions of 1 more or fewer)"),
        (lambda shape: (shape[0] * shape[1],), "(the same number of elements)"),
    ],
)
def test_shapes_that_differ_in_one_way_are_one_finding_whatever_shapes_they_need(shape, how, roots):
    def change(plan):
        bf16_conversion(plan)
        shaped(plan, "_proj", shape)

    (found,) = roots(change)
    assert (found[0], how in found[3]) == ("SHP101", True)


def test_without_an_index_missing_shards_contradict_no_field(tmp_path):
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    plan = plan_of("tiny")
    plan.edit_index = lambda data: None
    write(plan, directory, strips=None)
    for path in sorted(directory.glob("*.safetensors"))[2:]:
        path.unlink()
    assert "CFG107" not in {each.rule for each in audit(directory).findings}
