"""Searching, in Chinese and English, in databases of both character types."""

from urllib.parse import quote

import pytest

from chassis.migrations import migrate
from tests.product.shop import empty, names

PRODUCTS = {
    "cup": ("保温杯 Thermos Flask", "适合露营，保冷保热"),
    "tent": ("户外帐篷 Camping Tent", "防风防雨，配保温杯一只"),
    "shoes": ("跑步鞋 Running Shoes", "Light shoes for runners' feet"),
    "headset": ("无线蓝牙耳机 Bluetooth-Headset Ｘ９", "降噪，续航20小时"),
    "phone": ("iPhone15手机壳", "Café colour, 3.5mm"),
    "vitamin": ("维生素 Vitamin A", "每日一片"),
}


@pytest.fixture(params=["C.UTF-8", "C"], scope="module")
def localized_app(request, postgres_server, shared_app, make_product_app):
    """Return the service on a database of this character type."""
    if request.param == "C.UTF-8":
        return shared_app
    postgres_server.execute("CREATE DATABASE product_c TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    app = make_product_app(postgres_server.database("product_c"))
    migrate(app)
    return app


@pytest.fixture
def app(localized_app):
    empty(localized_app)
    return localized_app


@pytest.fixture
def search(shop):
    keys = {}
    for key, (name, description) in PRODUCTS.items():
        keys[name] = key
        shop.add(name, description=description)

    def ask(question, rest=""):
        return [keys[name] for name in names(shop.get(f"/products?q={quote(question)}{rest}"))]

    return ask


def test_questions_find_their_products(search):
    expected = {
        # two characters, whether or not they are a word
        "保温": {"cup", "tent"},
        "温杯": {"cup", "tent"},
        "露营": {"cup"},
        "蓝牙": {"headset"},
        # a whole phrase, and one that is nowhere
        "无线蓝牙耳机": {"headset"},
        "蓝牙无线": set(),
        # a single character
        "杯": {"cup", "tent"},
        "鞋": {"shoes"},
        # any order, both languages
        "帐篷 户外": {"tent"},
        "户外 帐篷": {"tent"},
        "tent 帐篷": {"tent"},
        "headset 耳机 bluetooth": {"headset"},
        "帐篷tent": {"tent"},
        # all words must match
        "保温杯 running": set(),
        "shoes tent": set(),
        # words over name and description
        "thermos 露营": {"cup"},
        # by stem and without case
        "SHOE": {"shoes"},
        "run": {"shoes"},
        "runs": {"shoes"},
        "tents": {"tent"},
        "CAMPING": {"tent"},
        "iphone15": {"phone"},
        "手机": {"phone"},
        # width and accents
        "x9": {"headset"},
        "Ｘ９": {"headset"},
        "cafe": {"phone"},
        "CAFÉ": {"phone"},
        # numbers and single letters are words
        "20": {"headset"},
        "3.5mm": {"phone"},
        "vitamin a": {"vitamin"},
        "vitamin c": set(),
        # part of an English word is none
        "blue": set(),
        # punctuation doesn't count
        "保温杯，帐篷！": {"tent"},
        "(running) & shoes": {"shoes"},
        "  tent  ": {"tent"},
    }
    assert {question: set(search(question)) for question in expected} == expected


@pytest.mark.parametrize("order", ["newest", "price", "sales", "relevance"])
def test_every_order_finds_the_same(search, order):
    assert set(search("保温", f"&sort={order}")) == {"cup", "tent"}


def test_a_name_counts_for_more_than_a_description(search):
    # The tent is newer, but a thermos is only in its description.
    assert search("保温杯") == ["cup", "tent"]
    assert search("保温杯", "&sort=newest") == ["tent", "cup"]


def test_no_question_is_an_error(search):
    questions = [
        "'", '"', "\\", "%", "_", "*", ":*", "&", "|", "!", "!tent", "<->", "( )", "tent & !x", "';--",
        "\\'", "''", "tent:*", "a" * 100, "杯" * 100, "\u200b", "🍵", "🍵茶", "\ud7ff", "а́", "…", "——",
        "1e400", "0x10", "-5", "a@b.c", "http://a/b?c=d", "<b>x</b>", "&amp;", "𠮷野家", "ｶﾞｷﾞ", "한국어", "İ",
    ]  # fmt: skip
    for question in questions:
        search(question)


def test_a_question_without_a_word_finds_nothing(search):
    assert search("!?，。") == []


def test_a_blank_question_is_none(search):
    assert len(search("   ")) == len(PRODUCTS)
    assert len(search("")) == len(PRODUCTS)


def test_a_question_has_at_most_a_hundred_characters(search, shop):
    assert shop.get("/products?q=" + quote("杯" * 100)).status_code == 200
    assert shop.get("/products?q=" + quote("杯" * 101)).status_code == 422


def test_a_changed_name_is_found_at_once(search, shop):
    product = shop.get("/products?q=tent").get_json()["items"][0]
    shop.manage("PUT", f"/products/{product['id']}", {"name": "睡袋 Sleeping bag", "price": "1.00"})
    assert names(shop.get(f"/products?q={quote('帐篷')}")) == []
    assert names(shop.get(f"/products?q={quote('睡袋')}")) == ["睡袋 Sleeping bag"]
