"""What people and jobs do with an order, each a way of many steps, and what their rivals do meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy.exc
from werkzeug.test import TestResponse

from chassis.errors import DependencyAway
from order_service.clients import ProductService
from order_service.payments.base import Unknown
from order_service.payments.sandbox import Sandbox
from tests.interleaving import Process, elsewhere
from tests.order.shop import Person, Shop

PARCEL = {"carrier": "SF", "tracking_number": "1"}
PIECES = 2

# Whom the order service asks, and how it learns that no answer came.
CALLS = {
    ProductService.reserve: lambda: DependencyAway("product service"),
    ProductService.release: lambda: DependencyAway("product service"),
    Sandbox.charge: Unknown,
    Sandbox.lookup: Unknown,
    Sandbox.cancel: Unknown,
    Sandbox.refund: Unknown,
    Sandbox.read_webhook: Unknown,
}


@dataclass
class Scene:
    """A buyer and what becomes of one order of two pieces; `answers` are those given under the key "k"."""

    shop: Shop
    buyer: Person
    admin: Person
    tea: int
    order_id: str = ""
    answers: list[TestResponse] = field(default_factory=list)

    def process(self, stop_at: int | str) -> Process:
        """Make a process that stops at a step."""
        with self.shop.app.app_context():
            return Process(self.shop.app.extensions["sqlalchemy"].engine, CALLS, stop_at=stop_at)

    def dies(self, step: str, act: "Act") -> None:
        """Let a process die at the step of that name."""
        process = self.process(step)
        process.dies(lambda: act(self))
        assert process.stopped_at

    def rows(self, statement: str) -> Any:
        """Run SQL on rows of the order (`:o`) or the buyer and the administrator (`:u`)."""
        statement = statement.replace(":u", f"{self.buyer.user_id}, {self.admin.user_id}")
        values = {"o": self.order_id} if ":o" in statement else {}
        # Elsewhere, because it is no step of whoever acts here.
        return elsewhere(lambda: self.shop.rows(statement, **values))

    def keep(self, answer: TestResponse) -> TestResponse:
        """Note an answer under the key, where it says what became of the request."""
        if is_definite(answer):
            self.answers.append(answer)
        return answer


Act = Callable[[Scene], TestResponse | None]


def is_definite(answer: TestResponse) -> bool:
    """Tell whether an answer says what became of the request."""
    return answer.status_code != 503 and "idempotency_in_progress" not in answer.text


# --- What is there before.


def nothing(scene: Scene) -> None:
    """Leave the buyer alone."""


def a_cart(scene: Scene) -> None:
    """Put the two pieces into the cart."""
    scene.buyer.put_in_cart(scene.tea, PIECES)


def an_order(scene: Scene) -> None:
    """Place the order."""
    scene.order_id = scene.buyer.ordered((scene.tea, PIECES))["id"]


def a_due_order(scene: Scene) -> None:
    """Place an order whose time is over."""
    an_order(scene)
    _set_expiry(scene, "0 s")


def a_paid_order(scene: Scene) -> None:
    """Place the order and pay it."""
    scene.order_id = scene.buyer.bought((scene.tea, PIECES))["id"]


def a_silent_payment(scene: Scene) -> None:
    """Pay the order by a provider that takes the money and does not say so."""
    an_order(scene)
    assert scene.buyer.pay(scene.order_id, "tok_timeout").status_code == 202


def an_open_payment(scene: Scene) -> None:
    """Pay the order by a provider that tells later."""
    an_order(scene)
    assert scene.buyer.pay(scene.order_id, "tok_async").status_code == 202


def a_lost_payment(scene: Scene) -> None:
    """Pay the order in a process that dies before it asks the provider."""
    an_order(scene)
    scene.dies("before Sandbox.charge", pay)


def a_lost_refund(scene: Scene) -> None:
    """Refund a part in a process that dies before it asks the provider."""
    a_paid_order(scene)
    scene.dies("before Sandbox.refund", refund_a_part)


def a_late_payment(scene: Scene) -> None:
    """Cancel the order, whose money comes afterwards and has to go back."""
    an_open_payment(scene)
    cancel(scene)
    hear_success(scene)


def a_stalled_intent(scene: Scene) -> None:
    """Place the order in a process that dies when the stock is reserved; let the intent grow old."""
    scene.dies("after ProductService.reserve", place)
    _let_intents_stall(scene)


def a_release_owed(scene: Scene) -> None:
    """Give a stalled intent up."""
    a_stalled_intent(scene)
    _work(scene, "sweep intents")


# --- What is done, by one process.


def place(scene: Scene) -> TestResponse:
    """Order the two pieces, under the key."""
    return scene.keep(scene.buyer.order((scene.tea, PIECES), key="k"))


def place_cart(scene: Scene) -> TestResponse:
    """Order the cart, under the key."""
    return scene.keep(scene.buyer.order(key="k"))


def place_at_another_price(scene: Scene) -> TestResponse:
    """Order for a sum that is not the right one, under the key."""
    return scene.keep(scene.buyer.order((scene.tea, PIECES), key="k", expected_total_amount="1.00"))


def pay(scene: Scene) -> TestResponse:
    """Pay the order, under the key."""
    return scene.keep(scene.buyer.pay(scene.order_id, key="k"))


def pay_in_vain(scene: Scene) -> TestResponse:
    """Pay the order by what is declined, under the key."""
    return scene.keep(scene.buyer.pay(scene.order_id, "tok_decline", key="k"))


def pay_by_a_silent_provider(scene: Scene) -> TestResponse:
    """Pay the order by a provider that takes the money and does not say so, under the key."""
    return scene.keep(scene.buyer.pay(scene.order_id, "tok_timeout", key="k"))


def refund_a_part(scene: Scene) -> TestResponse:
    """Give 5.00 of the 20.00 back, under the key."""
    body = {"amount": "5.00", "reason": "scratch"}
    return scene.keep(scene.admin.do("refund", scene.order_id, body, key="k"))


def refund_all(scene: Scene) -> TestResponse:
    """Give back all that is left, under the key."""
    return scene.keep(scene.admin.do("refund", scene.order_id, {"reason": "scratch"}, key="k"))


def cancel(scene: Scene) -> TestResponse:
    """Cancel the order, as its buyer."""
    return scene.buyer.do("cancel", scene.order_id)


def ship(scene: Scene) -> TestResponse:
    """Hand the order to the carrier."""
    return scene.admin.do("ship", scene.order_id, PARCEL)


def hear_success(scene: Scene) -> TestResponse | None:
    """Hear from the provider that the order's last payment succeeded."""
    payments = scene.rows("SELECT id FROM payments WHERE order_id = :o ORDER BY created_at DESC LIMIT 1")
    kind = "payment.succeeded"
    return scene.shop.webhook(payments[0].id, kind, id=f"{kind} {payments[0].id}") if payments else None


def expire(scene: Scene) -> None:
    """Cancel what is due."""
    _work(scene, "expire orders")


def sweep(scene: Scene) -> None:
    """Give stalled intents up."""
    _work(scene, "sweep intents")


def release(scene: Scene) -> None:
    """Release what is owed."""
    scene.rows("UPDATE releases SET next_try_at = now()")
    _work(scene, "release reservations")


def settle(scene: Scene) -> None:
    """Ask the provider what became of payments under way."""
    scene.rows("UPDATE payments SET next_check_at = now() WHERE order_id = :o")
    _work(scene, "settle payments")


def finish_refunds(scene: Scene) -> None:
    """Go on with open refunds."""
    scene.rows("UPDATE refunds SET next_try_at = now() WHERE order_id = :o")
    _work(scene, "finish refunds")


# --- What a rival does besides.


def after_15_s(act: Act) -> Act:
    """Make the rival that does something again under the same key when its claim is 16 s old."""

    def take_over(scene: Scene) -> TestResponse | None:
        outwait_claims(scene)
        return act(scene)

    return take_over


def become_due_and_expire(scene: Scene) -> None:
    """Let the order's time be over, and cancel what is due."""
    _set_expiry(scene, "0 s")
    expire(scene)


def wait_no_longer_and_expire(scene: Scene) -> None:
    """Let the order's time be over for 11 min: its payment is stopped at the provider first."""
    _set_expiry(scene, "11 min")
    settle(scene)
    expire(scene)


def stall_and_sweep(scene: Scene) -> None:
    """Let the intent be 61 s old and given up, and its release owed."""
    _let_intents_stall(scene)
    sweep(scene)


def stall_and_release(scene: Scene) -> None:
    """Let the intent be 61 s old, given up, and released."""
    stall_and_sweep(scene)
    release(scene)


def pay_again(scene: Scene) -> TestResponse:
    """Pay the order under another key."""
    return scene.buyer.pay(scene.order_id, key="another")


def order_cart_again(scene: Scene) -> TestResponse:
    """Order the cart under another key, when an attempt of before counts as given up."""
    scene.rows("UPDATE orders SET created_at = created_at - interval '16 s' WHERE user_id IN (:u)")
    return scene.buyer.order(key="another")


def settle_and_pay_again(scene: Scene) -> TestResponse:
    """Have the payment looked at, and pay under another key."""
    settle(scene)
    return pay_again(scene)


def outwait_claims(scene: Scene) -> None:
    """Let 16 s pass for every claim of the two."""
    scene.rows("UPDATE idempotency_keys SET claimed_at = claimed_at - interval '16 s' WHERE user_id IN (:u)")


def _set_expiry(scene: Scene, ago: str) -> None:
    scene.rows(f"UPDATE orders SET expires_at = now() - interval '{ago}' WHERE id = :o")


def _let_intents_stall(scene: Scene) -> None:
    scene.rows("UPDATE orders SET created_at = created_at - interval '61 s' WHERE user_id IN (:u)")


def _work(scene: Scene, job: str) -> None:
    """Run a job; when the database or a peer breaks off, it is run again another time."""
    try:
        scene.shop.work(job)
    except (sqlalchemy.exc.OperationalError, DependencyAway):
        return
