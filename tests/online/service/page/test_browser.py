"""The page in a real browser, served by the real service."""

import base64
import hashlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.report.browser import CHROMIUM, Browser
from tests.online.protectors import CLASSES, pixels, tiny
from tests.online.service.serving import Serving
from tests.tools import needs

from withhold.data.pixels import change, decode
from withhold.online.ledger import Ledger, default_url
from withhold.online.protector import Protector

pytestmark = needs(CHROMIUM, "Chromium")

DESKTOP, PHONE = 1280, 390
PATIENCE = 60.0
ENTER, TAB = ("Enter", 13), ("Tab", 9)
DONE = "document.getElementById('status').textContent.startsWith('Done')"
PROBLEM = "document.getElementById('problem').textContent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("page") / "protector")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    ledger = Ledger.open(default_url(folder))
    made = {name: ledger.add_client(name, pairs=pairs) for name, pairs in (("me", None), ("full", 0))}
    ledger.close()
    return made


@pytest.fixture(scope="module")
def address(folder: Path, tokens: dict[str, str]) -> Iterator[str]:
    assert tokens
    with Serving(folder, "--max-bytes", "100000") as serving:
        yield f"{serving.url}/"


@pytest.fixture(scope="module")
def protector(folder: Path) -> Protector:
    return Protector.load(folder)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


class Page:
    """The page, and what a user does on it."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser, self.address = browser, address
        self.run = browser.run

    def open(self, width: int = DESKTOP, *, dark: bool = False, token: str | None = None) -> None:
        self.browser.open(self.address, width, dark=dark)
        self.run("sessionStorage.clear()")
        self.browser.open(self.address, width, dark=dark)
        if token is not None:
            self.type("token", token)

    def type(self, field: str, text: str) -> None:
        self.run(f"document.getElementById('{field}').focus()")
        self.browser.send("Input.insertText", text=text)
        self.run("document.activeElement.blur()")

    def choose(self, path: Path) -> None:
        node = self.browser.send("Runtime.evaluate", expression="document.getElementById('file')")["result"]["objectId"]
        self.browser.send("DOM.setFileInputFiles", files=[str(path)], objectId=node)

    def submit(self) -> None:
        self.run("document.getElementById('protect').click()")

    def until(self, condition: str) -> None:
        """Wait in the page until a condition holds."""
        waiting = f"""new Promise((resolve) => {{ const end = performance.now() + {1000 * PATIENCE};
            const look = () => {condition} || performance.now() > end ? resolve() : setTimeout(look, 10); look(); }})"""
        self.run(waiting)
        assert self.run(condition), (condition, self.run("document.body.innerText"))

    def text(self, place: str) -> str:
        return str(self.run(f"document.getElementById('{place}').textContent"))

    def numbers(self, place: str = "numbers") -> dict[str, str]:
        pair = "each => [each.textContent, each.nextSibling.textContent]"
        return dict(self.run(f"[...document.querySelectorAll('#{place} dt')].map({pair})"))

    def painted(self, place: str) -> np.ndarray:
        """Return what a canvas shows, (h, w, 4)."""
        content = self.run(f"document.querySelector('#{place} canvas').toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(content.split(",")[1]))) as image:
            return np.array(image.convert("RGBA"))

    def downloaded(self, folder: Path) -> Path:
        """Follow the link, and wait for the whole file."""
        self.browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.run("document.getElementById('download').click()")
        deadline = time.monotonic() + PATIENCE
        while not (found := [path for path in folder.iterdir() if path.suffix not in {".crdownload", ".tmp"}]):
            assert time.monotonic() < deadline, "nothing was downloaded"
            time.sleep(0.02)
        return found[0]


@pytest.fixture
def page(opened: Browser, address: str) -> Page:
    return Page(opened, address)


def saved(path: Path, levels: np.ndarray, **options: Any) -> Path:  # noqa: ANN401
    Image.fromarray(levels).save(path, **options)
    return path


def test_upload_wait_download_decode_and_the_bound_holds(
    page: Page, protector: Protector, tokens: dict[str, str], tmp_path: Path
) -> None:
    original = saved(tmp_path / "my cat.png", pixels(1, 20, 30))
    page.open(token=tokens["me"])
    page.until("document.querySelectorAll('#classes option').length")
    assert page.run("[...document.querySelectorAll('#classes option')].map(each => each.value)") == list(CLASSES)
    page.choose(original)
    page.until("!document.querySelector('#original canvas').hidden")
    assert np.array_equal(page.painted("original")[..., :3], pixels(1, 20, 30))
    page.type("label", "cat")
    page.submit()
    page.until(DONE)

    expected = protector.protect(original, "cat")
    (folder := tmp_path / "downloads").mkdir()
    file = page.downloaded(folder)
    assert file.name == "my cat-released.png"
    assert file.read_bytes() == expected.content
    before, after = decode(original.read_bytes()), decode(file.read_bytes())
    largest = change(before, after).max()
    assert 0 < largest <= protector.bound == 8

    assert np.array_equal(page.painted("released")[..., :3], after.levels)
    moved = after.levels.astype(int) - before.levels
    assert np.array_equal(page.painted("difference")[..., :3], np.clip(128 + 8 * moved, 0, 255))
    share = 100 * (moved != 0).any(axis=2).mean()
    assert page.numbers() == {
        "What it shows": "cat",
        "Speed": "full",
        "Largest change": f"{largest} of 255 levels, says the service",
        "Measured here": f"{largest} of 255 levels, in {share:.1f} % of the pixels",
        "Likeness (PSNR)": f"{expected.psnr:.1f} dB",
        "File size": page.numbers()["File size"],
    }
    assert page.numbers("fingerprints") == {
        "Original": hashlib.sha256(original.read_bytes()).hexdigest(),
        "Released": expected.sha256_after,
        "Protector": protector.fingerprint,
    }
    assert "by more than the 8 of 255 levels that are allowed" in page.text("verdict")
    assert page.browser.problems() == []
    asked = {each.removeprefix(page.address) for each in page.browser.requests()}
    assert {each for each in asked if not each.startswith("blob:")} == {
        "",
        "page/page.css",
        "page/page.js",
        "v1/protector",
        "v1/usage",
        "v1/protect",
    }


def test_the_difference_is_magnified_as_the_slider_says(page: Page, tokens: dict[str, str], tmp_path: Path) -> None:
    page.open(token=tokens["me"])
    page.choose(saved(tmp_path / "a.png", pixels(2)))
    page.submit()
    page.until(DONE)
    wide = page.painted("difference").astype(int)[..., :3] - 128
    page.run("document.getElementById('magnify').focus()")
    for _ in range(3):
        page.browser.press("ArrowLeft", 37)
    assert page.text("times") == "5"
    narrow = page.painted("difference").astype(int)[..., :3] - 128
    inside = np.abs(wide) < 120
    assert np.array_equal(narrow[inside] * 8, wide[inside] * 5)


def test_without_a_label_the_service_decides_and_says_so(
    page: Page, protector: Protector, tokens: dict[str, str], tmp_path: Path
) -> None:
    original = saved(tmp_path / "a.png", pixels(3))
    page.open(token=tokens["me"])
    page.choose(original)
    # As a user's choice, in one turn: between the value and its event, an answer may put the default back.
    page.run("""{ const speed = document.getElementById('speed'); speed.value = 'quick';
        speed.dispatchEvent(new Event('change')); }""")
    page.submit()
    page.until(DONE)
    assert page.numbers()["What it shows"] == f"{protector.protect(original).label}, as the service sees it"
    assert page.numbers()["Speed"] == "quick"


@pytest.mark.parametrize("turned", [1, 3, 6, 8])
def test_a_photograph_that_lies_on_its_side_is_compared_with_itself(
    page: Page, tokens: dict[str, str], tmp_path: Path, turned: int
) -> None:
    """Smooth, so that JPEG decoders agree to a few levels; turned the wrong way it would differ by a hundred."""
    rows, columns = np.mgrid[0:32, 0:32]
    levels = np.stack([40 + 5 * rows, 40 + 5 * columns, 200 - 3 * rows - 2 * columns], 2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    page.open(token=tokens["me"])
    page.choose(saved(tmp_path / "photo.jpg", levels, exif=exif, quality=95, subsampling=0))
    page.submit()
    page.until(DONE)
    assert int(page.numbers()["Measured here"].split()[0]) <= 8 + 4
    assert page.run("document.getElementById('verdict').classList.contains('problem')") is False


def test_transparent_pixels_are_not_measured(page: Page, tokens: dict[str, str], tmp_path: Path) -> None:
    levels = np.dstack([pixels(4), np.full((16, 16), 255, np.uint8)])
    levels[:8, :, 3] = 100
    page.open(token=tokens["me"])
    page.choose(saved(tmp_path / "a.png", levels))
    page.submit()
    page.until(DONE)
    assert "not opaque" in page.text("verdict")
    assert (page.painted("difference")[:8, :, :3] == 128).all()
    assert 0 < int(page.numbers()["Measured here"].split()[0]) <= 8


def test_a_kind_that_the_browser_does_not_know_is_protected_all_the_same(
    page: Page, protector: Protector, tokens: dict[str, str], tmp_path: Path
) -> None:
    original = saved(tmp_path / "a.tiff", pixels(5))
    page.open(token=tokens["me"])
    page.choose(original)
    page.until("document.querySelector('#original p').textContent")
    page.submit()
    page.until(DONE)
    assert np.array_equal(page.painted("released")[..., :3], protector.protect(original).picture.levels)
    assert "cannot read the original" in page.text("difference")
    assert "Measured here" not in page.numbers()


def test_a_picture_larger_than_a_strip_is_compared_to_its_last_row(page: Page) -> None:
    """Two pictures that differ in one pixel of the last row, compared by the page's own function."""
    page.open()
    found = page.run(
        """(async () => {
        const canvas = canvasOf(1500, 1500), context = canvas.getContext('2d');
        context.fillStyle = '#808080'; context.fillRect(0, 0, 1500, 1500);
        const before = await createImageBitmap(canvas);
        context.fillStyle = '#858180'; context.fillRect(1499, 1499, 1, 1);
        const after = await createImageBitmap(canvas);
        const tops = [];
        const found = compare({before, after}, 1, (strip, top) => tops.push(top));
        return {...found, strips: tops.length};
        })()"""
    )
    assert (found["largest"], found["changed"], found["translucent"]) == (5, 1, False)
    assert found["strips"] > 1


def test_it_works_by_keyboard_alone(page: Page, tokens: dict[str, str], tmp_path: Path) -> None:
    page.open(PHONE)
    order = []
    page.run("document.activeElement.blur()")
    for _ in range(7):
        page.browser.press(*TAB)
        order.append(page.run("document.activeElement.id || document.activeElement.className"))
        if order[-1] == "token":
            page.browser.send("Input.insertText", text=tokens["me"])
        if order[-1] == "file":
            page.choose(saved(tmp_path / "a.png", pixels(6)))
    assert order == ["skip", "token", "reveal", "file", "label", "speed", "protect"]
    page.browser.press(*ENTER)
    page.until(DONE)
    assert page.run("document.activeElement.id") == "result"
    page.browser.press(*TAB)
    assert page.run("document.activeElement.id") == "download"


def test_a_picture_may_be_dropped_or_pasted_anywhere(page: Page) -> None:
    page.open()
    content = io.BytesIO()
    Image.fromarray(pixels(7)).save(content, "PNG")
    for kind in ("drop", "paste"):
        page.run(
            f"""(() => {{
            const bytes = new Uint8Array({json.dumps(list(content.getvalue()))});
            const data = new DataTransfer();
            data.items.add(new File([bytes], "{kind}.png", {{type: "image/png"}}));
            const options = {{bubbles: true, cancelable: true}};
            const event = "{kind}" === "drop" ? new DragEvent("drop", {{...options, dataTransfer: data}})
                : new ClipboardEvent("paste", {{...options, clipboardData: data}});
            document.querySelector("header").dispatchEvent(event);
            }})()"""
        )
        assert page.text("chosen").startswith(f"{kind}.png (")
        page.until("!document.querySelector('#original canvas').hidden")


def refused(page: Page) -> str:
    page.until(f"{PROBLEM} !== ''")
    return page.text("problem")


def test_what_is_missing_is_said_where_it_is_missing(page: Page, tokens: dict[str, str], tmp_path: Path) -> None:
    page.open()
    page.submit()
    assert refused(page) == "Enter your token first."
    assert page.run("document.activeElement.id") == "token"
    page.type("token", "kein Schlüssel")
    page.submit()
    assert refused(page).startswith("This is no token")
    page.open(token=tokens["me"])
    page.submit()
    assert refused(page) == "Choose a picture first."
    assert page.run("document.activeElement.id") == "file"
    page.until("document.querySelectorAll('#classes option').length")
    page.choose(saved(tmp_path / "large.png", pixels(8, 200, 300)))
    page.submit()
    assert refused(page) == "The file has 180 kB, and the service takes 100 kB. Choose a smaller one."


def test_what_the_service_refuses_is_said_in_its_words(page: Page, tokens: dict[str, str], tmp_path: Path) -> None:
    original = saved(tmp_path / "a.png", pixels(9))
    page.open(token="wrong")
    assert refused(page).startswith("The service does not know this token.")
    assert page.run("document.getElementById('token').getAttribute('aria-invalid')") == "true"
    page.open(token=tokens["me"])
    page.choose(original)
    page.type("label", "owll")
    page.submit()
    assert "did you mean 'owl'" in refused(page)
    page.open(token=tokens["full"])
    page.choose(original)
    page.submit()
    assert "The limit is 0 pairs" in refused(page)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.open(token=tokens["me"])
    page.choose(broken)
    page.until("document.querySelector('#original p').textContent")
    page.submit()
    assert refused(page) == page.text("problem") != ""
    assert page.run("document.getElementById('outcome').hidden") is True
    assert page.run("document.getElementById('protect').disabled") is False


def test_the_same_request_again_is_counted_once(page: Page, tokens: dict[str, str], tmp_path: Path) -> None:
    page.open(token=tokens["me"])
    page.choose(saved(tmp_path / "a.png", pixels(10)))
    page.submit()
    page.until(DONE)
    page.run("count()")
    used = page.text("usage")
    page.submit()
    page.until(DONE)
    page.run("count()")
    assert page.text("usage") == used
    assert used.startswith("me: ")


def test_a_service_that_is_gone_is_said_and_nothing_is_stuck(
    page: Page, tokens: dict[str, str], tmp_path: Path
) -> None:
    page.open(token=tokens["me"])
    page.until("document.querySelectorAll('#classes option').length")
    page.choose(saved(tmp_path / "a.png", pixels(11)))
    page.browser.send(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )
    try:
        page.submit()
        assert refused(page).startswith("The service cannot be reached.")
    finally:
        page.browser.send(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
    page.submit()
    page.until(DONE)
    assert page.text("problem") == ""


def test_a_request_can_be_cancelled(page: Page, tokens: dict[str, str], tmp_path: Path) -> None:
    page.open(token=tokens["me"])
    page.until("document.getElementById('usage').textContent")
    page.choose(saved(tmp_path / "a.png", pixels(12)))
    page.run(
        "window.fetch = (address, {signal}) => new Promise((_, reject) => signal.addEventListener('abort', "
        "() => reject(new DOMException('', 'AbortError'))))"
    )
    page.submit()
    page.until("!document.getElementById('cancel').hidden")
    page.run("document.getElementById('cancel').click()")
    page.until("document.getElementById('status').textContent === 'Cancelled.'")
    assert page.text("problem") == ""


def test_the_token_is_kept_in_this_tab_alone_and_can_be_shown(page: Page, tokens: dict[str, str]) -> None:
    page.open(token=tokens["me"])
    assert page.run("[sessionStorage.token, localStorage.length, document.cookie]") == [tokens["me"], 0, ""]
    page.browser.open(page.address, DESKTOP)
    assert page.run("document.getElementById('token').value") == tokens["me"]
    assert page.run("document.getElementById('token').type") == "password"
    page.run("document.getElementById('reveal').click()")
    assert page.run("document.getElementById('token').type") == "text"


@pytest.mark.parametrize("width", [pytest.param(DESKTOP, id="desktop"), pytest.param(PHONE, id="phone")])
@pytest.mark.parametrize("dark", [pytest.param(False, id="light"), pytest.param(True, id="dark")])
def test_it_fits_the_screen_and_every_field_has_a_name(
    page: Page, tokens: dict[str, str], tmp_path: Path, width: int, dark: bool
) -> None:
    page.open(width, dark=dark, token=tokens["me"])
    page.choose(saved(tmp_path / "a.png", pixels(13, 48, 64)))
    page.submit()
    page.until(DONE)
    page.run("document.querySelector('details').open = true")
    assert page.run("document.documentElement.scrollWidth") <= width
    tree = page.browser.send("Accessibility.getFullAXTree")["nodes"]
    named = {"textbox", "combobox", "button", "slider", "link", "image", "img"}
    controls = [node for node in tree if node.get("role", {}).get("value") in named and not node["ignored"]]
    assert len(controls) > 8
    assert [node for node in controls if not node.get("name", {}).get("value")] == []
    small = """[...document.querySelectorAll('button, select, input, .button')].filter(
        each => each.checkVisibility() && each.getBoundingClientRect().height < 32).map(each => each.id)"""
    assert page.run(small) == []


def test_a_script_from_elsewhere_would_not_run(page: Page) -> None:
    page.open()
    page.run(
        """(() => { const script = document.createElement('script'); script.textContent = 'document.title = "hurt"';
        document.body.append(script); })()"""
    )
    assert page.run("document.title") == "Protect a picture"
    assert any("Content Security Policy" in str(problem) for problem in page.browser.problems())
