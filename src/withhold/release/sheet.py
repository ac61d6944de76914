"""Draws before-and-after sheets: a row per image; columns for the original, its versions, and the changes magnified."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from withhold.data.drawing import PAPER, WHITE, difference, shown
from withhold.data.pixels import Picture, change
from withhold.data.quality import psnr

CELL = 256
GAP = 14
MARGIN = 24
TEXT = 14
HEAD = 19
INK, FAINT, MARK = (20, 20, 20), (110, 110, 110), (230, 40, 40)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One image of a sheet: its name, its original, and the same picture in every version, equal in size."""

    name: str
    original: Picture
    versions: Sequence[Picture]


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One picture of a row with the lines of text beneath it."""

    image: Image.Image
    lines: Sequence[str]


def draw_sheet(titles: Sequence[str], rows: Sequence[Row], magnify: float) -> Image.Image:
    """Draw the sheet.

    Args:
        titles: One per version.
        rows: Each with as many versions as there are titles.
        magnify: Factor on the differences, of which zero is drawn mid grey.
    """
    heads = ["Original"]
    for title in titles:
        heads += [title, f"Difference x {magnify:g}"]
    table = [_cells(row, magnify) for row in rows]
    heights = [max(cell.image.height for cell in cells) + 2 * (TEXT + 5) + GAP for cells in table]
    width = 2 * MARGIN + len(heads) * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + HEAD + GAP + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        _write(draw, (MARGIN + column * (CELL + GAP), MARGIN), head, HEAD, INK)
    top = MARGIN + HEAD + GAP
    for cells, height in zip(table, heights, strict=True):
        for column, cell in enumerate(cells):
            left = MARGIN + column * (CELL + GAP)
            sheet.paste(cell.image, (left, top))
            for index, line in enumerate(cell.lines):
                place = (left, top + cell.image.height + 5 + index * (TEXT + 4))
                _write(draw, place, line, TEXT, FAINT if index else INK)
        top += height
    return sheet


def _cells(row: Row, magnify: float) -> list[Cell]:
    before = shown(row.original)
    height, width = row.original.levels.shape[:2]
    cells = [Cell(_framed(before, smooth=True), [row.name, f"{width} x {height} {_view(before)}"])]
    for version in row.versions:
        largest = float(change(row.original, version).max())
        released = _framed(shown(version), smooth=True)
        changes = _framed(difference(row.original, version, magnify), smooth=False)
        cells.append(
            Cell(released, [f"largest change {largest:g}/{WHITE}", f"PSNR {psnr(row.original, version):.1f} dB"])
        )
        cells.append(Cell(changes, ["mid grey: no change"]))
    return cells


def _view(image: Image.Image) -> str:
    scale = CELL // max(image.size)
    if scale == 0:
        return "pixels; below: square at 1:1"
    return "pixels" if scale == 1 else f"pixels, enlarged {scale} times"


def _framed(image: Image.Image, *, smooth: bool) -> Image.Image:
    """Fit an image into a cell: small ones enlarged by a whole factor, large ones whole and, below, their middle.

    Differences are reduced by picking pixels, as averaging would make them vanish from the view.
    """
    scale = CELL // max(image.size)
    if scale:
        return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    whole = image.copy()
    whole.thumbnail((CELL, CELL), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST, reducing_gap=None)
    side = (min(CELL, image.width), min(CELL, image.height))
    left, top = (image.width - side[0]) // 2, (image.height - side[1]) // 2
    box = (left, top, left + side[0], top + side[1])
    ratio = whole.width / image.width
    ImageDraw.Draw(whole).rectangle([round(edge * ratio) for edge in box], outline=MARK)
    framed = Image.new("RGB", (CELL, whole.height + GAP // 2 + side[1]), PAPER)
    framed.paste(whole, (0, 0))
    framed.paste(image.crop(box), (0, whole.height + GAP // 2))
    return framed


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: tuple[int, int, int]
) -> None:
    """Write one line, with its middle left out where it is too long for a cell."""
    font = ImageFont.load_default(size)
    kept = len(text)
    line = text
    while draw.textlength(line, font) > CELL and kept > 2:  # noqa: PLR2004 - one character at each end
        kept -= 1
        line = f"{text[: kept // 2]}...{text[-(kept - kept // 2) :]}"
    draw.text(place, line, fill=colour, font=font)
