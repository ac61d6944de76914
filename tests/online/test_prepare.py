import stat
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image
from tests.online.protectors import NETWORK, pixels

from withhold.errors import InvalidInput
from withhold.online import prepare as preparing
from withhold.online.folder import DIRECTIONS, DOCUMENT, GENERATOR, KEY, SURROGATE, read_folder
from withhold.online.prepare import Prepared, lanes_for, prepare
from withhold.online.protector import Protector
from withhold.online.settings import OnlineSettings


def settings(**chosen: object) -> OnlineSettings:
    small = {"architecture": NETWORK, "epochs": 1, "generator_epochs": 1, "generator_width": 4, "generator_blocks": 1}
    return OnlineSettings.model_validate({**small, "steps": 2, **chosen})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(pixels(10 * label + index)).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def test_a_protector_appears_whole_and_nothing_else_is_left(photos: Path, tmp_path: Path) -> None:
    prepared = prepare(photos, tmp_path / "protector", settings())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "protector"]
    names = {path.name for path in (tmp_path / "protector").iterdir()}
    assert names == {DOCUMENT, SURROGATE, GENERATOR, KEY}
    assert stat.S_IMODE((tmp_path / "protector" / KEY).stat().st_mode) == 0o600
    document = read_folder(tmp_path / "protector").document
    assert prepared == Prepared(
        tmp_path / "protector", 8, 2, document.fingerprint, document.surrogate, prepared.seconds
    )
    assert (document.classes, document.input_size, document.crop_size, document.lanes) == (("cat", "dog"), 16, None, 1)
    assert "trained for 1 epochs" in document.surrogate
    protector = Protector.load(tmp_path / "protector")
    released = [protector.protect(photos / "cat" / "0.png", "cat", speed=speed) for speed in document.speeds]
    assert len({each.content for each in released}) == 3


def test_two_protectors_of_the_same_images_differ_in_nothing_but_the_key(photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare(photos, tmp_path / name, settings())
    one, two = (read_folder(tmp_path / name).files for name in ("one", "two"))
    assert {name for name in one if one[name] != two[name]} == {KEY}


def test_a_protector_is_not_prepared_over_and_only_its_owner_reads_it(photos: Path, tmp_path: Path) -> None:
    prepare(photos, tmp_path / "protector", settings())
    before = read_folder(tmp_path / "protector").document
    with pytest.raises(InvalidInput, match="holds a protector already; use it, or name a new folder"):
        prepare(photos, tmp_path / "protector", settings())
    assert read_folder(tmp_path / "protector").document == before
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "protector").iterdir()}
    assert {modes[name] for name in before.files} == {0o600}


def test_alignment_keeps_its_directions(photos: Path, tmp_path: Path) -> None:
    prepare(photos, tmp_path / "protector", settings(objective="alignment", direction="class", snapshots=1))
    stored = read_folder(tmp_path / "protector")
    tensors = safetensors.torch.load(stored.files[DIRECTIONS])
    assert {name.rpartition("/")[0] for name in tensors} == {"0/0", "0/1"}
    norm = torch.cat([value.flatten() for name, value in tensors.items() if name.startswith("0/0/")]).norm()
    assert norm.item() == pytest.approx(1)
    released = Protector.load(tmp_path / "protector").protect(pixels(1), "dog")
    assert released.largest_change > 0


def test_snapshots_form_an_ensemble(photos: Path, tmp_path: Path) -> None:
    prepare(photos, tmp_path / "protector", settings(epochs=2, snapshots=2))
    protector = Protector.load(tmp_path / "protector")
    picture = protector.accept(pixels(1), 0).picture
    assert protector.craft([picture], [0], "full")[0].any()


def test_pictures_of_different_sizes_are_seen_by_crops(photos: Path, tmp_path: Path) -> None:
    Image.fromarray(pixels(1, 40, 30)).save(photos / "cat" / "large.png")
    prepare(photos, tmp_path / "protector", settings())
    document = read_folder(tmp_path / "protector").document
    assert document.crop_size == document.input_size
    released = Protector.load(tmp_path / "protector").protect(photos / "cat" / "large.png", speed="instant")
    assert released.picture.levels.shape == (40, 30, 3)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["build_crafter", "train_generator", "write_folder", "publish", "_tidy"])
def test_an_interrupted_preparation_goes_on_after_its_last_finished_step(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed before the step; what was finished is not made again, so it is the same to the byte."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(preparing, step, kill)
        with pytest.raises(Killed):
            prepare(photos, tmp_path / "protector", settings())
    assert (tmp_path / "protector").exists() == (step == "_tidy")
    private = tmp_path / "protector.withhold"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    kept = {path.name: path.read_bytes() for path in private.iterdir() if path.suffix == ".safetensors"}
    order = ["build_crafter", "train_generator", "write_folder", "publish", "_tidy"]
    assert set(kept) == {SURROGATE, GENERATOR} if order.index(step) > 1 else {SURROGATE} if step != order[0] else True
    prepare(photos, tmp_path / "protector", settings())
    assert not private.exists()
    stored = read_folder(tmp_path / "protector")
    assert all(stored.files[name] == content for name, content in kept.items())


def test_going_on_with_other_settings_or_images_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(preparing, "train_generator", kill)
        with pytest.raises(Killed):
            prepare(photos, tmp_path / "protector", settings())
    with pytest.raises(InvalidInput, match="quick_steps was 6 and is now 3"):
        prepare(photos, tmp_path / "protector", settings(quick_steps=3))
    Image.fromarray(pixels(99)).save(photos / "cat" / "0.png")
    with pytest.raises(InvalidInput, match=r"cat/0\.png changed"):
        prepare(photos, tmp_path / "protector", settings())


def test_a_destination_with_other_files_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "protector").mkdir()
    (tmp_path / "protector" / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="holds files that are not of this release"):
        prepare(photos, tmp_path / "protector", settings())
    with pytest.raises(InvalidInput, match="lies inside the source"):
        prepare(photos, photos / "protector", settings())


def test_the_number_of_lanes_follows_the_device() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert lanes_for(settings(), cpu) == 1
    assert lanes_for(settings(), cuda) > 1
    assert lanes_for(settings(lanes=5), cpu) == 5
    assert lanes_for(settings(objective="alignment", direction="class"), cuda) == 1
