import io
import json
import tarfile
from pathlib import Path

import pytest
from tests.data.samples import Releasing, files_of, jpeg, noise, png, saved

from withhold.data.open import open_dataset
from withhold.errors import InvalidInput


def pack(
    path: Path, members: dict[str, bytes | None], kind: int = tarfile.USTAR_FORMAT, links: tuple[str, ...] = ()
) -> Path:
    """Write a shard; a member without content is a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as target:
        for number, (name, content) in enumerate(members.items()):
            info = tarfile.TarInfo(name)
            info.mtime, info.uid, info.gname, info.mode = 1_000_000 + number, 1000 + number, "owners", 0o640
            if content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            target.addfile(info, io.BytesIO(content) if content is not None else None)
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "elsewhere.jpg"
            target.addfile(info)
    return path


def unpack(path: Path) -> list[tuple[tarfile.TarInfo, bytes | None]]:
    with tarfile.open(path) as source:
        return [(member, file.read() if (file := source.extractfile(member)) else None) for member in source]


def test_names_labels_and_order(tmp_path: Path) -> None:
    pack(tmp_path / "d/train-0.tar", {"2.jpg": jpeg(0), "2.cls": b"10\n", "1.cls": b"9", "1.png": png(0)})
    pack(tmp_path / "d/train-1.tar", {"x/3.json": b'{"label": 9, "text": "a"}', "x/3.jpeg": jpeg(1)})
    data = open_dataset(tmp_path / "d")
    assert (data.layout, data.classes) == ("webdataset", ("9", "10"))
    assert [(entry.name, entry.label, entry.row, entry.split) for entry in data.entries()] == [
        ("train-0.tar#2.jpg", 1, 0, "train"),
        ("train-0.tar#1.png", 0, 1, "train"),
        ("train-1.tar#x/3.jpeg", 0, 0, "train"),
    ]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_release_keeps_everything_else(tmp_path: Path, release: Releasing, kind: int) -> None:
    long = "folder/" * 20
    members: dict[str, bytes | None] = {
        "./": None,
        "./v1.0/": None,
        "./v1.0/000.jpg": jpeg(0),
        "./v1.0/000.cls": b"3",
        "./v1.0/000.txt": "größer".encode(),
        "./v1.0/001.input.PNG": png(1, "LA"),
        "./v1.0/001.json": json.dumps({"label": 4, "url": "somewhere"}).encode(),
        "./v1.0/._001.png": b"left by macOS",
        "readme.txt": b"text",
    }
    if kind != tarfile.USTAR_FORMAT:
        members |= {f"{long}ü.JPEG": saved(noise("L"), "JPEG"), f"{long}ü.cls": b"4"}
    source = pack(tmp_path / "d/a.tar", members, kind)
    done = release(tmp_path / "d")
    before = [(info, content) for info, content in unpack(source) if "._" not in info.name]
    after = unpack(done.folder / "a.tar")
    renamed = {"./v1.0/000.jpg": "./v1.0/000.png", f"{long}ü.JPEG": f"{long}ü.png"}
    assert [info.name for info, _ in after] == [renamed.get(info.name, info.name) for info, _ in before]
    for (old, content), (new, released) in zip(before, after, strict=True):
        for field in ("mtime", "uid", "gid", "uname", "gname", "mode", "type"):
            assert getattr(new, field) == getattr(old, field)
        is_image = old.name.lower().endswith((".jpg", ".jpeg", ".png"))
        assert (released == content) != is_image


def test_a_single_shard(tmp_path: Path, release: Releasing) -> None:
    path = pack(
        tmp_path / "a.tar", {"0.jpg": jpeg(0), "0.cls": b"0", "1.webp": saved(noise("RGB"), "WEBP"), "1.cls": b"1"}
    )
    done = release(path, lossless="webp")
    assert done.names() == ["a.tar#0.webp", "a.tar#1.webp"]
    assert done.source.ignored() == []


def test_a_sample_left_out_takes_its_members_along(tmp_path: Path, release: Releasing) -> None:
    members: dict[str, bytes | None] = {
        "0.cls": b"0",
        "0.jpg": b"broken",
        "0.txt": b"",
        "1.cls": b"0",
        "1.jpg": jpeg(1),
    }
    pack(tmp_path / "d/a.tar", members)
    done = release(tmp_path / "d", without=["a.tar#0.jpg"])
    assert [info.name for info, _ in unpack(done.folder / "a.tar")] == ["1.cls", "1.png"]


def test_a_class_file_outranks_json(tmp_path: Path) -> None:
    for order in (("0.cls", "0.json"), ("0.json", "0.cls")):
        labels = {"0.cls": b"5", "0.json": b'{"label": 6}'}
        pack(tmp_path / "a.tar", {"0.jpg": b"", **{name: labels[name] for name in order}})
        assert open_dataset(tmp_path).classes == ("5",)


def test_splits(tmp_path: Path) -> None:
    for name in ("train-0", "val-0", "other"):
        pack(tmp_path / f"{name}.tar", {"0.jpg": jpeg(0), "0.cls": b"0"})
    data = open_dataset(tmp_path, splits=["val"])
    assert [entry.name for entry in data.entries()] == ["val-0.tar#0.jpg"]
    assert data.ignored() == ["other.tar", "train-0.tar"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.jpg": b""}, r"1 images without a label, such as 0\.jpg"),
        ({"0.jpg": b"", "0.json": b'{"caption": "a"}'}, "without a label"),
        ({"0.jpg": b"", "0.cls": b"cat"}, "class number"),
        ({"0.jpg": b"", "0.cls": b"-1"}, "got -1"),
        ({"0.jpg": b"", "0.cls": b"true"}, "got True"),
        ({"0.jpg": b"", "0.json": b'{"label": "cat"}'}, "got 'cat'"),
        ({"0.jpg": b"", "0.json": b"[1]"}, "unreadable"),
        ({"0.jpg": b"", "0.seg.png": b"", "0.cls": b"1"}, r"two images, 0\.jpg and 0\.seg\.png"),
        ({"0.txt": b"", "0.cls": b"1"}, "expected images in the tar shards"),
    ],
)
def test_unusable_samples_are_refused(tmp_path: Path, members: dict[str, bytes | None], message: str) -> None:
    pack(tmp_path / "a.tar", members)
    with pytest.raises(InvalidInput, match=message):
        open_dataset(tmp_path)


def test_links_to_images_are_refused(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", {"0.cls": b"1"}, links=("0.jpg",))
    with pytest.raises(InvalidInput, match="is a link"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("content", [b"no tar file at all" * 100, b""])
def test_broken_shards_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InvalidInput, match="not a complete, uncompressed tar file"):
        open_dataset(tmp_path)


def test_truncated_shards_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {"0.cls": b"1", "0.jpg": bytes(5000)})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InvalidInput, match="not a complete"):
        open_dataset(tmp_path)


def test_a_second_run_gives_the_same_bytes(tmp_path: Path) -> None:
    pack(tmp_path / "d/a.tar", {"0.jpg": jpeg(0), "0.cls": b"0", "1.jpg": jpeg(1), "1.cls": b"1"})
    first, second = (Releasing(tmp_path / name)(tmp_path / "d") for name in "12")
    assert files_of(first.folder) == files_of(second.folder)
