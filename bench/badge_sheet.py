"""A sheet of staff badges as it is printed: docs/pictures/badge-sheet.png.

make badge-sheet                          the picture; needs ghostscript
make badge-sheet ARGS="--pdf /tmp/b.pdf"  the PDF besides

The people and the key that signs their badges are made up: nobody signs in with these.
"""

import argparse
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.policy import Badge, sign_badge
from provisioning.badge_fonts import NoFont
from provisioning.badge_sheet import BadgeFace, Paper, draw_sheet

PICTURE: Final = Path(__file__).parents[1] / "docs" / "pictures" / "badge-sheet.png"
DPI: Final = 80
EVENT: Final = "Harbour Festival"
STAFF: Final = (
    ("Mia Byrne", "MB", False),
    ("Nia Doyle", "ND", False),
    ("Sue Carty", "SC", True),
    ("Ольга Иванова", "ОИ", False),
    ("Zoë Nguyễn Thị Hồng", "ZN", False),
    ("Ana-María Fernández de la Cruz y Torreblanca", "AF", True),
    ("Μαρία Παπαδοπούλου", "ΜΠ", False),
    ("محمد علي", "مع", False),
    ("N", "N", False),
)


def made_up() -> list[BadgeFace]:
    key = ec.generate_private_key(ec.SECP256R1())
    return [
        BadgeFace(
            name,
            initials,
            is_supervisor,
            sign_badge(
                Badge(1, f"example-badge-{number}", f"staff-{number}", "harbour-festival"),
                key,
                "badge-2026",
            ),
        )
        for number, (name, initials, is_supervisor) in enumerate(STAFF)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A sheet of made-up staff badges, as it is printed."
    )
    parser.add_argument("--out", type=Path, default=PICTURE, help="where the picture goes")
    parser.add_argument("--pdf", type=Path, help="where the PDF goes, if anywhere")
    parser.add_argument("--paper", type=Paper, choices=list(Paper), default=Paper.A4)
    wanted = parser.parse_args()
    pdf = draw_sheet(EVENT, made_up(), wanted.paper, datetime.now(UTC))  # noqa: TID251 -- a command
    if isinstance(pdf, NoFont):
        raise SystemExit(str(pdf))
    if wanted.pdf is not None:
        wanted.pdf.write_bytes(pdf)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "sheet.pdf"
        drawn.write_bytes(pdf)
        smooth = ["-dTextAlphaBits=4", "-dGraphicsAlphaBits=4"]
        quiet = ["-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", "-sDEVICE=pnggray"]
        subprocess.run(
            ["gs", *quiet, *smooth, f"-r{DPI}", f"-sOutputFile={wanted.out}", str(drawn)],
            check=True,
        )


if __name__ == "__main__":
    main()
