import pytest
import torch


@pytest.fixture(autouse=True)
def same_start() -> None:
    """Networks that a test makes without a seed are the same in every run, in any order, alone or in company."""
    torch.manual_seed(0)
