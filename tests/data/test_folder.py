from pathlib import Path

import pytest
from tests.data.samples import Releasing, files_of, jpeg, noise, png, saved

from withhold.data.folder import FolderDataset
from withhold.data.open import open_dataset
from withhold.errors import InvalidInput, RunStopped


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_classes_order_names_and_labels(tmp_path: Path) -> None:
    names = ["dog/2.png", "dog/10.JPEG", "Cat/deep/er/1.Jpg", "été/ü.PNG"]
    data = open_dataset(fill(tmp_path / "d", {name: png(0) for name in names}))
    assert data.layout == "folder"
    assert data.classes == ("Cat", "dog", "été")
    found = [(entry.name, entry.label, entry.row, entry.split) for entry in data.entries()]
    assert found == [
        ("Cat/deep/er/1.Jpg", 0, 0, ""),
        ("dog/10.JPEG", 1, 0, ""),
        ("dog/2.png", 1, 0, ""),
        ("été/ü.PNG", 2, 0, ""),
    ]


def test_release_mirrors_the_folders(tmp_path: Path, release: Releasing) -> None:
    files = {
        "a/1.jpg": jpeg(1),
        "a/1.png": png(2, "L"),
        "a/x/grey.jpeg": saved(noise("L"), "JPEG"),
        "a/x/16.tif": saved(noise("I;16"), "TIFF"),
        "b/1.JPG": jpeg(3),
        "b/ü b.webp": saved(noise("RGBA"), "WEBP", lossless=True, exact=True),
        "b/palette.gif": saved(noise("RGB").quantize(8), "GIF"),
        "b/la.TIFF": saved(noise("LA"), "TIFF"),
    }
    done = release(fill(tmp_path / "d", files))
    assert sorted(files_of(done.folder)) == [
        "a/1.jpg.png",
        "a/1.png",
        "a/x/16.tif",
        "a/x/grey.png",
        "b/1.png",
        "b/la.TIFF",
        "b/palette.png",
        "b/ü b.webp",
    ]
    starts = {name: content[:4] for name, content in files_of(done.folder).items()}
    assert starts["a/x/16.tif"] in {b"II*\0", b"MM\0*"}
    assert starts["b/ü b.webp"] == b"RIFF"
    assert starts["a/1.jpg.png"] == b"\x89PNG"


def test_webp_can_be_asked_for(tmp_path: Path, release: Releasing) -> None:
    done = release(fill(tmp_path / "d", {"a/1.jpg": jpeg(1), "b/2.png": png(2)}), lossless="webp")
    assert done.names() == ["a/1.webp", "b/2.png"]


def test_splits(tmp_path: Path, release: Releasing) -> None:
    names = ["train/b/1.png", "train/a/1.png", "test/a/1.png", "val/c/deep/1.png"]
    root = fill(tmp_path / "d", {name: png(0) for name in names})
    data = open_dataset(root)
    assert data.classes == ("a", "b", "c")
    assert [(entry.split, entry.label) for entry in data.entries()] == [
        ("test", 0),
        ("train", 0),
        ("train", 1),
        ("val", 2),
    ]
    done = release(root, splits=["train"])
    assert done.source.classes == ("a", "b")
    assert done.source.ignored() == ["test/a/1.png", "val/c/deep/1.png"]
    assert done.names() == ["train/a/1.png", "train/b/1.png"]
    with pytest.raises(InvalidInput, match="no split named dev: the dataset has test, train, val"):
        open_dataset(root, splits=["dev"])


def test_train_may_be_a_class_of_vehicles(tmp_path: Path) -> None:
    data = open_dataset(fill(tmp_path / "d", {"train/1.png": png(0), "car/1.png": png(0)}))
    assert data.classes == ("car", "train")


def test_splits_beside_other_folders_must_be_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"train/a/1.png": png(0), "test/a/1.png": png(0), "pairs/1.png": png(0)})
    with pytest.raises(InvalidInput, match=r"splits \(test, train\) beside other folders \(pairs\)"):
        open_dataset(root)
    assert open_dataset(root, splits=["train", "test"]).ignored() == ["pairs/1.png"]


@pytest.mark.parametrize("names", [["1.png", "2.png"], ["train/1.png", "test/2.png"]])
def test_images_without_class_folders_are_refused(tmp_path: Path, names: list[str]) -> None:
    root = fill(tmp_path / "d", {name: png(0) for name in names})
    with pytest.raises(InvalidInput, match="one folder per class"):
        open_dataset(root)


def test_what_is_no_image_of_a_class_is_named_and_not_released(tmp_path: Path, release: Releasing) -> None:
    files = {"a/1.png": png(0), "b/1.png": png(0), "b/.DS_Store": b"", "b/notes.txt": b"", "loose.png": png(0)}
    root = fill(tmp_path / "d", {**files, "heic/1.heic": b""})
    (root / "none").mkdir()
    done = release(root)
    assert done.source.ignored() == ["b/notes.txt", "heic/1.heic", "loose.png", "none/"]
    assert sorted(files_of(done.folder)) == ["a/1.png", "b/1.png"]


def test_links_are_read_and_become_files(tmp_path: Path, release: Releasing) -> None:
    fill(tmp_path, {"store/x.png": png(1), "store/k/y.png": png(2), "d/a/1.png": png(0)})
    (tmp_path / "d/a/2.png").symlink_to(tmp_path / "store/x.png")
    (tmp_path / "d/b").symlink_to(tmp_path / "store/k")
    done = release(tmp_path / "d")
    assert done.names() == ["a/1.png", "a/2.png", "b/y.png"]
    assert not any(path.is_symlink() for path in done.folder.rglob("*"))


def test_released_names_do_not_depend_on_which_are_asked_for(tmp_path: Path) -> None:
    data = open_dataset(fill(tmp_path / "d", {"a/1.jpg": b"", "a/1.bmp": b"", "a/2.jpg": b"", "b/1.jpg": b""}))
    entries = list(data.entries())
    names = data.released_names(entries, "png")
    assert names == ["a/1.bmp.png", "a/1.jpg.png", "a/2.png", "b/1.png"]
    assert [data.released_names([entry], "png")[0] for entry in entries] == names
    assert data.released_names(entries, "webp")[0] == "a/1.bmp.webp"


def test_listing_does_not_decode(tmp_path: Path) -> None:
    data = open_dataset(fill(tmp_path / "d", {"a/1.jpg": b"no image", "b/2.jpg": b""}))
    assert len(list(data.entries())) == 2


def test_a_file_that_vanished_stops_the_run(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"a/1.jpg": jpeg(0)})
    data = FolderDataset(root)
    entries = list(data.entries())
    (root / "a/1.jpg").unlink()
    with pytest.raises(RunStopped, match=r"a/1\.jpg"):
        list(data.read(entries))


def test_writing_a_batch_again_changes_nothing(tmp_path: Path) -> None:
    data = FolderDataset(fill(tmp_path / "d", {"a/1.jpg": jpeg(0), "a/2.jpg": jpeg(1)}))
    entries = list(data.entries())
    writer = data.writer(tmp_path / "out", tmp_path / "spool", "png")
    for _ in range(2):
        images = [(e, writer.encode(e, data.decode(s))) for e, s in zip(entries, data.read(entries), strict=True)]
        writer.write(0, images)
        assert files_of(tmp_path / "out") == {"a/1.png": images[0][1], "a/2.png": images[1][1]}
    assert not (tmp_path / "spool").exists()
