"""Lists and single orders, for buyers and administrators."""

from base64 import b64encode
from json import dumps
from typing import Any
from urllib.parse import quote

import pytest

from tests.order.shop import Person, Shop, refusal, wrong_fields


@pytest.fixture
def ten(buyer: Person, tea: int) -> list[str]:
    """Ten orders, newest first: every second is paid."""
    orders = [buyer.ordered((tea, 1))["id"] for _ in range(10)]
    for order_id in orders[::2]:
        buyer.pay(order_id)
    return orders[::-1]


def walk(person: Person, path: str) -> list[str]:
    """Follow the cursors to the end; return the ids."""
    ids: list[str] = []
    page: dict[str, Any] = {"next_cursor": ""}
    while page["next_cursor"] is not None:
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else ""
        page = person.get(path + cursor).json
        ids += [order["id"] for order in page["items"]]
    return ids


def test_pages_show_every_order_once_newest_first(buyer: Person, ten: list[str]):
    assert walk(buyer, "/orders?limit=3") == ten
    assert walk(buyer, "/orders?limit=10") == ten
    assert [order["id"] for order in buyer.get("/orders").json["items"]] == ten


def test_an_order_that_comes_meanwhile_shifts_nothing(buyer: Person, ten: list[str], tea: int):
    first = buyer.get("/orders?limit=5").json
    buyer.ordered((tea, 1))
    second = buyer.get(f"/orders?limit=5&cursor={first['next_cursor']}").json
    assert [order["id"] for order in second["items"]] == ten[5:]
    assert second["next_cursor"] is None


def test_a_list_shows_orders_as_they_are_alone(buyer: Person, ten: list[str]):
    assert buyer.get("/orders?limit=1").json["items"] == [buyer.see(ten[0])]


def test_the_status_filters(buyer: Person, ten: list[str]):
    assert walk(buyer, "/orders?status=paid&limit=2") == ten[1::2]
    assert walk(buyer, "/orders?status=pending&limit=2") == ten[::2]
    assert walk(buyer, "/orders?status=shipped") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("limit=101", "query.limit"),
        ("limit=x", "query.limit"),
        ("status=reserving", "query.status"),
        ("status=", "query.status"),
    ],
)
def test_a_wrong_parameter_is_422(buyer: Person, query: str, field: str):
    assert wrong_fields(buyer.get(f"/orders?{query}")) == [field]


def cursor_of(*values: str) -> str:
    """Forge a cursor."""
    return b64encode(dumps(["-created_at,id", *values]).encode()).decode()


NOBODY = "00000000-0000-0000-0000-000000000000"
FORGED = [
    cursor_of("0001-01-01T00:00:00+23:59", NOBODY),
    cursor_of("9999-12-31T23:59:59-23:59", NOBODY),
    cursor_of("2026-11-23T08:00:00", NOBODY),
    cursor_of("2026-11-23T08:00:00+00:00", "x"),
]


@pytest.mark.parametrize("cursor", ["x", "", "e30", "eyJhIjoxfQ", "中", *FORGED])
def test_a_wrong_cursor_is_400(buyer: Person, cursor: str):
    assert refusal(buyer.get(f"/orders?cursor={quote(cursor)}")) == (400, "invalid_cursor")


def test_nobody_sees_anothers(shop: Shop, buyer: Person, ten: list[str]):
    stranger = shop.person(buyer.user_id + 10**6)
    assert stranger.get("/orders").json["items"] == []
    assert refusal(stranger.get(f"/orders/{ten[0]}")) == (404, "not_found")


@pytest.mark.parametrize("order_id", ["0d3d38e7-4866-4d61-9145-46738f791548", "x", "1", "00000000"])
def test_an_unknown_id_is_404(buyer: Person, admin: Person, order_id: str):
    assert refusal(buyer.get(f"/orders/{order_id}")) == (404, "not_found")
    assert refusal(admin.get(f"/admin/orders/{order_id}")) == (404, "not_found")


class TestAdministrators:
    def test_they_see_everybodys(self, buyer: Person, admin: Person, ten: list[str]):
        assert admin.get(f"/admin/orders/{ten[0]}").json == buyer.see(ten[0])
        assert walk(admin, "/admin/orders?limit=100")[:10] == ten

    def test_they_filter_by_person_and_status(self, buyer: Person, admin: Person, ten: list[str]):
        assert walk(admin, f"/admin/orders?user_id={buyer.user_id}&limit=4") == ten
        assert walk(admin, f"/admin/orders?user_id={buyer.user_id}&status=paid") == ten[1::2]

    def test_they_filter_by_time_with_both_ends(self, buyer: Person, admin: Person, ten: list[str]):
        newer, older = (buyer.see(ten[i])["created_at"] for i in (2, 5))
        query = f"user_id={buyer.user_id}&created_from={older}&created_to={newer}"
        assert walk(admin, f"/admin/orders?{query}") == ten[2:6]

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("created_from=yesterday", "query.created_from"),
            ("created_to=2026-11-23", "query.created_to"),
            ("created_to=2026-11-23T08:00:00", "query.created_to"),
            ("created_to=1", "query.created_to"),
            ("created_to=1795421506.5", "query.created_to"),
            ("user_id=0", "query.user_id"),
            (f"user_id={2**63}", "query.user_id"),
        ],
    )
    def test_a_wrong_filter_is_422(self, admin: Person, query: str, field: str):
        assert wrong_fields(admin.get(f"/admin/orders?{query}")) == [field]

    @pytest.mark.parametrize(
        "time",
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-11-23T08:00:00%2B08:00"],
    )
    def test_any_time_of_rfc_3339_is_taken(self, admin: Person, time: str):
        assert admin.get(f"/admin/orders?created_from={time}&created_to={time}").status_code == 200

    @pytest.mark.parametrize("time", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"])
    def test_a_time_that_utc_does_not_have_is_422(self, admin: Person, time: str):
        assert wrong_fields(admin.get(f"/admin/orders?created_from={time}")) == ["query.created_from"]

    def test_nobody_else_does(self, buyer: Person, ten: list[str]):
        assert refusal(buyer.get("/admin/orders")) == (403, "forbidden")
        assert refusal(buyer.get(f"/admin/orders/{ten[0]}")) == (403, "forbidden")


def test_a_page_takes_three_statements_however_long_it_is(buyer: Person, shop: Shop, ten: list[str]):
    for limit in (1, 10):
        with shop.statements() as sent:
            assert len(buyer.get(f"/orders?limit={limit}").json["items"]) == limit
        assert len(sent) == 3


def test_a_page_is_read_from_an_index(own_shop: Shop):
    own_shop.rows(
        "INSERT INTO orders (id, user_id, status, total_amount, currency, requested, created_at, updated_at)"
        " SELECT gen_random_uuid(), n % 100, 'pending', 20, 'CNY', '[]', now() - n * interval '1 s', now()"
        " FROM generate_series(1, 5000) n"
    )
    own_shop.rows("ANALYZE orders")
    for condition, index in [
        ("user_id = 7 AND", "ix_orders_user_id_created_at"),
        ("", "ix_orders_created_at"),
        ("status = 'paid' AND", "ix_orders_status_created_at"),
    ]:
        plan = own_shop.rows(
            f"EXPLAIN SELECT * FROM orders WHERE {condition} status NOT IN ('reserving', 'abandoned')"
            " AND (created_at, id) < (now(), gen_random_uuid()) ORDER BY created_at DESC, id DESC LIMIT 21"
        )
        assert index in str(plan)
