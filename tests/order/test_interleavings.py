"""Every step of an order's way: a process dies there, loses an answer, or sleeps while its rivals act.

Afterwards, when the jobs have come to rest, one key has one order, nothing is paid without money or twice,
and all that was answered under a key is the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import pytest

from tests.order import ways
from tests.order.conftest import numbers
from tests.order.shop import Shop
from tests.order.test_books import DELIVERED, check_the_books, come_to_rest
from tests.order.ways import Act, Scene

MOST_STEPS = 60


@pytest.fixture(scope="module")
def stage(make_shop: Callable[..., Shop]) -> Shop:
    """A shop for all ways: whoever acts in it is new each time."""
    return make_shop()


# --- What must be true in the end.


def one_order(scene: Scene) -> None:
    """One key, one order, and the buyer knows it."""
    orders = [
        (id_, status) for id_, status in scene.shop.orders_of(scene.buyer.user_id) if status != "abandoned"
    ]
    assert orders == [(scene.answers[-1].json["id"], "pending")]
    assert scene.answers[-1].status_code == 201
    assert scene.shop.event_types(orders[0][0]) == ["order.created"]


def one_order_of_the_cart(scene: Scene) -> None:
    """However many keys it was ordered under."""
    orders = [id_ for id_, status in scene.shop.orders_of(scene.buyer.user_id) if status != "abandoned"]
    assert len(orders) == 1
    answer = scene.answers[-1]
    assert answer.status_code == 201 or answer.json["code"] in ("cart_empty", "cart_already_ordered")
    assert answer.json.get("order_id", orders[0]) == orders[0]
    assert scene.buyer.get("/cart").json["items"] == []


def no_order(scene: Scene) -> None:
    """The sum was another than the expected one."""
    assert {status for _, status in scene.shop.orders_of(scene.buyer.user_id)} == {"abandoned"}
    assert scene.answers[-1].json["code"] == "price_changed"


def payable(scene: Scene) -> None:
    """It is paid once, or cancelled, or can be paid; and the buyer was told what became of the payment."""
    if scene.buyer.see(scene.order_id)["status"] == "pending":
        assert scene.buyer.pay(scene.order_id).status_code == 200
    check_money(scene)
    made = scene.rows(
        "SELECT payments.status FROM payments JOIN idempotency_keys ON resource_id = payments.id"
        " WHERE user_id IN (:u) AND key = 'k'"
    )
    told = scene.answers[-1].status_code if scene.answers else 202
    assert {row.status for row in made} <= {
        200: {"captured", "refunded"},
        202: {"captured", "refunded", "failed", "declined"},
        402: {"failed", "declined"},
        409: {"refunded", "failed"},
    }[told]


def paid(scene: Scene) -> None:
    """Nothing kept the buyer from paying."""
    assert scene.buyer.see(scene.order_id)["status"] == "paid"
    payable(scene)


def paid_at_once(scene: Scene) -> None:
    """Whoever asked again under the key was told that it is paid."""
    paid(scene)
    assert scene.answers[-1].status_code == 200


def not_paid(scene: Scene) -> None:
    """The provider took nothing, and said so; the order can be paid again."""
    assert scene.answers[-1].json["code"] == "payment_declined"
    assert scene.buyer.pay(scene.order_id).status_code == 200


def cancelled(scene: Scene) -> None:
    """The order is cancelled once, and its money is back."""
    assert scene.buyer.see(scene.order_id)["status"] == "cancelled"
    check_money(scene)


def cancelled_or_shipped(scene: Scene) -> None:
    """One of both."""
    seen = scene.buyer.see(scene.order_id)
    assert seen["status"] in ("cancelled", "shipped")
    check_money(scene)


def a_part_refunded(scene: Scene) -> None:
    """One key, one refund; whatever is cancelled besides gives the rest back."""
    seen = scene.buyer.see(scene.order_id)
    parts = [one for one in scene.shop.events(scene.order_id) if one["type"] == "order.refunded"]
    back = [one["data"]["amount"] for one in parts]
    answer = scene.answers[-1]
    if answer.status_code >= 400:
        assert answer.json["code"] in ("order_not_refundable", "refund_exceeds_payment")
        assert back == ["20.00"]
    elif seen["status"] == "cancelled":
        assert sorted(back) == ["15.00", "5.00"]
    else:
        assert back == ["5.00"]
    check_money(scene)


def check_money(scene: Scene) -> None:
    """What the provider kept is what the order's status says, and its events too."""
    seen = scene.buyer.see(scene.order_id)
    types = scene.shop.event_types(scene.order_id)
    back = sum(
        Decimal(one["data"]["amount"])
        for one in scene.shop.events(scene.order_id)
        if one["type"] == "order.refunded"
    )
    kept = sum(scene.shop.captured(scene.order_id))
    assert types.count("order.created") == 1
    assert types.count("order.paid") <= 1
    assert types.count("order.cancelled") == (seen["status"] == "cancelled")
    if seen["status"] == "cancelled":
        assert kept == 0
    elif seen["status"] != "pending":
        assert types.count("order.paid") == 1
        assert kept + back == 20


# --- The table: what is there, what is done, what must be true, and whose rivals may act meanwhile.


@dataclass(frozen=True)
class Way:
    """One way, and what must be true after it: alone, where an answer was lost, or with rivals.

    `again` is what is asked once more after it.
    """

    before: Callable[[Scene], None]
    act: Act
    alone: Callable[[Scene], None]
    rivals: Sequence[Act]
    with_rivals: Callable[[Scene], None] | None = None
    lost: Callable[[Scene], None] | None = None
    again: Act | None = None


PAY_RIVALS = [
    ways.pay_again,
    ways.settle,
    ways.settle_and_pay_again,
    ways.cancel,
    ways.become_due_and_expire,
    ways.wait_no_longer_and_expire,
    ways.hear_success,
]
WAYS = {
    "placing": Way(
        ways.nothing,
        ways.place,
        one_order,
        [ways.place, ways.after_15_s(ways.place), ways.stall_and_sweep, ways.stall_and_release],
    ),
    "placing the cart": Way(
        ways.a_cart,
        ways.place_cart,
        one_order_of_the_cart,
        [ways.after_15_s(ways.place_cart), ways.order_cart_again, ways.stall_and_release],
    ),
    "placing at another price": Way(
        ways.nothing,
        ways.place_at_another_price,
        no_order,
        [ways.after_15_s(ways.place_at_another_price), ways.stall_and_release],
    ),
    "paying": Way(
        ways.an_order,
        ways.pay,
        paid_at_once,
        [ways.pay, ways.after_15_s(ways.pay), *PAY_RIVALS],
        payable,
        payable,
    ),
    "paying a silent provider": Way(
        ways.an_order,
        ways.pay_by_a_silent_provider,
        paid,
        [ways.after_15_s(ways.pay_by_a_silent_provider), ways.settle, ways.cancel],
        payable,
        payable,
    ),
    "paying in vain": Way(
        ways.an_order,
        ways.pay_in_vain,
        not_paid,
        [ways.after_15_s(ways.pay_in_vain), ways.settle],
        lost=payable,
    ),
    "cancelling while a payment is open": Way(
        ways.a_silent_payment,
        ways.cancel,
        cancelled,
        [ways.settle, ways.hear_success, ways.wait_no_longer_and_expire],
    ),
    "cancelling a paid order": Way(
        ways.a_paid_order,
        ways.cancel,
        cancelled,
        [
            ways.cancel,
            ways.finish_refunds,
            ways.ship,
            ways.refund_a_part,
        ],
        cancelled_or_shipped,
    ),
    "refunding a part": Way(
        ways.a_paid_order,
        ways.refund_a_part,
        a_part_refunded,
        [ways.after_15_s(ways.refund_a_part), ways.finish_refunds, ways.cancel, ways.ship],
    ),
    "refunding all": Way(
        ways.a_paid_order,
        ways.refund_all,
        cancelled,
        [ways.after_15_s(ways.refund_all), ways.cancel, ways.ship],
        cancelled_or_shipped,
    ),
    "hearing of success": Way(
        ways.an_open_payment,
        ways.hear_success,
        paid,
        [
            ways.hear_success,
            ways.settle,
            ways.cancel,
            ways.wait_no_longer_and_expire,
        ],
        payable,
    ),
    "expiring": Way(ways.a_due_order, ways.expire, cancelled, [ways.cancel, ways.pay_again]),
    "sweeping": Way(
        ways.a_stalled_intent,
        ways.sweep,
        one_order,
        [ways.sweep, ways.after_15_s(ways.place), ways.stall_and_release],
        again=ways.place,
    ),
    "releasing": Way(
        ways.a_release_owed,
        ways.release,
        one_order,
        [ways.release, ways.after_15_s(ways.place)],
        again=ways.place,
    ),
    "settling": Way(
        ways.a_silent_payment,
        ways.settle,
        paid,
        [
            ways.settle,
            ways.hear_success,
            ways.cancel,
            ways.wait_no_longer_and_expire,
        ],
        payable,
    ),
    "settling what never arrived": Way(
        ways.a_lost_payment,
        ways.settle,
        payable,
        [
            ways.settle,
            ways.after_15_s(ways.pay),
            ways.pay_again,
            ways.cancel,
        ],
        again=ways.pay,
    ),
    "finishing a refund": Way(
        ways.a_lost_refund,
        ways.finish_refunds,
        a_part_refunded,
        [ways.finish_refunds, ways.after_15_s(ways.refund_a_part), ways.cancel, ways.ship],
        again=ways.refund_a_part,
    ),
    "giving late money back": Way(
        ways.a_late_payment,
        ways.finish_refunds,
        cancelled,
        [
            ways.finish_refunds,
            ways.hear_success,
        ],
    ),
    "shipping": Way(ways.a_paid_order, ways.ship, cancelled_or_shipped, [ways.cancel, ways.refund_all]),
}


# --- The walk.


def scenes(stage: Shop) -> Iterator[tuple[int, Scene]]:
    """Make a scene for each step, all about one product."""
    tea = stage.products.add(stock=DELIVERED)
    for step in range(MOST_STEPS):
        buyer, admin = stage.person(next(numbers)), stage.person(next(numbers), "admin")
        yield step, Scene(stage, buyer, admin, tea)
    raise AssertionError("the way has no end")


def walk(
    stage: Shop, way: Way, take: Callable[[int, Scene], str | None], check: Callable[[Scene], None]
) -> None:
    """Stop at every step in turn; ask again after each, and look at the books when all is at rest."""
    walked: list[tuple[str, Scene]] = []
    for step, scene in scenes(stage):
        way.before(scene)
        stopped_at = take(step, scene)
        ask_again(way, scene)
        walked.append((stopped_at or "no step", scene))
        if stopped_at is None:
            break
    assert len(walked) > 1
    come_to_rest(stage)
    for stopped_at, scene in walked:
        try:
            check_answers(scene)
            check(scene)
        except BaseException as error:
            error.add_note(f"It stopped at step {stopped_at}. Answers: {[a.text for a in scene.answers]}")
            raise
    check_the_books(stage, [walked[0][1].tea])


def ask_again(way: Way, scene: Scene) -> None:
    """Do what a client does that has no definite answer, when the claim of whoever had it is old."""
    for _ in range(4):
        ways.outwait_claims(scene)
        answer = (way.again or way.act)(scene)
        if answer is None or ways.is_definite(answer):
            break


def check_answers(scene: Scene) -> None:
    """All that was answered under the key is the same."""
    for answer in scene.answers[1:]:
        assert (answer.status_code, answer.json) == (scene.answers[0].status_code, scene.answers[0].json)


@pytest.mark.parametrize("name", WAYS)
def test_a_process_may_die_at_every_step(stage: Shop, name: str):
    way = WAYS[name]

    def take(step: int, scene: Scene) -> str | None:
        process = scene.process(step)
        process.dies(lambda: way.act(scene))
        return process.stopped_at

    walk(stage, way, take, way.alone)


@pytest.mark.parametrize("name", WAYS)
def test_an_answer_may_be_lost_at_every_step(stage: Shop, name: str):
    way = WAYS[name]

    def take(step: int, scene: Scene) -> str | None:
        process = scene.process(step)
        process.loses_an_answer(lambda: way.act(scene))
        return process.stopped_at

    walk(stage, way, take, way.lost or way.alone)


PAIRS = [(name, rival) for name, way in WAYS.items() for rival in way.rivals]


@pytest.mark.parametrize(("name", "rival"), PAIRS, ids=[f"{name}-{rival.__name__}" for name, rival in PAIRS])
def test_a_process_may_sleep_at_every_step_while_rivals_act(stage: Shop, name: str, rival: Act):
    way = WAYS[name]

    def take(step: int, scene: Scene) -> str | None:
        process = scene.process(step)
        process.sleeps(lambda: way.act(scene), lambda: rival(scene))
        return process.stopped_at

    walk(stage, way, take, way.with_rivals or way.alone)
