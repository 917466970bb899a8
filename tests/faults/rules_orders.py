"""Rule 1: every answered order is there, one for each key; and so is whatever else was answered."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal

from tests.faults.calls import Call, Record
from tests.faults.evidence import HIDDEN, Evidence, OrderRow, RefundRow
from tests.faults.rules_money import PAID

# In which states an order may be once such a call was answered well.
AFTERWARDS = {
    "cancel": {"cancelled"},
    "ship": {"shipped", "completed"},
    "complete": {"completed"},
}


def check_orders(record: Record, evidence: Evidence) -> Iterator[str]:
    """Find orders that are lost, doubled or nobody's, and answers that did not come true."""
    by_key: dict[str, list[OrderRow]] = defaultdict(list)
    for order in evidence.orders.values():
        if order.status not in HIDDEN:
            by_key[order.remark or f"order {order.id}"].append(order)
    calls = {call.key: call for call in record.of("order")}
    for key, call in calls.items():
        yield from _check_key(call, by_key.get(key, []), record.prices)
    for key in by_key.keys() - calls.keys():
        yield f"order {by_key[key][0].id}: ordered by nobody, no call has its remark {key}"
    yield from _check_open(record)
    yield from record.broken()
    yield from _check_looks(record)
    yield from _check_moves(record, evidence)
    yield from _check_payments(record, evidence)
    yield from _check_refunds(record, evidence)
    yield from _check_refund_rows(record, evidence)


def _check_key(call: Call, orders: list[OrderRow], prices: Mapping[int, str]) -> Iterator[str]:
    if len(orders) > 1:
        yield f"{call.name}: {len(orders)} orders of one key: {' '.join(sorted(o.id for o in orders))}"
    if call.outcome == "failed" and orders:
        yield f"{call.name}: refused with {call.status} {call.code}, yet order {orders[0].id} is there"
    if call.outcome != "ok":
        return
    order_id = call.answer["id"]
    order = next((one for one in orders if one.id == order_id), None)
    if order is None:
        yield f"{call.name}: answered 201, but order {order_id} is not there"
        return
    if order.user_id != call.user_id:
        yield f"{call.name}: order {order_id} belongs to user {order.user_id}, not {call.user_id}"
    wanted = call.facts.get("lines")
    pieces = {product: quantity for product, (quantity, _) in order.lines.items()}
    if wanted is not None and pieces != wanted:
        yield f"{call.name}: order {order_id} has {pieces}, not {wanted}"
    total = sum((Decimal(prices[p]) * n for p, n in pieces.items() if p in prices), Decimal(0))
    if order.total != total or Decimal(call.answer["total_amount"]) != total:
        yield f"{call.name}: order {order_id} is of {order.total}, not {total}"


def _check_open(record: Record) -> Iterator[str]:
    """Find calls that nobody would answer, however often they were repeated."""
    for call in record.calls:
        if call.outcome == "unknown" and call.repeatable:
            yield f"{call.name}: still unknown after {len(call.tries)} tries, last {call.status} {call.code}"


def _check_looks(record: Record) -> Iterator[str]:
    for call in record.of("look"):
        if call.status == 404:
            yield f"order {call.facts['order_id']}: was answered 201 and then 404 ({call.name})"


def _check_moves(record: Record, evidence: Evidence) -> Iterator[str]:
    for call in record.of(*AFTERWARDS):
        order = evidence.orders.get(call.facts["order_id"])
        if call.outcome != "ok" or order is None:
            continue
        # What was paid and shipped stays so; a refund in full cancels what is only paid.
        if order.status not in AFTERWARDS[call.kind]:
            yield f"order {order.id}: {call.kind} was answered 200, but it is {order.status}"
    for call in record.of("pay"):
        order = evidence.orders.get(call.facts["order_id"])
        if call.status == 200 and order is not None and not order.paid:
            yield f"order {order.id}: pay {call.key} was answered 200, but it was never paid"


def _check_payments(record: Record, evidence: Evidence) -> Iterator[str]:
    """Find money that was taken from buyers who did not pay, or were refused."""
    paid = {
        (call.facts["order_id"], call.user_id)
        for call in record.of("pay")
        if call.outcome == "ok" or call.was_unknown
    }
    for payment_id in evidence.captures():
        payment = evidence.payments.get(payment_id)
        order = evidence.orders.get(payment.order_id) if payment else None
        if order is not None and (order.id, order.user_id) not in paid:
            yield f"order {order.id}: payment {payment_id} was captured, but nobody paid"


def _check_refunds(record: Record, evidence: Evidence) -> Iterator[str]:
    """Compare refunds with their keys, which are their reasons too."""
    made: dict[str, list[str]] = defaultdict(list)
    refused: set[str] = set()
    for refund in evidence.refunds:
        made[refund.reason].append(refund.id)
        if refund.status == "refused":
            refused.add(refund.reason)
    at_the_bank = {line["refund_id"] for line in evidence.ledger if line["kind"] == "refund"}
    for call in record.of("refund"):
        ids = made.get(call.key, [])
        if len(ids) > 1:
            yield f"{call.name}: {len(ids)} refunds of one key: {' '.join(sorted(ids))}"
        if call.outcome == "ok" and not ids:
            yield f"{call.name}: answered {call.status}, but there is no refund"
        if call.status == 200 and ids and ids[0] not in at_the_bank:
            yield f"{call.name}: answered 200, but the bank knows no refund {ids[0]}"
        if call.outcome == "failed" and ids and call.key not in refused:
            yield f"{call.name}: refused with {call.status} {call.code}, yet refund {ids[0]} is there"


def _check_refund_rows(record: Record, evidence: Evidence) -> Iterator[str]:
    """Compare each refund with what was asked for."""
    calls = {call.key: call for call in record.of("refund")}
    for refund in evidence.refunds:
        payment, call = evidence.payments.get(refund.payment_id), calls.get(refund.reason)
        if payment is None or payment.order_id != refund.order_id:
            whose = payment.order_id if payment else "nobody"
            yield f"refund {refund.id}: of order {refund.order_id}, by a payment of {whose}"
        if call is None:
            yield from _check_unasked(refund, evidence)
            continue
        if call.facts["order_id"] != refund.order_id:
            yield f"refund {refund.id}: of order {refund.order_id}, asked for of {call.facts['order_id']}"
        wanted = _wanted(call, refund, evidence)
        if refund.amount != wanted:
            yield f"refund {refund.id}: {refund.amount} given back, not the {wanted} of {call.name}"


def _check_unasked(refund: RefundRow, evidence: Evidence) -> Iterator[str]:
    """Find money that went back by itself though its order stands; that of a cancelled one has to."""
    order = evidence.orders.get(refund.order_id)
    # Money that came late goes back by itself too, but of an order that stands it would be a second capture.
    if order is not None and order.status in PAID:
        yield f"refund {refund.id}: of order {order.id}, {order.status}, which nobody asked for"


def _wanted(call: Call, refund: RefundRow, evidence: Evidence) -> Decimal:
    """Tell how much a call asked for: without an amount all that others leave of the payment."""
    if call.facts.get("amount") is not None:
        return Decimal(call.facts["amount"])
    others = (
        other.amount
        for other in evidence.refunds
        if other.payment_id == refund.payment_id and other.id != refund.id and other.status != "refused"
    )
    payment = evidence.payments.get(refund.payment_id)
    return (payment.amount if payment else Decimal(0)) - sum(others, Decimal(0))
