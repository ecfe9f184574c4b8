"""JSON checked against dataclasses: a class is a schema, and `read` turns JSON into it or says what is wrong.

A field without a default is required. Its type says what it holds: a dataclass, a union of dataclasses that a
`kind` tells apart, `tuple[X, ...]` (a list), `Mapping[K, V]` (an object), a `Literal`, str, int or float; and
`Annotated[type, Rule(...)]` says what more must be true. Optional fields default to something empty.
"""

import dataclasses
import functools
import re
import reprlib
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy beyond its type; `expected` completes the sentence "expected ...".

    Attributes:
        expected: what a right value is, in words.
        holds: tells a right value from a wrong one.
    """

    expected: str
    holds: Callable[[Any], bool]


class SchemaError(Exception):
    """A value that is not as expected; `path` leads from the outermost value to it, key by key."""

    def __init__(self, problem: str, path: tuple[str, ...] = ()) -> None:
        """Keeps what is wrong, and where."""
        super().__init__(problem, path)
        self.problem, self.path = problem, path


def read(kind: Any, value: Any) -> Any:
    """Turns a JSON value into what the type `kind` describes.

    Raises:
        SchemaError: the value is not of that kind.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        base, *rules = arguments
        result = read(base, value)
        for rule in rules:
            _check(rule.holds(result), rule.expected, value)
        return result
    if origin is Literal:
        _check(value in arguments, " or ".join(map(repr, arguments)), value)
        return value
    if origin is tuple:
        _check(isinstance(value, list), "a list", value)
        return tuple(_read_at(str(index), arguments[0], item) for index, item in enumerate(value))
    if origin is Mapping:
        _check(isinstance(value, dict), "an object", value)
        return {read(arguments[0], key): _read_at(key, arguments[1], item) for key, item in value.items()}
    if origin is types.UnionType:
        kinds = {member.kind: member for member in arguments}
        _check(isinstance(value, dict) and "kind" in value, "an object with a 'kind'", value)
        chosen = read(
            Annotated[str, Rule(f"a 'kind' of {', '.join(kinds)}", kinds.__contains__)], value["kind"]
        )
        return _read_fields(kinds[chosen], {key: item for key, item in value.items() if key != "kind"})
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value)
    if kind is str:
        # A lone surrogate (JSON's "\ud800") is no character and could not be written again.
        _check(isinstance(value, str) and not re.search("[\ud800-\udfff]", value), "a text", value)
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        _check(number and isinstance(value, int), "a whole number", value)
        return value
    _check(number and abs(value) <= sys.float_info.max, "a finite number", value)
    return float(value)


def to_json(value: Any) -> Any:
    """The inverse of `read`; optional fields that are empty are left out."""
    if dataclasses.is_dataclass(value):
        result = {"kind": value.kind} if hasattr(value, "kind") else {}
        for item in dataclasses.fields(value):
            current = getattr(value, item.name)
            if _is_required(item) or current:
                result[item.name] = to_json(current)
        return result
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


_type_hints = functools.cache(functools.partial(get_type_hints, include_extras=True))


def _read_fields(kind: type, value: Any) -> Any:
    _check(isinstance(value, dict), "an object", value)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise SchemaError(f"unknown field; expected one of: {', '.join(fields) or 'none'}", (str(name),))
    for name, item in fields.items():
        if _is_required(item) and name not in value:
            raise SchemaError("missing field", (name,))
    hints = _type_hints(kind)
    return kind(**{name: _read_at(name, hints[name], item) for name, item in value.items()})


def _is_required(item: dataclasses.Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _read_at(key: str, kind: Any, value: Any) -> Any:
    try:
        return read(kind, value)
    except SchemaError as error:
        raise SchemaError(error.problem, (key, *error.path)) from None


def _check(holds: bool, expected: str, value: Any) -> None:
    if not holds:
        raise SchemaError(f"expected {expected}, got {reprlib.repr(value)}")
