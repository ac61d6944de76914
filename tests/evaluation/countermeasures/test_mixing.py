"""Mixup and CutMix: label shares equal pixel shares."""

import pytest
import torch
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.cutmix import CutMix
from withhold.evaluation.countermeasures.mixup import Mixup

from .conftest import CLASSES, SIDE, Seen

COLOURS = torch.eye(8)
"""Image i has the value 1 in channel i alone, so a mixture's channels tell whose pixels it has; so do its targets."""


def painted() -> tuple[Tensor, Tensor]:
    return COLOURS[:, :, None, None].expand(8, 8, SIDE, SIDE), COLOURS


def test_mixup_gives_labels_the_share_of_the_pixels(generator: torch.Generator) -> None:
    images, targets = painted()
    drawn = []
    for _ in range(200):
        mixed, shares = Mixup().mix(images, targets, generator)
        torch.testing.assert_close(mixed, shares[:, :, None, None].expand_as(mixed))
        torch.testing.assert_close(shares.sum(1), torch.ones(8))
        # Of each image's own share there is one per batch, wherever it is not mixed with itself.
        own = shares.diagonal()
        (share,) = torch.unique(own[own < 1 - 1e-6]).tolist() or (1.0,)
        drawn.append(share)
    # Beta(1, 1) is uniform: mean 1/2, deviation 1/sqrt(12).
    assert torch.tensor(drawn).mean().item() == pytest.approx(0.5, abs=0.06)
    assert torch.tensor(drawn).std().item() == pytest.approx(12**-0.5, abs=0.03)


def test_cutmix_gives_labels_the_share_of_the_pixels(generator: torch.Generator) -> None:
    images, targets = painted()
    changed = 0
    for _ in range(400):
        mixed, shares = CutMix().mix(images, targets, generator)
        # A pixel comes from one image as a whole.
        assert torch.equal(mixed.sum(1), torch.ones(8, SIDE, SIDE))
        assert set(torch.unique(mixed).tolist()) == {0.0, 1.0}
        torch.testing.assert_close(shares, mixed.mean((2, 3)))
        changed += int(not torch.equal(mixed, images))
    assert 0.4 < changed / 400 < 0.55  # half of the batches, less those whose box is empty


def test_cutmix_pastes_a_box(generator: torch.Generator) -> None:
    images, targets = painted()
    for _ in range(50):
        mixed, _ = CutMix(probability=1).mix(images, targets, generator)
        own = mixed[torch.arange(8), torch.arange(8)] == 1
        for pasted in ~own:
            rows, columns = pasted.any(1), pasted.any(0)
            assert torch.equal(pasted, rows[:, None] & columns)
            for line in (rows, columns):
                assert int(line.int().diff().abs().sum()) <= 2


def test_a_given_batch_is_not_written_into(generator: torch.Generator) -> None:
    images, targets = painted()
    images = images.clone()
    for _ in range(10):
        CutMix(probability=1).mix(images, targets, generator)
        Mixup().mix(images, targets, generator)
    assert torch.equal(images, painted()[0])
    assert torch.equal(targets, torch.eye(8))


@pytest.mark.parametrize("countermeasure", [Mixup(), CutMix()])
def test_training_gets_shares_of_all_classes(seen: Seen, countermeasure: Mixup | CutMix) -> None:
    batches = list(seen(countermeasure).epoch(8, torch.Generator().manual_seed(0)))
    for images, targets in batches:
        assert images.shape == (8, 3, SIDE, SIDE)
        assert targets.shape == (8, CLASSES)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert any(targets.max() < 1 - 1e-3 or (targets.max(1).values < 1 - 1e-3).any() for _, targets in batches)


def test_impossible_parameters_are_refused() -> None:
    for make in (lambda: Mixup(alpha=0), lambda: CutMix(beta=-1)):
        with pytest.raises(InvalidInput, match="alpha above 0"):
            make()
    with pytest.raises(InvalidInput, match="probability"):
        CutMix(probability=1.5)
