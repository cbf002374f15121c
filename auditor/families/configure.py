"""config.json, from bytes to a validated ModelConfig of a family, with every fault named by its field."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from auditor.errors import Unread
from auditor.families import Family, families, family_for
from auditor.families.exports import Export
from auditor.families.quantised import DECLARATIONS, SIDECAR, Declared, of_config, of_sidecar, own_of
from auditor.format.disguise import disguise_of
from auditor.format.files import CONFIG
from auditor.format.proof import has_minus_zero, quotes
from auditor.inventory.facts import ConfigFault, ConfigFile
from auditor.text import UNSHOWN, listed, named, quoted
from auditor_schemas.config import ModelConfig
from auditor_schemas.policy import Limits

_LEVELS = 64  # what no config.json needs, whatever a policy allows of other documents


class Configuration(msgspec.Struct, frozen=True):
    """What config.json says. `config` is None when its faults leave nothing to derive expectations from.

    `unsupported` is the reason where no family knows the model_type or reads the quantisation, which is then
    `foreign`; `over_limit` where a limit refused it, or it could not be read. `beside` are the fields of
    hf_quant_config.json where nothing is expected of a config, and it declares no quantisation.
    """

    fields: dict[str, Any] | None
    faults: tuple[ConfigFault, ...]
    family: Family | None = None
    config: ModelConfig | None = None
    unsupported: Unread | None = None
    over_limit: Unread | None = None
    foreign: Declared | None = None
    beside: dict[str, Any] | None = None


def configure(
    file: ConfigFile,
    limits: Limits,
    *,
    family: Family | None = None,
    unknown: Family | None = None,
    sidecar: Callable[[], ConfigFile] = lambda: ConfigFile("absent"),
) -> Configuration:
    """Validate config.json against its family's rules; `family` forces one whatever model_type says.

    `unknown` is taken where no family answers to the model_type, or there is none. `sidecar` reads
    hf_quant_config.json, which is asked for where config.json declares no quantisation.
    """
    found = _configure(file, limits, family, sidecar, unknown)
    return _without_words(found) if file.outside and found.config is None else found


def _without_words(found: Configuration) -> Configuration:
    """The same without a word of the file: whoever links config.json to another file shall not read it in a report."""
    faults: dict[tuple[str, str | None], ConfigFault] = {}
    for fault in found.faults:
        if fault.file != CONFIG:
            faults[fault.file, fault.field] = fault
            continue
        field = None if fault.kind == "malformed-config" else fault.field
        message = "is no config.json" if field is None else "has another value than it needs"
        faults[fault.kind, field] = ConfigFault(fault.kind, field, f"{message}; {UNSHOWN}")
    unsupported = found.unsupported
    if unsupported is not None:
        unsupported = Unread(f"model_type is of no known family; {UNSHOWN}", unsupported.code)
    foreign = None if found.foreign is None else found.foreign.unquoted()
    if foreign is not None:
        unsupported = Unread(foreign.message, "unsupported")
    fields: dict[str, Any] | None = None if found.fields is None else {}
    return Configuration(fields, tuple(faults.values()), found.family, None, unsupported, found.over_limit, foreign)


def _configure(
    file: ConfigFile,
    limits: Limits,
    family: Family | None,
    sidecar: Callable[[], ConfigFile],
    unknown: Family | None = None,
) -> Configuration:
    asked = family if family is not None and not family.expects else None
    if file.state == "unread":
        return Configuration(None, (), asked, over_limit=Unread(f"config.json: {file.reason}", file.code or "limit"))
    if file.state == "absent" and (asked or (unknown if family is None else None)):
        return _unexpecting(None, asked or unknown, sidecar, limits)
    if file.state == "absent":
        return Configuration(None, (ConfigFault("missing-config", None, "config.json is not there"),))
    if file.state == "damaged":
        return Configuration(None, (ConfigFault("malformed-config", None, f"config.json {file.reason}"),), asked)
    fields, faults, exceeded = _parse(file.data, limits)
    if exceeded is not None:
        return Configuration(None, (), asked, over_limit=Unread(f"config.json: {exceeded}", "limit"))
    # Of a key that is there twice one loader takes the first value and another the last: nothing follows.
    if fields is None or faults:
        return Configuration(None, tuple(faults), asked)
    if "error" in fields and "model_type" not in fields:
        answer = f"is the answer of a server, error {quoted(fields['error'])}, and no configuration"
        return Configuration(None, (ConfigFault("malformed-config", None, answer),), asked)
    model_type = fields.get("model_type")
    chosen = family or family_for(model_type) or unknown
    if chosen is not None and not chosen.expects:
        return _unexpecting(fields, chosen, sidecar, limits)
    if chosen is None:
        known = sorted(name for each in families().values() for name in each.model_types)
        if not isinstance(model_type, str):
            there = "missing" if "model_type" not in fields else quoted(model_type)
            faults.append(
                ConfigFault(
                    "invalid-config-field",
                    "model_type",
                    f"is {there}, needs one of {listed(known, most=9)}",
                    known,
                    model_type,
                )
            )
            return Configuration(fields, tuple(faults))
        reason = (
            f"model_type {quoted(model_type)} is of no known family; supported: {listed(known, most=9)}; "
            "--family forces one where a fork keeps the layout, --family structure audits without one"
        )
        return Configuration(fields, tuple(faults), unsupported=Unread(reason, "unsupported"))
    if not isinstance(model_type, str) and family is not None:
        fields = {**fields, "model_type": family.model_types[0]}
    laid_out = _layout_fields(fields, chosen)
    declared = of_config(laid_out, chosen.formats, _prefix("quantization_config", fields, chosen))
    if laid_out.get("quantization_config") is None:
        file = sidecar()
        beside, faults, exceeded = _read_sidecar(file, limits)
        if faults or exceeded:
            return Configuration(fields, tuple(faults), chosen, over_limit=exceeded)
        declared = _beside(beside, laid_out, outside=file.outside)
    export, foreign = (declared, None) if isinstance(declared, Export) else (None, declared)
    if declared is not None:
        # Of another format this family has no rules; the other fields are judged all the same.
        own = own_of(laid_out.get("quantization_config")) if foreign is None else None
        laid_out = {**laid_out, "quantization_config": own}
    try:
        config = chosen.config.model_validate(laid_out)
        config = config.under(export)
    except ValidationError as error:
        faults.extend(_placed(each, fields, chosen) for each in _faults(error))
        config = None
    over_limit = None
    if config is not None:
        faults.extend(_placed(_contradiction(*each), fields, chosen) for each in config.contradictions())
        faults.extend(_differing_lists(config))
        demand = _over_limit(config, limits)
        if demand is not None:
            faults.append(demand)
            over_limit = Unread(f"config.json: {demand.field} {demand.message}", "limit")
    if foreign is not None or over_limit is not None:
        config = None
    unsupported = None if foreign is None else Unread(foreign.message, "unsupported")
    return Configuration(fields, tuple(faults), chosen, config, unsupported, over_limit, foreign)


def _unexpecting(
    fields: dict[str, Any] | None, family: Family | None, sidecar: Callable[[], ConfigFile], limits: Limits
) -> Configuration:
    """A config of which nothing is judged but what it declares of quantisation."""
    places = [fields or {}, *(each for each in (fields or {}).values() if isinstance(each, dict))]
    if any(name in place for place in places for name in DECLARATIONS):
        return Configuration(fields, (), family)
    file = sidecar()
    beside, faults, exceeded = _read_sidecar(file, limits)
    return Configuration(fields, tuple(faults), family, over_limit=exceeded, beside=None if file.outside else beside)


def _layout_fields(fields: dict[str, Any], family: Family) -> dict[str, Any]:
    """The fields that the layout follows from, with those around them where a family nests them."""
    inner = fields.get(family.nested) if family.nested is not None else None
    if not isinstance(inner, dict):
        return fields
    outer = {name: value for name, value in fields.items() if name not in inner and name != family.nested}
    return {**inner, **outer, "model_type": fields["model_type"], "architectures": fields.get("architectures")}


def _placed(fault: ConfigFault, fields: dict[str, Any], family: Family) -> ConfigFault:
    """A fault of a field named where config.json has the field, or should."""
    name = (fault.field or "").partition(".")[0]
    prefix = _prefix(name, fields, family)
    return replace(fault, field=f"{prefix}{fault.field}") if name and prefix else fault


def _prefix(field: str, fields: dict[str, Any], family: Family) -> str:
    """What stands before a field of the layout, where config.json has it."""
    inner = fields.get(family.nested) if family.nested is not None else None
    return f"{family.nested}." if isinstance(inner, dict) and (field in inner or field not in fields) else ""


def _read_sidecar(file: ConfigFile, limits: Limits) -> tuple[dict[str, Any] | None, list[ConfigFault], Unread | None]:
    """The fields of hf_quant_config.json, why it has none although it is there, and why it was not read."""
    message = file.reason
    if file.state == "unread":
        return None, [], Unread(f"{SIDECAR}: {file.reason}", file.code or "limit")
    if file.state == "absent":
        return None, [], None
    if file.state == "read":
        fields, faults, exceeded = _parse(file.data, limits)
        if exceeded is not None:
            return None, [], Unread(f"{SIDECAR}: {exceeded}", "limit")
        held = None if fields is None else fields.get("quantization")
        if not faults and (held is None or isinstance(held, dict)):
            return fields, [], None
        message = faults[0].message if faults else f"has {quoted(held)} as quantization, needs an object"
    if file.outside:
        message = f"declares no quantisation that can be read; {UNSHOWN}"
    return None, [ConfigFault("invalid-quantization-config", None, f"{SIDECAR} {message}", file=SIDECAR)], None


def _beside(sidecar: dict[str, Any] | None, laid_out: dict[str, Any], *, outside: bool) -> Declared | Export | None:
    found = None if sidecar is None else of_sidecar(sidecar, laid_out)
    if found is None or not outside:
        return found
    return replace(found, shown=False) if isinstance(found, Export) else found.unquoted()


def _parse(data: bytes, limits: Limits) -> tuple[dict[str, Any] | None, list[ConfigFault], str | None]:
    """The fields, the faults of the document, and the limit that ended its reading."""
    proven = _prove(data) if data.count(b",") <= limits.json_values else None
    if proven is not None:
        return proven, [], None
    other = disguise_of(data)
    if other is not None:
        return None, [ConfigFault("malformed-config", None, other)], None
    from auditor.format.strictjson import parse  # the slow path alone pays for it

    document = parse(data, max_depth=limits.json_depth, max_values=limits.json_values)
    faults: list[ConfigFault] = []
    for fault in document.faults:
        message = fault.message
        if fault.kind == "duplicate-key":
            if any(each.field is not None for each in faults):
                continue  # one of them says what is wrong with the document, and there may be thousands
            more = f"; and {document.duplicates - 1:,} more keys" if document.duplicates > 1 else ""
            message = f"key {quoted(fault.key)} is there more than once, at byte {fault.offset}{more}"
        elif fault.kind == "limit" or (fault.kind == "depth" and limits.json_depth < _LEVELS):
            return None, [], f"{message} at byte {fault.offset}"
        elif fault.kind == "depth":
            message = f"nested deeper than {limits.json_depth} levels at byte {fault.offset}"
        faults.append(ConfigFault("malformed-config", fault.key, message))
    if not document.complete:
        return None, faults, None
    if not isinstance(document.value, dict):
        faults.append(ConfigFault("malformed-config", None, f"is {quoted(document.value)}, needs an object"))
        return None, faults, None
    return document.value, faults, None


def _prove(data: bytes) -> dict[str, Any] | None:
    """config.json where no key can be there twice: it has the strings that the result has, and no more."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or quotes(data) != 2 * _strings(value) or has_minus_zero(data):
        return None
    return value


def _strings(value: Any, depth: int = 0) -> int:
    """Strings in a decoded document, keys included; -1 for each level beyond what a config.json needs."""
    if isinstance(value, str):
        return 1
    if depth > 8:
        return -(1 << 40)
    if isinstance(value, dict):
        return len(value) + sum(_strings(each, depth + 1) for each in value.values())
    return sum(_strings(each, depth + 1) for each in value) if isinstance(value, list) else 0


def _faults(error: ValidationError) -> list[ConfigFault]:
    faults: list[ConfigFault] = []
    for detail in error.errors(include_url=False):
        if detail["type"] == "contradiction":
            faults.extend(_contradiction(*each) for each in detail["ctx"]["contradictions"])
            continue
        field = ".".join(str(part) for part in detail["loc"])
        slug = "invalid-quantization-config" if field.startswith("quantization_config") else "invalid-config-field"
        allowed = _allowance(detail)
        if detail["type"] == "missing":
            faults.append(ConfigFault(slug, field, f"is missing, needs {_need_of(field)}", _need_of(field)))
        else:
            actual = detail["input"]
            faults.append(ConfigFault(slug, field, f"is {quoted(actual)}, needs {allowed}", allowed, quoted(actual)))
    return faults


def _contradiction(field: str, actual: Any, allowed: str) -> ConfigFault:
    return ConfigFault("contradictory-config", field, f"is {quoted(actual)}, must be {allowed}", allowed, actual)


def _differing_lists(config: ModelConfig) -> Iterator[ConfigFault]:
    """transformers exempts the modules of modules_to_not_convert, vLLM and SGLang those of ignored_layers."""
    quantization = config.quantization_config
    if quantization is None or not quantization.lists_differ:
        return
    one, other = set(quantization.modules_to_not_convert or ()), set(quantization.ignored_layers or ())
    alone = [
        f"{name} alone has {named(min(names))}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}"
        for name, names in (("ignored_layers", other - one), ("modules_to_not_convert", one - other))
        if names
    ]
    yield ConfigFault(
        "differing-exemptions",
        "quantization_config.ignored_layers",
        f"exempts other modules than modules_to_not_convert: {', '.join(alone)}",
        sorted(one)[:9],
        sorted(other)[:9],
    )


def _need_of(field: str) -> str:
    if field in ("q_lora_rank", "n_routed_experts", "n_shared_experts"):
        return "a positive integer, or null for none"
    if "weight_block_size" in field:
        return "two positive integers, as [128, 128]"
    return "'fp8'" if field.endswith("quant_method") else "a positive integer"


# What a field needs, by the kind of its fault.
_ALLOWANCES = {
    "literal_error": "one of {expected}",
    "greater_than_equal": "an integer of at least {ge}",
    "less_than_equal": "an integer of at most {le:,}",
    "int_type": "an integer",
    "power_of_two": "a power of two, such as the released 128",
    "bool_type": "true or false",
    "too_long": "at most {max_length:,} entries",
    "too_short": "an array",
    "tuple_type": "an array",
    "missing_positional_only_argument": "an array",
    "string_too_short": "a name of 1 to 512 characters",
    "string_too_long": "a name of 1 to 512 characters",
    "string_pattern_mismatch": "a module's name of letters, digits, '_', '-' and '.'",
    "string_type": "a string",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
}


def _allowance(detail: Any) -> str:
    words = _ALLOWANCES.get(detail["type"])
    if words is None:
        message: str = detail["msg"]
        return message[0].lower() + message[1:]
    if "block_size" in str(detail["loc"]) and (words == "an array" or detail["type"] == "too_long"):
        return "two positive integers, as [128, 128]"
    return words.format(**detail.get("ctx") or {})


def _over_limit(config: ModelConfig, limits: Limits) -> ConfigFault | None:
    layers, experts = config.layer_count, config.routed_experts or 0
    deep = "num_hidden_layers" if config.num_hidden_layers > limits.layers else "num_nextn_predict_layers"
    for field, value, limit, what, name in (
        (deep, layers, limits.layers, "layers", "layers"),
        ("n_routed_experts", experts, limits.experts, "routed experts", "experts"),
        ("n_routed_experts", config.tensors, limits.expected_tensors, "tensors", "expected_tensors"),
    ):
        if value > limit:
            message = f"demands {value:,} {what}, limit {limit:,} ({name})"
            return ConfigFault("config-over-limit", field, message, f"at most {limit}", value)
    return None
