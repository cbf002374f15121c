"""Breaks of names, shapes and dtypes: tensors that are missing, too many, or not what the config implies."""

import re
from math import ceil

from msgspec.structs import replace

from auditor.families.expectations import Row
from auditor.forge.breaks import breaks_as
from auditor.forge.convert import bf16_conversion
from auditor.forge.plan import Plan, Tensor
from auditor_schemas.rule import Severity


@breaks_as("missing-router", "a layer has no router", "NAM101", structure="NAM204")
def missing_router(plan: Plan) -> None:
    """One tensor of 92,000."""
    plan.drop(plan.router.__eq__)


@breaks_as("missing-norm", "a layer has no input_layernorm", "NAM101", structure="NAM203")
def missing_norm(plan: Plan) -> None:
    """Loaders keep the initial ones, and the model degrades quietly."""
    plan.drop(plan.input_norm.__eq__)


@breaks_as("missing-head", "lm_head is not there and not tied", "NAM101")
def missing_head(plan: Plan) -> None:
    """What a save with tied embeddings leaves."""
    plan.drop(plan.naming.head.__eq__)


@breaks_as("missing-expert", "a layer lacks one routed expert", "NAM101", structure="NAM201")
def missing_expert(plan: Plan) -> None:
    """Weights and scales, and not the last expert, so that no smaller n_routed_experts explains it."""
    prefix = f"{plan.prefix}{plan.naming.experts}{plan.experts // 2}."
    plan.drop(lambda name: name.startswith(prefix))


@breaks_as("unexpected-tensors", "layers hold rotary_emb.inv_freq", "NAM102", severity=Severity.WARNING)
def unexpected_tensors(plan: Plan) -> None:
    """A buffer that older code saved with the weights; loaders ignore it."""
    width = plan.config["qk_rope_head_dim"] // 2

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if not tensor.name.endswith(".self_attn.o_proj.weight"):
            return (tensor,)
        name = tensor.name.replace("o_proj.weight", "rotary_emb.inv_freq")
        return (tensor, Tensor(name, "F32", (width,), "biases", name, (width,)))

    plan.rewrite(change)


@breaks_as("missing-layer", "a layer is not there at all", "NAM103", structure="NAM202")
def missing_layer(plan: Plan) -> None:
    """A middle one, so that no smaller num_hidden_layers explains it."""
    prefix = plan.prefix
    plan.drop(lambda name: name.startswith(prefix))


@breaks_as("foreign-names", "every name has a prefix that the layout does not have", "NAM104")
def foreign_names(plan: Plan) -> None:
    """As multimodal wrappers save their language model."""
    plan.rewrite(lambda tensor: (replace(tensor, name=f"language_model.{tensor.name}"),))


@breaks_as("prefixed-names", "every name but lm_head's has a prefix that the layout does not have", "NAM104")
def prefixed_names(plan: Plan) -> None:
    """As wrappers save what they hold, with the head beside it."""
    plan.rewrite(lambda tensor: (replace(tensor, name=_unless_head(plan, tensor.name)),))


@breaks_as("names-without-model", "names lack model. in front", "NAM104")
def names_without_model(plan: Plan) -> None:
    """The inner model was saved, and the head beside it."""
    plan.rewrite(lambda tensor: (replace(tensor, name=tensor.name.removeprefix("model.")),))


@breaks_as("compiled-layers", "names hold _orig_mod in each layer", "NAM104")
def compiled_layers(plan: Plan) -> None:
    """As torch.compile wraps each layer."""

    def change(tensor: Tensor) -> tuple[Tensor]:
        head = plan.naming.prefix_in(tensor.name)
        return (replace(tensor, name=tensor.name.replace(head, f"{head}_orig_mod.", 1)) if head else tensor,)

    plan.rewrite(change)


def _unless_head(plan: Plan, name: str) -> str:
    return name if name == plan.naming.head else f"language_model.{name}"


@breaks_as("other-model-type", "model_type is another family's", "NAM112", also=("CFG103",))
def other_model_type(plan: Plan) -> None:
    """As scripts rewrite it for a loader that does not know the model."""
    plan.config["model_type"] = "deepseek_v3" if plan.config["model_type"] == "minimax_m2" else "minimax_m2"


@breaks_as("layers-from-one", "layers are numbered from 1", "NAM111")
def layers_from_one(plan: Plan) -> None:
    """As exporters count that come from other languages."""

    def change(tensor: Tensor) -> tuple[Tensor]:
        layer, prefix = plan.naming.layer_of(tensor.name), plan.naming.prefix_in(tensor.name)
        if layer is None:
            return (tensor,)
        return (replace(tensor, name=plan.naming.prefix(layer + 1) + tensor.name.removeprefix(prefix)),)

    plan.rewrite(change)


@breaks_as("fused-experts", "the experts of each layer are stored in two stacks", "NAM106")
def fused_experts(plan: Plan) -> None:
    """As transformers 5 keeps them in memory, and saves them where nothing turns them back."""
    experts, width, inner = (plan.config[key] for key in ("n_routed_experts", "hidden_size", "moe_intermediate_size"))

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        found = _EXPERT.match(tensor.name)
        if found is None:
            return (tensor,)
        stack, number, projection, scale = found.groups()
        if number != "0" or projection == "up":
            return ()
        sides = (width, inner) if projection == "down" else (2 * inner, width)
        if scale:
            sides = (ceil(sides[0] / plan.block[0]), ceil(sides[1] / plan.block[1]))
        name = f"{stack}{'down' if projection == 'down' else 'gate_up'}_proj{'_scale_inv' if scale else ''}"
        return (replace(tensor, name=name, shape=(experts, *sides), origin=(experts, *sides)),)

    plan.rewrite(change)


_EXPERT = re.compile(r"(model\.layers\.\d+\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.weight(_scale_inv)?$")


@breaks_as("fused-query-and-latent", "q_a_proj and kv_a_proj_with_mqa are one tensor", "NAM106")
def fused_query_and_latent(plan: Plan) -> None:
    """As serving engines join them in memory."""
    latent = plan.config["kv_lora_rank"] + plan.config["qk_rope_head_dim"]

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if ".kv_a_proj_with_mqa." in tensor.name:
            return ()
        if ".q_a_proj." not in tensor.name:
            return (tensor,)
        rows, columns = tensor.origin[0] + latent, tensor.origin[1]
        shape = (rows, columns)
        if tensor.values == "scales":
            shape = (ceil(rows / plan.block[0]), ceil(columns / plan.block[1]))
        name = tensor.name.replace("q_a_proj", "fused_qkv_a_proj_with_mqa")
        return (replace(tensor, name=name, shape=shape, origin=(rows, columns)),)

    plan.rewrite(change)


@breaks_as("expert-beyond-config", "a layer holds an expert more than the config counts", "NAM107", structure="NAM205")
def expert_beyond(plan: Plan) -> None:
    """What stays of a larger model where experts were pruned from config and router alone."""
    _double(plan, f"{plan.prefix}{plan.naming.experts}", "1.", f"{plan.experts}.")


@breaks_as("layer-beyond-config", "a layer is there that the config does not count", "NAM107")
def layer_beyond(plan: Plan) -> None:
    """Behind the MTP module, and no such module itself."""
    _double(plan, "model.layers.", f"{plan.moe_layer}.", f"{plan.mtp_layers[-1] + 2}.")


def _double(plan: Plan, stem: str, part: str, other: str) -> None:
    """Every tensor of one layer or expert a second time under another number."""

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if not tensor.name.startswith(stem + part):
            return (tensor,)
        return tensor, replace(tensor, name=stem + other + tensor.name.removeprefix(stem + part))

    plan.rewrite(change)


@breaks_as("layers-left-out", "config.json and index have fewer layers, the shards all of them", "NAM108")
def layers_left_out(plan: Plan) -> None:
    """A model cut for a test by editing the two files alone."""
    end = plan.config["num_hidden_layers"] - 1
    plan.config |= {"num_hidden_layers": end, "num_nextn_predict_layers": 0}
    plan.moved.update({each.name: None for each in plan.tensors() if (plan.naming.layer_of(each.name) or 0) >= end})


@breaks_as("tensor-parallel-rank", "every tensor that tensor parallelism splits has half of its size", "NAM109")
def tensor_parallel_rank(plan: Plan) -> None:
    """One rank of two, saved as the model."""

    def change(tensor: Tensor) -> tuple[Tensor]:
        row = plan.row(tensor.name)
        if row is None or row.split is None:
            return (tensor,)
        origin = tuple(side // 2 if axis == row.split else side for axis, side in enumerate(tensor.origin))
        shape = origin
        if tensor.values == "scales":
            shape = (ceil(origin[0] / plan.block[0]), ceil(origin[1] / plan.block[1]))
        return (replace(tensor, shape=shape, origin=origin),)

    plan.rewrite(change)


@breaks_as("expert-parallel-rank", "every layer holds the second half of the experts", "NAM109")
def expert_parallel_rank(plan: Plan) -> None:
    """One rank of two; what is no expert is replicated, the router among it."""
    half, expert_of = plan.experts // 2, plan.naming.expert_of
    plan.drop(lambda name: (expert := expert_of(name)) is not None and expert < half)


@breaks_as("pipeline-stage", "the first half of the layers is there, with the embedding alone", "NAM109")
def pipeline_stage(plan: Plan) -> None:
    """One stage of two, saved as the model."""
    ends, middle, layer_of = (plan.final_norm, plan.naming.head), plan.moe_layer, plan.naming.layer_of
    plan.drop(lambda name: name in ends or (layer_of(name) or 0) >= middle)


@breaks_as("fewer-experts-in-a-layer", "a layer's router and experts are half as many as the config has", "NAM110")
def fewer_experts(plan: Plan) -> None:
    """Pruned layer by layer; the config has one number for all."""
    half, prefix = plan.experts // 2, plan.prefix

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if not tensor.name.startswith(prefix):
            return (tensor,)
        if plan.rows[tensor.name].module == "router":
            shape = (half, *tensor.shape[1:])
            return (replace(tensor, shape=shape, origin=shape),)
        return () if (plan.naming.expert_of(tensor.name) or 0) >= half else (tensor,)

    plan.rewrite(change)


@breaks_as("ungathered-tensors", "tensors are placeholders without an element", "SHP105", structure="SHP203")
def ungathered_tensors(plan: Plan) -> None:
    """What ZeRO stage 3 leaves of a model that is saved without gathering its parameters."""
    plan.alter(lambda name: not name.endswith("norm.weight"), shape=(0,), origin=(0,))


@breaks_as("transposed-weights", "all projections are transposed", "SHP101")
def transposed_weights(plan: Plan) -> None:
    """As frameworks that keep weights by input first."""

    def change(tensor: Tensor) -> tuple[Tensor]:
        if "_proj" not in tensor.name:
            return (tensor,)
        return (replace(tensor, shape=tensor.shape[::-1], origin=tensor.origin[::-1]),)

    plan.rewrite(change)


@breaks_as("wrong-norm-shape", "a norm has one element more", "SHP101", structure="SHP202")
def wrong_norm_shape(plan: Plan) -> None:
    """One element of one norm."""
    width = plan.rows[plan.input_norm].shape[0] + 1
    plan.alter(plan.input_norm.__eq__, shape=(width,), origin=(width,))


@breaks_as("transposed-router", "a router is transposed", "SHP101")
def transposed_router(plan: Plan) -> None:
    """The same number of elements, so sizes show nothing."""
    shape = plan.rows[plan.router].shape[::-1]
    plan.alter(plan.router.__eq__, shape=shape, origin=shape)


@breaks_as("flattened-norm", "a norm has a leading dimension of 1", "SHP101")
def flattened_norm(plan: Plan) -> None:
    """As some exporters write vectors."""
    shape = (1, plan.config["hidden_size"])
    plan.alter(plan.final_norm.__eq__, shape=shape, origin=shape)


@breaks_as("float16-router", "a router is F16", "SHP102")
def float16_router(plan: Plan) -> None:
    """The same size as BF16, so only the dtype shows it."""
    plan.alter(plan.router.__eq__, dtype="F16")


@breaks_as("float32-master-weights", "all that stays unquantised is F32, torch_dtype is bfloat16", "SHP106")
def master_weights(plan: Plan) -> None:
    """As trainers keep weights, of a BF16 conversion."""
    bf16_conversion(plan)
    plan.alter(lambda _: True, dtype="F32")


@breaks_as("float32-routers", "routers are F32, as transformers 5 saves them", "SHP107", severity=Severity.INFO)
def float32_routers(plan: Plan) -> None:
    """It keeps them so whatever it is asked for."""
    routers = {name for name, row in plan.rows.items() if row.module == "router" and "F32" in row.allowed}
    plan.alter(routers.__contains__, dtype="F32")


@breaks_as("float32-head", "lm_head is F32", "SHP102")
def float32_head(plan: Plan) -> None:
    """Twice the size that the config implies."""
    plan.alter(plan.naming.head.__eq__, dtype="F32")


@breaks_as(
    "foreign-norm-dtype", "norms are in another float dtype than the family's", "SHP103", severity=Severity.WARNING
)
def foreign_norm_dtype(plan: Plan) -> None:
    """F32 where the family has BF16 and the other way round; loaders cast them."""

    def change(tensor: Tensor) -> tuple[Tensor]:
        row = plan.row(tensor.name)
        return (_other_float(tensor, row) if row is not None and row.role == "norm" else tensor,)

    plan.rewrite(change)


def _other_float(tensor: Tensor, row: Row) -> Tensor:
    return replace(tensor, dtype="F32" if row.dtype == "BF16" else "BF16")


@breaks_as("bf16-router-bias", "correction biases are BF16", "SHP104")
def bf16_router_bias(plan: Plan) -> None:
    """A rounded bias chooses other experts."""
    biases = {name for name, row in plan.rows.items() if row.role == "router_bias"}
    plan.alter(biases.__contains__, dtype="BF16")
