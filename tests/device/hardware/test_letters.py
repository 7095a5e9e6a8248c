import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.hardware.escpos_bytes import compose, load_escpos
from device.hardware.letters import letters_of, printable
from device.hardware.settings import PrinterSettings
from device.till.receipt import Columns, Rule, Slip, Text
from venue.paper import EPSON_80, GENERIC_58, Words, read_paper

load_escpos()  # before hypothesis looks at the clock

MENUS = {
    "de": "Käse, Süßes, Größe: 3 €",
    "fr": "Crème brûlée, œuf, Noël, À ça: 3 €",
    "es": "¿Piña del año? Jamón: 3 €",
    "pl": "Żubrówka, żółć, gęś, 5 zł",
    "cs": "Řízek, žluťoučký kůň, 90 Kč",
    "hu": "Pörkölt, hűs sör, Őszi",
    "tr": "Şiş, ığdır, İçli köfte",
    "el": "Σουβλάκι, Άλφα, τυρόπιτα",
    "ru": "Квас, щи, Ёжик",
    "uk": "Їжа, борщ, ґанок, є",
    "sv": "Köttbullar på bröd: 30 kr",
    "pt": "Pão, coração, açaí: 3 €",
    "lv": "Ķūķis, ļoti garšīgs, ēdiens",
    "hr": "Čevapčići, džem, šećer, đumbir",
    "sk": "Ľadový čaj, ŕba, vôňa",
    "is": "Þorramatur, skyr með sultu",
}
SMALL = "NT-5890K"


def words(slip: Slip, settings: PrinterSettings) -> list[str]:
    model = EPSON_80 if settings.profile == "TM-T20II" else GENERIC_58
    marks = read_paper(compose(slip, settings), model)
    return [mark.text for mark in marks if isinstance(mark, Words)]


@pytest.mark.parametrize("profile", ["TM-T20II", SMALL, "POS-5890"])
@pytest.mark.parametrize("language", MENUS)
def test_a_menu_in_its_own_letters_reaches_the_paper_from_one_code_page(
    language: str, profile: str
) -> None:
    settings = PrinterSettings(profile=profile)
    slip = Slip((Text(MENUS[language]), Rule(), Columns("Total", "9.00 EUR")))
    assert " ".join(words(slip, settings)).startswith(MENUS[language])
    assert compose(slip, settings).count(b"\x1bt") == 1


@pytest.mark.parametrize(
    ("text", "profile", "on_paper"),
    [
        ("Țuică și mămăligă", "TM-T20II", "Ţuică şi mămăligă"),
        ("Phở bò Hà Nội", "TM-T20II", "Phở bò Hà Nội"),
        ("Phở bò Hà Nội", SMALL, "Pho bò Hà Noi"),
        ("GROẞE", "TM-T20II", "GROSSE"),
        ("Ķūķis", "RP-F10-58mm", "Kukis"),
        ("Łódź — „Żywiec” 5 €", "simple", 'Lódz - "Zywiec" 5 EUR'),
        ("Þór, œuf, ĳs", "simple", "Thór, oeuf, ijs"),
        ("Квас", "simple", "????"),
        ("日本酒 Ａ", "TM-T20II", "??? A"),
        ("ﬁlet", "TM-T20II", "filet"),
        ("u\u0308ber \u0301", "TM-T20II", "über "),
    ],
)
def test_a_letter_that_no_page_has_leaves_the_letter_it_is_made_of(
    text: str, profile: str, on_paper: str
) -> None:
    assert letters_of(profile).fit(text) == on_paper


def test_letters_of_several_scripts_on_one_slip_all_arrive() -> None:
    text = "Käse Квас Πίτα 5 €"
    assert words(Slip((Text(text),)), PrinterSettings()) == [text]


def test_only_the_pages_that_are_named_are_used() -> None:
    settings = PrinterSettings(code_pages=("CP437", "CP852"))
    assert words(Slip((Text("Żółć Käse 5 €"),)), settings) == ["Żółć Käse 5 EUR"]
    with pytest.raises(ValueError, match="none of the code pages"):
        letters_of("TM-T20II", ("EBCDIC",))


@given(st.text())
def test_whatever_is_written_the_printer_has_every_letter_of_it(text: str) -> None:
    letters = letters_of("TM-T20II")
    fitted = letters.fit(text)
    assert letters.fit(fitted) == fitted
    assert len(letters.pages_for([fitted])) >= 1


@given(st.text())
def test_printable_text_is_ink_on_one_line(text: str) -> None:
    assert printable(text) == printable(printable(text))
    assert all(char == " " or char.isprintable() for char in printable(text))
