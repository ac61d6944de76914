import uuid
from collections.abc import Iterator

import pytest
import torch
from tests.stores import Bucket, environment, s3_server

from withhold.data import object_store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, so that nothing else has to wait for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def same_start() -> None:
    """Networks that a test makes without a seed are the same in every run, in any order, alone or in company."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, which the environment leads to; failing operations are tried again at once."""
    for name, value in environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store, "WAITS", (0.0,) * len(object_store.WAITS))
    made = Bucket(f"tests-{uuid.uuid4().hex}", s3_endpoint)
    made.client.create_bucket(Bucket=made.name)
    object_store._opened.cache_clear()
    yield made
    object_store._opened.cache_clear()
