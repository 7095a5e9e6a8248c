"""Where a sale's milliseconds went, from the frame that held the code to the light."""

from dataclasses import dataclass


@dataclass
class SaleTiming:
    """Moments of one sale (monotonic seconds), each filled in as it passes."""

    captured_at: float
    decoded_at: float
    signing_at: float
    signed_at: float
    """Publishing comes after it: the cloud may be at work before the call returns."""
    cloud_us: int = 0
    """What the reply says the cloud took; 0 where the till decided alone."""
    journaling_at: float = 0.0
    journaled_at: float = 0.0
    lit_at: float = 0.0

    def stages_ms(self) -> dict[str, float]:
        """The stages one after the other; their sum is `total`.

        `frame`: from decoded until the till took the code up and judged it. `wire`: both ways
        through the broker and every queue on the way; without a reply, the time waited in vain.
        `journal`: the one fsync between frame and light.
        """
        cloud_s = self.cloud_us / 1_000_000
        seconds = {
            "decode": self.decoded_at - self.captured_at,
            "frame": self.signing_at - self.decoded_at,
            "sign": self.signed_at - self.signing_at,
            "wire": self.journaling_at - self.signed_at - cloud_s,
            "cloud": cloud_s,
            "journal": self.journaled_at - self.journaling_at,
            "light": self.lit_at - self.journaled_at,
            "total": self.lit_at - self.captured_at,
        }
        return {stage: round(value * 1000, 3) for stage, value in seconds.items()}
