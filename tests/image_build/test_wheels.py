import zipfile
from pathlib import Path

from image.build import wheels


def test_a_wheel_is_unpacked_whatever_python_it_asks_of_this_machine(tmp_path: Path) -> None:
    """The lock chose it for the appliance's Python; pip of Debian 12 asks about its own."""
    wheel = tmp_path / "later-1.0-py3-none-any.whl"
    info = "later-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("later.py", "")
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: later\nVersion: 1.0\nRequires-Python: >=3.99\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "later.py,,\n")

    wheels.install(tmp_path / "site-packages", [wheel], tmp_path / "log")

    assert (tmp_path / "site-packages" / "later.py").is_file()
