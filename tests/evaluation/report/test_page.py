import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import cast

import pytest
from tests.evaluation.report.samples import ATTACK, CLASSES, evaluation

from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.plain import Plain
from withhold.evaluation.countermeasures.table import COUNTERMEASURES
from withhold.evaluation.report.curves import curves
from withhold.evaluation.report.heat import CONTROLS, IN_PART, ON_RELEASE, OWN_IMAGES, heat
from withhold.evaluation.report.page import render
from withhold.evaluation.report.tables import as_json
from withhold.evaluation.report.words import percent
from withhold.evaluation.results import NOISE, PairQuality

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Every start tag with its attributes, all text, and the values of all <data> elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: list[tuple[float, str]] = []
        self.unclosed: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.data.append((float(dict(attrs)["value"] or ""), ""))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.unclosed and self.unclosed[-1] == "data":
            self.data[-1] = (self.data[-1][0], data)
        if not set(self.unclosed) & {"script", "style"}:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def source() -> str:
    return render(evaluation())


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_nothing_outside_the_page_is_referenced(source: str, page: Page) -> None:
    assert not re.search(r"https?:|//[a-z0-9]|url\(|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", source))
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))


def test_the_page_forbids_itself_every_request_and_foreign_script(page: Page) -> None:
    (policy,) = [each["content"] for each in page.named("meta") if each.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


def test_what_others_named_is_escaped_everywhere(source: str, page: Page) -> None:
    assert source.count("<script>") == 1
    assert ATTACK not in source
    assert ATTACK in page.text
    assert all(name in page.text for name in CLASSES)
    assert any(ATTACK in (each.get("alt") or "") for each in page.named("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_every_element_is_closed_and_the_page_is_semantic(page: Page) -> None:
    assert page.unclosed == []
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("h1")) == len(page.named("main")) == 1
    assert all(each.get("scope") for each in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    drawings = [each for each in page.named("svg") if each.get("role") == "img"]
    assert len(drawings) == len(page.named("svg")) > 3
    assert all(each.get("aria-label") for each in drawings)
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_it_says_what_must_not_be_overlooked(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "Keep this page private." in text
    assert "best that any tried competitor got from the release alone (jpeg-10, resnet18)" in text
    assert "no proof" in text
    for sentence in (evaluation().verdict.sentence, *evaluation().verdict.caveats):
        assert sentence in text


def test_every_number_of_the_json_is_on_the_page_and_is_shown_as_it_is(page: Page) -> None:
    content = json.loads(as_json(evaluation()))
    shown = {value for value, _ in page.data}
    for attempt in content["attempts"]:
        found = [attempt[which]["mean"] for which in ("last", "best") if attempt[which]]
        found += [result[which] for result in attempt["results"] for which in ("last", "best")]
        assert {value for value in found if value is not None} <= shown
    known = set(_numbers(content))
    for value, text in page.data:
        assert value in known
        if value <= 1 and "." in text and len(text.split(".")[1]) != 4:  # SSIM has four digits
            assert text.split("\u00a0")[0] == percent(value)


def _numbers(content: object) -> list[float]:
    if isinstance(content, dict):
        return [number for value in content.values() for number in _numbers(value)]
    if isinstance(content, list):
        return [number for value in content for number in _numbers(value)]
    return [float(content)] if isinstance(content, int | float) else []


def test_a_diverged_training_is_named_and_has_no_colour(source: str) -> None:
    row = source.split('<span class="name">explodes</span>')[1].split("</tr>", maxsplit=1)[0]
    assert row.count("diverged<small>3 of 3 seeds") == 3
    assert "heat" not in row
    assert "--l:" not in row
    partly = source.split('<span class="name">cutmix</span>')[1].split("</tr>", maxsplit=1)[0]
    assert "2 seeds, 1 diverged" in partly


def test_the_strongest_attempt_is_the_first_row_and_the_last_row_on_the_release_diverged(source: str) -> None:
    rows = re.findall(r'<span class="name">([^<]*)</span>( <span class="tag">strongest)?', source)
    assert rows[0] == ("jpeg-10", ' <span class="tag">strongest')
    assert sum(bool(tag) for _, tag in rows) == 1
    names = [name for name, _ in rows]
    assert names.index("explodes") == names.index("originals") - 1
    assert names[-2:] == ["80 % protected, the others original", "only the 20 % that are original"]


def test_equal_evaluations_give_equal_pages(source: str) -> None:
    assert render(evaluation()) == source


def test_without_a_clean_control_the_page_says_what_is_unknown() -> None:
    text = " ".join(Page(render(evaluation(clean=False))).text.split())
    assert "share of training value that is kept is unknown" in text
    assert "100.0 %" in text  # the colours' end, where the originals would be
    assert "Training value kept" not in text


def test_lpips_is_shown_where_it_was_measured_and_its_absence_is_stated() -> None:
    whole = evaluation()
    assert "LPIPS was not measured" in render(whole)
    measured = tuple(replace(pair, lpips=0.01 + 0.001 * row) for row, pair in enumerate(whole.quality))
    page = render(replace(whole, quality=measured))
    assert "LPIPS was not measured" not in page
    assert 'aria-label="LPIPS of 60 pairs: lowest 0.0100' in page


def test_an_unchanged_pair_has_no_psnr() -> None:
    whole = evaluation()
    same = PairQuality("cat/1.png", "cat", float("inf"), 1.0, None, 0.0)
    page = render(replace(whole, quality=(*whole.quality, same)))
    assert "1 unchanged, so without a finite PSNR" in page
    alone = render(replace(whole, quality=(same,)))
    assert "inf" not in Page(alone).text.replace("information", "")
    assert ">unchanged</td>" in alone


def test_the_smallest_evaluation_renders() -> None:
    whole = evaluation()
    strongest = whole.verdict.strongest
    assert strongest is not None
    verdict = replace(whole.verdict, clean=None, noise=None, undefended=None, kept=None, caveats=())
    page = Page(
        render(replace(whole, attempts=(strongest,), verdict=verdict, quality=(), pictures=(), classes=(), settings={}))
    )
    assert page.unclosed == []
    assert not page.named("img")
    assert not page.named("dialog")


def test_many_classes_are_folded_away() -> None:
    whole = evaluation()
    names = tuple(f"class {number}" for number in range(200))
    assert "All 200 classes" in render(replace(whole, classes=names))


def test_an_attempt_that_diverged_may_be_a_control() -> None:
    whole = evaluation()
    assert whole.verdict.noise is not None
    lost = replace(whole.verdict.noise, last=None, best=None, curve=(), diverged=3)
    found = tuple(lost if (one.material, one.network) == (NOISE, "resnet18") else one for one in whole.attempts)
    page = render(replace(whole, attempts=found, verdict=replace(whole.verdict, noise=lost)))
    assert '<td class="number">diverged</td>' in page


def test_a_release_on_which_everything_diverged_renders() -> None:
    whole = evaluation()
    assert whole.verdict.undefended is not None
    lost = replace(whole.verdict.undefended, last=None, best=None, curve=(), diverged=3, per_class=())
    verdict = replace(whole.verdict, strongest=None, undefended=None, kept=None)
    page = render(replace(whole, attempts=(lost,), verdict=verdict))
    assert "Release, best competitor tried" not in page
    assert "strongest (none)" in page
    assert "<polyline" not in page


def test_competitors_with_images_of_their_own_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Plain):
        outside_data = True

    monkeypatch.setitem(cast(dict[str, Countermeasure], COUNTERMEASURES), "adversarial-training-8", Own())
    whole = evaluation()
    groups = heat(whole).groups
    assert [group.title for group in groups] == [ON_RELEASE, OWN_IMAGES, CONTROLS, IN_PART]
    assert [row.name for row in groups[1].rows] == ["adversarial-training-8"]
    drawn = curves(whole)
    assert "adversarial-training-8" not in [line.name for panel in drawn.main for line in panel.lines]
    assert "adversarial-training-8, resnet18" in [panel.title for panel in drawn.rest]
