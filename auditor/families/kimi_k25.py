"""The Kimi-K2.5 layout, also of K2.6 and K2.7: V3's under another prefix, and a vision tower.

Sources: the tensors of the release. Its experts are INT4 because text_config declares an export of compressed-tensors.
"""

from collections.abc import Iterator
from typing import ClassVar

from auditor.families import Family
from auditor.families.deepseek_v3 import SOLVED, DeepseekLayout, shown_by_presence
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.kimi_vision import tower_rows
from auditor.families.naming import Naming, Stack
from auditor_schemas.configs.kimi_k25 import KimiK25Config

STEM = "language_model.model."
EMBEDDING, HEAD = f"{STEM}embed_tokens.weight", "language_model.lm_head.weight"


class KimiK25Layout(DeepseekLayout):
    """The rows of one config."""

    config: KimiK25Config
    naming = Naming(stacks=(Stack(f"{STEM}layers."),), embedding=EMBEDDING, head=HEAD, copies={})
    stem: ClassVar[str] = STEM

    def top_rows(self) -> Iterator[Row]:
        """As V3, with the tower."""
        yield from super().top_rows()
        if self.config.vision_config is not None:
            yield from tower_rows(self, self.config.vision_config)


FAMILY = Family(
    name="kimi-k2.5",
    title="Kimi-K2.5, K2.6 and K2.7",
    model_types=("kimi_k25",),
    architectures=("KimiK25ForConditionalGeneration",),
    config=KimiK25Config,
    expectations=lambda config: KimiK25Layout(config).expectations(),
    fingerprint=Fingerprint(
        (
            "language_model.model.layers.#.self_attn.kv_a_layernorm.weight",
            "language_model.model.layers.#.mlp.gate.weight",
            "mm_projector.proj.#.weight",
        )
    ),
    solved=SOLVED,
    shown=shown_by_presence,
    nested="text_config",
)
