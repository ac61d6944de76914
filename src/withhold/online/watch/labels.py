"""What an arriving image shows: nobody says, its folder says, or a table does."""

import csv
from pathlib import Path
from typing import Protocol

from withhold.errors import InvalidInput

COLUMNS = ("image", "label")


class NoLabelYet(Exception):
    """A table has no row for an image; one may be added."""


class Labels(Protocol):
    """Knows what images show."""

    def of(self, name: str) -> str | None:
        """Return the label of an image by its path in the inbox; None if the surrogate is to decide.

        Raises:
            NoLabelYet: It is not known yet.
        """
        ...


class Unknown:
    """No image's label is known."""

    def of(self, name: str) -> None:
        """Leave it to the surrogate."""


class Folders:
    """The top folder in the inbox names the class; of images outside of folders nothing is known."""

    def of(self, name: str) -> str | None:
        """Return the first folder of a path.

        >>> Folders().of("cat/tabby/1.jpg"), Folders().of("1.jpg")
        ('cat', None)
        """
        folder, slash, _ = name.partition("/")
        return folder if slash else None


class Table:
    """A CSV with a header and the columns `image` and `label`; it is read again whenever it changes.

    Attributes:
        path: Of the file.

    Raises:
        InvalidInput: It cannot be read, lacks a column, or gives an image two labels. While images arrive that is no
            error: what it said before still holds, and the rest waits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version = _version(path)
        self._labels = read_table(path)

    def of(self, name: str) -> str | None:
        """Return the label in an image's row.

        Raises:
            NoLabelYet: It has none, or the table cannot be read just now.
        """
        problem = self._refresh()
        if name in self._labels:
            return self._labels[name]
        raise NoLabelYet(problem or f"{self.path} has no row for it")

    def _refresh(self) -> str:
        try:
            version = _version(self.path)
            if version != self._version:
                self._labels = read_table(self.path)
                self._version = version
        except InvalidInput as error:
            return str(error)
        return ""


def labels_of(given: str) -> Labels:
    """Turn the setting `labels` into what knows them.

    Raises:
        InvalidInput: There is no such table, or it cannot be used.
    """
    if given == "unknown":
        return Unknown()
    return Folders() if given == "folders" else Table(Path(given).expanduser())


def read_table(path: Path) -> dict[str, str]:
    """Read the labels of images from a CSV.

    Raises:
        InvalidInput: As `Table` says.
    """
    labels: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                msg = f"the labels {path} need a header with the columns image and label; missing: {', '.join(missing)}"
                raise InvalidInput(msg)
            for row in rows:
                image, label = row["image"], row["label"]
                if not image or not label:
                    msg = f"{path}, line {rows.line_num}: expected an image and a label"
                    raise InvalidInput(msg)
                if labels.setdefault(image, label) != label:
                    msg = f"{path}, line {rows.line_num}: {image} was {labels[image]!r} before and is now {label!r}"
                    raise InvalidInput(msg)
    except OSError as error:
        msg = f"cannot read the labels {path}: {error.strerror}; give folders, unknown or a CSV"
        raise InvalidInput(msg) from error
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"the labels {path} are no CSV in UTF-8: {error}"
        raise InvalidInput(msg) from error
    return labels


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
