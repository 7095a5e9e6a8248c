"""A small root file system, as an image has it: three packages, and an environment of four."""

from pathlib import Path

import pytest

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: arm64
Source: glibc
Version: 2.41-12
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Depends: libgcc-s1
Description: GNU C Library: Shared libraries
 Contains the standard libraries.

Package: libgcc-s1
Status: install ok installed
Architecture: arm64
Source: gcc-14 (14.2.0-19)
Version: 1:14.2.0-19+b1
Depends: gcc-14-base (= 14.2.0-19), libc6 (>= 2.35)
Provides: libgcc1 (= 1:14.2.0-19)
Homepage: http://gcc.gnu.org/
Description: GCC support library

Package: rauc
Status: install ok installed
Architecture: arm64
Version: 1.13-1
Depends: dbus | dbus-broker, libc6 (>= 2.38), libgcc1
Description: Robust Auto-Update Controller

Package: gone
Status: deinstall ok config-files
Architecture: arm64
Version: 9
Description: removed long ago
"""

DEP5 = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2015 somebody
License: LGPL-2.1+

Files: debian/*
Copyright: 2016 somebody else
License: GPL-2+ or Artistic, and Expat

License: LGPL-2.1+
 The whole text.
"""

FREE = "On Debian systems the text is in `/usr/share/common-licenses/LGPL-2.1'.\n"

SHA = {name: f"{number}" * 64 for number, name in enumerate(("escpos", "lgpio", "msgspec"), 1)}
LOCK = f"""\
lgpio==0.2.2.0 \\
    --hash=sha256:{SHA["lgpio"]}
msgspec==0.21.0 \\
    --hash=sha256:{SHA["msgspec"]} \\
    --hash=sha256:{"f" * 64}
python-escpos==3.1 \\
    --hash=sha256:{SHA["escpos"]}
"""


def distribution(site: Path, name: str, version: str, *lines: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines])
    (folder / "METADATA").write_text(text + "\n\nA description.\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "var/lib/dpkg").mkdir(parents=True)
    (made / "var/lib/dpkg/status").write_text(STATUS)
    documents = made / "usr/share/doc"
    for name, text in {"rauc": DEP5, "gcc-14-base": FREE}.items():
        (documents / name).mkdir(parents=True)
        (documents / name / "copyright").write_text(text)
    (documents / "libgcc-s1").symlink_to("gcc-14-base")
    (made / "usr/lib").mkdir()
    (made / "usr/lib/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
    (made / "etc").mkdir()
    (made / "etc/os-release").symlink_to("../usr/lib/os-release")
    site = made / "opt/railtix/lib/python3.13/site-packages"
    needs = (
        "Requires-Dist: python_escpos>=3",
        'Requires-Dist: msgspec; extra == "cloud"',
        'Requires-Dist: msgspec; python_version < "3.12"',
        'Requires-Dist: lgpio; extra == "pi" and platform_machine == "aarch64"',
    )
    distribution(site, "railtix-credits", "0.1.0", "License-Expression: Apache-2.0", *needs)
    distribution(site, "python-escpos", "3.1", "License: MIT License", "Home-page: UNKNOWN")
    distribution(site, "lgpio", "0.2.2.0", "License: unlicense.org")
    distribution(site, "msgspec", "0.21.0", "License-Expression: BSD-3-Clause AND MIT")
    return made


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "appliance.txt"
    path.write_text(LOCK)
    return path
