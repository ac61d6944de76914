"""Where faces are in photographs: a CSV of boxes or landmarks, and the square of a photograph that a recogniser sees.

The CSV has a header and one row for each face: `image`, then either a box `x0, y0, x1, y1`, or five landmarks
`le_x, le_y, re_x, re_y, nose_x, nose_y, lm_x, lm_y, rm_x, rm_y` (eyes, nose, corners of the mouth; left and right as
the viewer sees them), and if wanted `identity`. All are pixels of the stored picture, not turned by its Orientation: a
box from the picture's corner, landmarks from the centre of the first pixel, as OpenCV counts.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from withhold.errors import InvalidInput

BOX = ("x0", "y0", "x1", "y1")
LANDMARKS = ("le_x", "le_y", "re_x", "re_y", "nose_x", "nose_y", "lm_x", "lm_y", "rm_x", "rm_y")

TEMPLATE_SIDE = 112
TEMPLATE = (38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j)
"""The five landmarks in an aligned crop of 112 x 112, x + iy: Deng et al., "ArcFace", arXiv 1801.07698, their code."""

ENLARGED = 5 / 4
"""Side of the square around a box, as a share of the box's longer side: detectors cut off hair and chin."""

SMALLEST = 8
"""Smallest side of a square, in pixels; less is no face to learn from."""

FARTHEST = 20
"""Root mean square distance of landmarks from the template, of 112: profiles stay below 15, exchanged eyes give 22."""

Square = tuple[float, float, float, float]
"""x and y of the first corner, and the x and y along the upper edge; in pixels from the picture's corner."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture.

    Attributes:
        label: Whose it is, as an index into the dataset's classes.
        square: What a recogniser sees of the picture once it is aligned.
    """

    label: int
    square: Square


@dataclass(frozen=True, slots=True)
class FaceRow:
    """A face as somebody stated it.

    Attributes:
        origin: Where that was, for messages.
        image: Name of the picture in its dataset.
        place: The numbers of a box or of five landmarks, finite.
        identity: Name of a class; None for that of the picture.
    """

    origin: str
    image: str
    place: tuple[float, ...]
    identity: str | None = None

    def square(self, width: int, height: int) -> Square:
        """Find what a recogniser sees of a picture of this size.

        Raises:
            InvalidInput: The box or a landmark lies outside of the picture, or is no face.
        """
        xs, ys = self.place[0::2], self.place[1::2]
        if min(*xs, *ys) < 0 or max(xs) > width or max(ys) > height:
            found = ", ".join(f"{number:g}" for number in self.place)
            msg = (
                f"{self.origin}: the face at {found} lies outside of {self.image}, which is {width} x {height} pixels; "
                "cut the box off at the picture's edge, or state it for the picture at this size."
            )
            raise InvalidInput(msg)
        found_square = self._square()
        if not math.hypot(*found_square[2:]) >= SMALLEST:
            msg = (
                f"{self.origin}: a recogniser would see {math.hypot(*found_square[2:]):.1f} pixels of {self.image} at "
                f"this face, and {SMALLEST} is the least; correct the row, or leave it out."
            )
            raise InvalidInput(msg)
        return found_square

    def _square(self) -> Square:
        try:
            return square_of_box(*self.place) if len(self.place) == len(BOX) else square_of_landmarks(self.place)
        except ValueError as error:
            msg = f"{self.origin}: this is no face of {self.image}: {error}; correct the row, or leave it out."
            raise InvalidInput(msg) from None


def square_of_box(x0: float, y0: float, x1: float, y1: float) -> Square:
    """Return the upright square with the box's centre, and `ENLARGED` times its longer side.

    >>> square_of_box(10, 10, 90, 50)
    (0.0, -20.0, 100.0, 0.0)

    Raises:
        ValueError: The box has no area.
    """
    if not (x0 < x1 and y0 < y1):
        msg = f"a box needs x0 < x1 and y0 < y1, got {x0:g}, {y0:g}, {x1:g}, {y1:g}"
        raise ValueError(msg)
    side = ENLARGED * max(x1 - x0, y1 - y0)
    return (x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, 0.0


def square_of_landmarks(numbers: Sequence[float]) -> Square:
    """Return the square that a similarity transform maps to the crop in which five landmarks lie nearest the template.

    Least squares in the crop (Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point
    Patterns", TPAMI 13, 1991); with points as complex numbers, turning and scaling is one factor.

    Raises:
        ValueError: The points coincide, or are far from any face, as if left and right were exchanged.
    """
    # The template, like landmarks, counts from the centre of the first pixel, squares from its corner.
    points, template = (np.array(values) + (0.5 + 0.5j) for values in (_complex(numbers), TEMPLATE))
    centred, target = points - points.mean(), template - template.mean()
    spread = float((np.abs(centred) ** 2).sum())
    if spread == 0:
        msg = "its landmarks all coincide"
        raise ValueError(msg)
    factor = complex((centred.conj() * target).sum() / spread)
    distance = float(np.sqrt((np.abs(factor * centred - target) ** 2).mean()))
    if distance > FARTHEST:
        msg = "its landmarks are far from where a face has them; left is as the viewer sees it"
        raise ValueError(msg)
    edge = TEMPLATE_SIDE / factor
    corner = complex(points.mean()) - complex(template.mean()) / factor
    return corner.real, corner.imag, edge.real, edge.imag


def read_faces(file: Path) -> list[FaceRow]:
    """Read the rows of a CSV of faces.

    Raises:
        InvalidInput: The file is missing or no such CSV, or a row is incomplete, not of finite numbers, or there twice.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return list(_rows(csv.reader(lines, strict=True), file))
    except OSError as error:
        msg = f"cannot read the faces in {file}: {error.strerror}; expected a CSV file."
        raise InvalidInput(msg) from None
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{file} is no CSV in UTF-8: {error}; save it as one."
        raise InvalidInput(msg) from None


def _rows(lines: Iterator[list[str]], file: Path) -> Iterator[FaceRow]:
    columns = [name.strip() for name in next(lines, [])]
    numbers = _number_columns(columns, file)
    seen: dict[tuple[str, tuple[float, ...]], int] = {}
    for number, cells in enumerate(lines, start=2):
        if not cells:
            continue
        row = _row(columns, cells, numbers, f"line {number} of {file.name}")
        if (first := seen.setdefault((row.image, row.place), number)) != number:
            msg = f"{row.origin}: the same face of {row.image} is in line {first} already; leave one of them out."
            raise InvalidInput(msg)
        yield row


def _number_columns(columns: list[str], file: Path) -> tuple[str, ...]:
    for numbers in (BOX, LANDMARKS):
        if sorted(columns) in (sorted(["image", *numbers]), sorted(["image", *numbers, "identity"])):
            return numbers
    msg = (
        f"{file} needs the columns image, {', '.join(BOX)} for boxes, or image, {', '.join(LANDMARKS)} for landmarks, "
        f"and may have identity; its first line has {', '.join(columns) or 'none'}."
    )
    raise InvalidInput(msg)


def _row(columns: list[str], cells: list[str], numbers: tuple[str, ...], origin: str) -> FaceRow:
    if len(cells) != len(columns):
        msg = f"{origin}: expected {len(columns)} values, got {len(cells)}; correct the row, or leave it out."
        raise InvalidInput(msg)
    given = dict(zip(columns, cells, strict=True))
    place = tuple(_number(given[name], f"{origin}: {name}") for name in numbers)
    return FaceRow(origin, given["image"].strip(), place, given.get("identity", "").strip() or None)


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        msg = f"{what} must be a finite number of pixels, got {text!r}; correct it, or leave the row out."
        raise InvalidInput(msg)
    return number


def window(squares: Sequence[Square], width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the part of a picture that holds squares, with a pixel around them."""
    xs, ys = [], []
    for x, y, across, down in squares:
        xs += [x, x + across, x - down, x + across - down]
        ys += [y, y + down, y + across, y + down + across]
    left, top = (max(0, math.floor(min(values)) - 1) for values in (xs, ys))
    return left, top, min(width, math.ceil(max(xs)) + 1), min(height, math.ceil(max(ys)) + 1)


def _complex(numbers: Sequence[float]) -> list[complex]:
    return [complex(x, y) for x, y in zip(numbers[0::2], numbers[1::2], strict=True)]
