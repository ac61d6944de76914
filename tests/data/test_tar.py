import io
import json
import tarfile
from pathlib import Path

import pytest
from tests.data.samples import Releasing, files_of, jpeg, noise, png, saved

from withhold.data import tar
from withhold.data.open import open_dataset
from withhold.data.tar_index import TarIndex, read_index
from withhold.errors import InvalidInput, RunStopped


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
    assert done.source.ignored() == ["a.tar#./v1.0/._001.png"]
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
        ({"0.jpg": b"", "0.cls": b"1", "0.full": jpeg(9)}, r"0\.full in .*a\.tar is an image \(JPEG\)"),
        (
            {"0.jpg": b"", "0.cls": b"1", "raw/1.heic": b"\0\0\0\x18ftypheic" + bytes(99)},
            r"raw/1\.heic .* drop it from the source",
        ),
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


def shards(root: Path, count: int) -> Path:
    for shard in range(count):
        members: dict[str, bytes | None] = {}
        for row in range(3):
            members |= {f"{row}.png": png(10 * shard + row), f"{row}.cls": b"%d" % (row % 2)}
        pack(root / f"{shard:02d}.tar", members)
    return root


def test_shards_are_listed_once_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []

    def listing(path: Path) -> TarIndex:
        listed.append(path.name)
        return read_index(path)

    monkeypatch.setattr(tar, "read_index", listing)
    data = open_dataset(shards(tmp_path, 4))
    entries = list(data.entries())
    order = [row * 3 % 12 + row // 4 for row in range(12)]
    assert list(data.read([entries[place] for place in order])) == [png(place // 3 * 10 + place % 3) for place in order]
    assert listed == ["00.tar", "01.tar", "02.tar", "03.tar"]


def test_shards_that_go_or_shrink_during_a_run_stop_it(tmp_path: Path) -> None:
    data = open_dataset(shards(tmp_path / "d", 2))
    entries = list(data.entries())
    writer = data.writer(tmp_path / "out", tmp_path / "spool", "png")
    writer.write(0, [(entry, png(1)) for entry in entries])
    (tmp_path / "d/00.tar").write_bytes((tmp_path / "d/00.tar").read_bytes()[:600])
    (tmp_path / "d/01.tar").unlink()
    for entry, message in ((entries[0], "00.tar#0.png is cut off"), (entries[3], "cannot read .*01.tar .*restore")):
        with pytest.raises(RunStopped, match=message):
            list(data.read([entry]))
    with pytest.raises(RunStopped, match=r"cannot build the release of .*00\.tar"):
        writer.assemble(entries)


def test_a_second_run_gives_the_same_bytes(tmp_path: Path) -> None:
    pack(tmp_path / "d/a.tar", {"0.jpg": jpeg(0), "0.cls": b"0", "1.jpg": jpeg(1), "1.cls": b"1"})
    first, second = (Releasing(tmp_path / name)(tmp_path / "d") for name in "12")
    assert files_of(first.folder) == files_of(second.folder)
