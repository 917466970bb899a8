"""Rule 4: the books of each product, and a stock that is never below zero."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.faults.calls import Call, Record
from tests.faults.evidence import Evidence
from tests.faults.rules_money import PAID


def check_stock(record: Record, evidence: Evidence) -> Iterator[str]:
    """Find products whose stock is not what was delivered and returned less what is held and sold."""
    yield from dict.fromkeys(f"{seen}, below zero" for seen in list(record.negative_stock))
    yield from dict.fromkeys(f"stock poll: {failure}" for failure in list(record.poll_failures))
    held, sold = _count_pieces(evidence)
    moved: Counter[int] = Counter()
    others: dict[tuple[int, str], int] = defaultdict(int)
    for move in evidence.movements:
        moved[move.product_id] += move.delta
        if move.order_id is None:
            others[move.product_id, move.reason] += move.delta
    given: Counter[int] = Counter()
    for (product_id, _), delta in others.items():
        given[product_id] += delta
    for product_id in record.prices:
        stock = evidence.stock.get(product_id)
        expected = given[product_id] - held[product_id] - sold[product_id]
        if stock != expected:
            sums = f"{given[product_id]} delivered and returned - {held[product_id]} held"
            yield f"product {product_id}: stock {stock}, not {expected} = {sums} - {sold[product_id]} sold"
        if stock != moved[product_id]:
            yield f"product {product_id}: stock {stock}, but its ledger adds up to {moved[product_id]}"
    yield from _check_deliveries(record, others)


def _count_pieces(evidence: Evidence) -> tuple[Counter[int], Counter[int]]:
    held: Counter[int] = Counter()
    sold: Counter[int] = Counter()
    for order in evidence.orders.values():
        book = held if order.status == "pending" else sold if order.status in PAID else None
        for product_id, (quantity, _) in order.lines.items():
            if book is not None:
                book[product_id] += quantity
    return held, sold


def _check_deliveries(record: Record, others: dict[tuple[int, str], int]) -> Iterator[str]:
    """Compare the ledger with what the driver booked: ok ≤ booked ≤ ok + unknown, and nothing else."""
    at_least: dict[tuple[int, str], int] = defaultdict(int)
    at_most: dict[tuple[int, str], int] = defaultdict(int)
    for product_id, stock in record.initial.items():
        at_least[product_id, "initial"] += stock
        at_most[product_id, "initial"] += stock
    for call in record.of("stock"):
        subject = call.facts["product_id"], call.facts["reason"]
        at_least[subject] += call.facts["delta"] if call.outcome == "ok" else 0
        at_most[subject] += call.facts["delta"] if _may_be_booked(call) else 0
    for subject in at_most.keys() | others.keys():
        booked = others.get(subject, 0)
        if subject[0] in record.prices and not at_least[subject] <= booked <= at_most[subject]:
            bounds = f"{at_least[subject]} to {at_most[subject]}"
            yield f"product {subject[0]}: {booked} pieces booked as {subject[1]}, not {bounds}"


def _may_be_booked(call: Call) -> bool:
    return call.outcome == "ok" or call.was_unknown
