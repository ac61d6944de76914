from pathlib import Path
from typing import Any

import pytest
import torch
from tests.release.fakes import Listener, settings
from tests.release.memory import MemoryDataset, stripes
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.networks.checkpoint import load, save
from withhold.networks.choose import Sizes
from withhold.networks.table import build
from withhold.networks.training import Trained as Trained_
from withhold.networks.training import TrainingData
from withhold.release import surrogate
from withhold.release.surrogate import Surrogate, near_chance, resolve
from withhold.release.training_images import WholeImages, training_data

SHORT: dict[str, Any] = {"device": "cpu", "epochs": 4}


def resolved(
    folder: Path,
    *,
    dataset: MemoryDataset | None = None,
    network: nn.Module | None = None,
    reporter: Listener | None = None,
    **changes: Any,  # noqa: ANN401 (settings of any type)
) -> Surrogate:
    source = dataset or stripes(256)
    sizes = Sizes.of((picture.shape[1], picture.shape[0]) for picture in source.pictures)
    return resolve(
        WholeImages(source, source.listing(), sizes),
        settings(**{**SHORT, **changes}),
        weights=folder / "surrogate.safetensors",
        reporter=reporter or Listener(),
        network=network,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Surrogate, Listener]:
    """One surrogate trained by default, its folder and what was said."""
    folder, listener = tmp_path_factory.mktemp("trained"), Listener()
    torch.set_num_threads(1)
    return folder, resolved(folder, reporter=listener, snapshots=2), listener


Trained = tuple[Path, Surrogate, Listener]


def test_a_network_is_trained_frozen_and_described(trained: Trained) -> None:
    _, found, listener = trained
    assert (found.input_size, found.views) == (16, "native")
    assert found.accuracy >= 0.9
    assert not any(parameter.requires_grad for network in found.networks for parameter in network.parameters())
    assert not any(network.training for network in found.networks)
    assert listener.tasks == [("Training the surrogate", 4)]
    assert listener.said == [
        "Since all images are 16 x 16 and the device is cpu, the surrogate is resnet9, which sees them whole.",
        "Training the surrogate resnet9 at 16 px on 256 images of 2 classes for 4 epochs on cpu.",
        found.description,
    ]
    assert found.description == (
        f"The surrogate is resnet9, trained for 4 epochs on these images; it gets {found.accuracy:.0%} of 256 of the "
        "images right."
    )


def test_snapshots_are_different_networks_and_the_last_one_is_final(trained: Trained) -> None:
    folder, found, _ = trained
    first, last = found.networks
    assert not torch.equal(first.body.get_parameter("linear.weight"), last.body.get_parameter("linear.weight"))
    assert int(first.body.get_buffer("features.0.norm.num_batches_tracked")) == 2 * 4
    assert int(last.body.get_buffer("features.0.norm.num_batches_tracked")) == 4 * 4
    assert [path.name for path in folder.iterdir()] == ["surrogate.safetensors"]


def test_a_resumed_run_takes_what_was_kept_and_trains_nothing(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found, _ = trained
    monkeypatch.setattr(surrogate, "train", None)
    listener = Listener()
    again = resolved(folder, reporter=listener, snapshots=2)
    images = torch.rand(4, 3, 16, 16)
    assert [torch.equal(a(images), b(images)) for a, b in zip(again.networks, found.networks, strict=True)] == [
        True,
        True,
    ]
    assert again.accuracy == found.accuracy
    assert "kept by the earlier start of this run" in listener.said[0]


def test_equal_settings_give_equal_files(tmp_path: Path) -> None:
    for folder in ("one", "same"):
        resolved(tmp_path / folder, epochs=1)
    resolved(tmp_path / "other", epochs=1, seed=1)
    one, same, other = ((tmp_path / name / "surrogate.safetensors").read_bytes() for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def test_epochs_follow_the_size_of_the_set_if_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(surrogate, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        resolved(tmp_path, reporter=listener, epochs=None)
    assert "for 100 epochs" in listener.said[1]
    assert not list(tmp_path.iterdir())


def test_large_pictures_are_seen_in_crops(tmp_path: Path) -> None:
    found = resolved(tmp_path, dataset=stripes(24, 48), architecture="resnet9", input_size=24, epochs=1, device="cpu")
    assert (found.input_size, found.views) == (24, "crop")


def test_the_accuracy_is_that_of_the_final_network(tmp_path: Path) -> None:
    class AlwaysFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([1.0, 0.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.logits.expand(len(x), -1)

    listener, network = Listener(), AlwaysFirst()
    found = resolved(tmp_path, network=network, reporter=listener)
    assert found.accuracy == 0.5
    assert found.networks[0].input_size == 16
    assert "the given AlwaysFirst; it gets 50% of 256" in listener.said[0]
    assert listener.said[1].startswith("Warning: that is close to guessing among 2 classes")
    assert "--mean" in listener.said[1]
    assert network.logits.requires_grad, "the caller's own network must stay as it was"
    assert network.training
    assert not list(tmp_path.iterdir())


def test_a_given_network_is_normalised_as_the_settings_say(tmp_path: Path) -> None:
    found = resolved(tmp_path, network=nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), mean=(0.5,) * 3, std=(0.25,) * 3)
    assert found.networks[0].mean == (0.5, 0.5, 0.5)


def test_a_weights_file_of_ours_describes_itself_and_is_kept(trained: Trained, tmp_path: Path) -> None:
    folder, found, _ = trained
    listener = Listener()
    loaded = resolved(tmp_path, reporter=listener, surrogate=str(folder / "surrogate.safetensors"))
    assert loaded.accuracy == found.accuracy
    assert listener.said == [loaded.description]
    assert "resnet9 with the weights of surrogate.safetensors" in loaded.description
    assert len(load(tmp_path / "surrogate.safetensors", classes=2).networks) == 2


def test_a_foreign_file_says_which_normalisation_is_assumed(trained: Trained, tmp_path: Path) -> None:
    _, found, _ = trained
    torch.save(found.networks[-1].body.state_dict(), tmp_path / "mine.pt")
    listener = Listener()
    loaded = resolved(tmp_path, reporter=listener, surrogate=str(tmp_path / "mine.pt"), architecture="resnet9")
    assert loaded.accuracy == found.accuracy
    assert loaded.input_size == 16
    assert listener.said[0] == (
        "mine.pt does not say how its images were normalised; mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225 are "
        "assumed."
    )


def test_untrained_weights_are_warned_about(tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", [build("resnet9", 2, input_size=16)])
    listener = Listener()
    resolved(tmp_path, reporter=listener, surrogate=str(tmp_path / "w.safetensors"), snapshots=2)
    assert "classes are in another order" in listener.said[1]
    assert listener.said[2].startswith("Snapshots are taken of a surrogate's training only")


def test_a_surrogate_that_learned_nothing_is_warned_about(tmp_path: Path) -> None:
    dataset, listener = stripes(64), Listener()
    dataset.labels = [index // 2 % 2 for index in range(64)]  # labels that the stripes do not show
    resolved(tmp_path, dataset=dataset, reporter=listener, epochs=1)
    assert "too few --epochs" in listener.said[-1]


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), r"finite logits \(2, 2\); it returned \(2, 5\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), "it failed with: .* Is --input-size right?"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(768, 2), nn.LogSigmoid(), nn.Threshold(1e9, torch.inf)),
            "some are not finite",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(tmp_path: Path, network: nn.Module, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        resolved(tmp_path, network=network)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no weights file"):
        resolved(tmp_path, surrogate=str(tmp_path / "absent.safetensors"))


def test_an_unknown_architecture_is_refused_before_any_work(tmp_path: Path) -> None:
    dataset = stripes(8)
    with pytest.raises(InvalidInput, match="unknown architecture 'resnet19'"):
        resolved(tmp_path, dataset=dataset, architecture="resnet19")
    assert dataset.reads == []


def test_an_input_size_that_the_network_cannot_take_is_refused_before_training(tmp_path: Path) -> None:
    dataset = stripes(8)
    with pytest.raises(InvalidInput, match="multiple of 8; got 20"):
        resolved(tmp_path, dataset=dataset, architecture="vit", input_size=20)
    assert dataset.reads == []


@pytest.mark.parametrize(("objective", "lower"), [("error-minimising", True), ("class-targeted", False)])
def test_error_minimising_trains_on_batches_perturbed_to_lower_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str, lower: bool
) -> None:
    """Seen from inside the training: each batch against the clean one that the same draws give."""
    asked: list[tuple[float, float]] = []
    loss = nn.functional.cross_entropy

    def look(network: nn.Module, data: TrainingData, *_: object, **__: object) -> Trained_:
        clean = training_data(source, source.listing(), 16, "native")
        network.train()
        images, labels = next(data.epoch(8, torch.Generator().manual_seed(0)))
        original, same = next(clean.epoch(8, torch.Generator().manual_seed(0)))
        assert network.training
        assert torch.equal(labels, same)
        assert (images - original).abs().max() <= 16 / 255 + 1e-6
        network.eval()
        with torch.no_grad():
            asked.append((loss(network(images), labels).item(), loss(network(original), labels).item()))
        return Trained_(network, (), ({name: value.clone() for name, value in network.state_dict().items()},))

    source, listener = stripes(16), Listener()
    monkeypatch.setattr(surrogate, "train", look)
    monkeypatch.setattr(listener, "finish", lambda: None)
    found = resolved(tmp_path, dataset=source, reporter=listener, epochs=1, objective=objective, eps="16/255")
    perturbed, clean = asked[0]
    assert (perturbed < clean - 0.01) if lower else (perturbed == clean)
    assert ("these images, perturbed at every step to lower its loss; it gets" in found.description) == lower
    # Untrained, it guesses: that is expected of a min-min surrogate on clean images, and of no other.
    assert any(said.startswith("Warning") for said in listener.said) != lower


def test_given_weights_are_said_not_to_be_trained_for_error_minimising(tmp_path: Path) -> None:
    listener = Listener()
    network = build("resnet9", 2, input_size=16)
    resolved(tmp_path, network=network, reporter=listener, objective="error-minimising")
    assert listener.said[-1] == (
        "For error-minimising a surrogate is trained on these images, perturbed at every step to lower its loss; this "
        "one was not trained here and is used as it is."
    )
    assert any("classes are in another order" in said for said in listener.said)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=2)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "hub")
    return f"transformers:{tmp_path / 'hub'}"


def test_a_published_network_of_these_classes_is_taken_as_it_is(published: str, tmp_path: Path) -> None:
    listener = Listener()
    found = resolved(tmp_path / "run", reporter=listener, surrogate=published)
    assert "as it was published" in found.description
    assert listener.tasks == []
    again = resolved(tmp_path / "run", surrogate=published)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(again.networks[0](images), found.networks[0](images))


def test_a_published_network_of_other_classes_is_adapted(published: str, tmp_path: Path) -> None:
    dataset, listener = stripes(66), Listener()
    dataset.classes, dataset.labels = ("a", "b", "c"), [index % 3 for index in range(66)]
    found = resolved(tmp_path / "run", dataset=dataset, reporter=listener, surrogate=published, epochs=1)
    assert listener.said[0].startswith("Adapting the surrogate transformers:")
    assert found.networks[0].classes == 3


def test_an_extractor_of_the_users_gets_a_new_head_and_is_kept_for_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_metric_learning")
    save(tmp_path / "own.safetensors", [build("iresnet10-narrow", 7, input_size=16, head="arcface", seed=3)])
    listener, given = Listener(), f"extractor:{tmp_path / 'own.safetensors'}"
    found = resolved(tmp_path / "run", reporter=listener, surrogate=given, head="cosface", epochs=1)
    (network,) = found.networks
    assert listener.said[0].startswith(f"Adapting the surrogate {given} at 16 px")
    assert (network.classes, network.head, network.architecture) == (2, "cosface", given)
    again = resolved(tmp_path / "run", surrogate=given, head="cosface", epochs=1)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(again.networks[0](images), network(images))


def test_near_chance_leaves_room_for_noise_but_not_for_learning() -> None:
    assert near_chance(0.101, 100)
    assert not near_chance(0.12, 100)
