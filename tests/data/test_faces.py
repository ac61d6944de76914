"""The CSV of faces and the squares that recognisers see: known transforms, an independent fit, refused rows."""

import math
from pathlib import Path

import numpy as np
import pytest

from withhold.data.faces import (
    BOX,
    FARTHEST,
    LANDMARKS,
    TEMPLATE,
    FaceRow,
    read_faces,
    square_of_box,
    square_of_landmarks,
    window,
)
from withhold.errors import InvalidInput


def numbers(points: list[complex]) -> list[float]:
    return [coordinate for point in points for coordinate in (point.real, point.imag)]


def test_landmarks_as_in_the_template_give_the_aligned_crop_itself() -> None:
    assert square_of_landmarks(numbers(list(TEMPLATE))) == pytest.approx((0, 0, 112, 0), abs=1e-9)


@pytest.mark.parametrize(("scale", "angle"), [(0.4, 0.0), (2.5, 0.4), (1.0, -2.0)])
def test_a_turned_and_scaled_face_is_found_where_it_is(scale: float, angle: float) -> None:
    """A landmark p of the template lies at factor * p + shift in the photograph, counted from centres of pixels."""
    factor, shift = scale * complex(math.cos(angle), math.sin(angle)), 300 + 200j
    square = square_of_landmarks(numbers([factor * point + shift for point in TEMPLATE]))
    corner = factor * (-0.5 - 0.5j) + shift + (0.5 + 0.5j)
    edge = 112 * factor
    assert square == pytest.approx((corner.real, corner.imag, edge.real, edge.imag))


def test_the_fit_is_scikit_images_similarity_transform() -> None:
    transform = pytest.importorskip("skimage.transform")
    points = np.array([(p.real, p.imag) for p in TEMPLATE]) * 1.7 + np.random.default_rng(0).normal(30, 6, (5, 2))
    template = np.array([(p.real, p.imag) for p in TEMPLATE])
    found = transform.SimilarityTransform()
    if hasattr(transform.SimilarityTransform, "from_estimate"):
        found = transform.SimilarityTransform.from_estimate(points, template)
    else:
        found.estimate(points, template)
    corners = found.inverse(np.array([(-0.5, -0.5), (111.5, -0.5)])) + 0.5
    x, y, across, down = square_of_landmarks(points.flatten().tolist())
    assert (x, y) == pytest.approx(tuple(corners[0]))
    assert (x + across, y + down) == pytest.approx(tuple(corners[1]))


def test_exchanged_eyes_are_no_face_and_a_profile_is_one() -> None:
    left_eye, right_eye, nose, left_mouth, right_mouth = TEMPLATE
    with pytest.raises(ValueError, match="left is as the viewer sees it"):
        square_of_landmarks(numbers([right_eye, left_eye, nose, right_mouth, left_mouth]))
    profile = [complex(56 + (point.real - 56) / 5, point.imag) for point in TEMPLATE]
    assert math.hypot(*square_of_landmarks(numbers(profile))[2:]) == pytest.approx(112, rel=0.5)
    assert FARTHEST < 22
    with pytest.raises(ValueError, match="coincide"):
        square_of_landmarks([5.0] * 10)


def test_a_box_is_enlarged_to_a_square_around_its_centre() -> None:
    assert square_of_box(40, 20, 80, 100) == (10, 10, 100, 0)
    with pytest.raises(ValueError, match="x0 < x1"):
        square_of_box(80, 20, 40, 100)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, 2.5, -1.0])
def test_the_window_holds_every_corner_and_stays_in_the_picture(angle: float) -> None:
    across, down = 20 * math.cos(angle), 20 * math.sin(angle)
    corners = [complex(40, 50) + t * complex(across, down) + u * complex(-down, across) for t in (0, 1) for u in (0, 1)]
    left, top, right, bottom = window([(40, 50, across, down)], 200, 200)
    for corner in corners:
        assert left <= corner.real - 1 < corner.real + 1 <= right
        assert top <= corner.imag - 1 < corner.imag + 1 <= bottom
    assert max(right - left, bottom - top) <= 20 * math.sqrt(2) + 4
    assert window([(-5, -5, 20, 0), (90, 90, 20, 0)], 100, 95) == (0, 0, 100, 95)


def written(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "faces.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_rows_are_read_in_any_order_of_columns(tmp_path: Path) -> None:
    file = written(tmp_path, "identity,image,x0,x1,y0,y1", "ann,a/1.jpg,1,20,2,30", "", ",b/2.jpg,0.5,9,3,8")
    assert read_faces(file) == [
        FaceRow("line 2 of faces.csv", "a/1.jpg", (1, 2, 20, 30), "ann"),
        FaceRow("line 4 of faces.csv", "b/2.jpg", (0.5, 3, 9, 8), None),
    ]
    landmarks = written(tmp_path, f"\ufeffimage,{','.join(LANDMARKS)}", "a.jpg,1,2,3,4,5,6,7,8,9,10")
    assert read_faces(landmarks)[0].place == tuple(range(1, 11))


HEADER = f"image,{','.join(BOX)}"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "its first line has none"),
        (["image,x0,y0,x1"], "needs the columns image, x0, y0, x1, y1"),
        ([f"{HEADER},identitiy"], "first line has image, x0, y0, x1, y1, identitiy"),
        ([HEADER, "a.jpg,1,2,3"], "line 2 of faces.csv: expected 5 values, got 4"),
        ([HEADER, "a.jpg,1,2,3,4,5"], "expected 5 values, got 6"),
        ([HEADER, "a.jpg,1,2,3,four"], "line 2 of faces.csv: y1 must be a finite number of pixels, got 'four'"),
        ([HEADER, "a.jpg,1,nan,3,4"], "y0 must be a finite number of pixels, got 'nan'"),
        ([HEADER, "a.jpg,1,2,inf,4"], "x1 must be a finite number of pixels, got 'inf'"),
        ([HEADER, "a.jpg,1,2,,4"], "x1 must be a finite number of pixels, got ''"),
        ([HEADER, "a.jpg,1,2,3,4", "b.jpg,1,2,3,4", "a.jpg,1.0,2,3,4"], "line 4 .* the same face .* in line 2 already"),
        ([HEADER, 'a.jpg,"1,2,3,4'], "is no CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_of_the_mistake(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_faces(written(tmp_path, *lines))


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read the faces in .*none\.csv: No such file"):
        read_faces(tmp_path / "none.csv")
    (tmp_path / "faces.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InvalidInput, match="is no CSV in UTF-8"):
        read_faces(tmp_path / "faces.csv")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((10, 10, 101, 50), r"lies outside of a\.jpg, which is 100 x 60 pixels"),
        ((10, -1, 50, 50), "lies outside"),
        ((50, 10, 10, 50), "a box needs x0 < x1"),
        ((10, 10, 12, 12), "would see 2.5 pixels"),
        ((5.0,) * 10, "its landmarks all coincide"),
    ],
)
def test_a_place_that_is_no_face_of_the_picture_is_refused(place: tuple[float, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        FaceRow("line 2", "a.jpg", place).square(100, 60)


def test_a_row_of_landmarks_gives_their_square() -> None:
    place = tuple(numbers([2 * point + (10 + 20j) for point in TEMPLATE]))
    square = FaceRow("line 2", "a.jpg", place).square(300, 300)
    assert square == pytest.approx(square_of_landmarks(place))
    assert square[2:] == pytest.approx((224, 0))
