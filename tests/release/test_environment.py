import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.release.fakes import UniformCrafter, interrupt, make_uniform, never, settings, stopping

from withhold.errors import InvalidInput
from withhold.release import environment as environments
from withhold.release.environment import Environment, reproducing
from withhold.release.materials import Materials
from withhold.release.run import run
from withhold.release.sidecar import Sidecar
from withhold.release.stored_plan import load_plan

HERE = Environment.here("cpu")


def elsewhere(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    there = replace(HERE, **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(environments.Environment, "here", staticmethod(lambda *_: there))


def test_the_thread_count_of_the_first_start_is_taken_up_and_put_back(source: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def make(materials: Materials) -> UniformCrafter:
        seen.append(torch.get_num_threads())
        return make_uniform(materials)

    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", settings(), stopping(interrupt))
    torch.set_num_threads(1)
    run(source, tmp_path / "out", settings(), make)
    assert (seen, torch.get_num_threads()) == ([2], 1)
    sidecar = Sidecar(tmp_path / "out")
    plan = load_plan(sidecar.plan_table, sidecar.plan_document)
    assert plan.environment == Environment(str(torch.__version__), "cpu", 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda"}, "the type of device was cpu and is now cuda"),
        ({"torch": "99"}, r"PyTorch was .* and is now 99"),
    ],
)
def test_another_device_or_pytorch_does_not_resume_but_verifies(
    changes: dict[str, str], message: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, tmp_path / "done", settings(), make_uniform)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", settings(), stopping(interrupt))
    elsewhere(monkeypatch, **changes)
    with pytest.raises(InvalidInput, match=message):
        run(source, tmp_path / "out", settings(), never)
    assert run(source, tmp_path / "done", settings(), never).verification.passed


def test_cuda_runs_use_deterministic_algorithms_and_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with reproducing(replace(HERE, device="cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" in os.environ
    with reproducing(HERE):
        assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_an_error_puts_the_threads_back_too() -> None:
    def fail() -> None:
        assert torch.get_num_threads() == 2
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), reproducing(replace(HERE, threads=2)):
        fail()
    assert torch.get_num_threads() == 1
