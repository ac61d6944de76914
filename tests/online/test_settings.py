import pytest
from pydantic import ValidationError

from withhold.online.settings import SPEEDS, OnlineSettings
from withhold.release.settings import ProtectSettings


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"objective": "gradient-norm"}, "property of a batch"),
        ({"objective": "alignment", "form": "joint"}, "choose decoupled"),
        ({"objective": "alignment", "direction": "batch"}, "choose dataset or class"),
        ({"objective": "alignment", "direction": "class", "lanes": 4}, "leave out lanes"),
        ({"restarts": 2}, "raise steps in place of restarts"),
        ({"task": "faces", "faces": "faces.csv"}, "leave out faces and detector"),
        ({"instant_steps": -1}, "greater than or equal to 0"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_done_image_by_image_is_refused(chosen: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        OnlineSettings.model_validate(chosen)


def test_alignment_is_decoupled_without_being_told() -> None:
    assert OnlineSettings(objective="alignment").form == "decoupled"


def test_all_settings_of_protect_are_there_with_their_defaults() -> None:
    own, offline = OnlineSettings(), ProtectSettings()
    assert all(getattr(own, name) == getattr(offline, name) for name in ProtectSettings.model_fields if name != "form")


def test_each_speed_has_a_meaning() -> None:
    speeds = OnlineSettings(steps=30, step_size=0.2, quick_steps=4, quick_step_size=0.3, instant_steps=1).speeds()
    assert tuple(speeds) == SPEEDS
    assert [(each.start, each.steps, each.step_size) for each in speeds.values()] == [
        ("settings", 30, 0.2),
        ("generator", 4, 0.3),
        ("generator", 1, 0.3),
    ]
