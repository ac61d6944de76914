"""The plan of a run: which images form which batch, fixed before work begins, so that a run can be resumed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from withhold.data.dataset import Dataset
from withhold.data.entries import Entries, Rows, codes_of, moved_up, released_names
from withhold.data.faces import window
from withhold.release.crafting import Shown
from withhold.release.environment import Environment
from withhold.release.face_column import FACES, faces_in
from withhold.release.scan import Scan
from withhold.release.settings import ProtectSettings
from withhold.seeds import derive_seed
from withhold.version import __version__

NEIGHBOURS = 4096
"""Images of one shard that are shuffled together where only neighbours are cheap to read."""

PIXELS_PER_BATCH = 1 << 24
"""Most pixels in a batch, padding included: 200 MB of float32 perturbations in three channels."""

SKIPPED = -1
"""Batch number of an image that is left out because it cannot be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a run will do.

    Attributes:
        table: One row per source image in the dataset's order, with the columns name, released_name, label, shard, row,
            split, width, height, mode, sha256, batch, each in one piece. Skipped images have batch -1. Where faces in
            photographs are known, a column faces lists those of each.
        classes: Names of the classes.
        layout: Layout of source and release.
        settings: What the user chose, as plain JSON values.
        environment: Where the run began to compute.
        surrogate: Fingerprint of the weights that the caller brought along; None if there are none.
        version: Version of Withhold that made the plan.
    """

    table: pa.Table
    classes: tuple[str, ...]
    layout: str
    settings: dict[str, Any]
    environment: Environment
    surrogate: str | None = None
    version: str = __version__

    @property
    def batches(self) -> int:
        """Count the batches."""
        return int(self._batch.max(initial=SKIPPED)) + 1

    @property
    def _batch(self) -> npt.NDArray[np.int32]:
        return np.asarray(self.table.column("batch").to_numpy())

    @property
    def images(self) -> int:
        """Count the images that will be released."""
        return int(np.count_nonzero(self._batch != SKIPPED))

    def kept(self, *columns: str) -> pa.Table:
        """Select the rows of the images that will be released, in the dataset's order, and of these some columns.

        Args:
            columns: All if none is named. They are copied only if images are left out.
        """
        table = self.table.select(columns) if columns else self.table
        return table if self.images == len(table) else table.filter(pa.array(self._batch != SKIPPED))

    def released(self) -> Entries:
        """List the images that will be released, in the dataset's order."""
        return Entries(self.table, np.flatnonzero(self._batch != SKIPPED))

    @property
    def of_faces(self) -> bool:
        """Whether faces in photographs are known, and nothing else is to be changed."""
        return FACES in self.table.column_names

    def shown(self, rows: Rows) -> list[Shown]:
        """Say what these images show: each its class, or its faces."""
        if self.of_faces:
            return list(faces_in(self.table.column(FACES).take(rows)))
        labels: list[Shown] = self.table.column("label").to_numpy()[rows].tolist()
        return labels

    def labels(self) -> npt.NDArray[np.int32]:
        """List the class of everything that will be released and a competitor could learn from: images, or faces."""
        if not self.of_faces:
            return np.asarray(self.kept("label").column("label").to_numpy(), np.int32)
        kept = self.kept(FACES)
        return np.array([face.label for faces in faces_in(kept.column(FACES)) for face in faces], np.int32)

    def faceless(self) -> list[str]:
        """Give the released names of the images that will be released unchanged, as they show no face; sorted."""
        if not self.of_faces:
            return []
        kept = self.kept(FACES, "released_name")
        without = pa.array([not faces for faces in faces_in(kept.column(FACES))], pa.bool_())
        return sorted(map(str, kept.column("released_name").filter(without).to_pylist()))

    def skipped(self) -> list[str]:
        """Name the images that are left out."""
        names = self.table.column("name").filter(pa.array(self._batch == SKIPPED)).to_pylist()
        return [str(name) for name in names]

    def images_of_batches(self) -> Rows:
        """Count the images of each batch."""
        return np.bincount(self._batch[self._batch != SKIPPED], minlength=self.batches)

    def rows_of_batches(self) -> list[Rows]:
        """List the row numbers of each batch; both the batches and the rows within one are in ascending order."""
        order = np.argsort(self._batch, kind="stable")
        starts = np.searchsorted(self._batch[order], np.arange(self.batches + 1))
        return [order[start:end] for start, end in pairwise(starts)]


def settings_that_matter(settings: ProtectSettings) -> dict[str, Any]:
    """Give the settings that change the release, as JSON values; the device is kept as its type, in the environment."""
    return settings.model_dump(mode="json", exclude={"device"})


def make_plan(
    dataset: Dataset,
    scan: Scan,
    settings: ProtectSettings,
    surrogate: str | None,
    environment: Environment,
    *,
    faces: "pa.Array[Any] | None" = None,
) -> Plan:
    """Assign every readable image to a batch.

    Images of a batch have equal channel counts and equal or similar sizes. They are drawn at random from the whole set,
    or from neighbours within a shard where only those are cheap to read. The draw depends on nothing but the listing,
    the sizes, the batch size and the seed.

    Args:
        faces: Those of each image of the scan, see `face_column`; None if images are to be seen whole.
    """
    table = scan.table if faces is None else scan.table.append_column(FACES, faces)
    batch = assign_batches(_sizes_to_craft(table), settings.batch_size, settings.seed, anywhere=dataset.random_access)
    names = moved_up(table, released_names(dataset, Entries(table), settings.lossless), batch != SKIPPED)
    table = table.add_column(1, "released_name", names)
    table = table.append_column("batch", pa.array(batch))
    return Plan(table, tuple(dataset.classes), dataset.layout, settings_that_matter(settings), environment, surrogate)


def assign_batches(table: pa.Table, batch_size: int, seed: int, *, anywhere: bool) -> npt.NDArray[np.int32]:
    """Number each row's batch; rows without a mode get `SKIPPED`.

    Args:
        table: Columns shard, width, height, mode.
        batch_size: Most images in a batch; fewer where `PIXELS_PER_BATCH` says so.
        anywhere: Whether a batch may join images from all over the set.
    """
    modes, mode = codes_of(table.column("mode"))
    readable = np.flatnonzero(np.array([each != "" for each in modes], bool)[mode])
    colour = np.array([each.startswith("RGB") for each in modes], bool)[mode]
    width, height = (table.column(name).to_numpy() for name in ("width", "height"))
    window = np.zeros(len(mode), np.int32) if anywhere else _windows(table.column("shard"))
    size = _size_class(width, height, colour, batch_size)
    batch = np.full(len(mode), SKIPPED, np.int32)
    shuffle = np.random.default_rng(derive_seed(seed, "plan"))
    number = 0
    for group in _groups(readable, window, colour, size):
        padded = int(width[group].max()) * int(height[group].max())
        limit = max(1, min(batch_size, PIXELS_PER_BATCH // padded))
        # Batches of nearly equal size: a rest of a few images would be crafted under other conditions than the others.
        for part in np.array_split(shuffle.permutation(group), -(-len(group) // limit)):
            batch[part] = number
            number += 1
    return batch


def _sizes_to_craft(table: pa.Table) -> pa.Table:
    """Replace the sizes of images with faces by those of the windows that hold the faces.

    An image without any face counts as a single pixel, so that such images form batches of their own.
    """
    if FACES not in table.column_names:
        return table
    sizes = []
    rows = zip(*(table.column(name).to_pylist() for name in ("width", "height")), strict=True)
    for (width, height), faces in zip(rows, faces_in(table.column(FACES)), strict=True):
        left, top, right, bottom = window([face.square for face in faces], width, height) if faces else (0, 0, 1, 1)
        sizes.append((right - left, bottom - top))
    for name, values in zip(("width", "height"), zip(*sizes, strict=True), strict=True):
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.int32()))
    return table


def _windows(shard: "pa.ChunkedArray[Any]") -> npt.NDArray[np.int32]:
    """Number windows of at most `NEIGHBOURS` consecutive rows of one shard, of nearly equal length."""
    _, codes = codes_of(shard)
    window = np.empty(len(codes), np.int32)
    number = 0
    for rows in np.split(window, np.flatnonzero(codes[1:] != codes[:-1]) + 1):
        for part in np.array_split(rows, -(-len(rows) // NEIGHBOURS)):
            part[...] = number  # a view of the whole
            number += 1
    return window


def _size_class(
    width: npt.NDArray[np.int32], height: npt.NDArray[np.int32], colour: npt.NDArray[np.bool_], batch_size: int
) -> npt.NDArray[np.int32]:
    """Number the sizes: one that fills batches by itself stands alone, all others go by the octaves of their sides.

    Pictures of a batch are padded to a common size for crafting; similar sides keep that cheap.
    """
    packed = (width.astype(np.int64) << 32 | height.astype(np.int64) << 1) | colour
    encoded: Any = pa.array(packed).dictionary_encode()
    sizes, size = encoded.dictionary.to_numpy(), encoded.indices.to_numpy()
    octaves = np.log2(np.maximum([sizes >> 32, (sizes & 0xFFFFFFFF) >> 1], 1)).astype(np.int64)
    octave = octaves[0] * 64 + octaves[1]
    alone = np.argsort(np.argsort(sizes)) + octave.max(initial=0) + 1
    count = np.bincount(size, minlength=len(sizes))
    return np.asarray(np.where(count >= batch_size, alone, octave).astype(np.int32)[size])


def _groups(rows: Rows, *keys: npt.NDArray[Any]) -> Sequence[Rows]:
    """Split rows by equal keys, the first key being the major one; rows stay in order within a group."""
    if not len(rows):
        return []
    ordered = rows[np.lexsort([key[rows] for key in reversed(keys)])]
    border = np.zeros(len(rows) - 1, bool)
    for key in keys:
        border |= np.diff(key[ordered]) != 0
    return np.split(ordered, np.flatnonzero(border) + 1)
