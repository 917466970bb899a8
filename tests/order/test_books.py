"""The books of the contract hold after many people did everything at once, with faults in between."""

import random
from collections import Counter
from decimal import Decimal

from tests.order.product_books import Drop
from tests.order.shop import Hooked, Person, Shop, at_once

PARCEL = {"carrier": "SF", "tracking_number": "1"}
DELIVERED = 200
JOBS = (
    "sweep intents",
    "expire orders",
    "settle payments",
    "finish refunds",
    "release reservations",
)


def come_to_rest(shop: Shop) -> None:
    """Let all time-outs pass and every job finish; let the product service hear of the cancelled orders."""
    shop.products.before.clear()
    shop.products.after.clear()
    for _ in range(3):
        shop.age(61, orders="created_at", payments="next_check_at", refunds="next_try_at")
        shop.age(61, releases="next_try_at")
        shop.work(*JOBS)
    cancelled = shop.rows("SELECT subject FROM events WHERE type = 'order.cancelled' ORDER BY sequence")
    for row in cancelled:
        shop.products.release(row.subject)


def check_the_books(shop: Shop, products: list[int]) -> None:
    """stock = delivered - held - sold (nothing is returned), and money as the provider's books say."""
    statement = (
        "SELECT product_id, status, sum(quantity)::int AS pieces FROM order_items"
        " JOIN orders ON orders.id = order_id GROUP BY product_id, status"
    )
    kept = Counter()
    for row in shop.rows(statement):
        if row.status in ("pending", "paid", "shipped", "completed"):
            kept[row.product_id] += row.pieces
    for product in products:
        assert shop.products.stock(product) == DELIVERED - kept[product]
    money = shop.rows(
        "SELECT o.id, o.status, o.total_amount, coalesce(sum(c.amount - c.refunded), 0) AS kept,"
        " count(c.key) AS captures, coalesce(sum(p.refunded_amount), 0) AS refunded,"
        " coalesce(sum(c.refunded), 0) AS given_back"
        " FROM orders o LEFT JOIN payments p ON p.order_id = o.id"
        " LEFT JOIN sandbox_charges c ON c.key = p.id AND c.status = 'captured' GROUP BY o.id"
    )
    for row in money:
        assert row.captures <= 1, row
        assert row.refunded == row.given_back, row
        if row.status in ("paid", "shipped", "completed"):
            assert row.kept + row.refunded == row.total_amount, row
        else:
            assert row.kept == Decimal(0), row
    left = shop.rows(
        "SELECT (SELECT count(*) FROM releases) + (SELECT count(*) FROM refunds WHERE status = 'processing')"
        " + (SELECT count(*) FROM payments WHERE status IN ('processing', 'requires_action'))"
        " + (SELECT count(*) FROM orders WHERE status = 'reserving') AS unfinished"
    )
    assert left[0].unfinished == 0


def shop_around(shop: Shop, seed: int, products: list[int]) -> None:
    """Do forty things in a row, as a few people would."""
    dice = random.Random(seed)
    buyer, admin = shop.person(seed), shop.person(9999, "admin")
    orders: list[str] = []
    for step in range(40):
        chosen = dice.sample(products, 2)
        match dice.randrange(8):
            case 0:
                orders += placed(buyer, chosen, f"{seed}-{step}", dice.randint(1, 5))
            case 1:
                buyer.send("PUT", f"/cart/items/{chosen[0]}", {"quantity": dice.randint(1, 3)})
                orders += placed(buyer, [], f"{seed}-{step}", 0)
            case 2 | 3 if orders:
                token = dice.choice([None, None, "tok_decline", "tok_timeout"])
                buyer.pay(dice.choice(orders), token)
            case 4 if orders:
                buyer.do("cancel", dice.choice(orders))
            case 5 if orders:
                admin.do("ship", dice.choice(orders), PARCEL)
            case 6 if orders:
                amount = dice.choice([{}, {"amount": "1.50"}])
                admin.do("refund", dice.choice(orders), {"reason": "x"} | amount)
            case 7 if orders:
                shop.rows("UPDATE orders SET expires_at = now() WHERE id = :o", o=dice.choice(orders))
                shop.work(*dice.sample(JOBS, 2))


def placed(buyer: Person, products: list[int], key: str, pieces: int) -> list[str]:
    """Order; once more with the same key when the answer was no answer."""
    for _ in range(3):
        answer = buyer.order(*((product, pieces) for product in products), key=key)
        if answer.status_code != 503:
            break
    return [answer.json["id"]] if answer.status_code == 201 else []


def unreliable(seed: int, *faults: float):
    """Make a hook that answers 500 or drops the connection now and then."""
    dice = random.Random(seed)

    def hook(_order_id: str) -> int | None:
        number = dice.random()
        if number < faults[0]:
            raise Drop
        return 500 if number < faults[1] else None

    return hook


def test_the_books_hold_after_a_storm_with_an_unreliable_product_service(own_shop: Shop):
    products = [own_shop.products.add(stock=DELIVERED) for _ in range(4)]
    for number, call in enumerate(("reserve", "release")):
        own_shop.products.before[call] = unreliable(number, 0.05, 0.1)
        own_shop.products.after[call] = unreliable(number + 10, 0.05, 0.1)
    with own_shop.provider(Hooked(own_shop)):
        at_once(*[lambda s=seed: shop_around(own_shop, s, products) for seed in range(1, 9)])
    come_to_rest(own_shop)
    check_the_books(own_shop, products)
    for row in own_shop.rows("SELECT subject FROM events WHERE type = 'order.paid'"):
        own_shop.products.sell(row.subject)
    own_shop.age(10, orders="updated_at")
    reconciled = own_shop.app.test_cli_runner().invoke(args=["reconcile", "--settle", "0"])
    assert (reconciled.output, reconciled.exit_code) == ("drift 0\n", 0)
    statuses = {row.status for row in own_shop.rows("SELECT DISTINCT status FROM orders")}
    assert {"abandoned", "pending", "paid", "shipped", "cancelled"} <= statuses
