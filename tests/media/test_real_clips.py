"""Real files: every one goes through unchanged, or is refused with one line."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from media_tools import FFV1, MS, assert_same_pictures, assert_same_times, decoder, read, transcode

from vidrestore.errors import VidrestoreError
from vidrestore.media.encoding import EncodeSettings, choose_encoder, container_of
from vidrestore.media.planes import thumbnail
from vidrestore.media.reader import ReadSettings, read_info
from vidrestore.media.tracks import default_suffix
from vidrestore.media.writer import PyAVEncoder
from vidrestore.notes import Notes

pytestmark = pytest.mark.media

# Name -> frames, and what must be said or kept of it.
FILMS = {
    "rot90_3frames.mov": 3,
    "rotate_and_mirror.mp4": 30,
    "rot_sar_truncated.mp4": 33,
    "hdr10_rot_attachment.mkv": 10,
    "phone_dolbyvision_hlg.mov": 4,
    "prores_hdr10_422.mxf": 5,
    "prores4444_alpha.mov": 1,
    "vp9_alpha.webm": 150,
    "vp9_yuv440.webm": 10,
    "odd_161x121_vp9.webm": 30,
    "av1_size_change.ivf": 20,
    "h264_size_change.mp4": 118,
    "interlaced_h264_mp4.mp4": 126,
    "interlaced_foreman_cif.264": 100,
    "low_foreman_cif_lowrate.264": 11,
    "wrong_ext_mpegps.mp4": 79,
    "ts_start_59857s.ts": 15,
    "wtv_face_truncated.wtv": 41,
    "vfr_no_duration.webm": 74,
    "vfr_slow.flv": 10,
    "empty_edit_5s.mp4": 100,
    "neg_first_pts.mp4": 15,
    "b_pyramid_4.mp4": 25,
    "packed_bframes.avi": 15,
    "vc1_wmapro.mp4": 120,
    "svq3_nonutf8_tags.mov": 10,
    "cinepak_film_partial.cpk": 9,
    "rv30_wrong_duration.rm": 109,
    "phone_h263_vfr.3gp": 222,
    "camera_mjpeg_1s.avi": 15,
    "dv_partial_frame.dv": 1,
    "multilayer_hevc.mov": 5,
    "h264_fragmented.mp4": 30,
    "mkv_chapters_444.mkv": 150,
    "two_videos_two_audios_subs.mp4": 390,
    "cover_art_second_video.mp4": 1,
    "corrupt_tail.mp4": 49,
}
REFUSED = {
    "theora_2x2.ogv": (4, "the theora decoder refuses it"),
    "encrypted_cenc.mp4": (4, "stream is encrypted"),
    "drm_wmv3.wmv": (4, "stream is encrypted"),
    "vp9_invalid_bitstream.webm": (4, "no frames: vp9 cannot be decoded"),
    "header_only.mkv": (4, "no frames"),
    "animated.webp": (4, "no frames: webp cannot be decoded"),
    "zero_bytes.mp4": (4, "is empty"),
    "text_renamed.mp4": (4, "is not a media file"),
}
PARTIAL = {"rot_sar_truncated.mp4", "corrupt_tail.mp4", "cinepak_film_partial.cpk", "wtv_face_truncated.wtv"}
FOREIGN_SOUND = {"vc1_wmapro.mp4", "rv30_wrong_duration.rm", "phone_h263_vfr.3gp", "cinepak_film_partial.cpk"}


@pytest.mark.parametrize("name", FILMS)
def test_odd_files_pass_without_loss(name: str, media: Path, tmp_path: Path) -> None:
    source, out = media / "odd" / name, tmp_path / "out.mkv"
    sound = "flac" if name in FOREIGN_SOUND else None
    planes: list[tuple[Any, ...]] = []  # of this very pass: threads mend damaged frames one way or another
    copy = transcode(source, out, EncodeSettings(codec="ffv1", audio_codec=sound), keep=planes)
    before, after = replace(read(source), planes=planes), read(out)
    assert before.n == FILMS[name]
    assert (copy.failure is not None) == (name in PARTIAL)
    assert_same_pictures(before, after)
    assert_same_times(before, after, 2 * MS)
    assert after.info.layout.turn == before.info.layout.turn
    assert after.info.layout.interlaced == before.info.layout.interlaced
    assert before.info.sar in (after.info.sar, 1, None)
    assert before.pts == sorted(set(before.pts)) and before.pts[0] >= 0


@pytest.mark.parametrize("name", FILMS)
def test_odd_files_pass_in_their_own_kind(name: str, media: Path, tmp_path: Path) -> None:
    """As a user would run it: no output named, nothing chosen but speed."""
    source, notes = media / "odd" / name, Notes()
    with decoder().open(str(source), notes) as film:
        target = tmp_path / f"out{default_suffix(film.info, film.streams)}"
        encoder = choose_encoder(film.info, film.info.layout, container_of(target, EncodeSettings(), film.info))
        fast = {"libsvtav1": {"preset": "12"}, "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}
        options = fast.get(encoder, {"preset": "ultrafast"} if encoder.startswith("libx26") else {})
        settings = EncodeSettings(options=options, audio_codec="flac" if name in FOREIGN_SOUND else None)
        with PyAVEncoder().open(target, film, settings, notes) as sink:
            for frame in film.frames():
                sink.write(frame)
            sink.finish()
        info = film.info
    before, after = read(source), read(target)
    assert after.n == before.n and after.failure is None
    assert_same_times(before, after, Fraction(0) if target.suffix in (".mp4", ".mov") else 2 * MS)
    same = (
        "width",
        "height",
        "bits",
        "family",
        "turn",
        "primaries",
        "transfer",
        "matrix_tag",
        "full_range",
        "interlaced",
    )
    for key in same:
        assert getattr(after.info.layout, key) == getattr(info.layout, key), key
    assert info.sar in (after.info.sar, 1, None)
    if info.hdr is not None and encoder in ("libx265", "libx264"):
        assert after.info.hdr == info.hdr


@pytest.mark.parametrize("name", REFUSED)
def test_odd_files_refused(name: str, media: Path, tmp_path: Path) -> None:
    code, words = REFUSED[name]
    with pytest.raises(VidrestoreError) as caught:
        transcode(media / "odd" / name, tmp_path / "out.mkv")
    assert caught.value.exit_code == code and words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_faces_are_counted_and_timed(media: Path) -> None:
    frames = {
        "clean_dolly_720p.mp4": 282, "clean_greenscreen_512.mp4": 78, "clean_leaves_hevc_720p.mp4": 248,
        "clean_selfie_rot90_hevc.mp4": 53, "clean_foreman_cif.264": 100, "low_film_1950s_cuts.mp4": 360,
        "low_realvideo_cuts.rm": 144, "low_hand_occlusion.avi": 164, "low_three_walk.gif": 41,
        "low_webcam_hand.mkv": 109,
        "low_stage_cuts_multi.mp4": 275, "low_silent_film_two.mp4": 241, "clean_crowd_crossing_1080p.mp4": 105,
    }  # fmt: skip
    for name, count in frames.items():
        with decoder().open(str(media / "faces" / name), Notes()) as film:
            times = [f.pts for f in film.frames()]
        assert len(times) == count and times == sorted(set(times)), name
        assert film.failure is None, name


def test_files_without_true_times_rise_evenly(media: Path) -> None:
    for name in ("faces/low_hand_occlusion.avi", "odd/packed_bframes.avi"):
        film = read(media / name)
        assert len({b - a for a, b in zip(film.pts, film.pts[1:], strict=False)}) == 1, name
        assert film.notes.count("pts_repaired") == 1


def test_the_film_of_a_motion_photo_is_chosen(media: Path) -> None:
    info = read_info(str(media / "faces/clean_selfie_rot90_hevc.mp4"), Notes())
    assert (info.layout.width, info.layout.height, info.layout.turn) == (1440, 1080, (0, 1, -1, 0))


def test_facts_about_odd_files(media: Path) -> None:
    def look(name: str) -> object:
        return read_info(str(media / "odd" / name), Notes())

    assert look("rotate_and_mirror.mp4").layout.turn == (0, 1, 1, 0)  # type: ignore[attr-defined]
    assert look("rot_sar_truncated.mp4").layout.sar == Fraction(1, 2)  # type: ignore[attr-defined]
    hdr = look("hdr10_rot_attachment.mkv").hdr  # type: ignore[attr-defined]
    assert hdr.light == (1000, 300) and hdr.luminance == (Fraction(1, 1000), 1000)
    assert look("vp9_alpha.webm").layout.pix_fmt == "yuva420p"  # type: ignore[attr-defined]
    assert look("dv_partial_frame.dv").rate == 25  # type: ignore[attr-defined]
    assert look("two_videos_two_audios_subs.mp4").video == 3  # type: ignore[attr-defined]
    assert look("wtv_face_truncated.wtv").layout.sar == Fraction(64, 45)  # type: ignore[attr-defined]


def test_a2_38_dolby_vision_is_dropped_aloud(media: Path) -> None:
    assert read(media / "odd/phone_dolbyvision_hlg.mov").notes.count("dolby_vision_dropped") == 1


def test_strict_and_keep_going(media: Path) -> None:
    broken = media / "odd/corrupt_tail.mp4"
    assert read(broken, ReadSettings(keep_going=True)).failure is None
    with pytest.raises(VidrestoreError) as caught:
        read(broken, ReadSettings(strict=True))
    assert caught.value.exit_code == 6


def test_thumbnails_of_real_films(media: Path) -> None:
    with decoder().open(str(media / "faces/clean_selfie_rot90_hevc.mp4"), Notes()) as film:
        thumb = thumbnail(next(film.frames()), 320)
    assert thumb.image.shape == (320, 240, 3) and thumb.image.std() > 20


def test_cut_of_a_real_film_keeps_sound_in_step(media: Path, tmp_path: Path) -> None:
    source = media / "faces/clean_talk_mpeg4_512.mp4"
    out = tmp_path / "cut.mkv"
    transcode(source, out, FFV1, ReadSettings(start=1, end=2))
    whole, part = read(source), read(out)
    begin = next(i for i, t in enumerate(whole.pts) if t >= 1)
    assert part.n == 25
    assert all((part.planes[k][0] == whole.planes[begin + k][0]).all() for k in range(25))
