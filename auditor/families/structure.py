"""For no family: nothing follows from a config, and a checkpoint is held against itself alone.

It answers to no model_type. It is asked for by its name, or taken for an unknown model_type where a policy allows it.
"""

from auditor.families import STRUCTURE, Family
from auditor.families.expectations import Expectations
from auditor_schemas.config import ModelConfig


def _nothing(_: ModelConfig) -> Expectations:
    return Expectations((), ())


ALONE = Family(
    name=STRUCTURE,
    title="structure alone",
    model_types=(),
    architectures=(),
    config=ModelConfig,
    expectations=_nothing,
    expects=False,
)
