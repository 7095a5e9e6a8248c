"""What the scanner reads, and how long it takes: photos, phones, and pictures that hold no code."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Final

import msgspec
import numpy as np
import typer
import zxingcpp
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image, ImageDraw
from pyzbar.pyzbar import ZBarSymbol, decode
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.machine import Machine, describe_machine
from bench.percentiles import percentiles
from bench.results import keep
from device.hardware.decoding import load_decoders, read_qr, read_with_zbar_alone
from device.hardware.reader_process import reader_of_stage
from device.hardware.scanner import Scanner
from device.hardware.simulated_camera import Scene, Stage
from protocol.wallet_qr import WalletToken, issue, to_digits
from venue.phone import Difficulty, empty_counter, phone

FRAMES: Final = 3
"""A phone is held before the camera for longer than three frames."""

READERS: Final = ("pyzbar", "zxing-cpp", "scanner, first frame", "scanner", "without zxing-cpp")
LABELLED_GOAL: Final = 0.95
_HANDOVERS: Final = 40


class _Listed(msgspec.Struct, frozen=True):
    file: str
    expected: str | None = None


class Score(msgspec.Struct, frozen=True):
    """How one reader fared on one set of pictures."""

    pictures: int
    read: int
    """As the label says; of pictures without a label or a code, any text at all."""
    read_otherwise: list[tuple[str, str, bool]]
    """Name, text, and whether another decoder says the same."""
    missed: list[str]
    processor_ms: dict[str, float]
    """A frame's, whether it was read or not."""
    worst_processor_ms: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    photos: str
    frames: int
    sets: dict[str, dict[str, Score]]
    scanner_to_zxing_processor_ratio: float
    handover_ms: dict[str, float]
    """What the reading process adds: from its decoded frame to the appliance's being told."""
    decode_ms: dict[str, float]
    labelled_rate: float
    easy_rate: float
    false_reads: int


@dataclass(frozen=True)
class Picture:
    name: str
    grey: "np.typing.NDArray[np.uint8]"
    expected: str | None


Reader = Callable[["np.typing.NDArray[np.uint8]"], Iterator[str | None]]
"""Gives what each frame in turn says, as far as it is asked."""


def _pyzbar(grey: "np.typing.NDArray[np.uint8]") -> Iterator[str | None]:
    found = decode(grey, symbols=[ZBarSymbol.QRCODE])
    yield found[0].data.decode(errors="replace") if found and found[0].data else None


def _zxing(grey: "np.typing.NDArray[np.uint8]") -> Iterator[str | None]:
    found = zxingcpp.read_barcode(
        grey, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
    )
    yield found.text if found is not None and found.text else None


def _scanner(grey: "np.typing.NDArray[np.uint8]") -> Iterator[str | None]:
    for turn in range(FRAMES):
        reading = read_qr(grey, turn)
        yield None if reading is None else reading.text


def _first_frame(grey: "np.typing.NDArray[np.uint8]") -> Iterator[str | None]:
    yield next(_scanner(grey))


def _without_zxing(grey: "np.typing.NDArray[np.uint8]") -> Iterator[str | None]:
    for turn in range(FRAMES):
        reading = read_with_zbar_alone(grey, turn)
        yield None if reading is None else reading.text


_READERS: Final[Mapping[str, Reader]] = dict(
    zip(READERS, (_pyzbar, _zxing, _first_frame, _scanner, _without_zxing), strict=True)
)


def run(
    photos: Annotated[Path, typer.Option(help="A folder with a manifest.json.")],
    phones: Annotated[int, typer.Option(min=2, help="Rendered phones of each kind.")] = 60,
) -> None:
    """Decode rates, processor milliseconds and false reads, beside pyzbar and zxing-cpp alone."""
    console = Console(stderr=True)
    machine = describe_machine()
    load_decoders()
    listed = msgspec.json.decode((photos / "manifest.json").read_bytes(), type=list[_Listed])
    taken = [Picture(one.file, _grey(photos / one.file), one.expected) for one in listed]
    labelled = [one for one in taken if one.expected is not None]
    sets: dict[str, list[Picture]] = {
        "labelled photos": labelled,
        "unlabelled photos": [one for one in taken if one.expected is None],
        "easy phones": _phones("easy", phones),
        "normal phones": _phones("normal", phones),
        "hard phones": _phones("hard", phones),
        "no code": [
            *_painted_over((*labelled, *_phones("normal", 10))),
            *(
                Picture(f"counter {seed}", empty_counter(np.random.default_rng(seed)), None)
                for seed in range(10)
            ),
        ],
    }
    scores = {
        name: {
            reader: _score(pictures, read, f"{name}: {reader}", console)
            for reader, read in _READERS.items()
        }
        for name, pictures in sets.items()
    }
    decoded, handed_over = _handovers(console)
    of_labelled, of_easy = scores["labelled photos"]["scanner"], scores["easy phones"]["scanner"]
    figures = Figures(
        machine=machine,
        photos=photos.name,
        frames=FRAMES,
        sets=scores,
        scanner_to_zxing_processor_ratio=of_easy.processor_ms["p50"]
        / scores["easy phones"]["zxing-cpp"].processor_ms["p50"],
        handover_ms=percentiles(handed_over),
        decode_ms=percentiles(decoded),
        labelled_rate=of_labelled.read / of_labelled.pictures,
        easy_rate=of_easy.read / of_easy.pictures,
        false_reads=_false_reads(scores),
    )
    file = keep("scanner", figures)
    _show(figures)
    Console().print(f"Kept in {file}")
    is_met = figures.labelled_rate >= LABELLED_GOAL and figures.easy_rate == 1
    raise typer.Exit(0 if is_met and figures.false_reads == 0 else 1)


def _grey(file: Path) -> "np.typing.NDArray[np.uint8]":
    with Image.open(file) as opened:
        return np.asarray(opened.convert("L"))


def _phones(difficulty: Difficulty, number: int) -> list[Picture]:
    """Each shows a wallet QR of its own, signed as the cloud signs them."""
    key = ec.generate_private_key(ec.SECP256R1())
    pictures: list[Picture] = []
    for seed in range(number):
        token = WalletToken(
            sub="bench-payer",
            jti=f"bench-{seed:06d}",
            nonce="bench-nonce",
            iat=1_790_000_000 + seed,
            exp=1_790_000_090 + seed,
        )
        digits = to_digits(issue(token, key, "w1"))
        seen = phone(digits, np.random.default_rng(seed), difficulty)
        pictures.append(Picture(f"{difficulty} {seed}", seen, digits))
    return pictures


def _painted_over(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """The same with every code covered and the rest as it was; those that zxing-cpp finds none in
    are left out, since their codes would still be there."""
    for picture in pictures:
        image = Image.fromarray(picture.grey)
        is_painted = False
        while found := zxingcpp.read_barcodes(
            np.asarray(image), formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
        ):
            is_painted = True
            for code in found:
                ImageDraw.Draw(image).polygon(_wider(code.position), fill=128)
        if is_painted:
            yield Picture(f"{picture.name}, painted over", np.asarray(image), None)


def _wider(at: zxingcpp.Position) -> list[tuple[float, float]]:
    """The code's corners and a fifth of its size beyond them."""
    corners = [
        (float(corner.x), float(corner.y))
        for corner in (at.top_left, at.top_right, at.bottom_right, at.bottom_left)
    ]
    middle_x = sum(x for x, _ in corners) / 4
    middle_y = sum(y for _, y in corners) / 4
    return [(middle_x + (x - middle_x) * 1.4, middle_y + (y - middle_y) * 1.4) for x, y in corners]


def _score(pictures: Sequence[Picture], read: Reader, what: str, console: Console) -> Score:
    took_ms: list[float] = []
    good = 0
    otherwise: list[tuple[str, str, bool]] = []
    missed: list[str] = []
    for picture in track(pictures, what, console=console, transient=True):
        text = None
        frames = read(picture.grey)
        while text is None:
            began_s = time.thread_time()
            try:
                text = next(frames)
            except StopIteration:
                break
            took_ms.append((time.thread_time() - began_s) * 1000)
        if text is not None and text == picture.expected:
            good += 1
        elif text is not None:
            otherwise.append((picture.name, text, _is_confirmed(picture.grey, text)))
            good += picture.expected is None
        elif picture.expected is not None:
            missed.append(picture.name)
    return Score(len(pictures), good, otherwise, missed, percentiles(took_ms), max(took_ms))


def _is_confirmed(grey: "np.typing.NDArray[np.uint8]", text: str) -> bool:
    """Whether both decoders read this code; they guess other alphabets differently."""
    image = np.asarray(Image.fromarray(grey))
    says = [
        next(iter(each), None)
        for each in (_zxing(image), _pyzbar(image), _without_zxing(image), _scanner(image))
    ]
    doubled = np.asarray(Image.fromarray(grey).resize((grey.shape[1] * 2, grey.shape[0] * 2)))
    says.extend(_without_zxing(doubled))
    return sum(one is not None and _ascii(one) == _ascii(text) for one in says) >= 2


def _ascii(text: str) -> str:
    return "".join(letter for letter in text if letter.isascii() and letter.isalnum())


def _false_reads(scores: Mapping[str, Mapping[str, Score]]) -> int:
    """Of the scanner: any text from no code, and a text that no other decoder confirms."""
    invented = len(scores["no code"]["scanner"].read_otherwise)
    return invented + sum(
        not is_confirmed
        for name, by_reader in scores.items()
        if name != "no code"
        for _, _, is_confirmed in by_reader["scanner"].read_otherwise
    )


def _handovers(console: Console) -> tuple[list[float], list[float]]:
    """Frames through the real reading process: to decode one, and to tell the appliance."""
    told: SimpleQueue[tuple[float, float, float]] = SimpleQueue()
    stage = Stage()
    scanner = Scanner(
        reader_of_stage(stage.descriptors),
        lambda _text, captured_at, decoded_at: told.put(
            (captured_at, decoded_at, time.monotonic())  # noqa: TID251 -- what is measured
        ),
    )
    decoded: list[float] = []
    handed_over: list[float] = []
    try:
        scanner.look(True)
        for picture in track(_phones("easy", _HANDOVERS), "handing over", console=console):
            height, width = picture.grey.shape
            stage.put(Scene(width, height, picture.grey.tobytes()))
            captured_at, decoded_at, told_at = told.get(timeout=60)
            decoded.append((decoded_at - captured_at) * 1000)
            handed_over.append((told_at - decoded_at) * 1000)
    finally:
        scanner.close()
        stage.close()
    return decoded, handed_over


def _show(figures: Figures) -> None:
    console = Console()
    table = Table(title=f"The scanner beside its parts ({figures.frames} frames a picture)")
    for column in ("pictures", "reader", "read", "otherwise", "ms p50", "p95", "worst"):
        is_name = column in {"pictures", "reader"}
        table.add_column(column, justify="left" if is_name else "right")
    for name, by_reader in figures.sets.items():
        table.add_section()
        for at, (reader, score) in enumerate(by_reader.items()):
            table.add_row(
                f"{name} ({score.pictures})" if at == 0 else "",
                reader,
                f"{score.read / score.pictures:.1%}",
                str(len(score.read_otherwise)),
                *(f"{score.processor_ms[each]:.1f}" for each in ("p50", "p95")),
                f"{score.worst_processor_ms:.1f}",
            )
    console.print(table)
    scanner = {name: by_reader["scanner"] for name, by_reader in figures.sets.items()}
    _list(console, "missed", scanner["labelled photos"].missed)
    for name, score in scanner.items():
        if name != "unlabelled photos":
            _list(
                console,
                f"{name}, read otherwise",
                (
                    f"{file}: {text[:40]!r}{', as another decoder does' if confirmed else ''}"
                    for file, text, confirmed in score.read_otherwise
                ),
            )
    console.print(
        f"labelled_rate {figures.labelled_rate:.3f}, easy_rate {figures.easy_rate:.3f}, "
        f"false_reads {figures.false_reads}, scanner_to_zxing_processor_ratio "
        f"{figures.scanner_to_zxing_processor_ratio:.2f}, handover p50 "
        f"{figures.handover_ms['p50']:.2f} ms, p99 {figures.handover_ms['p99']:.2f} ms",
        soft_wrap=True,
    )


def _list(console: Console, what: str, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(f"{what}: {line}", soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(run)
