"""What clients get: files with their numbers in headers, and ZIP archives with the numbers in `released.json`."""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from fastapi import Response
from pydantic import BaseModel

from withhold.online.protector import Released
from withhold.online.service.problems import Problem, ProblemDetails
from withhold.online.settings import SpeedName

BYTES_PER_PIXEL = 4
"""Of a released file at most: four channels that cannot be compressed."""

EXTENSIONS = {"image/png": "png", "image/webp": "webp", "image/tiff": "tiff"}
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
REPORT = "released.json"
ZIP = "application/zip"


class Numbers(BaseModel):
    """What was measured of a released image.

    Attributes:
        largest_change: Of any channel, in levels of 8 bit.
        psnr: In dB.
        sha256_before: Of the file that was sent.
        sha256_after: Of the file that was released.
    """

    label: str
    label_was_given: bool
    speed: SpeedName
    largest_change: float
    psnr: float
    sha256_before: str
    sha256_after: str

    @classmethod
    def of(cls, released: Released) -> "Numbers":
        """Take them from a released image."""
        return cls(**{name: getattr(released, name) for name in cls.model_fields})


class ImageReport(BaseModel):
    """What became of one image of a request.

    Attributes:
        image: Its place in the request, from 1.
        file: Its name in the archive; None if it was not released.
        numbers: None if it was not released.
        problem: Why it was not released.
    """

    image: int
    file: str | None = None
    numbers: Numbers | None = None
    problem: ProblemDetails | None = None


class Result:
    """What became of one image, and its file.

    Attributes:
        report: For `released.json`.
        content: The file; empty if there is none.
    """

    def __init__(self, report: ImageReport, content: bytes = b"") -> None:
        self.report, self.content = report, content

    @classmethod
    def of(cls, image: int, outcome: Released | Problem) -> "Result":
        """Make it from an outcome."""
        if isinstance(outcome, Problem):
            return cls.refused(image, outcome.details())
        file = f"{image}.{EXTENSIONS[outcome.media_type]}"
        return cls(ImageReport(image=image, file=file, numbers=Numbers.of(outcome)), outcome.content)

    @classmethod
    def refused(cls, image: int, problem: ProblemDetails) -> "Result":
        """Make it of an image that was not released."""
        return cls(ImageReport(image=image, problem=problem))

    def to_bytes(self) -> bytes:
        """Write it as a file of a job: one line of JSON, and the released file."""
        return self.report.model_dump_json().encode() + b"\n" + self.content

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Result":
        """Read it back."""
        line, _, content = stored.partition(b"\n")
        return cls(ImageReport.model_validate_json(line), content)


def image_response(released: Released) -> Response:
    """Answer with a released file; a label is percent-encoded UTF-8, as headers hold no other characters."""
    headers = {
        "Content-Disposition": f'attachment; filename="released.{EXTENSIONS[released.media_type]}"',
        "Withhold-Label": quote(released.label, safe=""),
        "Withhold-Label-Given": "true" if released.label_was_given else "false",
        "Withhold-Speed": released.speed,
        "Withhold-Largest-Change": f"{released.largest_change:g}",
        "Withhold-PSNR": f"{released.psnr:.2f}",
        "Withhold-SHA256-Before": released.sha256_before,
        "Withhold-SHA256-After": released.sha256_after,
        "Withhold-Protector": released.protector,
    }
    return Response(released.content, headers={**headers, **PRIVATE}, media_type=released.media_type)


def archive(results: Iterable[Result], protector: str) -> Iterator[bytes]:
    """Write a ZIP archive of released files, and `released.json` at its end, piece by piece; equal input, equal bytes.

    Args:
        protector: Its fingerprint.
    """
    pieces = _Pieces()
    reports = []
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as target:  # images are compressed already
        for result in results:
            reports.append(result.report.model_dump(mode="json", exclude_none=True))
            if result.report.file is not None:
                target.writestr(zipfile.ZipInfo(result.report.file), result.content)
                yield pieces.take()
        document = {"protector": protector, "images": reports}
        target.writestr(zipfile.ZipInfo(REPORT), json.dumps(document, indent=1, ensure_ascii=False))
    yield pieces.take()


class _Pieces(io.RawIOBase):
    """A file that cannot be sought in, emptied while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._held += data
        return len(data)

    def take(self) -> bytes:
        taken, self._held = bytes(self._held), bytearray()
        return taken
