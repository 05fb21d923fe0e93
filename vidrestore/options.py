"""Text of a chain or a flag -> a plugin's option model, and back; errors in the words of the user."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from vidrestore.chain import Arg, ChainError, quote
from vidrestore.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


def read(model: type[BaseModel], name: str, args: tuple[Arg, ...], defaults: dict[str, Any]) -> BaseModel:
    """The options of one step: positional arguments first, in declaration order, then named ones.

    ``defaults`` are values for options that the step leaves open (the run's seed, mostly).

    Raises:
        ChainError: unknown or doubled option, value out of range, positional after named.
    """
    named = _named(model, name, args)
    for key, arg in named.items():
        _check(model, key, arg)
    values = {key: value for key, value in defaults.items() if key in model.model_fields}
    try:
        return model(**values | {key: arg.value for key, arg in named.items()})
    except ValidationError as error:  # a check that spans several options
        raise ChainError(f"{name}: {error.errors()[0]['msg']}") from error


def overridden(model: type[BaseModel], name: str, args: tuple[Arg, ...], flags: Mapping[str, str]) -> tuple[Arg, ...]:
    """The arguments with those of flags in the place of their own of the same name."""
    if not flags:
        return args
    named = _named(model, name, args)
    kept = tuple(Arg(arg.value, key, arg.column, arg.value_column) for key, arg in named.items() if key not in flags)
    return (*kept, *(Arg(value, key) for key, value in flags.items()))


def given(model: type[BaseModel], name: str, args: tuple[Arg, ...]) -> set[str]:
    """Names of the options that the arguments set."""
    return set(_named(model, name, args))


def write(options: BaseModel) -> list[str]:
    """``key=value`` of every option in declaration order; an option that is None is left out."""
    values = options.model_dump(mode="json")
    return [f"{key}={quote(text(value))}" for key, value in values.items() if value is not None]


def text(value: Any) -> str:
    """A value as a chain writes it: true/false, shortest decimal that reads back, lists with '|'."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, list | tuple):
        return "|".join(map(text, value))
    return str(value)


def wanted(field: FieldInfo) -> str:
    """What an option takes, in words: "a whole number ≥ 1"."""
    kinds = [a for a in _alternatives(field.annotation) if a is not NoneType]
    words = [_kind(kind) for kind in kinds]
    return " or ".join(words) + _bounds(field.metadata)


def _named(model: type[BaseModel], name: str, args: tuple[Arg, ...]) -> dict[str, Arg]:
    fields = list(model.model_fields)
    found: dict[str, Arg] = {}
    for i, arg in enumerate(args):
        key = arg.key
        if key is None:
            open_ones = [f for f in fields if f not in found]
            if any(a.key is not None for a in args[:i]):
                write_it = f"; write {open_ones[0]}={arg.value}" if open_ones else ""
                raise ChainError(f"'{arg.value}' comes after a named option{write_it}", arg.column or None)
            if i >= len(fields):
                has = f"takes {len(fields)} at most" if fields else "has no options"
                raise ChainError(f"'{arg.value}' is one value too many: {name} {has}", arg.column or None)
            key = fields[i]
        if key not in fields:
            hint = did_you_mean(key, fields)
            tail = f"{hint} (vidrestore plugins {name})" if hint else f"; see: vidrestore plugins {name}"
            raise ChainError(f"{name} has no option '{key}'{tail}", arg.column or None)
        if key in found:
            raise ChainError(f"{key} is given twice; keep one", arg.column or None)
        found[key] = arg
    return found


def _check(model: type[BaseModel], key: str, arg: Arg) -> None:
    try:
        model.__pydantic_validator__.validate_assignment(model.model_construct(), key, arg.value)
    except ValidationError as error:
        if any(e["loc"][:1] == (key,) for e in error.errors()):
            what = f"{key}: '{arg.value}' is not {wanted(model.model_fields[key])}"
            raise ChainError(what, arg.value_column or None) from error


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else str(choices[0])
    if get_origin(annotation) is Annotated:  # one of several alternatives, with bounds of its own
        kind, *fields = get_args(annotation)
        return _kind(kind) + _bounds([m for f in fields for m in f.metadata])
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(annotation, "valid")


def _bounds(metadata: list[Any]) -> str:
    sign = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = {s: getattr(m, s) for m in metadata for s in sign if getattr(m, s, None) is not None}
    steps = "".join(f", a multiple of {text(m.multiple_of)}" for m in metadata if hasattr(m, "multiple_of"))
    if set(found) == {"ge", "le"}:
        return f" from {text(found['ge'])} to {text(found['le'])}{steps}"
    return "".join(f" {sign[s]} {text(value)}" for s, value in found.items()) + steps
