import codecs
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.samples import Releasing, files_of

from withhold.data.open import open_dataset
from withhold.data.pixels import Picture, UnreadableImage
from withhold.errors import InvalidInput, RunStopped

# What Python 2 wrote in front of the pixels of an official batch: {'data': array(..., 'uint8'), 'labels': [...]}.
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    b"T\x00\x18\x00\x00%b"
    b"tbU\x06labelsq\x08]q\x09(K\x01K\x00eU\x09filenamesq\x0a]q\x0b(U\x05a.pngU\x05b.pnge"
    b"U\x0bbatch_labelq\x0cU\x15training batch 1 of 5u."
)


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def dump(path: Path, content: dict[Any, Any], protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def cifar10(root: Path, labels: list[int] | None = None, protocol: int = 2) -> Path:
    labels = [0, 1, 1] if labels is None else labels
    count = len(labels)
    dump(root / "batches.meta", {b"label_names": [b"cat", b"dog"], b"num_vis": 3072}, protocol)
    for number, name in enumerate(["data_batch_1", "data_batch_2", "test_batch"]):
        content = {
            b"batch_label": name.encode(),
            b"labels": labels,
            b"data": pixels(count, number),
            b"filenames": [b"%d.png" % row for row in range(count)],
        }
        dump(root / name, content, protocol)
    return root


def cifar100(root: Path) -> Path:
    dump(root / "meta", {b"fine_label_names": [b"apple", b"bed", b"elm"], b"coarse_label_names": [b"fruit", b"rest"]})
    for name in ("train", "test"):
        dump(
            root / name,
            {b"data": pixels(3), b"fine_labels": [2, 0, 1], b"coarse_labels": [1, 0, 1], b"batch_label": b"x"},
        )
    return root


def read(path: Path, encoding: str = "bytes") -> dict[Any, Any]:
    with path.open("rb") as file:
        content: dict[Any, Any] = pickle.load(file, encoding=encoding)
    return content


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_cifar_10(tmp_path: Path, release: Releasing, inner: str) -> None:
    root = tmp_path / "d"
    cifar10(root / inner)
    (root / inner / "readme.html").write_bytes(b"hello")
    (root / inner / "data_batch_1.bak").write_bytes(b"an original")
    done = release(root)
    prefix = f"{inner}/" if inner else ""
    assert (done.source.layout, done.source.classes) == ("cifar", ("cat", "dog"))
    entries = list(done.source.entries())
    shards = [f"{prefix}{name}" for name in ("data_batch_1", "data_batch_2", "test_batch")]
    assert [entry.name for entry in entries] == [f"{shard}#{row}" for shard in shards for row in range(3)]
    assert [entry.split for entry in entries] == ["train"] * 6 + ["test"] * 3
    assert [entry.label for entry in entries] == [0, 1, 1] * 3
    assert done.source.ignored() == [f"{prefix}data_batch_1.bak"]
    assert sorted(files_of(done.folder)) == sorted([*shards, f"{prefix}batches.meta", f"{prefix}readme.html"])
    before, after = read(root / shards[0]), read(done.folder / shards[0])
    assert list(after) == list(before)
    assert (np.abs(after[b"data"].astype(int) - before[b"data"]) == 8).all()
    assert {key: value for key, value in after.items() if key != b"data"} == {
        key: value for key, value in before.items() if key != b"data"
    }
    assert (done.folder / f"{prefix}batches.meta").read_bytes() == (root / inner / "batches.meta").read_bytes()


def test_cifar_100(tmp_path: Path, release: Releasing) -> None:
    done = release(cifar100(tmp_path / "d/cifar-100-python").parent, splits=["train"])
    assert done.source.classes == ("apple", "bed", "elm")
    assert [entry.label for entry in done.source.entries()] == [2, 0, 1]
    assert done.source.ignored() == ["cifar-100-python/test"]
    after = read(done.folder / "cifar-100-python/train")
    assert (after[b"fine_labels"], after[b"coarse_labels"]) == ([2, 0, 1], [1, 0, 1])


def test_released_batches_read_as_the_official_ones_do(tmp_path: Path, release: Releasing) -> None:
    cifar10(tmp_path / "d")
    data = pixels(2)
    (tmp_path / "d/data_batch_1").write_bytes(PYTHON_2.replace(b"%b", data.tobytes()))
    done = release(tmp_path / "d")
    content = read(done.folder / "data_batch_1", "latin1")  # as torchvision reads them
    assert list(content) == ["data", "labels", "filenames", "batch_label"]
    assert content["labels"] == [1, 0]
    assert content["filenames"] == ["a.png", "b.png"]
    assert content["data"].dtype == np.uint8
    assert (np.abs(content["data"].astype(int) - data) == 8).all()
    assert b"numpy._core" not in (done.folder / "data_batch_1").read_bytes()


@pytest.mark.parametrize("protocol", [2, 4])
def test_batches_of_python_3_are_read(tmp_path: Path, protocol: int) -> None:
    data = open_dataset(cifar10(tmp_path / "d", protocol=protocol))
    entries = list(data.entries())
    stored = list(data.read([entries[4], entries[0]]))
    assert stored == [pixels(3, 1)[1].tobytes(), pixels(3, 0)[0].tobytes()]


def test_empty_names_of_python_3_are_read(tmp_path: Path, release: Releasing) -> None:
    root = cifar10(tmp_path / "d")
    dump(root / "data_batch_1", {b"data": pixels(2), b"labels": [0, 1], b"filenames": [b"", b""]})
    assert read(release(root).folder / "data_batch_1")[b"filenames"] == [b"", b""]


def test_only_text_in_latin1_is_converted(tmp_path: Path) -> None:
    root = cifar10(tmp_path / "d")
    dump(root / "batches.meta", {b"label_names": Evil(codecs.encode, "text", "rot13")})
    with pytest.raises(InvalidInput, match="expected text in latin1"):
        open_dataset(root)


def test_pixels_are_red_green_blue_planes(tmp_path: Path) -> None:
    data = open_dataset(cifar10(tmp_path / "d"))
    stored = bytes([10] * 1024 + [20] * 1024 + [30] * 1024)
    picture = data.decode(stored)
    assert picture.mode == "RGB"
    assert (picture.levels == [10, 20, 30]).all()
    with pytest.raises(UnreadableImage, match="3072"):
        data.decode(stored[:-1])


def test_other_sizes_are_not_written(tmp_path: Path) -> None:
    data = open_dataset(cifar10(tmp_path / "d"))
    writer = data.writer(tmp_path / "out", tmp_path / "spool", "png")
    with pytest.raises(InvalidInput, match="32 x 32"):
        writer.encode(next(iter(data.entries())), Picture(np.zeros((3, 3, 3), np.uint8)))


def test_images_left_out(tmp_path: Path, release: Releasing) -> None:
    done = release(cifar10(tmp_path / "d"), without=["data_batch_1#1"])
    content = read(done.folder / "data_batch_1")
    assert (content[b"labels"], content[b"filenames"]) == ([0, 1], [b"0.png", b"2.png"])
    assert content[b"data"].shape == (2, 3072)
    assert content[b"batch_label"] == b"data_batch_1"


class Evil:
    """Unpickles to a call."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("where", ["batches.meta", "data_batch_1"])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, where: str) -> None:
    root, mark = cifar10(tmp_path / "d"), tmp_path / "mark"
    dump(root / where, {b"label_names": Evil(Path.touch, mark)})
    with pytest.raises(InvalidInput, match="which no CIFAR batch needs"):
        list(open_dataset(root).entries())
    assert not mark.exists()


@pytest.mark.parametrize("call", [eval, exec, getattr, np.load, np.array, bytearray])
def test_no_function_is_reached(tmp_path: Path, call: Callable[..., object]) -> None:
    root = cifar10(tmp_path / "d")
    dump(root / "batches.meta", {b"label_names": Evil(call, "1")})
    with pytest.raises(InvalidInput, match="which no CIFAR batch needs"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an official CIFAR file"),
        (b"\x80\x02K\x01.", "not an official CIFAR file"),
        (pickle.dumps({b"labels": []}, 2), "expected data in"),
        (pickle.dumps({b"data": pixels(2)}, 2), "expected labels in"),
        (pickle.dumps({b"data": pixels(2), b"labels": [0]}, 2), r"shape \(1, 3072\)"),
        (pickle.dumps({b"data": pixels(2)[:, :9], b"labels": [0, 1]}, 2), r"got \(2, 9\)"),
        (pickle.dumps({b"data": pixels(2).astype(np.float32), b"labels": [0, 1]}, 2), "array of uint8, got f4"),
        (pickle.dumps({b"data": [], b"labels": []}, 2), "got list"),
        (pickle.dumps({b"data": pixels(2), b"labels": [0, 2]}, 2), "0 to 1 .* got 2 for image 1"),
        (pickle.dumps({b"data": pixels(1), b"labels": ["a"]}, 2), "got 'a' for image 0"),
    ],
)
def test_broken_batches_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    root = cifar10(tmp_path / "d")
    (root / "data_batch_1").write_bytes(content)
    data = open_dataset(root)
    with pytest.raises(InvalidInput, match=message):
        list(data.entries())


def test_both_sets_at_once_are_refused(tmp_path: Path) -> None:
    cifar10(tmp_path / "cifar-10-batches-py")
    cifar100(tmp_path / "cifar-100-python")
    with pytest.raises(InvalidInput, match="cifar-10-batches-py and cifar-100-python"):
        open_dataset(tmp_path)


def test_a_second_run_gives_the_same_bytes(tmp_path: Path) -> None:
    root = cifar10(tmp_path / "d")
    first, second = (Releasing(tmp_path / name)(root) for name in "12")
    assert files_of(first.folder) == files_of(second.folder)


def test_batches_that_go_or_shrink_during_a_run_stop_it(tmp_path: Path) -> None:
    data = open_dataset(cifar10(tmp_path / "d"))
    entries = list(data.entries())
    cifar10(tmp_path / "d", labels=[0, 1])
    with pytest.raises(RunStopped, match=r"cannot read .*data_batch_1 .*restore"):
        list(data.read([entries[2]]))
    (tmp_path / "d/test_batch").unlink()
    with pytest.raises(RunStopped, match=r"cannot read .*test_batch .*restore"):
        list(data.read([entries[-1]]))
