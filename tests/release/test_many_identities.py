"""Thousands of identities: crafting takes memory for a few copies of the surrogate, not for one of each identity."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.release.fakes import class_folders, settings
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier
from withhold.networks.table import build
from withhold.release import crafter, surrogate
from withhold.release.crafter import DIRECTION_BYTES, EVERY_CLASS, Labelled, check_directions, prepare_crafter
from withhold.release.dry_run import dry_run
from withhold.release.run import protect

PICTURES = [Picture(np.random.default_rng(index).integers(0, 255, (16, 16, 3), np.uint8)) for index in range(4)]


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, measures the most bytes that tensors made meanwhile take at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: object = None
    ) -> Any:  # noqa: ANN401 - whatever the operation returns
        made = func(*args, **cast("dict[str, Any]", kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in args if isinstance(tensor, Tensor)}

        def note(tensor: Tensor) -> None:
            storage = tensor.untyped_storage()
            if storage._cdata not in given:
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]

        tree_map_only(Tensor, note, made)
        alive = {key: one for key, one in self._live.items() if not one[0].expired()}  # type: ignore[no-untyped-call]
        self._live = alive
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return made


def recogniser(identities: int) -> Classifier:
    return build("iresnet10-narrow", identities, input_size=16, head="cosface").eval()


def all_of(identities: int) -> Callable[[int], list[Labelled]]:
    def labelled(key: int) -> list[Labelled]:
        assert key == EVERY_CLASS
        return [(PICTURES, [0, 1, identities // 2, identities - 1])]

    return labelled


def peak_of(identities: int) -> tuple[int, int]:
    """Most bytes while preparing and crafting by alignment with the dataset's direction, and bytes of the surrogate."""
    network, chosen = recogniser(identities), settings(objective="alignment", direction="dataset", steps=2)
    with LiveBytes() as measured:
        prepared = prepare_crafter([network], chosen, all_of(identities), present=range(identities))
        crafted = prepared(PICTURES, [0, 1, identities // 2, identities - 1], seed=0)
    assert np.isfinite(crafted.losses).all()
    return measured.peak, sum(parameter.nbytes for parameter in network.parameters())


def test_alignment_over_five_thousand_identities_takes_a_few_copies_of_the_surrogate() -> None:
    (few, small), (many, large) = peak_of(1000), peak_of(5000)
    assert many < 10 * large
    assert many - few < 10 * (large - small)


def test_the_measurement_notices_a_copy_for_each_of_many() -> None:
    with LiveBytes() as measured:
        copies = [torch.zeros(1000) for _ in range(50)]
        torch.zeros(1000)
    assert len(copies) * 4000 <= measured.peak <= (len(copies) + 1) * 4000


def test_a_direction_for_each_of_many_identities_is_refused_before_any_is_made() -> None:
    def never(_: int) -> list[Labelled]:
        raise AssertionError("no direction was to be computed")

    chosen = settings(objective="alignment", direction="class")
    with pytest.raises(InvalidInput, match=r"each of 5,000 classes would take .* choose --direction dataset or batch"):
        prepare_crafter([recogniser(5000)], chosen, never, present=range(5000))


@pytest.mark.parametrize("chosen", [{"direction": "class"}, {"objective": "alignment", "direction": "dataset"}])
def test_nothing_is_refused_that_keeps_no_direction_for_each_class(chosen: dict[str, str]) -> None:
    check_directions(settings(**chosen), recogniser(5000), 5000, 9)


def test_the_limit_counts_classes_and_snapshots() -> None:
    network, chosen = recogniser(10), settings(objective="alignment", direction="class")
    size = sum(parameter.nbytes for parameter in network.parameters())
    fitting = DIRECTION_BYTES // size
    check_directions(chosen, network, fitting, 1)
    check_directions(chosen, network, fitting // 2, 2)
    for classes, networks in [(fitting + 1, 1), (fitting // 2 + 1, 2)]:
        with pytest.raises(InvalidInput, match="GiB"):
            check_directions(chosen, network, classes, networks)


def test_a_run_refuses_directions_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crafter, "DIRECTION_BYTES", 1000)
    monkeypatch.setattr(surrogate, "train", None)
    source, chosen = class_folders(tmp_path / "photos"), settings(objective="alignment", direction="class")
    for start in (protect, dry_run):
        with pytest.raises(InvalidInput, match="a direction for each of 3 classes"):
            start(source, tmp_path / "out", chosen)
