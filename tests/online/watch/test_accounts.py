import hashlib
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.online.watch.fakes import fake_protector
from tests.online.watch.inboxes import SOON, fill, leftovers, places, png, tree

from withhold.errors import InvalidInput, RunStopped
from withhold.online.ledger import IdempotencyConflict, Ledger, LedgerUnavailable, NotReserved, UnknownClient
from withhold.online.watch.accounts import Accounts
from withhold.online.watch.handling import MOST_STARTS
from withhold.online.watch.run import watch
from withhold.online.watch.settings import WatchSettings

FINGERPRINT = "f" * 64


class Said:
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, text: str) -> None:
        self.sentences.append(text)

    def start(self, task: str, total: int, unit: str) -> None: ...
    def advance(self, count: int = 1) -> None: ...
    def status(self, **counts: int) -> None: ...
    def finish(self) -> None: ...


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    found.add_client("album", pairs=None)
    yield found
    found.close()


@pytest.fixture
def accounts(ledger: Ledger) -> Accounts:
    (client,) = ledger.clients()
    return Accounts(ledger, client, FINGERPRINT, 8)


def run_once(root: Path, accounts: Accounts, protector: object = None, **chosen: str) -> list[str]:
    """Watch once, and return what was said."""
    said = Said()
    settings = WatchSettings.model_validate({"settle": SOON, **chosen})
    used = protector or fake_protector()
    watch(places(root), used, settings, once=True, accounts=accounts, reporter=said)  # type: ignore[arg-type]
    return said.sentences


@pytest.mark.parametrize("step", ["reserve", "record"])
def test_while_the_ledger_is_away_images_wait_and_are_counted_once_later(
    tmp_path: Path, ledger: Ledger, accounts: Accounts, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1))

    def away(*_: object, **__: object) -> None:
        msg = "the database does not answer"
        raise LedgerUnavailable(msg)

    with monkeypatch.context() as patched:
        patched.setattr(ledger, step, away)
        said = run_once(tmp_path, accounts)
    assert "Images wait in the inbox: the database does not answer." in said
    assert tree(tmp_path / "outbox") == {}
    assert tree(tmp_path / "inbox") == {"cat/a.png": png(1)}
    run_once(tmp_path, accounts)
    assert list(tree(tmp_path / "outbox")) == ["cat/a.png"]
    assert ledger.usage(accounts.client).images_today == len(list(ledger.entries())) == 1
    assert leftovers(places(tmp_path)) == []


def test_an_image_that_cannot_be_protected_counts_nothing(tmp_path: Path, ledger: Ledger, accounts: Accounts) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1))
    protector = fake_protector()

    def failing(*_: object, **__: object) -> None:
        msg = "it is not released"
        raise RunStopped(msg)

    protector.protect_accepted = failing  # type: ignore[method-assign, assignment]
    run_once(tmp_path, accounts, protector)
    assert ledger.usage(accounts.client).images_today == 0
    assert (tmp_path / "inbox/.withhold/rejected/cat/a.png").exists()


def test_a_client_that_is_revoked_ends_the_watch(tmp_path: Path, ledger: Ledger, accounts: Accounts) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1))
    ledger.revoke_client("album")
    with pytest.raises(InvalidInput):
        run_once(tmp_path, accounts)
    assert tree(tmp_path / "inbox") == {"cat/a.png": png(1)}


@pytest.mark.parametrize("waits", ["away", "revoked"])
def test_a_file_is_not_blamed_for_the_ledger(
    tmp_path: Path, ledger: Ledger, accounts: Accounts, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    """However many watches start meanwhile, it is protected once the ledger takes it."""
    fill(tmp_path / "inbox", cat__a_png=png(1))

    def refusing(*_: object, **__: object) -> None:
        if waits == "away":
            msg = "the database does not answer"
            raise LedgerUnavailable(msg)
        msg = "the token was revoked"
        raise UnknownClient(msg)

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "reserve", refusing)
        for _ in range(MOST_STARTS + 1):
            with nullcontext() if waits == "away" else pytest.raises(UnknownClient):
                run_once(tmp_path, accounts)
    run_once(tmp_path, accounts)
    assert list(tree(tmp_path / "outbox")) == ["cat/a.png"]


@pytest.mark.parametrize("changed", ["speed", "label", "protector"])
def test_a_file_that_comes_again_in_another_form_is_counted_as_another_image(
    tmp_path: Path, ledger: Ledger, accounts: Accounts, changed: str
) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1))
    run_once(tmp_path, accounts, speed="full")
    fill(tmp_path / "inbox", cat__a_png=png(1))
    other = replace(accounts, protector="e" * 64) if changed == "protector" else accounts
    chosen = {"speed": {"speed": "quick"}, "label": {"labels": "unknown"}, "protector": {}}[changed]
    run_once(tmp_path, other, **{"speed": "full", **chosen})
    assert tree(tmp_path / "inbox") == {}
    assert tree(tmp_path / "inbox/.withhold/rejected") == {}
    assert ledger.usage(accounts.client).images_today == len(list(ledger.entries())) == 2


@pytest.mark.parametrize("refused", [("reserve", IdempotencyConflict), ("record", NotReserved)])
def test_what_the_ledger_refuses_is_rejected_with_its_sentence_and_holds_up_nothing(
    tmp_path: Path,
    ledger: Ledger,
    accounts: Accounts,
    monkeypatch: pytest.MonkeyPatch,
    refused: tuple[str, type[Exception]],
) -> None:
    step, error = refused
    fill(tmp_path / "inbox", cat__a_png=png(1), cat__b_png=png(2))
    usual, asked = getattr(ledger, step), []

    def refusing(*given: object, **options: object) -> object:
        asked.append(given)
        if len(asked) == 1:
            msg = "the ledger does not take this one"
            raise error(msg)
        return usual(*given, **options)

    monkeypatch.setattr(ledger, step, refusing)
    run_once(tmp_path, accounts)
    (published,) = tree(tmp_path / "outbox")
    rejected = tree(tmp_path / "inbox/.withhold/rejected")
    (name,) = {"cat/a.png", "cat/b.png"} - {published}
    assert rejected[f"{name}.reason.txt"] == f"{name}: the ledger does not take this one\n".encode()
    assert ledger.usage(accounts.client).images_today == 1
    assert leftovers(places(tmp_path)) == []


def test_what_was_reserved_before_the_quota_ended_is_released(tmp_path: Path, ledger: Ledger) -> None:
    ledger.add_client("small", images_per_day=1, pairs=None)
    (client,) = [client for client in ledger.clients() if client.name == "small"]
    for seed in (1, 2):
        fill(tmp_path / "inbox", **{f"cat__{seed}_png": png(seed)})
        os.utime(tmp_path / f"inbox/cat/{seed}.png", (seed, seed))
    protector = fake_protector()
    protector.document = SimpleNamespace(lanes=2)  # type: ignore[assignment]
    said = run_once(tmp_path, Accounts(ledger, client, FINGERPRINT, 8), protector)
    assert any("the quota is 1 images per day" in each for each in said)
    assert list(tree(tmp_path / "outbox")) == ["cat/1.png"]
    assert tree(tmp_path / "inbox") == {"cat/2.png": png(2)}
    assert [row.sha256_before for row in ledger.entries()] == [hashlib.sha256(png(1)).hexdigest()]
