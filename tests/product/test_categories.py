"""The tree of categories."""

import pytest

from tests.product.shop import at_once, settled


def test_categories_are_shown_as_a_tree(shop):
    food = shop.add_category("食品 Food")
    tea = shop.add_category("茶 Tea", food)
    green = shop.add_category("绿茶 Green tea", tea)
    home = shop.add_category("家居 Home")
    assert shop.get("/categories").get_json() == {
        "items": [
            {
                "id": food,
                "name": "食品 Food",
                "parent_id": None,
                "children": [
                    {
                        "id": tea,
                        "name": "茶 Tea",
                        "parent_id": food,
                        "children": [
                            {"id": green, "name": "绿茶 Green tea", "parent_id": tea, "children": []}
                        ],
                    }
                ],
            },
            {"id": home, "name": "家居 Home", "parent_id": None, "children": []},
        ],
        "next_cursor": None,
    }


def test_a_category_is_renamed_and_keeps_its_place(shop):
    top = shop.add_category("a")
    below = shop.add_category("b", top)
    answer = shop.manage("PUT", f"/categories/{below}", {"name": "c"})
    assert answer.get_json() == {"id": below, "name": "c", "parent_id": top}


def test_a_category_is_moved_to_the_top(shop):
    below = shop.add_category("b", shop.add_category("a"))
    answer = shop.manage("PUT", f"/categories/{below}", {"name": "b", "parent_id": None})
    assert answer.get_json()["parent_id"] is None


@pytest.mark.parametrize("below", [0, 1, 2])
def test_a_category_is_never_below_itself(shop, below):
    chain = [shop.add_category("a")]
    chain += [shop.add_category("b", chain[0])]
    chain += [shop.add_category("c", chain[1])]
    answer = shop.manage("PUT", f"/categories/{chain[0]}", {"name": "a", "parent_id": chain[below]})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "parent_id"
    assert shop.get("/categories").get_json()["items"][0]["id"] == chain[0]


def test_two_moves_at_once_make_no_cycle(shop):
    for _ in range(5):
        a, b = shop.add_category("a"), shop.add_category("b")

        def move(number, a=a, b=b):
            one, other = (a, b) if number else (b, a)
            body = {"name": "x", "parent_id": other}
            return settled(lambda: shop.manage("PUT", f"/categories/{one}", body))

        assert sorted(at_once(move, 2, threads=2)) == [200, 422]


def test_the_tree_is_at_most_ten_deep(shop):
    at = None
    for _ in range(10):
        at = shop.add_category("x", at)
    deeper = shop.manage("POST", "/categories", {"name": "x", "parent_id": at})
    assert (deeper.status_code, deeper.get_json()["errors"][0]["field"]) == (422, "parent_id")
    top = shop.add_category("above all")
    first = shop.get("/categories").get_json()["items"][0]["id"]
    moved = shop.manage("PUT", f"/categories/{first}", {"name": "x", "parent_id": top})
    assert moved.status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "parent_id": 999}, "parent_id"),
        ({"name": "x", "parent_id": "1"}, "parent_id"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({}, "name"),
    ],
)
def test_a_bad_category_is_refused_by_name(shop, body, field):
    answer = shop.manage("POST", "/categories", body)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == field


def test_a_category_in_use_stays(shop):
    full, parent, empty = shop.add_category(), shop.add_category(), shop.add_category()
    child = shop.add_category("child", parent)
    product = shop.add(category_id=full)
    refused = [shop.manage("DELETE", f"/categories/{one}") for one in (full, parent)]
    assert [(a.status_code, a.get_json()["code"]) for a in refused] == [(409, "category_in_use")] * 2
    assert [shop.manage("DELETE", f"/categories/{one}").status_code for one in (empty, child, parent)] == [
        204,
        204,
        204,
    ]
    assert shop.product(product["id"])["category_id"] == full


def test_a_product_never_ends_in_a_category_that_is_gone(shop):
    for _ in range(5):
        category = shop.add_category()
        body = {"name": "x", "price": "1.00", "category_id": category}

        def act(number, category=category, body=body):
            if number:
                return settled(lambda: shop.manage("DELETE", f"/categories/{category}"))
            return settled(lambda: shop.manage("POST", "/products", body))

        assert at_once(act, 2, threads=2) in ([201, 409], [422, 204])


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_unknown_category_is_not_found(shop, method):
    body = {"name": "x"} if method == "PUT" else None
    assert shop.manage(method, "/categories/77", body).status_code == 404
