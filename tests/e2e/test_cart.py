"""The cart: today's price and what can be had now."""

import pytest

LINE = {"product_id", "name", "image_url", "unit_price", "quantity", "subtotal", "available"}


def put(buyer, product_id, quantity):
    """Put so many pieces into the cart."""
    reply = buyer.put(f"/cart/items/{product_id}", {"quantity": quantity})
    assert reply.status in (200, 204), reply.raw
    return reply


def test_is_empty_at_first(customer):
    cart = customer.get("/cart").expect(200)
    assert (cart["items"], cart["total_amount"], cart["currency"]) == ([], "0.00", "CNY")


def test_adds_up_what_is_put_in(customer, new_product):
    tea, pot = new_product(price="19.90", stock=7), new_product(price="120.05")
    put(customer, tea["id"], 3)
    put(customer, pot["id"], 1)
    cart = customer.get("/cart").expect(200)
    lines = {line["product_id"]: line for line in cart["items"]}
    assert set(lines[tea["id"]]) >= LINE
    assert (lines[tea["id"]]["name"], lines[tea["id"]]["unit_price"]) == (tea["name"], "19.90")
    assert (lines[tea["id"]]["quantity"], lines[tea["id"]]["subtotal"]) == (3, "59.70")
    assert lines[tea["id"]]["available"] == 7
    assert cart["total_amount"] == "179.75"


def test_keeps_the_quantity_that_was_put_last(customer, new_product):
    product = new_product()
    for quantity in (5, 2):
        put(customer, product["id"], quantity)
    assert [line["quantity"] for line in customer.get("/cart").expect(200)["items"]] == [2]


def test_shows_the_price_of_today(customer, admin, new_product):
    product = new_product(price="10.00")
    put(customer, product["id"], 2)
    admin.put(f"/products/{product['id']}", {"name": "renamed", "price": "11.00"}).expect(200)
    line = customer.get("/cart").expect(200)["items"][0]
    assert (line["name"], line["unit_price"], line["subtotal"]) == ("renamed", "11.00", "22.00")


def test_says_that_an_archived_product_is_not_to_be_had(customer, admin, new_product):
    product = new_product()
    put(customer, product["id"], 1)
    admin.delete(f"/products/{product['id']}").expect(204)
    assert [line["available"] for line in customer.get("/cart").expect(200)["items"]] == [0]


def test_lets_go_of_one_line_or_all(customer, new_product):
    kept, gone = new_product()["id"], new_product()["id"]
    put(customer, kept, 1)
    put(customer, gone, 1)
    assert customer.delete(f"/cart/items/{gone}").status in (200, 204)
    assert [line["product_id"] for line in customer.get("/cart").expect(200)["items"]] == [kept]
    assert customer.delete("/cart").status in (200, 204)
    assert customer.get("/cart").expect(200)["items"] == []


def test_belongs_to_its_user(customer, new_customer, new_product):
    put(customer, new_product()["id"], 1)
    assert new_customer().get("/cart").expect(200)["items"] == []


def test_refuses_what_is_not_for_sale(shopper, admin, new_product):
    archived = new_product()["id"]
    admin.delete(f"/products/{archived}").expect(204)
    for product_id in (archived, 999999999, "abc", 0, 10**20):
        shopper.put(f"/cart/items/{product_id}", {"quantity": 1}).refused(404, "not_found")


@pytest.mark.parametrize("quantity", [0, -1, 100, "2", 1.5, None, True, 10**12])
def test_takes_1_to_99_pieces(shopper, new_product, quantity):
    shopper.put(f"/cart/items/{new_product()['id']}", {"quantity": quantity}).invalid("quantity")


def test_is_for_those_who_are_signed_in(anyone):
    anyone.get("/cart").refused(401, "unauthorized")
    anyone.delete("/cart").refused(401, "unauthorized")
    anyone.put("/cart/items/1", {"quantity": 1}).refused(401, "unauthorized")
    anyone.delete("/cart/items/1").refused(401, "unauthorized")
