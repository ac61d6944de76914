import asyncio
import hashlib
import io
import json
import tempfile
import threading
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.online.protectors import pixels, tiny
from tests.online.service.fakes import ABOUT, FakeCrafting, encoded, png, released, running, upload
from tests.online.service.test_uploads import BEHIND_SIGNATURE, JPEG_SEGMENT, within

from withhold.data.pixels import change, decode
from withhold.errors import RunStopped
from withhold.online.ledger import LedgerUnavailable
from withhold.online.protector import Protector
from withhold.online.service.crafting import QueueFull, Stopping
from withhold.online.service.routes import health
from withhold.online.settings import SPEEDS

pytestmark = pytest.mark.anyio


def detail(response: httpx.Response, status: int, reason: str) -> str:
    """Check that an answer is the problem that is expected, and return its sentence."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["type"], problem["status"]) == (status, f"urn:withhold:{reason}", status)
    return str(problem["detail"])


def opened(response: httpx.Response) -> tuple[dict[str, bytes], list[dict[str, object]]]:
    """Read an archive: its files, and what is said of each image."""
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    report = json.loads(files.pop("released.json"))
    return files, report["images"]


async def test_an_image_comes_back_as_the_protector_gives_it(tmp_path: Path, protector: Protector) -> None:
    content = png(1, 30, 21)
    async with running(tmp_path, crafting=protector) as service:
        for speed in SPEEDS:
            expected = protector.protect(content, "dog", speed=speed)
            response = await service.protect(content, label="dog", speed=speed)
            assert response.status_code == 200
            assert response.content == expected.content
            assert response.headers["content-type"] == "image/png"
            headers = {name: value for name, value in response.headers.items() if name.startswith("withhold-")}
            assert headers == {
                "withhold-label": "dog",
                "withhold-label-given": "true",
                "withhold-speed": speed,
                "withhold-largest-change": f"{expected.largest_change:g}",
                "withhold-psnr": f"{expected.psnr:.2f}",
                "withhold-sha256-before": hashlib.sha256(content).hexdigest(),
                "withhold-sha256-after": hashlib.sha256(expected.content).hexdigest(),
                "withhold-protector": protector.fingerprint,
            }
            assert response.headers["cache-control"] == "no-store"
            assert 0 < change(decode(content), decode(response.content)).max() <= 8


async def test_a_label_may_be_an_index_or_left_to_the_surrogate(tmp_path: Path, protector: Protector) -> None:
    content = png(1)
    async with running(tmp_path, crafting=protector, speed="instant") as service:
        by_name, by_index = await service.protect(content, label="dog"), await service.protect(content, label="1")
        assert by_name.content == by_index.content
        unknown, empty = await service.protect(content), await service.protect(content, label="")
        assert unknown.content == empty.content == protector.protect(content, speed="instant").content
        assert unknown.headers["withhold-label-given"] == "false"


async def test_labels_of_any_alphabet_fit_into_a_header(tmp_path: Path) -> None:
    crafting = FakeCrafting()
    crafting.about = type(ABOUT)(**{**{name: getattr(ABOUT, name) for name in ABOUT.__slots__}, "classes": ("猫 1",)})
    async with running(tmp_path, crafting=crafting) as service:
        response = await service.protect(png(), label="猫 1")
    assert response.headers["withhold-label"] == "%E7%8C%AB%201"


async def test_the_bound_holds_for_every_kind_and_depth(tmp_path: Path, protector: Protector) -> None:
    grey_16 = io.BytesIO()
    Image.fromarray(pixels(3)[..., 0].astype(np.uint16) * 257).save(grey_16, "PNG")
    kinds = [encoded(kind, pixels(2)) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    async with running(tmp_path, crafting=protector, speed="instant") as service:
        for content in [*kinds, encoded("PNG", pixels(2)[..., 0]), grey_16.getvalue()]:
            response = await service.protect(content)
            assert response.status_code == 200
            before, after = decode(content), decode(response.content)
            assert before.mode == after.mode
            assert 0 < change(before, after).max() <= 8


def frames(kind: str) -> bytes:
    target = io.BytesIO()
    first, second = (Image.fromarray(pixels(seed)) for seed in (1, 2))
    first.save(target, kind, save_all=True, append_images=[second])
    return target.getvalue()


def floats() -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(target, "TIFF")
    return target.getvalue()


REFUSED = {
    "empty": (b"", 422, "unreadable-image", "0 bytes"),
    "text": (b"hello", 415, "unknown-kind", "5 bytes are no image"),
    "truncated": (png()[:-60], 422, "unreadable-image", "damaged or not complete"),
    "animated GIF": (frames("GIF"), 422, "unreadable-image", "Expected a still picture, got several frames"),
    "animated WebP": (frames("WEBP"), 422, "unreadable-image", "Expected a still picture, got several frames"),
    "animated PNG": (frames("PNG"), 422, "unreadable-image", "Expected a still picture, got several frames"),
    "endless header": (
        within("JPEG", BEHIND_SIGNATURE["JPEG"], JPEG_SEGMENT, 9000),
        *(422, "unreadable-image", "more parts than are read; save the image anew"),
    ),
    "black": (encoded("PNG", pixels()[:1, :1] * 0), 422, "unchangeable", "No pixel of this image of 1 x 1 could be"),
    "floating point": (floats(), 422, "unreadable-image", "Pixels of mode F have no fixed range"),
    "too many pixels": (png(0, 40, 30), 413, "too-many-pixels", "At most 1000 pixels are taken, the image has 30 x 40"),
    "too many bytes": (b"x" * 40_001, 413, "too-large", "at most 40000 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_image_is_refused_with_a_sentence_and_counts_nothing(
    tmp_path: Path, protector: Protector, name: str
) -> None:
    content, status, reason, said = REFUSED[name]
    async with running(tmp_path, crafting=protector, speed="instant", max_pixels=1000, max_bytes=40_000) as service:
        response = await service.protect(content, label="cat")
        assert said in detail(response, status, reason)
        usage = (await service.http.get("/v1/usage", headers=service.headers())).json()
        assert (usage["images_today"], usage["pairs"]) == (0, 0)
        assert (await service.protect(png(), label="cat")).status_code == 200
        metrics = (await service.http.get("/metrics")).text
        assert f'withhold_rejections_total{{reason="{reason}"}} 1.0' in metrics


async def test_an_image_of_100_megapixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    target = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(target, "PNG")
    assert len(target.getvalue()) < 100_000
    async with running(tmp_path) as service:
        said = detail(await service.protect(target.getvalue()), 413, "too-many-pixels")
        assert "50000000 pixels" in said
        assert service.crafting.begun == []
        assert (await service.protect(png())).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        b'filename="a.exe"\r\nContent-Type: text/html',
        b'filename="../../etc/passwd"\r\nContent-Type: image/gif',
        b'filename=""\r\nContent-Type: ',
        b'filename=""',
    ],
)
async def test_the_name_and_stated_type_of_a_file_mean_nothing(tmp_path: Path, said: bytes) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="image"; ' + said + b"\r\n\r\n" + png() + b"\r\n--x--\r\n"
    async with running(tmp_path) as service:
        headers = {**service.headers(), "Content-Type": "multipart/form-data; boundary=x"}
        response = await service.http.post("/v1/protect", content=body, headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["content-disposition"] == 'attachment; filename="released.png"'


async def test_an_unknown_label_is_refused_with_the_nearest_ones_and_counts_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        assert "did you mean 'cat'?" in detail(await service.protect(png(), label="cta"), 422, "invalid-input")
        assert service.crafting.begun == []


@pytest.mark.parametrize("path", ["/v1/protect", "/v1/protect/many", "/v1/jobs"])
async def test_images_are_looked_at_once_and_never_where_requests_are_handled(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Files come from strangers: what their headers cost must not keep others waiting."""
    contents = [png(1)] if path == "/v1/protect" else [png(1), png(2), png(3)]
    opened_in, hashed_in = [], []
    open_image, sha256 = Image.open, hashlib.sha256

    def opening(*args: Any, **options: Any) -> Image.Image:  # noqa: ANN401
        opened_in.append(threading.current_thread())
        return open_image(*args, **options)

    def hashing(content: bytes = b"") -> Any:  # noqa: ANN401
        if content in contents:
            hashed_in.append(threading.current_thread())
        return sha256(content)

    async with running(tmp_path, crafting=protector, speed="instant") as service:
        monkeypatch.setattr(Image, "open", opening)
        monkeypatch.setattr(hashlib, "sha256", hashing)
        if path == "/v1/protect":
            response = await service.protect(*contents)
        else:
            response = await service.send_many(path, contents)
        if path == "/v1/jobs":
            await service.finished(response.json()["id"])
        assert response.status_code in {200, 202}
    for threads in (opened_in, hashed_in):
        assert threading.main_thread() not in threads
        assert sum(thread.name.startswith("withhold-inspecting") for thread in threads) == len(contents)


async def test_only_clients_come_in(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        wrong = [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic bWU6bWU="},
            {"Authorization": "Bearer"},
        ]
        for method, path in (
            *(("POST", "/v1/protect"), ("POST", "/v1/protect/many"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/x")),
            *(("GET", "/v1/jobs/x/released"), ("DELETE", "/v1/jobs/x"), ("GET", "/v1/protector"), ("GET", "/v1/usage")),
        ):
            for headers in wrong:
                response = await service.http.request(method, path, headers=headers)
                detail(response, 401, "unauthorized")
                assert response.headers["www-authenticate"] == 'Bearer realm="withhold"'
        service.ledger.revoke_client("me")
        detail(await service.protect(png()), 401, "unauthorized")
        assert service.crafting.begun == []


async def test_the_quota_ends_with_the_day(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=2) as service:
        for seed in (1, 2):
            assert (await service.protect(png(seed))).status_code == 200
        response = await service.protect(png(3))
        assert "2 images per day" in detail(response, 429, "quota")
        now = datetime.now(UTC)
        left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
        assert abs(int(response.headers["retry-after"]) - left) <= 60
        detail(await service.send_many("/v1/protect/many", [png(3)]), 429, "quota")


async def test_the_limit_of_pairs_counts_each_original_once(tmp_path: Path) -> None:
    async with running(tmp_path, pairs=1) as service:
        assert [(await service.protect(png(1))).status_code for _ in range(2)] == [200, 200]
        assert "1 pairs" in detail(await service.protect(png(2)), 403, "pair-limit")
        usage = (await service.http.get("/v1/usage", headers=service.headers())).json()
        assert usage == {
            "client": "me",
            "images_today": 2,
            "images_per_day": None,
            "pairs": 1,
            "pairs_limit": 1,
        }


async def test_the_ledger_knows_every_image_that_got_out(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        response = await service.protect(png(1), label="dog", speed="quick")
        (row,) = service.ledger.entries()
    assert (row.client, row.protector, row.label, row.label_was_given) == ("me", ABOUT.fingerprint, "dog", True)
    assert (row.speed, row.eps, row.largest_change) == ("quick", 8, 8.0)
    assert row.sha256_before == hashlib.sha256(png(1)).hexdigest()
    assert row.sha256_after == hashlib.sha256(response.content).hexdigest()


async def test_the_same_key_and_content_give_the_same_bytes_and_are_counted_once(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=1) as service:
        first, second = [await service.protect(png(1), label="cat", key="k") for _ in range(2)]
        assert first.status_code == second.status_code == 200
        assert first.content == second.content
        detail(await service.protect(png(2), label="cat", key="k"), 409, "idempotency-conflict")
        detail(await service.protect(png(1), label="dog", key="k"), 409, "idempotency-conflict")
        detail(await service.protect(png(1), label="cat", key="other"), 429, "quota")


@pytest.mark.parametrize("key", ["", "x" * 256, "\x7f"])
async def test_keys_are_short_and_printable(tmp_path: Path, key: str) -> None:
    async with running(tmp_path) as service:
        assert "Idempotency-Key" in detail(await service.protect(png(), key=key), 422, "invalid-request")


async def test_a_failed_attempt_gives_back_what_it_reserved(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=1) as service:
        for error, status, reason in (
            (RunStopped("the change is 0"), 500, "not-releasable"),
            (RuntimeError("secret"), 500, "internal-error"),
            (QueueFull(4), 429, "queue-full"),
            (Stopping(4), 503, "stopping"),
        ):
            service.crafting.errors[png()] = error
            response = await service.protect(png(), key="k")
            assert "secret" not in detail(response, status, reason)
            assert response.headers.get("retry-after") == ("4" if status != 500 else None)
        del service.crafting.errors[png()]
        assert (await service.protect(png(), key="k")).status_code == 200
    assert [line["error"] for line in service.logged("failed")] == ["RunStopped", "RuntimeError"]
    assert "secret" not in service.log_text.getvalue()


async def test_several_images_come_back_in_their_order_with_what_is_wrong_beside(tmp_path: Path) -> None:
    contents = [png(1), b"text", png(2), png(3), b""]
    crafting = FakeCrafting()
    crafting.errors[png(3)] = RuntimeError("secret")
    async with running(tmp_path, crafting=crafting, images_per_day=10) as service:
        responses = [
            await service.send_many("/v1/protect/many", contents, ["dog", "", "cat", "0", ""], key="k")
            for _ in range(2)
        ]
        usage = (await service.http.get("/v1/usage", headers=service.headers())).json()
        rows = list(service.ledger.entries())
    assert responses[0].content == responses[1].content
    files, images = opened(responses[0])
    assert files == {
        "1.png": released(png(1), "dog", "full").content,
        "3.png": released(png(2), "cat", "full").content,
    }
    assert [image["image"] for image in images] == [1, 2, 3, 4, 5]
    assert [image.get("file") for image in images] == ["1.png", None, "3.png", None, None]
    problems = [image["problem"]["type"] for image in images if "problem" in image]  # type: ignore[index]
    assert problems == [f"urn:withhold:{name}" for name in ("unknown-kind", "internal-error", "unreadable-image")]
    assert images[2]["numbers"] == {
        "label": "cat",
        "label_was_given": True,
        "speed": "full",
        "largest_change": 8.0,
        "psnr": 34.5,
        "sha256_before": hashlib.sha256(png(2)).hexdigest(),
        "sha256_after": hashlib.sha256(files["3.png"]).hexdigest(),
    }
    assert (usage["images_today"], len(rows)) == (2, 2)
    assert crafting.patient == crafting.begun


async def test_if_every_image_is_refused_so_is_the_request(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        detail(await service.send_many("/v1/protect/many", [b"text", b""]), 415, "unknown-kind")


async def test_an_answer_has_a_largest_size(tmp_path: Path) -> None:
    async with running(tmp_path, max_request_pixels=600) as service:
        assert (await service.send_many("/v1/protect/many", [png(1), png(2)])).status_code == 200
        said = detail(await service.send_many("/v1/protect/many", [png(1), png(2), png(3)]), 413, "too-many-pixels")
        assert "make it a job" in said


async def test_forms_are_checked(tmp_path: Path) -> None:
    async with running(tmp_path, max_images=2, max_request_bytes=20_000) as service:

        async def post(path: str = "/v1/protect", **given: object) -> httpx.Response:
            headers = {**service.headers(), **given.pop("headers", {})}  # type: ignore[dict-item]
            return await service.http.post(path, headers=headers, **given)  # type: ignore[arg-type]

        image = ("a.png", png())
        assert "curl -F image=@FILE" in detail(await post(content=png()), 415, "not-a-form")
        detail(await post(json={"image": "x"}), 415, "not-a-form")
        detail(await post(data={"label": "cat"}), 415, "not-a-form")
        form = {"Content-Type": "multipart/form-data"}
        detail(await post(content=b"", headers=form), 400, "malformed-form")
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        detail(await post(content=b"--x\r\nnonsense", headers=form), 400, "malformed-form")
        cut = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + png()
        detail(await post(content=cut, headers=form), 400, "malformed-form")
        detail(await post(content=b"--x--\r\n", headers=form), 422, "invalid-form")
        said = detail(await post(files={"image": image, "other": image}), 400, "malformed-form")
        assert "more than 1 images" in said
        assert "'other'" in detail(await post(files={"image": image}, data={"other": "x"}), 422, "invalid-form")
        assert "'image'" in detail(await post(files={"x": (None, "y"), "image": (None, "z")}), 422, "invalid-form")
        assert "'label'" in detail(await post(files={"label": image}), 422, "invalid-form")
        said = detail(await post(files={"image": image}, data={"label": ["cat", "dog"]}), 422, "invalid-form")
        assert "2 for 1 images" in said
        assert "full, quick, instant" in detail(
            await post(files={"image": image}, data={"speed": "fast"}), 422, "invalid-form"
        )
        detail(await post(files={"image": image}, data={"label": "x" * 5000}), 400, "malformed-form")
        images = [("images", image)] * 3
        assert "more than 2 images" in detail(await post("/v1/protect/many", files=images), 400, "malformed-form")
        assert "1 for 2 images" in detail(
            await post("/v1/protect/many", files=images[:2], data={"labels": ["cat"]}), 422, "invalid-form"
        )
        assert "at most 20000 bytes" in detail(
            await post("/v1/protect/many", files=[("images", b"x" * 20_000)]), 413, "too-large"
        ).replace("At", "at")
        assert service.crafting.begun == []


async def test_a_body_of_unstated_length_ends_where_the_limit_is(tmp_path: Path) -> None:
    sent = 0

    async def endless() -> object:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while True:
            sent += 1000
            yield b"x" * 1000

    async with running(tmp_path, max_bytes=50_000) as service:
        headers = {**service.headers(), "Content-Type": "multipart/form-data; boundary=x"}
        response = await service.http.post("/v1/protect", content=endless(), headers=headers)  # type: ignore[arg-type]
    detail(response, 413, "too-large")
    assert response.headers["connection"] == "close"
    assert 100_000 < sent < 130_000  # the limit, and what else a form may hold


async def test_a_sender_that_is_too_slow_is_not_waited_for(tmp_path: Path) -> None:
    async def stuck() -> object:
        yield b"--x\r\n"
        await asyncio.Event().wait()

    async with running(tmp_path, receive_timeout=0.05) as service:
        headers = {**service.headers(), "Content-Type": "multipart/form-data; boundary=x"}
        response = await service.http.post("/v1/protect", content=stuck(), headers=headers)  # type: ignore[arg-type]
        assert "within 0.05 s" in detail(response, 408, "too-slow")
        assert (await service.protect(png())).status_code == 200


async def test_originals_are_kept_in_memory_however_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    large = encoded("BMP", pixels(0, 800, 800))
    assert len(large) > 1.5e6
    async with running(tmp_path) as service:
        assert (await service.protect(large)).status_code == 200


async def test_only_so_many_bytes_are_received_at_a_time(tmp_path: Path) -> None:
    async with running(tmp_path, max_received_bytes=3000) as service:
        service.crafting.gate.clear()
        first = asyncio.create_task(service.protect(png(1)))
        second = asyncio.create_task(service.protect(png(2)))
        await service.crafting.has_begun(2)
        response = await service.protect(png(3))
        detail(response, 429, "busy")
        assert response.headers["retry-after"] == "2"
        service.crafting.gate.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
        assert (await service.protect(png(3))).status_code == 200


async def test_answers_count_with_the_most_that_they_may_have_while_they_are_made(tmp_path: Path) -> None:
    async with running(tmp_path, max_answer_bytes=4 * 3 * 16 * 16) as service:
        service.crafting.gate.clear()
        one = asyncio.create_task(service.protect(png(1)))
        many = asyncio.create_task(service.send_many("/v1/protect/many", [png(2), png(3)]))
        await service.crafting.has_begun(2)
        async with asyncio.timeout(30):
            detail(await service.protect(png(4)), 429, "busy")
            detail(await service.send_many("/v1/protect/many", [png(4)]), 429, "busy")
        usage = (await service.http.get("/v1/usage", headers=service.headers())).json()
        service.crafting.gate.set()
        assert [(await each).status_code for each in (one, many)] == [200, 200]
        assert usage["images_today"] == 3  # what was refused is not counted
        large = await service.send_many("/v1/protect/many", [png(seed) for seed in range(9)])
        assert large.status_code == 200  # whatever its size, one answer can be made


async def test_while_the_ledger_is_away_nothing_gets_out_and_then_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("postgresql://me@host cannot be reached")

    async with running(tmp_path) as service:
        for name in ("client_of", "reserve", "record"):
            with monkeypatch.context() as patch:
                patch.setattr(service.ledger, name, away)
                response = await service.protect(png(), key=name)
                assert "postgresql" not in detail(response, 503, "ledger-unavailable")
                assert response.headers["retry-after"] == "5"
            assert (await service.protect(png(), key=name)).status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr(service.ledger, "ping", away)
            detail(await service.http.get("/health/ready"), 503, "ledger-unavailable")
            assert (await service.http.get("/health/live")).json() == {"status": "live"}
        assert (await service.http.get("/health/ready")).json() == {"status": "ready"}


async def test_a_ledger_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    async with running(tmp_path) as service:
        monkeypatch.setattr(service.ledger, "ping", lambda: answer.wait(30))
        detail(await service.http.get("/health/ready"), 503, "ledger-unavailable")
        answer.set()
        assert (await service.http.get("/health/ready")).status_code == 200


async def test_what_is_begun_when_the_service_stops_is_finished_and_nothing_else_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        begun = asyncio.create_task(service.protect(png(1)))
        await service.crafting.has_begun(1)
        ending = asyncio.create_task(service.service.drain(3600))
        await asyncio.sleep(0)
        for response in (await service.protect(png(2)), await service.http.get("/health/ready")):
            detail(response, 503, "stopping")
            assert response.headers["retry-after"] == "10"
        assert (await service.http.get("/health/live")).status_code == 200
        assert not ending.done()
        service.crafting.gate.set()
        assert (await begun).status_code == 200
        await ending


async def test_what_is_not_finished_in_time_is_handed_back(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=2) as service:
        service.crafting.gate.clear()
        one = asyncio.create_task(service.protect(png(1)))
        many = asyncio.create_task(service.send_many("/v1/protect/many", [png(2)]))
        await service.crafting.has_begun(2)
        await service.service.drain(0)
        for response in (await one, await many):
            detail(response, 503, "stopping")
        assert sorted(service.crafting.cancelled) == sorted([png(1), png(2)])
        usage = (await service.http.get("/v1/usage", headers=service.headers())).json()
        assert usage["images_today"] == 0
    assert service.crafting.closed


async def test_a_client_that_goes_away_leaves_the_queue(tmp_path: Path) -> None:
    """The server tells of a client that has gone by a message, which a test without a network can send itself."""
    gone = asyncio.Event()
    async with running(tmp_path, images_per_day=1) as service:
        service.crafting.gate.clear()
        request = service.http.build_request("POST", "/v1/protect", files={"image": png()}, headers=service.headers())
        body = await request.aread()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/protect",
            "raw_path": b"/v1/protect",
            "query_string": b"",
            "scheme": "http",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[object] = []

        async def receive() -> dict[str, object]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: object) -> None:
            sent.append(message)

        call = asyncio.create_task(service.app(scope, receive, send))
        await service.crafting.has_begun(1)
        gone.set()
        await call
        assert service.crafting.cancelled == [png()]
        assert sent == []
        assert service.logged("request")[-1]["status"] == 499
        service.crafting.gate.set()
        assert (await service.protect(png())).status_code == 200  # what it had reserved was given back


async def test_what_is_reserved_for_a_client_that_has_gone_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes away while the ledger, in a thread, still writes the reservation."""
    begun, go_on = threading.Event(), threading.Event()
    async with running(tmp_path, images_per_day=1) as service:
        reserve = service.ledger.reserve

        def slowly(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            begun.set()
            assert go_on.wait(30)
            return reserve(*args, **options)

        monkeypatch.setattr(service.ledger, "reserve", slowly)
        client = service.ledger.client_of(service.token)
        assert client is not None
        work = asyncio.create_task(service.service.protecting.one(client, upload(png()), "full", None))
        assert await asyncio.to_thread(begun.wait, 30)
        work.cancel()
        go_on.set()
        await asyncio.wait([work])
        assert work.cancelled()
        assert service.ledger.usage(client).images_today == 0
        assert service.crafting.begun == []


async def test_the_log_holds_no_content_name_label_or_token(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        files = {"image": ("holiday.png", png(), "image/png")}
        await service.http.post("/v1/protect", files=files, data={"label": "dog"}, headers=service.headers())
        await service.http.get("/v1/holiday?name=holiday", headers=service.headers())
        text = service.log_text.getvalue()
        first, second = service.logged("request")
    for secret in ("holiday", "dog", service.token, hashlib.sha256(png()).hexdigest()):
        assert secret not in text
    assert (first["client"], first["route"], first["status"], first["images"]) == ("me", "/v1/protect", 200, 1)
    assert first["bytes_in"] > len(png())
    assert (second["route"], second["status"]) == ("(none)", 404)


async def test_the_numbers_for_prometheus(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.protect(png(), speed="quick")
        await service.send_many("/v1/protect/many", [png(1), png(2), b"text"])
        await service.protect(png(), token="wrong")
        response = await service.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    numbers = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    expected = {
        'withhold_images_total{route="/v1/protect",speed="quick"}': "1.0",
        'withhold_images_total{route="/v1/protect/many",speed="full"}': "2.0",
        'withhold_protect_seconds_count{speed="quick"}': "1.0",
        'withhold_rejections_total{reason="unauthorized"}': "1.0",
        'withhold_rejections_total{reason="unknown-kind"}': "1.0",
        'withhold_requests_total{route="/v1/protect",status="200"}': "1.0",
        'withhold_requests_total{route="/v1/protect",status="401"}': "1.0",
        "withhold_queue_images": "3.0",
        "withhold_jobs_unfinished": "0.0",
    }
    assert {name: numbers.get(name) for name in expected} == expected


async def test_what_a_client_can_ask(tmp_path: Path) -> None:
    async with running(tmp_path, max_images=7) as service:
        report = (await service.http.get("/v1/protector", headers=service.headers())).json()
        docs, unknown = await service.http.get("/docs"), await service.http.get("/nothing")
        method = await service.http.put("/v1/usage")
    assert report["classes"] == ["cat", "dog", "owl"]
    assert (report["eps"], report["largest_change"], report["fingerprint"]) == ("8/255", 8, ABOUT.fingerprint)
    assert list(report["speeds"]) == ["full", "quick", "instant"]
    assert report["limits"]["images"] == 7
    assert "//" not in docs.text.replace("// ", "")  # nothing is loaded from elsewhere
    detail(unknown, 404, "not-found")
    detail(method, 405, "method-not-allowed")


async def test_a_fault_of_the_service_is_answered_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as service:
        monkeypatch.setattr(service.ledger, "client_of", lambda _: 1 / 0)
        response = await service.protect(png())
        assert "division" not in detail(response, 500, "internal-error")
        assert response.headers["request-id"] == service.logged("failed")[0]["request"]
    assert "division" not in service.log_text.getvalue()


async def test_the_same_image_gives_the_same_bytes_after_a_restart(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "p")
    found = []
    for _ in range(2):
        async with running(tmp_path, crafting=Protector.load(folder), images_per_day=1) as service:
            found.append((await service.protect(png(), label="cat", key="k")).content)
    assert found[0] == found[1]
