"""How the published layout names block scales, other spellings of them, and the marks of an MTP module."""

from collections.abc import Iterator

SCALE_SUFFIX = "_scale_inv"
# What only an MTP module has; a layer behind the declared ones is one by these.
MTP_MARKS = (".eh_proj.weight", ".enorm.weight", ".hnorm.weight")


def scale_name(weight: str) -> str:
    """The name of a weight's block scale."""
    return weight + SCALE_SUFFIX


# Other spellings of block scales in the wild, by what stands in the place of `weight_scale_inv`.
OTHER_SCALES = ("weight_scale", "scale_inv", "scale", "scales", "weight_scales")
# Scales that are no block scales: of activations, or of a second level.
_FURTHER_SCALES = ("input_scale", "weight_scale_2", "weight_global_scale")


def is_scale(name: str) -> bool:
    """Whether a name is one of a scale, by the published convention or another known spelling."""
    return name.endswith(SCALE_SUFFIX) or name.rpartition(".")[2] in OTHER_SCALES + _FURTHER_SCALES


def other_scale_names(weight: str) -> Iterator[tuple[str, str]]:
    """Other spellings of a weight's scale, each with the name it makes."""
    stem = weight.removesuffix("weight")
    for spelling in OTHER_SCALES:
        yield spelling, stem + spelling
