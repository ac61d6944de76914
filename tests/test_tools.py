"""The tests' own helper: in continuous integration nothing is skipped for want of a tool."""

import pytest
from tests.tools import VARIABLE, missing, needs, package

NONE = "there_is_no_such_package"


def test_elsewhere_a_missing_tool_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        missing("no browser")
    with pytest.raises(pytest.skip.Exception, match=NONE):
        package(NONE)
    assert needs(None, "browser").args == (True,)
    assert needs("/usr/bin/browser", "browser").args == (False,)


def test_in_continuous_integration_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        missing("no browser")
    with pytest.raises(ModuleNotFoundError):
        package(NONE)
    assert needs(None, "browser").args == (False,)
