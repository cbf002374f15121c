"""One tensor of any family is told with its format, what goes with it, and whether it is as sound as expected."""

import pytest

from auditor.forge.write import write
from auditor.questions.tensor import describe
from tests.families.test_every_release import small


@pytest.mark.parametrize(
    ("like", "name", "expected", "beside"),
    [
        ("v4.1-flash", "layers.0.ffn.experts.3.w1.weight", "I8 (2304, 2560), MXFP4 of (2304, 5120)", ["scale"]),
        (
            "kimi-k2.5",
            "language_model.model.layers.5.mlp.experts.3.up_proj.weight_packed",
            "I32 (2048, 896), INT4 of (2048, 7168)",
            ["scale", "shape"],
        ),
        (
            "glm-5.2-nvfp4",
            "model.layers.5.mlp.experts.3.up_proj.weight",
            "U8 (2048, 3072), NVFP4 of (2048, 6144)",
            ["scale", "scale", "scale"],
        ),
        ("minimax-m2.7", "model.layers.5.block_sparse_moe.experts.3.w2.weight", "F8_E4M3 (3072, 1536)", ["scale"]),
    ],
)
def test_packed_weights_are_told_with_what_they_stand_for_and_what_goes_with_them(
    like, name, expected, beside, tmp_path
):
    write(small(like), tmp_path, strips=None)
    text, sound = describe(str(tmp_path), name)
    assert sound
    assert f"  expected  {expected}, routed experts\n" in text
    lines = [line.split()[0] for line in text.splitlines()[1:] if line[2] != " "]
    assert lines == ["expected", "actual", "stored", "index", *beside]


def test_a_dtype_that_is_as_sound_as_the_usual_one_is_no_fault(tmp_path):
    plan = small("v3").copy()
    router = "model.layers.5.mlp.gate.weight"
    plan.alter(router.__eq__, dtype="F32")
    write(plan, tmp_path, strips=None)
    text, sound = describe(str(tmp_path), router)
    assert sound
    assert "  expected  BF16 or F32 (8, 7168), router\n" in text
