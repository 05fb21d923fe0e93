"""The chain language: what it accepts, how it says no, and that its canonical form reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrestore.chain import STAGES, Arg, ChainError, Step, canon, parse

ACCEPTED = [
    "restore=ldbfr",
    "detect=retinaface:every=2,track=bytetrack,restore=ldbfr:seed=7:mode=fast,smooth=one_euro,blend=feather",
    "detect=retinaface:0.6,restore=flipnet",
    "detect=retinaface:0.6:every=2",
    " detect = retinaface : every = 2 , restore = vspbfr ",
    "av.bwdif=mode=send_frame,restore=ldbfr",
    "av.bwdif=mode=send_field:parity=tff,restore=ldbfr",
    "av.yadif=1,restore=ldbfr",
    "av.crop=1440:1080:240:0,restore=ldbfr",
    "av.fieldmatch,av.decimate,restore=ldbfr",
    "restore=ldbfr,av.scale=1280:-2:flags=lanczos",
    "restore=ldbfr,av.format=pix_fmts=yuv420p10le",
    "av.fps=30000/1001,restore=ldbfr",
    "av.setparams=range=limited:colorspace=bt709,restore=ldbfr",
    "av.trim=start=10:end=20,av.setpts=PTS-STARTPTS,restore=ldbfr",
    "av.unsharp=5:5:0.5:enable='between(t,0,3)',restore=ldbfr",
    r"av.unsharp=5:5:0.5:enable=between(t\,0\,3),restore=ldbfr",
    r"restore=ldbfr:weights='C:\models\a:b.safetensors'",
    "restore@main=ldbfr:seed=7,blend@b=feather:16",
    "detect=none,restore=none,blend=none",
    "detect=./mine.py:MyDetector:threshold=0.3",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_chains_of_ffmpeg_habits_parse_and_read_back(text: str) -> None:
    chain = parse(text)
    assert parse(canon(chain)) == chain
    assert canon(parse(canon(chain))) == canon(chain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty chain"),
        ("  ", "empty chain"),
        ("restore=ldbfr,", "col 14: nothing after ','; remove it or add a step"),
        ("restore=ldbfr,,blend=feather", "col 15: nothing before ','"),
        ("detect=retinaface restore=ldbfr", "col 19: expected ',' or ':' before 'restore'"),
        ("restor=ldbfr", "col 1: no stage 'restor'; did you mean 'restore'? stages: decode detect track"),
        ("hflip,restore=ldbfr", "col 1: no stage 'hflip'; ffmpeg filters are written av.hflip"),
        ("blend=feather,detect=retinaface", "col 15: detect cannot come after blend"),
        ("restore=a,restore=b", "col 11: restore is given twice"),
        ("[0:v]restore=ldbfr[out]", "col 1: link labels are not supported; the chain is one line of steps"),
        ("restore=ldbfr:note='abc", "col 20: quote opened here is not closed"),
        ("restore=ldbfr:", "col 14: nothing after ':'"),
        ("detect=none,av.scale=2:2,restore=none", "col 13: av filters stand before detect or after blend"),
    ],
)
def test_broken_chains_name_the_column(text: str, message: str) -> None:
    with pytest.raises(ChainError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"chain: {message}")


def test_values_keep_case_names_lose_it() -> None:
    (step,) = parse("DETECT=RetinaFace:Model='A b':Some-Key=X")
    assert step.stage == "detect" and step.plugin == "retinaface"
    assert [(a.key, a.value) for a in step.args] == [("model", "A b"), ("some_key", "X")]


def test_quotes_and_escapes() -> None:
    (step,) = parse(r"restore=x:'a:b':it\'s:'it'\''s':C\:\\d")
    assert [a.value for a in step.args] == ["a:b", "it's", "it's", r"C:\d"]


def test_a_file_holds_a_chain(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    file.write_text("# mine\ndetect=retinaface:every=1  # each frame\n\nblend=feather\n")
    assert canon(parse(f"@{file}")) == "detect=retinaface:every=1,blend=feather"
    with pytest.raises(ChainError, match="cannot read chain file"):
        parse(f"@{tmp_path / 'missing'}")


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
STEPS = st.builds(
    lambda stage, plugin, positional, keyed, ident: Step(
        stage, plugin, tuple(Arg(v) for v in positional) + tuple(Arg(v, k) for k, v in keyed.items()), ident
    ),
    st.sampled_from(STAGES), NAMES, st.lists(VALUES, max_size=2), st.dictionaries(KEYS, VALUES, max_size=3),
    st.none() | NAMES,
)  # fmt: skip


@given(st.lists(STEPS, min_size=1, max_size=6, unique_by=lambda s: s.stage))
def test_any_chain_reads_back(steps: list[Step]) -> None:
    chain = tuple(sorted(steps, key=lambda s: STAGES.index(s.stage)))
    assert parse(canon(chain)) == chain


@given(st.text(max_size=40))
def test_any_text_parses_or_says_why(text: str) -> None:
    try:
        chain = parse(text)
    except ChainError:
        return
    assert parse(canon(chain)) == chain
