"""The faces of a film as one page, to choose from. It needs no network."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore.engine.survey import Seen

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title: faces</title>
<style>
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #62676e; --ground: #fff; --panel: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a2a8b0; --ground: #16181b; --panel: #202327; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem 1rem 3rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
ul { list-style: none; margin: 1.25rem 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
li { background: var(--panel); border-radius: .4rem; padding: .6rem; }
img { display: block; width: 100%; height: auto; border-radius: .25rem; }
b { font-size: 1.25rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="soft">$count. Restore some of them with <code>--faces</code> and their numbers, for example
<code>--faces $example</code>.</p>
<ul>
$faces
</ul>
</body>
</html>
""")


def page(source: str, faces: Sequence[Seen]) -> str:
    """The whole page as HTML."""
    return _PAGE.substitute(
        title=escape(Path(source).name),
        count=f"{len(faces)} face{'s' * (len(faces) != 1)}, one number for each shot it is in",
        example="+".join(str(f.number) for f in faces[:2]) or "0",
        faces="\n".join(map(_face, faces)),
    )


def _face(face: Seen) -> str:
    data = base64.b64encode(face.picture).decode()
    alike = "" if face.alike is None else f", {face.alike:.2f} alike"
    return (
        f'<li id="face-{face.number}"><img alt="face {face.number}" src="data:image/jpeg;base64,{data}">'
        f"<b>{face.number}</b><br>{clock(face.first)} &ndash; {clock(face.last)}<br>"
        f'<span class="soft">{face.width:.0f} px wide, {face.frames} frames, shot {face.shot}{alike}</span></li>'
    )


def clock(seconds: float) -> str:
    """A time as -ss takes it: 0:01:02.5."""
    whole, tenth = divmod(round(max(0.0, seconds) * 10), 10)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{tenth}"
