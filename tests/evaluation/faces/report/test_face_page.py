import json
import re
from dataclasses import asdict, replace
from statistics import fmean

import pytest
from tests.evaluation.faces.report.samples import (
    ALL,
    CROWDS,
    ENROLLED,
    NETWORK,
    PEOPLE,
    PROBES,
    evaluation,
    people,
    result,
    results,
)
from tests.evaluation.report.samples import ATTACK
from tests.evaluation.report.test_page import Page

from withhold.evaluation.faces.attempts import attempts_of
from withhold.evaluation.faces.report.page import render
from withhold.evaluation.faces.report.plots import crowds, rocs
from withhold.evaluation.faces.report.table import blocks, state
from withhold.evaluation.faces.report.ways import Way, drawn_ways, ways_of
from withhold.evaluation.faces.results import FaceAttempt, FaceCell, FaceEvaluation
from withhold.evaluation.faces.verdict import judge
from withhold.evaluation.report.colours import shade
from withhold.evaluation.report.curves import LARGE
from withhold.evaluation.report.words import percent, spread
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED, PairQuality, Spread


@pytest.fixture(scope="module")
def whole() -> FaceEvaluation:
    return evaluation()


@pytest.fixture(scope="module")
def source(whole: FaceEvaluation) -> str:
    return render(whole)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def words(page: str | Page) -> str:
    return " ".join((Page(page) if isinstance(page, str) else page).text.split())


def section(source: str, name: str) -> str:
    return source.split(f'<section id="{name}">')[1].split("</section>", maxsplit=1)[0]


def way(whole: FaceEvaluation, title: str) -> Way:
    return next(each for each in ways_of(whole) if each.title == title)


def alone(whole: FaceEvaluation, material: str, head: str = "softmax") -> FaceAttempt:
    return way(whole, f"alone, {head}").attempts[material]


def made(*cells: tuple[str, str, float, bool], pairs: int = 600) -> FaceEvaluation:
    """Make an evaluation of one seed of each (scenario, material, rate, lost)."""
    found = [
        result(FaceCell(scenario, material, "softmax", NETWORK, 0), rate=rate, pairs=pairs, lost=lost)
        for scenario, material, rate, lost in cells
    ]
    return evaluation(found)


def test_nothing_outside_the_page_is_referenced(source: str, page: Page) -> None:
    assert not re.search(r"https?:|//[a-z0-9]|url\(|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", source))
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    (policy,) = [each["content"] for each in page.named("meta") if each.get("http-equiv")]
    assert (policy or "").startswith("default-src 'none'")


def test_what_others_named_is_escaped_everywhere(source: str, page: Page) -> None:
    assert source.count("<script>") == 1
    assert ATTACK not in source
    assert ATTACK in page.text
    assert any(ATTACK in (each.get("alt") or "") for each in page.named("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    hostile = [
        replace(each, cell=replace(each.cell, network=ATTACK), diverged=ATTACK if each.diverged else None)
        for each in results(("alone", "mixed"))
    ]
    attacked = render(evaluation(hostile, pictures=people((ATTACK, '"><script>'))))
    assert ATTACK not in attacked
    assert attacked.count("<script>") == 1
    assert Page(attacked).unclosed == []


def test_every_element_is_closed_and_the_page_is_semantic(page: Page) -> None:
    assert page.unclosed == []
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("h1")) == len(page.named("main")) == 1
    assert all(each.get("scope") for each in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    drawings = page.named("svg")
    assert len(drawings) > 20
    assert all(each.get("role") == "img" and each.get("aria-label") for each in drawings)
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    inside = {each["href"] for each in page.named("a")}
    assert inside <= {f"#{name}" for name in names}


def test_equal_evaluations_give_equal_pages(source: str) -> None:
    assert render(evaluation()) == source


def test_it_says_what_must_not_be_overlooked(whole: FaceEvaluation, source: str, page: Page) -> None:
    text = words(page)
    assert "Keep this page private." in text
    assert "It is no cloak: it does not hide who is on them." in text
    assert "no proof" in text
    for sentence in (whole.verdict.sentence, *whole.verdict.caveats):
        assert sentence in text
    assert all(text.count(finding.sentence) >= 1 for finding in whole.verdict.findings)
    assert source.index('id="limits"') < source.index("<nav")


def test_what_is_not_stopped_is_what_the_findings_say(whole: FaceEvaluation, source: str) -> None:
    limits = source.split('id="limits"')[1].split("</div>", maxsplit=1)[0]
    listed = re.findall(r"<li><strong>(.*?)\.</strong>", limits)
    assert listed == ["Strangers", "Older pictures", "fine-tuned", "immune"]
    shown = words(limits.partition(">")[2])
    for finding in whole.verdict.findings:
        assert (finding.sentence in shown) == (finding.scenario in {"stranger", "fine-tuned", "immune"})


def test_without_a_stranger_the_page_still_warns_of_one() -> None:
    text = words(render(evaluation(results(("alone",)))))
    assert "it enrols a released picture and compares. That was not tried; expect the people to be recognised." in text
    assert "Not tried, so unknown. mixed: Train on the published pictures together with clean pictures" in text
    assert "untrained:" not in text.split("Not tried, so unknown.")[1].split("Before you rely")[0]


def test_a_stranger_of_whom_nothing_is_known_is_no_comfort() -> None:
    text = words(render(made(("alone", ORIGINAL, 0.9, False), ("stranger", RELEASED, 0.5, False))))
    warning = text.split("What this does not stop")[1].split("Older pictures")[0]
    assert "Expect the people to be recognised." in warning
    assert "nothing follows" in warning


def test_every_rate_is_on_the_page_and_is_shown_as_it_is(whole: FaceEvaluation, page: Page) -> None:
    shown = {value for value, _ in page.data}
    measures = ("best", "rank1", "rank5", "clean_rank1", "best_head", "accuracy", "auc", "eer")
    for attempt in whole.attempts:
        found = [getattr(attempt, name) for name in measures]
        found += [rate for far, rate in attempt.accepts if far > 0.001]
        assert {each.mean for each in found if each is not None} <= shown
        for each in attempt.results:
            if each.identification and each.clean_gallery and each.verification:
                own = (each.identification.rank1, each.clean_gallery.rank1, each.verification.standard_error)
                assert set(own) <= shown
    assert whole.verdict.kept in shown
    known = set(_numbers(json.loads(json.dumps(asdict(whole), default=str))))
    known |= {attempt.chance for attempt in whole.attempts} | {
        each.kept for each in whole.verdict.findings if each.kept
    }
    known |= {result.best_head for attempt in whole.attempts for result in attempt.results if result.best_head}
    for value, text in page.data:
        assert any(abs(value - number) < 1e-12 for number in known), value
        digits = len(text.split(".")[1].split("\u00a0")[0])
        assert text.split("\u00a0")[0] == (percent(value) if digits == 1 and value <= 1 else f"{value:.{digits}f}")


def _numbers(content: object) -> list[float]:
    if isinstance(content, dict):
        return [number for value in content.values() for number in _numbers(value)]
    if isinstance(content, list):
        return [number for value in content for number in _numbers(value)]
    return [float(content)] if isinstance(content, int | float) else []


def test_the_figure_under_the_verdict_shows_the_controls_and_chance(whole: FaceEvaluation, source: str) -> None:
    figure = source.split('<figure class="marks">')[1].split("</figure>", maxsplit=1)[0]
    titles = re.findall(r'<th scope="row">([^<]*)<small>([^<]*)', figure)
    best = f"arcface, {NETWORK}"
    assert titles == [
        ("Trained on the originals", best),
        ("Originals under random noise", best),
        ("Trained on the release", best),
        ("Not trained at all", "random weights, the release as gallery"),
        ("Guessing", "any of the people"),
    ]
    values = [float(value) for value in re.findall(r'<td class="number"><data value="([^"]*)"', figure)]
    of = [alone(whole, material, "arcface").best for material in (ORIGINAL, NOISE, RELEASED)]
    untrained = way(whole, "untrained, softmax").attempts[RELEASED].best
    assert values == [*(each.mean for each in (*of, untrained) if each), 1 / len(PEOPLE)]
    assert f"{percent(whole.verdict.kept or 0)}</data> %" in figure


def test_colours_run_from_guessing_to_the_originals_of_the_same_scenario(whole: FaceEvaluation) -> None:
    table = {block.scenario: block for block in blocks(whole, ways_of(whole))}
    assert list(table) == list(ALL)
    for name in ("mixed", "stranger"):
        original, _, released = (cell.best for cell in table[name].rows[0].cells if cell)
        assert original is not None
        assert released is not None
        assert original.shade == shade(1)
        chance = 2 / len(PEOPLE)
        assert released.shade == shade((released.exact - chance) / (original.exact - chance))
    # A control is coloured like what it controls: dark would mean that it recognises as much as training does.
    untrained = table["untrained"].rows[0].cells[0]
    best = alone(whole, ORIGINAL, "arcface").best
    assert untrained is not None
    assert untrained.best is not None
    assert best is not None
    chance = 1 / len(PEOPLE)
    assert untrained.best.shade == shade((untrained.best.exact - chance) / (best.mean - chance))


def test_the_head_that_a_sentence_is_about_is_outlined(whole: FaceEvaluation) -> None:
    block = blocks(whole, ways_of(whole))[0]
    assert [row.head for row in block.rows] == ["softmax", "cosface", "arcface"]
    assert [[cell.taken for cell in row.cells if cell] for row in block.rows] == [[False] * 3, [False] * 3, [True] * 3]
    assert block.kept == whole.verdict.kept


def test_what_a_scenario_has_no_material_for_is_told_from_what_was_not_tried() -> None:
    few = made(("old-alone", ORIGINAL, 0.5, False), ("mixed", RELEASED, 0.5, False))
    old, mixed = blocks(few, ways_of(few))
    assert [row.absent for row in old.rows] == [("not tried", "does not apply", "does not apply")]
    assert [row.absent for row in mixed.rows] == [("not tried",) * 3]
    assert [cell is None for cell in mixed.rows[0].cells] == [True, True, False]
    table = section(render(few), "scenarios")
    assert table.count("does not apply") == table.count("not tried</td>") == 2


@pytest.mark.parametrize(
    ("scenario", "released", "expected"),
    [
        ("alone", 0.2, "holds"),
        ("alone", 0.5, "holds in part"),
        ("alone", 0.8, "does not hold"),
        ("stranger", 0.8, "not stopped"),
        ("stranger", 0.15, "not promised"),
    ],
)
def test_a_state_is_a_word_for_the_share_that_is_left(scenario: str, released: float, expected: str) -> None:
    (finding,) = made((scenario, ORIGINAL, 0.9, False), (scenario, RELEASED, released, False)).verdict.findings
    assert state(finding) == expected
    (without,) = made((scenario, RELEASED, released, False)).verdict.findings
    assert state(without) == "nothing follows"


def test_identification_states_its_counts_and_both_galleries(whole: FaceEvaluation, source: str) -> None:
    rows = section(source, "identification").split("<tbody>")[1].split("<tr>")
    cells = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", rows[3])]
    attempt = alone(whole, RELEASED)
    measured = [attempt.rank1, attempt.rank5, attempt.clean_rank1, attempt.best_head]
    expected = [spread(each) for each in measured if each]
    assert cells == ["release", *expected, percent(1 / len(PEOPLE)), str(len(PEOPLE)), str(ENROLLED), str(PROBES)]


def test_the_crowd_begins_with_the_people_alone_on_a_log_axis(whole: FaceEvaluation) -> None:
    plot = crowds(ways_of(whole))["alone, softmax"]
    sizes = [len(PEOPLE), *(len(PEOPLE) + strangers for strangers in CROWDS)]
    assert [mark.text for mark in plot.marks] == [str(size) for size in sizes]
    assert plot.marks[0].x == LARGE.left
    assert plot.marks[-1].x == LARGE.end
    # Equal ratios are equal distances.
    ratio = (plot.marks[2].x - plot.marks[1].x) / (plot.marks[3].x - plot.marks[2].x)
    assert ratio == pytest.approx(0.4550 / 0.3616, rel=1e-2)  # log10(308 / 108), log10(708 / 308)
    line = next(each for each in plot.lines if each.name == "release")
    heights = [float(point.split(",")[1]) for point in line.points.split()]
    attempt = alone(whole, RELEASED)
    assert attempt.rank1
    rates = [attempt.rank1.mean, *(rate.mean for _, rate in attempt.crowd)]
    for height, rate in zip(heights, rates, strict=True):
        assert (LARGE.base - height) / (LARGE.base - LARGE.top) == pytest.approx(rate, abs=1e-3)


def test_marks_that_would_meet_are_left_out(whole: FaceEvaluation) -> None:
    attempt = alone(whole, RELEASED)
    close = replace(attempt, crowd=tuple((count, Spread(0.2, None, 1)) for count in (100, 101, 102, 700)))
    (plot,) = crowds(ways_of(replace(whole, attempts=(close,)))).values()
    assert [mark.text for mark in plot.marks] == ["8", "108", "708"]


def test_controls_are_drawn_beside_what_they_control(whole: FaceEvaluation) -> None:
    ways = drawn_ways(ways_of(whole))
    assert not {"untrained", "old-alone"} & {each.scenario for each in ways}
    drawn = rocs(ways)
    assert [name for name, _, _ in drawn["old-releases, softmax"].areas][-1] == "older alone"
    assert [name for name, _, _ in drawn["alone, arcface"].areas][-1] == "untrained"
    lone = evaluation(results(("old-alone",)))
    assert list(rocs(drawn_ways(ways_of(lone)))) == ["old-alone, softmax"]


def test_a_roc_curve_is_drawn_from_corner_to_corner(whole: FaceEvaluation) -> None:
    plot = rocs(ways_of(whole))["alone, softmax"].plot
    for line in plot.lines:
        points = [tuple(map(float, point.split(","))) for point in line.points.split()]
        assert points[0] == (plot.frame.left, plot.frame.base)
        assert points[-1] == (plot.frame.end, plot.frame.top)
    first = alone(whole, ORIGINAL).results[0].verification
    assert first
    middle = [tuple(map(float, point.split(","))) for point in plot.lines[0].points.split()][30]
    span = plot.frame.base - plot.frame.top
    assert (plot.frame.base - middle[1]) / span == pytest.approx(first.roc[30][1], abs=1e-3)


def test_true_accepts_have_intervals_or_too_few_pairs(whole: FaceEvaluation, source: str) -> None:
    table = section(source, "verification")
    assert table.count("too few pairs") == len(whole.attempts)
    attempt = alone(whole, ORIGINAL)
    checked = [result.verification for result in attempt.results if result.verification]
    low = min(each.accepts[0].low for each in checked)
    high = max(each.accepts[0].high for each in checked)
    interval = f'<data value="{low}">{percent(low)}</data> to <data value="{high}">{percent(high)}</data>'
    assert interval in table
    assert f'<data value="{fmean(each.standard_error for each in checked)}">1.2</data>' in table
    assert "600 pairs of clean pictures" in words(table)
    assert "from the lowest to the highest end of the seeds' intervals" in words(table)


def test_without_pairs_what_needs_them_is_said_to_be_missing() -> None:
    source = render(evaluation(results(pairs=0)))
    assert "Not measured: it needs pairs" in words(section(source, "verification"))
    assert "Not measured: strangers are the people of the pairs" in words(section(source, "identification"))
    assert "<svg" not in section(source, "verification") + section(source, "identification")
    assert Page(source).unclosed == []


def test_one_seed_has_no_deviation() -> None:
    source = render(evaluation(results(seeds=1)))
    main = source.split("<main>")[1].replace("mean ± deviation", "").replace("±: deviation", "")
    assert "±" not in main.split('id="exact"')[0]
    assert "seeds' intervals" not in main


def test_a_diverged_training_is_named_and_has_no_colour(source: str) -> None:
    every = render(
        made(
            ("alone", ORIGINAL, 0.9, False),
            ("alone", RELEASED, 0.2, True),
        )
    )
    assert "diverged: the loss is not finite after epoch 2" in words(every)
    assert "3 seeds, 1 diverged" in section(source, "scenarios")
    lost = attempts_of([replace(result(FaceCell("alone", RELEASED, "softmax", NETWORK, 0), lost=True), curve=())])
    nothing = render(evaluation(attempts=lost, verdict=judge(lost)))
    assert 'class="diverged">diverged<small>1 of 1 seed<' in nothing
    assert '<td class="number">diverged</td>' in nothing.split('<figure class="marks">')[1].split("</figure>")[0]
    assert "--l:" not in section(nothing, "scenarios").split("</thead>")[1]
    assert "<polyline" not in nothing
    assert "share of training value that is kept is unknown" in words(nothing)


def test_without_training_alone_there_is_no_figure_and_no_share() -> None:
    source = render(evaluation(results(("stranger",))))
    assert '<figure class="marks">' not in source
    assert "No verdict" in words(source)
    assert 'id="curves"' not in source
    assert 'href="#curves"' not in source


def test_the_sheet_shows_each_release_and_its_difference(whole: FaceEvaluation, source: str) -> None:
    rows = re.findall(r'<figure class="pair.*?</figure>', source, re.DOTALL)
    assert len(rows) == len(whole.pictures)
    titles = re.findall(r"<span>([^<]*)</span>", rows[0])
    assert titles == [
        "Original",
        "released, 8/255",
        "stronger, 16/255",
        "Difference \u00d7 10, released",
        "Difference \u00d7 10, stronger",
    ]
    single = render(evaluation(pictures=people(("released",))))
    row = re.findall(r'<figure class="pair.*?</figure>', single, re.DOTALL)[0]
    assert re.findall(r"<span>([^<]*)</span>", row) == ["Original", "released, 8/255", "Difference \u00d7 10"]


def test_the_smallest_evaluation_renders(whole: FaceEvaluation) -> None:
    tiny = made(("alone", RELEASED, 0.2, False), pairs=0)
    page = Page(render(replace(tiny, quality=(), pictures=(), settings={}, data={}, environment={})))
    assert page.unclosed == []
    assert not page.named("img")
    assert not page.named("dialog")
    assert "is about originals and a release" in words(page)
    assert "No verdict" in words(page)
    empty = replace(whole, attempts=(), verdict=judge(()))
    assert Page(render(empty)).unclosed == []


def test_settings_versions_seeds_and_digests_are_there(page: Page) -> None:
    text = words(page)
    assert "ab" * 32 in text
    assert "torch2.13.0" in text
    assert "old_share20" in text
    assert "LPIPS was not measured" in text


def test_an_unchanged_pair_has_no_psnr(whole: FaceEvaluation) -> None:
    same = PairQuality("Ada/1.png", "Ada", float("inf"), 1.0, None, 0.0)
    assert ">unchanged</td>" in render(replace(whole, quality=(same,)))


def test_several_networks_are_told_apart() -> None:
    given = FaceCell("stranger", RELEASED, "given", "my.module:recogniser", 0)
    ways = ways_of(evaluation([*results(("alone",)), result(given, rate=0.6)]))
    assert ways[-1].title == "stranger, given, my.module:recogniser"
    assert ways[0].title == f"alone, softmax, {NETWORK}"


def test_losses_that_no_sentence_is_about_are_folded_away() -> None:
    found = [
        result(FaceCell("mixed", material, head, NETWORK, 0), rate=rate)
        for head, rate in (("softmax", 0.4), ("arcface", 0.6))
        for material in (ORIGINAL, NOISE, RELEASED)
    ]
    source = section(render(evaluation(found)), "curves")
    shown, folded = source.split("<details>")
    assert "mixed, arcface" in shown
    assert "mixed, softmax" in folded
    assert "The other 1 drawing:" in folded
