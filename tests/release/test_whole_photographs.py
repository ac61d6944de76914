"""Faces in whole photographs: only they change, within the bound, each by its own identity; bad input costs nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.release.fakes import Listener, interrupt, make_uniform, png, stopping, tree
from tests.release.fakes import settings as settings_of
from tests.release.photographs import FACES, Box, csv_of, photographs

from withhold.data.faces import TEMPLATE, Face
from withhold.data.open import open_dataset
from withhold.data.pixels import Picture, decode
from withhold.errors import InvalidInput
from withhold.release import face_finding
from withhold.release.crafting import Crafted, Shown
from withhold.release.document import read_document
from withhold.release.dry_run import dry_run
from withhold.release.face_column import faces_in
from withhold.release.face_crops import FaceCrops
from withhold.release.materials import Materials
from withhold.release.run import protect, run
from withhold.release.settings import ProtectSettings
from withhold.release.show import show
from withhold.release.verify import verify


def settings(faces: Path | None, **changes: Any) -> ProtectSettings:  # noqa: ANN401
    quick = {"task": "faces", "architecture": "resnet9", "input_size": 16, "epochs": 1, "steps": 3, "step_size": 0.5}
    return settings_of(**quick, faces=None if faces is None else str(faces), **changes)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    return photographs(tmp_path / "album")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return csv_of(FACES, tmp_path / "faces.csv")


def seen(box: Box, height: int, width: int) -> np.ndarray:
    """Pixels whose centre a recogniser sees: the square with the box's centre and 5/4 of its longer side."""
    x0, y0, x1, y1 = box
    half = 5 / 8 * max(x1 - x0, y1 - y0)
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    return (abs(rows - (y0 + y1) / 2) <= half)[:, None] & (abs(columns - (x0 + x1) / 2) <= half)[None, :]


def levels(file: Path) -> np.ndarray:
    return decode(file.read_bytes()).levels.astype(int)


@pytest.mark.parametrize("changes", [{}, {"objective": "alignment", "head": "cosface"}, {"head": "arcface"}])
def test_only_what_a_recogniser_sees_of_the_faces_changes(
    album: Path, faces: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    listener = Listener()
    report = protect(album, tmp_path / "out", settings(faces, **changes), reporter=listener)
    assert report.verification.passed
    assert "on 9 faces of 3 classes" in " ".join(listener.said)
    for name, boxes in FACES.items():
        before, after = levels(album / name), levels(tmp_path / "out" / name)
        inside = np.any([seen(box, *before.shape[:2]) for box, _ in boxes], axis=0)
        moved = np.abs(after - before)
        assert moved[~inside].max(initial=0) == 0
        assert moved.max() <= 8
        for box, _ in boxes:
            assert (moved[seen(box, *before.shape[:2])] > 0).mean() > 0.5


def test_a_release_with_faces_can_be_shown_at_other_strengths_and_verified(
    album: Path, faces: Path, tmp_path: Path
) -> None:
    protect(album, tmp_path / "out", settings(faces))
    assert verify(album, tmp_path / "out").passed
    sheet = show(album, [tmp_path / "out"], tmp_path / "sheet.png", eps=[Fraction(16, 255)])
    assert sheet.stat().st_size > 0


@dataclass
class Remembering:
    """Crafts nothing but a visible change, and remembers what it was to craft."""

    given: list[tuple[Picture, Shown]]

    def on(self, device: str) -> "Remembering":  # noqa: ARG002
        return self

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:  # noqa: ARG002
        self.given += zip(pictures, shown, strict=True)
        deltas = [np.full((3, *picture.levels.shape[:2]), 4 / 255, np.float32) for picture in pictures]
        return Crafted(deltas, [0.0] * len(deltas), [0.0] * len(deltas))


def test_every_face_is_crafted_with_its_own_identity(album: Path, faces: Path, tmp_path: Path) -> None:
    given: list[tuple[Picture, Shown]] = []
    run(album, tmp_path / "out", settings(faces), lambda _: Remembering(given))
    labels = sorted(tuple(face.label for face in shown) for _, shown in given if not isinstance(shown, int))
    assert labels == [(0,), (0, 1, 2), (1,), (1,), (2,), (2, 0)]


def test_the_surrogate_is_trained_on_the_faces_alone(album: Path, faces: Path, tmp_path: Path) -> None:
    """Without the folder's noise around them: the crops of one identity have its stripes, whatever photograph."""
    crops: list[tuple[torch.Tensor, torch.Tensor]] = []

    def make(materials: Materials) -> Remembering:
        originals = FaceCrops(materials.dataset, materials.plan.kept(), materials.settings, tmp_path)
        assert len(originals) == 9
        crops.append(originals.sample(20, "native", 100))
        return Remembering([])

    run(album, tmp_path / "out", settings(faces), make)
    images, labels = crops[0]
    assert images.shape == (9, 3, 20, 20)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    expected = levels(album / "ann/group.png")[2:22, 2:22]  # the box from 4 to 20 is enlarged to a square of 20 pixels
    matches = [np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max() for image in images]
    assert min(matches) == 0
    assert labels[int(np.argmin(matches))] == 0


def test_faces_that_do_not_fit_into_memory_are_kept_in_a_file_that_vanishes(
    album: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("withhold.release.face_crops.HELD_BYTES", 1000)
    with_file = protect(album, tmp_path / "a", settings(faces))
    monkeypatch.undo()
    protect(album, tmp_path / "b", settings(faces))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert not [path for path in with_file.sidecar.iterdir() if path.name.startswith("tmp")]


def test_photographs_without_a_face_are_refused_by_name_or_released_bit_by_bit(
    album: Path, faces: Path, tmp_path: Path
) -> None:
    for name in ("bob/street.png", "eve/sea.png"):
        (album / name).write_bytes(png(np.random.default_rng(1).integers(0, 255, (30, 50, 3), np.uint8)))
    with pytest.raises(InvalidInput, match=r"2 images show no face.* bob/street\.png, eve/sea\.png"):
        run(album, tmp_path / "out", settings(faces), make_uniform)
    assert not list(tmp_path.glob("out*"))
    report = protect(album, tmp_path / "out", settings(faces, faceless="unchanged"))
    assert report.verification.unchanged == ("bob/street.png", "eve/sea.png")
    assert report.quality.psnr is not None
    for name in ("bob/street.png", "eve/sea.png"):
        assert np.array_equal(levels(album / name), levels(tmp_path / "out" / name))
    document = read_document(tmp_path / "out")
    assert document is not None
    assert document.unchanged == ("bob/street.png", "eve/sea.png")
    assert verify(album, tmp_path / "out").passed
    (tmp_path / "out/ann/alone.png").write_bytes((album / "ann/alone.png").read_bytes())
    found = verify(album, tmp_path / "out")
    assert [each.name for each in found.offenders] == ["ann/alone.png"]
    # As many as release.json says, but not the same ones.
    street = levels(album / "bob/street.png")
    (tmp_path / "out/bob/street.png").write_bytes(png(street.astype(np.uint8) ^ 1))
    found = verify(album, tmp_path / "out")
    assert [(each.name, each.problem) for each in found.offenders] == [
        ("ann/alone.png", "is unchanged, and so unprotected"),
        ("bob/street.png", "is to be unchanged, says release.json, and is not"),
    ]


def test_a_resumed_run_gives_the_same_bytes_and_notices_a_changed_csv(album: Path, faces: Path, tmp_path: Path) -> None:
    run(album, tmp_path / "whole", settings(faces), make_uniform)
    with pytest.raises(KeyboardInterrupt):
        run(album, tmp_path / "out", settings(faces, batch_size=2), stopping(interrupt))
    moved = {**FACES, "bob/alone.png": [((11, 12, 36, 40), "bob")]}
    csv_of(moved, faces)
    with pytest.raises(InvalidInput, match=r"the faces of bob/alone\.png are stated otherwise"):
        run(album, tmp_path / "out", settings(faces, batch_size=2), make_uniform)
    csv_of(FACES, faces)
    run(album, tmp_path / "out", settings(faces, batch_size=2), make_uniform)
    run(album, tmp_path / "again", settings(faces, batch_size=2), make_uniform)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def changed(**changes: list[tuple[Box, str]]) -> dict[str, list[tuple[Box, str]]]:
    return {**FACES, **{name.replace("__", "/") + ".png": boxes for name, boxes in changes.items()}}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (changed(bob__alone=[((12, 12, 41, 40), "bob")]), r"outside of bob/alone\.png, which is 40 x 44 pixels"),
        (changed(bob__gone=[((1, 1, 20, 20), "")]), r"images that are not in .*: bob/gone\.png \(line 11 of faces"),
        (changed(bob__alone=[((12, 12, 36, 40), "bobby")]), "'bobby' is no identity of the dataset.*: ann, bob, eve"),
        (
            {"ann/alone.png": FACES["ann/alone.png"], "bob/alone.png": FACES["bob/alone.png"]},
            "identity needs two f",
        ),
        ({}, "expected faces of at least two identities, got 0"),
    ],
)
def test_faces_that_do_not_fit_the_dataset_are_refused_and_leave_nothing(
    album: Path, tmp_path: Path, stated: dict[str, list[tuple[Box, str]]], message: str
) -> None:
    def never(_: Materials) -> Remembering:
        raise AssertionError("nothing was to be trained")

    with pytest.raises(InvalidInput, match=message):
        run(album, tmp_path / "out", settings(csv_of(stated, tmp_path / "faces.csv")), never)
    assert not list(tmp_path.glob("out*"))


def find(image: np.ndarray) -> object:
    """Find the faces of the album by the sizes of its photographs; the last one reaches beyond the edge."""
    assert image.dtype == np.uint8
    return {(80, 100): [[4, 4, 20, 20], [90, 60, 130, 100]], (48, 64): [[6, 6, 26, 26]]}.get(
        image.shape[:2], [[8, 20, 24, 36]]
    )


def nothing(_: np.ndarray) -> list[float]:
    return []


def none(_: np.ndarray) -> None:
    return None


def scalar(_: np.ndarray) -> float:
    return 0.5


def beyond(image: np.ndarray) -> list[list[float]]:
    """Find a face whose landmarks partly lie outside of the image."""
    points = np.array(TEMPLATE) / 4
    moved = points - points.real.mean() + image.shape[1]
    return [np.stack([moved.real, moved.imag], 1).ravel().tolist()]


def broken(_: np.ndarray) -> float:
    return 1 / 0


def five(_: np.ndarray) -> list[list[float]]:
    return [[1, 2, 3, 4, 5]]


HERE = "tests.release.test_whole_photographs"


def test_a_detector_finds_the_faces_of_each_folders_identity(album: Path, tmp_path: Path) -> None:
    given: list[tuple[Picture, Shown]] = []
    chosen = settings(None, detector=f"{HERE}:find")
    run(album, tmp_path / "out", chosen, lambda _: Remembering(given))
    found = {picture.levels.shape[:2]: shown for picture, shown in given}
    # The box is cut off at the edge, at 100 and 80, before it becomes a square of 5/4 of its longer side.
    assert found[80, 100] == (Face(0, (2, 2, 20, 0)), Face(0, (82.5, 57.5, 25, 0)))
    assert found[48, 64] == (Face(2, (3.5, 3.5, 25, 0)),)
    planned = pq.read_table(tmp_path / "out.withhold/plan.parquet").column("faces")
    assert [len(one) for one in faces_in(planned)] == [1, 2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (f"{HERE}:nothing", "none of the 6 images shows a face"),
        (f"{HERE}:none", "none of the 6 images shows a face"),
        (f"{HERE}:scalar", r"must return finite boxes .* returned an array \(1,\)"),
        (f"{HERE}:beyond", "lies outside of"),
        (f"{HERE}:broken", r"broken on ann/alone\.png failed: ZeroDivisionError"),
        (f"{HERE}:five", r"must return finite boxes .* returned an array \(1, 5\)"),
        (f"{HERE}:HERE", "is no function"),
        (f"{HERE}:absent", "cannot import '.*:absent'"),
        ("tests.release.absent:find", "cannot import '.*:find'"),
        ("find", "Expected module:function"),
    ],
)
def test_a_detector_that_does_not_work_is_refused(album: Path, tmp_path: Path, detector: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        run(album, tmp_path / "out", settings(None, detector=detector), make_uniform)
    assert not list(tmp_path.glob("out*"))


def test_a_dry_run_refuses_and_estimates_what_a_run_would(album: Path, faces: Path, tmp_path: Path) -> None:
    estimate = dry_run(album, tmp_path / "out", settings(faces))
    assert (estimate.images, estimate.classes) == (6, 3)
    assert estimate.training_seconds is not None
    (album / "bob/street.png").write_bytes(png(np.zeros((30, 50, 3), np.uint8)))
    with pytest.raises(InvalidInput, match="1 images show no face"):
        dry_run(album, tmp_path / "out", settings(faces))
    assert dry_run(album, tmp_path / "out", settings(faces, faceless="unchanged")).images == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProtectSettings(task="faces", faces="a", detector="b:c"), "give one of them"),
        (lambda: ProtectSettings(faces="a.csv"), "give --task faces too"),
        (lambda: ProtectSettings(task="faces", faceless="unchanged"), "give faces or detector too"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(make: Callable[[], ProtectSettings], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_names_are_looked_up_once_for_all_rows(album: Path, faces: Path) -> None:
    source = face_finding.open_faces(settings(faces), open_dataset(album))
    assert isinstance(source, face_finding.StatedFaces)
    assert {name: len(rows) for name, rows in source.by_image.items()} == {name: len(f) for name, f in FACES.items()}
