"""The scanner: what QR code a frame holds, looked for only while somebody wants to know."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic  # noqa: TID251 -- the scanner is an edge: it times each decode
from typing import TYPE_CHECKING, Final

import structlog

from device.hardware.camera import Camera, Frame

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

REPEAT_S: Final = 1.5
"""A code that stays in view is reported again after this long."""

GONE_FRAMES: Final = 5
"""A code not seen in this many frames has left: one blurred frame is not a new phone."""

FAULT_PAUSE_S: Final = 0.1
"""A camera that fails at once must not fill the log."""

OnQr = Callable[[str, float, float], None]
"""Called with the text, and when its frame was captured and decoded (monotonic seconds)."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Reading:
    """What a QR code says and which decoder read it."""

    text: str
    decoder: str


def read_qr(grey: "NDArray[uint8]", turn: int = 0) -> Reading | None:
    """The QR code in a (height, width) grey picture, if one can be read.

    zxing-cpp first; on a miss zbar after an adaptive threshold: together they read the most. Where
    zxing-cpp has no wheel, zbar alone tries another treatment each `turn` (the frame's number).
    """
    if grey.ndim != 2 or grey.dtype != "uint8" or grey.size == 0:
        raise ValueError(f"not a grey picture: {grey.dtype} {grey.shape}")
    # Imported here: the decoders take 25 MiB that a program without a camera does not need.
    try:
        import zxingcpp  # noqa: PLC0415
    except ImportError:
        return _read_with_zbar_alone(grey, turn)
    found = zxingcpp.read_barcode(
        grey,
        formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode),
        text_mode=zxingcpp.TextMode.Plain,
    )
    if found is not None and found.text:
        return Reading(found.text, "zxing-cpp")
    return _read_with_zbar(threshold(grey))


def threshold(grey: "NDArray[uint8]") -> "NDArray[uint8]":
    """Black where a pixel is darker than its neighbourhood's mean, white elsewhere.

    Glare and a screen's own gradient move the brightness from place to place; the mean moves along.
    """
    import numpy as np  # noqa: PLC0415
    from PIL import Image, ImageFilter  # noqa: PLC0415

    radius = max(1, grey.shape[0] // 24)
    mean = np.asarray(Image.fromarray(grey).filter(ImageFilter.BoxBlur(radius)))
    is_light = np.subtract(mean, grey, dtype=np.int16) <= 5
    return is_light.astype(np.uint8) * np.uint8(255)


def _read_with_zbar_alone(grey: "NDArray[uint8]", turn: int) -> Reading | None:
    match turn % 3:
        case 0:
            return _read_with_zbar(threshold(grey))
        case 1:
            return _read_with_zbar(grey)
        case _:
            return _read_with_zbar(threshold(255 - grey))


def _read_with_zbar(grey: "NDArray[uint8]") -> Reading | None:
    from pyzbar.pyzbar import ZBarSymbol, decode  # noqa: PLC0415

    # QR codes alone: 2.6 times faster, and the assertion of pyzbar #143 is in another decoder.
    found = decode(grey, symbols=[ZBarSymbol.QRCODE])
    if found and found[0].data:
        return Reading(found[0].data.decode("utf-8", errors="replace"), "zbar")
    return None


def load_decoders() -> None:
    """Load what `read_qr` imports, so that the first phone does not wait for it."""
    import numpy as np  # noqa: PLC0415

    for turn in range(3):
        read_qr(np.full((48, 64), 200, np.uint8), turn)


class Scanner:
    """Captures and decodes in a thread of its own, and reports each code once."""

    def __init__(
        self,
        camera: Camera,
        on_qr: OnQr,
        *,
        read: "Callable[[NDArray[uint8], int], Reading | None]" = read_qr,
        prepare: Callable[[], None] = load_decoders,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.frames = 0
        self.misses = 0
        """Frames in which no code was read."""
        self.faults = 0
        """Captures and decodes that failed."""
        self.last_frame_at: float | None = None
        self._camera = camera
        self._on_qr = on_qr
        self._read = read
        self._prepare = prepare
        self._clock = clock
        self._lock = Lock()
        self._looking = Event()
        self._look_number = 0
        self._seen: str | None = None
        self._seen_at = 0.0
        self._unseen_frames = 0
        self._closing = Event()
        self._thread = Thread(target=self._run, name="scanner", daemon=True)
        self._thread.start()

    @property
    def is_looking(self) -> bool:
        return self._looking.is_set()

    def look(self, looking: bool) -> None:
        """Start or stop; stopped, it takes no frames and no CPU. A start forgets what was seen."""
        with self._lock:
            if looking == self._looking.is_set():
                return
            self._look_number += 1
            self._seen = None
            if looking:
                self._looking.set()
            else:
                self._looking.clear()

    def close(self) -> None:
        """Stop the thread; the camera stays its owner's to close."""
        self._closing.set()
        self._looking.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception:  # noqa: BLE001 -- one decoder may be missing where the other reads
            _log.exception("a decoder could not be loaded")
        while True:
            self._looking.wait()
            if self._closing.is_set():
                return
            look_number = self._look_number
            try:
                frame = self._camera.capture()
                reading = None if frame is None else self._decode(frame)
                self._judge(frame, reading, look_number)
            except Exception:  # noqa: BLE001 -- a poisonous frame costs itself, not the scanner
                self.faults += 1
                _log.exception("a frame was lost", frames=self.frames)
                self._closing.wait(FAULT_PAUSE_S)

    def _decode(self, frame: Frame) -> Reading | None:
        self.frames += 1
        self.last_frame_at = frame.captured_at
        reading = self._read(frame.grey, self.frames)
        if reading is None:
            self.misses += 1
        return reading

    def _judge(self, frame: Frame | None, reading: Reading | None, look_number: int) -> None:
        decoded_at = self._clock()
        with self._lock:
            if look_number != self._look_number:
                return  # this frame is from before the switch
            if frame is None or reading is None:
                self._unseen_frames += 1
                if self._unseen_frames >= GONE_FRAMES:
                    self._seen = None
                return
            self._unseen_frames = 0
            if reading.text == self._seen and decoded_at - self._seen_at < REPEAT_S:
                return
            self._seen, self._seen_at = reading.text, decoded_at
        self._on_qr(reading.text, frame.captured_at, decoded_at)
