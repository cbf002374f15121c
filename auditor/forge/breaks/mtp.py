"""Breaks of the multi-token prediction module."""

from msgspec.structs import replace

from auditor.forge.breaks import breaks_as
from auditor.forge.convert import unquantise
from auditor.forge.plan import Plan
from auditor_schemas.rule import Severity


@breaks_as("missing-mtp-module", "config.json promises an MTP module, its layer is not there", "MTP101")
def missing_module(plan: Plan) -> None:
    """Trainers that do not know the module drop it when they save."""
    plan.drop(lambda name: plan.naming.layer_of(name) in plan.mtp_layers)


@breaks_as("renamed-mtp-module", "the MTP module is stored under mtp., not as a layer", "NAM104")
def renamed_module(plan: Plan) -> None:
    """As training frameworks name it; loaders of the layout look for a layer."""
    head = plan.naming.prefix(plan.mtp_layers[0])
    plan.rewrite(lambda tensor: (replace(tensor, name=tensor.name.replace(head, "mtp.")),))


@breaks_as(
    "undeclared-mtp-module",
    "an MTP module is there, config.json has no num_nextn_predict_layers",
    "MTP102",
    severity=Severity.WARNING,
)
def undeclared_module(plan: Plan) -> None:
    """Loaders skip the layer, and speculative decoding is off."""
    del plan.config["num_nextn_predict_layers"]


@breaks_as("unquantised-mtp-module", "the main model is FP8, the MTP module BF16", "MTP103", structure="QNT212")
def unquantised_module(plan: Plan) -> None:
    """A loader applies quantization_config to the module as well and finds no scales."""
    unquantise(plan, lambda name: plan.naming.layer_of(name) in plan.mtp_layers)


@breaks_as("absent-mtp-copies", "the MTP module has no copies of embedding and head", "MTP104", severity=Severity.INFO)
def absent_copies(plan: Plan) -> None:
    """They are shared with the main model by the documentation; the release stores them twice."""
    copies = {
        f"{plan.naming.prefix(layer)}{end}.weight"
        for layer in plan.mtp_layers
        for end in ("embed_tokens", "shared_head.head")
    }
    plan.drop(copies.__contains__)
