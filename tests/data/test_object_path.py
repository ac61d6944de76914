import http.server
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.stores import Bucket, http_server

from withhold.data import object_store
from withhold.data.listing import walk, walk_hidden
from withhold.data.object_path import ObjectPath
from withhold.data.object_store import attempt
from withhold.data.place import place_of, read_part
from withhold.errors import InvalidInput, StoreFailed

NAMES = [
    "a-b/1.png",
    "a/2.png",
    "a/1.png",
    "a.png",
    "b/.hidden/1.png",
    "b/c/d/.png.swp",
    "b/c/d/1.png",
    "umlaut \u00e4/q?x=1#y [1]* 100%25 +.png",
    ".DS_Store",
]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "WAITS", (0.0,) * len(object_store.WAITS))


def test_a_store_is_walked_as_a_disk_is(bucket: Bucket, tmp_path: Path) -> None:
    for name in NAMES:
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    place = place_of(bucket.put_tree("d", tmp_path / "d"))
    bucket.put("d-other/1.png", b"")
    assert list(walk(place)) == list(walk(tmp_path / "d"))
    assert list(walk_hidden(place)) == list(walk_hidden(tmp_path / "d"))
    for name in NAMES:
        assert (place / name).read_bytes() == name.encode()


def test_a_folder_that_was_made_by_hand_is_no_image(bucket: Bucket) -> None:
    for key in ("d/", "d/a/", "d/a/1.png", "d/empty/"):
        bucket.put(key, b"")
    assert list(walk(ObjectPath(f"{bucket.url}/d"))) == ["a/1.png", "empty/"]


@pytest.mark.parametrize("key", ["d//1.png", "d/a//1.png", "d/../1.png"])
def test_names_that_a_disk_could_not_have_are_refused(bucket: Bucket, key: str) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"")
    with pytest.raises(InvalidInput, match="between two slashes; rename it"):
        list(walk(ObjectPath(f"{bucket.url}/d")))


def test_what_is_there(bucket: Bucket) -> None:
    bucket.put("d/a.png", b"12345")
    root, file, folder, gone = (ObjectPath(f"{bucket.url}{below}") for below in ("", "/d/a.png", "/d/", "/e"))
    assert [place.is_file() for place in (root, file, folder, gone)] == [False, True, False, False]
    assert [place.is_dir() for place in (root, file, folder, gone)] == [True, False, True, False]
    assert [place.exists() for place in (root, file, folder, gone)] == [True, True, True, False]
    assert list(folder.iterdir()) == [file]
    assert (file.name, file.suffix, file.parent, root.name) == ("a.png", ".png", folder, "")
    assert list(file.parents) == [folder, root]
    gone.unlink(missing_ok=True)
    file.unlink()
    assert bucket.keys("d") == []
    with pytest.raises(FileNotFoundError, match="there is no such object"):
        file.read_bytes()


def test_an_object_is_read_in_any_order(bucket: Bucket) -> None:
    content = bytes(range(256)) * 100
    bucket.put("d", content)
    place = ObjectPath(f"{bucket.url}/d")
    with place.open("rb") as file:
        assert file.seek(-10, 2) == len(content) - 10
        assert file.read() == content[-10:]
        assert file.read(1) == b""
        file.seek(1000)
        file.seek(24, 1)
        assert (file.read(300), file.tell()) == (content[1024:1324], 1324)
        file.seek(0)
        assert file.read() == content
    assert read_part(place, 255, 3) == b"\xff\x00\x01"
    assert read_part(place, len(content) - 2, 9) == content[-2:]
    assert read_part(place, 5, 0) == b""


def test_an_empty_object_can_be_read_and_written(bucket: Bucket) -> None:
    place = ObjectPath(f"{bucket.url}/empty")
    place.write_bytes(b"")
    with place.open("rb") as file:
        assert file.read() == place.read_bytes() == b""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/file", "expected a path, or a URL that begins with one of s3://"),
        ("zip://a.zip::s3://bucket/b", "begins with one of"),
        ("s3://", "then a bucket"),
        ("s3:///photos", "then a bucket"),
        ("s3://bucket//photos", "single slashes"),
        ("s3://bucket/../photos", "single slashes"),
        ("https://user:secret@host/a.tar", "no credentials"),
        ("https://host/a.tar?token=secret", "no query"),
    ],
)
def test_urls_that_name_no_place_are_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        place_of(url)
    assert "secret" not in str(caught.value)


def test_a_url_that_became_a_path_is_not_taken_for_one() -> None:
    with pytest.raises(InvalidInput, match="give a URL as text"):
        place_of(Path("s3://bucket/photos"))
    assert place_of("s3:/") == Path("s3:/")
    assert place_of(Path("photos")) == place_of("photos/") == Path("photos")


def test_a_place_is_a_value() -> None:
    place = ObjectPath("s3://bucket/photos/")
    assert pickle.loads(pickle.dumps(place)) == place == ObjectPath("s3://bucket") / "photos"
    assert len({place, ObjectPath(str(place))}) == 1
    assert place != Path("photos")
    assert place.is_within(place)
    assert (place / "a").is_within(place)
    assert not ObjectPath("s3://bucket/photos-2").is_within(place)


class Whole(http.server.SimpleHTTPRequestHandler):
    """Serves files, but no parts of them."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("at_once")
def test_a_server_that_gives_no_parts_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(100))
    with http_server(tmp_path, Whole) as url:
        place = ObjectPath(f"{url}/a.bin")
        assert (place.is_file(), place.is_dir(), place.lists) == (True, False, False)
        assert place.read_bytes() == bytes(100)
        with pytest.raises(StoreFailed, match="gives files only as a whole; download the file"):
            place.read_part(10, 5)
        assert not ObjectPath(f"{url}/b.bin").exists()


def failing(times: int, error: Exception) -> Callable[[], int]:
    attempts: list[int] = []

    def operation() -> int:
        attempts.append(1)
        if len(attempts) <= times:
            raise error
        return len(attempts)

    return operation


@pytest.mark.usefixtures("at_once")
def test_an_operation_is_tried_five_times() -> None:
    assert attempt(failing(4, OSError("busy")), "read s3://b/a") == 5
    with pytest.raises(StoreFailed, match=r"cannot read s3://b/a: the store failed 5 times \(busy\)"):
        attempt(failing(5, OSError("busy")), "read s3://b/a")


def test_waits_grow_and_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    attempt(failing(3, TimeoutError()), "read s3://b/a")
    assert waited == list(object_store.WAITS[:3])
    assert sorted(waited) == waited


class NoCredentialsError(Exception):
    """As botocore calls it."""


class Refused(Exception):
    status = 403


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("Access Denied"), r"does not permit it \(Access Denied\)"),
        (Refused("Forbidden"), r"does not permit it \(Forbidden\)"),
        (NoCredentialsError("none found"), "set those of the store in the environment"),
    ],
)
def test_what_no_attempt_would_change_is_not_tried_again(error: Exception, said: str) -> None:
    with pytest.raises(StoreFailed, match=said):
        attempt(failing(1, error), "read s3://b/a")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec  # noqa: PLC0415

    def missing(*_: Any, **__: Any) -> Any:  # noqa: ANN401
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    object_store._opened.cache_clear()
    with pytest.raises(InvalidInput, match=r"s3:// needs the package s3fs: pip install 'withhold\[storage\]'"):
        ObjectPath("s3://bucket/photos").exists()
