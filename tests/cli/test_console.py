import io

import pytest
from rich.console import Console

from withhold.cli.console import Bars, Lines, reporting
from withhold.release.progress import SILENT


def plain() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=40), written


def test_lines_are_plain_and_come_at_each_tenth() -> None:
    console, written = plain()
    lines = Lines(console)
    lines.start("Crafting", 40, "images")
    for _ in range(40):
        lines.advance()
    lines.finish()
    said = written.getvalue().splitlines()
    assert said[0] == "Crafting: 40 images"
    assert len(said) == 11
    assert said[1].startswith("Crafting: 4 of 40 images, ")
    assert said[-1].startswith("Crafting: 40 of 40 images, ")
    assert "\x1b" not in written.getvalue()
    assert "\r" not in written.getvalue()


def test_a_task_without_units_is_only_announced() -> None:
    console, written = plain()
    lines = Lines(console)
    lines.start("Crafting", 0, "images")
    lines.advance(0)
    lines.finish()
    assert written.getvalue() == "Crafting: 0 images\n"


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_long_sentences_and_brackets_come_through_unchanged(kind: type[Lines] | type[Bars]) -> None:
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


def test_no_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(quiet=False) as reporter:
        reporter.say("Hello.")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Hello.\n")
