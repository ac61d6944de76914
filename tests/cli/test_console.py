import io
import json

import pytest
from rich.console import Console

from withhold.cli.console import Bars, Lines, Sentences, reporting
from withhold.progress import SILENT


def plain() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=40), written


def test_a_log_gets_sentences_but_no_progress() -> None:
    console, written = plain()
    sentences = Sentences(console)
    sentences.start("Crafting", 40, "images")
    for _ in range(40):
        sentences.advance()
    sentences.say("The surrogate is a ResNet-9.")
    sentences.finish()
    assert written.getvalue() == "The surrogate is a ResNet-9.\n"


@pytest.mark.parametrize("kind", [Sentences, Bars])
def test_long_sentences_and_brackets_come_through_unchanged(kind: type[Sentences] | type[Bars]) -> None:
    console, written = plain()
    text = "a path/with [brackets]/and [/more] of them, longer than the window of forty columns.png"
    kind(console).say(text)
    assert written.getvalue() == text + "\n"


def test_bars_show_count_rate_and_task() -> None:
    written = io.StringIO()
    bars = Bars(Console(file=written, force_terminal=True, width=100))
    bars.start("Crafting", 8, "images")
    bars.advance(8)
    bars.finish()
    assert "Crafting" in written.getvalue()
    assert "8/8" in written.getvalue()
    assert "images/s, 0:00:00 left" in written.getvalue()


def test_a_new_task_ends_the_one_before() -> None:
    bars = Bars(Console(file=io.StringIO(), force_terminal=True))
    bars.start("First", 2, "images")
    bars.start("Second", 2, "images")
    bars.finish()
    bars.advance()


def test_quiet_is_silent() -> None:
    with reporting(quiet=True) as reporter:
        assert reporter is SILENT


def test_no_terminal_gets_sentences_only(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(quiet=False) as reporter:
        reporter.start("Crafting", 2, "images")
        reporter.say("Hello.")
        reporter.advance(2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Hello.\n")


def test_programs_get_a_line_a_second_and_whenever_counts_change() -> None:
    written: list[str] = []
    now = 100.0
    lines = Lines(written.append, lambda: now)
    lines.say("The surrogate is a ResNet-9.")
    lines.start("Crafting", 10, "images")
    lines.advance(2)  # in the same second
    now = 102.0
    lines.advance(2)
    lines.status(workers=2, retries=0)
    lines.status(workers=2, retries=0)
    lines.status(workers=1, retries=3)
    now = 110.0
    lines.advance(6)
    lines.finish()
    lines.finish()
    found = [json.loads(line) for line in written]
    state = {"task": "Crafting", "total": 10, "unit": "images"}
    assert found == [
        {"event": "note", "text": "The surrogate is a ResNet-9."},
        {"event": "started", **state},
        {"event": "progress", **state, "done": 4, "seconds": 2.0, "per_second": 2.0, "seconds_left": 3.0},
        {
            **{"event": "progress", **state, "done": 4, "seconds": 2.0, "per_second": 2.0, "seconds_left": 3.0},
            **{"workers": 2, "retries": 0},
        },
        {
            **{"event": "progress", **state, "done": 4, "seconds": 2.0, "per_second": 2.0, "seconds_left": 3.0},
            **{"workers": 1, "retries": 3},
        },
        {
            **{"event": "progress", **state, "done": 10, "seconds": 10.0, "per_second": 1.0, "seconds_left": 0.0},
            **{"workers": 1, "retries": 3},
        },
        {
            **{"event": "ended", **state, "done": 10, "seconds": 10.0, "per_second": 1.0, "seconds_left": 0.0},
            **{"workers": 1, "retries": 3},
        },
    ]


def test_a_terminal_shows_the_counts_behind_the_bar() -> None:
    written = io.StringIO()
    bars = Bars(Console(file=written, force_terminal=True, width=120))
    bars.status(workers=9)  # before any task
    bars.start("Crafting", 8, "images")
    bars.status(workers=2, retries=1)
    bars.finish()
    assert "2 workers, 1 retries" in written.getvalue()
