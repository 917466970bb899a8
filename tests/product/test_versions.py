"""Entity tags: no copy is sent twice, no change is overwritten unseen."""

import pytest

from tests.product.shop import at_once, settled

BODY = {"name": "new", "price": "2.00"}


def test_the_tag_tells_version_and_stock_version(shop):
    product = shop.add(stock=1)
    path = f"/products/{product['id']}"
    first = shop.get(path).headers["ETag"]
    shop.manage("POST", path + "/stock", {"delta": 1, "reason": "delivery"})
    second = shop.get(path).headers["ETag"]
    third = shop.manage("PUT", path, BODY).headers["ETag"]
    assert (first, second, third) == ('"1.1"', '"1.2"', '"2.2"')
    assert shop.get(path).headers["ETag"] == third


@pytest.mark.parametrize("tag", ['"1.1"', 'W/"1.1"', '"0.0", "1.1"', "*"])
def test_a_copy_that_is_fresh_is_not_sent_again(shop, tag):
    path = f"/products/{shop.add()['id']}"
    answer = shop.get(path, If_None_Match=tag)
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", '"1.1"')


@pytest.mark.parametrize("tag", ['"1.2"', '"2.1"', '"1"', "nonsense"])
def test_a_copy_that_is_stale_is_sent_anew(shop, tag):
    assert shop.get(f"/products/{shop.add()['id']}", If_None_Match=tag).status_code == 200


def test_an_order_makes_a_copy_stale(shop):
    product = shop.add(stock=5)
    shop.reserve({product["id"]: 1})
    assert shop.get(f"/products/{product['id']}", If_None_Match='"1.1"').status_code == 200


@pytest.mark.parametrize("tag", ['"1.1"', '"1.99"', '"1"', 'W/"1.1"', "*", '"7.7", W/"1.5"'])
def test_a_change_on_the_known_version_is_made(shop, tag):
    path = f"/products/{shop.add(stock=3)['id']}"
    assert shop.manage("PUT", path, BODY, If_Match=tag).status_code == 200


@pytest.mark.parametrize("tag", ['"2.1"', '"0.1"', '"11.1"', '"x"', '""', "nonsense", '"1' + "0" * 50 + '"'])
def test_a_change_on_another_version_is_refused(shop, tag):
    product = shop.add()
    answer = shop.manage("PUT", f"/products/{product['id']}", BODY, If_Match=tag)
    assert (answer.status_code, answer.get_json()["code"]) == (412, "precondition_failed")
    assert shop.product(product["id"]) == product


def test_selling_meanwhile_does_not_hinder_a_change(shop):
    product = shop.add(stock=5)
    shop.reserve({product["id"]: 1})
    answer = shop.manage("PUT", f"/products/{product['id']}", BODY, If_Match='"1.1"')
    assert (answer.status_code, answer.get_json()["stock"]) == (200, 4)


def test_of_writers_at_once_with_one_tag_a_single_one_wins(shop):
    path = f"/products/{shop.add()['id']}"

    def write(number):
        body = {"name": f"n{number}", "price": "1.00"}
        return settled(lambda: shop.manage("PUT", path, body, If_Match='"1.1"'))

    assert sorted(at_once(write, 10, threads=10)) == [200] + [412] * 9
    assert shop.get(path).get_json()["version"] == 2


def test_writers_without_a_tag_are_all_counted(shop):
    path = f"/products/{shop.add()['id']}"
    assert set(at_once(lambda _: settled(lambda: shop.manage("PUT", path, BODY)), 10, threads=10)) == {200}
    assert shop.get(path).get_json()["version"] == 11
