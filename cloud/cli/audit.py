"""The audit log: prove it, check proofs, begin it anew after a restore."""

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli.frame import AsJson, Config, State, fail, faults_told, open_database

if TYPE_CHECKING:
    from cloud.audit.verify import Verdict
    from protocol.checkpoint import Checkpoint
    from protocol.signing import PublicKey

app = typer.Typer(no_args_is_help=True, help="The audit log: prove it, and check proofs of it.")


@app.command()
def verify(
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="A checkpoint kept elsewhere: a file or the token itself; may be given again. "
            "The one in `checkpoint_file` is always compared with.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
    state: State = None,
) -> None:
    """Recompute it all; exit 1 and name the first record that was changed, removed or added."""
    from cloud.audit.kept import read_kept
    from cloud.audit.verify import verify
    from cloud.clock import utc_clock
    from cloud.keys import KeyRing

    with faults_told(), open_database(config, state) as (database, settings):
        keys = KeyRing(settings.keys_folder)
        kept = [token for each in against or [] for token in _tokens(each)]
        try:
            standing = read_kept(settings.checkpoint_file)
        except ValueError as error:
            fail("audit", str(error))
        if standing is not None:
            kept.append(standing[0])
        with _progress(is_shown=not as_json and sys.stderr.isatty()) as progress:
            verdict = verify(
                database,
                lambda kid: keys.find("checkpoint", kid),
                list(dict.fromkeys(kept)),
                progress,
            )
        now = utc_clock()
    if as_json:
        typer.echo(json.dumps(_verdict_as_json(verdict, len(kept), now)))
    else:
        _say_verdict(verdict, len(kept), now)
    if not verdict.is_sound:
        raise typer.Exit(1)


@app.command()
def prove(
    transaction: Annotated[str, typer.Argument(help="The transaction's id.")],
    out: Annotated[Path | None, typer.Option(help="Where the proof goes; default: stdout.")] = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Write a proof that the tree has this transaction; `check` needs nothing but a public key."""
    from uuid import UUID

    from cloud.audit.proofs import NotProven, encode_proof, prove
    from cloud.keys import KeyRing

    try:
        transaction_id = UUID(transaction)
    except ValueError:
        fail("audit", f"{transaction} is no transaction's id")
    with faults_told(), open_database(config, state) as (database, settings):
        keys = KeyRing(settings.keys_folder)
        with database.one_moment() as connection:
            proof = prove(connection, transaction_id, lambda kid: keys.find("checkpoint", kid))
        if isinstance(proof, NotProven):
            typer.echo(f"not proven: {proof.reason}", err=True)
            raise typer.Exit(1)
        if out is None:
            sys.stdout.buffer.write(encode_proof(proof))
        else:
            out.write_bytes(encode_proof(proof))


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="What `prove` wrote.")],
    key: Annotated[
        Path | None, typer.Option(help="The public key (PEM), had from whoever runs the cloud.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a proof by the public key alone: no database, no settings. Exit 1 if it does not hold.

    Without `--key` by the key in the file, whose fingerprint is shown: compare it.
    """
    from cloud.audit.proofs import NotProven, check

    with faults_told():
        found = check(file.read_bytes(), None if key is None else _public_key(key))
    if isinstance(found, NotProven):
        if as_json:
            typer.echo(json.dumps({"proven": False, "reason": found.reason}))
        else:
            typer.echo(f"not proven: {found.reason}", err=True)
        raise typer.Exit(1)
    fingerprint = _fingerprint(found.public_key)
    if as_json:
        said = {
            "proven": True,
            "record": found.record,
            "leaf_index": found.leaf_index,
            "checkpoint": _checkpoint_as_json(found.checkpoint),
            "key_sha256": fingerprint,
            "key_given": key is not None,
        }
        typer.echo(json.dumps(said))
        return
    for name, value in sorted(found.record.items()):
        typer.echo(f"  {name}  {value}")
    whose = "the key you gave" if key is not None else "the key in the file: compare it"
    typer.echo(
        f"proven: leaf {found.leaf_index} of {_told(found.checkpoint)}\n"
        f"signed with SHA-256 {fingerprint} ({whose})"
    )


@app.command()
def checkpoint(as_json: AsJson = False, config: Config = None, state: State = None) -> None:
    """Print the newest checkpoint: keep it where nobody with rights to the database can write."""
    from cloud.audit.sequencer import newest_checkpoint
    from protocol.checkpoint import read_checkpoint

    with (
        faults_told(),
        open_database(config, state) as (database, _),
        database.reading() as connection,
    ):
        token = newest_checkpoint(connection)
    said = None if token is None else read_checkpoint(token)
    if token is None or said is None:
        typer.echo("there is no checkpoint yet: `railtix-cloud sequencer` signs them", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps(_checkpoint_as_json(said) | {"jws": token}))
    else:
        typer.echo(_told(said), err=True)
        typer.echo(token)


@app.command("begin-epoch")
def begin_epoch_command(
    reason: Annotated[str, typer.Option(help="Why, as the log will say.")],
    backup_at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S"],
            help="When the restored backup was made (UTC unless it says otherwise): appliances "
            "send again what they have said since.",
        ),
    ] = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Begin the tree anew after the database came back from a backup, and say so in it."""
    from getpass import getuser

    from cloud.clock import utc_clock
    from cloud.keys import KeyRing
    from cloud.operations.proof.begin_epoch import begin_new_epoch
    from protocol.checkpoint import read_checkpoint

    if not 1 <= len(reason) <= 200:
        fail("audit", "a reason has 1 to 200 characters")
    now = utc_clock()
    at = backup_at
    if at is not None:
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if at > now:
            fail("audit", "a backup is not made in the future")
    with faults_told(), open_database(config, state) as (database, settings):
        try:
            token = begin_new_epoch(
                database,
                KeyRing(settings.keys_folder),
                reason,
                actor=f"system:{getuser()}"[:80],
                backup_at=at,
                checkpoint_file=settings.checkpoint_file,
                now=now,
            )
        except ValueError as error:
            fail("audit", str(error))
    said = read_checkpoint(token)
    assert said is not None, "our own checkpoint"
    typer.echo(f"Epoch {said.epoch} has begun.")


@app.command()
def key(config: Config = None, state: State = None) -> None:
    """Print the public key (PEM) that checks checkpoints and proofs: give it to third parties."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from cloud.keys import KeyRing
    from cloud.settings import read_settings

    with faults_told():
        ring = KeyRing(read_settings(config, state=state).keys_folder)
        public = ring.checkpoint.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    typer.echo(pem.decode("ascii"), nl=False)


def _tokens(given: str) -> list[str]:
    """The checkpoints in a file (a token, or JSON Lines with a `jws` each), or the token itself."""
    path = Path(given)
    if given.count(".") == 2 and "/" not in given and not path.exists():
        return [given]
    tokens: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("{"):
            try:
                tokens.append(str(json.loads(line)["jws"]))
            except (ValueError, KeyError):
                fail("audit", f"{given}: this line holds no checkpoint: {line[:60]}")
        elif line.strip():
            tokens.append(line.strip())
    if not tokens:
        fail("audit", f"{given} holds no checkpoint")
    return tokens


def _public_key(path: Path) -> "PublicKey":
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(path.read_bytes())
    except ValueError:
        fail("audit", f"{path} holds no public key in PEM form")
    if not isinstance(public, ec.EllipticCurvePublicKey):
        fail("audit", f"{path} holds a key of another kind: P-256 is needed")
    return public


def _fingerprint(public_key: str) -> str:
    import hashlib

    from protocol.encoding import from_base64url

    raw = from_base64url(public_key.encode())
    assert raw is not None, "it has been checked"
    return hashlib.sha256(raw).hexdigest()


def _say_verdict(verdict: "Verdict", kept: int, now: datetime) -> None:
    for finding in verdict.findings:
        typer.echo(str(finding))
    if verdict.faults > len(verdict.findings):
        typer.echo(f"... and {verdict.faults - len(verdict.findings)} more")
    compared = f"compared with {kept} kept elsewhere" if kept else "none kept elsewhere"
    typer.echo(
        f"{verdict.leaves} leaves, {verdict.checkpoints} checkpoints ({compared}): "
        f"{'sound' if verdict.is_sound else f'{verdict.faults} faults'}"
    )
    if verdict.unproven_since is not None:
        waited_s = max(0, int((now - verdict.unproven_since).total_seconds()))
        typer.echo(f"{verdict.unproven} not in the tree yet, the oldest for {waited_s} s: unproven")


def _verdict_as_json(verdict: "Verdict", kept: int, now: datetime) -> dict[str, Any]:
    since = verdict.unproven_since
    findings = [
        {
            "fault": each.fault.value,
            "kind": None if each.kind is None else each.kind.value,
            "id": each.record_id,
            "epoch": each.epoch,
            "position": each.position,
            "detail": each.detail,
        }
        for each in verdict.findings
    ]
    return {
        "sound": verdict.is_sound,
        "first": findings[0] if findings else None,
        "faults": verdict.faults,
        "findings": findings,
        "epochs": verdict.epochs,
        "leaves": verdict.leaves,
        "checkpoints": verdict.checkpoints,
        "compared_with": kept,
        "unproven": verdict.unproven,
        "unproven_for_s": None if since is None else max(0.0, (now - since).total_seconds()),
    }


def _checkpoint_as_json(said: "Checkpoint") -> dict[str, Any]:
    return {
        "origin": said.origin,
        "epoch": said.epoch,
        "size": said.size,
        "root": said.root,
        "at_ms": said.at_ms,
    }


def _told(said: "Checkpoint") -> str:
    at = datetime.fromtimestamp(said.at_ms / 1000, UTC)
    return f"epoch {said.epoch}, {said.size} leaves, {at:%Y-%m-%d %H:%M:%S} UTC"


@contextmanager
def _progress(*, is_shown: bool) -> Generator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing for a program."""
    if not is_shown:
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("leaves"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("leaves", total=None)
        yield lambda done, everything: bar.update(task, completed=done, total=everything)
