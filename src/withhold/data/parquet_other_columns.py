"""The columns of a Parquet file beside its image column: they are released as they are, so they may hold no images."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from withhold.data.place import Place, seekable
from withhold.data.signatures import FIRST, image_kind
from withhold.errors import InvalidInput

_ROWS = 128  # values of a column held at once
_BUFFER = 1 << 20


def is_image_struct(kind: pa.DataType) -> bool:
    """Say whether a type is struct(bytes, path), as the `datasets` library stores an image."""
    return pa.types.is_struct(kind) and {child.name for child in kind} == {"bytes", "path"}


def refuse_other_images(path: Place, image: str) -> None:
    """Refuse a file of which another column than `image` holds images, at any depth of lists and structs.

    Columns of bytes are read to the end, a few rows at a time, and each value is judged by its first bytes.

    Raises:
        InvalidInput: Names the column; or the file is damaged.
    """
    try:
        with pq.ParquetFile(seekable(path), buffer_size=_BUFFER, pre_buffer=False) as file:
            for field in file.schema_arrow:
                if field.name != image and (found := _images_in(file, field)):
                    msg = (
                        f"the column {field.name} of {path} holds images ({found}), which would be released "
                        f"unprotected; drop it from the source"
                    )
                    raise InvalidInput(msg)
    except (pa.ArrowException, OSError) as error:
        msg = f"{path} is damaged ({error}); replace it, or move it out"
        raise InvalidInput(msg) from error


def _images_in(file: pq.ParquetFile, field: "pa.Field[Any]") -> str | None:
    """Describe the images that a column holds; None if there are none."""
    kinds = list(_nested(field.type))
    if any(map(is_image_struct, kinds)):
        return "struct(bytes, path)"
    if not any(map(_is_binary, kinds)):
        return None
    for batch in file.iter_batches(_ROWS, columns=[field.name], use_threads=False):
        for values in _binary_values(batch.column(0)):
            starts = pc.binary_slice(values.cast(pa.large_binary()), 0, FIRST).unique().to_pylist()
            if found := next((kind for start in starts if start and (kind := image_kind(start))), None):
                return found
    return None


def _nested(kind: pa.DataType) -> Iterator[pa.DataType]:
    """Yield a type and all types inside it."""
    yield kind
    for child in _inside(kind):
        yield from _nested(child)


def _inside(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if isinstance(kind, pa.StructType):
        return [child.type for child in kind]
    if isinstance(kind, pa.MapType):
        return [kind.key_type, kind.item_type]
    return [kind.value_type] if hasattr(kind, "value_type") else []


def _is_binary(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests) and not pa.types.is_decimal(kind)


def _binary_values(values: Any) -> Iterator["pa.Array[Any]"]:  # noqa: ANN401 (arrays of any type)
    """Yield the arrays of bytes that an array consists of."""
    if _is_binary(values.type):
        yield values
    elif isinstance(values, pa.ExtensionArray):
        yield from _binary_values(values.storage)
    elif isinstance(values, pa.DictionaryArray):
        yield from _binary_values(values.dictionary)
    elif isinstance(values, pa.StructArray):
        for number in range(values.type.num_fields):
            yield from _binary_values(values.field(number))
    elif isinstance(values, pa.MapArray):
        yield from _binary_values(values.keys)
        yield from _binary_values(values.items)
    elif hasattr(values.type, "value_type"):
        yield from _binary_values(values.values)
