"""Web Push: subscriptions, messages that only the browser can read, and no request to where none belongs."""

import base64
import json
import socket
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from notification_service.channels.push import (
    SEND_SECONDS,
    PushMessage,
    Target,
    WebPusher,
    is_public,
    public_addresses,
)
from notification_service.config import Settings
from notification_service.errors import PermanentFailure, TemporaryFailure
from notification_service.models import PushKey, PushSubscription, db
from notification_service.services import PushKeys, sending
from tests.notification.stubs import Browser

SUBSCRIPTIONS = "/api/v1/notifications/push/subscriptions"


@pytest.fixture
def subscribe(client, bearer, push_url):
    """Return what subscribes a new browser of the buyer at a path of the push service."""

    def subscribe(path="/one", user_id=42):
        browser = Browser(push_url + path)
        answer = client.post(SUBSCRIPTIONS, json=browser.subscription, headers=bearer(user_id))
        assert answer.status_code == 201, answer.get_json()
        return browser

    return subscribe


def public_key(client):
    return client.get("/api/v1/notifications/push/public-key").get_json()["public_key"]


def outcome(box):
    (row,) = box.rows(channel="push")
    return row.status, row.attempts, row.last_error


class TestMessages:
    def test_reach_every_browser_of_the_user(self, subscribe, deliver, box, push_service):
        browsers = {path: subscribe(path) for path in ("/one", "/two")}
        deliver("order.shipped")
        box.send(channel="push")
        assert outcome(box) == ("sent", 1, None)
        (row,) = box.rows(channel="push")
        assert row.recipient == "user:42"
        assert sorted(request.path for request in push_service.requests) == ["/one", "/two"]
        for request in push_service.requests:
            assert browsers[request.path].decrypt(request.body) == {
                "id": str(row.id),
                "title": "订单已发货",
                "body": "订单 0C073981：顺丰速运 SF1234567890",
                "url": "https://shop.example.com/orders/019ab0c4-7f5e-7cc3-98c4-dc0c0c073981",
            }

    def test_are_signed_with_the_public_key(self, client, subscribe, deliver, box, push_service, push_url):
        subscribe()
        deliver("order.paid")
        box.send(channel="push")
        scheme, _, rest = push_service.requests[0].headers["Authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        assert scheme == "vapid"
        assert parts["k"] == public_key(client)
        point = base64.urlsafe_b64decode(parts["k"] + "=")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        claims = jwt.decode(parts["t"], key, algorithms=["ES256"], audience=push_url)
        assert claims["sub"] == "mailto:postmaster@example.com"

    def test_written_by_hand_are_sent(self, client, admin, subscribe, box, push_service):
        browser = subscribe()
        body = {"user_id": 42, "title": "标题", "body": "正文", "url": "https://shop.example.com/x"}
        client.post("/api/v1/notifications/push", json=body, headers=admin)
        box.send()
        message = browser.decrypt(push_service.requests[0].body)
        assert (message["title"], message["body"], message["url"]) == ("标题", "正文", body["url"])

    def test_to_a_user_without_a_browser_fail(self, client, admin, box):
        client.post(
            "/api/v1/notifications/push", json={"user_id": 7, "title": "t", "body": "b"}, headers=admin
        )
        box.send()
        assert outcome(box) == ("failed", 1, "the user has no push subscription")

    def test_of_the_greatest_length_fit(self, client, admin, subscribe, box, push_service):
        browser = subscribe()
        url = "https://x.example/" + "x" * 480
        body = {"user_id": 42, "title": "😀" * 100, "body": "😀" * 700, "url": url}
        assert client.post("/api/v1/notifications/push", json=body, headers=admin).status_code == 202
        box.send()
        assert len(push_service.requests[0].body) <= 4096
        assert browser.decrypt(push_service.requests[0].body)["body"] == body["body"]

    @pytest.mark.parametrize("status", [404, 410])
    def test_to_a_browser_that_is_gone_end_its_subscription(
        self, app, subscribe, deliver, box, push_service, status
    ):
        subscribe("/gone")
        subscribe("/one")
        push_service.statuses["/gone"] = status
        deliver("order.paid")
        box.send(channel="push")
        assert outcome(box) == ("sent", 1, None)
        with app.app_context():
            assert [s.endpoint[-4:] for s in db.session.scalars(db.select(PushSubscription))] == ["/one"]

    def test_that_no_browser_took_have_failed(self, subscribe, deliver, box, push_service):
        subscribe("/gone")
        push_service.statuses["/gone"] = 410
        deliver("order.paid")
        box.send(channel="push")
        assert outcome(box) == ("failed", 1, "the push service said 410")

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_are_tried_again_only_where_they_did_not_arrive(
        self, subscribe, deliver, box, push_service, status
    ):
        subscribe("/one")
        subscribe("/busy")
        push_service.statuses["/busy"] = status
        deliver("order.paid")
        box.send(channel="push")
        assert outcome(box) == ("queued", 1, f"the push service said {status}")
        push_service.statuses.clear()
        box.age(1.1)
        box.send(channel="push")
        assert outcome(box) == ("sent", 2, None)
        assert [request.path for request in push_service.requests] == ["/one", "/busy", "/busy"]

    @pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 413])
    def test_that_are_refused_fail(self, subscribe, deliver, box, push_service, status):
        subscribe()
        push_service.statuses["/one"] = status
        deliver("order.paid")
        box.send(channel="push")
        assert outcome(box) == ("failed", 1, f"the push service said {status}")


class SlowPusher:
    """Reaches the browsers at some paths; the others' push services keep silent for as long as one may."""

    def __init__(self, *good):
        self.good, self.now, self.reached = good, 0.0, []

    def send(self, _key, target, _message):
        path = urlsplit(target.endpoint).path
        if path not in self.good:
            self.now += SEND_SECONDS
            raise TemporaryFailure("silent")
        self.reached.append(path)


def test_silent_push_services_keep_a_claim_no_longer_than_it_counts_and_no_browser_from_its_message(
    app, subscribe, deliver, box, monkeypatch
):
    paths = [f"/{number}" for number in range(6)]
    for path in paths:
        subscribe(path)
    pusher = SlowPusher(paths[-1])
    app.extensions["tools"] = replace(app.extensions["tools"], pusher=pusher)
    monkeypatch.setattr(sending, "time", SimpleNamespace(monotonic=lambda: pusher.now))
    deliver("order.shipped")
    for _ in paths:
        before = pusher.now
        box.send(channel="push")
        assert pusher.now - before < Settings.model_fields["claim_seconds"].default
        box.age(61)
    assert pusher.reached == [paths[-1]]
    assert outcome(box)[:2] == ("queued", 6)


class TestSubscriptions:
    def test_are_confirmed(self, client, bearer, push_url):
        answer = client.post(SUBSCRIPTIONS, json=Browser(push_url).subscription, headers=bearer())
        assert answer.status_code == 201
        assert answer.get_json()["endpoint"] == push_url

    def test_end(self, client, bearer, subscribe, deliver, box):
        browser = subscribe()
        answer = client.delete(SUBSCRIPTIONS, json=browser.subscription, headers=bearer())
        assert (answer.status_code, answer.data) == (204, b"")
        again = {"endpoint": browser.subscription["endpoint"]}
        assert client.delete(SUBSCRIPTIONS, json=again, headers=bearer()).status_code == 204
        deliver("order.paid")
        assert box.rows(channel="push") == []

    def test_of_others_stay(self, client, bearer, subscribe, deliver, box):
        browser = subscribe()
        client.delete(SUBSCRIPTIONS, json=browser.subscription, headers=bearer(43))
        deliver("order.paid")
        assert len(box.rows(channel="push")) == 1

    def test_go_with_whoever_signs_in(self, app, client, bearer, subscribe):
        browser = subscribe(user_id=42)
        client.post(SUBSCRIPTIONS, json=browser.subscription, headers=bearer(43))
        with app.app_context():
            assert db.session.scalars(db.select(PushSubscription.user_id)).all() == [43]

    def test_have_a_limit_of_twenty(self, app, subscribe):
        for number in range(22):
            subscribe(f"/{number}")
        with app.app_context():
            kept = db.session.scalars(db.select(PushSubscription.endpoint)).all()
        assert {endpoint.rpartition("/")[2] for endpoint in kept} == {str(n) for n in range(2, 22)}

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"endpoint": "ftp://example.com"}, "endpoint"),
            ({"endpoint": "javascript:1"}, "endpoint"),
            ({"endpoint": "https://user@example.com/"}, "endpoint"),
            ({"endpoint": "https://example.com:0/"}, "endpoint"),
            ({"endpoint": "https://example.com:x/"}, "endpoint"),
            ({"endpoint": "https://[::1/"}, "endpoint"),
            ({"endpoint": "https://example.com/" + "x" * 2050}, "endpoint"),
            ({"keys": {"p256dh": "x" * 87, "auth": "tBHItJI5svbpez7KI4CCXg"}}, "keys.p256dh"),
            ({"keys": {"p256dh": "?", "auth": "tBHItJI5svbpez7KI4CCXg"}}, "keys.p256dh"),
            ({"keys": {"p256dh": Browser("").subscription["keys"]["p256dh"], "auth": "x"}}, "keys.auth"),
            ({"keys": None}, "keys"),
        ],
    )
    def test_are_checked(self, client, bearer, change, field):
        body = {**Browser("https://push.example.com/x").subscription, **change}
        answer = client.post(SUBSCRIPTIONS, json=body, headers=bearer())
        assert answer.status_code == 422
        assert [error["field"] for error in answer.get_json()["errors"]] == [field]

    @pytest.mark.parametrize(
        "endpoint",
        [
            "http://push.example.com/x",
            "https://push.example.com:8443/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://169.254.169.254/latest",
            "https://10.0.0.1/x",
            "https://localhost/x",
            "https://product-service/x",
        ],
    )
    def test_at_an_address_of_ours_are_refused(self, app, client, bearer, settings, endpoint):
        app.config["SETTINGS"] = settings.model_copy(update={"push_allow_private": False})
        answer = client.post(SUBSCRIPTIONS, json=Browser(endpoint).subscription, headers=bearer())
        assert answer.status_code == 422
        assert answer.get_json()["errors"][0]["field"] == "endpoint"

    def test_need_somebody_signed_in(self, client):
        assert client.post(SUBSCRIPTIONS, json={}).status_code == 401
        assert client.delete(SUBSCRIPTIONS, json={}).status_code == 401


class TestKey:
    def test_is_an_uncompressed_point(self, client):
        point = base64.urlsafe_b64decode(public_key(client) + "=")
        assert (len(point), point[0]) == (65, 4)

    def test_is_made_once_and_kept(self, app, client):
        first = public_key(client)
        with app.app_context():
            assert PushKeys().public(db.session) == first
            assert len(db.session.scalars(db.select(PushKey)).all()) == 1

    def test_of_whoever_was_first_stays(self, app):
        with app.app_context():
            db.session.execute(db.insert(PushKey).values(id=1, private_key="AQ"))
            db.session.commit()
            assert PushKeys().private(db.session) == "AQ"

    def test_of_the_settings_comes_first(self, app):
        with app.app_context():
            keys = PushKeys(base64.urlsafe_b64encode(b"\x01" * 32).decode().rstrip("="))
            assert len(keys.public(db.session)) == 87
            assert db.session.scalars(db.select(PushKey)).all() == []


class TestGuard:
    MESSAGE = PushMessage(uuid4(), "t", "b")

    @pytest.fixture
    def guarded(self, settings):
        return WebPusher(settings.model_copy(update={"push_allow_private": False}))

    def send(self, pusher, endpoint):
        keys = Browser(endpoint).subscription["keys"]
        private_key = base64.urlsafe_b64encode(b"\x01" * 32).decode().rstrip("=")
        pusher.send(private_key, Target(endpoint, **keys), self.MESSAGE)

    def test_lets_no_request_go_to_a_name_of_this_machine(self, guarded, monkeypatch):
        addresses = [(2, 1, 6, "", ("127.0.0.1", 443)), (10, 1, 6, "", ("::1", 443, 0, 0))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        with pytest.raises(TemporaryFailure):
            self.send(guarded, "https://push.example.com/x")
        assert public_addresses("push.example.com", 443) == []

    def test_connects_to_the_address_that_it_has_checked(self, guarded, monkeypatch):
        connected = []

        def create_connection(address, timeout):
            connected.append(address)
            raise ConnectionRefusedError

        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 443))])
        monkeypatch.setattr(socket, "create_connection", create_connection)
        with pytest.raises(TemporaryFailure):
            self.send(guarded, "https://push.example.com/x")
        assert connected == [("93.184.216.34", 443)]

    @pytest.mark.parametrize("endpoint", ["http://push.example.com/x", "https://push.example.com:22/x"])
    def test_lets_nothing_but_https_pass(self, guarded, endpoint):
        with pytest.raises(PermanentFailure):
            self.send(guarded, endpoint)

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1%eth0",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
        ],
    )
    def test_knows_what_is_not_public(self, address):
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
    def test_knows_what_is_public(self, address):
        assert is_public(address)


def test_a_message_is_json():
    assert json.loads(TestGuard.MESSAGE.encode())["title"] == "t"
