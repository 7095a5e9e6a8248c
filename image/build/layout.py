"""The disk's layout, said once: where boot state, slots and data lie."""

import zlib
from dataclasses import dataclass
from pathlib import Path

BOOT = Path(__file__).parent.parent / "boot"


@dataclass(frozen=True)
class Layout:
    """Offsets and sizes in bytes. The partition table is an MBR: the Pi reads nothing else."""

    signature: int = 0x52545801
    copy_one: int = 0x100000
    copy_two: int = 0x200000
    copy_size: int = 0x200
    boot_at: int = 4 << 20
    boot_size: int = 96 << 20
    slot_size: int = 1 << 30
    data_size: int = 8 << 20
    tries: int = 3

    @property
    def data_at(self) -> int:
        """Where the data partition begins."""
        return self.boot_at + self.boot_size + 2 * self.slot_size

    @property
    def signature_text(self) -> str:
        """As in PARTUUID=52545801-02."""
        return f"{self.signature:08x}"

    def fill(self, text: str, **more: str) -> str:
        """A template of image/boot with its @NAMES@ filled in.

        Raises:
            ValueError: a name is left over.
        """
        sectors = {"COPY_ONE_SECTOR": self.copy_one // 512, "COPY_TWO_SECTOR": self.copy_two // 512}
        values = {
            "SIGNATURE": self.signature_text,
            "COPY_ONE": f"{self.copy_one:#x}",
            "COPY_TWO": f"{self.copy_two:#x}",
            "COPY_SIZE": f"{self.copy_size:#x}",
            **{name: f"{sector:x}" for name, sector in sectors.items()},
            "TRIES": str(self.tries),
            **more,
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        if "@" in (left := text.replace("@.", "")):
            at = left.index("@")
            raise ValueError(f"a template's name is not known: {left[at : at + 20]!r}")
        return text

    def template(self, name: str, **more: str) -> str:
        return self.fill((BOOT / name).read_text(), **more)


LAYOUT = Layout()


def boot_state(layout: Layout) -> tuple[bytes, bytes]:
    """The two copies of U-Boot's counters in a fresh image, as libubootenv lays them out.

    A checksum (CRC-32, little endian), one byte that counts up, variables ended by zeros
    (U-Boot's redundant environment); the first copy is the newer one.
    """
    variables = (
        "BOOT_ORDER=A B",
        f"BOOT_A_LEFT={layout.tries}",
        f"BOOT_B_LEFT={layout.tries}",
    )
    return _copy(variables, layout.copy_size, 1), _copy(variables, layout.copy_size, 0)


def _copy(variables: tuple[str, ...], size: int, count: int) -> bytes:
    body = b"".join(variable.encode() + b"\0" for variable in variables).ljust(size - 5, b"\0")
    return zlib.crc32(body).to_bytes(4, "little") + bytes([count]) + body


def u_boot_environment(program: bytes) -> bytes:
    """`uboot.env` for the Pi's U-Boot: its own defaults, but no key stops it from booting.

    A checksum and variables, 16 KiB (CONFIG_ENV_SIZE of rpi_arm64); a U-Boot that wants another
    size takes its defaults and waits two seconds for a key.

    Raises:
        ValueError: the program holds no defaults.
    """
    at = program.index(b"\0bootcmd=") + 1
    defaults = program[at : program.index(b"\0\0", at)].split(b"\0")
    kept = [variable for variable in defaults if not variable.startswith(b"bootdelay=")]
    # -2: at once, whatever is typed.
    body = b"\0".join([*kept, b"bootdelay=-2"]).ljust(0x4000 - 4, b"\0")
    return zlib.crc32(body).to_bytes(4, "little") + body


def genimage(layout: Layout, *, root: str, image: str) -> str:
    """genimage's plan of the disk; its inputs lie beside it."""
    return f"""\
image {image} {{
  hdimage {{
    partition-table-type = "mbr"
    disk-signature = {layout.signature:#010x}
    align = 1M
    # To the last partition's end: its zeros erase what a used card had there.
    fill = true
  }}
  # U-Boot's counters, twice: two raw sectors far apart, in no file system.
  partition state-one {{
    in-partition-table = false
    image = "state-one.bin"
    offset = {layout.copy_one}
    size = {layout.copy_size}
  }}
  partition state-two {{
    in-partition-table = false
    image = "state-two.bin"
    offset = {layout.copy_two}
    size = {layout.copy_size}
  }}
  partition boot {{
    partition-type = 0xC
    bootable = true
    image = "boot.vfat"
    offset = {layout.boot_at}
    size = {layout.boot_size}
  }}
  partition root-a {{
    partition-type = 0x83
    image = "{root}"
    size = {layout.slot_size}
  }}
  # The same in both: the first update that fails has a slot to go back to.
  partition root-b {{
    partition-type = 0x83
    image = "{root}"
    size = {layout.slot_size}
  }}
  # 0xDA: nothing was ever made here; the first boot makes it, and grows it to the card's end.
  partition data {{
    partition-type = 0xDA
    size = {layout.data_size}
  }}
}}
"""
