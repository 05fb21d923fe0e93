"""A new plugin's distribution: a folder that installs, keeps its contract as it is, and waits to be changed."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from vidrestore import registry
from vidrestore.chain import quote
from vidrestore.errors import OutputError, UsageError, did_you_mean

ROLES: Final = {  # kind -> what a plugin of it is called: in its class's name, and in its check's
    "detect": "detector",
    "track": "tracker",
    "assess": "assessor",
    "restore": "restorer",
    "smooth": "smoother",
    "embed": "embedder",
    "blend": "blender",
    "degrade": "degrader",
}
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Made:
    """What was written."""

    folder: Path
    module: Path  # the file that holds the plugin
    use_file: str  # what is typed after "vidrestore" to use it from its file
    use: str  # and once it is installed


def make(kind: str, name: str, within: Path) -> Made:
    """Write the folder ``vidrestore-KIND-NAME`` into ``within``.

    Raises:
        UsageError: a kind or a name that cannot be used, or a name that another plugin has.
        OutputError: the folder exists or cannot be written.
    """
    _check(kind, name)
    package = f"vidrestore_{kind}_{name}"  # with the kind: two plugins of one name may stand in one environment
    distribution = package.replace("_", "-")
    camel = "".join(part.capitalize() for part in name.split("_"))
    cls = camel + ROLES[kind].capitalize()
    words = {"kind": kind, "name": name, "role": ROLES[kind], "cls": cls, "options": f"{camel}Options"}
    words |= {"package": package, "distribution": distribution, "use": _use(kind, name)}
    folder = within / distribution
    module = folder / package / "plugin.py"
    files = {
        folder / "pyproject.toml": "pyproject.toml",
        folder / "README.md": "README.md",
        folder / package / "__init__.py": "package.py",
        module: f"{kind}.py",
        folder / "tests" / "test_contract.py": "test_contract.py",
    }
    if folder.exists():
        raise OutputError(str(folder), "exists", "choose another name, or another folder with -o")
    try:
        for path, template in files.items():
            text = Template((_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(str(folder), f"cannot be written: {error.strerror}", "choose a folder with -o") from error
    file = module.as_posix() if module.is_absolute() else f"./{module.as_posix()}"
    quoted = file if kind == "degrade" else quote(file)  # only a chain has quotes of its own
    return Made(folder, module, _use(kind, f"{quoted}:{cls}"), _use(kind, name))


def _use(kind: str, plugin: str) -> str:
    if kind == "degrade":
        return f"degrade INPUT --model {shlex.quote(plugin)}"
    return f"INPUT -vf {shlex.quote(f'{kind}={plugin}')}"


def _check(kind: str, name: str) -> None:
    if kind not in ROLES:
        hint = did_you_mean(kind, ROLES) or ";"
        raise UsageError("plugins new", f"no kind '{kind}' to begin with{hint} have: {' '.join(ROLES)}")
    if not _NAME.fullmatch(name):
        better = "_".join(re.findall(r"[a-z0-9]+", name.lower())).lstrip("0123456789_")
        rule = "small letters, digits and single _ between them, a letter first"
        raise UsageError("plugins new", f"'{name}' is no name for a plugin: {rule}", f"try: {better or 'mine'}")
    if other := registry.entries(kind).get(name):
        raise UsageError("plugins new", f"{kind}={name} is a plugin of {other.distribution}", "choose another name")
