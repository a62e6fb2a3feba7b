"""Specifications of parts that many others have too: their JSON is put together from texts that are made once."""

import functools
import json
from collections.abc import Callable
from typing import Any

from scaling.specs.base import Spec, canonical_json


class Whole(Spec):
    """A specification of parts that many others have too, so that the text of a part is made once."""

    def canonical_json(self) -> str:
        """Returns the one JSON text of this value: sorted keys, no spaces, ASCII, no NaN."""
        values, cls = self.__dict__, type(self)
        parts = [
            f'"{name}":{_write(values[name])}'
            for name, excludes in _sorted_fields(cls)
            if excludes is None or not excludes(values[name])
        ]
        return "{" + ",".join(parts) + "}"


@functools.cache
def _sorted_fields(cls: Any) -> tuple[tuple[str, Callable[[Any], bool] | None], ...]:
    return tuple((name, cls.model_fields[name].exclude_if) for name in sorted(cls.model_fields))


def _write(value: Any) -> str:
    return _writer_of(type(value))(value)  # type: ignore[arg-type]


@functools.cache
def _writer_of(cls: Any) -> Callable[[Any], str]:
    """Returns what makes the canonical JSON of a part of this type."""
    if issubclass(cls, Whole):
        return cls.canonical_json
    if issubclass(cls, Spec):
        return _write_part
    if issubclass(cls, tuple):
        return _write_parts
    return canonical_json


def _write_parts(values: tuple[Any, ...]) -> str:
    return "[" + ",".join(map(_write, values)) + "]"


def _write_part(value: Spec) -> str:
    kept: str | None = value.__dict__.get("_text")
    if kept is None:  # pydantic's own text has the fields' order, and is a third of the work
        kept = value.__dict__["_text"] = _sort_json(value.__pydantic_serializer__.to_json(value))
    return kept


@functools.lru_cache(maxsize=1 << 14)
def _sort_json(text: bytes) -> str:
    return canonical_json(json.loads(text))
