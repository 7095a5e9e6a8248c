"""The reading process: camera and decoders, where a picture that kills them kills nothing else."""

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep  # noqa: TID251 -- an edge: it times each decode
from typing import Final

import msgspec

from device.hardware.camera import Camera, PiCamera
from device.hardware.decoding import Read, load_decoders, read_qr
from device.hardware.reports import (
    FAULT_MAX,
    TEXT_MAX,
    Faulted,
    Look,
    Looked,
    Ready,
    receive_look,
    send,
)
from device.hardware.settings import CameraSettings
from device.hardware.sharpness import EVERY_FRAMES, sharpness_of
from device.hardware.simulated_camera import SimulatedCamera

FAULT_PAUSE_S: Final = 0.1
"""A camera that fails at once must not fill the line with its faults."""

DATA_ROOM: Final = 160 * 1024 * 1024
"""Bytes of memory of its own beyond what libraries and camera took: a picture that makes a decoder
ask for more ends this process.

Counted from there, since what numpy's OpenBLAS reserves and never touches differs by a factor:
30 MiB on a desktop, 226 on arm64. Its 61 MiB in use, with the till's own 82, stay below the unit's
cap.
"""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def read_for(
    arguments: Sequence[str],
    open_camera: Callable[[], Camera],
    *,
    read: Read = read_qr,
    load: Callable[[], None] = load_decoders,
) -> None:
    """Serve the appliance that started this process, until it hangs up or is gone.

    The last two of `arguments` are the line's descriptor and the appliance's process id. Whatever
    the camera raises when it is opened ends the process; the appliance starts another.
    """
    line = socket.socket(fileno=int(arguments[-2]))
    if not become_expendable(int(arguments[-1])):
        return
    try:
        _prepare(line, load)
        camera = open_camera()
        try:
            limit_memory()
            send(line, Ready())
            _serve(line, camera, read)
        finally:
            camera.close()
    except BrokenPipeError:
        return  # the appliance hung up in the middle of a frame
    except Exception as error:
        # Its words go where a person looks; the appliance learns the kind and restarts this.
        send(line, Faulted(has_frame=False, what=_kind_of(error)))
        raise


def become_expendable(parent: int) -> bool:
    """Die with the parent, and before it where the kernel must; False if it is gone already."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Meant for the parent, whose hanging up ends this one too.
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A core would hold customers' codes, and writing it would keep the camera from the next.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    return os.getppid() == parent


def limit_memory() -> None:
    """From now on a frame may take so much and no more."""
    said = Path("/proc/self/status").read_text("ascii", errors="replace")
    taken_kib = next(line.split()[1] for line in said.splitlines() if line.startswith("VmData:"))
    most = int(taken_kib) * 1024 + DATA_ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _prepare(line: socket.socket, load: Callable[[], None]) -> None:
    try:
        load()
    except Exception as error:  # noqa: BLE001 -- one decoder may be missing where the other reads
        send(line, Faulted(has_frame=False, what=_kind_of(error)))


def _serve(line: socket.socket, camera: Camera, read: Read) -> None:
    look = Look(0, is_looking=False)
    frames = 0
    while True:
        newest = _newest_look(line, look)
        if newest is None:
            return
        if look.is_looking and newest.number != look.number:
            camera.rest()
        look = newest
        if not look.is_looking:
            continue
        try:
            frame = camera.capture()
        except Exception as error:  # noqa: BLE001 -- the next frame may come all the same
            send(line, Faulted(has_frame=False, what=_kind_of(error)))
            sleep(FAULT_PAUSE_S)
            continue
        if frame is None:
            continue
        frames += 1
        try:
            reading = read(frame.grey, frames)
            decoded_at = monotonic()
            sharpness = sharpness_of(frame.grey) if frames % EVERY_FRAMES == 1 else None
        except Exception as error:  # noqa: BLE001 -- a poisonous frame costs itself
            # Its words might be a customer's code.
            send(line, Faulted(has_frame=True, what=type(error).__name__[:FAULT_MAX]))
            continue
        text = None if reading is None else _sendable(reading.text)
        send(line, Looked(look.number, frame.captured_at, decoded_at, text, sharpness))


def _newest_look(line: socket.socket, last: Look) -> Look | None:
    """The newest order; waits for one while it rests. None: the appliance hung up."""
    newest = last
    line.setblocking(not last.is_looking)
    try:
        while True:
            order = receive_look(line)
            if order is None:
                return None
            newest = order
            line.setblocking(False)
    except BlockingIOError:
        return newest
    except ConnectionError:
        return None
    finally:
        line.setblocking(True)


def _sendable(text: str) -> str | None:
    """None for what no code of ours says: half a surrogate pair, or more than a QR code holds."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text if len(text) <= TEXT_MAX else None


def _kind_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".encode("ascii", "replace").decode()[:FAULT_MAX]


def _main(arguments: Sequence[str]) -> None:
    match arguments:
        case [_, "pi", settings, _, _]:
            read_for(
                arguments,
                lambda: PiCamera(msgspec.json.decode(settings, type=CameraSettings)),
            )
        case [_, "simulated", picture, bell, told, _, _]:
            read_for(arguments, lambda: SimulatedCamera(int(picture), int(bell), int(told)))
        case _:
            sys.exit("started by the appliance, never by hand")


if __name__ == "__main__":
    _main(sys.argv)
