"""A policy file: what is taken is what tomllib reads, all of it; what is refused is one printable line."""

import random
import tomllib
from pathlib import Path

from auditor.errors import UsageError
from auditor.rules import catalogue
from auditor.verdict.policy import read_policy
from tests.fuzz.damage import damage_bytes
from tests.fuzz.running import Outcome

SOUND = b"""\
symlinks = "inside"

[severity]
unexpected-tensor = "error"
QNT101 = "warning"

[require]
depth = "sample"
payload = 0.25

[allow]
families = ["deepseek-v3"]
unexpected = ["model.layers.{0-3}.*", "*.rotary_emb.inv_freq"]

[[waivers]]
rule = "missing-format-metadata"
file = "model-000*"
reason = "written by our own exporter"
expires = 2027-03-31

[[waivers]]
rule = "NAM101"
tensor = "lm_head.weight"
reason = "tied on purpose"
owner = "somebody"
expires = 2027-03-31

[limits]
layers = 1000
json_depth = 64
"""
_PIECES = (
    b"[[waivers]]\n", b"[limits]\n", b"[severity]\n", b"symlinks = 'follow'\n", b"a.b.c = 1\n", b'"" = 1\n', b"= 1\n",
    b"x = [[[[[[]]]]]]\n", b"expires = 1979-05-27T07:32:00Z\n", b"layers = 0\n", b"layers = 1e3\n", b"payload = inf\n",
    b"payload = nan\n", b"# \x1b[31m\n", b'rule = "\\u202e"\n', b'QNT999 = "error"\n', b'file = "[!a-"\n',
    b'tensor = "{5-3}"\n', b'tensor = "{0-999999999}"\n', b"reason = ' '\n", b"'''\n",
)  # fmt: skip


class Bench:
    """One policy with everything in it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "auditor.toml"
        self.rules = catalogue()

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        text, kind = SOUND, "a line"
        if rng.random() < 0.4:
            lines = text.splitlines(keepends=True)
            lines.insert(rng.randint(0, len(lines)), rng.choice((rng.choice(_PIECES), rng.choice(lines))))
            if rng.random() < 0.3:
                del lines[rng.randrange(len(lines))]
            text = b"".join(lines)
        if rng.random() < 0.8:
            text, kind = damage_bytes(rng, text)
        tally.kind(kind)
        self.file.write_bytes(text)
        try:
            policy, _ = read_policy(self.file, self.rules)
        except UsageError as error:
            tally.verdict("refused")
            return None if str(error).isprintable() else f"an unprintable line: {str(error)!r}"
        tally.verdict("taken")
        try:
            told = tomllib.loads(text.decode())
        except ValueError as error:
            return f"taken, and no TOML: {error}"
        kept = policy.model_dump(exclude_unset=True)
        for key in ("severity", "require", "limits"):
            if kept.get(key, {}) != told.get(key, {}):
                return f"{key}: {told.get(key)} became {kept.get(key)}"
        if len(policy.waivers) != len(told.get("waivers", ())) or set(told) - set(kept):
            return f"{sorted(told)} became {sorted(kept)}"
        return None
