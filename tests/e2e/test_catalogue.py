"""The catalogue: what administrators put in, and what anyone finds."""

import re
from decimal import Decimal

import pytest

from tests.e2e.conftest import word

PRODUCT_FIELDS = set(
    "id sku name description price currency stock sales category_id image_url low_stock_threshold status"
    " version created_at updated_at".split()
)
NO_PRICES = [
    *(
        "0",
        "0.00",
        "-1",
        "-0.01",
        "10000000.00",
        "19.999",
        "1e2",
        "5,00",
        "",
        " 5",
        "٥",
        "abc",
        "NaN",
        "Infinity",
    ),
    *(0, 19.999, 1e20, True, None, []),
]


def names(page):
    """Name the products of a list."""
    return [product["name"] for product in page["items"]]


def tree_ids(nodes):
    """List the ids of a category tree."""
    return [i for node in nodes for i in [node["id"], *tree_ids(node["children"])]]


class TestCreating:
    def test_needs_only_name_and_price(self, admin, anyone):
        created = admin.post("/products", {"name": "龙井茶", "price": "19.90"})
        product = created.expect(201)
        assert created.headers["Location"].endswith(f"/api/v1/products/{product['id']}")
        assert set(product) >= PRODUCT_FIELDS
        assert product["sku"]
        assert product["price"] == "19.90"
        assert product["currency"] == "CNY"
        assert (product["stock"], product["sales"], product["low_stock_threshold"]) == (0, 0, 5)
        assert (product["status"], product["version"]) == ("active", 1)
        assert anyone.get(f"/products/{product['id']}").expect(200) == product

    def test_takes_every_field(self, admin, anyone):
        category = admin.post("/categories", {"name": f"Tea {word()}"}).expect(201)
        fields = {
            "name": "Tea <b>& more</b> 'quoted'",
            "price": "0.01",
            "sku": f"SKU-{word()}",
            "description": "多行\ntext",
            "stock": 7,
            "category_id": category["id"],
            "low_stock_threshold": 0,
        }
        product = admin.post("/products", fields).expect(201)
        shown = anyone.get(f"/products/{product['id']}").expect(200)
        assert {field: shown[field] for field in fields} == fields

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [("19.90", "19.90"), (19.9, "19.90"), (5, "5.00"), ("7", "7.00"), ("9999999.99", "9999999.99")],
    )
    def test_keeps_a_price_exactly(self, admin, sent, shown):
        product = admin.post("/products", {"name": "x", "price": sent}).expect(201)
        assert product["price"] == shown

    @pytest.mark.parametrize("price", NO_PRICES)
    def test_refuses_what_is_no_price(self, admin, price):
        admin.post("/products", {"name": "x", "price": price}).invalid("price")

    @pytest.mark.parametrize("literal", [b"1e2", b"1E2", b"19.900000000000000001", b"1.0e0"])
    def test_refuses_numbers_with_an_exponent_or_too_many_digits(self, admin, literal):
        body = b'{"name": "x", "price": ' + literal + b"}"
        reply = admin.send("POST", "/products", data=body, headers={"Content-Type": "application/json"})
        reply.invalid("price")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", ""),
            ("name", None),
            ("name", 5),
            ("name", "nul\0"),
            ("stock", -1),
            ("stock", 1.5),
            ("stock", "5"),
            ("stock", True),
            ("stock", 10**30),
            ("low_stock_threshold", -1),
            ("category_id", "one"),
            ("sales", 5),
            ("id", 5),
        ],
    )
    def test_names_the_field_that_is_wrong(self, admin, field, value):
        admin.post("/products", {"name": "x", "price": "1.00", field: value}).invalid(field)

    def test_refuses_an_unknown_category(self, admin):
        admin.post("/products", {"name": "x", "price": "1.00", "category_id": 2**40}).invalid("category_id")

    def test_refuses_a_sku_that_is_taken(self, admin, new_product):
        taken = new_product(sku=f"S-{word()}")["sku"]
        admin.post("/products", {"name": "x", "price": "1.00", "sku": taken}).refused(409, "sku_taken")

    def test_is_for_administrators(self, anyone, shopper, new_product):
        product = new_product()
        for who, status, code in ((anyone, 401, "unauthorized"), (shopper, 403, "forbidden")):
            who.post("/products", {"name": "x", "price": "1.00"}).refused(status, code)
            who.put(f"/products/{product['id']}", {"name": "x", "price": "1.00"}).refused(status, code)
            who.delete(f"/products/{product['id']}").refused(status, code)
            who.post(f"/products/{product['id']}/stock", {"delta": 1, "reason": "x"}).refused(status, code)
            who.get(f"/products/{product['id']}/stock/movements").refused(status, code)
            who.post("/categories", {"name": "x"}).refused(status, code)


class TestChanging:
    def test_keeps_what_is_left_out(self, admin, new_product):
        before = new_product(description="kept", sku=f"S-{word()}", stock=9)
        after = admin.put(f"/products/{before['id']}", {"name": "renamed", "price": "12.50"}).expect(200)
        assert (after["name"], after["price"]) == ("renamed", "12.50")
        assert after["version"] > before["version"]
        kept = ("sku", "description", "stock", "category_id", "low_stock_threshold", "status", "created_at")
        assert {f: after[f] for f in kept} == {f: before[f] for f in kept}
        assert admin.get(f"/products/{before['id']}").expect(200) == after

    @pytest.mark.parametrize("missing", ["name", "price"])
    def test_needs_name_and_price(self, admin, new_product, missing):
        body = {"name": "x", "price": "1.00"}
        del body[missing]
        admin.put(f"/products/{new_product()['id']}", body).invalid(missing)

    def test_leaves_the_stock_to_its_own_route(self, admin, new_product):
        product = new_product()
        body = {"name": "x", "price": "1.00", "stock": 5}
        problem = admin.put(f"/products/{product['id']}", body).invalid("stock")
        assert "/stock" in str(problem)

    def test_archives_and_brings_back(self, admin, anyone, new_product):
        product = new_product()
        path, body = f"/products/{product['id']}", {"name": product["name"], "price": product["price"]}
        assert admin.put(path, body | {"status": "archived"}).expect(200)["status"] == "archived"
        anyone.get(path).refused(404, "not_found")
        assert admin.put(path, body | {"status": "active"}).expect(200)["status"] == "active"
        anyone.get(path).expect(200)
        admin.put(path, body | {"status": "gone"}).invalid("status")

    def test_refuses_a_sku_that_is_taken(self, admin, new_product):
        taken, product = new_product()["sku"], new_product()
        changed = admin.put(f"/products/{product['id']}", {"name": "x", "price": "1.00", "sku": taken})
        changed.refused(409, "sku_taken")


class TestArchiving:
    def test_hides_the_product_from_all_but_administrators(self, admin, anyone, shopper, new_product):
        unique = word()
        product = new_product(name=f"Gone {unique}")
        assert admin.delete(f"/products/{product['id']}").expect(204) is None
        anyone.get(f"/products/{product['id']}").refused(404, "not_found")
        shopper.get(f"/products/{product['id']}").refused(404, "not_found")
        assert admin.get(f"/products/{product['id']}").expect(200)["status"] == "archived"
        assert anyone.get(f"/products?q={unique}").expect(200)["items"] == []

    @pytest.mark.parametrize(
        "wrong", ["0", "-1", "abc", "1.5", "99999999999999999999", "1e3", "1%20", "9" * 17]
    )
    def test_of_what_is_not_there_is_404(self, admin, anyone, wrong):
        anyone.get(f"/products/{wrong}").refused(404, "not_found")
        admin.delete(f"/products/{wrong}").refused(404, "not_found")
        admin.put(f"/products/{wrong}", {"name": "x", "price": "1.00"}).refused(404, "not_found")


class TestEntityTag:
    def test_names_version_and_stock_version(self, anyone, new_product):
        product = new_product()
        reply = anyone.get(f"/products/{product['id']}")
        assert re.fullmatch(r'(W/)?"\d+\.\d+"', reply.headers["ETag"])
        assert reply.headers["ETag"].removeprefix("W/").strip('"').split(".")[0] == str(product["version"])

    def test_spares_an_unchanged_answer(self, anyone, admin, new_product):
        path = f"/products/{new_product()['id']}"
        tag = anyone.get(path).headers["ETag"]
        unchanged = anyone.get(path, headers={"If-None-Match": tag})
        assert (unchanged.status, unchanged.raw) == (304, b"")
        assert (
            anyone.get(path, headers={"If-None-Match": f'"no.such", W/{tag.removeprefix("W/")}'}).status
            == 304
        )
        admin.post(f"{path}/stock", {"delta": 1, "reason": "delivery"}).expect(200)
        changed = anyone.get(path, headers={"If-None-Match": tag})
        changed.expect(200)
        assert changed.headers["ETag"] != tag

    def test_protects_from_overwriting_what_one_has_not_seen(self, anyone, admin, new_product):
        product = new_product()
        path, body = f"/products/{product['id']}", {"name": "x", "price": "1.00"}
        tag = anyone.get(path).headers["ETag"].removeprefix("W/")
        admin.put(path, body, headers={"If-Match": tag}).expect(200)
        admin.put(path, body, headers={"If-Match": tag}).refused(412, "precondition_failed")
        admin.put(path, body, headers={"If-Match": f"W/{tag}"}).refused(412, "precondition_failed")
        fresh = anyone.get(path).headers["ETag"].removeprefix("W/")
        admin.put(path, body, headers={"If-Match": f'"0.0", W/{fresh}'}).expect(200)
        admin.put(path, body, headers={"If-Match": "*"}).expect(200)
        admin.put(path, body).expect(200)

    def test_ignores_sales_that_happen_meanwhile(self, anyone, admin, new_product):
        path = f"/products/{new_product()['id']}"
        tag = anyone.get(path).headers["ETag"]
        admin.post(f"{path}/stock", {"delta": 1, "reason": "delivery"}).expect(200)
        admin.put(path, {"name": "x", "price": "1.00"}, headers={"If-Match": tag}).expect(200)


@pytest.fixture(scope="module")
def shelf(new_product):
    """Make five products of one unique word, priced 1 to 5, the cheapest one sold out."""
    unique = word()
    stocks = {1: 0, 2: 10, 3: 10, 4: 10, 5: 10}
    products = [
        new_product(name=f"{unique} number {n}", price=f"{n}.00", stock=pieces)
        for n, pieces in stocks.items()
    ]
    return unique, products


class TestListing:
    def test_goes_on_where_the_page_before_ended(self, anyone, shelf):
        unique, products = shelf
        for sort in ("newest", "price", "-price", "relevance"):
            found = anyone.all(f"/products?q={unique}&sort={sort}", limit=2)
            assert len(found) == 5
            assert {product["id"] for product in found} == {product["id"] for product in products}

    def test_pages_through_products_of_equal_price(self, anyone, new_product):
        unique = word()
        made = {new_product(name=unique, price="3.00")["id"] for _ in range(5)}
        for sort in ("price", "-price", "newest", "relevance"):
            found = anyone.all(f"/products?q={unique}&sort={sort}", limit=2)
            assert len(found) == 5
            assert {product["id"] for product in found} == made

    def test_is_sorted_as_asked(self, anyone, shelf):
        unique, _ = shelf
        for sort, expected in (
            ("newest", [5, 4, 3, 2, 1]),
            ("price", [1, 2, 3, 4, 5]),
            ("-price", [5, 4, 3, 2, 1]),
        ):
            page = anyone.get(f"/products?q={unique}&sort={sort}").expect(200)
            assert [Decimal(product["price"]) for product in page["items"]] == expected

    def test_starts_with_the_newest(self, anyone, new_product):
        product = new_product()
        assert anyone.get("/products?limit=1").expect(200)["items"][0]["id"] == product["id"]

    @pytest.mark.parametrize(
        ("query", "prices"),
        [
            ("min_price=2.00&max_price=4.00", [2, 3, 4]),
            ("min_price=4.01", [5]),
            ("max_price=1", [1]),
            ("in_stock=true", [2, 3, 4, 5]),
            ("min_price=9", []),
            ("unknown=1&min_price=5", [5]),
        ],
    )
    def test_filters_and_includes_the_ends_of_a_range(self, anyone, shelf, query, prices):
        page = anyone.get(f"/products?q={shelf[0]}&sort=price&{query}").expect(200)
        assert [Decimal(product["price"]) for product in page["items"]] == prices
        assert page["next_cursor"] is None

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=abc", "limit"),
            ("limit=", "limit"),
            ("sort=cheapest", "sort"),
            ("min_price=abc", "min_price"),
            ("max_price=1e3", "max_price"),
            ("category_id=x", "category_id"),
            ("in_stock=maybe", "in_stock"),
            ("q=" + "x" * 101, "q"),
        ],
    )
    def test_names_the_parameter_that_is_wrong(self, anyone, query, field):
        anyone.get(f"/products?{query}").invalid(f"query.{field}")

    @pytest.mark.parametrize("cursor", ["x", "AAAA", "eyJhIjoxfQ", "W10", "-1", "=" * 50, "9" * 500])
    def test_refuses_a_cursor_of_its_own_invention(self, anyone, cursor):
        anyone.get(f"/products?cursor={cursor}").refused(400, "invalid_cursor")

    def test_of_the_largest_page_is_fine(self, anyone):
        assert len(anyone.get("/products?limit=100").expect(200)["items"]) <= 100


@pytest.fixture(scope="module")
def unique(new_product):
    """Make three products that share one word."""
    shared = word()
    new_product(name=f"不锈钢保温杯 Thermos {shared}", description="户外露营 camping")
    new_product(name=f"Running Shoes {shared}", description="跑步鞋，轻便透气")
    new_product(name=f"无线蓝牙耳机 {shared}", description="Bluetooth headphones")
    return shared


class TestSearching:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("保温杯", "不锈钢保温杯"),
            ("保温", "不锈钢保温杯"),
            ("露营", "不锈钢保温杯"),
            ("thermos 保温", "不锈钢保温杯"),
            ("保温 THERMOS", "不锈钢保温杯"),
            ("camping 不锈钢", "不锈钢保温杯"),
            ("run", "Running Shoes"),
            ("runs shoe", "Running Shoes"),
            ("SHOES running", "Running Shoes"),
            ("跑步", "Running Shoes"),
            ("headphone", "无线蓝牙耳机"),
            ("蓝牙 bluetooth", "无线蓝牙耳机"),
            ("无线蓝牙耳机", "无线蓝牙耳机"),
        ],
    )
    def test_finds_the_one_that_has_all_words(self, anyone, unique, query, found):
        page = anyone.get(f"/products?q={query} {unique}".replace(" ", "%20")).expect(200)
        assert [name.startswith(found) for name in names(page)] == [True]

    @pytest.mark.parametrize("query", ["保温 shoes", "茶叶", "xyzzy", "蓝牙 露营"])
    def test_finds_nothing_that_lacks_a_word(self, anyone, unique, query):
        assert anyone.get(f"/products?q={query} {unique}".replace(" ", "%20")).expect(200)["items"] == []

    @pytest.mark.parametrize(
        "query",
        [
            "'",
            "%25",
            "a%26b",
            "!%20|%20(",
            ":*",
            "%5C",
            "杯",
            "😀",
            "%27%3B--",
            "%22",
            "%20",
            "",
            "<->",
            "%00",
        ],
    )
    def test_takes_any_text_without_a_fault(self, anyone, query):
        assert anyone.get(f"/products?q={query}").status in (200, 422)

    def test_shows_a_change_at_once(self, anyone, admin, new_product):
        before, after = word(), word()
        product = new_product(name=before)
        assert len(anyone.get(f"/products?q={before}").expect(200)["items"]) == 1
        admin.put(f"/products/{product['id']}", {"name": after, "price": "1.00"}).expect(200)
        assert anyone.get(f"/products?q={before}").expect(200)["items"] == []
        assert len(anyone.get(f"/products?q={after}").expect(200)["items"]) == 1


class TestCategories:
    def test_form_a_tree(self, admin, anyone):
        top = admin.post("/categories", {"name": f"Top {word()}"}).expect(201)
        child = admin.post("/categories", {"name": f"Child {word()}", "parent_id": top["id"]}).expect(201)
        listed = anyone.get("/categories").expect(200)
        assert listed["next_cursor"] is None
        node = next(node for node in listed["items"] if node["id"] == top["id"])
        assert node["parent_id"] is None
        assert [(sub["id"], sub["name"], sub["parent_id"], sub["children"]) for sub in node["children"]] == [
            (child["id"], child["name"], top["id"], [])
        ]

    def test_hold_the_products_of_their_subtree(self, admin, anyone, new_product):
        top = admin.post("/categories", {"name": f"Top {word()}"}).expect(201)["id"]
        child = admin.post("/categories", {"name": "Child", "parent_id": top}).expect(201)["id"]
        other = admin.post("/categories", {"name": f"Other {word()}"}).expect(201)["id"]
        in_top, in_child = new_product(category_id=top)["id"], new_product(category_id=child)["id"]
        listed = {c: {p["id"] for p in anyone.all(f"/products?category_id={c}")} for c in (top, child, other)}
        assert listed == {top: {in_top, in_child}, child: {in_child}, other: set()}

    def test_can_be_renamed_and_moved_but_never_below_themselves(self, admin, anyone):
        top = admin.post("/categories", {"name": f"A {word()}"}).expect(201)["id"]
        child = admin.post("/categories", {"name": "B", "parent_id": top}).expect(201)["id"]
        admin.put(f"/categories/{top}", {"name": "A", "parent_id": child}).invalid("parent_id")
        admin.put(f"/categories/{top}", {"name": "A", "parent_id": top}).invalid("parent_id")
        renamed = admin.put(f"/categories/{child}", {"name": "B2", "parent_id": None}).expect(200)
        assert (renamed["name"], renamed["parent_id"]) == ("B2", None)
        assert child in [node["id"] for node in anyone.get("/categories").expect(200)["items"]]

    def test_in_use_are_not_deleted(self, admin, anyone, new_product):
        top = admin.post("/categories", {"name": f"A {word()}"}).expect(201)["id"]
        child = admin.post("/categories", {"name": "B", "parent_id": top}).expect(201)["id"]
        admin.delete(f"/categories/{top}").refused(409, "category_in_use")
        product = new_product(category_id=child)
        admin.delete(f"/categories/{child}").refused(409, "category_in_use")
        body = {"name": product["name"], "price": product["price"], "category_id": None}
        admin.put(f"/products/{product['id']}", body).expect(200)
        assert admin.delete(f"/categories/{child}").expect(204) is None
        admin.delete(f"/categories/{top}").expect(204)
        assert not {top, child} & set(tree_ids(anyone.get("/categories").expect(200)["items"]))

    def test_refuse_an_unknown_parent_or_no_name(self, admin):
        admin.post("/categories", {"name": "x", "parent_id": 2**40}).invalid("parent_id")
        admin.post("/categories", {}).invalid("name")
        admin.put("/categories/999999999", {"name": "x"}).refused(404, "not_found")
        admin.delete("/categories/999999999").refused(404, "not_found")


class TestStock:
    def movements(self, admin, product_id):
        return admin.all(f"/products/{product_id}/stock/movements")

    def test_is_the_sum_of_its_ledger(self, admin, new_product):
        product = new_product(stock=10)
        path = f"/products/{product['id']}/stock"
        assert admin.post(path, {"delta": 5, "reason": "delivery"}).expect(200)["stock"] == 15
        assert admin.post(path, {"delta": -3, "reason": "damaged"}).expect(200)["stock"] == 12
        ledger = self.movements(admin, product["id"])
        assert sum(movement["delta"] for movement in ledger) == 12
        assert {"delivery", "damaged"} <= {movement["reason"] for movement in ledger}

    def test_never_falls_below_zero(self, admin, new_product, stock_of):
        product = new_product(stock=2)
        refused = admin.post(f"/products/{product['id']}/stock", {"delta": -3, "reason": "damaged"})
        refused.refused(409, "insufficient_stock")
        assert stock_of(product["id"]) == 2
        assert sum(movement["delta"] for movement in self.movements(admin, product["id"])) == 2

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"delta": 1}, "reason"),
            ({"reason": "x"}, "delta"),
            ({"delta": 1.5, "reason": "x"}, "delta"),
            ({"delta": "1", "reason": "x"}, "delta"),
            ({"delta": 10**20, "reason": "x"}, "delta"),
            ({"delta": 1, "reason": ""}, "reason"),
        ],
    )
    def test_names_the_field_that_is_wrong(self, admin, new_product, body, field):
        admin.post(f"/products/{new_product()['id']}/stock", body).invalid(field)

    def test_of_an_unknown_product_is_404(self, admin):
        admin.post("/products/999999999/stock", {"delta": 1, "reason": "x"}).refused(404, "not_found")
        admin.get("/products/999999999/stock/movements").refused(404, "not_found")
