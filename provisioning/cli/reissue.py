"""railtix-ops ca reissue: a new issuing certificate, from the root that was carried away."""

import os
from pathlib import Path
from typing import Annotated

import typer

from provisioning.authority.passphrase import Passphrase, given_passphrase
from provisioning.authority.refusals import PassphraseMissing
from provisioning.authority.reissue import OfflineRoot, prolong
from provisioning.authority.reissue import reissue as replace_key
from provisioning.cli.ca import DEFAULT_FOLDER, AuthorityFolder, PassphraseFile
from provisioning.cli.speaking import granted, out, refuse, the_time


def reissue(
    *,
    root: Annotated[
        Path, typer.Option(help="The folder `root/` from offline media: the root's key.")
    ],
    ca: AuthorityFolder = DEFAULT_FOLDER,
    root_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="A file of mode 600 with the root's passphrase. Else the one that `ca init` drew "
            "beside its key, else RAILTIX_CA_PASSPHRASE."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    keep_key: Annotated[
        bool,
        typer.Option(
            "--keep-key",
            help="The issuing certificate nears its end: certify its key again. Else the key was "
            "stolen or cannot be opened: a new one, and whatever the old one certified is revoked.",
        ),
    ] = False,
) -> None:
    """Certify an issuing key by the offline root: new, or the old one for five more years.

    Stop the cloud first and start it afterwards. Appliances trust the root alone and need no new
    one; but with a new key every certificate has to be issued again, theirs by a claim each.
    """
    offline = OfflineRoot(root / "key.pem", _root_passphrase(root, root_passphrase_file))
    if keep_key:
        prolonged = granted(prolong(ca, offline, the_time()))
        out.print(
            f"The issuing certificate is good until {prolonged.not_valid_after_utc:%Y-%m-%d}."
        )
        out.print("Now `railtix-ops broker config` again, restart mosquitto, start the cloud.")
        return
    given = granted(given_passphrase(passphrase_file, os.environ))
    authority = granted(replace_key(ca, offline, given, the_time()))
    out.print(f"A new issuing key in {authority.folder}; what the old one certified is revoked.")
    out.print(
        "Now issue the workers' and servers' certificates, run `railtix-ops broker config`, "
        "restart mosquitto and the cloud, and give each appliance a claim."
    )
    out.print(f"Carry {root} away again.")


def _root_passphrase(root: Path, file: Path | None) -> Passphrase:
    drawn = root / "passphrase"
    chosen = file or (drawn if drawn.exists() else None)
    passphrase = granted(given_passphrase(chosen, os.environ))
    if passphrase is None:
        refuse(PassphraseMissing(root))
    return passphrase
