"""The faces of whole photographs as a surrogate is trained on them: aligned, as crafting sees them."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from withhold.craft import AlignedFaces
from withhold.data.arrays import RGB, spread_rows
from withhold.data.dataset import Dataset
from withhold.data.entries import Entries, Rows
from withhold.data.faces import TEMPLATE_SIDE, Face
from withhold.data.parallel import map_ahead
from withhold.data.pixels import Picture
from withhold.networks.choose import Sizes, Views
from withhold.networks.tensor_data import TensorData
from withhold.release.batch import Batch
from withhold.release.face_column import FACES, faces_in
from withhold.release.settings import ProtectSettings
from withhold.release.space import check_room
from withhold.release.training_images import HELD_BYTES

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, eq=False)
class FaceCrops:
    """Aligned faces, each an original of its own.

    Attributes:
        table: Columns of a plan; all images are readable.
        scratch: Folder in which faces that do not fit into memory are kept during training.
    """

    dataset: Dataset
    table: pa.Table
    settings: ProtectSettings
    scratch: Path
    kind: ClassVar[str] = "faces"

    @property
    def classes(self) -> int:
        """Number of identities of the dataset."""
        return len(self.dataset.classes)

    @property
    def sizes(self) -> Sizes:
        """All faces are aligned to one size: what the settings say, or that of the template."""
        side = self.settings.input_size or TEMPLATE_SIDE
        return Sizes(side, side)

    def __len__(self) -> int:
        """Count the faces."""
        return int(self._counts().sum())

    def views(self, input_size: int, augment: str) -> Views:  # noqa: ARG002 - they are aligned to any size
        """Show faces whole."""
        return "native"

    def training(self, input_size: int, views: Views) -> TensorData:  # noqa: ARG002
        """Hold the aligned faces in memory, or in a file that vanishes with them."""
        images, labels = self._crops(input_size)
        return TensorData(images, labels, self.classes)

    def sample(self, input_size: int, views: Views, most: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Align some faces."""
        images, labels = self.some(most)._crops(input_size)
        rows = torch.from_numpy(spread_rows(len(labels), most, random_access=True))
        return images[rows], labels[rows]

    def some(self, most: int) -> "FaceCrops":
        """Keep the faces of some images, spread evenly: `most` of these, or of what there is."""
        rows = self._showing_faces()
        chosen = spread_rows(len(rows), most, random_access=self.dataset.random_access)
        return replace(self, table=self.table.take(rows[chosen]))

    def _counts(self) -> Rows:
        return np.asarray(pc.list_value_length(self.table.column(FACES)).to_numpy(), np.int64)

    def _showing_faces(self) -> Rows:
        return np.flatnonzero(self._counts())

    def _crops(self, side: int) -> tuple[Tensor, Tensor]:
        """Align all faces: (n, 3, side, side), uint8, and their labels (n,)."""
        images = self._room((len(self), side, side, RGB))
        labels: list[int] = []
        for crops, of_crops in map_ahead(lambda pair: _aligned(*pair, side), self._pictures()):
            images[len(labels) : len(labels) + len(crops)] = crops
            labels += of_crops
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)

    def _room(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        size = int(np.prod(shape))
        if size <= HELD_BYTES:
            return np.empty(shape, np.uint8)
        check_room(self.scratch, size)
        with tempfile.TemporaryFile(dir=self.scratch) as file:  # the mapping keeps it until it is gone itself
            return np.memmap(file, np.uint8, "w+", shape=shape)

    def _pictures(self) -> Iterator[tuple[Picture, Sequence[Face]]]:
        with_faces = self.table.take(self._showing_faces())
        stored = self.dataset.read(Entries(with_faces))
        yield from zip(map_ahead(self.dataset.decode, stored), faces_in(with_faces.column(FACES)), strict=True)


def _aligned(picture: Picture, faces: Sequence[Face], side: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Align the faces of one picture: (n, side, side, 3), and their labels."""
    batch = Batch.of([picture], [tuple(faces)], CPU)
    crops = AlignedFaces(batch.faces or (), side).crops(batch.images)
    levels = (crops * np.iinfo(np.uint8).max).round().clamp(0, np.iinfo(np.uint8).max).to(torch.uint8)
    return levels.expand(-1, RGB, -1, -1).permute(0, 2, 3, 1).numpy(), batch.labels.tolist()
