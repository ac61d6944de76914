from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.release.fakes import class_folders


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three classes of four pictures of 12 x 12 pixels."""
    return class_folders(tmp_path / "photos")
