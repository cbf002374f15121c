"""What the names of tensors say is the same, one by one or all at once, in whatever order they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.families.naming import Name, Naming, Stack

TWO_STACKS = Naming(stacks=(Stack("encoder.layers."), Stack("decoder.layers.", first=3)), experts="moe.")
PIECES = ("model.layers.", "encoder.layers.", "decoder.layers.", "mlp.experts.", "moe.", "0.", "1.", "10.", "01.",
          "weight", "{expert}.", "up_proj.")  # fmt: skip


@pytest.mark.parametrize("naming", [Naming(), TWO_STACKS], ids=["one-stack", "two-stacks"])
@given(names=st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), max_size=12))
def test_names_read_together_say_what_each_says_alone(naming: Naming, names: list[str]) -> None:
    alone = {
        name: Name(
            naming.layer_of(name), naming.expert_of(name), name[len(naming.prefix_in(name)) :], naming.kind_of(name)
        )
        for name in names
    }
    assert naming.read(names) == alone
    assert list(naming.read(names)) == list(alone)
