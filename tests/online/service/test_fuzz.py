import asyncio
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.online.service.fakes import running
from tests.online.service.test_uploads import damaged

from withhold.data.pixels import change, decode
from withhold.online.protector import Protector

STATED = {
    413: {"urn:withhold:too-many-pixels"},
    415: {"urn:withhold:unknown-kind"},
    422: {"urn:withhold:unreadable-image"},
}


def test_whatever_the_file_the_answer_is_one_of_those_that_are_stated(tmp_path: Path, protector: Protector) -> None:
    context = running(tmp_path, crafting=protector, speed="instant", max_pixels=10_000, pairs=None)
    with asyncio.Runner() as runner:
        service = runner.run(context.__aenter__())

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(damaged() | st.binary(max_size=200))
        def check(content: bytes) -> None:
            response = runner.run(service.protect(content))
            if response.status_code == 200:
                assert 0 < change(decode(content), decode(response.content)).max() <= 8
            else:
                assert response.json()["type"] in STATED[response.status_code]

        check()
        runner.run(context.__aexit__(None, None, None))
    assert service.logged("failed") == []
