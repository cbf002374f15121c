"""What tests of conversions compare: a tiny FP8 checkpoint, what it holds, and a way to ask."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auditor.conversion import Comparing
from auditor.forge import forge
from auditor.questions.values import compare_values
from auditor_schemas.conversion import ConversionValues
from tests.conversion.converted import Tensors, config_of, loaded, saved


@pytest.fixture(autouse=True)
def _the_same_noise_each_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversions") / "fp8"
    forge(folder, like="tiny")
    return folder


@pytest.fixture(scope="session")
def codes(fp8: Path) -> Tensors:
    return loaded(fp8)


@pytest.fixture(scope="session")
def config(fp8: Path) -> dict:
    return config_of(fp8)


@pytest.fixture
def ask(tmp_path: Path, fp8: Path, config: dict) -> Callable[..., ConversionValues]:
    """What values say of tensors as a conversion of the tiny checkpoint, or of another OLD."""

    def asked(
        new: Tensors | Path, *, old: Tensors | Path = fp8, changes: dict | None = None, **how
    ) -> ConversionValues:
        sides = []
        for name, side in (("old", old), ("new", new)):
            if isinstance(side, Path):
                sides.append(str(side))
                continue
            there = {**config, **(changes or {})} if name == "new" else config
            sides.append(str(saved(tmp_path / f"{name}{len(list(tmp_path.iterdir()))}", side, there)))
        values = compare_values(*sides, Comparing(**how)).values
        assert values is not None
        return values

    return asked
