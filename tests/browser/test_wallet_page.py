import io
import re
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from device.hardware.decoding import read_qr
from protocol.money import Money
from protocol.wallet_qr import QrRefusal, WalletToken, peek, read
from tests.browser.served import Served

pytestmark = pytest.mark.xdist_group("browser")

PHONE = {"width": 390, "height": 844}
SMALL_PHONE = {"width": 320, "height": 568}


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=PHONE, device_scale_factor=2)  # pyright: ignore[reportArgumentType]
    context.set_default_timeout(15_000)
    yield context
    context.close()


def test_the_link_signs_in_and_the_code_on_the_screen_is_a_wallet_qr(
    served: Served, phone: BrowserContext
) -> None:
    page = _signed_in(served, phone)
    expect(page.locator("#balance")).to_have_text("€0.00")
    expect(page.locator("#event-name")).to_have_text("Harbour Festival")
    assert "sign-in" not in page.url, "the secret does not stay in the address"
    token = _scan(page)
    assert token.exp - token.iat == 90
    assert page.locator("#qr").get_attribute("data-version") == "11"


def test_nothing_on_the_page_breaks_its_own_policy(served: Served, phone: BrowserContext) -> None:
    page = phone.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(served.sign_in_link())
    expect(page.locator("#qr[data-version]")).to_be_visible()
    page.click("#top-up")
    expect(page.locator("#top-up-dialog")).to_be_visible()
    assert said == []


def test_without_a_session_the_page_asks_for_a_link(served: Served, phone: BrowserContext) -> None:
    page = phone.new_page()
    page.goto(served.url)
    expect(page.locator("#signed-out")).to_be_visible()
    expect(page.locator("#wallet")).to_be_hidden()


def test_a_link_that_was_used_says_so_on_another_phone(
    served: Served, browser: Browser, phone: BrowserContext
) -> None:
    link = served.sign_in_link()
    page = phone.new_page()
    page.goto(link)
    expect(page.locator("#wallet")).to_be_visible()
    other = browser.new_page()
    other.goto(link)
    expect(other.locator("#sign-in-problem")).to_contain_text("used already")
    other.close()
    page.reload()
    expect(page.locator("#wallet")).to_be_visible()


def test_a_top_up_goes_to_the_card_page_and_back_and_the_money_is_there(
    served: Served, phone: BrowserContext
) -> None:
    page = _signed_in(served, phone)
    page.click("#top-up")
    page.click("#pay")
    page.wait_for_url(re.compile("/test-provider/"))
    expect(page.locator(".amount")).to_have_text("20.00 EUR")
    page.fill("[name=number]", "4000 0000 0000 0002")
    page.click("button")
    expect(page.locator(".notice")).to_contain_text("declined")
    page.fill("[name=number]", "4242 4242 4242 4242")
    page.click("button")
    expect(page.locator("#balance")).to_have_text("€20.00")
    expect(page.locator("#toast")).to_contain_text("€20.00 added")
    expect(page.locator("#recent li")).to_contain_text("Top-up")
    assert page.url == f"{served.url}/"


def test_an_amount_of_ones_own_is_cents_exactly(served: Served, phone: BrowserContext) -> None:
    page = _signed_in(served, phone)
    page.click("#top-up")
    page.fill("#other", "twelve")
    page.click("#pay")
    expect(page.locator("#top-up-problem")).to_contain_text("like 25.00")
    page.fill("#other", "0,50")
    page.click("#pay")
    expect(page.locator("#top-up-problem")).to_contain_text("1.00 to 500.00")
    page.fill("#other", "19,9")
    page.click("#pay")
    expect(page.locator(".amount")).to_have_text("19.90 EUR")


def test_a_sale_shows_on_the_phone_at_once_and_brings_a_new_code(
    served: Served, phone: BrowserContext
) -> None:
    attendee, page = served.attendee(), phone.new_page()
    page.goto(attendee.link)
    expect(page.locator("#qr[data-version]")).to_be_visible()
    served.credit(attendee, Money(2000, "EUR"))
    expect(page.locator("#balance")).to_have_text("€20.00")
    used = _scan(page)
    served.sell(attendee, Money(550, "EUR"))
    expect(page.locator("#toast")).to_contain_text("Paid €5.50 at Bar North")
    expect(page.locator("#balance")).to_have_text("€14.50")
    expect(page.locator("#recent li").first).to_contain_text("Bar North")
    _until(lambda: _scan(page).jti != used.jti)


def test_the_code_is_fresh_before_the_old_one_ends(served: Served, phone: BrowserContext) -> None:
    page = phone.new_page()
    page.clock.install()
    page.goto(served.sign_in_link())
    expect(page.locator("#qr[data-version]")).to_be_visible()
    first = _scan(page)
    page.clock.run_for(60_000)
    assert _scan(page).jti == first.jti
    page.clock.run_for(10_000)
    _until(lambda: _scan(page).jti != first.jti)


def test_an_old_code_is_never_left_on_the_screen(served: Served, phone: BrowserContext) -> None:
    page = phone.new_page()
    page.clock.install()
    page.goto(served.sign_in_link())
    expect(page.locator("#qr[data-version]")).to_be_visible()
    phone.set_offline(True)
    page.clock.run_for(70_000)
    expect(page.locator("#hint")).to_contain_text("this code works for another")
    assert isinstance(_scan(page), WalletToken)
    page.clock.run_for(25_000)
    expect(page.locator("#veil")).to_contain_text("No connection")
    assert _decode(page) is None
    phone.set_offline(False)
    page.clock.run_for(5_000)
    expect(page.locator("#veil")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, SMALL_PHONE], ids=["phone", "small phone"])
def test_the_card_is_white_and_wide_enough_in_every_theme(
    served: Served, phone: BrowserContext, scheme: str, size: dict[str, int]
) -> None:
    page = phone.new_page()
    page.set_viewport_size(size)  # pyright: ignore[reportArgumentType]
    page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    page.goto(served.sign_in_link())
    expect(page.locator("#qr[data-version]")).to_be_visible()
    box = page.locator("#card").bounding_box()
    assert box is not None
    assert box["width"] >= 300
    assert box["height"] >= 300
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    picture = Image.open(io.BytesIO(page.locator("#card").screenshot())).convert("L")
    edge = np.asarray(picture)[picture.height // 2, 4:24]
    assert edge.min() == 255, "the quiet zone is white"
    _scan(page)


def test_signing_out_takes_the_code_away(served: Served, phone: BrowserContext) -> None:
    page = _signed_in(served, phone)
    page.click("#sign-out")
    expect(page.locator("#signed-out")).to_be_visible()
    expect(page.locator("#qr")).to_be_hidden()
    page.reload()
    expect(page.locator("#signed-out")).to_be_visible()


def _signed_in(served: Served, phone: BrowserContext) -> Page:
    page = phone.new_page()
    page.goto(served.sign_in_link())
    expect(page.locator("#qr[data-version]")).to_be_visible()
    return page


def _scan(page: Page) -> WalletToken:
    """What the appliance's own scanner reads from a picture of the whole screen."""
    jws = _decode(page)
    assert jws is not None, "the scanner finds no code on the screen"
    token = peek(jws)
    assert token is not None
    return token


def _decode(page: Page) -> str | None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("L")
    reading = read_qr(np.asarray(picture))
    if reading is None:
        return None
    jws = read(reading.text)
    assert not isinstance(jws, QrRefusal)
    return jws


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(100):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("it never came")
