"""Commands that hand out the ledger: exports and settlements."""

import os
import secrets
import sys
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from cloud.cli.frame import AsJson, Config, State, fail, faults_told, open_database
from cloud.ledger.postings import TransactionType
from protocol.ids import EventId, StallId
from protocol.money import Money

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cloud.reports.export import Progress
    from cloud.reports.settlement import EventSettlement, Figures, StallSettlement
    from cloud.reports.transactions import Tally

_STDOUT: Final = Path("-")
_ACTOR: Final = "system:console"


class ExportFormat(StrEnum):
    """As `reports.export.Format`, without its imports: `--help` stays quick."""

    CSV = "csv"
    JSONL = "jsonl"
    XLSX = "xlsx"


def install(app: typer.Typer) -> None:
    app.command("export")(export_command)
    app.command("settlement")(settlement_command)


def _moment(text: str) -> datetime:
    """An ISO 8601 date or time; UTC unless it says otherwise."""
    try:
        said = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date or time such as 2026-06-20T18:00") from error
    return said.replace(tzinfo=UTC) if said.tzinfo is None else said


def export_command(
    form: Annotated[ExportFormat, typer.Option("--format", help="What the file is to be.")],
    out: Annotated[Path, typer.Option(help="Where to; appears whole. `-`: stdout.")],
    *,
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=_moment, metavar="TIME", help="UTC unless it says +02:00."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=_moment, metavar="TIME", help="Not itself.")
    ] = None,
    of_type: Annotated[
        TransactionType | None, typer.Option("--type", help="Of this type alone.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Of this event alone.")] = None,
    stall: Annotated[str | None, typer.Option(help="Of this stall alone.")] = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Transactions as CSV, JSON Lines or XLSX, from one moment, by time and then id."""
    from cloud.clock import utc_clock
    from cloud.reports.export import Format, export
    from cloud.reports.note import note_export
    from cloud.reports.transactions import Selection, Tally, knows_event

    selection = Selection(
        since=since,
        until=until,
        type=of_type,
        event_id=None if event is None else EventId(event),
        stall_id=None if stall is None else StallId(stall),
    )
    tally, kind = Tally(), Format(form.value)
    with faults_told(), open_database(config, state) as (database, _), ExitStack() as opened:
        if selection.event_id is not None:
            with database.reading() as connection:
                if not knows_event(connection, selection.event_id):
                    fail("export", f"There is no event {event!r}.")
        file = opened.enter_context(_opened(out))
        note_export(database, _ACTOR, selection, kind, utc_clock())
        with _progress() as progress:
            for block in export(database, selection, kind, tally, progress):
                file.write(block)
    # Where the file itself goes to stdout, nothing else may.
    _sum_up(tally, to_stderr=out == _STDOUT)


def settlement_command(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id.")],
    *,
    stall: Annotated[str | None, typer.Option(help="One stall, by product and by hour.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="For spreadsheets.")] = False,
    as_json: AsJson = False,
    config: Config = None,
    state: State = None,
) -> None:
    """What an event took and owes each stall; refuses figures that do not add up to the ledger."""
    from cloud.api.report_views import EventSettlementView, StallSettlementView
    from cloud.clock import utc_clock
    from cloud.reports.settlement import DoesNotAddUpError, settle_event, stall_of
    from cloud.reports.settlement_csv import settlement_csv

    with faults_told(), open_database(config, state) as (database, _):
        try:
            settled = settle_event(database, EventId(event), utc_clock())
        except DoesNotAddUpError as error:
            fail("settlement", f"{error}. Nothing is shown: run `railtix-cloud reconcile`.")
    if settled is None:
        fail("settlement", f"There is no event {event!r}.")
    of_stall = None if stall is None else stall_of(settled, StallId(stall))
    if stall is not None and of_stall is None:
        fail("settlement", f"There is no stall {stall!r} at {event!r}.")
    if as_csv:
        typer.echo(settlement_csv(settled, of_stall), nl=False)
    elif as_json and of_stall is not None:
        typer.echo(StallSettlementView.of(settled, of_stall).model_dump_json())
    elif as_json:
        typer.echo(EventSettlementView.model_validate(settled).model_dump_json())
    elif of_stall is not None:
        _show_stall(settled, of_stall)
    else:
        _show_event(settled)


@contextmanager
def _opened(out: Path) -> Generator[BinaryIO]:
    """Stdout, or a draft beside the file that takes its place when all was written."""
    if out == _STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    # Whose wallets these were is nobody else's to read.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _progress() -> "Generator[Progress | None]":
    """A bar on stderr where somebody looks at it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _sum_up(tally: "Tally", *, to_stderr: bool) -> None:
    typer.echo(f"{tally.rows} transactions", err=to_stderr)
    currencies = sorted({currency for currency, _ in tally.signed_in_cents})
    for currency in currencies:
        of_types = {
            kind: cents
            for (its, kind), cents in sorted(tally.signed_in_cents.items())
            if its == currency
        }
        parts = ", ".join(f"{kind} {Money(cents, currency)}" for kind, cents in of_types.items())
        together = Money(sum(of_types.values()), currency)
        typer.echo(f"{currency}: wallets changed by {together} ({parts})", err=to_stderr)


class _Speller:
    """Amounts as the event's people write them."""

    def __init__(self, settled: "EventSettlement") -> None:
        self._settled = settled

    def __call__(self, cents: int) -> str:
        from cloud.locales import format_money

        return format_money(Money(cents, self._settled.currency), self._settled.locale)

    def figures(self, figures: "Figures") -> tuple[str, ...]:
        return (
            f"{figures.sales}",
            self(figures.sales_in_cents),
            self(figures.offline_in_cents),
            self(figures.refunds_in_cents),
            self(figures.adjustments_in_cents),
            self(figures.net_in_cents),
        )


_FIGURES: Final = ("Sales", "Sold", "offline", "Given back", "Corrected", "Net")


def _show_event(settled: "EventSettlement") -> None:
    spell, console = _Speller(settled), _console()
    table = _table("Stall", _FIGURES, _title(settled, settled.name))
    for stall in settled.stalls:
        table.add_row(stall.name, *spell.figures(stall.figures))
    table.add_section()
    table.add_row("All stalls", *spell.figures(settled.all_stalls))
    tickets = settled.tickets
    table.add_row("Tickets by Credits", *spell.figures(tickets.credits))
    for other in settled.others:
        table.add_row(other.type.value, f"{other.rows}", "", "", "", "", spell(other.in_cents))
    table.add_section()
    table.add_row("Ledger", "", "", "", "", "", spell(settled.ledger_in_cents))
    _print_whole(console, table)
    console.print(
        f"Tickets: {tickets.tickets} in {tickets.paid_orders} paid orders, "
        f"{spell(tickets.card_in_cents)} of it by card."
    )
    for elsewhere in settled.other_currencies:
        console.print(f"Besides, in no figure: {Money(elsewhere.in_cents, elsewhere.currency)}.")


def _show_stall(settled: "EventSettlement", stall: "StallSettlement") -> None:
    from cloud.locales import format_moment

    spell, console = _Speller(settled), _console()
    columns = ("Price", "Sold", "for", "Given back", "Net")
    products = _table("Product", columns, _title(settled, f"{stall.name}, {settled.name}"))
    for each in stall.products:
        products.add_row(
            "Keyed in" if each.number is None else each.name or f"No. {each.number}",
            "" if each.unit_price_in_cents is None else spell(each.unit_price_in_cents),
            f"{each.quantity}",
            spell(each.sales_in_cents),
            spell(each.given_back_in_cents),
            spell(each.sales_in_cents - each.given_back_in_cents),
        )
    if stall.partial_refunds_in_cents:
        cents = stall.partial_refunds_in_cents
        products.add_row("Refunds in part", "", "", "", spell(cents), spell(-cents))
    _print_whole(console, products)
    hours = _table("Hour from", _FIGURES)
    for hour in stall.hours:
        began = format_moment(hour.begins_at, settled.locale, settled.timezone)
        hours.add_row(began, *spell.figures(hour.figures))
    hours.add_section()
    hours.add_row("All", *spell.figures(stall.figures))
    _print_whole(console, hours)


def _table(first: str, figures: Iterable[str], title: str | None = None) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(first, title=title, box=SIMPLE, pad_edge=False)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print_whole(console: "Console", table: "Table") -> None:
    """On a narrow terminal lines are broken; no amount ever loses its last digits."""
    from rich.measure import Measurement

    wanted = Measurement.get(console, console.options.update(width=1000), table).maximum
    console.width = max(console.width, wanted)
    console.print(table, crop=False)


def _title(settled: "EventSettlement", name: str) -> str:
    from cloud.locales import format_moment

    return f"{name}: {format_moment(settled.at, settled.locale, settled.timezone)}"


def _console() -> "Console":
    from rich.console import Console

    # Names are what somebody typed: no markup, no emoji.
    return Console(markup=False, emoji=False, highlight=False)
