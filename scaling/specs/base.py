"""The base of every specification: frozen, strict and closed, with canonical JSON, fingerprints and overrides."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

FINGERPRINT_LENGTH = 12

Json = dict[str, Any]  # a JSON object: a document, or a row of one

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class InputError(ValueError):
    """What the user asked for cannot be done; the one-line message names field, value, constraint and remedy."""


class UnknownPathError(InputError):
    """An override names a field that this specification does not have."""


class Spec(BaseModel):
    """A frozen, strictly typed value that refuses unknown fields and round-trips through JSON exactly.

    A field added after the first release must leave old fingerprints alone: give it a default and
    `exclude_if=lambda value: value == DEFAULT`, so that the canonical JSON of older specifications does not change.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def __init__(self, /, **values: Any) -> None:
        """Makes a value of its fields.

        Raises:
          InputError: a field is unknown, missing or has a value that it does not take; said as where JSON is read.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(f"{type(self).__name__}: {describe_error(error, type(self))}") from None

    # pydantic goes through an `__init__` of somebody's own for every nested part too; this one is for who calls it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def canonical_json(self) -> str:
        """Returns the one JSON text of this value: sorted keys, no spaces, ASCII, no NaN."""
        return canonical_json(self.model_dump(mode="json"))

    def fingerprint(self) -> str:
        """Returns the identity of this value: the first 12 hex digits of the sha256 of its canonical JSON."""
        return fingerprint_text(self.canonical_json())


def since(default: Any, **constraints: Any) -> Any:
    """Returns a field added after the first release: left out of the JSON at its default, so old fingerprints stay."""
    return Field(default, exclude_if=lambda value: value == default, **constraints)


SpecT = TypeVar("SpecT", bound=BaseModel)


def canonical_json(value: Any) -> str:
    """Returns the canonical JSON text of a JSON-like value.

    >>> canonical_json({"b": 1.0, "a": [True, None]})
    '{"a":[true,null],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint_text(text: str) -> str:
    """Returns the first 12 hex digits of the sha256 of a text.

    >>> fingerprint_text("{}")
    '44136fa355b3'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def parse(cls: type[SpecT], text: str | bytes, where: str) -> SpecT:
    """Returns the model that a JSON text describes, or raises one readable line; executes nothing.

    Args:
      cls: the model's class.
      text: a JSON document.
      where: what the text is, for the error message (a file's path, say).

    Raises:
      InputError: names the first offending field by its dotted path, its value, the constraint and the nearest name.
    """
    try:
        return cls.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: {describe_error(error, cls)}") from None


def describe_error(error: ValidationError, cls: type[BaseModel] | None = None) -> str:
    """Returns one line for a pydantic error: dotted field, value, constraint, remedy, and how many more there are."""
    # A misspelt field is both unknown and missing; the unknown name is the more helpful half.
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return _describe_detail(details[0], cls) + more


def suggest(name: str, valid: Iterable[str]) -> str:
    """Returns the remedy for an unknown name: the nearest valid one, or all of them where none is near.

    >>> suggest("sied", ["seed", "data"])
    "did you mean 'seed'?"
    >>> suggest("zzz", ["seed", "data"])
    "choose one of 'data', 'seed'"
    """
    known = sorted(valid)
    return suggest_near(name, known) or f"choose one of {', '.join(map(repr, known)) or '(there are none)'}"


def suggest_near(name: str, valid: Iterable[str], likeness: float = 0.6) -> str:
    """Returns the nearest valid name as a question, or nothing where no name is at least so like it.

    >>> suggest_near("num_param", ["num_params"]), suggest_near("accuracy", ["num_params"])
    ("did you mean 'num_params'?", '')
    """
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=likeness)
    return f"did you mean {near[0]!r}?" if near else ""


def override(specs: Sequence[SpecT], assignments: Sequence[str]) -> list[SpecT]:
    """Returns copies of specifications with `PATH=VALUE` assignments applied, validated again.

    An assignment applies to every specification that has its path, and must apply to one at least. A value is JSON
    where it parses as JSON (`0.1`, `true`, `null`, `[1,2]`), else a string. Setting `kind` of a tagged part to another
    kind starts that part afresh from the new kind's defaults; later assignments fill its fields.

    Raises:
      InputError: an assignment is malformed, its path exists nowhere, or a result is invalid.
    """
    if not assignments:
        return list(specs)
    parsed = [_parse_assignment(assignment) for assignment in assignments]
    refusals: dict[str, list[UnknownPathError]] = {path: [] for path, _ in parsed}
    results = []
    for spec in specs:
        document = _all_fields(spec)
        restarted: set[int] = set()
        for path, value in parsed:
            try:
                _assign(document, path, value, restarted)
            except UnknownPathError as error:
                refusals[path].append(error)
        results.append(parse(type(spec), json.dumps(document), "--set " + " --set ".join(assignments)))
    for errors in refusals.values():
        if len(errors) == len(specs) and errors:
            raise errors[0]
    return results


def _all_fields(value: Any) -> Any:
    """Returns a specification as JSON-like values, with the fields that its own JSON leaves out at their default."""
    if isinstance(value, BaseModel):
        return {name: _all_fields(getattr(value, name)) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _all_fields(item) for key, item in value.items()}
    return [_all_fields(item) for item in value] if isinstance(value, list | tuple) else value


def _parse_assignment(assignment: str) -> tuple[str, Any]:
    path, equals, value = assignment.partition("=")
    if not equals or not path.strip():
        raise InputError(f"--set {assignment!r} has no value; write --set PATH=VALUE, for example --set seed=1")
    return path.strip(), parse_value(value)


def parse_value(text: str) -> Any:
    """Returns what a typed value means: JSON where it parses as JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(document: dict[str, Any], path: str, value: Any, restarted: set[int]) -> None:
    *parents, last = path.split(".")
    node: Any = document
    seen: list[str] = []
    for name in parents:
        node = _descend(node, name, seen, path)
        seen.append(name)
    if not isinstance(node, dict):
        raise UnknownPathError(f"--set {path}={value}: {'.'.join(seen)} is {json.dumps(node)}, which has no fields")
    if last == "kind" and node.get("kind", value) != value:
        node.clear()
        restarted.add(id(node))
    elif last not in node and id(node) not in restarted:
        raise UnknownPathError(f"--set {path}={value}: there is no {path!r}; {suggest(last, node)}")
    node[last] = value


def _descend(node: Any, name: str, seen: list[str], path: str) -> Any:
    if not isinstance(node, dict) or name not in node:
        here = ".".join([*seen, name])
        remedy = suggest(name, node) if isinstance(node, dict) else f"{'.'.join(seen)} has no fields"
        raise UnknownPathError(f"--set {path}: there is no {here!r}; {remedy}")
    return node[name]


def _describe_detail(detail: ErrorDetails, cls: type[BaseModel] | None) -> str:
    if detail["type"] == "json_invalid":
        return f"is not JSON: {detail['msg'].removeprefix('Invalid JSON: ')}; repair the file or write it again"
    if detail["type"] == "value_error":
        return str(detail.get("ctx", {}).get("error", detail["msg"]))
    names, siblings = _locate([str(part) for part in detail["loc"]], cls)
    dotted = ".".join(names) or "the value"
    if detail["type"] == "extra_forbidden":
        return f"there is no field {dotted!r}; {suggest(names[-1], siblings) if siblings else 'remove it'}"
    if detail["type"] == "missing":
        return f"{dotted} is missing; give it a value"
    if detail["type"] == "union_tag_invalid":
        context = detail.get("ctx", {})
        expected = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
        tag = str(context.get("tag"))
        return f"{dotted}.kind={tag!r} is unknown; {suggest(tag, expected)}"
    value = json.dumps(detail["input"], default=str)
    return f"{dotted}={value if len(value) <= 80 else value[:77] + '...'}: {detail['msg']}"


def _locate(location: Sequence[str], cls: type[BaseModel] | None) -> tuple[list[str], list[str]]:
    """Returns the dotted names of an error's place, without the tags of unions, and the names valid beside it."""
    names: list[str] = []
    models: list[type[BaseModel]] = [cls] if cls else []
    siblings: list[str] = []
    for part in location:
        tagged = [
            model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == part
        ]
        if tagged:
            models = tagged
            continue
        siblings = sorted({field for model in models for field in model.model_fields})
        names.append(part)
        children = [
            child
            for model in models
            if part in model.model_fields
            for child in _models_in(model.model_fields[part].annotation)
        ]
        models = children or (models if part.isdigit() else [])
    return names, siblings


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
