"""Results of cells on disk: one JSON file each, written whole or not at all, reused only for an equal configuration."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from withhold.data.atomic import write_atomic
from withhold.errors import InvalidInput
from withhold.evaluation.results import Cell, CellResult


class Named(Protocol):
    """A cell, as far as storing its result goes."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the parts of a result file's name."""
        ...


NamedCell = TypeVar("NamedCell", bound=Named)
NamedCell_co = TypeVar("NamedCell_co", bound=Named, covariant=True)


class Result(Protocol[NamedCell_co]):
    """What a cell gave, with the configuration that gave it: a dataclass of JSON values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def cell(self) -> NamedCell_co:
        """Name the cell."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """Give everything that the outcome depends on."""
        ...


AnyResult = TypeVar("AnyResult", bound=Result[Any])


class ResultFiles(Generic[NamedCell, AnyResult]):
    """A folder of results.

    A result's file is named for its cell and its configuration, so that results of other settings, data or versions
    stay beside it and are never taken for it.

    Args:
        kind: Of the results.
    """

    def __init__(self, folder: Path, kind: type[AnyResult]) -> None:
        self.folder = folder
        self._kind: TypeAdapter[AnyResult] = TypeAdapter(kind)

    def load(self, cell: NamedCell, config: dict[str, Any]) -> AnyResult | None:
        """Return the stored result of a configuration, or None.

        Raises:
            InvalidInput: The file is damaged or holds another configuration than its name says.
        """
        path = self.path(cell, config)
        try:
            result = self._kind.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            msg = (
                f"{path} is no result of this program: {str(error).splitlines()[0]}; remove it to train that cell again"
            )
            raise InvalidInput(msg) from error
        if canonical(result.config) != canonical(config):
            msg = f"{path} was changed: its configuration is not the one its name stands for; remove it"
            raise InvalidInput(msg)
        return result

    def save(self, result: AnyResult) -> Path:
        """Write a result; afterwards the file is whole, whatever happens."""
        path = self.path(result.cell, result.config)
        write_atomic(path, json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False).encode())
        return path

    def path(self, cell: NamedCell, config: dict[str, Any]) -> Path:
        """Name the file of a configuration."""
        return self.folder / f"{file_stem(cell, config)}.json"


class Store(ResultFiles[Cell, CellResult]):
    """Results of competitors that train classifiers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CellResult)


def file_stem(cell: Named, config: dict[str, Any]) -> str:
    """Name a file for a cell and its configuration, without a suffix."""
    digest = hashlib.sha256(canonical(config).encode()).hexdigest()[:12]
    return ".".join(re.sub(r"[^\w-]+", "_", part) for part in (*cell.parts, digest))


def canonical(config: dict[str, Any]) -> str:
    """Write a configuration so that equal ones are equal texts."""
    return json.dumps(config, sort_keys=True, ensure_ascii=False, allow_nan=False)
