"""The list of products: its orders, filters and pages."""

import base64

import pytest

from tests.product.shop import names


def walk(shop, path):
    """Return everything on all pages."""
    seen, cursor = [], ""
    while cursor is not None:
        page = shop.get(path + (f"&cursor={cursor}" if cursor else ""))
        seen += names(page)
        cursor = page.get_json()["next_cursor"]
    return seen


@pytest.fixture
def priced(shop):
    for name, price, sales in [("a", "3.00", 5), ("b", "1.00", 9), ("c", "3.00", 0), ("d", "2.00", 9)]:
        product = shop.add(name, price)
        shop.sql("UPDATE products SET sales = :sales WHERE id = :id", sales=sales, id=product["id"])
    return shop


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", "dcba"),
        ("&sort=newest", "dcba"),
        ("&sort=price", "bdac"),
        ("&sort=-price", "cadb"),
        ("&sort=sales", "dbac"),
        ("&sort=relevance", "dcba"),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_every_order_is_kept_over_the_pages(priced, sort, expected, limit):
    assert "".join(walk(priced, f"/products?limit={limit}{sort}")) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("min_price=2.00", "dca"),
        ("max_price=2.00", "db"),
        ("min_price=2&max_price=3.00", "dca"),
        ("min_price=3.01", ""),
        ("min_price=3&max_price=1", ""),
        ("q=d&max_price=2.00", "d"),
    ],
)
def test_prices_are_bounded_with_both_ends(priced, query, expected):
    assert "".join(walk(priced, f"/products?{query}")) == expected


def test_what_is_in_stock_can_be_asked_for(shop):
    shop.add("there", stock=1)
    shop.add("gone", stock=0)
    assert names(shop.get("/products?in_stock=true")) == ["there"]
    assert names(shop.get("/products?in_stock=false")) == ["gone"]
    assert names(shop.get("/products")) == ["gone", "there"]


def test_a_category_is_listed_with_everything_below_it(shop):
    food = shop.add_category("food")
    tea = shop.add_category("tea", food)
    green = shop.add_category("green", tea)
    other = shop.add_category("other")
    for name, category in [("f", food), ("t", tea), ("g", green), ("o", other), ("n", None)]:
        shop.add(name, category_id=category)
    assert names(shop.get(f"/products?category_id={food}")) == ["g", "t", "f"]
    assert names(shop.get(f"/products?category_id={green}")) == ["g"]
    assert names(shop.get(f"/products?category_id={tea}&q=g")) == ["g"]
    assert names(shop.get("/products?category_id=4711")) == []


@pytest.mark.parametrize("sort", ["newest", "price", "-price", "sales", "relevance"])
def test_pages_stay_whole_while_products_are_added_and_archived(shop, sort):
    first = [shop.add(f"tea {number}", f"{number + 1}.00") for number in range(6)]
    path = f"/products?limit=2&sort={sort}&q=tea"
    page = shop.get(path).get_json()
    seen = [item["id"] for item in page["items"]]
    for number in range(3):
        shop.add(f"tea later {number}", "3.50")
        shop.manage("DELETE", f"/products/{seen[0]}")
        page = shop.get(f"{path}&cursor={page['next_cursor']}").get_json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
    assert len(seen) == len(set(seen))
    before = [product["id"] for product in first]
    if sort in ("newest", "relevance"):
        assert seen == before[::-1]
    else:
        assert set(before) - set(seen) <= {product["id"] for product in first[-1:] + first[:1]}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "limit=", "sort=name", "min_price=abc", "max_price=-1",
        "min_price=1e3", "in_stock=maybe", "category_id=x", "category_id=0", "category_id=" + "9" * 30,
        "q=" + "x" * 101, "q=%00", "status=deleted",
    ],
)  # fmt: skip
def test_a_bad_query_parameter_is_refused_by_name(shop, query):
    answer = shop.get("/products?" + query)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "query." + query.partition("=")[0]


@pytest.mark.parametrize("cursor", ["x", "bm9uc2Vuc2U", "WyIrcHJpY2UsaWQiLCIxIiwiMSJd", "e30", "%00"])
def test_a_cursor_of_another_list_is_refused(shop, cursor):
    answer = shop.get(f"/products?cursor={cursor}")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_cursor")


def test_an_unknown_query_parameter_is_ignored(shop):
    assert shop.get("/products?color=red").status_code == 200


@pytest.mark.parametrize(
    ("query", "statements"), [("", 1), ("&q=tea", 1), ("&sort=price&in_stock=true", 1), ("&category_id=1", 2)]
)
def test_a_page_takes_as_many_statements_however_long_it_is(shop, query, statements):
    category = shop.add_category()
    for number in range(12):
        shop.add(f"tea {number}", stock=1, category_id=category)
    counts = []
    for limit in (1, 12):
        with shop.counted() as seen:
            assert len(names(shop.get(f"/products?limit={limit}{query}"))) == limit
        counts.append(len(seen))
    assert counts == [statements, statements]


@pytest.mark.parametrize(
    ("query", "written"),
    [
        ("", '["-id",1e999]'),
        ("", '["-id",Infinity]'),
        ("", '["-id",5]'),
        ("sort=price&", '["+price,id","1e-99999","1"]'),
        ("sort=price&", '["+price,id","1E-99999","1"]'),
        ("sort=price&", '["+price,id","1E+9999999999","1"]'),
    ],
)
def test_a_cursor_of_values_that_no_page_has_written_is_refused(shop, query, written):
    cursor = base64.urlsafe_b64encode(written.encode()).decode().rstrip("=")
    answer = shop.get(f"/products?{query}cursor={cursor}")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_cursor")
