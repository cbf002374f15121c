"""Why a tensor that a conversion leaves out is no loss: its module is one that the new config does without."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from auditor.families.expectations import Expectations
from auditor.patterns import layer_of

_COUNT = "num_nextn_predict_layers"
_COMPUTED = ".rotary_emb.inv_freq"


class Declared(Struct, frozen=True):
    """What a side's config.json says: its fields, and what a family expects by them, where one does."""

    fields: Mapping[str, Any] | None = None
    expectations: Expectations | None = None

    def number(self, field: str) -> int | None:
        """A whole number, which may be in the part of a config that is about text."""
        for fields in (self.fields, (self.fields or {}).get("text_config")):
            value = fields.get(field) if isinstance(fields, Mapping) else None
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        return None


def excuse(name: str, old: Declared, new: Declared) -> str:
    """Why it is no loss; empty where it is one."""
    if name.endswith(_COMPUTED):
        return "is computed from the config"
    if not _is_mtp(name, old):
        return ""
    if new.number(_COUNT) == 0:
        return f"{_COUNT} of NEW is 0"
    if new.expectations is not None and not new.expectations.mtp_layers and new.number(_COUNT) is None:
        return f"NEW declares no {_COUNT}"
    return ""


def _is_mtp(name: str, old: Declared) -> bool:
    """Whether a tensor is of an MTP module."""
    if old.expectations is not None and old.expectations.mtp_layers:
        return old.expectations.naming.layer_of(name) in old.expectations.mtp_layers
    layer, layers = layer_of(name), old.number("num_hidden_layers")
    if name.startswith(("mtp.", "model.mtp.")):
        return True
    return bool(old.number(_COUNT)) and layer is not None and layers is not None and layer >= layers
