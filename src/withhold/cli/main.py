"""The command `withhold`: it translates, delegates, and turns what happened into an exit code."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import withhold
from withhold.cli.console import complain
from withhold.cli.demo import demo
from withhold.cli.evaluate import evaluate
from withhold.cli.online import online
from withhold.cli.output import discard_output
from withhold.cli.protect import protect
from withhold.cli.serve import serve
from withhold.cli.show import show
from withhold.cli.verify import verify
from withhold.cli.watch import watch
from withhold.errors import WithholdError

OK, OFFENDERS, BAD_INPUT, STOPPED, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

EXIT_CODES = (
    f"[bold]Exit codes[/bold]: {OK} done; {OFFENDERS} verification found offenders; {BAD_INPUT} bad input or usage, "
    f"nothing was started; {STOPPED} stopped, and the same command resumes; {INTERRUPTED} interrupted by Ctrl-C; "
    f"{BROKEN_PIPE} nobody read the output."
)


class Group(TyperGroup):
    """Turns Withhold's own errors into a sentence and an exit code; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own signature
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except WithholdError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            discard_output()
            raise typer.Exit(BROKEN_PIPE) from None


app = typer.Typer(
    name="withhold",
    cls=Group,
    help="Publish your images; withhold their training value.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (protect, verify, show, evaluate, demo, serve, watch):
    app.command(epilog=EXIT_CODES)(command)
app.add_typer(online)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"withhold {withhold.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Publish your images; withhold their training value."""


def main() -> None:
    """Run the command line."""
    app()
