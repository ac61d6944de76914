from pathlib import Path

import pytest
from tests.release.fakes import Listener, make_uniform, settings, tree

from withhold.errors import InvalidInput
from withhold.release.places import place_release
from withhold.release.run import run


def refused(source: Path, destination: Path) -> str:
    """The message with which a run is refused; nothing may be left behind, and the source untouched."""
    root = source if source.is_dir() else source.parent
    before = tree(root) if root.exists() else {}
    beside = set(destination.parent.iterdir()) if destination.parent.exists() else set()
    with pytest.raises(InvalidInput) as caught:
        run(source, destination, settings(), make_uniform)
    assert caught.value.exit_code == 2
    if root.exists():
        assert tree(root) == before
    assert not destination.parent.exists() or set(destination.parent.iterdir()) == beside
    return str(caught.value)


def test_a_missing_source(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere", tmp_path / "out")


def test_an_empty_source(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert "is empty" in refused(tmp_path / "in", tmp_path / "out")


def test_the_source_itself(source: Path, tmp_path: Path) -> None:
    assert "is the source" in refused(source, source)
    assert "is the source" in refused(source, source / "cat" / "..")
    (tmp_path / "link").symlink_to(source)
    assert "is the source" in refused(source, tmp_path / "link")
    assert "is the source" in refused(tmp_path / "link", source)


def test_inside_the_source(source: Path, tmp_path: Path) -> None:
    assert "inside the source" in refused(source, source / "released")
    (tmp_path / "link").symlink_to(source)
    assert "inside the source" in refused(source, tmp_path / "link" / "released")
    assert "inside the source" in refused(tmp_path / "link", source / "released")


def test_around_the_source(source: Path, tmp_path: Path) -> None:
    assert "contains the source" in refused(source, tmp_path)
    (tmp_path.parent / f"{tmp_path.name}-link").symlink_to(tmp_path)
    assert "contains the source" in refused(source, tmp_path.parent / f"{tmp_path.name}-link")


def test_the_private_folder_must_not_be_the_source(source: Path, tmp_path: Path) -> None:
    private = tmp_path / "out.withhold"
    source.rename(private)
    assert "private folder" in refused(private, tmp_path / "out")


def test_foreign_files_in_the_destination(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("my only copy")
    assert "holds files" in refused(source, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "my only copy"


def test_a_file_as_destination(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    assert "is a file" in refused(source, tmp_path / "out")


def test_a_shard_as_destination(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"")
    assert "name a folder" in refused(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_foreign_files_in_the_private_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.withhold").mkdir()
    (tmp_path / "out.withhold" / "diary.txt").write_text("private")
    assert "diary.txt" in refused(source, tmp_path / "out")
    assert (tmp_path / "out.withhold" / "diary.txt").exists()


@pytest.mark.parametrize("name", [".env", "release/mine.txt", "batches/000000.parquet", "surrogate.safetensors"])
def test_a_private_folder_without_a_plan_is_left_alone_whatever_it_holds(
    name: str, source: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "out.withhold" / name
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    assert name.split("/", maxsplit=1)[0] in refused(source, tmp_path / "out")
    assert precious.read_text() == "precious"


def test_what_is_put_into_the_private_folder_meanwhile_outlives_a_failed_start(source: Path, tmp_path: Path) -> None:
    class Foreign(Listener):
        def start(self, *_: object) -> None:
            (tmp_path / "out.withhold" / "diary.txt").write_text("private")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "out", settings(), make_uniform, Foreign())
    assert {path.name for path in (tmp_path / "out.withhold").iterdir()} == {"diary.txt"}


def test_what_a_start_killed_early_left_is_taken_over(source: Path, tmp_path: Path) -> None:
    private = tmp_path / "out.withhold"
    private.mkdir()
    for name in ("lock", "holder.json", "plan.parquet", ".0123456789abcdef.partial"):
        (private / name).write_bytes(b"")
    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "out", settings(), make_uniform, Failing())
    assert not private.exists()
    private.mkdir()
    (private / "holder.json").write_bytes(b"")
    assert run(source, tmp_path / "out", settings(), make_uniform).images == 12


class Failing(Listener):
    def start(self, *_: object) -> None:
        raise ZeroDivisionError


def test_inside_a_folder_that_the_source_links_to(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere" / "owl"
    outside.parent.mkdir()
    (source / "owl").rename(outside)
    (source / "owl").symlink_to(outside)
    (outside / "loop").symlink_to(source)
    assert "makes part of the source" in refused(source, outside / "out")
    assert "makes part of the source" in refused(source, outside / "deep" / "out")
    assert "makes part of the source" in refused(source, outside)
    (outside / "loop").unlink()
    assert run(source, tmp_path / "elsewhere" / "out", settings(), make_uniform).images == 12


def test_a_file_in_place_of_the_private_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.withhold").write_text("a file")
    assert "is a file" in refused(source, tmp_path / "out")


def test_a_new_folder_an_empty_one_and_a_link_to_one_are_fine(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert place_release(source, tmp_path / "a" / "b").root == tmp_path / "a" / "b.withhold"
    assert place_release(source, tmp_path / "link").root == tmp_path / "empty.withhold"
    report = run(source, tmp_path / "link", settings(), make_uniform)
    assert report.destination == tmp_path / "empty"
    assert (tmp_path / "link" / "release.json").exists()
