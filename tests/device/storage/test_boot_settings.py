"""railtix.toml, as laptops write it."""

from pathlib import Path

import pytest

from device.storage.boot_settings import BootSettings, read_boot_settings
from device.storage.deciding import Refused, Why

SHIPPED = Path(__file__).parents[3] / "image" / "boot-partition" / "railtix.toml"


def test_the_shipped_file_asks_for_no_encryption_as_does_none_at_all() -> None:
    assert read_boot_settings(SHIPPED.read_bytes()) == BootSettings("none")
    assert read_boot_settings(None) == BootSettings("none")
    assert read_boot_settings(b"") == BootSettings("none")


def test_marks_and_line_ends_of_other_systems_are_read_over() -> None:
    assert read_boot_settings(b'\xef\xbb\xbfencryption = "tpm"\r\n') == BootSettings("tpm")


@pytest.mark.parametrize(
    "data",
    [
        b'encryption = "yes"',
        b"encryption = true",
        b'encrypton = "tpm"',
        b"encryption = tpm",
        b'encryption = "tpm"\n\x00\x00',
        b"\xff\xfee\x00n\x00",
    ],
)
def test_what_is_not_understood_is_not_taken_for_none(data: bytes) -> None:
    read = read_boot_settings(data)
    assert isinstance(read, Refused)
    assert read.why == Why.SETTING
    assert read.detail
