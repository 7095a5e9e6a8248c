"""A reading process whose pictures are orders: the real one, with a decoder of the test's own.

Run as a program with a stage's descriptors and what `read_for` needs; a picture's first bytes say
what its decoding does.
"""

import ctypes
import os
import sys
from time import monotonic, sleep  # noqa: TID251 -- a process of its own
from typing import TYPE_CHECKING

import msgspec

from device.hardware.decoding import Reading
from device.hardware.reader import read_for
from device.hardware.reports import TEXT_MAX, Looked
from device.hardware.simulated_camera import SimulatedCamera

if TYPE_CHECKING:
    from device.hardware.decoding import Picture

LINE = int(sys.argv[-2])


def say(packet: bytes) -> None:
    os.write(LINE, packet)


def obey(grey: "Picture", turn: int) -> Reading | None:  # noqa: C901, PLR0912 -- a list of evils
    order, _, what = bytes(grey).split(b"\0")[0].decode("ascii", "replace").partition(" ")
    now = monotonic()
    match order:
        case "read":
            return Reading(what, "script")
        case "slowly":
            sleep(0.5)
            return Reading(what, "script")
        case "signal":
            os.kill(os.getpid(), int(what))
        case "free-twice":
            libc = ctypes.CDLL(None)
            libc.malloc.restype = ctypes.c_void_p
            block = ctypes.c_void_p(libc.malloc(1000))
            libc.free(block)
            libc.free(block)
        case "raise":
            raise RuntimeError("a customer's code")
        case "devour":
            return Reading(str(len(bytearray(1 << 30))), "script")
        case "exit":
            os._exit(int(what))
        case "hang":
            sleep(600)
        case "babble":
            say(b"\xff" * 64)
        case "foresee":
            say(msgspec.msgpack.encode(Looked(1, now + 60, now + 61, "from tomorrow")))
        case "remember":
            say(msgspec.msgpack.encode(Looked(1, now - 3600, now, "from yesterday")))
        case "presume":
            say(msgspec.msgpack.encode(Looked(99, now, now, "unasked")))
        case "flood":
            for _ in range(5000):
                now = monotonic()
                say(msgspec.msgpack.encode(Looked(1, now, now, None)))
        case "shout":
            return Reading("x" * (TEXT_MAX + 1), "script")
        case "stammer":
            return Reading("\ud800", "script")
        case _:
            return None
    return None


if __name__ == "__main__":
    # A decoder that is not there: the other one goes on, and so does the process.
    def load() -> None:
        raise ImportError("no such decoder")

    read_for(
        sys.argv,
        lambda: SimulatedCamera(*(int(each) for each in sys.argv[1:4])),
        read=obey,
        load=load,
    )
