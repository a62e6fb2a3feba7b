"""The base of every specification: frozen, strict and closed, with canonical JSON, fingerprints and overrides."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from scaling.specs.counts import parse_count

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
        kept = self.__dict__.get("_fingerprint")
        if kept is None:
            kept = self.__dict__["_fingerprint"] = fingerprint_text(self.canonical_json())
        return str(kept)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Returns a copy with other values of some fields; see pydantic."""
        copied = super().model_copy(update=update, deep=deep)
        for name in [name for name in copied.__dict__ if name not in type(self).model_fields]:
            del copied.__dict__[name]  # what was worked out of the other's fields, and kept
        return copied


def since(default: Any, **constraints: Any) -> Any:
    """Returns a field added after the first release: left out of the JSON at its default, so old fingerprints stay."""
    return Field(default, exclude_if=lambda value: value == default, **constraints)


SpecT = TypeVar("SpecT", bound=BaseModel)


def canonical_json(value: Any) -> str:
    """Returns the canonical JSON text of a JSON-like value.

    >>> canonical_json({"b": 1.0, "a": [True, None]})
    '{"a":[true,null],"b":1.0}'
    """
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


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
    where it parses as JSON (`0.1`, `true`, `null`, `[1,2]`), else a string; of a field that is an integer it may be
    `1e6`, `1.5M` or `1_000`. Setting `kind` of a tagged part to another kind starts that part afresh from the new
    kind's defaults; later assignments fill its fields, and those of the parts in it. A part that is None begins with
    the first of its fields that is set. A mapping takes any key.

    Raises:
      InputError: an assignment is malformed, its path exists nowhere, or a result is invalid.
    """
    if not assignments:
        return list(specs)
    documents = [all_fields(spec) for spec in specs]
    restarted: set[int] = set()
    for path, text in map(_split_assignment, assignments):
        places, refusals = [], []
        for spec, document in zip(specs, documents, strict=True):
            try:
                places.append(_find_place(document, type(spec), path, text, restarted))
            except UnknownPathError as error:
                refusals.append(error)
        if refusals and not places:
            raise refusals[0]
        # What begins a part does so in those that lack least: `training.batch_size` is nothing to a cell without
        # training where others have some.
        least = min((place.num_begun for place in places), default=0)
        for place in places:
            if place.num_begun == least:
                _set_field(place, path.split(".")[-1], text, restarted)
    where = "--set " + " --set ".join(assignments)
    return [parse(type(spec), json.dumps(document), where) for spec, document in zip(specs, documents, strict=True)]


def all_fields(value: Any) -> Any:
    """Returns a specification as JSON-like values, with the fields that its own JSON leaves out at their default."""
    if isinstance(value, BaseModel):
        return {name: all_fields(getattr(value, name)) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: all_fields(item) for key, item in value.items()}
    return [all_fields(item) for item in value] if isinstance(value, list | tuple) else value


def _split_assignment(assignment: str) -> tuple[str, str]:
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise InputError(f"--set {assignment!r} has no value; write --set PATH=VALUE, for example --set seed=1")
    return path.strip(), text


def parse_value(text: str, annotation: Any = None) -> Any:
    """Returns what a typed value means: JSON where it parses as JSON, else the text itself.

    Args:
      text: as it was typed.
      annotation: the type that is asked for; where it is an integer, and no text, `1e6`, `1.5M` and `1_000` are read.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    types = _types_in(annotation)
    if int not in types or str in types:
        return value
    if isinstance(value, list):
        return [_whole(item, str(item)) for item in value]
    return _whole(value, text)


def _whole(value: Any, text: str) -> Any:
    count = parse_count(text) if isinstance(value, str | float) else None
    return value if count is None else count


def _types_in(annotation: Any) -> set[Any]:
    parts = getattr(annotation, "__args__", ())
    return {kind for part in parts for kind in _types_in(part)} if parts else {annotation}


@dataclasses.dataclass(frozen=True)
class _Place:
    """The part of a document that has a field: its fields, its type, and the parts that begin on the way to it."""

    node: dict[str, Any]
    kind: Any
    new: list[tuple[dict[str, Any], str, Any]]
    num_begun: int


def _find_place(document: Json, cls: type[BaseModel], path: str, text: str, restarted: Collection[int]) -> _Place:
    """Returns where a field is set, and leaves the document as it is.

    Args:
      document: the fields of a specification, as JSON-like values.
      cls: the specification's class.
      path: of the field.
      text: of its value, for the error message.
      restarted: parts whose fields are not all there, by `id`; what they lack, they have by default.

    Raises:
      UnknownPathError: there is no such field.
    """
    *parents, last = path.split(".")
    node: Any = document
    kind: Any = cls
    new: list[tuple[dict[str, Any], str, Any]] = []
    num_begun = 0
    for depth, name in enumerate(parents):
        here = ".".join(parents[: depth + 1])
        fields = _fields_of(node, kind)
        if not isinstance(node, dict) or (name not in node and name not in fields):
            known = {*node, *fields} if isinstance(node, dict) else None
            remedy = f"{'.'.join(parents[:depth])} has no fields" if known is None else suggest(name, known)
            raise UnknownPathError(f"--set {path}: there is no {here!r}; {remedy}")
        kind = fields[name].annotation if name in fields else None
        part = node[name] if name in node else _default(fields[name])
        kinds = _parts(kind)
        if part is None and (_is_mapping(kind) or len(kinds) == 1 or (kinds and path == f"{here}.kind")):
            part = {}
            num_begun += 1
        elif part is None and kinds:
            choices = "|".join(sorted(str(_kind(model)) for model in kinds))
            raise UnknownPathError(
                f"--set {path}={text}: {here} is not set; choose one first, --set {here}.kind={choices}"
            )
        if part is not node.get(name):
            new.append((node, name, part))
        node = part
    if not isinstance(node, dict):
        raise UnknownPathError(f"--set {path}={text}: {'.'.join(parents)} is {json.dumps(node)}, which has no fields")
    is_open = id(node) in restarted or any(part is node for _, _, part in new) or _is_mapping(kind)
    if last not in node and not is_open:
        raise UnknownPathError(f"--set {path}={text}: there is no {path!r}; {suggest(last, node)}")
    return _Place(node, kind, new, num_begun)


def _set_field(place: _Place, name: str, text: str, restarted: set[int]) -> None:
    for parent, child, part in place.new:
        parent[child] = part
        restarted.add(id(part))
    fields = _fields_of(place.node, place.kind)
    value = parse_value(text, fields[name].annotation if name in fields else None)
    if name == "kind" and place.node.get("kind", value) != value:
        place.node.clear()
        restarted.add(id(place.node))
    place.node[name] = value


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else all_fields(field.get_default())


def _fields_of(node: Any, annotation: Any) -> dict[str, FieldInfo]:
    """Returns the fields of the specification that a part is, by its kind; none where it is something else."""
    if not isinstance(node, dict):
        return {}
    for cls in _members(annotation):
        if dataclasses.is_dataclass(cls):
            return {name: FieldInfo.from_annotation(kind) for name, kind in get_type_hints(cls).items()}
    chosen = [model for model in _parts(annotation) if node.get("kind", kind := _kind(model)) == kind]
    return dict(chosen[0].model_fields) if len(chosen) == 1 else {}


def _kind(model: type[BaseModel]) -> Any:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """Returns the specifications that a field may hold."""
    return [kind for kind in _members(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _is_mapping(annotation: Any) -> bool:
    """Returns whether a field may hold a mapping with any keys."""
    return any((get_origin(kind) or kind) in (dict, Mapping) for kind in _members(annotation))


def _members(annotation: Any) -> list[Any]:
    """Returns the types that a type is one of, without what constrains them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for kind in get_args(annotation) for member in _members(kind)]
    return [annotation]


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
