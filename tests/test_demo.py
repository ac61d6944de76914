import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from withhold.cli.main import app
from withhold.data.open import open_dataset
from withhold.data.pixels import Picture, encode
from withhold.demo import Size, photographs, run
from withhold.demo.images import TEST, TRAIN, images_of, write_folders
from withhold.demo.photographs import PATCH, PHOTOGRAPHS, TILE, held_out_tiles, photograph_patches
from withhold.errors import InvalidInput

TINY = Size(images=4, test_images=3, epochs=1, steps=2)


def test_patches_are_labelled_by_photograph_and_counted_by_split() -> None:
    patches = list(photograph_patches(3, 2, seed=0))
    assert len(patches) == len(PHOTOGRAPHS) * 5
    assert {patch.label for patch in patches} == {Path(file).stem for file in PHOTOGRAPHS}
    assert sum(patch.split == TRAIN for patch in patches) == len(PHOTOGRAPHS) * 3
    assert {patch.levels.shape for patch in patches} == {(PATCH, PATCH, 1)}
    assert {patch.levels.dtype for patch in patches} == {np.dtype(np.uint8)}


def test_the_seed_decides_the_patches() -> None:
    def drawn(seed: int) -> list[bytes]:
        return [patch.levels.tobytes() for patch in photograph_patches(2, 1, seed)]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_every_photograph_lies_in_the_installed_package() -> None:
    for file in PHOTOGRAPHS:
        assert (photographs._bundled() / file).is_file()


def test_tiles_are_shared_out_without_rest() -> None:
    train, test = (held_out_tiles((303, 384), test=is_test) for is_test in (False, True))
    everything = set(itertools.product(range(0, 4 * TILE, TILE), range(0, 6 * TILE, TILE)))
    assert set(train) | set(test) == everything
    assert not set(train) & set(test)
    assert len(test) == 6


def test_no_test_pixel_is_a_training_pixel_or_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    # A photograph whose pixels say where they are shows the place of every patch.
    rows, columns = np.mgrid[:256, :256].astype(np.uint8)
    monkeypatch.setattr(photographs, "_read", lambda _: np.dstack([rows, columns, rows]))
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", ("place.png",))
    patches = list(photograph_patches(400, 200, seed=0))
    covered = {split: np.zeros((256, 256), bool) for split in (TRAIN, TEST)}
    for patch in patches:
        covered[patch.split][patch.levels[..., 0], patch.levels[..., 1]] = True
    grown = np.zeros_like(covered[TRAIN])
    for down, right in itertools.product((-1, 0, 1), repeat=2):
        grown |= np.roll(covered[TRAIN], (down, right), (0, 1))
    assert covered[TEST].any()
    assert not (grown & covered[TEST]).any()


def test_a_missing_photograph_is_an_error_and_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "_bundled", lambda: tmp_path)
    with pytest.raises(InvalidInput, match=r"holds no brick\.png"):
        list(photograph_patches(1, 1, 0))


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InvalidInput, match=r"withhold\[demo\]"):
        list(photograph_patches(1, 1, 0))


def test_written_folders_are_read_back_exactly(tmp_path: Path) -> None:
    patches = list(photograph_patches(2, 1, seed=0))
    write_folders(patches, {TRAIN: tmp_path / TRAIN, TEST: tmp_path / TEST})
    dataset = open_dataset(tmp_path / TRAIN)
    entries = list(dataset.entries())
    read = [dataset.decode(stored).levels for stored in dataset.read(entries)]
    assert np.array_equal(np.stack(read), np.stack([patch.levels for patch in patches if patch.split == TRAIN]))
    assert [entry.label for entry in entries] == [label for label in range(len(PHOTOGRAPHS)) for _ in range(2)]


def test_no_patch_is_flat_and_no_test_patch_is_a_training_patch() -> None:
    patches = list(photograph_patches(100, 50, seed=0))
    assert min(patch.levels.std() for patch in patches) >= photographs.FLAT
    known = {patch.levels.tobytes() for patch in patches if patch.split == TRAIN}
    assert not any(patch.levels.tobytes() in known for patch in patches if patch.split == TEST)


def dataset_on_disk(root: Path, splits: tuple[str, ...]) -> Path:
    for split, label, index in itertools.product(splits, "ab", range(5)):
        path = root / split / label / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Picture(np.full((32, 32, 3), 10 * index + len(split), np.uint8)), "png"))
    return root


def test_a_dataset_on_disk_gives_its_first_images_and_all_its_tests(tmp_path: Path) -> None:
    taken = list(images_of(dataset_on_disk(tmp_path, ("train", "test")), per_class=2))
    assert [(image.split, image.label) for image in taken].count((TRAIN, "a")) == 2
    assert [(image.split, image.label) for image in taken].count((TEST, "b")) == 5
    assert [int(image.levels[0, 0, 0]) for image in taken if (image.split, image.label) == (TRAIN, "a")] == [5, 15]


def test_a_dataset_without_test_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs a train and a test split"):
        list(images_of(dataset_on_disk(tmp_path, ("train",)), per_class=2))


def test_the_whole_demonstration_in_miniature(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    result = run.demonstrate(output, size=TINY)
    assert (result.classes, result.train_images, result.test_images, result.chance) == (10, 40, 30, 0.1)
    assert (result.checked, result.offenders) == (40, 0)
    assert 0 < result.largest_change <= 8
    for measured in (result.from_original, result.from_released, result.from_noise):
        assert 0 <= measured <= 1
    assert Path(result.picture).is_file()
    assert "<html" in Path(result.report).read_text()
    assert json.loads((output / run.RESULT).read_text())["settings"]["eps"] == "8/255"
    assert len(list((output / "released").rglob("*.png"))) == 40
    again = run.demonstrate(output, size=TINY)
    assert again.from_released == result.from_released


def test_the_demonstration_of_a_dataset_on_disk(tmp_path: Path) -> None:
    data = dataset_on_disk(tmp_path / "data", ("train", "test"))
    result = run.demonstrate(tmp_path / "demo", data, TINY)
    assert (result.data, result.classes, result.train_images, result.test_images) == ("data", 2, 8, 10)


def test_foreign_files_in_the_output_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/mine.png").write_text("precious")
    with pytest.raises(InvalidInput, match="holds files that no demonstration made"):
        run.demonstrate(tmp_path, size=TINY)
    assert (tmp_path / "photos/mine.png").read_text() == "precious"


def test_the_table_states_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = run.Demonstration(
        data="photographs",
        classes=10,
        train_images=2500,
        test_images=1000,
        from_original=0.934,
        from_released=0.217,
        from_noise=0.921,
        best_from_released=0.314,
        chance=0.1,
        checked=2500,
        offenders=0,
        largest_change=8.0,
        released="demo/released",
        picture="demo/before-after.png",
        report="demo/report/index.html",
        settings={"eps": "8/255", "objective": "class-targeted", "steps": 40, "epochs": 16, "seed": 0},
        threads=2,
        seconds={"protect": 60.0, "verify": 1.0},
    )
    monkeypatch.setattr(run, "demonstrate", lambda *_, **__: measured)
    told = CliRunner().invoke(app, ["demo"])
    assert told.exit_code == 0
    for words in (
        "93.4%",
        "21.7%",
        "92.1%",
        "31.4%",
        "10.0%",
        "every image within the bound",
        "8/255",
        "61 s",
        "demo/before-after.png",
        "demo/report/index.html",
    ):
        assert words in told.stdout
    document = json.loads(CliRunner().invoke(app, ["demo", "--json"]).stdout)
    assert document["from_released"] == 0.217


def test_size_of_the_demonstration_comes_from_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def stop(*given: object, **_: object) -> None:
        seen.extend(given)
        msg = "enough"
        raise InvalidInput(msg)

    monkeypatch.setattr(run, "demonstrate", stop)
    result = CliRunner().invoke(app, ["demo", "-o", "x", "--images", "7", "--epochs", "3", "--steps", "5"])
    assert result.exit_code == 2
    assert seen == [Path("x"), None, Size(images=7, test_images=100, epochs=3, steps=5)]
