"""railtix-ops product: a stall's price list, by hand or from a spreadsheet."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from provisioning.cli.amounts import money_option, show_cents
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.editing import WAIT_FOR, DryRun, EventId, How, Wait, WaitFor, Yes, edit_event
from provisioning.cli.price_list import BadLine, read_price_list, write_price_list, wrong_name
from provisioning.cli.speaking import err, out, refuse
from provisioning.cli.stall import StallId, stall_of
from provisioning.files import write_atomically

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""What a stall sells: the number that staff key after A, the name, the price.

    `product set harbour bar-north 1 --price 4.80 --wait`

    `product import harbour bar-north prices.csv`""",
)

_SHOWN_MAX = 50
Number = Annotated[int, typer.Argument(min=1, max=9999, help="What staff key after A.")]
Price = Annotated[int, typer.Argument(parser=money_option, metavar="PRICE", help="Like 4.80.")]


@app.command("list")
def list_products(
    event_id: EventId,
    stall_id: Annotated[str | None, typer.Argument(metavar="[STALL]")] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The price list of a stall, or of each."""
    document = Cloud(url, token_file).get(f"/events/{event_id}")
    stalls = document["stalls"] if stall_id is None else [stall_of(document, event_id, stall_id)]
    if as_json:
        show_json(stalls if stall_id is None else stalls[0]["products"])
        return
    for stall in stalls:
        print_products(stall, document["currency"])


@app.command("add")
def add(
    event_id: EventId,
    stall_id: StallId,
    number: Number,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As the receipt prints it.")],
    price: Price,
    *,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """One more product: `product add harbour bar-north 7 "Cola 0.3" 3.20`."""
    _refuse_name(name)

    def change(document: Document) -> None:
        products = stall_of(document, event_id, stall_id)["products"]
        for each in products:
            if each["number"] == number:
                refuse(f"{number} is {each['name']} already: `product set` changes it")
        products.append({"number": number, "name": name, "price_in_cents": price})

    how = How(url, token_file, as_json, is_dry=dry_run, waits=wait, wait_for=wait_for)
    edit_event(event_id, change, how)


@app.command("set")
def set_product(
    event_id: EventId,
    stall_id: StallId,
    number: Number,
    *,
    price: Annotated[
        int | None, typer.Option(parser=money_option, metavar="PRICE", help="Like 4.80.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="As the receipt prints it.")] = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Another price or name: `product set harbour bar-north 1 --price 4.80`."""
    if price is None and name is None:
        refuse("say --price, --name or both")
    if name is not None:
        _refuse_name(name)

    def change(document: Document) -> None:
        product = _product_of(stall_of(document, event_id, stall_id), number)
        if price is not None:
            product["price_in_cents"] = price
        if name is not None:
            product["name"] = name

    how = How(url, token_file, as_json, is_dry=dry_run, waits=wait, wait_for=wait_for)
    edit_event(event_id, change, how)


@app.command("remove")
def remove(
    event_id: EventId,
    stall_id: StallId,
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER...", min=1, max=9999)],
    *,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Take products from the list; sales of before keep their names and prices."""

    def change(document: Document) -> None:
        stall = stall_of(document, event_id, stall_id)
        for number in dict.fromkeys(numbers):
            stall["products"].remove(_product_of(stall, number))

    how = How(url, token_file, as_json, is_dry=dry_run, waits=wait, wait_for=wait_for)
    edit_event(event_id, change, how)


@app.command("import")
def import_products(
    event_id: EventId,
    stall_id: StallId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Columns number, name, price; `-`: stdin.")
    ],
    *,
    keep_others: Annotated[
        bool, typer.Option("--keep-others", help="Products that the file leaves out stay.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the price list what a spreadsheet says; what changes is shown first.

    Commas, semicolons or tabs; prices as 4.80 or 4,80. Every line is checked before any counts.
    """
    found = read_price_list(_content(file))
    bad = [each for each in found if isinstance(each, BadLine)]
    if bad:
        _refuse_lines(file, bad)
    listed = [each for each in found if not isinstance(each, BadLine)]

    def change(document: Document) -> None:
        stall = stall_of(document, event_id, stall_id)
        named = {product["number"] for product in listed}
        kept = [each for each in stall["products"] if keep_others and each["number"] not in named]
        stall["products"] = sorted([*kept, *listed], key=lambda each: each["number"])

    how = How(
        url,
        token_file,
        as_json,
        is_dry=dry_run,
        asks=not yes and not as_json,
        waits=wait,
        wait_for=wait_for,
    )
    edit_event(event_id, change, how)


@app.command("export")
def export(
    event_id: EventId,
    stall_id: StallId,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.csv]", help="Left out: to stdout.")
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """The price list as `product import` takes it."""
    document = Cloud(url, token_file).get(f"/events/{event_id}")
    text = write_price_list(stall_of(document, event_id, stall_id)["products"])
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        write_atomically(file, text.encode())
    except OSError as why:
        refuse(f"{file}: {why}")
    out.print(f"{file}: {text.count(chr(10)) - 1} products")


def print_products(stall: Document, currency: str) -> None:
    title = f"{escape(stall['name'])} ({stall['id']})"
    if not stall["products"]:
        out.print(f"{title}: sells by amount, no products")
        return
    table = Table("No.", "Product", currency, title=title, title_justify="left")
    table.columns[0].justify = table.columns[2].justify = "right"
    for product in stall["products"]:
        table.add_row(
            str(product["number"]), escape(product["name"]), show_cents(product["price_in_cents"])
        )
    out.print(table)


def _content(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as why:
        refuse(f"{file}: {why.strerror}")


def _refuse_lines(file: Path, bad: list[BadLine]) -> None:
    for each in bad[:_SHOWN_MAX]:
        err.print(f"  {escape(str(each))}")
    if len(bad) > _SHOWN_MAX:
        err.print(f"  ... and {len(bad) - _SHOWN_MAX} more")
    lines = "1 line" if len(bad) == 1 else f"{len(bad)} lines"
    refuse(f"{file}: {lines} cannot be read, so nothing was changed")


def _refuse_name(name: str) -> None:
    wrong = wrong_name(name)
    if wrong is not None:
        refuse(wrong)


def _product_of(stall: Document, number: int) -> Document:
    found = [product for product in stall["products"] if product["number"] == number]
    if not found:
        refuse(f"{stall['id']} has no product {number}: `product list` shows them")
    return found[0]
