"""Where figures are kept: one JSON file a run, under bench/results/ (not in git)."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

RESULTS: Final = Path(__file__).parent / "results"


def keep(name: str, figures: msgspec.Struct) -> Path:
    """Write the figures under the benchmark's name and the time it ended; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    ended_at = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
    file = RESULTS / f"{name}-{ended_at:%Y%m%d-%H%M%S}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    return file
