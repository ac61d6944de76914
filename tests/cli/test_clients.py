"""`withhold online client` and `withhold online ledger`."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.online.ledger.conftest import PROTECTOR, entry, wanted
from typer.testing import CliRunner, Result

from withhold.cli.main import app
from withhold.online.folder import DOCUMENT
from withhold.online.ledger import Client, Ledger, default_url
from withhold.online.ledger import settings as ledger_settings

FORMATS = ("csv", "jsonl")


def invoke(*arguments: object, url: str | None = None) -> Result:
    """Run `withhold online`; stdout and stderr are apart."""
    environment = {"WITHHOLD_LEDGER": url, "COLUMNS": "200"}
    return CliRunner().invoke(app, ["online", *map(str, arguments)], env=environment)


@pytest.fixture
def protector(tmp_path: Path) -> Path:
    """A folder that says that it is a protector; the ledger asks for no more."""
    (tmp_path / "protector").mkdir()
    (tmp_path / "protector" / DOCUMENT).write_text("{}")
    return tmp_path / "protector"


def client_of(protector: Path, token: str) -> Client | None:
    ledger = Ledger.open(default_url(protector))
    try:
        return ledger.client_of(token)
    finally:
        ledger.close()


def release(protector: Path, name: str, *names: object) -> None:
    ledger = Ledger.open(default_url(protector))
    client = next(each for each in ledger.clients() if each.name == name)
    reservation = ledger.reserve(client, wanted(*names), idempotency_key=None, protector=PROTECTOR)
    ledger.record(reservation, [entry(each) for each in reservation.wanted])
    ledger.close()


def test_the_file_that_makes_a_protector_has_the_same_name_everywhere() -> None:
    assert ledger_settings.PROTECTOR == DOCUMENT


def test_add_prints_the_token_and_nothing_else_on_stdout(protector: Path) -> None:
    result = invoke("client", "add", "app", "--protector", protector)
    assert result.exit_code == 0
    token = result.stdout.removesuffix("\n")
    client = client_of(protector, token)
    assert client is not None
    assert (client.name, client.images_per_day, client.pairs) == ("app", None, 500)
    assert "no quota, at most 500 pairs" in result.stderr
    assert token not in result.stderr


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        (["--images-per-day", "10"], (10, 500)),
        (["--pairs", "0"], (None, 0)),
        (["--no-pair-limit"], (None, None)),
        (["--images-per-day", "1", "--pairs", "2"], (1, 2)),
    ],
)
def test_limits_are_as_they_were_given(
    protector: Path, options: list[str], limits: tuple[int | None, int | None]
) -> None:
    result = invoke("client", "add", "app", "--protector", protector, "--json", "--quiet", *options)
    assert result.stderr == ""
    stated = json.loads(result.stdout)
    client = client_of(protector, stated["token"])
    assert client is not None
    assert (client.images_per_day, client.pairs) == (stated["images_per_day"], stated["pairs"]) == limits


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["app", "--pairs", "3", "--no-pair-limit"], "--no-pair-limit and --pairs 3 contradict each other"),
        (["app", "--pairs", "-1"], "--pairs: Input should be greater than or equal to 0, got -1"),
        (["app", "--images-per-day", str(2**31)], "--images-per-day: Input should be less than or equal to"),
        (["a b"], "a client's name is made of 1 to 64 letters"),
        (["app", "--ledger", "mysql://u:secret@host/db"], "begins with 'mysql', which is not supported"),
    ],
)
def test_mistakes_are_refused(protector: Path, options: list[str], says: str) -> None:
    result = invoke("client", "add", "--protector", protector, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr
    assert "secret" not in result.stderr


def test_a_ledger_that_cannot_be_reached_may_be_there_later(protector: Path) -> None:
    url = "postgresql://u:secret@127.0.0.1:1/db"
    result = invoke("client", "add", "app", "--protector", protector, "--ledger", url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "u:***@127.0.0.1:1/db cannot be reached" in result.stderr
    assert "secret" not in result.stderr


def test_a_ledger_must_be_named_and_a_protector_be_one(tmp_path: Path) -> None:
    assert "which ledger? Give --protector FOLDER" in invoke("client", "list").stderr
    result = invoke("client", "list", "--protector", tmp_path)
    assert (result.exit_code, "is no protector" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_may_be_named_in_the_environment(protector: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    assert invoke("client", "add", "app", "--protector", protector, url=url).exit_code == 0
    assert not (protector / "ledger.db").exists()
    stated = json.loads(invoke("client", "list", "--json", "--ledger", url).stdout)
    assert [each["name"] for each in stated["clients"]] == ["app"]


def test_list_shows_limits_and_what_was_had(protector: Path) -> None:
    assert "There is no client yet" in invoke("client", "list", "--protector", protector).stdout
    invoke("client", "add", "app", "--protector", protector, "--images-per-day", "9")
    invoke("client", "add", "platform", "--protector", protector, "--no-pair-limit")
    release(protector, "app", 1, 1, 2)
    invoke("client", "revoke", "platform", "--protector", protector)
    lines = invoke("client", "list", "--protector", protector).stdout.splitlines()
    assert lines[0].split() == ["name", "images", "today", "pairs", "created", "revoked"]
    assert lines[1].split()[:7] == ["app", "3", "of", "9", "2", "of", "500"]
    assert lines[2].split()[:7] == ["platform", "0", "of", "any", "0", "of", "any"]
    (app_, platform) = json.loads(invoke("client", "list", "--protector", protector, "--json").stdout)["clients"]
    assert (app_["images_today"], app_["pairs"], app_["revoked"]) == (3, 2, None)
    assert platform["revoked"] is not None


def test_revoke_ends_a_token_once(protector: Path) -> None:
    token = invoke("client", "add", "app", "--protector", protector).stdout.strip()
    result = invoke("client", "revoke", "app", "--protector", protector)
    assert (result.exit_code, result.stdout) == (0, "")
    assert client_of(protector, token) is None
    again = invoke("client", "revoke", "app", "--protector", protector)
    assert (again.exit_code, "no client 'app' with a token" in again.stderr) == (2, True)


def test_export_writes_every_released_image(protector: Path) -> None:
    for name in ("app", "other"):
        invoke("client", "add", name, "--protector", protector)
    release(protector, "app", 1, 2)
    release(protector, "other", 3)
    rows = list(csv.DictReader(invoke("ledger", "export", "--protector", protector).stdout.splitlines()))
    assert [row["sha256_before"] for row in rows] == [hashlib.sha256(name).hexdigest() for name in (b"1", b"2", b"3")]
    assert [row["client"] for row in rows] == ["app", "app", "other"]
    lines = invoke("ledger", "export", "--protector", protector, "--format", "jsonl").stdout.splitlines()
    for row, stated in zip(rows, map(json.loads, lines), strict=True):
        assert row == {name: str(value) for name, value in stated.items()}
        assert (stated["label_was_given"], stated["eps"], stated["largest_change"]) == (True, 8, 7.0)


def test_export_writes_pages_as_one(protector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("client", "add", "app", "--protector", protector)
    release(protector, "app", *range(7))
    expected = {form: invoke("ledger", "export", "--protector", protector, "--format", form).stdout for form in FORMATS}
    monkeypatch.setattr("withhold.cli.ledger.PAGE", 3)
    for form, text in expected.items():
        assert invoke("ledger", "export", "--protector", protector, "--format", form).stdout == text
    assert {form: len(text.splitlines()) for form, text in expected.items()} == {"csv": 8, "jsonl": 7}


def test_export_chooses_a_client_and_a_time(protector: Path) -> None:
    for name in ("app", "other"):
        invoke("client", "add", name, "--protector", protector)
    release(protector, "app", 1)
    release(protector, "other", 2)

    def count(*options: str) -> int:
        result = invoke("ledger", "export", "--protector", protector, "--format", "jsonl", *options)
        return len(result.stdout.splitlines())

    assert count() == 2
    assert count("--client", "app") == 1
    assert count("--since", "2020-01-01") == 2
    assert count("--since", "2999-01-01T10:00:00") == 0
    unknown = invoke("ledger", "export", "--protector", protector, "--client", "ap")
    assert (unknown.exit_code, "there is no client 'ap'" in unknown.stderr) == (2, True)


def test_export_of_an_empty_ledger_is_a_header_or_nothing(protector: Path) -> None:
    header = invoke("ledger", "export", "--protector", protector).stdout
    assert header.splitlines() == [
        "recorded,client,protector,sha256_before,sha256_after,label,label_was_given,speed,eps,largest_change,reservation"
    ]
    assert invoke("ledger", "export", "--protector", protector, "--format", "jsonl").stdout == ""


def test_export_ends_quietly_when_nobody_reads(protector: Path) -> None:
    invoke("client", "add", "app", "--protector", protector)
    release(protector, "app", 1)
    code = "from withhold.cli.main import main; main()"
    command = [sys.executable, "-c", code, "online", "ledger", "export", "--protector", str(protector)]
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as process:
        os.close(writing)
        _, said = process.communicate()
    assert (process.returncode, said) == (141, "")


@pytest.mark.parametrize("command", [["client", "add"], ["ledger", "export"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys; from withhold.cli.main import app; "
        "app(['online', *sys.argv[1:], '--help'], standalone_mode=False); "
        "print(sorted({'torch', 'sqlalchemy', 'alembic', 'psycopg'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "Examples" in done.stdout
