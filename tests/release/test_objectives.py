"""Every objective, and the penalties, from a folder of images to a verified release."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from tests.release.fakes import class_folders, settings, tree

from withhold import protect
from withhold.networks.checkpoint import load
from withhold.release.settings import ProtectSettings

FEW = {"device": "cpu", "epochs": 1, "steps": 2, "architecture": "resnet20"}


@pytest.mark.parametrize("objective", get_args(ProtectSettings.model_fields["objective"].annotation))
def test_a_release_is_crafted_and_verified(tmp_path: Path, objective: str) -> None:
    source = class_folders(tmp_path / "photos", per_class=2)
    report = protect(source, tmp_path / "released", settings(**FEW, objective=objective, l2=0.1, ssim=1))
    assert report.crafted == 6
    assert report.verification.passed


def test_a_min_min_surrogate_is_reproducible_and_unlike_a_plain_one(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "photos", per_class=2)
    for name in ("one", "same"):
        protect(source, tmp_path / name, settings(**FEW, objective="error-minimising"))
    assert tree(tmp_path / "one") == tree(tmp_path / "same")
    protect(source, tmp_path / "plain", settings(**FEW))
    weights = [
        torch.cat([value.flatten() for value in load(file, classes=3).networks[0].parameters()]).detach().numpy()
        for file in (tmp_path / f"{name}.withhold" / "surrogate.safetensors" for name in ("one", "same", "plain"))
    ]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
