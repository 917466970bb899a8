"""The cart."""

import pytest

from tests.order.shop import Person, Shop, at_once, refusal, wrong_fields


def test_a_new_cart_is_empty_and_asks_nobody(shop: Shop, buyer: Person):
    shop.products.before["lookup"] = lambda _: 500
    assert buyer.get("/cart").json == {"items": [], "total_amount": "0.00", "currency": "CNY"}


def test_the_cart_shows_the_price_of_today(shop: Shop, buyer: Person, tea: int):
    buyer.put_in_cart(tea, 3)
    shop.products.products[tea].price = "12.50"
    cart = buyer.get("/cart").json
    assert cart["total_amount"] == "37.50"
    assert cart["items"] == [
        {
            "product_id": tea,
            "name": "龙井茶 Longjing",
            "image_url": None,
            "unit_price": "12.50",
            "quantity": 3,
            "subtotal": "37.50",
            "available": 100,
        }
    ]


def test_putting_answers_the_cart_and_replaces_the_quantity(buyer: Person, tea: int):
    buyer.put_in_cart(tea, 3)
    answer = buyer.send("PUT", f"/cart/items/{tea}", {"quantity": 5})
    assert [item["quantity"] for item in answer.json["items"]] == [5]


def test_lines_stay_in_the_order_in_which_they_came(shop: Shop, buyer: Person):
    products = [shop.products.add() for _ in range(3)]
    for product in reversed(products):
        buyer.put_in_cart(product)
    buyer.put_in_cart(products[1], 7)
    shown = [item["product_id"] for item in buyer.get("/cart").json["items"]]
    assert shown == list(reversed(products))


def test_an_archived_product_in_the_cart_shows_as_not_available_and_can_be_removed(
    shop: Shop, buyer: Person, tea: int
):
    buyer.put_in_cart(tea)
    shop.products.products[tea].status = "archived"
    assert buyer.get("/cart").json["items"][0]["available"] == 0
    assert buyer.send("DELETE", f"/cart/items/{tea}").status_code == 204
    assert buyer.get("/cart").json["items"] == []


@pytest.mark.parametrize(
    "path", ["/cart/items/999999", "/cart/items/0", "/cart/items/tea", f"/cart/items/{10**30}"]
)
def test_an_unknown_product_is_404(buyer: Person, path: str):
    assert refusal(buyer.send("PUT", path, {"quantity": 1})) == (404, "not_found")
    assert refusal(buyer.send("DELETE", path)) == (404, "not_found")


def test_an_archived_product_is_404(shop: Shop, buyer: Person):
    archived = shop.products.add(status="archived")
    assert refusal(buyer.send("PUT", f"/cart/items/{archived}", {"quantity": 1})) == (404, "not_found")


@pytest.mark.parametrize("body", [{"quantity": wrong} for wrong in (0, 100, "1", 1.5, None)] + [{}])
def test_a_wrong_quantity_is_422(buyer: Person, tea: int, body: dict):
    assert wrong_fields(buyer.send("PUT", f"/cart/items/{tea}", body)) == ["quantity"]


def test_clearing_empties_only_ones_own_cart(shop: Shop, buyer: Person, admin: Person, tea: int):
    buyer.put_in_cart(tea)
    admin.put_in_cart(tea)
    assert buyer.send("DELETE", "/cart").status_code == 204
    assert buyer.get("/cart").json["items"] == []
    assert len(admin.get("/cart").json["items"]) == 1


def test_a_cart_holds_at_most_100_products(shop: Shop, buyer: Person):
    products = [shop.products.add() for _ in range(101)]
    for product in products[:100]:
        buyer.put_in_cart(product)
    assert refusal(buyer.send("PUT", f"/cart/items/{products[100]}", {"quantity": 1})) == (409, "cart_full")
    buyer.put_in_cart(products[0], 9)


def test_the_product_service_being_away_is_503(shop: Shop, buyer: Person, tea: int):
    buyer.put_in_cart(tea)
    shop.products.before["lookup"] = lambda _: 500
    answer = buyer.get("/cart")
    assert refusal(answer) == (503, "service_unavailable")
    assert answer.headers["Retry-After"]
    assert refusal(buyer.send("PUT", f"/cart/items/{tea}", {"quantity": 1})) == (503, "service_unavailable")


def test_a_cart_of_any_length_takes_one_lookup_and_one_statement(shop: Shop, buyer: Person):
    counts = []
    for _ in range(2):
        for _ in range(5):
            buyer.put_in_cart(shop.products.add())
        asked = len(shop.products.calls)
        with shop.statements() as sent:
            buyer.get("/cart")
        counts.append((len(shop.products.calls) - asked, len(sent)))
    assert counts == [(1, 1), (1, 1)]


def test_many_changes_at_once_are_all_kept(shop: Shop, buyer: Person):
    products = [shop.products.add() for _ in range(12)]
    at_once(*(lambda p=product: buyer.put_in_cart(p) for product in products))
    assert sorted(item["product_id"] for item in buyer.get("/cart").json["items"]) == sorted(products)


def test_nobody_has_a_cart_without_signing_in(shop: Shop):
    answer = shop.app.test_client().get("/api/v1/cart")
    assert refusal(answer) == (401, "unauthorized")
