"""One image, one label, one speed: the same bytes, whichever way it takes.

A way takes images in class folders and gives the released files by the originals' names, without suffixes. To add one
is to add a function to `WAYS`.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.online.protectors import pixels, tiny
from tests.online.service.serving import SECONDS, Serving, until
from typer.testing import CliRunner

from withhold.cli.main import app
from withhold.data.pixels import decode
from withhold.online.ledger import Ledger, default_url
from withhold.online.protector import Protector
from withhold.online.settings import SPEEDS, SpeedName

Released = Mapping[str, bytes]


@dataclass(frozen=True)
class Setting:
    """What every way is given."""

    photos: Path
    folder: Path
    protector: Protector
    url: str
    token: str

    def images(self) -> list[tuple[str, Path, str]]:
        """Name, file and label of each image."""
        files = sorted(path for path in self.photos.rglob("*") if path.is_file())
        return [(f"{path.parent.name}/{path.stem}", path, path.parent.name) for path in files]

    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def photos(root: Path) -> Path:
    """Images of several kinds and sizes: RGB, grey, with alpha, 16 bit, and lossy."""
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "cat/square.png": (Image.fromarray(pixels(1)), {}),
        "cat/wide.png": (Image.fromarray(pixels(2, 18, 31)), {}),
        "dog/grey.png": (Image.fromarray(pixels(3, channels=1)[..., 0]), {}),
        "dog/alpha.png": (Image.fromarray(np.dstack([pixels(4), pixels(5, channels=1)])), {}),
        "owl/deep.png": (Image.fromarray(pixels(6, channels=1)[..., 0].astype(np.uint16) * 200), {}),
        "owl/lossy.jpg": (Image.fromarray(pixels(7, 20, 20)), {"quality": 90}),
    }
    for name, (image, options) in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, **options)
    return root


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    root = tmp_path_factory.mktemp("contract")
    folder = tiny(root / "protector")
    ledger = Ledger.open(default_url(folder))
    token = ledger.add_client("me", pairs=None)
    ledger.close()
    with Serving(folder) as serving:
        yield Setting(photos(root / "photos"), folder, Protector.load(folder), serving.url, token)


def alone(setting: Setting, speed: SpeedName, _: Path) -> Released:
    """Each image by itself, from its bytes."""
    return {
        name: setting.protector.protect(path.read_bytes(), label, speed=speed).content
        for name, path, label in setting.images()
    }


def together(setting: Setting, speed: SpeedName, _: Path) -> Released:
    """All images in one call, in another order."""
    names, paths, labels = zip(*reversed(setting.images()), strict=True)
    released = setting.protector.protect_many(paths, labels, speed=speed)
    return {name: each.content for name, each in zip(names, released, strict=True)}


def command(setting: Setting, speed: SpeedName, place: Path) -> Released:
    """`withhold protect --protector`."""
    options = ["--protector", str(setting.folder), "--speed", speed, "--batch-size", "4", "-q"]
    done = CliRunner().invoke(app, ["protect", str(setting.photos), str(place / "released"), *options])
    assert done.exit_code == 0, done.output
    return contents(place / "released")


def watched(setting: Setting, speed: SpeedName, place: Path) -> Released:
    """`withhold watch`."""
    for _, path, label in setting.images():
        (place / "inbox" / label).mkdir(parents=True, exist_ok=True)
        (place / "inbox" / label / path.name).write_bytes(path.read_bytes())
    options = ["--protector", str(setting.folder), "--speed", speed, "--settle", "0.01", "--once", "-q"]
    done = CliRunner().invoke(app, ["watch", str(place / "inbox"), str(place / "outbox"), *options])
    assert done.exit_code == 0, done.output
    return contents(place / "outbox")


def http(setting: Setting, speed: SpeedName, _: Path) -> Released:
    """`POST /v1/protect`."""
    released = {}
    for name, path, label in setting.images():
        answer = httpx.post(
            f"{setting.url}/v1/protect",
            files={"image": path.read_bytes()},
            data={"label": label, "speed": speed},
            headers=setting.authorization(),
            timeout=SECONDS,
        )
        assert answer.status_code == 200, answer.text
        released[name] = answer.content
    return released


def http_many(setting: Setting, speed: SpeedName, _: Path) -> Released:
    """`POST /v1/protect/many`."""
    answer = posted(setting, speed, "/v1/protect/many")
    assert answer.status_code == 200, answer.text
    return unpacked(setting, answer.content)


def http_job(setting: Setting, speed: SpeedName, _: Path) -> Released:
    """`POST /v1/jobs`."""
    answer = posted(setting, speed, "/v1/jobs")
    assert answer.status_code == 202, answer.text
    place, headers = f"{setting.url}{answer.headers['location']}", setting.authorization()
    until(lambda: httpx.get(place, headers=headers, timeout=SECONDS).json()["state"] == "done", "the job")
    return unpacked(setting, httpx.get(f"{place}/released", headers=headers, timeout=SECONDS).content)


def posted(setting: Setting, speed: SpeedName, route: str) -> httpx.Response:
    """Send all images in one request."""
    return httpx.post(
        f"{setting.url}{route}",
        files=[("images", ("any", path.read_bytes())) for _, path, _ in setting.images()],
        data={"labels": [label for _, _, label in setting.images()], "speed": speed},
        headers=setting.authorization(),
        timeout=SECONDS,
    )


def unpacked(setting: Setting, content: bytes) -> Released:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        reports = json.loads(archive.read("released.json"))["images"]
        return {setting.images()[each["image"] - 1][0]: archive.read(each["file"]) for each in reports}


def contents(folder: Path) -> Released:
    files = [path for path in folder.rglob("*.png") if not path.relative_to(folder).parts[0].startswith(".")]
    return {path.relative_to(folder).with_suffix("").as_posix(): path.read_bytes() for path in files}


WAYS: dict[str, Callable[[Setting, SpeedName, Path], Released]] = {
    "together": together,
    "command": command,
    "watch": watched,
    "http": http,
    "http many": http_many,
    "http job": http_job,
}


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_bytes(setting: Setting, way: str, speed: SpeedName, tmp_path: Path) -> None:
    expected = alone(setting, speed, tmp_path)
    assert len(expected) == 6
    assert WAYS[way](setting, speed, tmp_path) == expected


def test_speeds_and_labels_give_other_bytes(setting: Setting, tmp_path: Path) -> None:
    """Or the test above would compare nothing."""
    results = [alone(setting, speed, tmp_path) for speed in SPEEDS]
    path = setting.photos / "cat/square.png"
    labelled = [setting.protector.protect(path, label).content for label in setting.protector.classes]
    assert len({*labelled}) == len(labelled)
    for name in results[0]:
        assert len({result[name] for result in results}) == len(SPEEDS), name


def test_without_a_label_the_ways_agree_too(setting: Setting, tmp_path: Path) -> None:
    path = setting.photos / "cat/square.png"
    expected = setting.protector.protect(path).content
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox/square.png").write_bytes(path.read_bytes())
    options = ["--protector", str(setting.folder), "--settle", "0.01", "--once", "-q"]
    assert (
        CliRunner().invoke(app, ["watch", str(tmp_path / "inbox"), str(tmp_path / "outbox"), *options]).exit_code == 0
    )
    answer = httpx.post(
        f"{setting.url}/v1/protect",
        files={"image": path.read_bytes()},
        headers=setting.authorization(),
        timeout=SECONDS,
    )
    assert (tmp_path / "outbox/square.png").read_bytes() == answer.content == expected


def test_a_dataset_keeps_its_lossless_formats_and_then_the_pixels_are_the_same(
    setting: Setting, tmp_path: Path
) -> None:
    """A release has the layout of its source, suffixes included; single images all come in the protector's format."""
    kinds: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "tiff": {}}
    for index, (suffix, options) in enumerate(kinds.items()):
        for label in ("cat", "dog"):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(20 + index)).save(tmp_path / "photos" / label / f"a.{suffix}", **options)
    arguments = [
        "protect",
        str(tmp_path / "photos"),
        str(tmp_path / "released"),
        "--protector",
        str(setting.folder),
        "-q",
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    for suffix in kinds:
        file = tmp_path / "released/cat" / f"a.{suffix}"
        single = setting.protector.protect(tmp_path / "photos/cat" / f"a.{suffix}", "cat")
        assert np.array_equal(decode(file.read_bytes()).levels, single.picture.levels)
        assert single.media_type == "image/png"
