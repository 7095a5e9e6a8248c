"""The attendee's pages, and the test provider's card page where it is switched on."""

from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from cloud.api.context import Cloud, TheCloud
from cloud.api.defences import CONTENT_SECURITY_POLICY
from cloud.api.problems import problem
from cloud.pages import WALLET, render_card_page
from cloud.payments.built_in import PATH, CardAnswer, HostedCheckout
from cloud.payments.provider import CheckoutState
from protocol.money import format_cents

EXAMPLE_CARD: Final = "4242 4242 4242 4242"
_EXPIRED: Final = (
    "This page has expired: nobody can pay here any more. Start again from the wallet."
)

router = APIRouter(include_in_schema=False)


@router.get("/")
def wallet_page() -> FileResponse:
    return FileResponse(WALLET, media_type="text/html", headers={"Cache-Control": "no-cache"})


@router.get(PATH + "/pay/{address}")
def card_page(address: str, cloud: TheCloud) -> Response:
    checkout = None if cloud.built_in is None else cloud.built_in.find_checkout(address)
    if checkout is None:
        return _no_checkout()
    match checkout.state:
        case CheckoutState.OPEN:
            return _show(checkout, EXAMPLE_CARD, "")
        case CheckoutState.PAID:
            return _show(checkout, "", "This is paid already.", is_open=False)
        case CheckoutState.EXPIRED:
            return _show(checkout, "", _EXPIRED, is_open=False)


@router.post(PATH + "/pay/{address}")
async def pay(address: str, request: Request, cloud: TheCloud) -> Response:
    """What the form sends: the provider answers the card, then tells us by webhook."""
    body = await request.body()
    number = parse_qs(body.decode("ascii", "replace")).get("number", [""])[0]
    return await run_in_threadpool(_pay, cloud, address, number)


def _pay(cloud: Cloud, address: str, number: str) -> Response:
    provider = cloud.built_in
    checkout = None if provider is None else provider.find_checkout(address)
    if provider is None or checkout is None:
        return _no_checkout()
    answer = provider.pay(checkout.reference, number)
    if cloud.delivery is not None:
        cloud.delivery.nudge()
    match answer:
        case CardAnswer.NOT_A_CARD:
            return _show(checkout, number[:23], "A card number has 13 to 19 digits.")
        case CardAnswer.DECLINED:
            return _show(checkout, number[:23], "This card was declined. Try another one.")
        case CardAnswer.EXPIRED:
            return _show(checkout, "", _EXPIRED, HTTPStatus.GONE, is_open=False)
        case CardAnswer.PAID:
            return RedirectResponse(checkout.return_url, HTTPStatus.SEE_OTHER)


def _show(
    checkout: HostedCheckout,
    number: str,
    notice: str,
    status: HTTPStatus = HTTPStatus.OK,
    *,
    is_open: bool = True,
) -> HTMLResponse:
    amount = f"{format_cents(checkout.amount.amount_in_cents)} {checkout.amount.currency}"
    home = checkout.return_url.partition("?")[0]
    page = render_card_page(amount, number, home, notice, is_open=is_open)
    # A browser applies form-action to the redirect that follows too.
    site = urlsplit(checkout.return_url)
    policy = CONTENT_SECURITY_POLICY.replace(
        "form-action 'self'", f"form-action 'self' {site.scheme}://{site.netloc}"
    )
    return HTMLResponse(page, status, {"Content-Security-Policy": policy})


def _no_checkout() -> Response:
    return problem(
        HTTPStatus.NOT_FOUND,
        "checkout_unknown",
        "There is no such card page.",
        "Start again from the wallet.",
    )
