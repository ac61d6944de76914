"""Results of cells on disk: one JSON file each, written whole or not at all, reused only for an equal configuration."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from withhold.data.atomic import write_atomic
from withhold.errors import InvalidInput
from withhold.evaluation.results import Cell, CellResult

RESULT = TypeAdapter(CellResult)


class Store:
    """A folder of results.

    A result's file is named for its cell and its configuration, so that results of other settings, data or versions
    stay beside it and are never taken for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, cell: Cell, config: dict[str, Any]) -> CellResult | None:
        """Return the stored result of a configuration, or None.

        Raises:
            InvalidInput: The file is damaged or holds another configuration than its name says.
        """
        path = self.path(cell, config)
        try:
            result = RESULT.validate_json(path.read_bytes())
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

    def save(self, result: CellResult) -> Path:
        """Write a result; afterwards the file is whole, whatever happens."""
        path = self.path(result.cell, result.config)
        write_atomic(path, json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False).encode())
        return path

    def path(self, cell: Cell, config: dict[str, Any]) -> Path:
        """Name the file of a configuration."""
        digest = hashlib.sha256(canonical(config).encode()).hexdigest()[:12]
        parts = (cell.material, cell.countermeasure, cell.network, f"seed{cell.seed}", digest)
        return self.folder / (".".join(re.sub(r"[^\w-]+", "_", part) for part in parts) + ".json")


def canonical(config: dict[str, Any]) -> str:
    """Write a configuration so that equal ones are equal texts."""
    return json.dumps(config, sort_keys=True, ensure_ascii=False, allow_nan=False)
