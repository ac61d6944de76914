"""`withhold serve`."""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from withhold.cli.options import read_settings, with_settings
from withhold.cluster import library
from withhold.errors import InvalidInput
from withhold.online.service.settings import ServiceSettings

NEEDED = ("cryptography", "fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "structlog", "uvicorn")


@with_settings(ServiceSettings)
def serve(
    protector: Annotated[Path, typer.Argument(help="Folder that `withhold online prepare` wrote.")],
    *,
    ledger: Annotated[
        str | None,
        typer.Option(
            envvar="WITHHOLD_LEDGER",
            help="URL of the ledger, sqlite:///FILE or postgresql://...; a file in the folder if absent.",
        ),
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(help="Private folder where the images of jobs wait, encrypted; in the folder if absent."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device to compute on; the protector's own if absent.")] = None,
    allow_differences: Annotated[
        bool, typer.Option(help="Serve even if images come out otherwise than where the protector was prepared.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file whose table \\[serve] holds settings.")] = None,
    **given: Any,  # noqa: ANN401 - one option per setting
) -> None:
    """Protect images over HTTP, for clients with a token.

    Logs are JSON lines on stderr. The first SIGTERM or Ctrl-C finishes what was accepted; a second one ends at once.

    [bold]Examples[/bold]

    withhold online client add platform --protector protector/

    withhold serve protector/ --port 8080

    withhold serve protector/ --port 8080 --engine ray --replicas 4 --address auto

    curl -F image=@me.png -F label=cat -H "Authorization: Bearer TOKEN" localhost:8080/v1/protect -o released.png
    """
    settings = read_settings(ServiceSettings, "serve", config, given)
    for module in NEEDED:
        _require(module)
    from withhold.online.service import server  # noqa: PLC0415 - torch and the web framework stay away from --help

    places = server.Places(protector, ledger, spool, device, allow_differences)
    if settings.engine == "process":
        server.serve(places, settings)
        return
    library()  # first, for it sets what Ray reads when it is imported
    from withhold.online.service import ray_server  # noqa: PLC0415 - Ray is for those who ask for it

    ray_server.serve_replicas(places, settings)


def _require(module: str) -> None:
    """Import a module that the service needs.

    Raises:
        InvalidInput: It is not installed.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        msg = f"the service needs {error.name}, which is not installed; install it with `pip install 'withhold[serve]'`"
        raise InvalidInput(msg) from None
