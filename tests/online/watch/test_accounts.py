from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.online.watch.fakes import fake_protector
from tests.online.watch.inboxes import SOON, fill, leftovers, places, png, tree

from withhold.errors import InvalidInput, RunStopped
from withhold.online.ledger import Ledger, LedgerUnavailable
from withhold.online.watch.accounts import Accounts
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


def run_once(root: Path, accounts: Accounts, protector: object = None) -> list[str]:
    """Watch once, and return what was said."""
    said = Said()
    chosen = protector or fake_protector()
    watch(places(root), chosen, WatchSettings(settle=SOON), once=True, accounts=accounts, reporter=said)  # type: ignore[arg-type]
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
