"""Somebody keeps delivery addresses; the order service copies the one that an order names."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.user.conftest import ORDER_KEY
from tests.user.people import refusal, wrong_fields

ADDRESS = {
    "recipient": "王小明",
    "phone": "13800138000",
    "province": "浙江省",
    "city": "杭州市",
    "district": "西湖区",
    "street": "文三路 1 号",
}


def add(person, **fields):
    answer = person.post("/profile/addresses", ADDRESS | fields)
    assert answer.status_code == 201, answer.json
    return answer.json


def book(person):
    answer = person.get("/profile/addresses")
    assert (answer.status_code, answer.json["next_cursor"]) == (200, None)
    return answer.json["items"]


def defaults(person):
    return [address["id"] for address in book(person) if address["is_default"]]


def test_an_added_address_is_there(customer):
    answer = customer.post("/profile/addresses", ADDRESS | {"postal_code": "310000"})
    address = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/profile/addresses/{address['id']}"
    rest = {key: address.pop(key) for key in ("id", "created_at", "updated_at")}
    assert address == ADDRESS | {"postal_code": "310000", "is_default": False}
    assert customer.get(f"/profile/addresses/{rest['id']}").json == address | rest
    assert book(customer) == [address | rest]


def test_the_default_comes_first_then_the_newest(customer):
    first, second, third = (add(customer, is_default=n == 1)["id"] for n in range(3))
    assert [address["id"] for address in book(customer)] == [second, third, first]


def test_a_change_keeps_what_is_left_out(customer):
    address = add(customer, postal_code="310000", is_default=True)
    changed = customer.put(f"/profile/addresses/{address['id']}", ADDRESS | {"street": "新街 2 号"}).json
    assert changed["updated_at"] > address["updated_at"]
    assert changed == address | {"street": "新街 2 号", "updated_at": changed["updated_at"]}
    gone = {"postal_code": None, "is_default": False}
    changed = customer.put(f"/profile/addresses/{address['id']}", ADDRESS | gone).json
    assert (changed["postal_code"], changed["is_default"]) == (None, False)


def test_a_new_default_takes_the_old_ones_place(customer):
    first, second = add(customer, is_default=True), add(customer, is_default=True)
    assert defaults(customer) == [second["id"]]
    customer.put(f"/profile/addresses/{first['id']}", ADDRESS | {"is_default": True})
    assert defaults(customer) == [first["id"]]
    customer.put(f"/profile/addresses/{first['id']}", ADDRESS | {"is_default": True})
    assert defaults(customer) == [first["id"]]


def test_of_many_defaults_at_once_one_stays(customer):
    ids = [add(customer)["id"] for _ in range(3)]

    def act(number):
        if number % 2:
            return customer.put(f"/profile/addresses/{ids[number % 3]}", ADDRESS | {"is_default": True})
        return customer.post("/profile/addresses", ADDRESS | {"is_default": True})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(act, range(6)))
    assert {answer.status_code for answer in answers} == {200, 201}
    assert len(defaults(customer)) == 1


def test_twenty_are_the_most_also_at_once(customer):
    for _ in range(18):
        add(customer)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: customer.post("/profile/addresses", ADDRESS), range(4)))
    refused = [refusal(answer) for answer in answers if answer.status_code != 201]
    assert refused == [(409, "too_many_addresses")] * 2
    assert len(book(customer)) == 20


def test_a_removed_one_is_gone(customer):
    address = add(customer)
    answer = customer.send("DELETE", f"/profile/addresses/{address['id']}")
    assert (answer.status_code, answer.data, book(customer)) == (204, b"", [])
    again = customer.send("DELETE", f"/profile/addresses/{address['id']}")
    assert refusal(again) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_persons_is_not_found(customer, anyone, method):
    address = add(customer)
    other = anyone.register().sign_in()
    body = ADDRESS if method == "PUT" else None
    for address_id in (address["id"], 999_999_999, 0, "x", "9" * 30):
        answer = other.send(method, f"/profile/addresses/{address_id}", body)
        assert refusal(answer) == (404, "not_found")
    assert book(customer) == [address]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipient", ""),
        ("recipient", "  "),
        ("recipient", "a" * 101),
        ("recipient", "a\r\nb"),
        ("phone", "abc"),
        ("phone", "+"),
        ("phone", 13800138000),
        ("province", None),
        ("city", ["x"]),
        ("district", "\x00"),
        ("street", "s" * 201),
        ("postal_code", "1" * 17),
        ("is_default", "yes"),
        ("is_default", None),
        ("user_id", 1),
        ("id", 1),
    ],
)
def test_names_the_field_that_is_wrong(customer, field, value):
    address = add(customer)
    assert wrong_fields(customer.post("/profile/addresses", ADDRESS | {field: value})) == [field]
    changed = customer.put(f"/profile/addresses/{address['id']}", ADDRESS | {field: value})
    assert wrong_fields(changed) == [field]
    assert book(customer) == [address]


@pytest.mark.parametrize("field", ADDRESS)
def test_names_the_field_that_is_missing(customer, field):
    body = {name: value for name, value in ADDRESS.items() if name != field}
    assert wrong_fields(customer.post("/profile/addresses", body)) == [field]


def test_is_for_who_is_signed_in(anyone):
    assert refusal(anyone.get("/profile/addresses")) == (401, "unauthorized")
    assert refusal(anyone.post("/profile/addresses", ADDRESS)) == (401, "unauthorized")


def test_takes_a_constant_number_of_statements(customer, statements):
    for _ in range(2):
        statements.clear()
        address = add(customer, is_default=True)
        assert len(statements) == 4
    statements.clear()
    customer.put(f"/profile/addresses/{address['id']}", ADDRESS | {"street": "x"})
    assert len(statements) == 3
    statements.clear()
    assert len(book(customer)) == 2
    assert len(statements) == 1


class TestInternally:
    @pytest.fixture
    def ask(self, app, service):
        def ask(user_id, address_id, **claims):
            claims = {"scope": "addresses.read", "issuer": "order-service", "key": ORDER_KEY} | claims
            path = f"/internal/v1/users/{user_id}/addresses/{address_id}"
            return app.test_client().get(path, headers=service(**claims))

        return ask

    def test_the_order_service_sees_a_users_address(self, customer, ask):
        address = add(customer)
        answer = ask(customer.user["id"], address["id"])
        assert (answer.status_code, answer.json) == (200, address)

    def test_only_together_with_its_owner(self, customer, anyone, ask):
        other = anyone.register().user
        address = add(customer)
        assert refusal(ask(other["id"], address["id"])) == (404, "not_found")
        assert refusal(ask(customer.user["id"], 999_999_999)) == (404, "not_found")

    def test_no_other_service_and_no_user_sees_it(self, app, customer, ask):
        address = add(customer)
        wrong = [
            {"scope": "users.read"},
            {"issuer": "notification-service"},
            {"issuer": "notification-service", "key": "notification-user-key-for-tests-"},
        ]
        for claims in wrong:
            assert refusal(ask(customer.user["id"], address["id"], **claims)) == (401, "unauthorized")
        path = f"/internal/v1/users/{customer.user['id']}/addresses/{address['id']}"
        headers = {"Authorization": f"Bearer {customer.access_token}"}
        assert refusal(app.test_client().get(path, headers=headers)) == (401, "unauthorized")
