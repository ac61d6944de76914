import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.release.fakes import Listener, class_folders, make_uniform, never, pixels, settings, tree
from tests.release.test_dry_run import Linear, fake

from withhold.errors import InvalidInput
from withhold.networks.checkpoint import encode
from withhold.networks.classifier import Classifier
from withhold.networks.table import build
from withhold.release.building import check_surrogate
from withhold.release.dry_run import dry_run, estimate
from withhold.release.preparing import accept
from withhold.release.run import protect, run
from withhold.release.sidecar import Sidecar

Change = Callable[[Path], dict[str, Any]]


def broken(network: Classifier) -> Classifier:
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    return network


def stored(path: Path, network: Classifier) -> dict[str, Any]:
    path.write_bytes(encode([network]))
    return {"surrogate": str(path)}


def pickled(path: Path, network: Classifier) -> dict[str, Any]:
    torch.save(network.body.state_dict(), path)
    return {"surrogate": str(path), "architecture": "resnet20"}


AT_ONCE: dict[str, tuple[Change, str]] = {
    "device": (lambda _: {"device": "cuda:99"}, "not present"),
    "snapshots": (lambda _: {"snapshots": 3}, "3 of them do not fit into 1 epochs"),
    "architecture": (lambda _: {"architecture": "resnet99"}, "unknown architecture 'resnet99'"),
    "input size": (lambda _: {"architecture": "vit", "input_size": 30}, "multiple of 8"),
    "no file": (lambda root: {"surrogate": str(root / "none.pt")}, r"no weights file .*none\.pt"),
    "no weights": (lambda root: {"surrogate": str(root / "photos/cat/0.png"), "input_size": 16}, "not"),
    "classes": (lambda root: stored(root / "w", build("resnet20", 5, input_size=16)), "5 classes, the dataset has 3"),
    "not finite": (lambda root: stored(root / "w", broken(build("resnet20", 3, input_size=16))), "not finite"),
    "pickle": (
        lambda root: {**pickled(root / "w.pt", build("resnet20", 5)), "input_size": 16},
        "5 classes, the dataset has 3",
    ),
}
AFTER_READING: dict[str, tuple[Change, str]] = {
    "pickle of unknown size": (lambda root: pickled(root / "w.pt", build("resnet20", 5)), "5 classes, the dataset has"),
    "whole views": (lambda _: {"augment": "shift", "input_size": 24}, r"16 x 16\. Use crop, or --input-size 16"),
    "subpixel views": (lambda _: {"augment": "subpixel", "architecture": "vit", "input_size": 24}, "Use crop"),
}
BASIC: dict[str, Any] = {"steps": 1, "epochs": 1, "architecture": "resnet20"}


@pytest.mark.parametrize("case", AT_ONCE)
def test_what_settings_alone_tell_is_refused_before_an_image_is_read(case: str, tmp_path: Path) -> None:
    source = class_folders(tmp_path / "photos", side=16)
    change, message = AT_ONCE[case]
    changes = change(tmp_path)
    before = set(tmp_path.iterdir())
    for attempt in (protect, dry_run):
        listener = Listener()
        with pytest.raises(InvalidInput, match=message):
            attempt(source, tmp_path / "out", settings(**{**BASIC, **changes}), reporter=listener)
        assert (listener.tasks, set(tmp_path.iterdir())) == ([], before)


@pytest.mark.parametrize("case", AFTER_READING)
def test_what_the_images_tell_is_refused_before_any_training_and_leaves_no_plan(case: str, tmp_path: Path) -> None:
    source = class_folders(tmp_path / "photos", side=16)
    change, message = AFTER_READING[case]
    changes = change(tmp_path)
    before = set(tmp_path.iterdir())
    for attempt in (protect, dry_run):
        listener = Listener()
        with pytest.raises(InvalidInput, match=message):
            attempt(source, tmp_path / "out", settings(**{**BASIC, **changes}), reporter=listener)
        assert [task for task, _ in listener.tasks] == ["Reading the source"]
        assert set(tmp_path.iterdir()) == before


def test_after_a_refusal_the_corrected_command_just_works(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "photos", side=16)
    for changes in ({"snapshots": 2}, {"augment": "shift", "input_size": 24}):
        with pytest.raises(InvalidInput):
            protect(source, tmp_path / "out", settings(**{**BASIC, **changes}))
    assert protect(source, tmp_path / "out", settings(**BASIC)).verification.passed


def test_a_crafter_that_refuses_leaves_no_plan_and_one_that_began_keeps_it(source: Path, tmp_path: Path) -> None:
    def refuse(_: object) -> Any:  # noqa: ANN401
        raise InvalidInput("not like this")

    with pytest.raises(InvalidInput, match="not like this"):
        run(source, tmp_path / "out", settings(seed=1), refuse)
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}

    def refuse_late(materials: Any) -> Any:  # noqa: ANN401
        materials.surrogate_file.write_bytes(b"trained for hours")
        raise InvalidInput("not like this")

    with pytest.raises(InvalidInput, match="not like this"):
        run(source, tmp_path / "out", settings(seed=1), refuse_late)
    assert Sidecar(tmp_path / "out").surrogate.read_bytes() == b"trained for hours"
    with pytest.raises(InvalidInput, match="seed was 1 and is now 2"):
        run(source, tmp_path / "out", settings(seed=2), never)
    assert Sidecar(tmp_path / "out").surrogate.exists()


def test_a_given_network_is_not_looked_for_in_the_settings(source: Path) -> None:
    from withhold.data.open import open_dataset  # noqa: PLC0415

    check_surrogate(open_dataset(source), settings(architecture="resnet99"), Linear())
    accept(open_dataset(source))


def test_a_head_without_its_package_is_refused_before_any_image_is_read(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from withhold.data.open import open_dataset  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(InvalidInput, match=r"head 'arcface' needs pytorch-metric-learning"):
        check_surrogate(open_dataset(source), settings(task="faces", head="arcface"))


@pytest.mark.parametrize(
    ("given", "problem"), [("judge.onnx", "ONNX files give no gradients"), ("absent.safetensors", "there is no file")]
)
def test_an_extractor_that_cannot_be_a_surrogate_is_refused_before_any_image_is_read(
    source: Path, given: str, problem: str
) -> None:
    from withhold.data.open import open_dataset  # noqa: PLC0415

    with pytest.raises(InvalidInput, match=problem):
        check_surrogate(open_dataset(source), settings(task="faces", surrogate=f"extractor:{given}"))


def test_a_class_of_unreadable_images_alone_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    for path in (source / "dog").iterdir():
        path.write_bytes(b"no image")
    chosen = settings(skip_unreadable=True)
    for attempt in (
        lambda: run(source, tmp_path / "out", chosen, never),
        lambda: estimate(source, tmp_path / "out", chosen, fake),
    ):
        with pytest.raises(InvalidInput, match=r"every image of 'dog' is unreadable.*would shift the labels"):
            attempt()
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_a_dry_run_refuses_grey_that_webp_cannot_hold(source: Path, tmp_path: Path) -> None:
    Image.fromarray(pixels(5)[..., 0]).save(source / "cat" / "grey.bmp")
    with pytest.raises(InvalidInput, match=r"cat/grey\.bmp cannot be released: WebP"):
        estimate(source, tmp_path / "out", settings(lossless="webp"), fake)


def test_an_interrupt_while_the_source_is_read_promises_nothing(source: Path, tmp_path: Path) -> None:
    class Stopping(Listener):
        def advance(self, count: int = 1) -> None:  # noqa: ARG002
            raise KeyboardInterrupt

    listener = Stopping()
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", settings(), make_uniform, listener)
    assert listener.said == ["Interrupted. Nothing was finished yet."]
    assert tree(tmp_path) == before
