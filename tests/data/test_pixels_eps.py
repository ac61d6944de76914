from fractions import Fraction

import pytest

from withhold.data.pixels import levels, parse_eps
from withhold.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "eps", "count"),
    [
        ("8/255", Fraction(8, 255), 8),
        (" 8 / 255 ", Fraction(8, 255), 8),
        ("0.03", Fraction(3, 100), 7),
        (0.03, Fraction(3, 100), 7),
        (8 / 255, Fraction(8, 255), 8),
        (Fraction(16, 255), Fraction(16, 255), 16),
        ("64/255", Fraction(64, 255), 64),
        ("1/255", Fraction(1, 255), 1),
        ("8.5/255", Fraction(17, 510), 8),
        ("2/127.5", Fraction(4, 255), 4),
    ],
)
def test_eps_is_read(text: str | float | Fraction, eps: Fraction, count: int) -> None:
    assert parse_eps(text) == eps
    assert levels(eps) == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "did you mean 8/255"),
        (8, "did you mean 8/255"),
        ("16.0", "did you mean 16/255"),
        ("300", "at most 64/255"),
        ("65/255", "at most 64/255"),
        ("0.5", "at most 64/255"),
        ("0", "at least 1/255"),
        ("-8/255", "at least 1/255"),
        ("0.003", "at least 1/255"),
        ("eight", "such as 8/255"),
        ("8/0", "such as 8/255"),
        ("8/", "such as 8/255"),
        ("8/255/1", "such as 8/255"),
        ("0.5/255", "at least 1/255"),
        ("nan", "such as 8/255"),
        ("", "such as 8/255"),
    ],
)
def test_unusable_eps_is_refused(text: str | float, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_eps(text)
