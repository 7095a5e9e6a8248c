"""Commands that bring the database to shape and prove it."""

import json
from typing import Annotated

import typer

from cloud.cli.frame import AsJson, Config, State, fail, faults_told, open_database
from cloud.settings import read_settings
from cloud.store.database import Database, migrate
from protocol.money import Money


def install(app: typer.Typer) -> None:
    app.command("migrate")(migrate_command)
    app.command()(reconcile)


def migrate_command(
    service_role: Annotated[
        str | None,
        typer.Option(
            help="PostgreSQL: the role that the service signs in with. It gets what it needs, and "
            "on the ledger and the audit log no more than SELECT and INSERT.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Bring the database's tables to this version; harmless when they are there already.

    With `--service-role` run it as the tables' owner, and give the service the other role.
    """
    from cloud.store.service_role import RoleRefusedError, grant_service_role

    with faults_told():
        url = read_settings(config, state=state).database_url
        migrate(url)
        if service_role is not None:
            database = Database(url)
            try:
                with database.transaction() as connection:
                    grant_service_role(connection, service_role)
            except RoleRefusedError as error:
                fail("migrate", str(error))
            finally:
                database.close()
    typer.echo("The database is ready.")


def reconcile(config: Config = None, state: State = None, as_json: AsJson = False) -> None:
    """Prove the books: each balance is the sum of its transactions, what came in is there or went
    out, payments, orders and cash-outs were posted. Exit 1 and name what differs."""
    from cloud.operations.proof.reconcile import reconcile

    with faults_told(), open_database(config, state) as (database, _):
        found = reconcile(database)
    if as_json:
        said = {
            "balanced": found.is_sound,
            "wallets": found.wallets,
            "transactions": found.transactions,
            "sales": found.sales,
            "differences": [
                {
                    "user_id": str(each.user_id),
                    "currency": each.currency,
                    "balance_in_cents": each.balance_in_cents,
                    "sum_in_cents": each.sum_in_cents,
                }
                for each in found.differences
            ],
            "totals": [
                {
                    "currency": each.currency,
                    "in_cents": each.in_cents,
                    "out_cents": each.out_cents,
                    "balances_in_cents": each.balances_in_cents,
                    "conserved": each.is_conserved,
                }
                for each in found.totals
            ],
            "discrepancies": [
                {"rule": each.rule, "subject": each.subject, "detail": each.detail}
                for each in found.discrepancies
            ],
        }
        typer.echo(json.dumps(said))
    else:
        for each in found.differences:
            balance = Money(each.balance_in_cents, each.currency)
            total = Money(each.sum_in_cents, each.currency)
            typer.echo(
                f"{each.user_id}  balance {balance}  transactions {total}  off by {balance - total}"
            )
        for each in found.discrepancies:
            typer.echo(str(each))
        for each in found.totals:
            came, went, there = (
                Money(cents, each.currency)
                for cents in (each.in_cents, each.out_cents, each.balances_in_cents)
            )
            equals = "=" if each.is_conserved else "is not"
            typer.echo(f"{came} in - {went} out {equals} {there} in wallets")
        wrong = len(found.differences) + len(found.discrepancies)
        verdict = "balanced" if found.is_sound else f"{wrong} differ"
        typer.echo(f"{found.wallets} wallets, {found.transactions} transactions: {verdict}")
    if not found.is_sound:
        raise typer.Exit(1)
