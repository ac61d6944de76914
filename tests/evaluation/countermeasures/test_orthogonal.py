import torch
import torch.nn.functional as F
from tests.evaluation.countermeasures.training_tasks import make_competitor, plain_colours, stripes, tiny_network
from torch import Tensor

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.countermeasures.orthogonal import OrthogonalProjection, ProjectedData, basis, projected
from withhold.networks.recipe import Recipe
from withhold.networks.training import accuracy, as_unit

RECIPE = Recipe(epochs=2, batch_size=32)
CLASSES = 3


def with_class_noise(count: int, *, seed: int) -> Labelled:
    """Images of noise alone, with a pattern of 8/255 added that is the same for all images of a class."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, 3, 8, 8, generator=torch.Generator().manual_seed(99)).sign() * 8
    labels = torch.arange(count) % CLASSES
    images = 128 + torch.randn(count, 3, 8, 8, generator=generator) * 30 + patterns[labels]
    return Labelled(images.round().clamp(0, 255).to(torch.uint8), labels)


def linear_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy on unseen images of a ridge regression on the class indicators, solved exactly."""
    mean = train.mean(0)
    centred = (train - mean).double()
    targets = F.one_hot(labels, CLASSES).double() - 1 / CLASSES
    gram = centred.T @ centred + torch.eye(centred.shape[1])
    weights = torch.linalg.solve(gram, centred.T @ targets)
    return float(((test - mean).double() @ weights).argmax(1).eq(test_labels).double().mean())


def directions(task: Labelled) -> Tensor:
    competitor = make_competitor(tiny_network(CLASSES, side=8), RECIPE)
    return OrthogonalProjection().linear_model(task.images, task.labels, competitor)


def test_projected_images_are_orthogonal_to_the_weight_vectors() -> None:
    task = with_class_noise(300, seed=0)
    weights = directions(task)
    assert weights.shape == (CLASSES, 3 * 8 * 8)
    columns = basis(weights)
    torch.testing.assert_close(columns.T @ columns, torch.eye(CLASSES))
    images = as_unit(task.images)
    left = projected(images, columns).flatten(1) @ F.normalize(weights).T
    assert float(left.abs().max()) < 1e-4
    assert float((images.flatten(1) @ F.normalize(weights).T).abs().max()) > 0.1


def test_projection_changes_nothing_else_and_twice_is_once() -> None:
    columns = basis(torch.randn(CLASSES, 192, generator=torch.Generator().manual_seed(0)))
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    once = projected(images, columns)
    torch.testing.assert_close(projected(once, columns), once)
    removed = (images - once).flatten(1)
    torch.testing.assert_close(removed @ columns @ columns.T, removed, atol=1e-5, rtol=1e-4)


def test_noise_that_is_constant_within_classes_is_removed() -> None:
    task, unseen = with_class_noise(3000, seed=0), with_class_noise(600, seed=1)
    before = linear_accuracy(
        as_unit(task.images).flatten(1), task.labels, as_unit(unseen.images).flatten(1), unseen.labels
    )
    columns = basis(directions(task))
    after = linear_accuracy(
        projected(as_unit(task.images), columns).flatten(1),
        task.labels,
        projected(as_unit(unseen.images), columns).flatten(1),
        unseen.labels,
    )
    assert before > 0.95
    chance = 1 / CLASSES
    assert after - chance < 0.3 * (before - chance)


def test_the_recipes_data_are_the_projected_images_shifted_and_mirrored() -> None:
    task = plain_colours(10, 40)
    columns = basis(torch.ones(1, 3 * 16 * 16))
    data = ProjectedData(task.images, task.labels, 2, columns, 16)
    batches = list(data.epoch(16, torch.Generator().manual_seed(0)))
    assert [len(labels) for _, labels in batches] == [14, 13, 13]
    images = torch.cat([pixels for pixels, _ in batches])
    # An image of one colour is nothing but a multiple of the only direction.
    torch.testing.assert_close(images, torch.zeros_like(images), atol=1e-5, rtol=0)
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == sorted(task.labels.tolist())


def test_projected_pixels_are_not_clipped() -> None:
    task = stripes(8)
    columns = basis(torch.ones(1, 3 * 16 * 16))
    ((images, _),) = ProjectedData(task.images, task.labels, 2, columns, 16).epoch(8, torch.Generator())
    assert float(images.min()) < 0
    expected = projected(as_unit(task.images), columns).flatten(1).sort(1).values
    assert len(images) == len(expected)


def test_larger_images_are_cropped_to_the_networks_input() -> None:
    task = stripes(8, side=24)
    columns = basis(torch.randn(2, 3 * 24 * 24, generator=torch.Generator().manual_seed(0)))
    ((images, _),) = ProjectedData(task.images, task.labels, 2, columns, 16).epoch(8, torch.Generator())
    assert images.shape == (8, 3, 16, 16)


def test_a_network_learns_from_what_is_left() -> None:
    task, unseen = stripes(192), stripes(100, seed=1)
    competitor = make_competitor(tiny_network(), Recipe(epochs=12, batch_size=32))
    network = OrthogonalProjection()(task.images, task.labels, competitor)
    assert accuracy(network, unseen.images, unseen.labels) >= 0.9


def test_the_linear_model_separates_what_is_linearly_separable() -> None:
    task = with_class_noise(3000, seed=0)
    logits = as_unit(task.images).flatten(1) @ directions(task).T
    assert float(logits.argmax(1).eq(task.labels).double().mean()) > 0.8
