"""Rules 2 and 3: the bank's ledger against the orders; what the shop says of its payments is no proof."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from tests.faults.calls import Record
from tests.faults.evidence import Evidence

PAID = ("paid", "shipped", "completed")
NOTHING = Decimal(0)


def check_captures(record: Record, evidence: Evidence, currency: str) -> Iterator[str]:
    """Find money that was taken twice, from nobody, for nothing, or in another amount."""
    captures, given_back = evidence.captures(), evidence.given_back()
    by_order: dict[str, list[str]] = defaultdict(list)
    for payment_id, amounts in captures.items():
        payment = evidence.payments.get(payment_id)
        order = evidence.orders.get(payment.order_id) if payment else None
        if payment is None or order is None:
            yield f"payment {payment_id}: {amounts[0]} captured for no order"
            continue
        by_order[order.id] += [payment_id] * len(amounts)
        if any(amount != order.total or amount != payment.amount for amount in amounts):
            taken = " ".join(map(str, amounts))
            yield f"order {order.id}: {taken} captured, the order is of {order.total}"
        back = given_back.get(payment_id, NOTHING)
        pays = order.status in PAID and not payment.late
        if back > sum(amounts):
            yield f"order {order.id}: {back} given back of {sum(amounts)}"
        elif back < sum(amounts) and not pays:
            yield f"order {order.id}: is {order.status}; of {sum(amounts)} captured {back} came back"
        elif back == sum(amounts) and order.status == "paid" and pays:
            yield f"order {order.id}: is still paid, but all of its {back} came back"
    for order_id, payments in by_order.items():
        if len(payments) > 1:
            yield f"order {order_id}: {len(payments)} captures: {' '.join(sorted(payments))}"
    yield from _check_lines(evidence, currency)
    yield from _check_refunds(evidence)


def _check_lines(evidence: Evidence, currency: str) -> Iterator[str]:
    for line in evidence.ledger:
        if line["kind"] in ("capture", "refund") and line["currency"] != currency:
            yield f"payment {line['payment_id']}: {line['kind']} in {line['currency']}"


def _check_refunds(evidence: Evidence) -> Iterator[str]:
    """Compare refund by refund: one line each, of the same amount, for the same payment."""
    told = {refund.id: refund for refund in evidence.refunds}
    lines: dict[str, list[tuple[str, Decimal]]] = defaultdict(list)
    for line in evidence.ledger:
        if line["kind"] == "refund":
            lines[line["refund_id"]].append((line["payment_id"], Decimal(line["amount"])))
    for refund_id, entries in lines.items():
        refund = told.get(refund_id)
        if len(entries) > 1:
            yield f"refund {refund_id}: given back {len(entries)} times"
        if refund is None:
            yield f"refund {refund_id}: {entries[0][1]} given back that nobody asked for"
        elif (refund.payment_id, refund.amount) != entries[0]:
            yield f"refund {refund_id}: {entries[0][1]} given back, not {refund.amount}"
        elif refund.status != "done":
            yield f"refund {refund_id}: of order {refund.order_id}, given back, and still {refund.status}"
    for refund in evidence.refunds:
        if refund.status == "done" and refund.id not in lines:
            yield f"refund {refund.id}: of order {refund.order_id}, done, but the bank gave nothing back"


def check_paid(record: Record, evidence: Evidence) -> Iterator[str]:
    """Find orders that are paid, or were, and no money came; or are, and none of it is there any more."""
    taken, kept = _count_money(evidence)
    told = {event.subject for event in evidence.events.get("order", ()) if event.type == "order.paid"}
    for order in evidence.orders.values():
        if order.id in taken:
            # What is shipped may be refunded in full and stays so; what is only paid is cancelled then.
            if order.status == "paid" and kept[order.id] <= 0:
                yield f"order {order.id}: is paid, but the bank keeps nothing of the {taken[order.id]}"
        elif order.status in PAID or order.paid:
            yield f"order {order.id}: is {order.status}, but the bank captured nothing"
        elif order.id in told:
            yield f"order {order.id}: was announced as paid, but the bank captured nothing"


def _count_money(evidence: Evidence) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Return what the bank took for each order, and what it keeps of that."""
    given_back = evidence.given_back()
    taken: dict[str, Decimal] = defaultdict(Decimal)
    kept: dict[str, Decimal] = defaultdict(Decimal)
    for payment_id, amounts in evidence.captures().items():
        payment = evidence.payments.get(payment_id)
        if payment is not None:
            taken[payment.order_id] += sum(amounts)
            kept[payment.order_id] += sum(amounts) - given_back.get(payment_id, NOTHING)
    return taken, kept
