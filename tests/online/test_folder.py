import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.online.protectors import tiny

from withhold.errors import InvalidInput
from withhold.online import loading
from withhold.online.folder import DIRECTIONS, DOCUMENT, GENERATOR, KEY, SURROGATE, new_key, read_folder
from withhold.online.protector import Protector


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def start(self, task: str, total: int, unit: str) -> None: ...
    def advance(self, count: int = 1) -> None: ...
    def status(self, **counts: int) -> None: ...
    def finish(self) -> None: ...


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tiny(tmp_path / "own", objective="alignment")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_only_the_owner_may_read_it(own: Path) -> None:
    assert stat.S_IMODE((own / KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert len(bytes.fromhex((own / KEY).read_text())) == 32


def test_keys_are_never_the_same() -> None:
    assert new_key() != new_key()


@pytest.mark.parametrize("name", [SURROGATE, GENERATOR, DIRECTIONS, KEY])
def test_a_changed_or_missing_file_is_named(own: Path, name: str) -> None:
    flip(own / name)
    with pytest.raises(InvalidInput, match=f"is damaged: {name} was changed. Restore it"):
        Protector.load(own)
    (own / name).unlink()
    with pytest.raises(InvalidInput, match=f"is damaged: {name} is missing. Restore it"):
        Protector.load(own)


def test_every_damaged_file_is_named(own: Path) -> None:
    flip(own / GENERATOR)
    (own / KEY).unlink()
    with pytest.raises(InvalidInput) as caught:
        Protector.load(own)
    assert f"{GENERATOR} was changed" in str(caught.value)
    assert f"{KEY} is missing" in str(caught.value)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no document": (Path.unlink, "is no protector: there is no protector.json. Make one with"),
    "half a document": (lambda path: path.write_bytes(path.read_bytes()[:100]), "protector.json cannot be read"),
    "a list": (lambda path: path.write_text("[]"), "protector.json cannot be read"),
    "other eps": (lambda path: edit(path, settings={"eps": "16/255"}), "protector.json was changed"),
    "fewer lanes": (lambda path: edit(path, lanes=2), "protector.json was changed"),
    "later format": (lambda path: edit(path, format=2), "has format 2, and this version of Withhold reads format 1"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_document_that_is_not_as_it_was_written_is_refused(own: Path, kind: str) -> None:
    damage, says = BROKEN[kind]
    damage(own / DOCUMENT)
    with pytest.raises(InvalidInput, match=says):
        Protector.load(own)


def test_a_document_of_another_version_is_told_from_a_damaged_one(own: Path) -> None:
    content = json.loads((own / DOCUMENT).read_text())
    del content["fingerprint"]
    content["novelty"] = 1
    content["fingerprint"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (own / DOCUMENT).write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=r"does not know \(novelty: .*it was written by version"):
        Protector.load(own)


def test_a_place_without_a_protector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no protector"):
        Protector.load(tmp_path / "nowhere")


def test_the_fingerprint_depends_on_every_file(own: Path, tmp_path: Path) -> None:
    first = read_folder(own).document.fingerprint
    assert read_folder(tiny(tmp_path / "same", objective="alignment")).document.fingerprint == first
    assert read_folder(tiny(tmp_path / "key", objective="alignment", key=b"00" * 32)).document.fingerprint != first
    other = tiny(tmp_path / "generator", objective="alignment", generator_weights=2.0)
    assert read_folder(other).document.fingerprint != first


def test_another_pytorch_is_refused_unless_it_is_allowed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.__version__", "1.0.0")
    with pytest.raises(InvalidInput, match=r"would give other images here .*: PyTorch was .* and is now 1\.0\.0"):
        Protector.load(own)
    listener = Listener()
    protector = Protector.load(own, allow_differences=True, reporter=listener)
    assert len(protector.differences) == 1
    assert "PyTorch was" in listener.said[0]


def test_another_processor_is_said(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "processor", lambda _: "ABACUS")
    listener = Listener()
    assert "the processor was" in Protector.load(own, reporter=listener).differences[0]
    assert "and is now ABACUS" in listener.said[0]


def test_a_key_that_others_may_read_is_said(own: Path) -> None:
    (own / KEY).chmod(0o644)
    listener = Listener()
    Protector.load(own, reporter=listener)
    assert "other users of this machine may read the key" in listener.said[0]
