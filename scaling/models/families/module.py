"""A network of the user's own: any Flax module, sized by the user's dial, counted by tracing what it does.

The user's code is a function `make(width, task, **settings) → module`, of NNX or of Linen, which a cell names. Arrays
are those that the module makes, and FLOPs those of its traced program. Roles (for parametrisations, weight decay and
sharding) are guessed from which sides of an array grow with the width, unless the code says them: see `annotate`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from scaling.models.counting.params import count_by_convention
from scaling.models.counting.sizing import around
from scaling.models.layers.core import Layer, Role, Weight, walk
from scaling.models.layers.traced import TracedModule, nest_arrays
from scaling.models.shape import Shape, make_layers
from scaling.models.tracing.roles import Traced, guess_weights, trace
from scaling.specs.base import InputError
from scaling.specs.code import FrozenSettings, name_code, resolve_function
from scaling.specs.models import ModuleSpec
from scaling.specs.task import TaskShape, image_task

TASK = image_task(28, 10, channels=1)

# N is met within this, or refused with the nearest.
MAX_MISS = 0.03

# Widths that the code may refuse one after another (no multiple of its heads, say) before the search is given up.
MAX_FAILURES = 130
# How code says that it cannot have a width: its own words, or what JAX says of shapes that do not fit.
REFUSALS = (ValueError, AssertionError, TypeError, ZeroDivisionError)


# Fields of the specification that `from_module` takes beside the settings of the code.
OWN_FIELDS = ("convention", "parametrization", "base_width")


class UnfitWidthError(InputError):
    """The user's code cannot have this width."""


Path = tuple[str, ...]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def annotate(
    *,
    roles: Callable[[Path, tuple[int, ...]], Role | None] | None = None,
    groups: Callable[[Path, tuple[int, ...]], str | None] | None = None,
) -> Callable[[FunctionT], FunctionT]:
    """Returns a decorator of `make` by which code says what its arrays are; where it says None, the guess stands.

    Args:
      roles: (path, shape) → `input`, `hidden`, `output` or `vector` (see `Weight`), which parametrisations and weight
        decay go by.
      groups: (path, shape) → the name that an array is counted under.
    """

    def mark(make: FunctionT) -> FunctionT:
        make.roles, make.groups = roles, groups  # type: ignore[attr-defined]
        return make

    return mark


def from_module(
    make: Callable[..., Any], *, num_params: int | None = None, width: int | None = None, **rest: Any
) -> ModuleSpec:
    """Returns the specification of a network that a function makes, of a size.

    Args:
      make: (width, task, **settings) → a module of flax.nnx or flax.linen, at the top of a Python file or of an
        installed package that offers it.
      num_params: N asked for.
      width: the function's own dial instead.
      rest: settings of the function, and fields of the specification (`parametrization`, `base_width`, `convention`).

    Raises:
      InputError: workers could not find the function, or the size is not settled.
    """
    own = {name: value for name, value in rest.items() if name in OWN_FIELDS}
    settings = {name: value for name, value in rest.items() if name not in own}
    return ModuleSpec(code=name_code(make), num_params=num_params, width=width, settings=settings, **own)


def shape(spec: ModuleSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for: the width whose module has the nearest number of parameters.

    Raises:
      InputError: the code is not known, fails, or has no module of this task within 3 % of the asked size.
    """
    if task.objective == "permuted":
        raise InputError(
            "model.kind=module: code gets tokens and no order of them; choose another data.source.objective"
        )
    bare = spec.model_copy(update={"num_params": None, "width": None})
    if spec.width is not None:
        found = Shape(bare, task, spec.width, 1, layers)
    else:
        assert spec.num_params is not None  # noqa: S101  (NetworkSpec requires one of the two)
        found = Shape(bare, task, _find_width(bare, task, spec.num_params), 1, layers)
    _trace(bare, task, found.width)
    _check_base(found)
    return found


def _find_width(spec: ModuleSpec, task: TaskShape, request: int) -> int:
    failures: list[InputError] = []

    @functools.cache
    def count(width: int) -> int:
        if spec.convention == "total":
            return _trace(spec, task, width).num_params
        return count_by_convention(Shape(spec, task, width, 1, layers), spec.convention)

    @functools.cache
    def admits(width: int) -> bool:
        """Returns whether the code has this width; raises what it said where it has none for long."""
        try:
            count(width)
        except UnfitWidthError as error:
            failures.append(error)
            if len(failures) > MAX_FAILURES:
                raise failures[0] from None
            return False
        failures.clear()
        return True

    candidates = around(count, request, admits)
    nearest = min(candidates, key=lambda width: abs(count(width) - request))
    if abs(count(nearest) / request - 1.0) > MAX_MISS:
        sizes = " and ".join(f"{count(width)} (width={width})" for width in candidates)
        raise InputError(
            f"model.num_params={request}: the nearest that {spec.code} makes for this task have {sizes} parameters "
            f"({spec.convention}), more than {MAX_MISS:.0%} away; ask for one of these, or set model.width"
        )
    return nearest


def _check_base(found: Shape) -> None:
    """Checks that the module at base width has the same arrays, for a parametrisation to compare."""
    if found.spec.parametrization == "standard":
        return
    here, base = (set(_trace(found.spec, found.task, width).shapes) for width in (found.width, found.spec.base_width))
    if here != base:
        odd = "/".join(min(here ^ base))
        raise InputError(
            f"model.base_width={found.spec.base_width}: {found.spec.code} makes other arrays there ({odd}), so "
            f"model.parametrization={found.spec.parametrization} has nothing to compare; keep its depth apart from the "
            "width, or choose standard"
        )


def layers(shape: Shape) -> Layer:
    """Returns the network as traced, with roles and groups."""
    spec, task = shape.spec, shape.task
    make = resolve_function(spec.code)
    traced = _trace(spec, task, shape.width)
    try:
        weights = guess_weights(traced, _twin(spec, task, shape.width))
    except InputError as error:
        raise InputError(f"{spec.code}: {error}") from None
    says_role, says_group = (getattr(make, name, None) for name in ("roles", "groups"))
    named = {path: _said(spec.code, path, weight, says_role, says_group) for path, weight in weights.items()}
    return _with_terms(traced, named)


def _with_terms(traced: Traced, weights: Mapping[Path, Weight]) -> TracedModule:
    terms: dict[str, tuple[float, float]] = {}
    for path, forward in traced.program.forward.items():
        term = _term(path, weights)
        before = terms.get(term, (0.0, 0.0))
        terms[term] = before[0] + forward, before[1] + traced.program.train[path]
    return nest_arrays(
        dict(weights),
        terms=tuple((term, *counts) for term, counts in terms.items()),
        definition=traced.definition,
    )


def _term(path: Path | None, weights: Mapping[Path, Weight]) -> str:
    """Returns the name of the FLOPs of products with an array: `logits` of a readout, else the module's path."""
    if path is None:
        return "activations"
    if weights[path].role == "output":
        return "logits"
    return ".".join(name for name in path[:-1] if not name.isdigit()) or path[-1]


def _said(
    code: str, path: Path, weight: Weight, roles: Callable[..., Any] | None, groups: Callable[..., Any] | None
) -> Weight:
    """Returns a weight with what the user's code says of it."""
    role = roles(path, weight.shape) if roles is not None else None
    group = groups(path, weight.shape) if groups is not None else None
    if role is not None and role not in ("input", "hidden", "output", "vector"):
        raise InputError(
            f"{code}: roles gives {role!r} for {'/'.join(path)}; say input, hidden, output, vector or None"
        )
    return weight._replace(role=role or weight.role, group=group or weight.group)


def _twin(spec: ModuleSpec, task: TaskShape, width: int) -> Traced | None:
    """Returns the module at another width, to see what grows with it; None where it has no other."""
    for other in (2 * width, 3 * width, 4 * width, width + 1, max(1, width // 2)):
        if other == width:
            continue
        try:
            return _trace(spec, task, other)
        except InputError:
            continue
    return None


def _trace(spec: ModuleSpec, task: TaskShape, width: int) -> Traced:
    """Returns what the user's code makes of a width, without making an array."""
    return _trace_code(resolve_function(spec.code), spec.code, task, width, FrozenSettings(spec.settings))


@functools.lru_cache(maxsize=512)
def _trace_code(make: Callable[..., Any], code: str, task: TaskShape, width: int, settings: Any) -> Traced:
    try:
        return trace(make, width, task, settings)
    except InputError as error:
        raise InputError(f"{code} with width={width}: {error}") from None
    except Exception as error:
        kind = UnfitWidthError if isinstance(error, REFUSALS) else InputError
        raise kind(f"{code} fails with width={width}: {type(error).__name__}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def details(shape: Shape) -> dict[str, Any]:
    """Returns what to show of a shape beside its width."""
    return {"code": shape.spec.code, **shape.spec.settings, "settings": None, "depth": None}


class Guess(NamedTuple):
    """What is known of one array, for people."""

    path: str
    shape: tuple[int, ...]
    role: str
    group: str
    division: str


def list_arrays(shape: Shape) -> list[Guess]:
    """Returns the arrays of a network with their roles, groups and division among devices."""
    return [
        Guess("/".join((*visit.path, name)), weight.shape, weight.role, weight.group, weight.division)
        for visit in walk(make_layers(shape), shape.task.dims, expand=True)
        for name, weight in visit.layer.weights(visit.dims).items()
    ]


def list_uncounted(shape: Shape) -> list[str]:
    """Returns what a network's program does that has FLOPs which are not counted, with how often."""
    return list(_trace(shape.spec, shape.task, shape.width).notes)
