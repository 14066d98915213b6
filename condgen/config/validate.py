"""Every configured value is held to its constructor's annotation before anything is built.

A node is a dict with a ``_target_``; its other keys are arguments of that class or function. `check_node` walks them all and
asks pydantic whether each value is what the annotation says. The sentence about one that is not is made from the annotation.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, reduce
from importlib.util import find_spec
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, Unpack, get_args, get_origin, get_type_hints, is_typeddict

import yaml
from hydra.utils import get_object
from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from condgen.config.annotations import SECTIONS, STRICTER
from condgen.config.folder import choices, conf_dir
from condgen.config.renamed import new_name
from condgen.config.sentences import article, close, describe, shown
from condgen.errors import CondgenError

HYDRAS = {
    "_target_": Any,
    "_partial_": bool,
    "_args_": Sequence[Any],
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
}
"""Keys of a node that are Hydra's own, and what they are."""
PLAIN = (int, float, str, bool, NoneType)
"""What is written as it is and never made by a ``_target_``."""
NEEDED = ("data", "model", "loss")
"""Without these there is nothing to train."""
REFERRING = (*NEEDED, "callbacks", "logger")
"""Groups that refer to others, which are checked before so that a sentence names the key that the user wrote."""


class Object:
    """What only a ``_target_`` can make: no plain value is one."""


def check(config: dict[str, Any]) -> None:
    """Check the whole configuration of a run, plain dicts and lists; raises CondgenError about the first wrong thing."""
    from lightning import Trainer

    known = sections()
    for name in NEEDED:
        if not isinstance(config.get(name), dict) or "_target_" not in config[name]:
            raise CondgenError(f"A run needs {name}={'|'.join(choices(name)[:3])}|..., not {name}={shown(config.get(name))}.")
    for name in config:
        if name not in known:
            raise CondgenError(f"{name} is no section of the configuration{close(name, known)}: it has {', '.join(known)}.")
    check_value("seed", config.get("seed"), int)
    for name, section in (SECTIONS | {"trainer": Trainer}).items():
        if name in config:
            check_section(name, config[name], section)
    for name in sorted(config.keys() - {"seed", "trainer", *SECTIONS}, key=lambda name: (name in REFERRING, name)):
        check_group(name, config[name])


def check_section(key: str, values: Any, section: type) -> None:
    """Check a section against the annotations of a TypedDict or of a constructor's arguments."""
    check_value(key, values, dict[str, Any])
    check_arguments(key, section, values)


def check_group(key: str, value: Any) -> None:
    """Check what was chosen in a group: an object, or several by their names, null for one that is left out."""
    if not isinstance(value, dict) or "_target_" in value:
        return check_node(key, value)
    for name, node in value.items():
        if isinstance(node, dict) and node and "_target_" not in node and not holds_node(node):
            if name in members(key):
                continue  # what a recipe sets of a part that was left out
            raise CondgenError(f"{key}.{name} has no _target_, the class that it is: give it one, or leave out {key}.{name}.")
        check_node(dotted(key, name), node)
    return None


def check_node(key: str, node: Any, expected: Any = Any) -> None:
    """Check a value of the configuration, and all that it is made of.

    Args:
        key: where ``node`` stands, such as ``model.generator``.
        node: plain dicts, lists and values.
        expected: the annotation of the argument that it is given for.

    Raises:
        CondgenError: a target or a key does not exist, or a value is of another type or out of its range.
    """
    if isinstance(node, dict) and "_target_" in node:
        target = located(key, node["_target_"])
        for own in HYDRAS.keys() & node.keys():
            check_value(dotted(key, own), node[own], HYDRAS[own])
        check_product(key, target, bool(node.get("_partial_")), expected)
        check_arguments(key, target, {str(name): value for name, value in node.items() if name not in HYDRAS})
    elif is_typeddict(expected):
        check_section(key, node, expected)
    elif holds_node(node):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            check_node(dotted(key, name), value, element(expected, name))
    else:
        check_value(key, node, expected)


def check_arguments(key: str, target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Check the arguments that a node names; what it does not name is given when it is built, or is missing then."""
    known, rest = parameters(target)
    for name, value in arguments.items():
        if name not in known and rest is None:
            if new := new_name(f"{key}.{name}"):
                raise CondgenError(f"{key}.{name} is called {new} today.")
            takes = f"{', '.join(list(known)[:12])}{', ...' * (len(known) > 12)}" or "nothing"
            raise CondgenError(
                f"{dotted(key, name)} does not exist{close(name, list(known))}: {target.__name__} takes {takes}."
            )
        check_node(dotted(key, name), value, known.get(name, rest))


def check_value(key: str, value: Any, expected: Any) -> None:
    """Check a plain value against an annotation."""
    if not fits(value, expected):
        options = [part for part in alternatives(expected) if isinstance(part, str)]
        raise CondgenError(f"{key} must be {describe(expected)}, not {shown(value)}{close(value, options)}.")


def check_product(key: str, target: Callable[..., Any], partial: bool, expected: Any) -> None:
    """Check that what the class ``target`` makes, or would make when it is called (``partial``), is of an expected class."""
    wanted = list(alternatives(expected))
    calls = [part for part in wanted if get_origin(part) is Callable]
    if all(part in PLAIN for part in wanted):
        raise CondgenError(f"{key} must be {describe(expected)}, not an object: leave out its _target_.")
    if not isinstance(target, type) or any(part in (Any, Callable) or is_protocol(part) for part in wanted):
        return
    if partial and not calls:
        raise CondgenError(f"{key} must be {describe(expected)}: leave out its _partial_.")
    if calls and not partial and "__call__" in dir(target):
        return
    classes = [get_args(part)[-1] for part in calls] if partial else [part for part in wanted if isinstance(part, type)]
    classes = [part for one in classes for part in alternatives(one)]
    if all(isinstance(part, type) for part in classes) and not issubclass(target, tuple(classes)):
        given = f"a partial {target.__name__}" if partial else article(target.__name__)
        raise CondgenError(f"{key} must be {describe(expected)}, not {given}.")


def located(key: str, path: Any) -> Callable[..., Any]:
    """Return the class or function that a ``_target_`` names."""
    try:
        target = get_object(path)
    except Exception as error:  # whatever importing it raises
        if str(path).startswith("albumentations.") and find_spec("albumentations") is None:
            raise CondgenError(f"{key} needs albumentations: pip install 'condgen[augment]'.") from error
        raise CondgenError(f"{key}._target_ must be the path of a class or function, not {shown(path)}.") from error
    if not callable(target):
        raise CondgenError(f"{key}._target_ must be the path of a class or function, not of {shown(path)}.")
    return target  # type: ignore[no-any-return]


def parameters(target: Callable[..., Any]) -> tuple[dict[str, Any], Any]:
    """Return the annotations of a class's or function's arguments by name, and of arguments by other names, None: none."""
    if is_typeddict(target):
        return get_type_hints(target, include_extras=True), None
    call = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    if call is object.__init__ or getattr(call, "__module__", "") == "torch.nn.modules.module":
        return {}, None  # nn.Module's own would take anything, and refuse it later
    try:
        hints, signature = get_type_hints(call, include_extras=True), inspect.signature(target)
    except (NameError, TypeError, ValueError, AttributeError):  # of others' code, which may do as it likes
        return {}, Any
    for module, stricter in STRICTER.items():
        if f"{target.__module__}.".startswith(module):
            hints |= get_type_hints(stricter, include_extras=True)
    known: dict[str, Any] = {}
    rest = None
    for name, parameter in signature.parameters.items():
        hint = hints.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD and get_origin(hint) is Unpack:
            known |= get_type_hints(get_args(hint)[0], include_extras=True)
        elif parameter.kind is parameter.VAR_KEYWORD:
            rest = hint
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            known[name] = hint
    return known, rest


def alternatives(expected: Any) -> Iterator[Any]:
    """Yield what a union is of; the values themselves of a Literal."""
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Annotated:
        yield from alternatives(parts[0])
    elif origin in (Union, UnionType):
        for part in parts:
            yield from alternatives(part)
    elif origin is Literal:
        yield from parts
    else:
        yield expected


def element(expected: Any, name: Any) -> Any:
    """Return the annotation of the element ``name`` of a list or mapping."""
    found = []
    for part in alternatives(expected):
        origin, parts = get_origin(part), get_args(part)
        if (
            isinstance(origin, type)
            and parts
            and (issubclass(origin, Mapping) or (origin is not tuple and issubclass(origin, Sequence)))
        ):
            found.append(parts[-1])
    return reduce(or_, found) if found else Any


def holds_node(value: Any) -> bool:
    """Whether a list or dict holds, at any depth, a dict with a ``_target_``."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any((isinstance(part, dict) and "_target_" in part) or holds_node(part) for part in inside)


def is_protocol(expected: Any) -> bool:
    """Whether an annotation is a protocol, which a class need not name to be of it."""
    return getattr(expected, "_is_protocol", False)


def fits(value: Any, expected: Any) -> bool:
    """Whether ``value`` is what ``expected`` says; an annotation that pydantic does not understand lets everything through."""
    try:
        validator_of(expected).validate_python(value)
    except ValidationError:
        return False
    except PydanticUserError:
        return True
    return True


@cache
def validator_of(expected: Any) -> TypeAdapter[Any]:
    """Return pydantic's validator of an annotation: infinity and NaN are no numbers."""
    return TypeAdapter(strictly(expected), config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))


def strictly(expected: Any) -> Any:
    """Return an annotation that takes no number for a text, no text for a number and no fraction for a whole one.

    Lists stay lists, tuples and sequences alike: YAML has no other.
    """
    origin, parts = get_origin(expected), get_args(expected)
    if expected in (int, float, str, bool):
        return Annotated[expected, Strict()]
    if origin is Annotated:
        return Annotated[(strictly(parts[0]), *parts[1:])]
    if origin in (Union, UnionType):
        return reduce(or_, map(strictly, parts))
    if is_protocol(expected):
        return Object
    if isinstance(origin, type) and parts and issubclass(origin, Sequence | Mapping):
        return origin[tuple(part if part is ... else strictly(part) for part in parts)]  # type: ignore[index]
    return expected


@cache
def sections() -> list[str]:
    """Return the names of a configuration's sections: conf/'s groups, and what conf/train.yaml holds beside them."""
    top = yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))
    groups = [path.name for path in conf_dir().iterdir() if path.is_dir()]
    return sorted({*groups, *top} - {"defaults", "hydra", "experiment", "hparams_search", "debug"})


@cache
def members(group: str) -> set[str]:
    """Return the names of all parts that a group's choices have, such as the callbacks'."""
    files = (conf_dir() / group).glob("*.yaml")
    return {str(name) for file in files for name in yaml.safe_load(file.read_text(encoding="utf-8")) or ()}


def dotted(key: str, name: object) -> str:
    """Join the parts of a key; those of the top have no group before them."""
    return f"{key}.{name}" if key else str(name)
