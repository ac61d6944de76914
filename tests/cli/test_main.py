import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import withhold
from withhold.cli.main import app
from withhold.errors import InvalidInput, RunStopped
from withhold.progress import Reporter
from withhold.release import run, show
from withhold.release import verify as verification
from withhold.release.engines.batches import Engine
from withhold.release.engines.local import Local
from withhold.release.manifest import Quality
from withhold.release.run import ProtectReport
from withhold.release.settings import ProtectSettings
from withhold.release.verify import Offender, Verification

COMMANDS = ["protect", "verify", "show", "evaluate", "demo", "serve", "watch"]
PASSED = Verification(8, 8, (), (), 8.0, 8, Fraction(8, 255), "release.json")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def report() -> ProtectReport:
    return ProtectReport(
        destination=Path("out"),
        sidecar=Path("out.withhold"),
        layout="folder",
        images=8,
        classes=2,
        batches=2,
        crafted=6,
        skipped=("a/broken.png",),
        ignored=("notes.txt",),
        quality=Quality(psnr=31.24, ssim=0.9, loss=0.5, alignment=None, sign_agreement=None),
        verification=PASSED,
        seconds=2.0,
        working_seconds=1.0,
        crafting_seconds=0.9,
    )


class FakeProtect:
    """Stands in for the run; keeps what it was given."""

    def __init__(self, outcome: ProtectReport | BaseException) -> None:
        self.outcome = outcome
        self.settings: ProtectSettings | None = None

    def __call__(
        self,
        source: Path,
        destination: Path,
        settings: ProtectSettings,
        *,
        engine: Engine,
        reporter: Reporter,
        **_: object,
    ) -> ProtectReport:
        assert isinstance(engine, Local)
        self.settings = settings
        reporter.say(f"Protecting {source} into {destination}.")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def fake_protect(monkeypatch: pytest.MonkeyPatch) -> Callable[[ProtectReport | BaseException], FakeProtect]:
    def install(outcome: ProtectReport | BaseException) -> FakeProtect:
        fake = FakeProtect(outcome)
        monkeypatch.setattr(run, "protect", fake)
        return fake

    return install


FakeProtects = Callable[[ProtectReport | BaseException], FakeProtect]


def test_help_names_commands_and_exit_codes() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for word in [*COMMANDS, "Exit codes", "130"]:
        assert word in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples_and_exit_codes(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"withhold {command}" in result.stdout
    assert "Examples" in result.stdout
    assert "Exit codes" in result.stdout


@pytest.mark.parametrize("command", [[], *[[command] for command in COMMANDS]])
def test_help_does_not_import_torch(command: list[str]) -> None:
    code = (
        "import sys; from withhold.cli.main import app; app([*sys.argv[1:], '--help'], standalone_mode=False); "
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"


def test_help_of_protect_shows_every_setting_and_its_default() -> None:
    shown = " ".join(CliRunner().invoke(app, ["protect", "--help"], env={"COLUMNS": "300"}).stdout.split())
    for name in ProtectSettings.model_fields:
        assert f"--{name.replace('_', '-')} " in shown
    for default in ("[default: 8/255]", "[default: no]", "[default: auto]"):
        assert default in shown


def test_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"withhold {withhold.__version__}\n")


def test_protect_prints_a_summary_on_stdout_and_talk_on_stderr(fake_protect: FakeProtects) -> None:
    fake_protect(report())
    result = invoke("protect", "in", "out")
    assert result.exit_code == 0
    assert result.stderr == "Protecting in into out.\n"
    for words in (
        "8 images in 2 classes",
        "2 of them by an earlier start",
        "31.2 dB",
        "a/broken.png",
        "notes.txt",
        "out.withhold",
    ):
        assert words in result.stdout


def test_quiet_says_nothing_but_the_result(fake_protect: FakeProtects) -> None:
    fake_protect(report())
    assert invoke("protect", "in", "out", "--quiet").stderr == ""


def test_protect_json_is_one_document(fake_protect: FakeProtects) -> None:
    fake_protect(report())
    document = json.loads(invoke("protect", "in", "out", "--json").stdout)
    assert document["images"] == 8
    assert document["destination"] == "out"
    assert document["verification"]["eps"] == "8/255"


def test_options_not_given_stay_unset(fake_protect: FakeProtects) -> None:
    fake = fake_protect(report())
    invoke(
        "protect", "in", "out", "--eps", "4/255", "--mean", "0.1", "0.2", "0.3", "--std", "1", "1", "1", "--splits", "a"
    )
    assert fake.settings is not None
    assert fake.settings.model_fields_set == {"eps", "mean", "std", "splits"}
    assert fake.settings.eps == Fraction(4, 255)
    assert fake.settings.mean == (0.1, 0.2, 0.3)


def test_a_switch_can_be_given_both_ways(fake_protect: FakeProtects) -> None:
    fake = fake_protect(report())
    for option, meant in (("--skip-unreadable", True), ("--no-skip-unreadable", False)):
        invoke("protect", "in", "out", option)
        assert fake.settings is not None
        assert fake.settings.skip_unreadable is meant


@pytest.mark.parametrize("text", ["0", "-1/255", "65/255", "eight", "8"])
@pytest.mark.parametrize("command", ["protect", "verify", "show"])
def test_a_bad_eps_is_refused_in_a_sentence(command: str, text: str) -> None:
    rest = ["-o", "x.png"] if command == "show" else []
    result = invoke(command, "in", "out", f"--eps={text}", *rest)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("withhold: expected eps")
    assert ("did you mean 8/255?" in result.stderr) == (text == "8")


def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "withhold.toml"
    config.write_text("[protect]\nepz = 0.03\n", encoding="utf-8")
    result = invoke("protect", "in", "out", "--config", str(config))
    assert result.exit_code == 2
    assert "'epz'" in result.stderr
    assert "'eps'" in result.stderr


def test_usage_errors_exit_2() -> None:
    assert invoke("protect", "in").exit_code == 2
    assert invoke("protect", "in", "out", "--objective", "magic").exit_code == 2


@pytest.mark.parametrize(
    ("raised", "code"), [(InvalidInput("no such folder"), 2), (RunStopped("disk full"), 3), (KeyboardInterrupt(), 130)]
)
def test_each_way_to_end_has_its_exit_code(fake_protect: FakeProtects, raised: BaseException, code: int) -> None:
    fake_protect(raised)
    result = invoke("protect", "in", "out", "-q")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == (f"withhold: {raised}\n" if code < 130 else "")


def test_an_unexpected_exception_keeps_its_traceback(fake_protect: FakeProtects) -> None:
    fake_protect(ZeroDivisionError("a bug"))
    assert isinstance(invoke("protect", "in", "out").exception, ZeroDivisionError)


def fake_verify(monkeypatch: pytest.MonkeyPatch, result: Verification) -> None:
    def fake(*_: Path, **__: object) -> Verification:
        return result

    monkeypatch.setattr(verification, "verify", fake)


def test_verify_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_verify(monkeypatch, PASSED)
    result = invoke("verify", "in", "out")
    assert result.exit_code == 0
    assert result.stdout.endswith("PASSED.\n")
    assert "8/255 from release.json" in result.stdout


def test_verify_names_every_offender_and_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    offenders = tuple(Offender(f"cat/{i}.png", "changed by 9 levels, allowed are 8") for i in range(500))
    fake_verify(monkeypatch, Verification(500, 500, offenders, ("cat/x.png",), 9.0, 8, Fraction(8, 255), "argument"))
    result = invoke("verify", "in", "out")
    assert result.exit_code == 1
    for offender in offenders:
        assert f"{offender.name}: {offender.problem}\n" in result.stdout
    assert "cat/x.png" in result.stdout
    assert result.stdout.endswith("FAILED: 500 offenders.\n")


def test_verify_names_what_is_unchanged_because_it_shows_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_verify(monkeypatch, replace(PASSED, unchanged=("sea/1.png",)))
    result = invoke("verify", "in", "out")
    assert result.exit_code == 0
    assert "1 unchanged:\n  sea/1.png\n" in result.stdout


def test_verify_json(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Verification(1, 1, (Offender("a", "is missing"),), (), 3.5, 8, Fraction(8, 255), "default")
    fake_verify(monkeypatch, bad)
    result = invoke("verify", "in", "out", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (document["passed"], document["offenders"]) == (False, [{"name": "a", "problem": "is missing"}])


def test_show_hands_its_options_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def fake(source: Path, released: list[Path], output: Path, **options: object) -> Path:
        seen.update(options, source=source, released=released)
        return output

    monkeypatch.setattr(show, "show", fake)
    result = invoke(
        "show", "in", "one", "two", "-o", "x.png", "--name", "a/1.png", "--eps", "4/255,0.03", "--magnify", "5"
    )
    assert (result.exit_code, result.stdout) == (0, "x.png\n")
    assert seen == {
        "source": Path("in"),
        "released": [Path("one"), Path("two")],
        "names": ["a/1.png"],
        "count": 6,
        "seed": 0,
        "magnify": 5.0,
        "eps": [Fraction(4, 255), Fraction(3, 100)],
    }


def start(stdout: int) -> subprocess.CompletedProcess[str]:
    """Print a long result into a pipe or file, as the installed command would."""
    code = (
        "import sys; from withhold.cli import main\n"
        "@main.app.command()\n"
        "def flood():\n"
        "    from withhold.cli.output import emit\n"
        "    for _ in range(10000): emit('x' * 100)\n"
        "sys.argv = ['withhold', 'flood']; main.main()"
    )
    return subprocess.run([sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def test_a_closed_pipe_ends_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = start(writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_stdout_is_said_in_a_sentence() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = start(full)
    os.close(full)
    assert done.returncode == 3
    assert done.stderr.startswith("withhold: the result could not be written to standard output")
    assert "Traceback" not in done.stderr
