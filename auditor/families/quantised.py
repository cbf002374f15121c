"""What a declaration of quantised weights means, where it is another than the published FP8 blocks."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from auditor.families.exports import Export, export_of
from auditor.families.expressions import UnreadableError
from auditor.text import UNSHOWN, quoted

SIDECAR = "hf_quant_config.json"
# Where config.json, or an object of it, may declare a quantisation.
DECLARATIONS = ("quantization_config", "compression_config", "quantization")
SUPPORTED = (
    "fp8 with weight_block_size, NVFP4 and FP8 of ModelOpt, packed INT4, NVFP4 and MXFP4 of compressed-tensors, "
    "block INT8, AWQ and GPTQ"
)

# What writers call their formats where the name alone does not say it.
_NAMES = {
    "awq": "AWQ", "gptq": "GPTQ", "blockwise_int8": "block INT8", "w8a8_int8": "INT8", "mxfp4": "MXFP4",
    "bitsandbytes": "bitsandbytes", "compressed-tensors": "compressed-tensors", "modelopt": "ModelOpt",
}  # fmt: skip


class Declared(Struct, frozen=True):
    """A format that no family reads: its name for a person, and the field of a file that says so.

    `why`: what it is that is not read, where the format itself is known.
    """

    name: str
    file: str
    field: str
    value: str
    why: str = ""

    def unquoted(self) -> "Declared":
        """The same without a word of the file."""
        return Declared("another format", self.file, self.field.partition(".")[0], "")

    @property
    def message(self) -> str:
        """What is declared, where, and what could be read instead."""
        if not self.value:
            return f"{self.field} in {self.file} is of a format that no family reads; {UNSHOWN}"
        why = f" ({self.why})" if self.why else ""
        # Another family's config model may read this field.
        reads = "this family does not read" if self.field.endswith(".expert_dtype") else "no family reads"
        return f"{self.field} in {self.file} is {self.value}: {self.name}, which {reads}{why}; supported: {SUPPORTED}"


def of_config(
    fields: Mapping[str, Any], own: Mapping[str, tuple[str, ...]], prefix: str = ""
) -> Declared | Export | None:
    """What config.json declares beyond FP8 blocks; None where it is these, none at all, or nothing that can be told.

    `own` has the values, by the declaration's fields, that the family's config model reads itself. `prefix` says where
    in the file the fields lie.
    """
    quantization = fields.get("quantization_config")
    if not isinstance(quantization, dict):
        return None
    return _read(quantization, "config.json", f"{prefix}quantization_config", _dtype_of(fields), own)


def of_sidecar(sidecar: Mapping[str, Any], fields: Mapping[str, Any]) -> Declared | Export | None:
    """What hf_quant_config.json declares, as ModelOpt writes it beside a config.json (`fields`) that is silent."""
    quantization = sidecar.get("quantization")
    return (
        _read(quantization, SIDECAR, "quantization", _dtype_of(fields), {}) if isinstance(quantization, dict) else None
    )


def own_of(quantization: object) -> object:
    """What is left of a quantization_config for the family's own format, where an export is declared with it."""
    if not isinstance(quantization, dict) or quantization.get("quant_method") != "fp8":
        return None
    return quantization if "weight_block_size" in quantization else None


def _dtype_of(fields: Mapping[str, Any]) -> str:
    return str(fields.get("dtype") or fields.get("torch_dtype"))


def _read(
    quantization: Mapping[str, Any], file: str, field: str, dtype: str, own: Mapping[str, tuple[str, ...]]
) -> Declared | Export | None:
    declared = _declared(quantization, file, field, own)
    if declared is None:
        return None
    try:
        found = export_of(quantization, name=declared.name, file=file, field=declared.field, dtype=dtype)
    except UnreadableError as error:
        return replace(declared, why=str(error))
    return found or declared


def _declared(
    quantization: Mapping[str, Any], file: str, field: str, own: Mapping[str, tuple[str, ...]]
) -> Declared | None:
    for key in ("quant_algo", "moe_quant_algo", "format", "expert_dtype", "quant_method"):
        value = quantization.get(key)
        # ModelOpt's FP8 has one scale a tensor; everywhere else fp8 is the published format or part of it.
        published = isinstance(value, str) and value.lower() == "fp8" and key != "quant_algo"
        if isinstance(value, str) and value and not published and value not in own.get(key, ()):
            return Declared(_name(quantization, key, value), file, f"{field}.{key}", quoted(value))
    return None


def _name(quantization: Mapping[str, Any], key: str, value: str) -> str:
    method = quantization.get("quant_method")
    writer = _NAMES.get(method, "") if isinstance(method, str) and key != "quant_method" else ""
    parts = [writer, _NAMES.get(value, _short(value)), *_details(quantization)]
    return " ".join(dict.fromkeys(part for part in parts if part))


def _details(quantization: Mapping[str, Any]) -> Iterator[str]:
    """Algorithms of single layers, and bits, where the declaration has them."""
    layers = quantization.get("quantized_layers")
    if isinstance(layers, dict):
        algorithms = {each.get("quant_algo") for each in layers.values() if isinstance(each, dict)}
        yield " and ".join(sorted(_short(each) for each in algorithms if isinstance(each, str))[:3])
    groups = quantization.get("config_groups")
    weights = [quantization, *(each.get("weights") for each in _values(groups) if isinstance(each, dict))]
    for each in weights:
        if isinstance(each, dict):
            kind, bits = each.get("type", ""), each.get("num_bits", each.get("bits"))
            if isinstance(bits, int) and 0 < bits < 65 and kind in ("", "int", "float"):
                yield f"{bits}-bit{f' {kind}' if kind else ''}"


def _values(groups: object) -> list[Any]:
    return list(groups.values())[:9] if isinstance(groups, dict) else []


def _short(value: str) -> str:
    return quoted(value)[1:-1] if len(value) <= 32 else quoted(value)
