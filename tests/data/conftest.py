from pathlib import Path

import pytest
from tests.data.samples import Releasing


@pytest.fixture
def release(tmp_path: Path) -> Releasing:
    """Protects a dataset with a known change and compares layout, classes, names, labels, splits and pixels."""
    return Releasing(tmp_path / "out")
