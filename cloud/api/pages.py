"""The attendee's pages, and the test provider's card page where it is switched on."""

from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from cloud.api.context import TheCloud
from cloud.api.defences import CONTENT_SECURITY_POLICY
from cloud.api.problems import problem
from cloud.pages import WALLET, render_card_page
from cloud.payments.built_in import PATH, CardAnswer, OpenCheckout
from cloud.payments.provider import EventKind
from protocol.money import format_cents

EXAMPLE_CARD: Final = "4242 4242 4242 4242"

router = APIRouter(include_in_schema=False)


@router.get("/")
def wallet_page() -> FileResponse:
    return FileResponse(WALLET, media_type="text/html", headers={"Cache-Control": "no-cache"})


@router.get(PATH + "/pay/{address}")
def card_page(address: str, cloud: TheCloud) -> Response:
    checkout = None if cloud.built_in is None else cloud.built_in.find_checkout(address)
    return _no_checkout() if checkout is None else _show(checkout, EXAMPLE_CARD, "")


@router.post(PATH + "/pay/{address}")
async def pay(address: str, request: Request, cloud: TheCloud) -> Response:
    """What the form sends: the provider answers the card, then tells us by webhook."""
    provider, delivery = cloud.built_in, cloud.delivery
    checkout = None if provider is None else provider.find_checkout(address)
    if provider is None or delivery is None or checkout is None:
        return _no_checkout()
    number = parse_qs((await request.body()).decode("ascii", "replace")).get("number", [""])[0]
    match provider.answer_card(number):
        case CardAnswer.NOT_A_CARD:
            return _show(checkout, number[:23], "A card number has 13 to 19 digits.")
        case CardAnswer.DECLINED:
            delivery.deliver(provider.webhook(checkout, EventKind.FAILED))
            return _show(checkout, number[:23], "This card was declined. Try another one.")
        case CardAnswer.PAID:
            delivery.deliver(provider.webhook(checkout, EventKind.PAID))
            return RedirectResponse(checkout.return_url, HTTPStatus.SEE_OTHER)


def _show(checkout: OpenCheckout, number: str, notice: str) -> HTMLResponse:
    amount = f"{format_cents(checkout.amount.amount_in_cents)} {checkout.amount.currency}"
    page = render_card_page(amount, number, checkout.return_url.partition("?")[0], notice)
    # A browser applies form-action to the redirect that follows too.
    home = urlsplit(checkout.return_url)
    policy = CONTENT_SECURITY_POLICY.replace(
        "form-action 'self'", f"form-action 'self' {home.scheme}://{home.netloc}"
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


def _no_checkout() -> Response:
    return problem(
        HTTPStatus.NOT_FOUND,
        "checkout_unknown",
        "There is no such card page.",
        "Start again from the wallet.",
    )
