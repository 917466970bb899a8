"""The books that the order service compares with its own."""

from product_service.services import books
from tests.product.shop import new_id


def read(shop, query=""):
    answer = shop.peer("GET", "/books" + query, scope="books.read")
    assert answer.status_code == 200, answer.text
    return answer.get_json()["items"]


def fill(shop, ids, status):
    """Plant 1000 reservations of two pieces of each product; `status` is SQL and knows their number `n`."""
    shop.sql(
        f"INSERT INTO reservations (order_id, status) SELECT gen_random_uuid(), {status}"
        " FROM generate_series(1, 1000) n"
    )
    shop.sql(
        "INSERT INTO reserved_lines (order_id, product_id, quantity, sku, name, unit_price)"
        " SELECT order_id, product_id, 2, 'S', 'Tea', 1"
        " FROM reservations, unnest(CAST(:ids AS bigint[])) AS product_id",
        ids=ids,
    )


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


def test_a_page_of_the_books_ends_early_after_products_whose_stock_changed_often(shop, monkeypatch):
    monkeypatch.setattr(books, "CHANGES_AT_ONCE", 100)
    ids = [shop.add(f"Tea {number}", stock=1)["id"] for number in range(5)]
    for product_id, changes in zip(ids, (60, 30, 10, 500, 1), strict=True):
        shop.sql("UPDATE products SET stock_version = :n WHERE id = :id", n=changes, id=product_id)
    pages, after = [], 0
    while page := [item["product_id"] for item in read(shop, f"?after={after}")]:
        pages.append(page)
        after = page[-1]
    assert pages == [ids[:3], ids[3:4], ids[4:]]


def test_what_was_released_is_neither_held_nor_sold_however_much_it_is(shop):
    ids = [shop.add(f"Tea {number}")["id"] for number in range(4)]
    fill(shop, ids[:3], "CASE WHEN n % 2 = 0 THEN 'released' WHEN n % 5 = 0 THEN 'held' ELSE 'sold' END")
    whole = [(ids[0], 200, 800), (ids[1], 200, 800), (ids[2], 200, 800), (ids[3], 0, 0)]
    # As after a restore, and as usually.
    for prepare in ("SELECT 1", "ANALYZE reservations, reserved_lines, products"):
        shop.sql(prepare)
        told = [(one["product_id"], one["held"], one["sold"]) for one in read(shop)]
        assert told == whole
        page = read(shop, f"?after={ids[0]}&limit=1")
        assert [(one["held"], one["sold"]) for one in page] == [(200, 800)]
    shop.sql("UPDATE reservations SET status = 'released'")
    assert {(one["held"], one["sold"]) for one in read(shop)} == {(0, 0)}


def test_the_books_are_added_up_from_indexes(shop):
    ids = [shop.add(f"Tea {number}", stock=10)["id"] for number in range(10)]
    fill(shop, ids, "CASE WHEN n % 100 = 0 THEN 'held' ELSE 'sold' END")
    shop.sql(
        "INSERT INTO stock_movements (product_id, delta, reason, order_id)"
        " SELECT product_id, -quantity, 'order', order_id FROM reserved_lines"
    )
    shop.sql("ANALYZE reservations, reserved_lines, stock_movements, products")
    assert {(one["held"], one["sold"]) for one in read(shop)} == {(20, 1980)}
    # Where a page is but a part of the shop.
    limits = {"after": ids[4], "limit": 1, "changes": books.CHANGES_AT_ONCE}
    plan = "\n".join(row[0] for row in shop.sql(f"EXPLAIN {books._BOOKS.text}", **limits))
    for index in ("ix_reserved_lines_books", "ix_stock_movements_books", "ix_reservations_unsold"):
        assert f"using {index}" in plan or f"on {index}" in plan, plan
