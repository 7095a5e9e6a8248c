from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.cli.price_list import BadLine, read_price_list, write_price_list

LAGER = {"number": 1, "name": "Lager 0.4", "price_in_cents": 480}
CIDER = {"number": 2, "name": "Cider, dry", "price_in_cents": 500}


@pytest.mark.parametrize(
    "content",
    [
        b'number,name,price\n1,Lager 0.4,4.80\n2,"Cider, dry",5\n',
        b"\xef\xbb\xbfnumber;name;price\r\n1;Lager 0.4;4,80\r\n2;Cider, dry;5,0\r\n",
        b"sep=;\r\nprice;Number;NAME\r\n4,80;1;Lager 0.4\r\n\r\n5.00;2;Cider, dry\r\n;;\r\n",
        b"number\tname\tprice\n2\tCider, dry\t5\n1\tLager 0.4\t4.8",
        'number;name;price\n1;"Lager 0.4";"4,80"\n2;"Cider, dry";5\n'.encode("utf-16"),
    ],
)
def test_what_spreadsheets_save_is_read(content: bytes) -> None:
    assert read_price_list(content) == [LAGER, CIDER]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1,Lager,4.505", "more than two decimals"),
        ("1,Lager,1e5", "no price"),
        ("1,Lager,NaN", "no price"),
        ("1,Lager,-4.50", "negative"),
        ("1,Lager,1 000.00", "no price"),
        ("1,Lager,1000000.01", "no price"),
        ("1,Lager,\u0661.50", "no price"),
        ("1,Lager,", "no price"),
        ("0,Lager,4.50", "no number from 1 to 9999"),
        ("10000,Lager,4.50", "no number"),
        ("1.0,Lager,4.50", "no number"),
        ("\u00b2,Lager,4.50", "no number"),
        ("1,,4.50", "the name is missing"),
        ("1,La\x1b[2Jger,4.50", "control characters"),
        ("1,La\x9bger,4.50", "control characters"),
        (f"1,{'x' * 41},4.50", "41 characters"),
        ("1,Lager,4,50", "4 values where 3 belong"),
        ("1,Lager", "2 values where 3 belong"),
        ("1,La\0ger,4.50", "NUL"),
        ('1,"Lager,4.50', "quotation mark"),
    ],
)
def test_a_line_that_is_no_product_is_named_with_its_reason(line: str, why: str) -> None:
    [bad] = read_price_list(f"number,name,price\n{line}\n".encode())
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert why in bad.why
    assert str(bad).isprintable()


def test_every_bad_line_is_told_at_once_and_none_counts() -> None:
    content = b'number,name,price\n1,A,x\n2,"two\nlines",1\n3,C,1\n3,D,2\nx,,y\n'
    told = read_price_list(content)
    assert all(isinstance(each, BadLine) for each in told)
    assert [str(each).partition(":")[0] for each in told] == [
        "line 2",
        "line 3",
        "line 6",
        "line 7",
    ]
    assert "number 3 stands in line 5 already" in str(told[2])


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        (b"", 1, "empty"),
        (b"1,Lager,4.50\n", 1, "the first line names the columns"),
        (b"number,name,price,colour\n", 1, "number,name,price"),
        (b"number,name,price\n1,K\xe4se,2\n", 2, "no UTF-8"),
        ("number,name,price\n1,A,2\n".encode("utf-16-le"), 1, "NUL"),
        (b"x" * 5_000_000, 1, "larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_price_list_says_so(content: bytes, line: int, why: str) -> None:
    [bad] = read_price_list(content)
    assert isinstance(bad, BadLine)
    assert (bad.line, why in bad.why) == (line, True)


def test_ten_thousand_lines_are_refused_by_how_many_a_stall_may_have() -> None:
    lines = "".join(f"{number},P,1.00\n" for number in range(1, 10_000))
    [bad] = read_price_list(f"number,name,price\n{lines}".encode())
    assert isinstance(bad, BadLine)
    assert (bad.line, "80 products at most" in bad.why) == (82, True)


_NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=38
)
_PRODUCTS = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.integers(1, 9999),
            "name": _NAMES,
            "price_in_cents": st.integers(0, 100_000_000),
        }
    ),
    unique_by=itemgetter("number"),
    max_size=80,
)


@given(_PRODUCTS)
def test_what_is_written_is_read_again(products: list[dict[str, Any]]) -> None:
    text = write_price_list(products)
    assert read_price_list(text.encode()) == sorted(products, key=itemgetter("number"))
    cells = [line.split(",")[1] for line in text.splitlines()[1:] if '"' not in line]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


@given(st.binary(max_size=300))
def test_whatever_the_file_is_it_is_read_or_refused(content: bytes) -> None:
    for head in (b"", b"number,name,price\n"):
        told = read_price_list(head + content)
        assert all(isinstance(each, BadLine | dict) for each in told)
