"""Ordering to one of one's own addresses, which the user service knows."""

import time
from collections.abc import Iterator

import pytest

from tests.order.product_books import Drop
from tests.order.shop import ADDRESS, Person, Shop, refusal, wrong_fields

HOME = 7


@pytest.fixture
def home(shop: Shop, buyer: Person) -> Iterator[int]:
    """The id of the buyer's address."""
    shop.products.addresses[(buyer.user_id, HOME)] = dict(ADDRESS)
    yield HOME
    shop.products.addresses.clear()


def asked(shop: Shop) -> int:
    """Count how often the user service was asked for an address."""
    return [call for call, _ in shop.products.calls].count("address")


def test_the_order_keeps_a_copy(shop: Shop, buyer: Person, tea: int, home: int):
    order = buyer.ordered((tea, 1), address_id=home)
    assert order["address"] == ADDRESS
    shop.products.addresses[(buyer.user_id, home)]["city"] = "上海"
    assert buyer.see(order["id"])["address"] == ADDRESS


def test_an_address_without_a_postal_code_is_one(shop: Shop, buyer: Person, tea: int, home: int):
    shop.products.addresses[(buyer.user_id, home)]["postal_code"] = None
    assert buyer.ordered((tea, 1), address_id=home)["address"] == ADDRESS | {"postal_code": None}


def test_a_cart_can_go_there_too(buyer: Person, tea: int, home: int):
    buyer.put_in_cart(tea, 2)
    assert buyer.ordered(address_id=home)["address"] == ADDRESS


def test_the_request_id_travels_there(shop: Shop, buyer: Person, tea: int, home: int):
    body = {"items": [{"product_id": tea, "quantity": 1}], "address_id": home}
    seen: list[str] = []
    shop.products.before["address"] = lambda _: seen.append(shop.products.headers[-1]["X-Request-ID"])
    buyer.send("POST", "/orders", body, headers={"X-Request-ID": "r-7"})
    assert seen == ["r-7"]


@pytest.mark.parametrize("whose", ["another's", "nobody's"])
def test_an_address_that_is_not_ones_own_is_422_and_changes_nothing(
    shop: Shop, buyer: Person, admin: Person, tea: int, home: int, whose: str
):
    person, address_id = (admin, home) if whose == "another's" else (buyer, home + 1)
    answer = person.order((tea, 1), address_id=address_id, key="k")
    assert wrong_fields(answer) == ["address_id"]
    assert shop.orders_of(person.user_id) == []
    assert shop.products.stock(tea) == 100
    # And the key is as free as before.
    assert person.order((tea, 1), key="k").status_code == 201


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"address": ADDRESS, "address_id": HOME}, ["address_id"]),
        ({"address_id": 0}, ["address_id"]),
        ({"address_id": "7"}, ["address_id"]),
        ({"address_id": 10**30}, ["address_id"]),
    ],
)
def test_what_can_not_be_is_422_before_anybody_is_asked(
    shop: Shop, buyer: Person, tea: int, home: int, fields: dict, wrong: list[str]
):
    before = asked(shop)
    assert wrong_fields(buyer.order((tea, 1), **fields)) == wrong
    assert asked(shop) == before


def test_null_is_as_if_it_were_absent(buyer: Person, tea: int):
    assert buyer.ordered((tea, 1), address=ADDRESS, address_id=None)["address"] == ADDRESS
    assert buyer.ordered((tea, 1), address=None, address_id=None)["address"] is None


class TestTheUserServiceAway:
    def drop(self, _address_id: str) -> int:
        raise Drop

    @pytest.mark.parametrize("how", ["500", "401", "drop"])
    def test_it_is_503_and_changes_nothing(self, shop: Shop, buyer: Person, tea: int, home: int, how: str):
        shop.products.before["address"] = self.drop if how == "drop" else lambda _: int(how)
        answer = buyer.order((tea, 1), address_id=home, key="k")
        assert refusal(answer) == (503, "service_unavailable")
        assert answer.headers["Retry-After"]
        assert shop.orders_of(buyer.user_id) == []
        shop.products.before.clear()
        assert buyer.order((tea, 1), address_id=home, key="k").status_code == 201

    def test_its_silence_lasts_less_than_6_s(self, shop: Shop, buyer: Person, tea: int, home: int):
        shop.products.before["address"] = lambda _: time.sleep(3)
        started = time.monotonic()
        assert refusal(buyer.order((tea, 1), address_id=home)) == (503, "service_unavailable")
        assert time.monotonic() - started < 6
        assert asked(shop) >= 1

    def test_an_order_without_an_address_id_goes_on(self, shop: Shop, buyer: Person, tea: int):
        shop.products.before["address"] = self.drop
        assert buyer.ordered((tea, 1), address=ADDRESS)["address"] == ADDRESS


class TestItsKey:
    def test_a_repeated_request_is_answered_again_though_the_address_is_gone(
        self, shop: Shop, buyer: Person, tea: int, home: int
    ):
        first = buyer.order((tea, 1), address_id=home, key="k")
        shop.products.addresses.clear()
        before = asked(shop)
        second = buyer.order((tea, 1), address_id=home, key="k")
        assert (second.status_code, second.json) == (201, first.json)
        assert second.headers["Idempotent-Replayed"] == "true"
        assert asked(shop) == before

    def test_it_belongs_to_its_address(self, buyer: Person, tea: int, home: int):
        buyer.order((tea, 1), address_id=home, key="k")
        other = buyer.order((tea, 1), address_id=home + 1, key="k")
        assert refusal(other) == (422, "idempotency_key_reused")


def test_no_transaction_is_open_while_the_user_service_is_asked(
    shop: Shop, buyer: Person, tea: int, home: int
):
    seen: list[int] = []

    def look(_address_id: str) -> None:
        [row] = shop.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        seen.append(row.count)

    shop.products.before["address"] = look
    assert buyer.order((tea, 1), address_id=home, key="k").status_code == 201
    assert seen == [0]
