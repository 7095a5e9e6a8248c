"""What is wrong with a broker's folder, in sentences; it changes nothing."""

import stat
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from provisioning.broker.configuration import (
    CA_FILE,
    CERTIFICATE_FILE,
    CRL_FILE,
    KEY_FILE,
    descriptors_needed,
)
from provisioning.broker.folder import Planned, is_in_place, running_broker
from provisioning.broker.papers import Papers, Sources, read_papers, refusals_of

CERTIFICATE_ALARM: Final = timedelta(days=14)
CRL_ALARM: Final = timedelta(hours=72)


def findings(
    folder: Path, planned: Sequence[Planned], connections: int, now: datetime
) -> Iterator[str]:
    """Each is a reason to act. Raises OSError where a file is there and cannot be read."""
    missing = [file.name for file in planned if not (folder / file.name).exists()]
    if missing:
        yield f"{folder} has no {', '.join(missing)}: run `railtix-ops broker config`"
        return
    for file in planned:
        yield from _differences(folder / file.name, file)

    sources = Sources(*(folder / name for name in (CA_FILE, CRL_FILE, CERTIFICATE_FILE, KEY_FILE)))
    papers = read_papers(sources)
    if isinstance(papers, Papers):
        yield from (str(refused) for refused in refusals_of(papers, sources, now))
        yield from _soon(papers, now)
    else:
        yield str(papers)
    yield from _too_few_descriptors(folder, connections)


def _differences(path: Path, file: Planned) -> Iterator[str]:
    if path.read_bytes() != file.content:
        yield f"{path} is not what `railtix-ops broker config` would write"
    elif not is_in_place(path, file):
        mode = stat.S_IMODE(path.stat().st_mode)
        whose = f" of {file.owner}" if file.owner else ""
        yield f"{path} has mode {mode:o} and should have {file.mode:o}{whose}"


def _soon(papers: Papers, now: datetime) -> Iterator[str]:
    certificate_left = papers.certificate.not_valid_after_utc - now
    if timedelta() < certificate_left < CERTIFICATE_ALARM:
        yield f"the broker's certificate ends in {certificate_left.days} days: issue another"
    crl_left = papers.crl_ends_at - now
    if timedelta() < crl_left < CRL_ALARM:
        yield f"the CRL ends in {crl_left.total_seconds() / 3600:.0f} h: is it published daily?"


def _too_few_descriptors(folder: Path, connections: int) -> Iterator[str]:
    """systemd's drop-in may never have been installed."""
    pid = running_broker(folder)
    if pid is None:
        return
    limits = Path(f"/proc/{pid}/limits").read_text("ascii").splitlines()
    (allowed,) = (line.split()[3] for line in limits if line.startswith("Max open files"))
    needed = descriptors_needed(connections)
    if allowed != "unlimited" and int(allowed) < needed:
        yield f"mosquitto ({pid}) may open {allowed} files and needs {needed}: LimitNOFILE"
