"""One emulated machine: the image's own boot loader, kernel and system on QEMU's `virt` board."""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

from image.emulation.console import Console, GuestError, connect
from image.emulation.labelled_disks import OVERLAY, make_overlay_disk
from image.emulation.stage import Stage
from image.emulation.tree import Built
from venue.programs import Program

MEMORY_MIB: Final = 1024
BOOT_WITHIN_S: Final = 600.0
PROCESSOR: Final = "max,pauth=off,sve=off,sme=off,lpa2=off"
"""Not a Pi's own: with a Cortex-A72 the kernel keeps two page tables, and each system call empties
the emulator's; a boot took half as long again."""
HOST: Final = "10.0.2.2"
"""What the guest calls this machine's loopback (QEMU's user-mode network)."""

_CREDENTIALS: Final = {
    "systemd.extra-unit.t.service": OVERLAY / "t.service",
    "systemd.extra-unit.tmp.mount": OVERLAY / "tmp.mount",
}


class Machine:
    """`start` switches it on; `kill` pulls the plug; `with` leaves nothing running."""

    def __init__(
        self,
        built: Built,
        folder: Path,
        disk: str,
        *,
        with_stage: bool = True,
        words: Sequence[str] = (),
    ) -> None:
        """`folder` keeps logs and the test disk. `with_stage`: the test overlay is there.

        `disk`: QEMU's words for the block device it boots from, a node named `disk`.

        `words` are more of QEMU's own.
        """
        self.built: Final = built
        self.folder: Final = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._has_stage = with_stage
        self._sockets = Path(tempfile.mkdtemp(prefix="railtix-qemu-"))
        self.lan_in: Final = self._sockets / "lan-in"
        self.lan_out: Final = self._sockets / "lan-out"
        self._program = Program("qemu", self._words(disk, words), folder / "qemu.log")
        self.console: Console
        self.stage: Stage
        self.started_at = 0.0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, *, wait: bool = True) -> Self:
        """Switch it on; `wait`: until the stage is set, or else until a login would be asked."""
        for each in self._sockets.iterdir():
            each.unlink()
        self.started_at = _clock()
        self._program.start()
        try:
            self.console = Console(self._sockets / "console", self.folder / "console.log")
            if self._has_stage:
                self.stage = Stage(self._sockets / "stage")
                if wait:
                    self.stage.wait_until_ready(BOOT_WITHIN_S)
        except BaseException:
            self.close()
            raise
        return self

    @property
    def running(self) -> bool:
        return self._program.running

    @property
    def pid(self) -> int:
        return self._program.pid

    def seconds(self) -> float:
        """Since it was switched on."""
        return _clock() - self.started_at

    def kill(self) -> None:
        """SIGKILL to QEMU: what the guest had not handed to its disk is lost."""
        self._program.kill()
        self._hang_up()

    def wait_until_off(self, timeout_s: float) -> None:
        """Until the guest switched the machine off."""
        self._program.wait(timeout_s)
        self._hang_up()

    def close(self) -> None:
        self._program.kill()
        self._hang_up()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def let_watchdog(self, action: Literal["reset", "none"]) -> None:
        """What the board's watchdog does from now on to a system that feeds it no more.

        Only while a test asks for it: what it counts is this machine's time, and while that is
        busy with other things the guest stands still for longer than any board may.
        """
        line = connect(self._sockets / "monitor")
        with line, line.makefile("rwb", buffering=0) as monitor:
            monitor.readline()
            for order in (
                {"execute": "qmp_capabilities"},
                {"execute": "set-action", "arguments": {"watchdog": action}},
            ):
                monitor.write(json.dumps(order).encode() + b"\n")
                answer = json.loads(monitor.readline())
                if "return" not in answer:
                    raise GuestError(f"QEMU would not set its watchdog: {answer}")

    def _hang_up(self) -> None:
        for name in ("stage", "console"):
            end = self.__dict__.pop(name, None)
            if end is not None:
                end.close()

    def _words(self, disk: str, more: Sequence[str]) -> list[str]:
        test_disk = self.folder / "overlay.ext4"
        if self._has_stage:
            make_overlay_disk(self.built, test_disk)
        share = self.built.tools / "usr" / "share"
        firmware = self.built.tools / "usr" / "lib" / "u-boot" / "qemu_arm64" / "u-boot.bin"
        port = self._sockets
        return [
            *self.built.program("qemu-system-aarch64"),
            *("-L", str(share / "qemu"), "-nodefaults", "-display", "none", "-no-user-config"),
            *("-M", "virt", "-cpu", PROCESSOR, "-accel", "tcg,thread=multi,tb-size=512"),
            *("-smp", "2", "-m", str(MEMORY_MIB), "-bios", str(firmware), "-rtc", "base=utc"),
            *("-blockdev", disk),
            *("-device", "virtio-blk-pci,drive=disk,bootindex=0"),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-device", "i6300esb", "-action", "watchdog=none"),
            *_socket("console", port / "console"), *("-serial", "chardev:console"),
            *_socket("monitor", port / "monitor"), *("-mon", "chardev=monitor,mode=control"),
            *("-netdev", "user,id=user"),
            *("-device", "virtio-net-pci,netdev=user,mac=52:54:00:12:34:56"),
            # A neighbour on the guest's wire: what it sends goes to the guest alone, and it hears
            # what the guest says.
            *_socket("lan-in", self.lan_in), *_socket("lan-out", self.lan_out),
            *("-object", "filter-redirector,id=in,netdev=user,queue=tx,indev=lan-in"),
            *("-object", "filter-mirror,id=out,netdev=user,queue=rx,outdev=lan-out"),
            *(self._stage_words(test_disk) if self._has_stage else ()),
            *more,
        ]  # fmt: skip

    def _stage_words(self, test_disk: Path) -> tuple[str, ...]:
        credentials = tuple(
            word
            for name, file in _CREDENTIALS.items()
            for word in ("-fw_cfg", f"name=opt/io.systemd.credentials/{name},file={file}")
        )
        file = f",file.filename={test_disk}"
        return (
            *credentials,
            *("-blockdev", f"raw,node-name=test,read-only=on,file.driver=file{file}"),
            *("-device", "virtio-blk-pci,drive=test"),
            *_socket("stage", self._sockets / "stage"),
            *("-device", "virtserialport,chardev=stage,name=railtix.stage"),
        )  # fmt: skip


def _socket(name: str, path: Path) -> tuple[str, str]:
    return ("-chardev", f"socket,id={name},path={path},server=on,wait=off")


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 -- boot times are told
