"""Messages that really arrive, one for each event, in the language of whoever reads them."""

import base64
import json
import re
import time

import pytest

from tests.e2e.client import eventually
from tests.e2e.conftest import word

NOTIFICATION = set(
    "id user_id channel recipient template subject status attempts last_error event_id event_type created_at"
    " sent_at".split()
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def history(who, query=""):
    """List notifications."""
    return who.all(f"/notifications/history?{query}")


def mail_of(buyer, mailbox, event_type):
    """Wait for the one mail to somebody that an event caused, and read it in the mail catcher."""
    query = f"channel=email&event_type={event_type}"
    sent = eventually(lambda: [n for n in history(buyer, query) if n["status"] == "sent"])
    assert sent, history(buyer)
    return mailbox.wait(buyer.user["email"], sent[0]["subject"])[0]


class TestMails:
    def test_welcome_whoever_registers(self, customer, mailbox):
        mail = mail_of(customer, mailbox, "user.registered")
        assert customer.user["username"] in mail["text"] + mail["html"]

    def test_prove_that_an_address_is_ones_own(self, anyone, customer, mailbox):
        mail = mail_of(customer, mailbox, "user.registered")
        token = re.search(r"token=([A-Za-z0-9_-]+)", mail["text"])[1]
        anyone.post("/email/verify", {"token": token}).expect(204)
        assert customer.get("/profile").expect(200)["email_verified"] is True
        assert anyone.post("/email/verify", {"token": token}).status in (400, 401, 404, 409, 422)
        shown = json.dumps(history(customer))
        assert token not in shown

    def test_tell_the_whole_way_of_an_order(self, customer, mailbox, new_shipped_order, admin):
        order = new_shipped_order(customer)
        admin.post(f"/orders/{order['id']}/refund", {"amount": "7.65", "reason": "late"}).expect(200)
        for event_type in ("order.created", "order.paid", "order.shipped", "order.refunded"):
            mail = mail_of(customer, mailbox, event_type)
            assert mail["text"].strip(), event_type
            assert "<" in mail["html"], event_type
            assert order["id"] in mail["text"] + mail["html"], event_type
        assert order["total_amount"] in mail_of(customer, mailbox, "order.paid")["text"]
        assert "SF1234567890" in mail_of(customer, mailbox, "order.shipped")["text"]
        assert "7.65" in mail_of(customer, mailbox, "order.refunded")["text"]

    def test_tell_of_a_cancelled_order(self, customer, mailbox, new_order):
        order = new_order(customer)
        customer.post(f"/orders/{order['id']}/cancel").expect(200)
        mail = mail_of(customer, mailbox, "order.cancelled")
        assert order["id"] in mail["text"] + mail["html"]

    @pytest.mark.parametrize(("locale", "chinese"), [("zh-CN", True), ("en", False)])
    def test_are_in_the_language_of_the_user(self, new_customer, mailbox, new_paid_order, locale, chinese):
        buyer = new_customer(locale=locale)
        time.sleep(2)  # The order's events come by another queue than the change of language.
        new_paid_order(buyer)
        for event_type in ("order.created", "order.paid"):
            mail = mail_of(buyer, mailbox, event_type)
            assert bool(CHINESE.search(mail["subject"])) == chinese
            assert bool(CHINESE.search(mail["text"])) == chinese
            assert bool(CHINESE.search(mail["html"])) == chinese

    def test_are_sent_once_for_each_event(self, customer, mailbox, new_paid_order):
        new_paid_order(customer)
        mail_of(customer, mailbox, "order.paid")
        time.sleep(3)
        mails = mailbox.of(customer.user["email"])
        assert len(mails) == 3, [mail["subject"] for mail in mails]
        ids = [headers["message-id"] for mail in mails if (headers := _lower(mail["headers"]))]
        assert len(set(ids)) == 3

    def test_come_from_the_address_of_the_settings(self, customer, mailbox, running_suite):
        mail = mail_of(customer, mailbox, "user.registered")
        assert mail["from"][0]["address"] in running_suite.env["MAIL_FROM"]

    def test_warn_the_administrators_once_when_stock_runs_low(
        self, customer, mailbox, new_product, new_order, running_suite
    ):
        product = new_product(name=f"Scarce {word()}", stock=8, low_stock_threshold=5)
        new_order(customer, (product["id"], 2))
        new_order(customer, (product["id"], 1))
        new_order(customer, (product["id"], 1))
        assert mailbox.wait(running_suite.env["ADMIN_EMAIL"], product["sku"])
        time.sleep(3)
        assert len(mailbox.of(running_suite.env["ADMIN_EMAIL"], product["sku"])) == 1


def _lower(headers):
    return {name.lower(): value for name, value in headers.items()}


class TestHistory:
    def test_shows_ones_own_notifications(self, customer, mailbox, new_paid_order):
        new_paid_order(customer)
        mail_of(customer, mailbox, "order.paid")
        shown = history(customer)
        assert {n["user_id"] for n in shown} == {customer.user["id"]}
        paid = next(n for n in shown if n["event_type"] == "order.paid" and n["channel"] == "email")
        assert set(paid) >= NOTIFICATION
        assert paid["recipient"] == customer.user["email"]
        assert (paid["status"], paid["attempts"], paid["last_error"]) == ("sent", 1, None)
        assert paid["event_id"]
        assert paid["sent_at"] >= paid["created_at"][:19]

    def test_goes_on_where_the_page_before_ended(self, customer, mailbox, new_paid_order):
        new_paid_order(customer)
        mail_of(customer, mailbox, "order.paid")
        whole = [n["id"] for n in history(customer)]
        assert [n["id"] for n in customer.all("/notifications/history", limit=1)] == whole
        assert len(set(whole)) == len(whole) >= 3

    def test_of_another_user_is_for_administrators(self, customer, new_customer, admin, mailbox):
        other = new_customer()
        mail_of(other, mailbox, "user.registered")
        customer.get(f"/notifications/history?user_id={other.user['id']}").refused(403, "forbidden")
        customer.get(f"/notifications/history?user_id={customer.user['id']}").expect(200)
        shown = history(admin, f"user_id={other.user['id']}")
        assert {n["user_id"] for n in shown} == {other.user["id"]}

    @pytest.mark.parametrize("query", ["channel=fax", "status=lost", "user_id=x", "limit=0"])
    def test_names_the_parameter_that_is_wrong(self, shopper, query):
        shopper.get(f"/notifications/history?{query}").invalid(f"query.{query.split('=')[0]}")

    def test_needs_somebody_signed_in(self, anyone):
        anyone.get("/notifications/history").refused(401, "unauthorized")


class TestMailsByHand:
    def test_arrive_as_written(self, admin, mailbox):
        address = f"{word()}@example.com"
        body = {"to": address, "subject": "你好 hello", "body": "第一行\nline two", "html": "<p>第一行</p>"}
        queued = admin.post("/notifications/email", body).expect(202)
        assert queued["status"] == "queued"
        mail = mailbox.wait(address)[0]
        assert mail["subject"] == "你好 hello"
        assert "line two" in mail["text"]
        assert "<p>第一行</p>" in mail["html"]
        sent = eventually(lambda: [n for n in history(admin, "status=sent") if n["id"] == queued["id"]])
        assert sent[0]["recipient"] == address

    def test_with_an_idempotency_key_are_sent_once(self, admin, mailbox):
        address, key = f"{word()}@example.com", {"Idempotency-Key": word()}
        body = {"to": address, "subject": "once", "body": "once"}
        first = admin.post("/notifications/email", body, headers=key).expect(202)
        again = admin.post("/notifications/email", body, headers=key)
        assert again.expect(202) == first
        assert again.headers["Idempotent-Replayed"] == "true"
        mailbox.wait(address)
        time.sleep(2)
        assert len(mailbox.of(address)) == 1

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("to", "nobody"),
            ("to", "a@example.com\r\nBcc: b@example.com"),
            ("to", None),
            ("subject", ""),
            ("subject", "two\r\nBcc: b@example.com"),
            ("body", 5),
            ("bcc", "b@example.com"),
        ],
    )
    def test_name_the_field_that_is_wrong(self, admin, field, value):
        body = {"to": "a@example.com", "subject": "s", "body": "b", field: value}
        admin.post("/notifications/email", body).invalid(field)

    def test_are_for_administrators(self, shopper, anyone):
        for path, body in (
            ("email", {"to": "a@example.com", "subject": "s", "body": "b"}),
            ("sms", {"to": "+8613800138000", "body": "b"}),
            ("push", {"user_id": 1, "title": "t", "body": "b"}),
        ):
            shopper.post(f"/notifications/{path}", body).refused(403, "forbidden")
            anyone.post(f"/notifications/{path}", body).refused(401, "unauthorized")


class TestTexts:
    def test_are_sent(self, admin):
        number = "+86138" + str(time.time_ns())[-8:]
        queued = admin.post("/notifications/sms", {"to": number, "body": "您的包裹已发出"}).expect(202)
        sent = eventually(
            lambda: [n for n in history(admin, "channel=sms&status=sent") if n["id"] == queued["id"]]
        )
        assert sent[0]["recipient"] == number

    @pytest.mark.parametrize("number", ["13800138000", "+0123456789", "+86 138", "+" + "1" * 16, "abc", None])
    def test_go_to_international_numbers(self, admin, number):
        admin.post("/notifications/sms", {"to": number, "body": "b"}).invalid("to")

    def test_reach_whoever_has_a_phone(self, new_customer, new_order):
        buyer = new_customer(phone="+8613912345678")
        time.sleep(2)
        new_order(buyer)
        texts = eventually(lambda: history(buyer, "channel=sms&event_type=order.created"))
        assert [n["recipient"] for n in texts] == ["+8613912345678"]


class TestPush:
    SUBSCRIPTION = {  # noqa: RUF012
        "endpoint": "https://push.example.com/send/abc",
        "expirationTime": None,
        "keys": {
            "p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u"
            "-Ts1XbjhazAkj7I99e8QcYP7DkM",
            "auth": "tBHItJI5svbpez7KI4CCXg",
        },
    }

    def test_key_is_public(self, anyone):
        answer = anyone.get("/notifications/push/public-key").expect(200)
        keys = [value for value in answer.values() if isinstance(value, str) and len(value) == 87]
        assert base64.urlsafe_b64decode(keys[0] + "=")[0] == 4

    def test_subscriptions_come_and_go(self, shopper):
        assert shopper.post("/notifications/push/subscriptions", self.SUBSCRIPTION).status in (200, 201, 204)
        assert shopper.post("/notifications/push/subscriptions", self.SUBSCRIPTION).status in (200, 201, 204)
        gone = shopper.delete(
            "/notifications/push/subscriptions", {"endpoint": self.SUBSCRIPTION["endpoint"]}
        )
        assert gone.status in (200, 204)

    def test_subscriptions_are_checked(self, shopper):
        without_keys = {"endpoint": self.SUBSCRIPTION["endpoint"]}
        shopper.post("/notifications/push/subscriptions", without_keys).invalid("keys")
        for endpoint in ("ftp://example.com", "javascript:1", "http://127.0.0.1:5432/", ""):
            body = self.SUBSCRIPTION | {"endpoint": endpoint}
            shopper.post("/notifications/push/subscriptions", body).invalid("endpoint")

    def test_is_queued_for_a_user(self, admin, shopper):
        body = {"user_id": shopper.user["id"], "title": "标题", "body": "正文"}
        assert admin.post("/notifications/push", body).expect(202)["status"]
        admin.post("/notifications/push", body | {"url": "javascript:alert(1)"}).invalid("url")


class TestPreferences:
    def test_are_kept(self, customer):
        before = customer.get("/notifications/preferences").expect(200)
        assert {channel: type(before[channel]) for channel in ("email", "sms", "push")} == dict.fromkeys(
            ("email", "sms", "push"), bool
        )
        wanted = {"email": False, "sms": False, "push": True}
        changed = customer.put("/notifications/preferences", wanted).expect(200)
        assert {channel: changed[channel] for channel in wanted} == wanted
        assert customer.get("/notifications/preferences").expect(200) == changed

    def test_do_not_hold_back_receipts(self, customer, mailbox, new_paid_order):
        customer.put("/notifications/preferences", {"email": False, "sms": False, "push": False}).expect(200)
        new_paid_order(customer)
        assert mail_of(customer, mailbox, "order.paid")

    @pytest.mark.parametrize("value", ["yes", 1, None])
    def test_are_booleans(self, shopper, value):
        body = {"email": value, "sms": True, "push": True}
        shopper.put("/notifications/preferences", body).invalid("email")

    def test_need_somebody_signed_in(self, anyone):
        anyone.get("/notifications/preferences").refused(401, "unauthorized")
        anyone.put("/notifications/preferences", {}).refused(401, "unauthorized")


def test_only_administrators_try_a_failed_one_again(shopper, admin):
    unknown = "/notifications/019ab0c4-7f5e-7cc3-98c4-dc0c0c073981/retry"
    shopper.post(unknown).refused(403, "forbidden")
    admin.post(unknown).refused(404, "not_found")
    admin.post("/notifications/abc/retry").refused(404, "not_found")
