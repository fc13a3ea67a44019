import pytest
from parley_kit import pages
from parley_kit.errors import InvalidArgument


def test_a_key_comes_back():
    assert pages.decode(pages.encode("2026-01-01", "ä b"), 2) == ("2026-01-01", "ä b")


@pytest.mark.parametrize("token", ["x", "====", "bnVsbA", pages.encode("one"), "ä", "W1sxXSwyXQ"])
def test_what_is_no_page_token_is_named(token):
    with pytest.raises(InvalidArgument, match="pageToken"):
        pages.decode(token, 2)
