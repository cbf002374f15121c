"""Everything that was read of a checkpoint's bytes, and the views that rules take of it.

These are the facts that depths `sample` and `full` add. Nothing here reads or judges.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Literal

from msgspec import Struct, field

from auditor.content.groups import Groups, equal, grouped
from auditor.content.values import ShardValues, TensorValues, weight_of
from auditor.errors import Unread
from auditor.families.naming import Name, Naming
from auditor.families.scaling import scale_name

CORRECTION_BIAS = ".e_score_correction_bias"


class NodeShare(Struct, frozen=True):
    """What a node of a cluster has read: units and bytes of tensors, and what computed there."""

    node: str
    device: str
    units: int
    bytes: int


class Functional(Struct, frozen=True):
    """Dynamically quantised activations times an FP8 weight, against the float32 product; Frobenius norm."""

    tensor: str
    tokens: int
    rows: int
    device: str
    relative_error: float
    tolerance: float


class Probes(Struct, frozen=True, dict=True):
    """Everything that was read of the tensors' bytes.

    `device` names what computed (cpu, or a GPU's name). `powers_of_two`: the config wants every scale to be one.
    `partial`: something that was to be read was not. `naming` is how the checkpoint names its tensors, and `unjudged`
    says of each format whose codes were not quantised again why.
    """

    depth: Literal["sample", "full"]
    seed: int
    device: str
    shards: tuple[ShardValues, ...]
    functional: tuple[Functional, ...] = ()
    powers_of_two: bool = False
    partial: bool = False
    naming: Naming = Naming()
    unjudged: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> dict[str, TensorValues]:
        """What was read, by tensor name; of a name in several shards the last, as loaders take it."""
        return {values.name: values for shard in self.shards for values in shard.tensors}

    @property
    def complete(self) -> bool:
        """Whether every byte was read."""
        return self.depth == "full" and not self.partial

    @cached_property
    def names(self) -> dict[str, Name]:
        """What the name of each tensor read says."""
        return self.naming.read(self.tensors)

    @cached_property
    def vocabulary(self) -> Sequence[str]:
        """The names of the vocabulary matrices read, copies among them."""
        naming = self.naming
        own = naming.embedding, naming.head
        alone = [(name, said.suffix) for name, said in self.names.items() if said.expert is None]
        return [name for name, suffix in alone if suffix in naming.copies or name in own]

    @cached_property
    def copies(self) -> dict[str, str]:
        """What MTP modules store of the vocabulary, each with the name of the original."""
        said, of = self.names, self.naming.copies
        layered = (name for name in self.vocabulary if said[name].layer is not None)
        return {name: of[said[name].suffix] for name in layered if said[name].suffix in of}

    @cached_property
    def weights(self) -> Sequence[TensorValues]:
        """FP8 weights whose blocks were looked at."""
        return [values for values in self.tensors.values() if values.blocks is not None]

    @cached_property
    def scales(self) -> Sequence[TensorValues]:
        """Scales of every kind."""
        return [values for values in self.tensors.values() if values.scales is not None]

    @cached_property
    def others(self) -> Sequence[TensorValues]:
        """Tensors that are neither."""
        return [values for values in self.tensors.values() if values.blocks is None and values.scales is None]

    @cached_property
    def correction_biases(self) -> Sequence[TensorValues]:
        """Those that correct a router's choice, as the config implies it or by their published name."""
        return [
            values for values in self.others if values.role == "router_bias" or values.name.endswith(CORRECTION_BIAS)
        ]

    @cached_property
    def odd_scales(self) -> Sequence[TensorValues]:
        """Those that hold a value which no scale should have."""
        return [
            each
            for each in self.scales
            if (s := each.scales) and s.nan | s.infinite | s.zero | s.negative | s.subnormal
        ]

    @cached_property
    def block_scales(self) -> Sequence[TensorValues]:
        """Scales of weight blocks that are judged beside them."""
        return [values for values in self.scales if values.scales is not None and values.scales.kind == "block"]

    @cached_property
    def experts(self) -> Mapping[tuple[int, int], dict[str, TensorValues]]:
        """Routed experts by layer and number, each with its tensors by their kind."""
        return self._groups.experts

    @cached_property
    def expert_weights(self) -> Mapping[tuple[int, int], dict[str, TensorValues]]:
        """The same without what goes with codes."""
        return self._groups.expert_weights

    @cached_property
    def layers(self) -> Mapping[int, dict[str, TensorValues]]:
        """The weight matrices of each decoder layer by what follows its number; what only MTP has is left out."""
        return self._groups.layers

    @cached_property
    def _groups(self) -> Groups[TensorValues]:
        return grouped(self.tensors.values(), self.names.values(), self.naming)

    @cached_property
    def equal_experts(self) -> list[list[tuple[int, int]]]:
        """Routed experts that hold the same weights, two and more each time."""
        return equal(self.expert_weights)

    @cached_property
    def equal_layers(self) -> list[list[int]]:
        """Layers that do."""
        return equal(self.layers)

    @cached_property
    def companions(self) -> dict[str, list[TensorValues]]:
        """The scales of each weight that were read, by the name of its codes."""
        found: dict[str, list[TensorValues]] = {}
        for values in self.scales:
            found.setdefault(weight_of(values), []).append(values)
        return found

    def beside(self, weight: str) -> Iterator[str]:
        """The names of a weight's scales, by the published name and as they were read."""
        yield from dict.fromkeys((scale_name(weight), *(each.name for each in self.companions.get(weight, ()))))


class Content(Struct, frozen=True):
    """The probes, and what could not be read, each with its reason.

    `resumed` counts the shards whose values are from a state folder; None where there was none. `nodes` are those of a
    cluster that have read something.
    """

    probes: Probes
    unread: tuple[Unread, ...]
    resumed: int | None = None
    nodes: tuple[NodeShare, ...] = ()
