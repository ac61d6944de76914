from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor, Labelled
from withhold.evaluation.countermeasures import ueraser
from withhold.evaluation.countermeasures.batches import ChangedBatches
from withhold.evaluation.countermeasures.ueraser import UEraserLite, UEraserMax, Views, worst

from .conftest import CLASSES, MakeCompetitor, Seen, tiny_network


def test_the_worst_view_is_the_one_with_the_highest_loss(batch: Tensor, generator: torch.Generator) -> None:
    network = tiny_network().train()
    labels = torch.arange(32) % CLASSES
    candidates = [torch.rand(batch.shape, generator=generator) for _ in range(5)]
    chosen = worst(candidates, labels, network)
    assert network.training
    network.eval()
    picks = []
    for number, label in enumerate(labels):
        losses = [float(-network(each[number : number + 1]).detach().log_softmax(1)[0, label]) for each in candidates]
        pick = max(range(5), key=losses.__getitem__)
        assert torch.equal(chosen[number], candidates[pick][number])
        picks.append(pick)
    assert len(set(picks)) > 1  # not one view for the whole batch


def test_shares_as_targets_are_judged_by_their_own_loss(batch: Tensor, generator: torch.Generator) -> None:
    network = tiny_network().eval()
    targets = torch.rand(32, CLASSES, generator=generator).softmax(1)
    candidates = [batch, 1 - batch]
    losses = torch.stack([F.cross_entropy(network(each), targets, reduction="none") for each in candidates])
    expected = torch.where((losses[1] > losses[0])[:, None, None, None], candidates[1], candidates[0])
    assert torch.equal(worst(candidates, targets, network), expected)


def test_looking_for_the_worst_view_changes_nothing_in_the_network(batch: Tensor) -> None:
    network = tiny_network().train()
    network[0].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    worst([batch, 1 - batch], torch.zeros(32, dtype=torch.long), network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network] == [False, True, True, True, True, True]
    assert all(parameter.grad is None for parameter in network.parameters())


class Brightness(nn.Module):
    """Sees brightness alone; the brighter an image, the surer of the last class."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(4.0))

    def forward(self, images: Tensor) -> Tensor:
        logit = self.slope * images.mean((1, 2, 3))
        return F.pad(logit[:, None], (CLASSES - 1, 0))


def test_max_trains_on_the_worst_of_the_views_it_drew_under_the_network_in_training(
    photographs: Labelled, make_competitor: MakeCompetitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []
    draw = Views.__call__

    def noting(self: Views, images: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(draw(self, images, generator))
        return drawn[-1]

    passed: list[tuple[Tensor, Tensor]] = []

    def catch(self: Competitor, data: ChangedBatches, **_: object) -> nn.Module:
        passed.extend(data.epoch(32, self.generator("test")))
        return self.network

    monkeypatch.setattr(Views, "__call__", noting)
    monkeypatch.setattr(Competitor, "train", catch)
    UEraserMax(views=3)(photographs.images, photographs.labels, make_competitor(Brightness()))
    ((images, labels),) = passed
    assert len(drawn) == 3
    brightness = torch.stack(drawn).mean((2, 3, 4))
    # The loss of the last class falls with brightness, that of the others rises.
    pick = torch.where(labels == CLASSES - 1, brightness.argmin(0), brightness.argmax(0))
    torch.testing.assert_close(images, torch.stack(drawn)[pick, torch.arange(32)])


def test_views_are_valid_and_follow_from_the_generator_alone(batch: Tensor) -> None:
    for jpeg in (False, True):
        draw = Views(0.5, jpeg=jpeg)
        torch.manual_seed(1)
        first = draw(batch, torch.Generator().manual_seed(7))
        torch.manual_seed(2)
        before = torch.random.get_rng_state()
        assert torch.equal(first, draw(batch, torch.Generator().manual_seed(7)))
        assert torch.equal(torch.random.get_rng_state(), before)
        assert not torch.equal(first, draw(batch, torch.Generator().manual_seed(8)))
        assert first.dtype == torch.float32
        assert first.min() >= 0
        assert first.max() <= 1


def untouched(views: Tensor, batch: Tensor) -> float:
    """Share of the images whose channels still have the values they had, in any order."""
    same = [
        torch.equal(one.flatten(1).sum(1).sort().values, other.flatten(1).sum(1).sort().values)
        for one, other in zip(views, batch, strict=True)
    ]
    return sum(same) / len(same)


def test_the_plasma_share_is_the_share_of_the_images_that_get_it(
    batch: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ueraser, "trivial_policies", lambda: [nn.Identity()])
    many = batch.repeat(20, 1, 1, 1)
    shares = {plasma: untouched(Views(plasma)(many, torch.Generator().manual_seed(0)), many) for plasma in (0, 0.5, 1)}
    assert shares[0] == 1
    assert shares[0.5] == pytest.approx(0.25, abs=0.06)  # neither brightness nor contrast
    assert shares[1] == 0


def test_half_of_the_images_have_their_channels_shuffled(batch: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ueraser, "trivial_policies", lambda: [nn.Identity()])
    many = batch.repeat(20, 1, 1, 1)
    views = Views(0)(many, torch.Generator().manual_seed(0))
    kept = [torch.equal(one, other) for one, other in zip(views, many, strict=True)]
    assert sum(kept) / len(kept) == pytest.approx(1 / 2 + 1 / 12, abs=0.06)  # one shuffle in six changes nothing


def test_jpeg_qualities_are_drawn_for_each_view_from_ten_to_a_hundred(
    batch: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def note(images: Tensor, file_format: str, *, quality: int) -> Tensor:
        assert file_format == "JPEG"
        used.append(quality)
        return images

    monkeypatch.setattr(ueraser, "reencoded", note)
    Views(0.5, jpeg=True)(batch.repeat(30, 1, 1, 1), torch.Generator().manual_seed(0))
    assert len(used) == 960
    assert set(used) == set(range(10, 101))


@pytest.mark.parametrize("make", [UEraserLite, UEraserMax])
def test_training_gets_changed_views_with_the_labels_they_had(
    seen: Seen, make: Callable[[], UEraserLite | UEraserMax], batch: Tensor
) -> None:
    ((images, labels),) = seen(make()).epoch(32, torch.Generator().manual_seed(0))
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(labels, order % 4)
    assert (images != batch[order]).flatten(1).any(1).float().mean() > 0.7


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 2 views"):
        UEraserMax(views=1)
    for make in (UEraserLite, UEraserMax):
        with pytest.raises(InvalidInput, match="plasma share"):
            make(plasma=1.5)
