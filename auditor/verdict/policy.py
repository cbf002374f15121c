"""Reads a policy: every fault is one line that names the file, the line, the key, and what was meant."""

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from auditor.errors import UsageError
from auditor.families import family_names
from auditor.globs import matcher
from auditor.rules import RuleModule
from auditor.text import listed, nearest, quoted, shown
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Rule

POLICY_BYTES = 512 << 10
_SHOWN = 5
_Path = tuple[str | int, ...]
_Fault = tuple[_Path, Callable[[], str]]  # where, and what it is, in words that only a fault that is shown is worth

_MOST = 1000  # faults that are looked at

# A key of more parts than any policy needs: its reader takes the square of their number in time and memory.
_PARTS = 16
_NAME = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_DEEP = re.compile(rf"(?:^[ \t]*+\[{{0,2}}|[{{,])(?:[ \t]*+{_NAME}[ \t]*+\.){{{_PARTS}}}", re.MULTILINE)

_PART = re.compile(_NAME)
_KEY = re.compile(rf"[ \t]*+{_NAME}(?:[ \t]*+\.[ \t]*+{_NAME})*+[ \t]*+")
_SPACE = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_TOKEN = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'"
    r"|#[^\n]*+|[\[\]{}\n]|[^\"'#\[\]{}\n]++",
    re.DOTALL,
)


def read_policy(path: str | PathLike[str], rules: Iterable[RuleModule]) -> tuple[Policy, str]:
    """The policy of a TOML file and the SHA-256 of the file. Raises UsageError that names what is wrong, and where."""
    place = f"policy {shown(str(path))}"
    try:
        with Path(path).open("rb") as file:
            data = file.read(POLICY_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from error
    return policy_of(data, place, rules)


def policy_of(data: bytes, place: str, rules: Iterable[RuleModule]) -> tuple[Policy, str]:
    """The policy that TOML says and the SHA-256 of it. Raises UsageError that begins with `place`."""
    if len(data) > POLICY_BYTES:
        raise UsageError(f"{place}: is longer than {POLICY_BYTES:,} bytes")
    try:
        text = data.decode()
        _refuse_deep_keys(text, place)
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{place}, line {line}: not UTF-8: {quoted(data[error.start : error.start + 4])}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number of thousands of digits
        raise UsageError(f"{place}: not TOML: {shown(str(error))}") from error
    try:
        policy = Policy.model_validate(document)
        faults = list(islice(_faults(policy, [module.rule for module in rules]), _MOST))
    except ValidationError as error:
        faults = [(tuple(each["loc"]), partial(_explain, each)) for each in error.errors(include_url=False)[:_MOST]]
    if faults:
        places = places_of(text)
        found = sorted(((line_of(where, places), _spell(where)), number) for number, (where, _) in enumerate(faults))
        lines = [f"line {line}: {where}{faults[number][1]()}" for (line, where), number in found[:_SHOWN]]
        more = (
            f"; and {len(found) - _SHOWN:,}{' or' if len(found) == _MOST else ''} more" if len(found) > _SHOWN else ""
        )
        raise UsageError(f"{place}, {'; '.join(lines)}{more}")
    return policy, hashlib.sha256(data).hexdigest()


def check_policy(policy: Policy, rules: Iterable[RuleModule]) -> None:
    """Raise UsageError where a policy made in Python names a rule, a family or a glob that cannot be."""
    for where, explain in _faults(policy, [module.rule for module in rules]):
        raise UsageError(f"policy: {_spell(where)}{explain()}")


def line_of(where: _Path, places: dict[_Path, int]) -> int:
    """The line of a key among those of `places_of`; of one that is missing, that of the table that lacks it."""
    return next((places[where[:end]] for end in range(len(where), 0, -1) if where[:end] in places), 1)


def places_of(text: str) -> dict[_Path, int]:
    """The line of every key that a statement of a valid document brings, and of all above it: the first that does.

    TOML readers keep no lines. One pass over the text finds where statements begin and end, which is all that counts.
    """
    places: dict[_Path, int] = {}
    arrays: dict[_Path, int] = {}  # how many tables of a name there were so far
    table: _Path = ()
    at, line, counted = _end(_SPACE, text, 0), 1, 0
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        brackets = 2 if text.startswith("[[", at) else int(text[at] == "[")
        end = _end(_KEY, text, at + brackets)
        parts = [_decode(part) for part in _PART.findall(text, at + brackets, end)]
        path: _Path = () if brackets else table
        for number, part in enumerate(parts, 1):
            path = (*path, part)
            if brackets == 2 and number == len(parts):
                arrays[path] = arrays.get(path, 0) + 1
            if brackets and path in arrays:
                path = (*path, arrays[path] - 1)
        table = path if brackets else table
        for length in range(1, len(path) + 1):
            places.setdefault(path[:length], line)
        at = _end(_SPACE, text, end + brackets if brackets else _value_end(text, end))
    return places


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _value_end(text: str, at: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, at):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if token[0] == "\n" and depth <= 0:
            return token.end()
    return len(text)


def _decode(part: str) -> str:
    if part[0] in "\"'":
        return str(next(iter(tomllib.loads(f"{part} = 0")))) if "\\" in part else part[1:-1]
    return part


def _refuse_deep_keys(text: str, place: str) -> None:
    """See _PARTS. Where text of a string looks like such a key it is refused as well, which no policy needs."""
    deep = _DEEP.search(text)
    if deep is not None:
        line = text.count("\n", 0, deep.start()) + 1
        raise UsageError(f"{place}, line {line}: a key of more than {_PARTS} parts")


def rule_named(name: str, rules: Iterable[Rule]) -> Rule | None:
    """A rule by its id or slug, in any case."""
    return next((each for each in rules if name.upper() == each.id or name.lower() == each.slug), None)


def no_such_rule(name: str, rules: Iterable[Rule]) -> str:
    """What to say of a name that is no rule's."""
    near = nearest(name[:80], [word for each in rules for word in (each.id, each.slug)])
    return f"no rule {shown(name[:80])}{near}; `auditor rules` lists them"


def _faults(policy: Policy, rules: list[Rule]) -> Iterator[_Fault]:
    """What the schema cannot know: rules, families and globs that are not."""
    seen: dict[str, str] = {}
    for name in policy.severity:
        rule = rule_named(name, rules)
        if rule is None:
            yield ("severity", name), partial(no_such_rule, name, rules)
        elif rule.id in seen:
            said = f"is {rule.id} {rule.slug}, which {shown(seen[rule.id])} names already"
            yield ("severity", name), partial(str, said)
        else:
            seen[rule.id] = name
    known = family_names()
    for position, name in enumerate(policy.allow.families or ()):
        if name not in known:
            yield ("allow", "families", position), partial(_no_such_family, name, known)
    globs: list[tuple[_Path, str]] = [
        (("allow", "unexpected", position), glob) for position, glob in enumerate(policy.allow.unexpected)
    ]
    for position, waiver in enumerate(policy.waivers):
        if rule_named(waiver.rule, rules) is None:
            yield ("waivers", position, "rule"), partial(no_such_rule, waiver.rule, rules)
        targets = (("tensor", waiver.tensor), ("file", waiver.file), ("field", waiver.field))
        globs += [(("waivers", position, kind), glob) for kind, glob in targets if glob is not None]
    for where, glob in globs:
        try:
            matcher(glob)
        except UsageError as error:
            yield where, partial(str, str(error))


def _no_such_family(name: str, known: list[str]) -> str:
    return f"no family {quoted(name)}{nearest(name, known)}; there are {listed(known, most=9)}"


def _explain(error: Any) -> str:
    """One fault of the schema: what is there and what was needed."""
    where: _Path = tuple(error["loc"])
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        keys = _keys(where[:-1])
        near = nearest(str(where[-1])[:80], keys)
        return f"no such key{near or ';'} here may stand {listed(keys, most=20)}"
    if kind == "missing":
        return "is missing"
    if where[-1:] == ("expires",) and kind.startswith("date"):
        return f"is {quoted(error['input'])}, needs a date such as 2027-01-31, without quotes"
    if kind == "value_error":
        return str(message)
    message = message.replace("Input should", "should").replace("String should", "should")
    return f"is {quoted(error['input'])}, {message[:1].lower()}{message[1:]}"


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


def _spell(where: _Path) -> str:
    """A key as one would look for it: waivers[2].expires counts waivers from 1."""
    text = ""
    for step in where:
        text += f"[{step + 1}]" if isinstance(step, int) else f"{'.' if text else ''}{shown(step[:80])}"
    return f"{text}: " if text else ""
