"""The page of faces in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.evaluation.faces.report.samples import evaluation, people, results
from tests.evaluation.report.browser import CHROMIUM, Browser
from tests.evaluation.report.test_browser import DESKTOP, ENTER, ESCAPE, OPEN, PHONE, RIGHT, SCHEMES, SIZES
from tests.tools import needs

from withhold.evaluation.faces.report.page import render
from withhold.evaluation.report.colours import contrast

pytestmark = needs(CHROMIUM, "Chromium")

VISIBLE = "[...document.querySelectorAll('#zoom figure')].filter(each => each.checkVisibility()).length"
OUTSIDE = """[...document.querySelectorAll('main *')].filter(each => !each.closest('.scroll, svg, .hidden'))
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render(evaluation()), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("dark", SCHEMES)
def test_it_loads_without_errors_and_asks_for_nothing(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.show(page, width, dark=dark)
    assert browser.run("document.documentElement.classList.contains('scripted')")
    assert browser.problems() == []
    assert browser.requests() == [page.as_uri()]


@pytest.mark.parametrize("width", SIZES)
def test_the_page_does_not_scroll_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width)
    assert browser.run("innerWidth") == width
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(OUTSIDE) == []
    box = "(({scrollWidth, clientWidth}) => scrollWidth > clientWidth)(document.querySelector('#scenarios .scroll'))"
    assert browser.run(box) == (width == PHONE)


@pytest.mark.parametrize("width", SIZES)
def test_a_person_opens_and_closes_by_keyboard(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width)
    browser.run("document.querySelector('figure.pair button').focus()")
    browser.press(*ENTER)
    assert browser.run(OPEN) is True
    shown = "document.querySelector('#zoom h2').textContent"
    first = browser.run(shown)
    assert first == browser.run("document.querySelector('figure.pair').dataset.name")
    sources = "[...document.querySelectorAll('{} img')].map(image => image.src)"
    assert browser.run(sources.format("#zoom")) == browser.run(sources.format("figure.pair:first-of-type"))[:5]
    browser.press(*RIGHT)
    assert browser.run(shown) != first
    assert browser.run("document.querySelector('#zoom').scrollWidth <= innerWidth")
    browser.press(*ESCAPE)
    assert browser.run(OPEN) is False
    assert browser.problems() == []


@pytest.mark.parametrize("width", SIZES)
def test_each_version_is_shown_alone(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width)
    browser.run("document.querySelector('figure.pair img').click()")
    assert browser.run(VISIBLE) == 5
    for view in ("original", "release1", "release2", "difference1", "difference2"):
        browser.run(f"document.querySelector('#zoom [data-view={view}]').click()")
        assert browser.run(VISIBLE) == 1
        assert browser.run(f"document.querySelector('#zoom [data-shows={view}]').checkVisibility()")
    browser.run("document.querySelector('#zoom .close').click()")
    assert browser.run(OPEN) is False


@pytest.mark.parametrize("width", SIZES)
def test_pictures_of_a_row_stand_in_the_order_of_the_releases(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width)
    place = """[...document.querySelectorAll('figure.pair:first-of-type .trio > div')].slice(0, 5)
        .map(each => each.getBoundingClientRect()).map(({left, top}) => [left, top])"""
    original, one, two, change_one, change_two = browser.run(place)
    assert original[0] < one[0] < two[0]
    assert original[1] == one[1] == two[1]
    if width == PHONE:  # differences stand below what they belong to
        assert (change_one[0], change_two[0]) == (one[0], two[0])
        assert change_one[1] > one[1]
    else:
        assert two[0] < change_one[0] < change_two[0]


@pytest.mark.parametrize("dark", SCHEMES)
def test_the_table_is_readable_as_the_browser_paints_it(browser: Browser, page: Path, dark: bool) -> None:
    browser.show(page, DESKTOP, dark=dark)
    painted = browser.run(
        """[...document.querySelectorAll('td.heat, td.heat small, td.heat data')].map(each => [
        getComputedStyle(each).color, getComputedStyle(each.closest('td')).backgroundColor
        ].map(colour => colour.match(/\\d+/g).map(Number)))"""
    )
    assert len(painted) > 60
    assert min(contrast(tuple(ink), tuple(ground)) for ink, ground in painted) >= 4.5


@pytest.mark.parametrize("width", SIZES)
def test_a_small_evaluation_fits_too(browser: Browser, tmp_path: Path, width: int) -> None:
    small = evaluation(results(("alone", "stranger"), seeds=1, pairs=0), pictures=people(("a" * 80,)))
    path = tmp_path / "index.html"
    path.write_text(render(small), encoding="utf-8")
    browser.show(path, width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(OUTSIDE) == []
    browser.run("document.querySelector('figure.pair button').click()")
    assert browser.run(VISIBLE) == 3
    assert browser.run("document.querySelector('#zoom').scrollWidth <= innerWidth")
    assert browser.problems() == []
