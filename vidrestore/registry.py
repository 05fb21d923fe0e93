"""Entry points -> plugin classes, lazily: names come from metadata, nothing is imported until it is named."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vidrestore.errors import ResourceError, UsageError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

KINDS: Final = {
    "decode": "opens a film and gives its frames",
    "detect": "finds faces",
    "track": "gives the same face the same number from frame to frame",
    "align": "cuts faces out, upright and steady",
    "assess": "says how damaged a crop is: strength=auto follows it",
    "restore": "restores aligned faces",
    "smooth": "steadies latents over time",
    "embed": "describes who a face is: the gate compares it",
    "gate": "holds back restored faces that are not good enough",
    "blend": "says what goes back into the picture",
    "encode": "writes the film",
    "degrade": "damages a film on purpose",
    "recipe": "trains a bundled weights file",
}
METHODS: Final = {
    "decode": ("open",),
    "detect": ("open", "detect"),
    "track": ("update", "reset"),
    "assess": ("open", "assess"),
    "embed": ("open", "embed"),
    "restore": ("open", "restore"),
    "smooth": ("smooth",),
    "blend": ("blend",),
    "encode": ("open",),
    "degrade": ("begin",),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A plugin that is installed, not yet imported."""

    kind: str
    name: str
    target: str  # module:Class
    distribution: str  # name and version

    def load(self) -> Any:
        """The plugin's class (for a recipe: its function).

        Raises:
            ResourceError: when its module cannot be imported or it lacks a method of its kind.
        """
        try:
            plugin = EntryPoint(self.name, self.target, f"vidrestore.{self.kind}").load()
        except Exception as error:  # whatever a stranger's module does when it is run
            where = f"{self.kind}={self.name}"
            raise ResourceError(where, f"cannot be imported: {error}", f"reinstall {self.distribution}") from error
        return checked(self.kind, self.name, plugin)


@cache
def entries(kind: str) -> dict[str, Entry]:
    """Installed plugins of a kind, by name.

    Raises:
        UsageError: when two distributions claim the same name.
    """
    found: dict[str, Entry] = {}
    for point in sorted(entry_points(group=f"vidrestore.{kind}")):
        made_by = f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
        entry = Entry(kind, point.name, point.value, made_by)
        other = found.setdefault(point.name, entry)
        if other.target != entry.target:
            both = f"{other.distribution} and {entry.distribution}"
            raise UsageError(f"{kind}={point.name}", f"two plugins of this name: {both}", "uninstall one")
    return found


def find(kind: str, name: str) -> Any:
    """The class behind a name, or behind ``path/to/file.py:Class``.

    Raises:
        UsageError: no plugin of this name.
        ResourceError: it cannot be imported.
    """
    if ".py:" in name:
        return _from_file(kind, name)
    known = entries(kind)
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise UsageError("chain", f"no {kind} plugin '{name}'{hint} have: {' '.join(sorted(known))}")
    return known[name].load()


def options_of(plugin: Any) -> type[BaseModel]:
    """The options a plugin class declares."""
    options: type[BaseModel] = plugin.Options
    return options


def checked(kind: str, name: str, plugin: Any) -> Any:
    """The plugin itself, once it is seen to have what its kind needs."""
    needed = () if kind == "recipe" else ("Options", *METHODS.get(kind, ()))  # a recipe is a function
    missing = [m for m in needed if not hasattr(plugin, m)]
    if missing:
        what = f"is not a {kind} plugin: it lacks {', '.join(missing)}"
        raise ResourceError(f"{kind}={name}", what, "see docs/plugins.md")
    return plugin


def _from_file(kind: str, name: str) -> Any:
    path_text, _, attribute = name.rpartition(":")
    path = Path(path_text).resolve()
    if not path.is_file():
        raise UsageError("chain", f"no plugin file '{path_text}'")
    module_name = f"vidrestore_file_{sha256(str(path).encode()).hexdigest()[:12]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise UsageError("chain", f"'{path_text}' is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise ResourceError(name, f"cannot be imported: {error}", "mend the file") from error
    plugin = getattr(sys.modules[module_name], attribute, None)
    if plugin is None:
        raise UsageError("chain", f"'{path_text}' has no class '{attribute}'")
    return checked(kind, name, plugin)
