"""Somebody who owns one of everything, somebody else, and an administrator of these tests' own."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from tests.e2e.client import Client, eventually
from tests.e2e.conftest import PASSWORD, word
from tests.e2e.suite import Suite
from tests.security.insides import execute, service_token

ADDRESS = {
    "recipient": "王小明",
    "phone": "+8613800138000",
    "province": "浙江",
    "city": "杭州",
    "district": "西湖",
    "street": "龙井路 1",
}
POINT = base64.urlsafe_b64encode(b"\4" + b"p" * 64).decode().rstrip("=")


@dataclass(frozen=True)
class World:
    """The people, and what can be made for them."""

    suite: Suite
    head: Client
    make_customer: Callable[[], Client]
    owner: Client
    other: Client
    admin: Client

    def account(self) -> dict[str, str]:
        """Make the body of a registration."""
        name = f"s_{word()}"
        return {"username": name, "email": f"{name}@example.com", "password": PASSWORD}

    def newcomer(self) -> int:
        """Register somebody who never signs in; return their id."""
        return int(Client(self.suite.url).post("/register", self.account()).expect(201)["id"])

    def sign_in(self, who: Client) -> Client:
        """Sign somebody in once more."""
        assert who.user is not None
        return Client(self.suite.url).login(who.user["username"], PASSWORD)

    def session_id(self) -> str:
        """Start a further session of the owner and return its id."""
        token = self.sign_in(self.owner).token
        assert token is not None
        return str(jwt.decode(token, options={"verify_signature": False})["sid"])

    def address_id(self) -> int:
        """Add an address of the owner's."""
        kept = self.owner.get("/profile/addresses").expect(200)["items"]
        for old in kept[10:]:
            self.owner.delete(f"/profile/addresses/{old['id']}").expect(204)
        return int(self.owner.post("/profile/addresses", ADDRESS).expect(201)["id"])

    def mail_token(self, user_id: int, purpose: str) -> str:
        """Have a mail's token made, as the notification service does."""
        token = service_token(self.suite.env, "NOTIFICATION_USER_KEY", scope="tokens.issue")
        asker = Client(self.suite.service_urls["user-service"], token)
        path = f"/internal/v1/users/{user_id}/email-token"
        return str(asker.post(path, {"purpose": purpose}, prefix="").expect(201)["token"])

    def product_id(self) -> int:
        """Add a product."""
        body = {"name": f"Secured {word()}", "price": "10.00", "stock": 50, "low_stock_threshold": 0}
        return int(self.admin.post("/products", body).expect(201)["id"])

    def product_in_carts(self) -> int:
        """Add a product and put it into everybody's cart."""
        product = self.product_id()
        for who in (self.owner, self.other, self.admin):
            who.put(f"/cart/items/{product}", {"quantity": 1}).expect(200)
        return product

    def category_id(self) -> int:
        """Add a category."""
        return int(self.admin.post("/categories", {"name": f"Secured {word()}"}).expect(201)["id"])

    def order_id(self) -> str:
        """Order something for the owner."""
        items = [{"product_id": self.product_id(), "quantity": 2}]
        return str(self.owner.post("/orders", {"items": items}).expect(201)["id"])

    def paid_order_id(self) -> str:
        """Order and pay for the owner."""
        order = self.order_id()
        self.owner.post(f"/orders/{order}/pay", {"method": "sandbox"}).expect(200)
        return order

    def shipped_order_id(self) -> str:
        """Order, pay and ship for the owner."""
        order = self.paid_order_id()
        shipment = {"carrier": "顺丰速运", "tracking_number": "SF1"}
        self.admin.post(f"/orders/{order}/ship", shipment).expect(200)
        return order

    def webhook(self) -> tuple[bytes, dict[str, str]]:
        """Make what the sandbox tells of a payment of the owner's, signed by it."""
        order = self.order_id()
        begun = self.owner.post(f"/orders/{order}/pay", {"method": "sandbox", "token": "tok_async"}).expect(
            202
        )
        payment = begun["payment"]
        raw = json.dumps(
            {
                "id": word(),
                "type": "payment.succeeded",
                "payment_id": payment["id"],
                "amount": payment["amount"],
                "currency": begun["currency"],
            }
        ).encode()
        moment = int(time.time())
        secret = self.suite.env["PAYMENT_SANDBOX_WEBHOOK_SECRET"].encode()
        digest = hmac.new(secret, f"{moment}.".encode() + raw, hashlib.sha256).hexdigest()
        return raw, {"X-Signature": f"t={moment},v1={digest}", "Content-Type": "application/json"}

    def failed_notification_id(self) -> str:
        """Return a notification of the owner's, marked as failed."""
        assert self.owner.user is not None
        own = "/notifications/history"
        found = eventually(lambda: [n for n in self.owner.all(own) if n["status"] in ("sent", "failed")])
        mark = "UPDATE notifications SET status = 'failed' WHERE id = %s"
        execute(self.suite, "notification-service", mark, (found[0]["id"],))
        return str(found[0]["id"])

    def subscription(self) -> dict[str, Any]:
        """Make a browser's subscription to push messages."""
        auth = base64.urlsafe_b64encode(b"a" * 16).decode()
        return {"endpoint": f"https://push.example.com/{word()}", "keys": {"p256dh": POINT, "auth": auth}}


def make_world(suite: Suite, head: Client, make_customer: Callable[[], Client]) -> World:
    """Register the people; the administrator is made by the one of the settings."""
    owner, other, promoted = make_customer(), make_customer(), make_customer()
    assert promoted.user is not None
    head.send("PATCH", f"/users/{promoted.user['id']}", json={"role": "admin"}).expect(200)
    admin = Client(suite.url).login(promoted.user["username"], PASSWORD)
    return World(suite, head, make_customer, owner, other, admin)


def dissolve(world: World) -> None:
    """Take the administrator of these tests out of office."""
    assert world.admin.user is not None
    world.head.send("PATCH", f"/users/{world.admin.user['id']}", json={"role": "customer"}).expect(200)
