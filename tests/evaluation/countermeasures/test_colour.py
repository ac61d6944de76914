"""Grey and standardised images, and the networks deployed with them."""

import torch
from torch import Tensor, nn

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.countermeasures.deployed import Behind
from withhold.evaluation.countermeasures.grey import Grey, grey
from withhold.evaluation.countermeasures.standardise import Standardise, standardised
from withhold.networks.training import EpochResult

from .conftest import MakeCompetitor, Seen


def test_grey_is_the_luma_in_three_channels(batch: Tensor) -> None:
    expected = (batch * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(grey(batch), expected.expand(-1, 3, -1, -1), atol=1e-6, rtol=0)


def test_training_images_are_grey_in_both_variants(seen: Seen) -> None:
    for countermeasure in (Grey(), Grey(test_images=True)):
        ((images, _),) = seen(countermeasure).epoch(32, torch.Generator())
        assert torch.equal(images[:, 0], images[:, 1])
        assert torch.equal(images[:, 0], images[:, 2])


def recoloured(batch: Tensor) -> Tensor:
    """Images of the same luma in other colours."""
    change = torch.tensor([0.114 / 0.299, 0.0, -1.0]).view(1, 3, 1, 1) * 0.1
    return batch * 0.5 + 0.25 + change


def test_only_the_network_for_grey_test_images_is_blind_to_colour(
    photographs: Labelled, batch: Tensor, make_competitor: MakeCompetitor
) -> None:
    one, other = batch * 0.5 + 0.25, recoloured(batch)
    for test_images in (False, True):
        network = Grey(test_images)(photographs.images, photographs.labels, make_competitor())
        with torch.no_grad():
            same = torch.allclose(network(one), network(other), atol=1e-4)
        assert same == test_images


def test_a_standardised_channel_has_mean_half_and_deviation_a_sixth(batch: Tensor) -> None:
    result = standardised(batch)
    torch.testing.assert_close(result.mean((2, 3)), torch.full((32, 3), 0.5), atol=2e-3, rtol=0)
    torch.testing.assert_close(result.std((2, 3), correction=0), torch.full((32, 3), 1 / 6), atol=3e-3, rtol=0)


def test_standardising_undoes_brightness_contrast_and_tint(batch: Tensor) -> None:
    tint = torch.tensor([0.05, 0.1, 0.15]).view(1, 3, 1, 1)
    torch.testing.assert_close(standardised(batch * 0.6 + tint), standardised(batch), atol=1e-4, rtol=0)


def test_an_image_of_one_colour_becomes_grey() -> None:
    torch.testing.assert_close(
        standardised(torch.full((1, 3, 4, 4), 0.9)), torch.full((1, 3, 4, 4), 0.5), atol=1e-4, rtol=0
    )


def test_the_network_is_deployed_with_the_same_standardisation(
    photographs: Labelled, batch: Tensor, make_competitor: MakeCompetitor, seen: Seen
) -> None:
    ((images, _),) = seen(Standardise()).epoch(32, torch.Generator().manual_seed(0))
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, standardised(batch[order]))
    competitor = make_competitor()
    network = Standardise()(photographs.images, photographs.labels, competitor)
    with torch.no_grad():
        torch.testing.assert_close(network(batch), competitor.network(standardised(batch)))


def test_each_epoch_is_measured_on_the_network_as_deployed(
    photographs: Labelled, make_competitor: MakeCompetitor
) -> None:
    measured: list[tuple[nn.Module, bool]] = []

    def on_epoch(network: nn.Module, result: EpochResult) -> None:
        del result
        measured.append((network, network.training))

    Grey(test_images=True)(photographs.images, photographs.labels, make_competitor(on_epoch=on_epoch))
    assert [(type(network), mode) for network, mode in measured] == [(Behind, False)] * 2
