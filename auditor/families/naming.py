"""How a family names its tensors: where layer and expert numbers stand, and what has a name of its own."""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property

from msgspec import Struct, field

from auditor.patterns import escaped

# A number without leading zeros, as layers and experts are numbered; more digits are a hostile text.
_NUMBER = r"(0|[1-9][0-9]{0,8})"


class Stack(Struct, frozen=True):
    """Blocks that are numbered from 0 behind `prefix`; the first of them is layer `first` of the whole."""

    prefix: str
    first: int = 0


class Name(Struct, frozen=True, gc=False):
    """What a tensor's name says. `suffix` follows the layer's prefix; of a name outside the layers it is the whole."""

    layer: int | None
    expert: int | None
    suffix: str
    kind: str


class Naming(Struct, frozen=True, dict=True):
    """The grammar of a family's names.

    `stacks` come in the order of their layers. `experts` stands before an expert's number, behind the layer's prefix.
    `blocks` begin the names of a layer's matrices, without what only an MTP module has.
    `scales` is what a block scale has in the place of the last part of its weight's name, `*` in it for that part.
    `marks` end names that only an MTP module has: a layer behind the declared ones is one by these. `copies` are what
    an MTP module may store of the vocabulary, by what follows its prefix, each with the name of the original.
    """

    stacks: tuple[Stack, ...] = (Stack("model.layers."),)
    experts: str = "mlp.experts."
    scales: str = "*_scale_inv"
    blocks: tuple[str, ...] = ("self_attn.", "mlp.")
    embedding: str = "model.embed_tokens.weight"
    head: str = "lm_head.weight"
    marks: tuple[str, ...] = (".eh_proj.weight", ".enorm.weight", ".hnorm.weight")
    copies: Mapping[str, str] = field(
        default_factory=lambda: {
            "embed_tokens.weight": "model.embed_tokens.weight",
            "shared_head.head.weight": "lm_head.weight",
        }
    )

    def prefix(self, layer: int) -> str:
        """What the names of a layer begin with."""
        stack, number = self.place(layer)
        return f"{stack}{number}."

    def place(self, layer: int) -> tuple[str, int]:
        """What stands before a layer's number, and the number."""
        stack = next(each for each in reversed(self.stacks) if each.first <= layer)
        return stack.prefix, layer - stack.first

    def prefix_in(self, name: str) -> str:
        """What a name begins with, its layer's number included; empty for a name outside the layers."""
        found = self._layer.match(name)
        return found[0] if found else ""

    def layer_of(self, name: str) -> int | None:
        """The layer a tensor belongs to, or None for a name outside the layers."""
        found = self._layer.match(name)
        return self._firsts[found[1]] + int(found[2]) if found else None

    def expert_of(self, name: str) -> int | None:
        """The routed expert a tensor belongs to, or None."""
        found = self._expert.match(name)
        return int(found[3]) if found else None

    def kind_of(self, name: str) -> str:
        """What tensors of all layers and experts have in common: the name behind the layer, `{expert}` for a number."""
        if found := self._expert.match(name):
            return f"{self.experts}{{expert}}.{escaped(name[found.end() :])}"
        return escaped(name[len(self.prefix_in(name)) :])

    def read(self, names: Iterable[str]) -> dict[str, Name]:
        """What each name says, as the four above do of one, by one look at it."""
        look, firsts = self._either.match, self._firsts
        kinds: dict[str, str] = {}  # of experts' tensors, by what follows the number
        read: dict[str, Name] = {}
        begun, layer, expert, layer_end = "", 0, 0, 0  # of the expert before: its tensors stand together
        for name in names:
            if not begun or not name.startswith(begun):
                found = look(name)
                if found is None:
                    begun, read[name] = "", Name(None, None, name, escaped(name))
                    continue
                layer, layer_end = firsts[found[1]] + int(found[2]), found.end(2) + 1
                if found[3] is None:
                    suffix = name[layer_end:]
                    begun, read[name] = "", Name(layer, None, suffix, escaped(suffix))
                    continue
                begun, expert = found[0], int(found[3])
            rest = name[len(begun) :]
            kind = kinds.get(rest)
            if kind is None:
                kind = kinds[rest] = f"{self.experts}{{expert}}.{escaped(rest)}"
            read[name] = Name(layer, expert, name[layer_end:], kind)
        return read

    def scale(self, weight: str) -> str:
        """The name of a weight's block scale, by the family's own convention."""
        stem, dot, last = weight.rpartition(".")
        return f"{stem}{dot}{self.scales.replace('*', last)}"

    def weight(self, scale: str) -> str | None:
        """The name of the weight that a block scale belongs to; None for the name of another tensor."""
        stem, dot, last = scale.rpartition(".")
        if "*" not in self.scales:
            return f"{stem}{dot}weight" if last == self.scales else None
        ending = self.scales.removeprefix("*")
        return f"{stem}{dot}{last.removesuffix(ending)}" if last.endswith(ending) else None

    def is_vocabulary(self, name: str) -> bool:
        """Whether a name is one of the embedding or the head, or of a copy that an MTP module stores."""
        if not name.endswith(self._vocabulary):
            return False
        return name in (self.embedding, self.head) or name[len(self.prefix_in(name)) :] in self.copies

    @cached_property
    def _vocabulary(self) -> tuple[str, ...]:
        return (self.embedding, self.head, *self.copies)

    @cached_property
    def _firsts(self) -> dict[str, int]:
        return {stack.prefix: stack.first for stack in self.stacks}

    @cached_property
    def _layer(self) -> re.Pattern[str]:
        return re.compile(rf"({'|'.join(re.escape(stack.prefix) for stack in self.stacks)}){_NUMBER}\.")

    @cached_property
    def _either(self) -> re.Pattern[str]:
        return re.compile(rf"{self._layer.pattern}(?:{re.escape(self.experts)}{_NUMBER}\.)?")

    @cached_property
    def _expert(self) -> re.Pattern[str]:
        return re.compile(rf"{self._layer.pattern}{re.escape(self.experts)}{_NUMBER}\.")
