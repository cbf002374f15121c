"""Which kernels a reading calls: all of them are there before its threads begin, whatever was imported before."""

from auditor.content import Preparing
from auditor.content.kernels.compiled import prepare


def prepare_audit(preparing: Preparing | None = None) -> None:
    """Have those that `content/` calls."""
    from auditor.content.kernels import looks, reduce, roundtrip, strips, survey

    prepare((looks, reduce, roundtrip, strips, survey), preparing)


def prepare_comparison(preparing: Preparing | None = None) -> None:
    """Have those that `conversion/` calls."""
    from auditor.content.kernels import compare, pairs

    prepare((compare, pairs), preparing)
