"""The options of a command, made from the fields of its settings.

A value comes from the command line, else from the configuration file, else from the default in the settings.
"""

import difflib
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Optional, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from rich.markup import escape

from withhold.errors import InvalidInput

Command = TypeVar("Command", bound=Callable[..., None])
Settings = TypeVar("Settings", bound=BaseModel)

TABLES = ("evaluate", "prepare", "protect", "serve", "watch")
"""Tables of a configuration file: the names of the commands that read one."""


def with_settings(*models: type[BaseModel]) -> Callable[[Command], Command]:
    """Replace the `**given` of a command by one option per field of its settings; each is None unless given.

    Args:
        models: One, or one for each task of the command; fields of the same name are one option.
    """

    def decorate(command: Command) -> Command:
        def panel(name: str) -> str:
            return _panel(command.__name__, name, models)

        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        names = dict.fromkeys(name for model in models for name in model.model_fields)
        generated = [_parameter(name, [m for m in models if name in m.model_fields], panel(name)) for name in names]
        command.__signature__ = signature.replace(parameters=[*own, *generated])  # type: ignore[attr-defined]
        return command

    return decorate


def _panel(command: str, name: str, models: Sequence[type[BaseModel]]) -> str:
    """Head the options of a task for themselves, after those that all tasks have."""
    having = [model for model in models if name in model.model_fields]
    task = "" if len(having) == len(models) else f" of --task {task_of(having[0])}"
    return rf"Settings{task} (also keys of the table \[{command}] of a configuration file)"


def task_of(model: type[BaseModel]) -> str:
    """Name the task that settings are for."""
    return str(model.model_fields["task"].default)


def _parameter(name: str, models: Sequence[type[BaseModel]], panel: str) -> inspect.Parameter:
    fields = [model.model_fields[name] for model in models]
    parsed = _command_line_type(_common_type([field.annotation for field in fields]))
    metavar = f"<{len(get_args(parsed))} numbers>" if get_origin(parsed) is tuple else None
    text = _help(fields[0])
    for model, field in zip(models[1:], fields[1:], strict=True):
        if field.description != fields[0].description:
            text = f"{text} With --task {task_of(model)}: {_help(field)}"
    option = typer.Option(help=text, show_default=False, metavar=metavar, rich_help_panel=panel)
    annotation = Annotated[Optional[parsed], option]  # type: ignore[valid-type] # noqa: UP045 - built at run time
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _common_type(annotations: Sequence[Any]) -> Any:  # noqa: ANN401 - a type expression
    """Allow the choices of any task; its settings check the value themselves."""
    if all(annotation == annotations[0] for annotation in annotations):
        return annotations[0]
    return Literal[tuple(dict.fromkeys(choice for annotation in annotations for choice in get_args(annotation)))]


def _command_line_type(annotation: Any) -> Any:  # noqa: ANN401 - a type expression
    """Translate a field's type into what the command line parses; the settings check the value themselves."""
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (a for a in arguments if a is not type(None))
        return _command_line_type(annotation)
    if get_origin(annotation) is tuple and arguments[-1] is Ellipsis:
        # typer has no lists of choices.
        return list[str] if get_origin(arguments[0]) is Literal else list[arguments[0]]  # type: ignore[valid-type]
    return str if annotation is Fraction else annotation


def _help(field: FieldInfo) -> str:
    # Typer is told no default, as an option that is not given must not override the configuration file.
    if field.default is None or field.default == ():
        return escape(field.description or "")
    default = {True: "yes", False: "no"}[field.default] if isinstance(field.default, bool) else str(field.default)
    if isinstance(field.default, tuple):
        default = ", ".join(map(str, field.default))
    return f"{escape(field.description or '')} [dim]{escape(f'[default: {default}]')}[/dim]"


def read_settings(
    model: type[Settings],
    table: str,
    config: Path | None,
    given: Mapping[str, Any],
    others: Sequence[type[BaseModel]] = (),
) -> Settings:
    """Combine defaults, a configuration file and the options given on the command line, in rising order of precedence.

    Args:
        table: Of the file, named for the command.
        others: Settings of the command's other tasks.

    Raises:
        InvalidInput: The file is unreadable, names an unknown key, a value is not allowed, or an option is of another
            task.
    """
    chosen = {name: value for name, value in given.items() if value is not None and value != []}
    models: list[type[BaseModel]] = [model, *others]
    known = [name for each in models for name in each.model_fields]
    stored = {} if config is None else read_table(config, table, known)
    for name in (*chosen, *stored):
        if name not in model.model_fields:
            shown = _shown(name, config, chosen)
            raise InvalidInput(other_task(shown, next(o for o in others if name in o.model_fields), model))
    try:
        return model(**{**stored, **chosen})
    except ValidationError as error:
        raise InvalidInput("\n".join(_explain(e["loc"], e, config, chosen) for e in error.errors())) from None


def other_task(option: str, needed: type[BaseModel], model: type[BaseModel]) -> str:
    """Say that an option belongs to another task of the command."""
    return f"{option} belongs to --task {task_of(needed)}, and this is --task {task_of(model)}; leave it out"


def read_table(config: Path, name: str, known: list[str]) -> dict[str, Any]:
    """Read a table of a TOML file; hyphens in keys may be written as on the command line.

    Raises:
        InvalidInput: The file is missing, is no TOML, or holds a key that the command does not know.
    """
    try:
        document = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read the configuration file {config}: {error.strerror}"
        raise InvalidInput(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{config} is no valid TOML: {error}"
        raise InvalidInput(msg) from None
    _refuse_unknown(document, list(TABLES), f"at the top of {config}; settings belong under [{name}]")
    table = document.get(name, {})
    if not isinstance(table, dict):
        msg = f"{config}: {name} must be a table, written [{name}], got {table!r}"
        raise InvalidInput(msg)
    stored = {key.replace("-", "_"): value for key, value in table.items()}
    _refuse_unknown(stored, known, f"in [{name}] of {config}")
    return stored


def _refuse_unknown(keys: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
            msg = f"unknown key {key!r} {where}; the nearest that exists is {near!r}"
            raise InvalidInput(msg)


def _explain(
    loc: tuple[int | str, ...], error: Mapping[str, Any], config: Path | None, chosen: Mapping[str, Any]
) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not loc:
        return message
    return f"{_shown(str(loc[0]), config, chosen)}: {message}, got {error['input']!r}"


def _shown(name: str, config: Path | None, chosen: Mapping[str, Any]) -> str:
    """Name a setting as the user gave it."""
    return f"--{name.replace('_', '-')}" if name in chosen or config is None else f"{name} in {config}"
