from fractions import Fraction
from pathlib import Path

import pytest

from withhold.cli.options import read_settings
from withhold.errors import InvalidInput
from withhold.release.settings import ProtectSettings


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "withhold.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_file_and_options_the_defaults_hold() -> None:
    assert read_settings(ProtectSettings, "protect", None, {"steps": None, "splits": []}) == ProtectSettings()


def test_command_line_beats_file_beats_default(tmp_path: Path) -> None:
    config = write(tmp_path, '[protect]\neps = "4/255"\nsteps = 7\n')
    settings = read_settings(ProtectSettings, "protect", config, {"steps": 9, "seed": None})
    assert (settings.eps, settings.steps, settings.seed) == (Fraction(4, 255), 9, ProtectSettings().seed)


def test_a_file_can_hold_every_setting(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        """
        [protect]
        eps = 0.03
        objective = "alignment"
        direction = "batch"
        form = "decoupled"
        steps = 3
        step_size = 0.2
        schedule = "linear"
        optimizer = "adam"
        restarts = 2
        start = "zero"
        augment = "none"
        l2 = 0.5
        ssim = 1
        total-variation = 0.01
        batch_size = 16
        surrogate = "weights.safetensors"
        architecture = "resnet18"
        input_size = 64
        mean = [0.5, 0.5, 0.5]
        std = [0.25, 0.25, 0.25]
        epochs = 2
        snapshots = 2
        seed = 5
        device = "cpu"
        lossless = "webp"
        splits = ["train"]
        skip_unreadable = true
        task = "faces"
        head = "cosface"
        faces = "faces.csv"
        faceless = "unchanged"
        """,
    )
    settings = read_settings(ProtectSettings, "protect", config, {})
    assert settings.model_fields_set == set(ProtectSettings.model_fields) - {"detector"}  # that is in place of faces
    assert (settings.mean, settings.splits, settings.skip_unreadable) == ((0.5, 0.5, 0.5), ("train",), True)


def test_keys_may_be_written_as_on_the_command_line(tmp_path: Path) -> None:
    assert (
        read_settings(ProtectSettings, "protect", write(tmp_path, "[protect]\nstep-size = 0.5\n"), {}).step_size == 0.5
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[protect]\nstpes = 3\n", ["'stpes'", "'steps'"]),
        ("eps = 0.03\n", ["'eps'", "[protect]"]),
        ("[protekt]\n", ["'protekt'", "'protect'"]),
        ("protect = 3\n", ["must be a table", "3"]),
        ("[protect\n", ["no valid TOML"]),
        ("[protect]\nsteps = 0\n", ["steps in", "greater than or equal to 1", "got 0"]),
        ('[protect]\nobjective = "magic"\n', ["objective in", "'class-targeted'", "'magic'"]),
        ("[protect]\nl2 = -1\n", ["l2 in", "greater than or equal to 0", "got -1"]),
        ("[protect]\nssim = inf\n", ["ssim in", "finite"]),
        ("[protect]\nmean = [0.5, 0.5, 0.5]\n", ["mean and std go together"]),
        ("[protect]\neps = 8\n", ["8/255"]),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(ProtectSettings, "protect", write(tmp_path, text), {})
    for words in said:
        assert words in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.toml: No such file"):
        read_settings(ProtectSettings, "protect", tmp_path / "absent.toml", {})


def test_a_bad_option_is_named_as_an_option() -> None:
    with pytest.raises(InvalidInput, match=r"--step-size: .*greater than 0, got 0"):
        read_settings(ProtectSettings, "protect", None, {"step_size": 0.0})


def test_a_bad_option_is_told_apart_from_a_bad_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(ProtectSettings, "protect", write(tmp_path, "[protect]\nsteps = 0\n"), {"restarts": 0})
    first, second = str(refused.value).splitlines()
    assert first.startswith("steps in ")
    assert second.startswith("--restarts: ")
