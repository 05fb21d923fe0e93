"""What is not restored is kept: sound, captions, attachments, chapters, tags; or its loss is said."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import pytest
from media_tools import FAST, FFV1, PATTERN, TONE, X264, ffmpeg, packets, read, stamps, transcode

from vidrestore.errors import OutputError
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.reader import ReadSettings


def tags(path: Path, index: int | None = None) -> dict[str, str]:
    with av.open(str(path), metadata_errors="surrogateescape") as container:
        found = container.metadata if index is None else container.streams[index].metadata
        return {k.lower(): v for k, v in found.items()}


def dispositions(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [int(s.disposition) for s in container.streams]


def test_a2_62_all_streams_of_matroska_are_kept(many: Path, tmp_path: Path) -> None:
    """A2 rows 62, 65, 66, 67, 68 in the container that holds everything."""
    out = tmp_path / "out.mkv"
    copy = transcode(many, out, FFV1)
    with av.open(str(many)) as a, av.open(str(out)) as b:
        assert [s.type for s in a.streams] == [s.type for s in b.streams]
        for s, t in zip(a.streams, b.streams, strict=True):
            if s.type in ("audio", "subtitle"):
                assert s.codec_context.name == t.codec_context.name
            assert (s.language or "und") == (t.language or "und")
        assert [s.data for s in b.streams if s.type == "attachment"] == [b"attached bytes\n"]
        assert [s.mimetype for s in b.streams if s.type == "attachment"] == ["text/plain"]

        def chapters(container: av.container.InputContainer) -> list[tuple[Fraction, Fraction, str]]:
            whole = container.chapters()
            return [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in whole]

        assert chapters(a) == chapters(b) and len(chapters(a)) == 2
    assert dispositions(many) == dispositions(out)
    for index in range(1, 6):
        assert packets(many, index) == packets(out, index)
    kept = {k: v for k, v in tags(many).items() if k != "encoder"}
    assert {k: v for k, v in tags(out).items() if k != "encoder"} == kept and kept["reel"] == "7"
    assert copy.summary.packets_copied == sum(len(packets(many, i)) for i in range(1, 6))


def test_a2_59_captions_become_mov_text_and_come_back(many: Path, tmp_path: Path) -> None:
    film = tmp_path / "out.mp4"
    copy = transcode(many, film, FAST)
    with av.open(str(film)) as container:
        kinds = [s.codec_context.name for s in container.streams if s.type == "subtitle"]
    assert kinds == ["mov_text", "mov_text"]
    assert any("styles are lost" in line for line in copy.said)
    back = tmp_path / "back.mkv"
    transcode(film, back, FFV1)
    index = next(s.index for s in read(back).info.streams if s.kind == "subtitle")
    assert [p.decode() for p in packets(back, index)] == ["first line", "second"]
    begin = read(back).pts[0]  # the sound's priming lies before it
    assert [round(float(t - begin), 2) for t in stamps(back, index)] == [0.1, 0.5]


def test_a2_59_captions_for_the_web(tmp_path: Path, many: Path) -> None:
    fast = {"deadline": "realtime", "cpu-used": "8"}
    settings = EncodeSettings(codec="libvpx-vp9", options=fast, audio_codec="libopus")
    transcode(many, tmp_path / "out.webm", settings)
    with av.open(str(tmp_path / "out.webm")) as container:
        assert [s.codec_context.name for s in container.streams] == ["vp9", "opus", "opus", "opus", "webvtt", "webvtt"]


def test_a2_65_attachments_in_mp4_are_dropped_with_a_note(many: Path, tmp_path: Path) -> None:
    copy = transcode(many, tmp_path / "out.mp4", FAST)
    assert [line for line in copy.said if "stream 6 (attachment note.txt) dropped: mp4 cannot hold it; mkv can" in line]


def test_a2_66_68_chapters_and_own_tags_in_mp4(many: Path, tmp_path: Path) -> None:
    settings = EncodeSettings(codec="libx264", options={"preset": "ultrafast"}, tags={"VIDRESTORE": "chain=x; seed=1"})
    out = tmp_path / "out.mp4"
    transcode(many, out, settings)
    assert tags(out)["vidrestore"] == "chain=x; seed=1"
    assert tags(out)["title"] == "A title with ü" and tags(out)["reel"] == "7"
    with av.open(str(out)) as container:
        assert [c["metadata"]["title"] for c in container.chapters()] == ["one", "two"]
    again = tmp_path / "again.mp4"
    copy = transcode(out, again, FAST)  # QuickTime's chapter track is written anew, not dropped with a warning
    assert not [line for line in copy.said if "dropped" in line]
    with av.open(str(again)) as container:
        assert [c["metadata"]["title"] for c in container.chapters()] == ["one", "two"]


def test_a2_57_time_code(tmp_path: Path) -> None:
    source = tmp_path / "tc.mov"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "pcm_s16le", "-timecode", "01:02:03:04", source)
    assert any(s.tag == "tmcd" or "timecode" in s.metadata for s in read(source).info.streams)
    for name in ("out.mov", "out.mp4"):
        settings = FAST if name == "out.mov" else EncodeSettings(codec="libx264", audio_codec="aac")
        copy = transcode(source, tmp_path / name, settings)
        assert not [line for line in copy.said if "dropped" in line]
        assert next(v for s in read(tmp_path / name).info.streams if (v := s.metadata.get("timecode"))) == "01:02:03:04"
    copy = transcode(source, tmp_path / "out.mkv", FAST)
    assert [line for line in copy.said if "time code" in line]
    assert tags(tmp_path / "out.mkv", 0)["timecode"] == "01:02:03:04"


def test_a2_58_data_streams(tmp_path: Path) -> None:
    plain, source = tmp_path / "plain.ts", tmp_path / "data.ts"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "aac", plain)
    with av.open(str(plain)) as a, av.open(str(source), "w") as b:
        lanes = {s.index: b.add_stream_from_template(s, opaque=True) for s in a.streams}
        klv = b.add_data_stream("klv")
        klv.time_base = Fraction(1, 90000)
        for packet in a.demux():
            if packet.size:
                packet.stream = lanes[packet.stream_index]
                b.mux(packet)
        for i in range(3):
            data = av.Packet(b"\x06\x0e\x2b\x34" + bytes([i] * 16))
            data.stream, data.pts, data.dts = klv, 126000 + i * 9000, 126000 + i * 9000
            data.time_base = Fraction(1, 90000)
            b.mux(data)
    index = next(s.index for s in read(source).info.streams if s.kind == "data")
    want = packets(source, index)
    assert len(want) == 3
    transcode(source, tmp_path / "out.ts", FAST)
    kept = next(s.index for s in read(tmp_path / "out.ts").info.streams if s.kind == "data")
    assert packets(tmp_path / "out.ts", kept) == want
    copy = transcode(source, tmp_path / "out.mp4", FAST)
    assert [line for line in copy.said if "data klv) dropped: mp4 cannot hold it" in line]
    assert read(tmp_path / "out.mp4").n == 25


def test_a2_60_bitmap_captions(tmp_path: Path) -> None:
    source = tmp_path / "dvd.mkv"
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,600\nline\n")
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        words = container.add_mux_stream("dvd_subtitle")
        words.time_base = Fraction(1, 1000)
        for i in range(25):
            picture = av.VideoFrame(96, 64, "yuv420p")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            container.mux(video.encode(picture))
        packet = av.Packet(b"\x00\x04\x00\x04")
        packet.stream, packet.pts, packet.dts, packet.time_base = words, 100, 100, Fraction(1, 1000)
        container.mux(packet)
        container.mux(video.encode(None))
    transcode(source, tmp_path / "out.mkv", FAST)
    assert packets(tmp_path / "out.mkv", 1) == packets(source, 1) != []
    copy = transcode(source, tmp_path / "out.webm", EncodeSettings(codec="libvpx-vp9", options={"cpu-used": "8"}))
    assert [line for line in copy.said if "dropped: webm cannot hold it; mkv can" in line]


def test_a2_63_sound_that_does_not_fit_is_found_before_the_first_frame(tmp_path: Path) -> None:
    source = tmp_path / "pcm.mov"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "pcm_s16le", source)
    with pytest.raises(OutputError, match=r"stream 1 \(pcm_s16le\) does not fit mp4; use -o out.mkv or -c:a aac"):
        transcode(source, tmp_path / "out.mp4", FAST)
    assert not (tmp_path / "out.mp4").exists()
    transcode(source, tmp_path / "out.mkv", FAST)
    assert b"".join(packets(tmp_path / "out.mkv", 1)) == b"".join(packets(source, 1))


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("libopus", ".webm"), ("flac", ".mkv"), ("ac3", ".ts")])
def test_a2_63_the_remedy_works(codec: str, suffix: str, tmp_path: Path) -> None:
    source, out = tmp_path / "pcm.mov", tmp_path / f"out{suffix}"
    ffmpeg(*PATTERN, *TONE, "-af", "adelay=100", *X264, "-c:a", "pcm_s16le", source)
    video = {"libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"}, "libx264": {"preset": "ultrafast"}}
    name = "libvpx-vp9" if suffix == ".webm" else "libx264"
    transcode(source, out, EncodeSettings(codec=name, options=video[name], audio_codec=codec))
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == codec.removeprefix("lib")
        frames = list(container.decode(stream))
    heard = sum(f.samples for f in frames) / frames[0].sample_rate
    assert abs(heard - 1.1) < 0.06
    begins = frames[0].pts * frames[0].time_base - (read(out).pts[0])
    assert abs(begins) < Fraction(3, 100)


def test_a2_64_priming_and_length_of_sound(good: Path, tmp_path: Path) -> None:
    transcode(good, tmp_path / "out.mp4", FAST)
    assert packets(good, 1) == packets(tmp_path / "out.mp4", 1)
    assert stamps(good, 1) == stamps(tmp_path / "out.mp4", 1)
    with av.open(str(good)) as a, av.open(str(tmp_path / "out.mp4")) as b:
        samples = [sum(f.samples for f in c.decode(audio=0)) for c in (a, b)]
    assert samples[0] == samples[1]


def test_a2_53_the_largest_film_is_restored_the_other_copied(tmp_path: Path) -> None:
    source = tmp_path / "two.mp4"
    small = ["-filter:v:0", "scale=48:32", "-disposition:v:0", "default", "-disposition:v:1", "default"]
    ffmpeg(*PATTERN, *PATTERN, "-map", "0:v", "-map", "1:v", *X264, *small, source)
    assert read(source).info.video == 1
    assert read(source, ReadSettings(video_stream=0)).info.video == 0
    transcode(source, tmp_path / "out.mp4", FAST)
    assert packets(source, 0) == packets(tmp_path / "out.mp4", 0)
    assert packets(source, 1) != packets(tmp_path / "out.mp4", 1)


def test_a2_54_cover_is_kept_as_a_cover(good: Path, tmp_path: Path) -> None:
    cover, source = tmp_path / "cover.jpg", tmp_path / "covered.mp4"
    ffmpeg("-i", good, "-vf", "scale=640:480", "-frames:v", "1", "-update", "1", cover)
    ffmpeg("-i", good, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic", source)
    info = read(source).info
    assert info.video == 0 and [s.cover for s in info.streams] == [False, False, True]
    for name in ("out.mp4", "out.mkv"):
        transcode(source, tmp_path / name, FAST)
        after = read(tmp_path / name).info
        assert [s.kind for s in after.streams if s.cover] == ["video"]
        index = next(s.index for s in after.streams if s.cover)
        assert packets(tmp_path / name, index) == [cover.read_bytes()]
    transcode(tmp_path / "out.mkv", tmp_path / "again.mkv", FFV1)
    assert [s.kind for s in read(tmp_path / "again.mkv").info.streams] == ["video", "audio", "video"]


def test_a2_67_dispositions_in_mp4(many: Path, tmp_path: Path) -> None:
    transcode(many, tmp_path / "out.mp4", FAST)
    source, out = read(many).info, read(tmp_path / "out.mp4").info
    assert [s.language for s in out.streams[1:4]] == [s.language for s in source.streams[1:4]] == ["eng", "deu", "fra"]
    assert [bool(s.disposition & 1) for s in out.streams[1:4]] == [False, True, False]


def test_a2_52_damaged_packets_of_other_streams_do_not_end_the_run(tmp_path: Path) -> None:
    """A second film is copied; its packet that the muxer cannot rewrite is lost alone."""
    source = tmp_path / "two.mp4"
    ffmpeg(*PATTERN, *PATTERN, "-map", "0:v", "-map", "1:v", *X264, "-filter:v:1", "scale=48:32", source)
    with av.open(str(source)) as container:
        packet = [p for p in container.demux(container.streams[1]) if p.size][10]
        position, size = packet.pos, packet.size
    data = bytearray(source.read_bytes())
    data[position : position + size] = b"\xff" * size
    source.write_bytes(data)
    copy = transcode(source, tmp_path / "out.ts", FAST)
    assert [line for line in copy.said if "damaged packets of stream 1 dropped" in line]
    assert read(tmp_path / "out.ts").n == 25
    assert len(packets(tmp_path / "out.ts", 1)) == 24


def test_copied_hevc_is_called_hvc1_in_mp4(tmp_path: Path) -> None:
    source = tmp_path / "two.mkv"
    hevc = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p"]
    ffmpeg(*PATTERN, *PATTERN, "-map", "0:v", "-map", "1:v", "-filter:v:1", "scale=48:32", *hevc, source)
    transcode(source, tmp_path / "out.mp4", EncodeSettings(codec="libx265", options={"preset": "ultrafast"}))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [s.codec_context.codec_tag for s in container.streams] == ["hvc1", "hvc1"]


def test_chapters_and_streams_a_container_lacks_are_said(many: Path, tmp_path: Path) -> None:
    copy = transcode(many, tmp_path / "out.ts", EncodeSettings(codec="libx264", audio_codec="aac"))
    said = json.dumps(copy.said)
    assert "mpegts holds no chapters" in said
    assert "stream 6 (attachment note.txt) dropped" in said
    assert read(tmp_path / "out.ts").n == 25


def test_y4m_holds_pictures_only(good: Path, tmp_path: Path) -> None:
    from media_tools import assert_same_pictures

    copy = transcode(good, tmp_path / "out.y4m", EncodeSettings())
    assert_same_pictures(read(good), read(tmp_path / "out.y4m"))
    assert [line for line in copy.said if "y4m holds pictures only" in line]
