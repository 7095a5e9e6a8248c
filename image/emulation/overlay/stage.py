"""Emulation only: the counter around an appliance, played from the host over a virtio port.

Makes gpio-sim's chip and a USB gadget that prints, and then takes orders, a JSON object a line:

    {"run": "shell command", "id": 7}   {"tap": "5", "hold_ms": 60, "id": 8}
    {"frame": base64 of a JPEG, "id": 9}   {"frame": null, "id": 10}

Each is answered with its id. Unasked it tells, with times in monotonic seconds of the guest,

    {"lamp": [samples, red, green, blue], "at": t}   ten times a second: in how many samples of
                                                     gpio-sim's files each lead was high
    {"printed": base64, "at": t}                     what the gadget was sent
"""

import base64
import json
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

STAGE = Path("/run/railtix-test")
CONFIGFS = Path("/sys/kernel/config")
LIBCAMERA = Path("/usr/share/libcamera")
PORT = Path("/dev/virtio-ports/railtix.stage")
ROWS, COLUMNS = (5, 6, 13, 19), (12, 16, 20, 21)
LEADS = (17, 27, 22)
LAYOUT = ("123A", "456B", "789C", "*0#D")
MODULES = ("gpio-sim", "libcomposite", "dummy_hcd", "usb_f_printer")

PRINTER = {"idVendor": "0x04b8", "idProduct": "0x0e15", "bcdUSB": "0x0200"}
"""The printer that the settings name as long as nobody says another."""
PRINTER_IS_WELL = b"\x12"

SAMPLE_S = 0.009
WINDOW_S = 0.1
PRESS_LOOKS, RELEASE_LOOKS = 12, 6
"""How often the driver must have looked at the matrix before a tap goes on."""
TAP_MAX_S = 20.0
READER_S = 20.0

# Small pictures: an emulated processor must read one within the two seconds a frame may take.
# It also takes long to start one where the host is busy.
# And nobody else is on this network, so an update may come faster than in a bar.
DROP_IN = f"""[Service]
Environment=PYTHONPATH={STAGE}/disk/shims LIBCAMERA_PIPELINES_MATCH_LIST=virtual
Environment=RAILTIX_HARDWARE_CAMERA_WIDTH=640 RAILTIX_HARDWARE_CAMERA_HEIGHT=360
Environment=RAILTIX_HARDWARE_CAMERA_START_S=150
Environment=RAILTIX_UPDATES_SPEED_MAX_KIB=16384
ReadWritePaths={STAGE}
DeviceAllow=/dev/udmabuf rw
"""


class Host:
    """The line to the host."""

    def __init__(self) -> None:
        self._port = os.open(PORT, os.O_RDWR)
        self._lock = Lock()

    def tell(self, **message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._port, line) :]

    def orders(self) -> "list[dict[str, Any]]":
        """What came, once something did."""
        while True:
            some = os.read(self._port, 1 << 16)
            if not some:
                time.sleep(0.1)  # the host hung up for now
                continue
            self._rest = getattr(self, "_rest", b"") + some
            *lines, self._rest = self._rest.split(b"\n")
            if lines:
                return [json.loads(line) for line in lines if line]


class Keypad:
    """Sixteen contacts between rows, which the driver drives, and columns, which it reads."""

    def __init__(self, pull_files: "list[Path]") -> None:
        self._pulls = pull_files
        self._pressed: set[str] = set()
        self._rows = 0b1111
        self._low = [False] * len(COLUMNS)
        self._lock = Lock()
        looks = STAGE / "looks"
        looks.write_bytes(bytes(8))
        looks.chmod(0o666)
        self._looks = looks.open("rb", buffering=0)
        path = STAGE / "matrix"
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        path.chmod(0o666)
        self._server.listen()
        Thread(target=self._serve, daemon=True).start()

    def tap(self, key: str, hold_ms: int) -> None:
        self._put({key})
        self._looked_at(PRESS_LOOKS, hold_ms / 1000)
        self._put(set())
        self._looked_at(RELEASE_LOOKS, 0.02)

    def _looked_at(self, looks: int, at_least_s: float) -> None:
        began, first = time.monotonic(), self._look_count()
        time.sleep(at_least_s)
        while self._look_count() < first + looks and time.monotonic() < began + TAP_MAX_S:
            time.sleep(0.005)

    def _look_count(self) -> int:
        self._looks.seek(0)
        return int.from_bytes(self._looks.read(8), "little")

    def _put(self, pressed: "set[str]") -> None:
        with self._lock:
            self._pressed = pressed
            self._conduct()

    def _serve(self) -> None:
        while True:
            driver, _ = self._server.accept()
            Thread(target=self._attend, args=(driver,), daemon=True).start()

    def _attend(self, driver: socket.socket) -> None:
        # A driver that starts claims each column anew, which resets what gpio-sim pulls.
        with driver, suppress(OSError):
            while rows := driver.recv(1):
                with self._lock:
                    self._rows = rows[0]
                    self._conduct()
                driver.sendall(b"k")

    def _conduct(self) -> None:
        for column, file in enumerate(self._pulls):
            is_low = any(
                self._rows >> row & 1 and keys[column] in self._pressed
                for row, keys in enumerate(LAYOUT)
            )
            if is_low != self._low[column]:
                file.write_text("pull-down" if is_low else "pull-up")
                self._low[column] = is_low


class Camera:
    """A folder of one picture; the reading process is started anew to see another one.

    libcamera's virtual camera reads its pictures when it is opened. The firmware's scanner starts
    a reading process that was killed, as it does for one that a picture killed.
    """

    def __init__(self) -> None:
        self._folder = STAGE / "frames"
        self._folder.mkdir(exist_ok=True)
        self._nothing = (STAGE / "disk" / "nothing.jpg").read_bytes()
        self._put(self._nothing)

    def show(self, picture: "bytes | None") -> None:
        """Until another reading process runs.

        Between fork and exec it holds the lines of the header's chip, which nobody can claim anew
        meanwhile: a key pressed then would be lost.
        """
        self._put(self._nothing if picture is None else picture)
        before = readers()
        for process in before:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        until = time.monotonic() + READER_S
        while before and not readers() - before and time.monotonic() < until:
            time.sleep(0.05)

    def _put(self, picture: bytes) -> None:
        draft = STAGE / "draft.jpg"
        draft.write_bytes(picture)
        draft.replace(self._folder / "0.jpg")


def main() -> None:
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    if not (CONFIGFS / "gpio-sim").exists():
        subprocess.run(["mount", "-t", "configfs", "configfs", str(CONFIGFS)], check=False)
    # Two read-only layers: the image's own folder, and the one file it does not have.
    layers = f"lowerdir={STAGE}/disk/libcamera:{LIBCAMERA}"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(LIBCAMERA)], check=True)
    lines = make_chip()
    paper = make_printer()
    keypad = Keypad([lines / f"sim_gpio{line}" / "pull" for line in COLUMNS])
    camera = Camera()
    with suppress(OSError):
        Path("/dev/udmabuf").chmod(0o666)
    drop_in = Path("/run/systemd/system/railtix-pos.service.d/90-emulation.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(DROP_IN)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    host = Host()
    Thread(target=watch_lamp, args=(host, lines), daemon=True).start()
    Thread(target=take_paper, args=(host, paper), daemon=True).start()
    tell_systemd("READY=1")
    host.tell(ready=True, at=time.monotonic())
    while True:
        for order in host.orders():
            Thread(target=obey, args=(host, keypad, camera, order), daemon=True).start()


def obey(host: Host, keypad: Keypad, camera: Camera, order: "dict[str, Any]") -> None:
    answer: dict[str, Any] = {"answer": order["id"]}
    try:
        if "run" in order:
            ran = subprocess.run(
                ["/bin/sh", "-c", order["run"]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            answer |= {"code": ran.returncode, "said": ran.stdout.decode(errors="replace")}
        elif "tap" in order:
            keypad.tap(order["tap"], order["hold_ms"])
        else:
            picture = order["frame"]
            camera.show(None if picture is None else base64.b64decode(picture))
    except Exception as error:  # noqa: BLE001 -- the host hears of it, and goes on asking
        answer["failed"] = repr(error)
    host.tell(**answer, at=time.monotonic())


def readers() -> "set[int]":
    """The firmware's reading processes, of which there should be one."""
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"device.hardware.reader" in (process / "cmdline").read_bytes():
                found.add(int(process.name))
    return found


def make_chip() -> Path:
    """gpio-sim's chip; the folder in which each of its lines has one."""
    device = CONFIGFS / "gpio-sim" / "railtix"
    bank = device / "bank0"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text("28")
    (device / "live").write_text("1")
    chip = (bank / "chip_name").read_text().strip()
    (STAGE / "chip").write_text(chip.removeprefix("gpiochip"))
    return Path("/sys/devices/platform") / (device / "dev_name").read_text().strip() / chip


def make_printer() -> int:
    """A USB printer plugged into this machine's own dummy socket; a descriptor of its inside."""
    gadget = CONFIGFS / "usb_gadget" / "printer"
    gadget.mkdir()
    for name, value in PRINTER.items():
        (gadget / name).write_text(value)
    strings = gadget / "strings" / "0x409"
    strings.mkdir()
    for name, value in (("manufacturer", "EPSON"), ("product", "TM-T20II"), ("serialnumber", "1")):
        (strings / name).write_text(value)
    configuration = gadget / "configs" / "c.1"
    configuration.mkdir()
    function = gadget / "functions" / "printer.0"
    function.mkdir()
    (function / "q_len").write_text("16")
    (configuration / "printer.0").symlink_to(function)
    (gadget / "UDC").write_text("dummy_udc.0")
    for _ in range(600):
        with suppress(OSError):
            return os.open("/dev/g_printer0", os.O_RDWR | os.O_NONBLOCK)
        time.sleep(0.1)
    raise SystemExit("the gadget's printer did not come")


def watch_lamp(host: Host, lines: Path) -> None:
    leads = [os.open(lines / f"sim_gpio{line}" / "value", os.O_RDONLY) for line in LEADS]
    while True:
        counts, samples = [0, 0, 0], 0
        ends = time.monotonic() + WINDOW_S
        while samples < 5 or time.monotonic() < ends:
            for at, lead in enumerate(leads):
                counts[at] += os.pread(lead, 1, 0) == b"1"
            samples += 1
            time.sleep(SAMPLE_S)
        host.tell(lamp=[samples, *counts], at=time.monotonic())


def take_paper(host: Host, printer: int) -> None:
    # Asked again and again, and never waited in: only a call of read() makes the gadget take
    # bytes, and whoever prints resets it first.
    while True:
        try:
            some = os.read(printer, 8192)
            if len(some) == 3 and some.startswith(b"\x10\x04"):  # DLE EOT n: how are you?
                os.write(printer, PRINTER_IS_WELL)
            elif some:
                host.tell(printed=base64.b64encode(some).decode(), at=time.monotonic())
        except OSError:  # nothing there so far, or being reset
            time.sleep(0.02)


def tell_systemd(word: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        line.sendall(word.encode())


if __name__ == "__main__":
    main()
