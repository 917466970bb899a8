"""Adding, reading, changing and archiving products."""

import pytest

from tests.contracts.event_schemas import problems
from tests.product.shop import at_once, settled

FIELDS = {
    "id", "sku", "name", "description", "price", "currency", "stock", "sales", "category_id", "image_url",
    "low_stock_threshold", "status", "version", "created_at", "updated_at",
}  # fmt: skip


def test_a_product_is_shown_as_it_was_added(shop):
    category = shop.add_category()
    said = {
        "name": "龙井茶",
        "price": "128.00",
        "sku": "TEA-7",
        "description": "明前",
        "stock": 20,
        "category_id": category,
        "low_stock_threshold": 3,
    }
    answer = shop.manage("POST", "/products", said)
    product = answer.get_json()
    assert answer.status_code == 201
    assert product.keys() == FIELDS
    assert {name: product[name] for name in said} == said
    assert (product["currency"], product["status"], product["version"]) == ("CNY", "active", 1)
    assert (product["sales"], product["image_url"]) == (0, None)
    assert product["created_at"].endswith("Z")
    assert answer.headers["Location"] == f"/api/v1/products/{product['id']}"
    assert shop.get(f"/products/{product['id']}").get_json() == product


def test_only_name_and_price_are_needed(shop):
    first, second = shop.add(), shop.add()
    assert (first["stock"], first["low_stock_threshold"], first["description"]) == (0, 5, None)
    assert first["sku"]
    assert first["sku"] != second["sku"]


def test_a_price_may_be_a_json_number(shop):
    assert shop.manage("POST", "/products", {"name": "a", "price": 19.9}).get_json()["price"] == "19.90"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": None}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"price": "0.00"}, "price"),
        ({"price": "10000000.00"}, "price"),
        ({"price": "1.999"}, "price"),
        ({"price": -1}, "price"),
        ({"price": True}, "price"),
        ({"stock": -1}, "stock"),
        ({"stock": 2**31}, "stock"),
        ({"stock": 1.5}, "stock"),
        ({"stock": "5"}, "stock"),
        ({"description": "x" * 20_001}, "description"),
        ({"description": "a\0b"}, "description"),
        ({"sku": ""}, "sku"),
        ({"sku": "x" * 65}, "sku"),
        ({"low_stock_threshold": -1}, "low_stock_threshold"),
        ({"category_id": 999}, "category_id"),
        ({"category_id": 10**30}, "category_id"),
        ({"version": 7}, "version"),
        ({"id": 7}, "id"),
        ({"sales": 7}, "sales"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_nothing_is_added(shop, changes, field):
    answer = shop.manage("POST", "/products", {"name": "Tea", "price": "1.00", **changes})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert shop.events() == []
    assert shop.sql("SELECT id FROM products") == []


@pytest.mark.parametrize("missing", ["name", "price"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_name_and_price_are_required(shop, method, missing):
    path = "/products" if method == "POST" else f"/products/{shop.add()['id']}"
    body = {"name": "Tea", "price": "1.00"}
    del body[missing]
    answer = shop.manage(method, path, body)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == missing


def test_the_longest_description_is_kept_and_searchable(shop):
    text = "".join(chr(0x4E00 + i) for i in range(19_990)) + " endword"
    product = shop.add(description=text)
    assert shop.product(product["id"])["description"] == text
    assert len(shop.get("/products?q=endword").get_json()["items"]) == 1


def test_a_sku_that_is_taken_is_refused(shop):
    shop.add(sku="TEA")
    other = shop.add(sku="COFFEE")
    added = shop.manage("POST", "/products", {"name": "x", "price": "1.00", "sku": "TEA"})
    changed = shop.manage("PUT", f"/products/{other['id']}", {"name": "x", "price": "1.00", "sku": "TEA"})
    assert [(a.status_code, a.get_json()["code"]) for a in (added, changed)] == [(409, "sku_taken")] * 2
    assert shop.product(other["id"]) == other


def test_one_of_many_at_once_gets_the_sku(shop):
    body = {"name": "x", "price": "1.00", "sku": "ONE"}
    codes = at_once(lambda _: settled(lambda: shop.manage("POST", "/products", body)), 10, threads=10)
    assert sorted(codes) == [201] + [409] * 9


def test_a_change_keeps_what_is_left_out(shop):
    category = shop.add_category()
    before = shop.add(description="old", sku="S", stock=3, category_id=category, low_stock_threshold=9)
    answer = shop.manage("PUT", f"/products/{before['id']}", {"name": "new", "price": "2.00"})
    after = answer.get_json()
    assert answer.status_code == 200
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"name", "price", "version", "updated_at"}
    assert after["version"] == 2
    assert after["updated_at"] > before["updated_at"]
    assert shop.get(f"/products/{before['id']}").get_json() == after


def test_null_empties_a_field_that_may_be_empty(shop):
    before = shop.add(description="old", category_id=shop.add_category())
    body = {"name": "x", "price": "1.00", "description": None, "category_id": None}
    after = shop.manage("PUT", f"/products/{before['id']}", body).get_json()
    assert (after["description"], after["category_id"]) == (None, None)


def test_the_stock_is_not_changed_with_the_product(shop):
    product = shop.add(stock=3)
    body = {"name": "x", "price": "1.00", "stock": 3}
    answer = shop.manage("PUT", f"/products/{product['id']}", body)
    assert answer.status_code == 422
    (error,) = answer.get_json()["errors"]
    assert error["field"] == "stock"
    assert "/stock" in error["message"]
    assert shop.product(product["id"]) == product


def test_an_archived_product_is_hidden_from_all_but_administrators(shop, bearer):
    product = shop.add()
    assert shop.manage("DELETE", f"/products/{product['id']}").status_code == 204
    path = f"/products/{product['id']}"
    assert shop.get(path).status_code == 404
    assert shop.get(path, **bearer("customer")).status_code == 404
    assert shop.get(path, Authorization="Bearer nonsense").status_code == 404
    assert shop.manage("GET", path).get_json()["status"] == "archived"
    assert shop.get("/products").get_json()["items"] == []
    assert shop.get("/products?status=archived").get_json()["items"] == []
    assert len(shop.manage("GET", "/products?status=archived").get_json()["items"]) == 1


def test_archiving_again_changes_nothing(shop):
    product = shop.add()
    codes = [shop.manage("DELETE", f"/products/{product['id']}").status_code for _ in range(2)]
    assert codes == [204, 204]
    assert shop.product(product["id"])["version"] == 2
    assert len(shop.events("product.updated")) == 1


def test_an_archived_product_comes_back_by_its_status(shop):
    product = shop.add()
    shop.manage("DELETE", f"/products/{product['id']}")
    shop.manage("PUT", f"/products/{product['id']}", {"name": "x", "price": "1.00", "status": "active"})
    assert shop.get(f"/products/{product['id']}").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"name": "x", "price": "1.00"}),
        ("DELETE", "", None),
        ("POST", "/stock", {"delta": 1, "reason": "x"}),
        ("GET", "/stock/movements", None),
    ],
)
@pytest.mark.parametrize("product_id", ["1", "0", "-1", "abc", "99999999999999999999", "1.0"])
def test_an_unknown_or_malformed_id_is_not_found(shop, method, path, body, product_id):
    assert shop.manage(method, f"/products/{product_id}{path}", body).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/products"),
        ("PUT", "/products/1"),
        ("DELETE", "/products/1"),
        ("POST", "/products/1/stock"),
        ("GET", "/products/1/stock/movements"),
        ("POST", "/categories"),
        ("PUT", "/categories/1"),
        ("DELETE", "/categories/1"),
    ],
)
def test_the_shop_is_managed_by_administrators_alone(shop, bearer, method, path):
    assert shop.call(method, "/api/v1" + path).status_code == 401
    assert shop.call(method, "/api/v1" + path, **bearer("customer")).status_code == 403


def test_adding_and_changing_are_told_with_the_product(shop):
    added = shop.add(stock=4)
    changed = shop.manage("PUT", f"/products/{added['id']}", {"name": "x", "price": "1.00"}).get_json()
    shop.manage("DELETE", f"/products/{added['id']}")
    told = shop.events()
    assert [event["type"] for event in told] == [
        "product.created",
        "product.stock.updated",
        "product.updated",
        "product.updated",
    ]
    assert [problem for event in told for problem in problems(_as_sent(event))] == []
    assert told[0]["data"] == added
    assert told[2]["data"] == changed
    assert told[3]["data"]["status"] == "archived"
    assert {event["subject"] for event in told} == {str(added["id"])}


def _as_sent(event):
    return {**event, "time": event["time"].isoformat().replace("+00:00", "Z")}
