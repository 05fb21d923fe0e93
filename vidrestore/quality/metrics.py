"""What is measured of a restored film: name, unit, which way is better, what it needs, where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

RESTORED: Final = "restored"
SOURCE: Final = "source"
REFERENCE: Final = "reference"
ROLES: Final = (SOURCE, RESTORED, REFERENCE)  # in the order they are shown

Better = Literal["more", "less", "one"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. ``key`` names it in the JSON."""

    key: str
    name: str
    unit: str
    better: Better  # "one": the nearer to 1
    about: str  # one sentence
    source: str  # where it is defined

    def shown(self, value: float) -> str:
        """With as many digits as mean something."""
        return f"{value:.{_DIGITS.get(self.key, 3)}f}"


_DIGITS: Final = {"psnr_picture": 2, "psnr": 2, "psnr_face": 2, "ssim": 4, "ids": 4, "sigma_ids": 4, "id_source": 4}
_OURS: Final = "our own"
_LAI: Final = "Lai et al., ECCV 2018"

METRICS: Final = tuple(
    Metric(*row)
    for row in (
        ("psnr_picture", "PSNR, whole picture", "dB", "more", "Nearness to the reference, all of the picture.", ""),
        ("psnr", "PSNR, crop", "dB", "more", "Nearness to the reference, in the aligned crop.", ""),
        ("psnr_face", "PSNR, face", "dB", "more", "The same where eyes, nose and mouth are.", ""),
        ("ssim", "SSIM", "", "more", "Likeness of structure in the crop; 1 is the same.", "Wang et al., IEEE TIP 2004"),
        ("lpips", "LPIPS", "", "less", "Distance as AlexNet sees it.", "Zhang et al., CVPR 2018"),
        ("dists", "DISTS", "", "less", "Distance of structure and texture as VGG sees it.", "Ding et al., TPAMI 2022"),
        ("detail", "agreeing detail", "", "one",
         "The reference's fine detail that is there; invented detail adds nothing.", _OURS),
        ("ids", "identity (IDS)", "", "more", "Cosine of who is seen against the reference.", "KEEP, ECCV 2024"),
        ("sigma_ids", "sigma IDS", "", "less", "How that wavers along a track.", "KEEP, ECCV 2024"),
        ("id_source", "identity to source", "", "more", "Cosine of who is seen against the source.", "FOS, CVPRW 2024"),
        ("vidd", "VIDD", "", "less", "How who is seen changes from frame to frame.", "FOS, CVPRW 2024"),
        ("vidd_excess", "VIDD, excess", "", "less", "VIDD less the reference's.", _OURS),
        ("akd", "AKD", "px of 512", "less", "Distance of five landmarks from the reference's.", "KEEP, ECCV 2024"),
        ("lme", "LME", "% of eye distance", "less", "Error of the landmarks' motion from frame to frame.", _OURS),
        ("jitter", "jitter J", "% of eye distance", "less", "Second difference of landmarks over time.", _OURS),
        ("jitter_ratio", "J-ratio", "", "one",
         "Jitter against the reference's; without one against the source's, smoothed.", _OURS),
        ("jitter_error", "jitter of the error", "% of eye distance", "less",
         "Second difference over time of what landmarks differ from the reference's.", _OURS),
        ("e_warp", "E_warp", "1e-3", "less",
         "What is left of a frame after the next is brought to it along the motion.", _LAI),
        ("e_warp_excess", "E_warp, excess", "1e-3", "less", "E_warp less the reference's.", _OURS),
        ("e_warp_error", "E_warp of the error", "1e-3", "less",
         "The same of the difference to the reference: its flicker, which blur cannot hide together with PSNR.", _OURS),
        ("tof", "tOF", "px", "less", "Difference of motion to the reference.", "TecoGAN, TOG 2020"),
        ("tlp", "tLP", "1e-2", "less", "Difference of perceived change to the reference.", "TecoGAN, TOG 2020"),
        ("sharpness", "sharpness ratio", "", "more",
         "Fine detail against the source's, noise and invention included.", _OURS),
        ("seam", "seam score", "", "one", "Gradients at the mask's border against the source's.", _OURS),
    )
)  # fmt: skip
BY_KEY: Final = {metric.key: metric for metric in METRICS}
