from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.online.protectors import tiny

from withhold.online.protector import Protector


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A protector of three classes and 16 px; tests only read it."""
    return tiny(tmp_path_factory.mktemp("protector") / "tiny")


@pytest.fixture(scope="session")
def protector(folder: Path) -> Protector:
    return Protector.load(folder)
