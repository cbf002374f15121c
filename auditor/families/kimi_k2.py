"""The Kimi-K2 layout: V3's, in which layers may store the frequencies of their rotary embedding.

Source: a header dump of Kimi-K2-Instruct.
"""

from collections.abc import Iterator

from auditor.families import Family
from auditor.families.deepseek_v3 import SOLVED, DeepseekLayout, shown_by_presence
from auditor.families.expectations import Row
from auditor.format.dtypes import Dtype
from auditor_schemas.config import DeepseekV3Config

_FLOATS: tuple[Dtype, ...] = ("F32", "F16", "BF16")


class KimiK2Layout(DeepseekLayout):
    """The rows of one config."""

    def attention_rows(self) -> Iterator[Row]:
        """As V3. The frequencies are those of a head as wide as hidden_size would make it, and loaders ignore them."""
        yield from super().attention_rows()
        frequencies = self.config.hidden_size // self.config.num_attention_heads // 2
        if frequencies:
            name, floats = "self_attn.rotary_emb.inv_freq", _FLOATS
            yield self.plain(name, (frequencies,), "buffers", "attention", role="table", allowed=floats, optional=True)


FAMILY = Family(
    name="kimi-k2",
    title="Kimi-K2",
    model_types=("kimi_k2",),
    architectures=("DeepseekV3ForCausalLM",),
    config=DeepseekV3Config,
    expectations=lambda config: KimiK2Layout(config).expectations(),
    solved=SOLVED,
    shown=shown_by_presence,
)
