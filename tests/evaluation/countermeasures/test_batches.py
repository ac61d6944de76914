from collections.abc import Iterator

import torch
from torch import Tensor

from withhold.evaluation.countermeasures.batches import (
    ChangedBatches,
    borrowed_randomness,
    shares,
    transformed,
)
from withhold.networks.tensor_data import TensorData


class Doubles:
    """Data of one batch in double precision, which has a gradient."""

    classes = 2

    def __len__(self) -> int:
        return 2

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        del batch_size, generator
        yield torch.full((2, 3, 1, 1), 0.75, dtype=torch.double, requires_grad=True), torch.tensor([0, 1])


def test_a_change_gets_each_batch_and_its_result_is_a_clipped_float32_without_gradient() -> None:
    data = ChangedBatches(
        Doubles(), lambda images, labels, _: (images * 2 - 0.25 * labels[:, None, None, None], labels)
    )
    ((images, labels),) = data.epoch(2, torch.Generator())
    assert images.dtype == torch.float32
    assert not images.requires_grad
    assert images[:, 0, 0, 0].tolist() == [1.0, 1.0]
    assert labels.tolist() == [0, 1]
    assert (len(data), data.classes) == (2, 2)


def test_gradients_stay_on_between_batches() -> None:
    for _ in ChangedBatches(Doubles(), lambda images, labels, _: (images, labels)).epoch(2, torch.Generator()):
        assert torch.is_grad_enabled()


def test_a_change_draws_from_the_generator_that_the_epoch_got(batch: Tensor) -> None:
    images = (batch * 255).to(torch.uint8)
    plain = TensorData(images, torch.zeros(len(images)), classes=1, augment=False)
    drawn: list[float] = []

    def change(pixels: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn.append(float(torch.rand((), generator=generator)))
        return pixels, labels

    given = torch.Generator().manual_seed(5)
    list(ChangedBatches(plain, change).epoch(16, given))
    expected = torch.Generator().manual_seed(5)
    torch.randperm(len(images), generator=expected)
    assert drawn == [float(torch.rand((), generator=expected)) for _ in range(2)]


def test_borrowed_randomness_repeats_moves_on_and_leaves_the_global_state_alone() -> None:
    def draws(seed: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        drawn = []
        for _ in range(2):
            with borrowed_randomness(generator):
                drawn.append(float(torch.rand(())))
        return drawn

    before = torch.random.get_rng_state()
    assert draws(1) == draws(1)
    assert len({*draws(1), *draws(2)}) == 4
    assert torch.equal(torch.random.get_rng_state(), before)


def test_labels_become_shares_once() -> None:
    first = shares(torch.tensor([1, 0]), 3)
    assert first.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert shares(first, 3) is first


def test_stored_images_are_rounded_to_whole_levels_and_clipped() -> None:
    levels = torch.tensor([0, 100, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    assert torch.equal(transformed(levels, lambda images: images), levels)
    shifted = transformed(levels, lambda images: images + 0.6 / 255)
    assert shifted[:, 0, 0, 0].tolist() == [1, 101, 255]
    assert shifted.dtype == torch.uint8


def test_a_large_set_is_transformed_in_parts() -> None:
    parts: list[int] = []

    def note(images: Tensor) -> Tensor:
        parts.append(len(images))
        return images

    images = torch.randint(256, (5, 3, 512, 1024), dtype=torch.uint8)
    assert torch.equal(transformed(images, note), images)
    assert parts == [2, 2, 1]
