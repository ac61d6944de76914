"""Object stores through fsspec: which there are, how one is opened, and how often an operation is tried.

Credentials and endpoints come from where the store's own tools take them (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`),
never from a URL. Every process opens a store by itself, so a place in one can be sent to another machine.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from withhold.errors import InvalidInput, StoreFailed

Result = TypeVar("Result")

WAITS = (0.2, 0.8, 2.0, 4.0)
"""Seconds between the attempts at one operation; there is one attempt more than there are waits."""

_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
"""What the libraries call it, named as they cannot be imported where they are not installed."""

_FORBIDDEN = {401, 403}  # as HTTP says it


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of store.

    Attributes:
        package: What fsspec needs for it.
        extra: Of Withhold, which brings the package.
        lists: Whether it can list what it holds, and be written to.
        options: For its fsspec file system.
    """

    package: str
    extra: str = "storage"
    lists: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


# The attempts are counted here, so the libraries make one each. Large objects go up in parts, one at a time.
_S3 = {"config_kwargs": {"retries": {"total_max_attempts": 1}}, "max_concurrency": 1}

SCHEMES: Mapping[str, Scheme] = {
    "s3": Scheme("s3fs", options=_S3),
    "gs": Scheme("gcsfs", "gcs"),
    "http": Scheme("aiohttp", lists=False),
    "https": Scheme("aiohttp", lists=False),
}


def open_store(scheme: str) -> Any:  # noqa: ANN401 - fsspec has no types
    """Open the fsspec file system of a scheme, once in each process.

    Raises:
        InvalidInput: Its package is not installed.
    """
    return _opened(scheme, os.getpid())


@cache
def _opened(scheme: str, _process: int) -> Any:  # noqa: ANN401
    import fsspec  # noqa: PLC0415 - local datasets do without

    known = SCHEMES[scheme]
    try:
        # fsspec would keep one file system for each thread, and listings that are out of date after a write.
        return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **known.options)
    except ImportError as error:
        msg = f"{scheme}:// needs the package {known.package}: pip install 'withhold[{known.extra}]'"
        raise InvalidInput(msg) from error


def attempt(operation: Callable[[], Result], doing: str) -> Result:
    """Try an operation on a store until it succeeds, but only so often.

    Args:
        operation: May be done again even where it succeeded unnoticed.
        doing: What it does, such as `read s3://bucket/cat/1.png`.

    Raises:
        FileNotFoundError: There is no such object.
        StoreFailed: The store refused, or failed at every attempt.
    """
    for wait in (*WAITS, None):
        try:
            return operation()
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", doing.split(" ", 1)[1]) from error
        except StoreFailed:
            raise
        except Exception as error:
            if refusal := _refusal(error):
                msg = f"cannot {doing}: {refusal}"
                raise StoreFailed(msg) from error
            if wait is None:
                msg = (
                    f"cannot {doing}: the store failed {len(WAITS) + 1} times ({_words(error)}); check the network "
                    f"and the endpoint, and run the same command again"
                )
                raise StoreFailed(msg) from error
            time.sleep(wait)
    raise AssertionError


def _refusal(error: Exception) -> str | None:
    """Word what no further attempt would change; None for other errors."""
    if type(error).__name__ in _NO_CREDENTIALS:
        return (
            f"no credentials were found ({_words(error)}); set those of the store in the environment, for S3 "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, PermissionError) or getattr(error, "status", None) in _FORBIDDEN:
        return f"the store does not permit it ({_words(error)}); check the credentials and what they may do"
    return None


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
