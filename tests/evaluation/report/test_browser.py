"""The page in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.evaluation.report.browser import CHROMIUM, Browser
from tests.evaluation.report.samples import evaluation
from tests.tools import needs

from withhold.evaluation.report.colours import contrast
from withhold.evaluation.report.write import write_report

pytestmark = needs(CHROMIUM, "Chromium")

DESKTOP, PHONE = 1280, 390
SIZES = [pytest.param(DESKTOP, id="desktop"), pytest.param(PHONE, id="phone")]
SCHEMES = [pytest.param(False, id="light"), pytest.param(True, id="dark")]
ENTER, ESCAPE, RIGHT = ("Enter", 13), ("Escape", 27), ("ArrowRight", 39)
OPEN = "document.getElementById('zoom').open"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(evaluation(), tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("dark", SCHEMES)
def test_it_loads_without_errors_and_asks_for_nothing(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.show(page, width, dark=dark)
    assert browser.run("document.documentElement.classList.contains('scripted')")
    assert browser.problems() == []
    assert browser.requests() == [page.as_uri()]
    broken = (
        "[...document.images].filter(image => image.complete && !image.naturalWidth && image.closest('main')).length"
    )
    assert browser.run(broken) == 0


@pytest.mark.parametrize("width", SIZES)
def test_the_page_does_not_scroll_sideways_and_wide_tables_do(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width)
    assert browser.run("innerWidth") == width
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.run("document.documentElement.scrollWidth") <= width
    outside = """[...document.querySelectorAll('main *')].filter(each => !each.closest('.scroll, svg, .hidden'))
        .filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""
    assert browser.run(outside) == []
    box = browser.run(
        "(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])(document.querySelector('#attempts .scroll'))"
    )
    assert (box[0] > box[1]) == (width == PHONE)


@pytest.mark.parametrize("width", SIZES)
def test_a_picture_opens_and_closes_by_keyboard(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width)
    browser.run("document.querySelector('figure.pair button').focus()")
    assert browser.run(OPEN) is False
    browser.press(*ENTER)
    assert browser.run(OPEN) is True
    shown = "document.querySelector('#zoom h2').textContent"
    first = browser.run(shown)
    assert first == browser.run("document.querySelector('figure.pair').dataset.name")
    sources = "[...document.querySelectorAll('{} img')].map(image => image.src)"
    assert browser.run(sources.format("#zoom")) == browser.run(sources.format("figure.pair:first-of-type"))[:3]
    browser.press(*RIGHT)
    assert browser.run(shown) != first
    assert browser.run("document.querySelector('#zoom').scrollWidth <= innerWidth")
    browser.press(*ESCAPE)
    assert browser.run(OPEN) is False
    assert browser.run("document.activeElement === document.querySelector('figure.pair button')")
    assert browser.problems() == []


def test_a_picture_opens_by_click_shows_one_at_a_time_and_closes_by_its_button(browser: Browser, page: Path) -> None:
    browser.show(page, DESKTOP)
    browser.run("document.querySelectorAll('figure.pair')[2].querySelector('img').click()")
    assert browser.run(OPEN) is True
    visible = "[...document.querySelectorAll('#zoom figure')].filter(each => each.checkVisibility()).length"
    assert browser.run(visible) == 3
    for view in ("original", "released", "difference"):
        browser.run(f"document.querySelector('#zoom [data-view={view}]').click()")
        assert browser.run(visible) == 1
        assert browser.run(f"document.querySelector('#zoom [data-shows={view}]').checkVisibility()")
    assert browser.run("getComputedStyle(document.querySelector('#zoom img')).imageRendering") == "pixelated"
    browser.run("document.querySelector('#zoom .close').click()")
    assert browser.run(OPEN) is False


@pytest.mark.parametrize("dark", SCHEMES)
def test_the_heat_map_is_readable_as_the_browser_paints_it(browser: Browser, page: Path, dark: bool) -> None:
    browser.show(page, DESKTOP, dark=dark)
    painted = browser.run(
        """[...document.querySelectorAll('td.heat, td.heat small, td.heat data')].map(each => [
        getComputedStyle(each).color, getComputedStyle(each.closest('td')).backgroundColor
        ].map(colour => colour.match(/\\d+/g).map(Number)))"""
    )
    assert len(painted) > 100
    assert len({tuple(ground) for _, ground in painted}) > 20
    assert min(contrast(tuple(ink), tuple(ground)) for ink, ground in painted) >= 4.5


def test_a_page_without_pictures_runs_too(browser: Browser, tmp_path: Path) -> None:
    browser.show(write_report(evaluation(pictures=()), tmp_path), PHONE)
    assert browser.run("document.documentElement.classList.contains('scripted')")
    assert browser.problems() == []


def test_what_is_folded_away_is_printed(browser: Browser, page: Path) -> None:
    browser.show(page, DESKTOP)
    folded = "document.querySelectorAll('details:not([open])').length"
    before = browser.run(folded)
    assert before > 3
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(folded) == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(folded) == before


def test_a_script_in_the_data_would_not_run(browser: Browser, page: Path, tmp_path: Path) -> None:
    hurt = tmp_path / "index.html"
    hurt.write_text(page.read_text().replace("</main>", "<script>document.title = 'hurt'</script></main>"))
    browser.show(hurt, DESKTOP)
    assert browser.run("document.title") != "hurt"
    assert any("Content Security Policy" in str(problem) for problem in browser.problems())
