"""The chain language: text <-> steps, with a canonical form.

ffmpeg's habits with one level of escaping::

    detect=retinaface:0.6:every=2,restore@main=classic:detail=0.5,blend=feather

A step is ``stage[@id][=plugin[:args]]``; ``av.NAME=args`` is a libavfilter step whose arguments keep ffmpeg's
own two levels of quoting and are passed on as they stand. ``'...'`` is literal, ``\\x`` is x outside quotes.
``@FILE`` reads a chain from a file: a newline is a comma, ``#`` starts a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vidrestore.errors import UsageError, did_you_mean

STAGES: Final = (
    "decode",
    "detect",
    "track",
    "align",
    "assess",
    "restore",
    "smooth",
    "embed",
    "gate",
    "blend",
    "encode",
)
AV: Final = "av"

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*", re.I)
_NEEDS_QUOTES = re.compile(r"[,:='\\\[\];\s]")
_RESERVED = "[];"


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of a step; positional where ``key`` is None."""

    value: str
    key: str | None = None
    column: int = field(default=0, compare=False)  # of the key, 1-based
    value_column: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain. A libavfilter step has stage "av", the filter in ``plugin`` and ``raw`` arguments."""

    stage: str
    plugin: str | None = None
    args: tuple[Arg, ...] = ()
    id: str | None = None
    raw: str = ""
    column: int = field(default=0, compare=False)
    plugin_column: int = field(default=0, compare=False)


Chain = tuple[Step, ...]


class ChainError(UsageError):
    """A chain that cannot be read; names the column."""

    def __init__(self, what: str, column: int | None = None) -> None:
        super().__init__("chain", what if column is None else f"col {column}: {what}")


def parse(text: str) -> Chain:
    """The steps of a chain, in order, names in lower case. Plugins and options are not looked up here.

    Raises:
        ChainError: with the column and, where there is one, the nearest word.
    """
    if text.startswith("@"):
        text = _from_file(text[1:])
    if not text.strip():
        raise ChainError("empty chain; try: restore=ldbfr")
    chain = tuple(_Scanner(text).steps())
    _check_order(chain)
    return chain


def canon(chain: Chain) -> str:
    """The chain as text: no blanks, quotes only where needed. ``parse(canon(c)) == c``."""
    return ",".join(map(_canon_step, chain))


def filters(chain: Chain) -> tuple[Chain, Chain]:
    """libavfilter's steps of a chain: those on decoded frames, and those after a step that works on faces."""
    last = len(chain)
    for i, step in enumerate(chain):
        if step.stage != AV and STAGES.index(step.stage) >= STAGES.index("detect"):
            last = i
            break
    before, after = chain[:last], chain[last:]
    return tuple(s for s in before if s.stage == AV), tuple(s for s in after if s.stage == AV)


def filter_args(step: Step) -> str:
    """A libavfilter step's arguments as libavfilter splits them into options: one of ffmpeg's two levels of quoting is
    undone, '...' and \\x."""
    out, raw, i = "", step.raw, 0
    while i < len(raw):
        if raw[i] == "'":
            end = raw.index("'", i + 1)
            out, i = out + raw[i + 1 : end], end + 1
        elif raw[i] == "\\" and i + 1 < len(raw):
            out, i = out + raw[i + 1], i + 2
        else:
            out, i = out + raw[i], i + 1
    return out


def quote(value: str) -> str:
    """The value as it stands in a chain: in quotes only if it must be."""
    if value and not _NEEDS_QUOTES.search(value):
        return value
    return "'" + value.replace("'", r"'\''") + "'"


def _canon_step(step: Step) -> str:
    name = step.stage if step.id is None else f"{step.stage}@{step.id}"
    if step.stage == AV:
        return f"av.{step.plugin}" + (f"={step.raw}" if step.raw else "")
    if step.plugin is None:
        return name
    args = (quote(a.value) if a.key is None else f"{a.key}={quote(a.value)}" for a in step.args)
    return ":".join([f"{name}={step.plugin}", *args])


def _from_file(name: str) -> str:
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ChainError(f"cannot read chain file {name}: {reason}") from error
    lines = (line.split("#", 1)[0].strip().rstrip(",") for line in text.splitlines())
    return ",".join(line for line in lines if line)


def _check_order(chain: Chain) -> None:
    last = -1
    for i, step in enumerate(chain):
        if step.stage == AV:
            rest = {s.stage for s in chain[i + 1 :] if s.stage != AV}
            if last >= STAGES.index("detect") and rest - {"encode"}:
                raise ChainError("av filters stand before detect or after blend, nowhere else", step.column)
            continue
        place = STAGES.index(step.stage)
        if place == last:
            raise ChainError(f"{step.stage} is given twice; keep one", step.column)
        if place < last:
            raise ChainError(f"{step.stage} cannot come after {STAGES[last]}", step.column)
        last = place


class _Scanner:
    """Reads one chain from left to right. Columns are counted from 1."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def steps(self) -> list[Step]:
        found = [self._step()]
        while self._skip():
            comma = self.at
            self.at += 1  # the only thing a step leaves behind is a comma
            if not self._skip():
                raise ChainError("nothing after ','; remove it or add a step", comma + 1)
            found.append(self._step())
        return found

    def _skip(self) -> bool:
        """Skip white space; whether anything is left."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at < len(self.text)

    def _peek(self) -> str:
        return self.text[self.at] if self._skip() else ""

    def _step(self) -> Step:
        self._skip()
        column = self.at + 1
        char = self._peek()
        if char and char in _RESERVED:
            raise ChainError("link labels are not supported; the chain is one line of steps", column)
        if char == ",":
            raise ChainError("nothing before ','; remove it or add a step", column)
        name = self._name("a stage")
        if name.startswith("av."):
            return Step(AV, name[3:], raw=self._av_args(), column=column, plugin_column=column + 3)
        if name not in STAGES:
            hint = did_you_mean(name, STAGES)
            stages = f"stages: {' '.join(STAGES)}" if hint else f"ffmpeg filters are written av.{name}"
            raise ChainError(f"no stage '{name}'{hint or ';'} {stages}", column)
        ident = self._ident()
        if self._peek() != "=":
            self._expect_end()
            return Step(name, id=ident, column=column)
        self.at += 1
        self._skip()
        plugin_column = self.at + 1
        plugin = self._plugin()
        args = tuple(self._args())
        return Step(name, plugin, args, ident, column=column, plugin_column=plugin_column)

    def _ident(self) -> str | None:
        if self._peek() != "@":
            return None
        self.at += 1
        return self._name("an id after '@'")

    def _name(self, what: str) -> str:
        match = _NAME.match(self.text, self.at)
        if match is None:
            seen = self.text[self.at : self.at + 1]
            raise ChainError(f"expected {what}" + (f", not {seen!r}" if seen else ""), self.at + 1)
        self.at = match.end()
        return match.group().lower()

    def _plugin(self) -> str:
        """A plugin's name, lower case, or a path to one (``./mine.py:MyDetector``), which keeps its case."""
        if self._peek() in ("'", ".", "/"):
            path = self._value()
            if not path.endswith(".py") or self._peek() != ":":
                return path
            self.at += 1
            return f"{path}:{self._value()}"
        return self._name("a plugin's name")

    def _args(self) -> list[Arg]:
        args: list[Arg] = []
        while self._peek() == ":":
            colon = self.at
            self.at += 1
            if self._peek() in ("", ",", ":"):
                raise ChainError("nothing after ':'; remove it or add an option", colon + 1)
            column = self.at + 1
            value = self._value()
            if self._peek() == "=":
                self.at += 1
                self._skip()
                value_column = self.at + 1
                args.append(Arg(self._value(), value.replace("-", "_").lower(), column, value_column))
            else:
                args.append(Arg(value, None, column, column))
        self._expect_end()
        return args

    def _value(self) -> str:
        """Characters up to a special one, with quotes and escapes resolved."""
        self._skip()
        out: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "'":
                out.append(self._quoted())
            elif char == "\\":
                out.append(self.text[self.at + 1 : self.at + 2])
                self.at += 2
            elif char in ":,=" or char.isspace():
                break
            elif char in _RESERVED:
                raise ChainError(f"'{char}' is reserved; put the value in quotes", self.at + 1)
            else:
                out.append(char)
                self.at += 1
        return "".join(out)

    def _quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ChainError("quote opened here is not closed", self.at + 1)
        inner = self.text[self.at + 1 : end]
        self.at = end + 1
        return inner

    def _expect_end(self) -> None:
        if self._peek() in ("", ","):
            return
        word = re.match(r"[\w.@-]+|.", self.text[self.at :], re.S)
        raise ChainError(f"expected ',' or ':' before '{word.group() if word else ''}'", self.at + 1)

    def _av_args(self) -> str:
        """The raw arguments of a libavfilter step: up to the next comma outside quotes and escapes."""
        if self._peek() != "=":
            self._expect_end()
            return ""
        self.at += 1
        start = self.at
        while self.at < len(self.text) and self.text[self.at] != ",":
            char = self.text[self.at]
            if char == "'":
                self._quoted()
            elif char in _RESERVED:
                raise ChainError("link labels are not supported; the chain is one line of steps", self.at + 1)
            else:
                self.at += 2 if char == "\\" else 1
        return self.text[start : self.at].strip()
