"""Damages headers, index and config.json at random, and holds every audit to: no crash, no hang, no false pass.

    python tests/fuzz/headers_fuzz.py --cases 100000 --jobs 2     # the long run; --record keeps the result
    python tests/fuzz/headers_fuzz.py --case 4711                 # one case again, its checkpoint kept

A case is its seed and its number, nothing else. Most cases leave the checkpoint damaged, and the auditor may say
about them what it likes but "passed"; after some the checkpoint still says the same, and "passed" is right. Which of
the two it is decides an independent reading: safetensors for the shards, and the json module, made strict, for all.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from auditor.names import expand

CASE_SECONDS = 10  # of processor time; a case that waits gets six times as much by the clock
MEMORY_BYTES = 4 << 30
CHUNK = 500
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "fuzz.md"
CONFIG, INDEX = "config.json", "model.safetensors.index.json"

# What names, shapes and dtypes follow from: a pass with another value here would be a false one.
LAYOUT_FIELDS = (
    "model_type", "attention_bias", "first_k_dense_replace", "hidden_size", "intermediate_size",
    "kv_lora_rank", "moe_intermediate_size", "moe_layer_freq", "n_routed_experts", "n_shared_experts",
    "num_attention_heads", "num_hidden_layers", "num_nextn_predict_layers", "q_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "tie_word_embeddings", "topk_method", "v_head_dim", "vocab_size",
)  # fmt: skip
ABSENT = {  # what the reference code takes where a field is absent or null
    "attention_bias": False, "first_k_dense_replace": 0, "moe_layer_freq": 1, "num_nextn_predict_layers": 0,
    "tie_word_embeddings": False, "topk_method": "noaux_tc", "fmt": "e4m3",
}  # fmt: skip
QUANTIZATION_FIELDS = ("quant_method", "fmt", "weight_block_size")


# --- documents: a checkpoint is its files' bytes; a shard's data is a hole, so that only its size is kept ---


@dataclass
class Part:
    """One file: the bytes at its start, and the size it is grown or cut to."""

    head: bytes
    size: int


Checkpoint = dict[str, Part]


def read_checkpoint(folder: Path) -> Checkpoint:
    """The files of a sound sparse checkpoint; of a shard its header alone."""
    parts: Checkpoint = {}
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                length = file.read(8)
                head = length + file.read(int.from_bytes(length, "little"))
            else:
                head = file.read()
        parts[path.name] = Part(head, size)
    return parts


def write_part(folder: Path, name: str, part: Part) -> None:
    """Write one file, with a hole behind its head."""
    with (folder / name).open("wb") as file:
        file.write(part.head)
        file.truncate(part.size)


# --- damage to bytes ---

_TOKENS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\n", b" ", b"-", b"0", b"1e9", b"null", b"true", b"NaN", b"-0", b"1.0", b"\\u0000", b"\\ud800", b'"dtype":',
    b'"__metadata__":{', b'"weight_map":', b"18446744073709551616", b"BF16", b"F32", b'"shape":[]', b"{}", b"/*",
)  # fmt: skip


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace_bytes(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    token = _token(rng)
    return data[:at] + token + data[at + len(token) :]


def insert_bytes(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + _token(rng) + data[at:]


def delete_bytes(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 1, 2, 5, 40, 400)) :]


def repeat_bytes(rng: random.Random, data: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 30, 200))
    return data[: at + length] + data[at : at + length] + data[at + length :]


def move_bytes(rng: random.Random, data: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 30, 200))
    piece, rest = data[at : at + length], data[:at] + data[at + length :]
    to = rng.randrange(len(rest) + 1)
    return rest[:to] + piece + rest[to:]


def tweak_number(rng: random.Random, data: bytes) -> bytes:
    """Change one run of digits, wherever it stands: in a name, a shape, an offset, a size."""
    start = _place(rng, data)
    for at in range(start, min(start + 400, len(data))):
        if data[at : at + 1].isdigit():
            end = at
            while data[end : end + 1].isdigit():
                end += 1
            number = int(data[at:end][:4000] or b"0")
            return data[:at] + _other_number(rng, number).encode() + data[end:]
    return flip_bits(rng, data)


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))] if rng.random() < 0.7 else data[: -rng.randrange(1, min(12, len(data)))]


def _other_number(rng: random.Random, number: int) -> str:
    return str(rng.choice((
        number + 1, number - 1, number * 2, number // 2, 0, -number, number + 128, 1 << 31, 1 << 53, 1 << 63, 1 << 64,
        10**30, f"{number}.0", f"{number}e0", f"0{number}", f"{number}0", rng.randrange(1 << 20),
    )))  # fmt: skip


def _token(rng: random.Random) -> bytes:
    return rng.choice(_TOKENS) if rng.random() < 0.7 else rng.randbytes(rng.choice((1, 2, 4, 16)))


def _place(rng: random.Random, data: bytes) -> int:
    """A place in data; the first and last bytes, where structure is densest, come up more often."""
    last = max(len(data) - 1, 0)
    draw = rng.random()
    if draw < 0.1:
        return min(rng.randrange(16), last)
    return max(0, last - rng.randrange(16)) if draw < 0.2 else rng.randint(0, last)


BYTE_DAMAGE = (flip_bits, replace_bytes, insert_bytes, delete_bytes, repeat_bytes, move_bytes, tweak_number, truncate)


# --- damage to JSON: objects are lists of pairs, so that a key may come twice and order is free ---


class Pairs(list[tuple[str, Any]]):
    """A JSON object as the pairs that stand in it."""


class Raw(str):
    """Text that is written as it is."""

    __slots__ = ()


def load_pairs(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=Pairs)


def dump_pairs(value: Any, rng: random.Random, loose: bool) -> str:
    """JSON text; `loose` puts white space and escapes where JSON allows them."""
    gap = (lambda: rng.choice(("", "", "", " ", "\n", "\t "))) if loose else (lambda: "")
    if isinstance(value, Pairs):
        inner = ",".join(
            f"{gap()}{_dump_string(k, rng, loose)}{gap()}:{gap()}{dump_pairs(v, rng, loose)}" for k, v in value
        )
        return f"{{{inner}{gap()}}}"
    if isinstance(value, list):
        return f"[{','.join(gap() + dump_pairs(each, rng, loose) + gap() for each in value)}]"
    if isinstance(value, Raw):
        return str(value)
    return _dump_string(value, rng, loose) if isinstance(value, str) else json.dumps(value)


def _dump_string(text: str, rng: random.Random, loose: bool) -> str:
    if loose and text and rng.random() < 0.05:
        at = rng.randrange(len(text))
        return f'"{json.dumps(text[:at])[1:-1]}\\u{ord(text[at]) & 0xFFFF:04x}{json.dumps(text[at + 1 :])[1:-1]}"'
    return json.dumps(text, ensure_ascii=rng.random() < 0.9)


def _objects(value: Any) -> Iterator[Pairs]:
    if isinstance(value, Pairs):
        yield value
        for _, inner in value:
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _some_object(rng: random.Random, document: Any) -> Pairs:
    """An object with something in it: the root, one of its own objects, or any."""
    every = [each for each in _objects(document) if each]
    if not every:
        return Pairs([("only", 0)])
    draw = rng.random()
    return every[0] if draw < 0.3 else rng.choice(every[:4]) if draw < 0.6 else rng.choice(every)


def drop_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    del target[rng.randrange(len(target))]


def repeat_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    key, value = rng.choice(target)
    target.insert(rng.randint(0, len(target)), (key, value if rng.random() < 0.5 else junk(rng)))


def rename_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    at = rng.randrange(len(target))
    key, value = target[at]
    others = [other for other, _ in target]
    renamed = rng.choice((
        key + "_", key[:-1], key.upper(), key.replace("_inv", ""), key.replace("weight", "bias"), "", "__metadata__",
        key.replace("layers.1.", "layers.99."), key.replace("experts.", "experts.0"), rng.choice(others),
        key + "\x00", key + "\u202e", key + "\ud800", "a" * 600, "../" + key, key.replace(".", "..", 1),
    ))  # fmt: skip
    target[at] = (renamed, value)


def replace_value(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    at = rng.randrange(len(target))
    key, value = target[at]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.7:
        target[at] = (key, Raw(_other_number(rng, value)))
    elif isinstance(value, list) and value and not isinstance(value, Pairs) and rng.random() < 0.8:
        changed = list(value)
        changed[rng.randrange(len(changed))] = (
            Raw(_other_number(rng, changed[0])) if type(changed[0]) is int and rng.random() < 0.7 else junk(rng)
        )
        target[at] = (key, rng.choice((changed, value + value[:1], value[:-1], value[::-1], [value])))
    elif isinstance(value, str) and rng.random() < 0.7:
        target[at] = (key, rng.choice((value + "x", value[:-1], value.lower(), value.upper(), "../x", *_WORDS)))
    else:
        target[at] = (key, junk(rng))


def swap_values(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    a, b = rng.randrange(len(target)), rng.randrange(len(target))
    (key_a, value_a), (key_b, value_b) = target[a], target[b]
    target[a], target[b] = (key_a, value_b), (key_b, value_a)


def add_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    entry = Pairs([("dtype", rng.choice(_WORDS)), ("shape", [rng.randrange(4)]), ("data_offsets", [0, 0])])
    name = rng.choice(("extra", "model.layers.2.extra.weight", "__metadata__", "dtype", *LAYOUT_FIELDS))
    target.insert(rng.randint(0, len(target)), (name, rng.choice((entry, junk(rng), rng.choice(_WORDS)))))


def shift_offsets(rng: random.Random, document: Any) -> None:
    """Move, swap or stretch data_offsets, the rest of the header left sound."""
    entries = [entry for entry in _objects(document) if _two_numbers(dict(entry).get("data_offsets"))]
    if not entries:
        return replace_value(rng, document)
    entry, other = rng.choice(entries), rng.choice(entries)
    begin, end = dict(entry)["data_offsets"]
    step = rng.choice((1, -1, 8, -8, 1 << 20, 1 << 63))
    offsets = rng.choice((
        [begin + step, end + step], [begin, end + step], [begin + step, end], [end, begin], [begin, begin],
        dict(other)["data_offsets"], [0, end - begin],
    ))  # fmt: skip
    entry[:] = [(key, offsets if key == "data_offsets" else value) for key, value in entry]
    return None


def _two_numbers(value: Any) -> bool:
    return isinstance(value, list) and [type(each) for each in value] == [int, int]


def shuffle_keys(rng: random.Random, document: Any) -> None:
    rng.shuffle(_some_object(rng, document))


def edit_metadata(rng: random.Random, document: Any) -> None:
    """Free text where free text is allowed, and sometimes where it is not."""
    if not isinstance(document, Pairs):
        return
    for key, value in document:
        if key in ("__metadata__", "metadata") and isinstance(value, Pairs):
            value.append((rng.choice(("format", "note", "total_size", "\u202e", "")), rng.choice((*_WORDS, junk(rng)))))
            return
    document.append(("__metadata__", Pairs([("format", rng.choice(_WORDS))])))


_WORDS = (
    "", "pt", "BF16", "F32", "F16", "F8_E4M3", "F8_E5M2", "I4", "F4", "C64", "float32", "bfloat16", "deepseek_v32",
    "model-00001-of-000005.safetensors", "model-00009-of-000005.safetensors", "config.json", "/dev/zero", "\x1b[31m",
    "<script>alert(1)</script>", "\ud83d\ude00", "\udfff", "a" * 5000,
)  # fmt: skip


def junk(rng: random.Random) -> Any:
    """A value that has no business there."""
    depth = rng.choice((3, 70, 3000))
    return rng.choice((
        None, True, False, 0, -1, 1, 1.5, 128, 1 << 62, Raw("1e400"), Raw("-0"), Raw("NaN"), Raw("1" * 5000), "", "7",
        [], [[]], [0], [128, 128], [-1, 2], [1 << 40, 1 << 40], Pairs(), Pairs([("a", 1), ("a", 2)]), [None],
        Raw("[" * depth + "]" * depth), Raw('{"a":' * depth + "1" + "}" * depth), rng.choice(_WORDS),
    ))  # fmt: skip


JSON_DAMAGE = (
    drop_key, repeat_key, rename_key, replace_value, replace_value, swap_values, add_key, shift_offsets, shuffle_keys,
    edit_metadata,
)  # fmt: skip


# --- a case ---


def damage(rng: random.Random, sound: Checkpoint) -> tuple[Checkpoint, set[str], str]:
    """A damaged checkpoint, the files that changed, and the first kind of damage done."""
    parts, changed, kinds = dict(sound), set[str](), []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        draw = rng.random()
        name = CONFIG if draw < 0.25 else INDEX if draw < 0.5 else rng.choice([n for n in parts if n.endswith("rs")])
        kind, parts[name] = _damage_part(rng, name, parts[name], sound)
        changed.add(name)
        kinds.append(kind)
    return parts, changed, kinds[0]


def _damage_part(rng: random.Random, name: str, part: Part, sound: Checkpoint) -> tuple[str, Part]:
    shard = name.endswith(".safetensors")
    body = part.head[8:] if shard else part.head
    payload = part.size - len(part.head)
    draw = rng.random()
    if draw < 0.02:
        other = sound[rng.choice(list(sound))]
        return "another file in its place", Part(other.head, other.size)
    if shard and draw < 0.12:
        size = max(0, part.size + rng.choice((-1, 1, 8, -8, -payload, -part.size, 1 << 20, rng.randint(-payload, 0))))
        return "file size", Part(part.head[:size], size)
    if shard and draw < 0.2:
        length = rng.choice((0, 1, 2, 8, len(body) - 1, len(body) + 1, 1 << 31, 1 << 63, rng.getrandbits(64)))
        return "declared header length", Part(struct.pack("<Q", length % (1 << 64)) + body, part.size)
    if draw < 0.6 and body:
        step = rng.choice(BYTE_DAMAGE)
        body, kind = step(rng, body), step.__name__
    else:
        try:
            document = load_pairs(body)
        except (ValueError, RecursionError):
            body, kind = flip_bits(rng, body or b"0"), "flip_bits"
        else:
            kind = "white space and escapes"
            for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
                json_step: Callable[[random.Random, Any], None] = rng.choice(JSON_DAMAGE)
                json_step(rng, document)
                kind = json_step.__name__
            body = dump_pairs(document, rng, loose=rng.random() < 0.3).encode("utf-8", "surrogatepass")
    if not shard:
        return kind, Part(body, len(body))
    if rng.random() < 0.85:  # the length is made to fit, so that the damage lies in what it frames
        return kind, Part(struct.pack("<Q", len(body)) + body, 8 + len(body) + payload)
    return kind, Part(part.head[:8] + body, max(part.size, 8 + len(body)))


# --- what is held against the auditor's word ---


class RepeatedKeyError(ValueError):
    """A key came twice."""


def strict_json(text: bytes) -> Any:
    """JSON as RFC 8259 has it, and no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise RepeatedKeyError("a key comes twice")
        return found

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is no JSON number")

    return json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)


def facts_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint says, by readers other than the auditor's; raises ValueError where one of them refuses."""
    from safetensors import SafetensorError, safe_open

    try:
        config = strict_json((folder / CONFIG).read_bytes())
        index = strict_json((folder / INDEX).read_bytes())
        tensors: dict[str, tuple[str, str, list[int]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                header = strict_json(file.read(int.from_bytes(file.read(8), "little")))
            with safe_open(path, framework="numpy") as shard:
                for name in shard.keys():  # noqa: SIM118  # no mapping: it has keys() and no iterator
                    if name in tensors:
                        raise RepeatedKeyError(f"{name} is in two shards")
                    view = shard.get_slice(name)
                    tensors[name] = (path.name, view.get_dtype(), view.get_shape())
            if set(header) - {"__metadata__"} != {name for name, where in tensors.items() if where[0] == path.name}:
                raise ValueError(f"{path.name}: two readings of the header differ")
        quantization = config["quantization_config"]
        layout = {key: repr(config.get(key, ABSENT.get(key))) for key in LAYOUT_FIELDS}
        layout |= {key: repr(quantization.get(key, ABSENT.get(key))) for key in QUANTIZATION_FIELDS}
        return {"layout": layout, "weight_map": index["weight_map"], "tensors": tensors}
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


class Hang(BaseException):
    """A case took too long. Not an Exception, so that nothing in the auditor can take it for a rule's own."""


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


@dataclass
class Tally:
    """What became of many cases."""

    cases: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.cases += other.cases
        self.verdicts += other.verdicts
        self.kinds += other.kinds
        self.rules += other.rules
        self.slowest = max(self.slowest, other.slowest)
        self.wrong += other.wrong


class Bench:
    """A folder with a sound checkpoint that is damaged, audited and mended case after case."""

    def __init__(self, folder: Path) -> None:
        from auditor.forge import forge

        self.folder = folder
        forge(folder, like="tiny", sparse=True)
        self.sound = read_checkpoint(folder)
        self.truth = facts_of(folder)

    def run(self, seed: int, number: int, tally: Tally) -> None:
        """One case; what is wrong about it goes into the tally."""
        rng = random.Random(f"{seed}:{number}")
        parts, changed, kind = damage(rng, self.sound)
        for name in changed:
            write_part(self.folder, name, parts[name])
        begun = time.perf_counter()
        try:
            with _alarm(CASE_SECONDS):
                wrong = self._judge(tally, thorough=number % 20 == 0)
        except Hang as error:
            wrong = f"hangs: {error}\n{traceback.format_exc(limit=-4)}"
        except Exception:
            wrong = f"crashes:\n{traceback.format_exc(limit=-6)}"
        tally.cases += 1
        tally.kinds[kind] += 1
        tally.slowest = max(tally.slowest, (time.perf_counter() - begun, f"{seed}:{number}"))
        if wrong:
            tally.wrong.append(f"case {seed}:{number} ({kind} in {', '.join(sorted(changed))}): {wrong}")

    def mend(self) -> None:
        """Put every file back as it was."""
        for name, part in self.sound.items():
            write_part(self.folder, name, part)

    def _judge(self, tally: Tally, *, thorough: bool) -> str | None:
        import auditor
        from auditor_schemas.report import AuditReport

        report = auditor.audit(self.folder)
        tally.verdicts[report.verdict] += 1
        tally.rules.update({finding.rule for finding in report.findings})
        errored = [each for each in report.outcomes if each.outcome == "errored"]
        if errored:
            return f"{errored[0].rule} errored: {errored[0].reason}"
        text = report.model_dump_json()
        if thorough:
            if AuditReport.model_validate_json(text) != report:
                return "the report does not come back from its JSON"
            from auditor_reports.html import render

            render(report).encode()
        if report.verdict == "incomplete" and not report.incomplete:
            return "incomplete without a reason"
        if report.verdict == "failed" and not any(each.severity == "error" for each in report.findings):
            return "failed without an error"
        if report.verdict != "passed":
            return None
        if report.coverage.unread or report.coverage.headers_read != report.coverage.shards:
            return f"passed, having left unread: {report.coverage.unread}"
        try:
            facts = facts_of(self.folder)
        except ValueError as error:
            return f"passed what another reader refuses: {error}"
        # More than was promised loads as before: it is a warning, and a pass with a warning is the verdict for it.
        warned = {
            name
            for each in report.findings
            if each.severity == "warning"
            for pattern in (each.rule, *each.affected)
            for name in expand(pattern)
        }
        for key, value in self.truth.items():
            told = bool(warned) and _holds_more(key, value, facts[key])
            if facts[key] != value and not told and not _names(key, value, facts[key], warned):
                return f"passed with another {key}: {_difference(value, facts[key])}"
        return None


def _holds_more(key: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether all that was there is there unchanged; of the config, whether it promises less by MTP modules alone."""
    if key == "layout":
        return before == {**after, "num_nextn_predict_layers": before["num_nextn_predict_layers"]}
    return before.items() <= after.items()


def _names(key: str, before: dict[str, Any], after: dict[str, Any], warned: set[str]) -> bool:
    """Whether warnings name all that differs: tensors, as a norm of another float dtype, or a head that is tied."""
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    if key == "layout":
        return changed == {"tie_word_embeddings"} and "lm_head.weight" in warned
    return changed <= warned


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return "; ".join(f"{key}: {before.get(key)} became {after.get(key)}" for key in keys[:3])[:400]


def run_cases(seed: int, numbers: range) -> Tally:
    """Run cases in a folder of their own."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="auditor-fuzz-") as folder:
        bench = Bench(Path(folder) / "checkpoint")
        for number in numbers:
            bench.run(seed, number, tally)
            bench.mend()
            if number == numbers.start:  # what is imported once may stay open
                before = _open_files()
        if _open_files() > before:
            tally.wrong.append(f"cases {seed}:{numbers.start} to {numbers.stop}: descriptors stayed open")
    return tally


def _open_files() -> int:
    """How many descriptors this process holds."""
    return len(list(Path("/dev/fd").iterdir()))


def run_all(*, seed: int, cases: int, jobs: int, progress: Callable[[Tally], None] | None = None) -> Tally:
    """Run cases 0 to `cases` in `jobs` processes. A process that dies counts as a wrong chunk.

    The processes are spawned: a forked one would begin with the caller's address space, which may be over the limit.
    """
    whole = Tally()
    chunks = [range(begin, min(begin + CHUNK, cases)) for begin in range(0, cases, CHUNK)]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run_cases, seed, chunk): chunk for chunk in chunks}
        for done in as_completed(running):
            try:
                whole.add(done.result())
            except Exception as error:
                chunk = running[done]
                whole.wrong.append(f"cases {seed}:{chunk.start} to {chunk.stop}: the process died: {error!r}")
            if progress is not None:
                progress(whole)
    return whole


def summary(tally: Tally, seconds: float, seed: int) -> str:
    """One line."""
    verdicts = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.verdicts.items()))
    return (
        f"{tally.cases:,} cases (seed {seed}) in {seconds:.0f} s: {verdicts}; {len(tally.rules)} rules fired; "
        f"slowest case {tally.slowest[1]} with {tally.slowest[0] * 1000:.0f} ms; {len(tally.wrong)} wrong"
    )


def record(tally: Tally, seconds: float, seed: int, jobs: int) -> None:
    """Write the result where the repository keeps it."""
    from auditor import __version__

    kinds = "\n".join(f"| {kind} | {count:,} |" for kind, count in tally.kinds.most_common())
    verdicts = "\n".join(f"| {verdict} | {count:,} |" for verdict, count in tally.verdicts.most_common())
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        f"""# Fuzzing headers, index and config.json

{summary(tally, seconds, seed)}.

Wrong would be: an exception, a rule that errors, a case of more than {CASE_SECONDS} s of work, more than
{MEMORY_BYTES >> 30} GiB of memory, a report that cannot be written, or "passed" on a checkpoint that safetensors or
a strict JSON reading refuses or reads differently from the sound one. Made by `make fuzz` with auditor {__version__},
Python {platform.python_version()}, {jobs} processes, {datetime.now(UTC):%Y-%m-%d}.

| verdict | cases |
|---|---|
{verdicts}

| damage (the first of each case) | cases |
|---|---|
{kinds}
""",
        "utf-8",
    )


def _again(seed: int, number: int) -> int:
    """Run one case, say what the auditor says, and keep the checkpoint."""
    import auditor

    folder = Path(tempfile.mkdtemp(prefix="auditor-fuzz-")) / "checkpoint"
    tally = Tally()
    bench = Bench(folder)
    bench.run(seed, number, tally)
    print(f"kept in {folder}: {dict(tally.kinds)}")
    print("\n".join(tally.wrong) or "nothing wrong")
    if not tally.wrong:
        report = auditor.audit(folder)
        findings = (f"{each.rule} {each.message}" for each in report.findings)
        print(report.verdict, *report.incomplete, *findings, sep="\n")
        shutil.rmtree(folder.parent)
    return 1 if tally.wrong else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--case", type=int, metavar="NUMBER", help="run this one case again and keep its checkpoint")
    options = parser.parse_args()
    if options.case is not None:
        return _again(options.seed, options.case)
    begun = time.perf_counter()

    def progress(tally: Tally) -> None:
        if sys.stderr.isatty():
            print(f"\r{tally.cases:,} cases, {len(tally.wrong)} wrong ", end="", file=sys.stderr, flush=True)

    tally = run_all(seed=options.seed, cases=options.cases, jobs=options.jobs, progress=progress)
    seconds = time.perf_counter() - begun
    for wrong in tally.wrong[:20]:
        print(wrong)
    print(summary(tally, seconds, options.seed))
    if options.record:
        record(tally, seconds, options.seed, options.jobs)
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
