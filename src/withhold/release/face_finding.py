"""Where the faces of a dataset are: stated in a CSV or found by a detector, checked, and kept in the plan."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.arrays import as_it_is, read_arrays
from withhold.data.dataset import Dataset
from withhold.data.entries import Entries, list_entries
from withhold.data.faces import BOX, LANDMARKS, Face, FaceRow, read_faces
from withhold.errors import InvalidInput
from withhold.progress import Reporter
from withhold.release.face_column import column_of
from withhold.release.scan import Labels, check_classes, enumerate_some
from withhold.release.settings import ProtectSettings

Rows = Iterator[Sequence[FaceRow]]


class FaceSource(Protocol):
    """Knows the faces of a dataset's images."""

    fixed: bool
    """Whether it says the same at any time, so that a resumed run can be checked against it."""

    def rows(self, dataset: Dataset, table: pa.Table, reporter: Reporter) -> Rows:
        """Yield the faces of each image of a scan's table; none for what is unreadable."""
        ...


@dataclass(frozen=True, slots=True)
class StatedFaces:
    """Faces of a CSV, by the name of their image."""

    by_image: Mapping[str, Sequence[FaceRow]]
    fixed = True

    def rows(self, dataset: Dataset, table: pa.Table, reporter: Reporter) -> Rows:  # noqa: ARG002 - says all it knows
        """Yield the rows of each image."""
        for name, mode in zip(*(values_of(table, column) for column in ("name", "mode")), strict=True):
            yield self.by_image.get(name, ()) if mode else ()


@dataclass(frozen=True, slots=True)
class DetectedFaces:
    """Faces that a function finds: from an image (h, w, 3), uint8, to boxes (n, 4) or landmarks (n, 10) or (n, 5, 2).

    None means no faces. A box that reaches beyond the image is cut off at its edge. Each face is taken for the identity
    of its image's class.
    """

    path: str
    detect: Callable[[np.ndarray], Any]
    fixed = False

    def rows(self, dataset: Dataset, table: pa.Table, reporter: Reporter) -> Rows:
        """Read every image and yield what the function finds."""
        readable = pc.not_equal(table.column("mode"), pa.scalar(""))
        arrays = read_arrays(dataset, Entries(table.filter(readable)), as_it_is)
        reporter.start("Looking for faces", len(table), "images")
        for name, whole in zip(values_of(table, "name"), readable.to_pylist(), strict=True):
            yield self._found(next(arrays), name) if whole else ()
            reporter.advance()
        reporter.finish()

    def _found(self, image: np.ndarray, name: str) -> list[FaceRow]:
        origin = f"{self.path} on {name}"
        try:
            detected = self.detect(image.copy())
            found = np.atleast_1d(np.asarray([] if detected is None else detected, np.float64))
        except Exception as error:  # the user's code may raise anything
            msg = f"{origin} failed: {type(error).__name__}: {error}"
            raise InvalidInput(msg) from error
        places = found.reshape(len(found), -1) if found.size else np.empty((0, len(BOX)))
        if places.shape[1] not in {len(BOX), len(LANDMARKS)} or not np.isfinite(places).all():
            msg = (
                f"{origin} must return finite boxes (n, 4) as x0, y0, x1, y1, or landmarks (n, 10) or (n, 5, 2); it "
                f"returned an array {found.shape}{'' if np.isfinite(found).all() else ' that is not finite'}."
            )
            raise InvalidInput(msg)
        height, width = image.shape[:2]
        if places.shape[1] == len(BOX):  # landmarks that were moved would turn and scale the crop
            places = places.clip(0, [width, height, width, height])
        return [FaceRow(origin, name, tuple(place)) for place in places.tolist()]


def open_faces(settings: ProtectSettings, dataset: Dataset) -> FaceSource | None:
    """Read the CSV or import the detector that the settings name; None if images are to be seen whole.

    Raises:
        InvalidInput: It is unusable, or the CSV does not fit the dataset's images and classes.
    """
    if settings.detector is not None:
        return DetectedFaces(settings.detector, _imported(settings.detector))
    if settings.faces is None:
        return None
    rows = read_faces(Path(settings.faces).expanduser())
    listing = list_entries(dataset)
    labels = dict(zip(values_of(listing, "name"), values_of(listing, "label"), strict=True))
    unknown = [f"{row.image} ({row.origin})" for row in rows if row.image not in labels]
    if unknown:
        msg = (
            f"{settings.faces} names images that are not in {dataset.root}: {enumerate_some(unknown)}. An image is "
            f"called by its path in it, such as {next(iter(labels), 'anna/1.jpg')}; correct these rows, or remove them."
        )
        raise InvalidInput(msg)
    numbers = _numbers(dataset)
    of_faces = [_label(row, numbers, labels[row.image]) for row in rows]
    check_identities(dataset.classes, np.array(of_faces, np.int32))
    by_image: defaultdict[str, list[FaceRow]] = defaultdict(list)
    for row in rows:
        by_image[row.image].append(row)
    return StatedFaces(by_image)


def find_faces(source: FaceSource, dataset: Dataset, table: pa.Table, reporter: Reporter) -> "pa.Array[Any]":
    """Find the faces of each image of a scan's table, as the plan's column.

    Raises:
        InvalidInput: A face lies outside of its image, or is none.
    """
    columns = (values_of(table, name) for name in ("label", "width", "height"))
    rows = source.rows(dataset, table, reporter)
    numbers = _numbers(dataset)
    return column_of(
        [Face(_label(row, numbers, label), row.square(width, height)) for row in faces]
        for faces, label, width, height in zip(rows, *columns, strict=True)
    )


def check_faceless(faceless: Sequence[str], images: int, settings: ProtectSettings) -> None:
    """Refuse readable images without a face, unless they are to be released as they are.

    Raises:
        InvalidInput: Names them.
    """
    if len(faceless) == images:
        msg = f"none of the {images} images shows a face; correct {settings.faces or settings.detector}."
        raise InvalidInput(msg)
    if faceless and settings.faceless == "refuse":
        msg = (
            f"{len(faceless)} images show no face, and would be released unprotected: {enumerate_some(faceless)}. "
            "State their faces, leave them out of the dataset, or release them as they are with --faceless unchanged."
        )
        raise InvalidInput(msg)


def check_identities(classes: Sequence[str], labels: Labels) -> None:
    """Refuse faces among which a recogniser has nothing to tell apart; see `check_classes`."""
    check_classes(classes, labels, kind="identity", item="face")


def values_of(table: pa.Table, column: str) -> list[Any]:
    """Read a column."""
    values: list[Any] = table.column(column).to_pylist()
    return values


def _numbers(dataset: Dataset) -> dict[str, int]:
    return {name: label for label, name in enumerate(dataset.classes)}


def _label(row: FaceRow, numbers: Mapping[str, int], label: int) -> int:
    if row.identity is None:
        return label
    if row.identity not in numbers:
        msg = (
            f"{row.origin}: {row.identity!r} is no identity of the dataset; identities are its classes: "
            f"{enumerate_some(list(numbers), 5)}. Correct the row, or leave the identity empty for the image's own."
        )
        raise InvalidInput(msg)
    return numbers[row.identity]


def _imported(path: str) -> Callable[[np.ndarray], Any]:
    from withhold.networks.external import function_at  # noqa: PLC0415 - torch when it is needed

    detect: Callable[[np.ndarray], Any] = function_at(path)
    if not callable(detect):
        msg = f"the detector {path!r} is no function; expected module:function, from an image to boxes."
        raise InvalidInput(msg)
    return detect
