"""Breaks that only conventions tell apart: companions of other formats, other blocks, what a declaration leaves out."""

from math import ceil

from msgspec.structs import replace

from auditor.families.scaling import is_scale, scale_name
from auditor.forge.breaks import breaks_as
from auditor.forge.plan import Plan, Tensor
from auditor_schemas.rule import Severity


def _output(plan: Plan) -> str:
    """The weight of one attention's output projection."""
    return f"model.layers.{plan.moe_layer}.self_attn.o_proj.weight"


@breaks_as(
    "cache-scale-without-module",
    "a scale of the cache stands in a module that the layout does not have",
    "NAM102",
    severity=Severity.WARNING,
    structure="QNT203",
)
def cache_scale(plan: Plan) -> None:
    """As published NVFP4 exports have them."""
    name = f"model.layers.{plan.moe_layer}.self_attn.k_proj.k_scale"
    plan.insert(_output(plan), Tensor(name, "F32", (), "biases", name, ()))


@breaks_as("smaller-scale-blocks", "one weight's scales are of smaller blocks", "QNT102", structure="QNT205")
def smaller_blocks(plan: Plan) -> None:
    """One module quantised with other settings than the rest."""
    side = min(plan.block) // 2

    def change(tensor: Tensor) -> tuple[Tensor]:
        if tensor.name != scale_name(_output(plan)):
            return (tensor,)
        return (replace(tensor, shape=(ceil(tensor.origin[0] / side), ceil(tensor.origin[1] / side))),)

    plan.rewrite(change)


@breaks_as("missing-all-scales", "no FP8 weight has a scale", "QNT101", structure="QNT206")
def missing_all(plan: Plan) -> None:
    """A save that kept parameters and lost what was no parameter."""
    plan.drop(is_scale)


@breaks_as(
    "second-level-scale",
    "an FP8 weight in blocks has a second-level scale too",
    "NAM102",
    severity=Severity.WARNING,
    structure="QNT207",
)
def second_level(plan: Plan) -> None:
    """A scale of another format beside those of this one: which of them counts, nothing says."""
    name = _output(plan).replace("weight", "weight_scale_2")
    plan.insert(_output(plan), Tensor(name, "F32", (), "biases", name, ()))


@breaks_as("quantised-exempt-module", "an exempt module is FP8 with its scale", "QNT110", structure="QNT214")
def quantised_exempt(plan: Plan) -> None:
    """The list names a module that the quantiser did not leave out."""
    plan.config["quantization_config"]["modules_to_not_convert"] = [_output(plan).removesuffix(".weight")]


@breaks_as(
    "idle-exemption", "an exempt module is not in the layout", None, severity=None, exit_code=0, structure="QNT213"
)
def idle_exemption(plan: Plan) -> None:
    """A name that a release misspelt: what it was meant for is left out all the same, or is not."""
    plan.config["quantization_config"]["modules_to_not_convert"] = [
        _output(plan).replace("o_proj.weight", "indexers_proj")
    ]
