"""The sandbox keeps books as a real provider does: each call has its effect once, whenever it is repeated."""

import itertools
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from order_service.payments.base import Charge, Repayment, Unknown
from order_service.payments.sandbox import Sandbox
from tests.order.shop import Hooked, Shop, at_once

TEN = Decimal("10.00")
CAPTURED = Charge("captured", amount=TEN, currency="CNY")
DECLINED = Charge("declined", "declined by the sandbox")


@pytest.fixture
def sandbox(shop: Shop) -> Iterator[Sandbox]:
    with shop.session():
        yield Hooked(shop)


def charge(sandbox: Sandbox, key: UUID, token: str | None = None) -> Charge:
    """Charge ten."""
    return sandbox.charge(key, amount=TEN, currency="CNY", token=token)


def give_back(sandbox: Sandbox, key: UUID, payment: UUID, amount: str = "10.00") -> Repayment:
    """Refund."""
    return sandbox.refund(key, payment_id=payment, amount=Decimal(amount), currency="CNY")


@pytest.mark.parametrize(
    ("token", "answer"),
    [(None, CAPTURED), ("tok_success", CAPTURED), ("tok_decline", DECLINED)],
)
def test_the_token_decides(sandbox: Sandbox, token: str | None, answer: Charge):
    key = uuid4()
    assert charge(sandbox, key, token) == answer
    assert sandbox.lookup(key) == answer


def test_a_repeated_charge_answers_what_the_first_did(sandbox: Sandbox):
    key = uuid4()
    charge(sandbox, key, "tok_decline")
    assert charge(sandbox, key) == DECLINED


def test_silence_hides_a_captured_charge(sandbox: Sandbox):
    key = uuid4()
    with pytest.raises(Unknown):
        charge(sandbox, key, "tok_timeout")
    assert sandbox.lookup(key) == CAPTURED


def test_what_never_came_is_not_known(sandbox: Sandbox):
    assert sandbox.lookup(uuid4()) is None


def test_a_cancelled_charge_is_never_captured(sandbox: Sandbox):
    key = uuid4()
    assert sandbox.cancel(key) == Charge("cancelled")
    assert charge(sandbox, key) == Charge("cancelled")
    assert sandbox.cancel(key) == Charge("cancelled")


def test_it_is_too_late_to_cancel_a_captured_charge(sandbox: Sandbox):
    key = uuid4()
    charge(sandbox, key)
    assert sandbox.cancel(key) == CAPTURED


def test_charge_and_cancel_at_once_agree(shop: Shop, sandbox: Sandbox):
    def act(key: UUID, number: int) -> Charge:
        with shop.session():
            return charge(sandbox, key) if number % 2 else sandbox.cancel(key)

    for _ in range(10):
        key = uuid4()
        answers = at_once(*[lambda n=number, k=key: act(k, n) for number in range(8)])
        assert set(answers) in ({CAPTURED}, {Charge("cancelled")})


def test_a_refund_is_done_once(sandbox: Sandbox):
    payment, key = uuid4(), uuid4()
    charge(sandbox, payment)
    assert give_back(sandbox, key, payment, "6.00") == Repayment("done")
    assert give_back(sandbox, key, payment, "6.00") == Repayment("done")
    assert give_back(sandbox, uuid4(), payment, "4.00") == Repayment("done")
    assert give_back(sandbox, uuid4(), payment, "0.01").status == "refused"


def test_what_was_not_captured_is_not_refunded(sandbox: Sandbox):
    payment = uuid4()
    assert give_back(sandbox, uuid4(), payment).status == "refused"
    charge(sandbox, payment, "tok_decline")
    assert give_back(sandbox, uuid4(), payment).status == "refused"


def test_refunds_at_once_never_exceed_the_charge(shop: Shop, sandbox: Sandbox):
    payment = uuid4()
    charge(sandbox, payment)

    def act() -> str:
        with shop.session():
            return give_back(sandbox, uuid4(), payment, "3.00").status

    assert sorted(at_once(*itertools.repeat(act, 8))) == ["done"] * 3 + ["refused"] * 5


def test_books_that_can_not_be_reached_are_unknown(shop: Shop):
    from sqlalchemy import create_engine

    nobody = create_engine("postgresql+psycopg2://nobody@127.0.0.1:9/nothing")
    with pytest.raises(Unknown):
        charge(Sandbox(lambda: nobody, "webhook-secret"), uuid4())
