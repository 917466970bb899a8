"""The texts: complete in both languages, and harmless whatever they show."""

import re

import pytest

from notification_service.rendering import FOLDER, LOCALES, Texts, address_lines, one_line, show_money
from tests.apps import settings_of
from tests.contracts.event_schemas import examples

CHINESE = re.compile(r"[\u4e00-\u9fff]")
EVENTS = {
    "order_created": "order.created",
    "order_paid": "order.paid",
    "order_shipped": "order.shipped",
    "order_cancelled": "order.cancelled",
    "order_refunded": "order.refunded",
}
EVIL = '<script>alert("1")</script>{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def texts():
    return Texts(settings_of("notification_service", public_url="https://shop.example.com"))


def data_of(template, **changed):
    return {**examples(EVENTS[template])[0]["data"], "name": "Alice", **changed}


@pytest.mark.parametrize("template", EVENTS)
@pytest.mark.parametrize("locale", LOCALES)
class TestOrderMails:
    def test_are_in_the_reader_s_language(self, texts, template, locale):
        product = {"items": [{**data_of(template)["items"][0], "name": "Tea"}], "carrier": "SF"}
        mail = texts.mail(template, locale, data_of(template, **product))
        for part in (mail.subject, mail.text, mail.html):
            assert bool(CHINESE.search(part)) == (locale == "zh-CN")

    def test_show_the_order(self, texts, template, locale):
        data = data_of(template)
        mail = texts.mail(template, locale, data)
        for part in (mail.text, mail.html):
            for value in (data["order_id"], "龙井茶 Longjing Tea 250 g", "¥128.00", "¥256.00", "Alice"):
                assert value in part

    def test_show_no_value_as_markup(self, texts, template, locale):
        item = {**data_of(template)["items"][0], "name": EVIL, "sku": EVIL}
        mail = texts.mail(template, locale, data_of(template, items=[item], name=EVIL, carrier=EVIL))
        assert "<script>" not in mail.html
        assert "&lt;script&gt;" in mail.html
        assert "{{ 7 * 7 }}" in mail.text

    def test_come_as_text_and_push_message_too(self, texts, template, locale):
        data = data_of(template)
        number = data["order_id"][-8:].upper()
        assert number in texts.sms(template, locale, data)
        title, body, order_id = texts.push(template, locale, data)
        assert title
        assert order_id == data["order_id"]
        assert number in body


def test_both_languages_have_the_same_texts(texts):
    english, chinese = (texts._texts[locale] for locale in ("en", "zh-CN"))
    assert english.keys() == chinese.keys()
    for template in english:
        assert english[template].keys() == chinese[template].keys(), template
        assert len(english[template].get("facts", [])) == len(chinese[template].get("facts", []))


def test_a_shipment_shows_its_tracking_number(texts):
    mail = texts.mail("order_shipped", "en", data_of("order_shipped"))
    assert "SF1234567890" in mail.text
    assert "SF1234567890" in mail.html
    assert "SF1234567890" in texts.sms("order_shipped", "en", data_of("order_shipped"))


def test_a_refund_shows_its_amount(texts):
    assert "¥50.00" in texts.mail("order_refunded", "zh-CN", data_of("order_refunded")).text


def test_a_cancellation_tells_an_order_that_was_not_paid_in_time(texts):
    late = texts.mail("order_cancelled", "en", data_of("order_cancelled", reason="payment_timeout"))
    other = texts.mail("order_cancelled", "en", data_of("order_cancelled", reason="customer"))
    assert "not paid in time" in late.text
    assert "not paid in time" not in other.text


def test_a_welcome_has_a_button_only_with_a_link(texts):
    link = "https://shop.example.com/verify-email?token=abc"
    with_link = texts.mail("welcome", "en", {"name": "Alice"}, link=link)
    without = texts.mail("welcome", "en", {"name": "Alice"})
    assert link in with_link.text
    assert f'href="{link}"' in with_link.html
    assert "confirm" in with_link.text
    assert "token=" not in without.html + without.text
    assert "confirm" not in without.text


def test_an_address_is_shown_when_the_event_has_one(texts):
    address = {"recipient": "张三", "phone": "13800138000", "city": "杭州市", "street": "文三路 1 号"}
    mail = texts.mail("order_shipped", "zh-CN", data_of("order_shipped", address=address))
    assert "张三 13800138000" in mail.html
    assert address_lines(address) == ["张三 13800138000", "杭州市 文三路 1 号"]
    assert address_lines(None) == []


def test_the_shop_s_name_is_the_sender_s(texts):
    named = Texts(settings_of("notification_service", mail_from="Tea House <tea@example.com>"))
    assert named.subject("welcome", "en", {}) == "Welcome to Tea House"
    assert texts.subject("welcome", "zh-CN", {}) == "欢迎来到商城"


def test_money_shows_its_currency():
    assert show_money("19.90", "CNY") == "¥19.90"
    assert show_money("19.90", "CHF") == "CHF 19.90"


@pytest.mark.parametrize(
    "text", ["a\r\nBcc: x", "a\nBcc: x", "a\u2028Bcc: x", "a\x00\x0b Bcc: x", " a  Bcc: x "]
)
def test_a_line_stays_one(text):
    assert one_line(text) == "a Bcc: x"


def test_the_layouts_name_no_other_server():
    for path in FOLDER.glob("mail.*"):
        assert not re.search(r"https?://", path.read_text()), path
