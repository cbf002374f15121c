"""Reads a policy: every fault is one line that names the file, the line, the key, and what was meant."""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from auditor.errors import UsageError
from auditor.families import families
from auditor.globs import matcher
from auditor.rules import RuleModule
from auditor.text import listed, nearest, quoted, shown
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Rule

POLICY_BYTES = 1 << 20
_TOLD = 5
_Path = tuple[str | int, ...]


def read_policy(path: str | PathLike[str], rules: Iterable[RuleModule]) -> tuple[Policy, str]:
    """The policy of a TOML file and the SHA-256 of the file. Raises UsageError that names what is wrong, and where."""
    place = f"policy {shown(str(path))}"
    try:
        with Path(path).open("rb") as file:
            data = file.read(POLICY_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from error
    if len(data) > POLICY_BYTES:
        raise UsageError(f"{place}: is longer than {POLICY_BYTES:,} bytes")
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{place}, line {line}: not UTF-8: {quoted(data[error.start : error.start + 4])}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{place}: not TOML: {shown(str(error))}") from error
    try:
        policy = Policy.model_validate(document)
        faults = list(_faults(policy, [module.rule for module in rules]))
    except ValidationError as error:
        faults = [_explained(each) for each in error.errors(include_url=False)]
    if faults:
        lines = text.splitlines(keepends=True)
        found = sorted((line_of(lines, where), f"{_spelled(where)}{message}") for where, message in faults)
        told = [f"line {line}: {message}" for line, message in found[:_TOLD]]
        more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise UsageError(f"{place}, {'; '.join(told)}{more}")
    return policy, hashlib.sha256(data).hexdigest()


def check_policy(policy: Policy, rules: Iterable[RuleModule]) -> None:
    """Raise UsageError where a policy made in Python names a rule, a family or a glob that cannot be."""
    for where, message in _faults(policy, [module.rule for module in rules]):
        raise UsageError(f"policy: {_spelled(where)}{message}")


def line_of(lines: list[str], where: _Path) -> int:
    """The line, from 1, where the statement begins that brings a key into a TOML document.

    TOML readers keep no lines, so the reader itself is asked: the first lines that it can read alone and that hold
    the key end with that statement. Of a key that is missing it is the line of the table that lacks it.
    """
    while where and not _holds(lines, len(lines), where):
        where = where[:-1]
    low, high = 0, len(lines)
    while high - low > 1:
        middle = (low + high) // 2
        if _holds(lines, middle, where):
            high = middle
        else:
            low = middle
    return max(high, 1)


def _holds(lines: list[str], count: int, where: _Path) -> bool:
    """Whether the first lines, and those that end the statement in which they stop, hold a key."""
    for stop in range(count, len(lines) + 1):
        try:
            value: Any = tomllib.loads("".join(lines[:stop]))
        except tomllib.TOMLDecodeError:
            continue
        for step in where:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return False
        return True
    return False


def rule_named(name: str, rules: Iterable[Rule]) -> Rule | None:
    """A rule by its id or slug, in any case."""
    return next((each for each in rules if name.upper() == each.id or name.lower() == each.slug), None)


def no_such_rule(name: str, rules: Iterable[Rule]) -> str:
    """What to say of a name that is no rule's."""
    near = nearest(name, [word for each in rules for word in (each.id, each.slug)])
    return f"no rule {shown(name[:80])}{near}; `auditor rules` lists them"


def _faults(policy: Policy, rules: list[Rule]) -> Iterator[tuple[_Path, str]]:
    """What the schema cannot know: rules, families and globs that are not."""
    seen: dict[str, str] = {}
    for name in policy.severity:
        rule = rule_named(name, rules)
        if rule is None:
            yield ("severity", name), no_such_rule(name, rules)
        elif rule.id in seen:
            yield ("severity", name), f"is {rule.id} {rule.slug}, which {shown(seen[rule.id])} names already"
        else:
            seen[rule.id] = name
    known = sorted(families())
    for position, name in enumerate(policy.allow.families or ()):
        if name not in known:
            near = nearest(name, known)
            yield ("allow", "families", position), f"no family {quoted(name)}{near}; there are {listed(known, most=9)}"
    globs: list[tuple[_Path, str]] = [
        (("allow", "unexpected", position), glob) for position, glob in enumerate(policy.allow.unexpected)
    ]
    for position, waiver in enumerate(policy.waivers):
        if rule_named(waiver.rule, rules) is None:
            yield ("waivers", position, "rule"), no_such_rule(waiver.rule, rules)
        targets = (("tensor", waiver.tensor), ("file", waiver.file), ("field", waiver.field))
        globs += [(("waivers", position, kind), glob) for kind, glob in targets if glob is not None]
    for where, glob in globs:
        try:
            matcher(glob)
        except UsageError as error:
            yield where, str(error)


def _explained(error: Any) -> tuple[_Path, str]:
    """One fault of the schema: where, what is there and what was needed."""
    where: _Path = tuple(error["loc"])
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        keys = _keys(where[:-1])
        near = nearest(str(where[-1]), keys)
        return where, f"no such key{near or ';'} here may stand {listed(keys, most=20)}"
    if kind == "missing":
        return where, "is missing"
    if where[-1:] == ("expires",) and kind.startswith("date"):
        return where, f"is {quoted(error['input'])}, needs a date such as 2027-01-31, without quotes"
    if kind == "value_error":
        return where, message
    message = message.replace("Input should", "should").replace("String should", "should")
    return where, f"is {quoted(error['input'])}, {message[:1].lower()}{message[1:]}"


def _keys(where: _Path) -> list[str]:
    """The keys that the schema knows at a place."""
    model: Any = Policy
    for step in where:
        if isinstance(step, str):
            inner = model.model_fields[step]
            model = next((each for each in _models(inner.annotation)), None)
    return list(model.model_fields) if model is not None else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _models(each)


def _spelled(where: _Path) -> str:
    """A key as one would look for it: waivers[2].expires counts waivers from 1."""
    text = ""
    for step in where:
        text += f"[{step + 1}]" if isinstance(step, int) else f"{'.' if text else ''}{shown(step[:80])}"
    return f"{text}: " if text else ""
