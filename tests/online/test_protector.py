import hashlib
import hmac
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.online.protectors import CLASSES, NETWORK, SECRET, SIDE, pixels, tiny
from torch import Tensor
from torch.nn import functional as F

from withhold import craft
from withhold.craft.ball import Bounds
from withhold.craft.steps import Start, uniform_start
from withhold.data.pixels import Picture, UnreadableImage, decode
from withhold.errors import InvalidInput, RunStopped
from withhold.networks.checkpoint import load
from withhold.online.folder import SURROGATE, read_folder
from withhold.online.generator import slopes_at
from withhold.online.image import Given, Unchangeable
from withhold.online.loading import lane_crafter
from withhold.online.protector import Protector, Released
from withhold.online.settings import DEFAULT_SPEED, SPEEDS, SpeedName
from withhold.release.crafter import GradientCrafter
from withhold.seeds import derive_seed

EPS = 8
MIXED = [pixels(0), pixels(1, 30, 21), pixels(2, channels=1), pixels(3), pixels(4, 30, 21)]
LABELS: list[str | int | None] = ["cat", 1, None, "owl", None]


def png(image: Image.Image, **options: Any) -> bytes:  # noqa: ANN401
    target = io.BytesIO()
    image.save(target, "PNG", **options)
    return target.getvalue()


def contents(released: list[Released]) -> list[bytes]:
    return [each.content for each in released]


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize(
    "chosen", [{}, {"objective": "alignment"}, {"optimizer": "adam", "ssim": 0.1, "start": "normal"}]
)
def test_an_image_comes_out_the_same_in_whatever_company(
    tmp_path: Path, speed: SpeedName, lanes: int, chosen: dict[str, Any]
) -> None:
    protector = Protector.load(tiny(tmp_path / "p", lanes=lanes, instant_steps=1, **chosen))
    alone = [protector.protect(image, label, speed=speed).content for image, label in zip(MIXED, LABELS, strict=True)]
    assert len(set(alone)) == len(MIXED)
    assert contents(protector.protect_many(MIXED, LABELS, speed=speed)) == alone
    assert contents(protector.protect_many(MIXED[::-1], LABELS[::-1], speed=speed)) == alone[::-1]
    again = protector.protect_many([*MIXED[3:], MIXED[3]], [*LABELS[3:], LABELS[3]], speed=speed)
    assert contents(again) == [*alone[3:], alone[3]]


def test_directions_of_classes_serve_images_one_by_one(tmp_path: Path) -> None:
    protector = Protector.load(tiny(tmp_path / "p", objective="alignment", direction="class"))
    alone = [protector.protect(image, label).content for image, label in zip(MIXED, LABELS, strict=True)]
    assert contents(protector.protect_many(MIXED, LABELS)) == alone


def test_an_image_comes_out_the_same_in_another_process(folder: Path, protector: Protector, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(Image.fromarray(MIXED[1])))
    program = (
        "import sys, torch; torch.set_num_threads(2)\n"
        "from withhold.online.protector import Protector\n"
        "for speed in ('full', 'quick', 'instant'):\n"
        "    print(Protector.load(sys.argv[1]).protect(sys.argv[2], 'owl', speed=speed).sha256_after)"
    )
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "image.png")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # the surrogate is a test's function
    other = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()
    assert other == [protector.protect(MIXED[1], "owl", speed=speed).sha256_after for speed in SPEEDS]


def test_threads_may_share_a_protector(protector: Protector) -> None:
    expected = [protector.protect(image, label).content for image, label in zip(MIXED, LABELS, strict=True)]
    pairs = list(zip(MIXED, LABELS, strict=True))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: protector.protect(*pair).content, pairs * 2))
    assert found == expected * 2


def test_the_thread_count_of_the_caller_plays_no_part_and_is_kept(protector: Protector) -> None:
    expected = protector.protect(MIXED[0], "cat").content
    torch.set_num_threads(2)
    assert protector.protect(MIXED[0], "cat").content == expected
    assert torch.get_num_threads() == 2


def own_draws(picture: Picture, label: int, speed: str) -> torch.Generator:
    """The generator of an image, derived without the code under test."""
    levels = picture.levels
    message = f"{speed}/{label}/{levels.dtype.str}{levels.shape}".encode() + levels.tobytes()
    digest = hmac.new(bytes.fromhex(SECRET.decode()), message, hashlib.sha256).digest()
    return torch.Generator().manual_seed(derive_seed(int.from_bytes(digest[:8], "big") >> 1, "restart", 0))


@pytest.mark.parametrize("objective", ["class-targeted", "alignment"])
@pytest.mark.parametrize("crop_size", [None, SIDE])
@pytest.mark.parametrize("speed", ["full", "quick"])
def test_the_perturbation_is_that_of_crafting_the_image_alone(
    tmp_path: Path, objective: str, crop_size: int | None, speed: SpeedName
) -> None:
    folder = tiny(tmp_path / "p", objective=objective, crop_size=crop_size)
    picture, stored = Picture(MIXED[0]), read_folder(folder)
    (network,) = load(folder / SURROGATE, classes=3, architecture=NETWORK).networks
    network.requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folded = craft.fold_batch_norm(network)
    made = lane_crafter(stored, torch.device("cpu"))
    target: craft.Objective = craft.ClassTargeted(folded)
    if objective == "alignment":
        target = craft.Alignment(folded, made.crafter.surrogates[0].directions[-1], joint=False)
    image = torch.from_numpy(picture.unit())[None].contiguous(memory_format=torch.channels_last)
    views = craft.ShiftFlip() if crop_size is None else craft.RandomResizedCrop(crop_size)

    def output(bounds: Bounds, generator: torch.Generator) -> Tensor:  # noqa: ARG001 - one signature
        label, seen = torch.tensor([1]), image
        if crop_size is not None:  # 16 px are the central 7/8 of 18 px
            seen = F.interpolate(image, (18, 18), mode="bilinear", antialias=True)
        slopes = slopes_at(target, seen, label, SIDE)
        with torch.no_grad():
            delta = made.generator(seen, slopes, label)
        return bounds.project(F.interpolate(delta, (16, 16), mode="bilinear", antialias=True))

    start: Start = uniform_start if speed == "full" else output
    alone = craft.craft(
        image,
        torch.tensor([1]),
        target,
        ball=craft.Linf(EPS / 255),
        step_sizes=craft.constant_steps(0.5 * EPS / 255, 3) if speed == "full" else (0.3 * EPS / 255,) * 2,
        generator=own_draws(picture, 1, speed),
        start=start,
        augment=craft.InColour(views),
    )
    (delta,) = Protector.load(folder).craft([picture], [1], speed)
    assert np.array_equal(delta, alone[0].numpy())


def test_full_is_what_a_release_crafts_of_the_image_alone(folder: Path, protector: Protector) -> None:
    picture = Picture(MIXED[1])
    made = lane_crafter(read_folder(folder), torch.device("cpu")).crafter
    levels = picture.levels
    message = f"full/2/{levels.dtype.str}{levels.shape}".encode() + levels.tobytes()
    seed = int.from_bytes(hmac.digest(b"\x5a" * 32, message, "sha256")[:8], "big") >> 1
    released = GradientCrafter(made.surrogates, made.settings, crop_size=SIDE)([picture], [2], seed)
    assert np.array_equal(protector.craft([picture], [2], "full")[0], released.deltas[0])


@pytest.mark.parametrize("speed", SPEEDS)
def test_key_label_and_picture_decide_the_result(tmp_path: Path, protector: Protector, speed: SpeedName) -> None:
    other_key = Protector.load(tiny(tmp_path / "other", key=b"00" * 32))
    image = pixels(9)
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    given = protector.protect(image, "cat", speed=speed)
    assert protector.protect(image, "cat", speed=speed).content == given.content
    assert protector.protect(image, "dog", speed=speed).content != given.content
    seeded = speed != "instant"  # a single forward pass draws nothing
    assert (other_key.protect(image, "cat", speed=speed).content != given.content) == seeded
    far = protector.protect(changed, "cat", speed=speed).picture.levels[8:] != given.picture.levels[8:]
    assert far.any() == seeded or not seeded


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("weights", [1.0, 1e6])
@pytest.mark.parametrize("eps", [1, 8])
def test_the_bound_holds_for_files_as_they_are_decoded(
    tmp_path: Path, speed: SpeedName, weights: float, eps: int
) -> None:
    protector = Protector.load(tiny(tmp_path / "p", generator_weights=weights, eps=f"{eps}/255"))
    for released, before in zip(protector.protect_many(MIXED, LABELS, speed=speed), MIXED, strict=True):
        with Image.open(io.BytesIO(released.content)) as image:
            after = np.asarray(image).astype(int).reshape(before.shape)
        assert 0 < np.abs(after - before).max() <= eps
        assert released.largest_change == np.abs(after - before).max()
        mean = np.mean((after - before) ** 2.0)
        assert released.psnr == pytest.approx(10 * np.log10(255**2 / mean))


def test_what_was_done_is_stated(folder: Path, protector: Protector) -> None:
    stored = png(Image.fromarray(pixels(1)))
    released = protector.protect(stored, "dog")
    assert (released.label, released.label_was_given, released.speed) == ("dog", True, "full")
    assert released.sha256_before == hashlib.sha256(stored).hexdigest()
    assert released.sha256_after == hashlib.sha256(released.content).hexdigest()
    assert released.media_type == "image/png"
    assert np.array_equal(decode(released.content).levels, released.picture.levels)
    assert released.protector == read_folder(folder).document.fingerprint == protector.fingerprint
    assert released.seconds > 0


def test_an_image_is_the_same_given_as_bytes_path_object_or_array(protector: Protector, tmp_path: Path) -> None:
    array = pixels(1)
    stored = png(Image.fromarray(array))
    (tmp_path / "image.png").write_bytes(stored)
    path = tmp_path / "image.png"
    given: list[Given] = [stored, path, str(path), Image.fromarray(array), Image.open(path), array]
    assert len({released.content for released in protector.protect_many(given, ["cat"] * 6)}) == 1


def test_without_a_label_the_image_is_what_the_surrogate_takes_it_for(folder: Path, protector: Protector) -> None:
    (network,) = load(folder / SURROGATE, classes=3, architecture=NETWORK).networks
    images = [pixels(seed) // 4 + np.uint8(64 + 96 * (np.arange(3) == seed % 3)) for seed in range(6)]
    batch = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images])
    expected = network(batch).argmax(1).tolist()
    for image, index in zip(images, expected, strict=True):
        released, given = protector.protect(image), protector.protect(image, index)
        assert (released.label, released.label_was_given) == (CLASSES[index], False)
        assert released.content == given.content
    assert len(set(expected)) > 1


KINDS: dict[str, Callable[[], Image.Image]] = {
    "grey": lambda: Image.fromarray(pixels(1, channels=1)[..., 0]),
    "grey, alpha": lambda: Image.merge("LA", [Image.fromarray(pixels(s, channels=1)[..., 0]) for s in (1, 2)]),
    "alpha": lambda: Image.fromarray(np.dstack([pixels(1), pixels(2, channels=1)])),
    "palette": lambda: Image.fromarray(pixels(1)).quantize(16),
    "16 bit": lambda: Image.fromarray(pixels(1, channels=1)[..., 0].astype(np.uint16) * 257),
    "1 bit": lambda: Image.fromarray(pixels(1, channels=1)[..., 0]).convert("1"),
    "CMYK": lambda: Image.fromarray(pixels(1)).convert("CMYK"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_object", [True, False])
@pytest.mark.parametrize("lossless", ["png", "webp"])
def test_kinds_of_images_keep_what_they_are(tmp_path: Path, kind: str, as_object: bool, lossless: str) -> None:
    image = KINDS[kind]()
    target = io.BytesIO()
    image.save(target, "TIFF" if kind == "CMYK" else "PNG")
    before = decode(target.getvalue())
    protector = Protector.load(tiny(tmp_path / "p", lossless=lossless))
    released = protector.protect(image if as_object else target.getvalue(), "cat", speed="quick")
    after = decode(released.content)
    assert after.mode == before.mode
    alphas = [None if each.alpha is None else each.alpha.tolist() for each in (before, after)]
    assert alphas[0] == alphas[1]
    assert released.media_type == ("image/webp" if lossless == "webp" and after.mode.startswith("RGB") else "image/png")


def test_profile_and_orientation_are_kept(protector: Protector) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(png(Image.fromarray(pixels(1)), exif=exif, icc_profile=b"a profile")))
    for given in (png(image, exif=exif, icc_profile=b"a profile"), image):
        with Image.open(io.BytesIO(protector.protect(given, "cat").content)) as after:
            assert after.getexif()[0x0112] == 6
            assert after.info["icc_profile"] == b"a profile"


def frames(count: int) -> Image.Image:
    target = io.BytesIO()
    some = [Image.fromarray(pixels(seed)) for seed in range(count)]
    some[0].save(target, "GIF", save_all=True, append_images=some[1:])
    return Image.open(target)


UNREADABLE: dict[str, Callable[[], Any]] = {
    "empty": lambda: b"",
    "no image": lambda: b"a text, and not a short one" * 10,
    "truncated": lambda: png(Image.fromarray(pixels(1, 64, 64)))[:-2000],
    "animated": lambda: frames(3),
    "floats": lambda: Image.fromarray(np.ones((8, 8), np.float32)),
    "truncated object": lambda: Image.open(io.BytesIO(png(Image.fromarray(pixels(1, 64, 64)))[:-2000])),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_whole_still_picture_is_refused(protector: Protector, kind: str) -> None:
    with pytest.raises(UnreadableImage):
        protector.protect(UNREADABLE[kind](), "cat")
    with pytest.raises(UnreadableImage, match=r"image 1 of 2: "):
        protector.protect_many([pixels(0), UNREADABLE[kind]()])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_more_pixels_than_pillow_allows_are_refused(protector: Protector, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = png(Image.fromarray(pixels(1, 20, 20)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 399)
    with pytest.raises(UnreadableImage, match="at most 399 pixels"):
        protector.protect(stored, "cat")


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_of_other_types_or_shapes_are_refused(protector: Protector, array: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="uint8 of shape"):
        protector.protect(array, "cat")


@pytest.mark.parametrize(
    ("label", "says"), [("cta", "did you mean 'cat'"), (3, "first is 'cat'"), (-1, "3 classes"), (True, "")]
)
def test_unknown_labels_are_refused(protector: Protector, label: str | int, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"unknown label.*{says}"):
        protector.protect(pixels(0), label)


def test_other_mistakes_are_refused(protector: Protector, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown speed 'fast'; expected one of full, quick, instant"):
        protector.protect(pixels(0), "cat", speed="fast")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="got 1 labels for 2 images"):
        protector.protect_many([pixels(0), pixels(1)], ["cat"])
    with pytest.raises(InvalidInput, match=r"cannot read .*none\.png: No such file"):
        protector.protect(tmp_path / "none.png", "cat")
    assert protector.protect_many([]) == []


def test_an_image_that_cannot_be_changed_is_not_released(protector: Protector, monkeypatch: pytest.MonkeyPatch) -> None:
    black = np.zeros((1, 2, 3), np.uint8)
    monkeypatch.setattr(Protector, "craft", lambda *_: [np.full((3, 1, 2), -1.0, np.float32)])
    with pytest.raises(Unchangeable, match=r"image of 2 x 1 could be changed.*; give a larger picture"):
        protector.protect(black, "cat", speed="instant")


def test_an_image_that_changed_too_much_is_not_released(protector: Protector, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Picture(255 - pixels(0))
    monkeypatch.setattr(Picture, "perturbed", lambda *_: other)
    with pytest.raises(RunStopped, match=r"largest change of 255 levels, and may change by 8"):
        protector.protect(pixels(0), "cat", speed="instant")


def test_numbers_that_are_not_finite_are_not_released(protector: Protector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Protector, "craft", lambda *_: [np.full((3, SIDE, SIDE), np.nan, np.float32)])
    with pytest.raises(RunStopped, match="not finite"):
        protector.protect(pixels(0), "cat")


@pytest.mark.parametrize("count", [1, 3])
def test_of_several_each_fails_alone(protector: Protector, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [protector.accept(pixels(seed), "cat") for seed in range(count)]
    alone = [protector.protect(pixels(seed), "cat").content for seed in range(count)]
    bad, sound = images[-1].picture, protector.craft

    def craft(pictures: Sequence[Picture], *rest: Any) -> list[np.ndarray]:  # noqa: ANN401
        deltas = sound(pictures, *rest)
        return [delta * np.nan if picture is bad else delta for picture, delta in zip(pictures, deltas, strict=True)]

    monkeypatch.setattr(protector, "craft", craft)
    *others, last = protector.protect_each(images, speed=DEFAULT_SPEED)
    assert [each.content for each in others if isinstance(each, Released)] == alone[:-1]
    assert isinstance(last, RunStopped)
