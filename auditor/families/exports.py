"""An export: which format each module of a family's layout is stored in, by what the checkpoint declares.

ModelOpt, compressed-tensors, AutoAWQ and GPTQ write any model's weights in formats of theirs, and say in config.json or
beside it which modules they left as they were. Such a module falls back to what its family has for it: a format of its
own where that is declared as well, else plain floats.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from auditor.families.expressions import UnreadableError
from auditor.families.scaling import (
    WHOLE,
    Quantiser,
    awq,
    fp4_groups,
    fp8_tensor,
    gptq,
    int8_blocks,
    nvfp4,
    packed_int,
    packed_nvfp4,
)
from auditor.families.selection import Selection
from auditor.format.dtypes import FROM_TORCH, Dtype
from auditor.text import quoted

_Fields = Mapping[str, Any]


class Export(Struct, frozen=True, eq=False, kw_only=True):
    """Formats of modules, as a checkpoint declares them.

    `name` is for a person; `file` and `field` say where it is declared, `list_field` where the list of what is left
    out, `excluded`. `layers` are formats of single modules, `default` that of all others, None: as the family has it.
    `heads`: it quantises the head as well, unless excluded. `caches`: there may be scales of the cache of keys and
    values. `shown`: reports may quote what is declared.
    """

    name: str
    file: str
    field: str
    list_field: str
    excluded: Selection
    default: Quantiser | None = None
    layers: tuple[tuple[Selection, Quantiser], ...] = ()
    heads: bool = False
    caches: bool = False
    shown: bool = True

    def quantiser_of(self, module: str, experts: int = 0) -> Quantiser | None:
        """The format of a module, that of all its routed experts by `{expert}`; None: as the family has it."""
        if self.excluded.has(module, experts):
            return None
        return next((quantiser for selection, quantiser in self.layers if selection.has(module, experts)), self.default)


def export_of(declared: _Fields, *, name: str, file: str, field: str, dtype: str) -> Export | None:
    """The export that an object declares; None for a format that is not known here.

    `name`, `file` and `field` say what it is and where; `dtype` is torch's name of the model's. Raises UnreadableError
    for a declaration of a known format that makes no sense, or means more than can be read.
    """
    read = _reader(declared)
    if read is None:
        return None
    held = read(declared, FROM_TORCH.get(dtype, "BF16"))
    place = field.partition(".")[0]
    return Export(name=name, file=file, field=field, **{**held, "list_field": f"{place}.{held['list_field']}"})


def _reader(declared: _Fields) -> Callable[[_Fields, Dtype], dict[str, Any]] | None:
    method = declared.get("quant_method")
    if declared.get("quant_algo"):
        return _modelopt if method in _MODELOPT else None
    if method == "compressed-tensors" or (method is None and declared.get("config_groups")):
        return _compressed
    return _METHODS.get(method) if isinstance(method, str) else None


# --- ModelOpt

_MODELOPT = (None, "modelopt", "modelopt_fp4", "modelopt_mixed", "fp8")
_GROUPED = {"NVFP4": True, "W4A16_NVFP4": False}


def _modelopt(declared: _Fields, dtype: Dtype) -> dict[str, Any]:
    del dtype
    field = next((each for each in ("exclude_modules", "ignore") if declared.get(each) is not None), "exclude_modules")
    held: dict[str, Any] = {
        "list_field": field,
        "excluded": _selection(declared, field),
        "caches": declared.get("kv_cache_quant_algo") is not None or declared.get("kv_cache_scheme") is not None,
        "heads": True,
    }
    algorithm = declared["quant_algo"]
    if algorithm != "MIXED_PRECISION":
        return {**held, "default": _algorithm(algorithm, _group(declared))}
    layers = declared.get("quantized_layers")
    if not isinstance(layers, dict):
        raise UnreadableError(f"quantized_layers is {quoted(layers)}, needs an object")
    modules: dict[tuple[str, int], list[str]] = {}
    for module, each in layers.items():
        if not isinstance(each, dict):
            raise UnreadableError(f"quantized_layers has {quoted(each)}, needs objects")
        key = each.get("quant_algo"), each.get("group_size", declared.get("group_size", 16))
        modules.setdefault((str(key[0]), _number("group_size", key[1])), []).append(module)
        if len(modules) > _MOST_FORMATS:
            raise UnreadableError(f"quantized_layers has more than {_MOST_FORMATS} formats")
    formats = tuple((Selection(names), _algorithm(*key)) for key, names in modules.items())
    return {**held, "layers": formats, "heads": any(names.has("lm_head") or names.has("head") for names, _ in formats)}


_MOST_FORMATS = 16


def _group(declared: _Fields) -> int:
    """The size of groups, which newer writers give with the weights' arguments."""
    size = declared.get("group_size")
    for each in _groups(declared):
        size = size or _object(each, "weights").get("group_size")
    return _number("group_size", 16 if size is None else size)


def _algorithm(name: object, group: int) -> Quantiser:
    if name == "FP8":
        return fp8_tensor()
    if name not in _GROUPED:
        raise UnreadableError(f"quant_algo is {quoted(name)}, needs one of {', '.join(_GROUPED)}, FP8, MIXED_PRECISION")
    return nvfp4(group, activations=_GROUPED[str(name)])


# --- compressed-tensors


def _compressed(declared: _Fields, dtype: Dtype) -> dict[str, Any]:
    layers: list[tuple[Selection, Quantiser]] = []
    default: Quantiser | None = None
    for each in _groups(declared):
        quantiser = _scheme(each, each.get("format") or declared.get("format"), dtype)
        targets = each.get("targets")
        if not isinstance(targets, list):
            raise UnreadableError(f"targets is {quoted(targets)}, needs an array")
        if "Linear" in targets:
            default = quantiser
        named = [target for target in targets if target != "Linear"]
        if named:
            layers.append((Selection(named), quantiser))
    if default is None and not layers:
        raise UnreadableError("config_groups is empty")
    return {
        "list_field": "ignore",
        "excluded": _selection(declared, "ignore"),
        "default": default,
        "layers": tuple(layers),
        "caches": declared.get("kv_cache_scheme") is not None,
        "heads": True,
    }


def _groups(declared: _Fields) -> Iterator[dict[str, Any]]:
    groups = declared.get("config_groups")
    if groups is None:
        return
    if not isinstance(groups, dict) or len(groups) > _MOST_FORMATS or not all(map(_is_object, groups.values())):
        raise UnreadableError(f"config_groups is {quoted(groups)}, needs an object of at most {_MOST_FORMATS} objects")
    yield from groups.values()


def _scheme(group: _Fields, written: object, dtype: Dtype) -> Quantiser:
    """The format of one group of modules."""
    weights = _object(group, "weights")
    kind, bits, strategy = weights.get("type"), weights.get("num_bits"), weights.get("strategy")
    activations = group.get("input_activations") is not None
    size = WHOLE if strategy == "channel" else weights.get("group_size")
    if written == "pack-quantized" and kind == "int" and bits in (4, 8) and strategy in ("group", "channel"):
        if weights.get("actorder") not in (None, "static", "weight"):
            raise UnreadableError(f"actorder is {quoted(weights.get('actorder'))}, needs null or 'static'")
        symmetric = weights.get("symmetric") is not False
        return packed_int(bits, _number("group_size", size), _floats(dtype), symmetric=symmetric)
    if kind == "float" and bits == 4:
        if written == "nvfp4-pack-quantized":
            return packed_nvfp4(_number("group_size", size if size is not None else 16), activations=activations)
        if written == "mxfp4-pack-quantized":
            group_size = _number("group_size", size if size is not None else 32)
            return fp4_groups(group_size, dtype="U8", codes="weight_packed", scale="weight_scale", scale_dtype="U8")
    raise UnreadableError(f"format {quoted(written)} of {quoted(bits)} bits, type {quoted(kind)}, is not read")


def _floats(dtype: Dtype) -> tuple[Dtype, ...]:
    """The dtypes of scales that are stored as the model is."""
    return (dtype, *(each for each in FROM_TORCH.values() if each != dtype))


# --- formats of one method


def _blockwise_int8(declared: _Fields, dtype: Dtype) -> dict[str, Any]:
    del dtype
    block = declared.get("weight_block_size")
    if not isinstance(block, list) or len(block) != 2:
        raise UnreadableError(f"weight_block_size is {quoted(block)}, needs two positive integers")
    rows, columns = (_number("weight_block_size", side) for side in block)
    return {**_without(declared, "ignored_layers"), "default": int8_blocks((rows, columns))}


def _awq(declared: _Fields, dtype: Dtype) -> dict[str, Any]:
    version = declared.get("version", "gemm")
    if not isinstance(version, str) or version.lower() != "gemm" or declared.get("zero_point", True) is not True:
        raise UnreadableError(f"version is {quoted(version)}, needs 'gemm' with zero points")
    bits, group = _bits(declared, "w_bit"), _size(declared, "q_group_size")
    # AutoAWQ computes in F16 whatever the model was in.
    return {**_without(declared), "default": awq(group, ("F16", *_others(dtype)), bits=bits)}


def _gptq(declared: _Fields, dtype: Dtype) -> dict[str, Any]:
    for each in ("dynamic", "modules_in_block_to_quantize", "lm_head"):
        if declared.get(each):
            raise UnreadableError(f"{each} is {quoted(declared[each])}, needs none")
    bits, group = _bits(declared, "w_bit"), _size(declared, "q_group_size")
    return {**_without(declared), "default": gptq(group, ("F16", *_others(dtype)), bits=bits)}


_METHODS: dict[str, Callable[[_Fields, Dtype], dict[str, Any]]] = {
    "blockwise_int8": _blockwise_int8, "awq": _awq, "gptq": _gptq,
}  # fmt: skip


def _others(dtype: Dtype) -> Sequence[Dtype]:
    return [each for each in _floats(dtype) if each != "F16"]


def _without(declared: _Fields, other: str = "modules_to_not_convert") -> dict[str, Any]:
    """The list of modules that are left out, under either name."""
    field = other if declared.get("modules_to_not_convert") is None else "modules_to_not_convert"
    return {"list_field": field, "excluded": _selection(declared, field)}


def _bits(declared: _Fields, other: str) -> int:
    bits = declared.get("bits", declared.get(other))
    if bits not in (4, 8) or isinstance(bits, bool):
        raise UnreadableError(f"bits is {quoted(bits)}, needs 4 or 8")
    return int(bits)


def _size(declared: _Fields, other: str) -> int:
    size = declared.get("group_size", declared.get(other))
    return WHOLE if size == -1 else _number("group_size", size)


# --- values of a stranger's file


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _object(declared: _Fields, field: str) -> _Fields:
    value = declared.get(field)
    if not isinstance(value, dict):
        raise UnreadableError(f"{field} is {quoted(value)}, needs an object")
    return value


def _number(field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= WHOLE:
        raise UnreadableError(f"{field} is {quoted(value)}, needs a positive integer")
    return value


def _selection(declared: _Fields, field: str) -> Selection:
    entries = declared.get(field)
    if entries is None:
        return Selection()
    if not isinstance(entries, list):
        raise UnreadableError(f"{field} is {quoted(entries)}, needs an array")
    try:
        return Selection(entries)
    except UnreadableError as error:
        raise UnreadableError(f"{field} {error}") from error
