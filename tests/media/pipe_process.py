"""Reader and writer in a process of their own: SOURCE TARGET [FORMAT [CODEC]]; ``-`` is a pipe."""

from __future__ import annotations

import sys
from pathlib import Path

from vidrestore.errors import VidrestoreError, exit_code_of
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.reader import PyAVDecoder
from vidrestore.media.writer import PyAVEncoder
from vidrestore.notes import Notes


def main(source: str, target: str, form: str | None = None, codec: str = "ffv1") -> int:
    notes = Notes(lambda line: print(line, file=sys.stderr))
    try:
        with PyAVDecoder(PyAVDecoder.Options(threads=0)).open(source, notes) as film:
            settings = EncodeSettings(codec=codec, format=form, options={})
            where = None if target == "-" else Path(target)
            with PyAVEncoder().open(where, film, settings, notes) as sink:
                for frame in film.frames():
                    sink.write(frame)
                sink.finish()
        if film.failure is not None:
            raise film.failure
    except VidrestoreError as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
