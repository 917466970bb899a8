"""The books that the order service compares with its own."""

from tests.product.shop import new_id


def read(shop, query=""):
    answer = shop.peer("GET", "/books" + query, scope="books.read")
    assert answer.status_code == 200, answer.text
    return answer.get_json()["items"]


def test_the_books_tell_every_column_and_add_up(shop):
    tea, cup = shop.add("Tea", stock=10), shop.add("Cup")
    orders = [new_id() for _ in range(3)]
    for order_id, pieces in zip(orders, (1, 2, 3), strict=True):
        assert shop.reserve({tea["id"]: pieces}, order_id).status_code == 201
    shop.sql("UPDATE reservations SET status = 'sold' WHERE order_id = :id", id=orders[1])
    shop.release(orders[2])
    for delta, reason in ((5, "delivery"), (-1, "lost"), (2, "return")):
        body = {"delta": delta, "reason": reason}
        assert shop.manage("POST", f"/products/{tea['id']}/stock", body).status_code in (200, 201)
    assert read(shop) == [
        {
            "product_id": tea["id"],
            "stock": 13,
            "delivered": 14,
            "returned": 2,
            "held": 1,
            "sold": 2,
        },
        {"product_id": cup["id"], "stock": 0, "delivered": 0, "returned": 0, "held": 0, "sold": 0},
    ]


def test_the_books_come_in_pages_in_one_statement(shop):
    ids = [shop.add(f"Tea {number}", stock=1)["id"] for number in range(5)]
    shop.manage("DELETE", f"/products/{ids[3]}")
    with shop.counted() as statements:
        page = read(shop, f"?after={ids[1]}&limit=2")
    assert [item["product_id"] for item in page] == ids[2:4]
    assert len([one for one in statements if "stock_movements" in one]) == 1
    assert shop.peer("GET", "/books?limit=501", scope="books.read").status_code == 422
