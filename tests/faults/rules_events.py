"""Rule 5: every event happened once, was noted once by each consumer, and had its effect once."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.faults.calls import Record
from tests.faults.evidence import CONSUMERS, HIDDEN, EventRow, Evidence
from tests.faults.rules_money import PAID

MAILED = CONSUMERS["order.events"][1]
KEPT = ("user.registered", "user.updated")
# What has become of an order's stock, by the order's status.
RESERVATION = {"pending": "held", "cancelled": "released", **dict.fromkeys(PAID, "sold")}


def check_events(record: Record, evidence: Evidence) -> Iterator[str]:
    """Find events that are missing or doubled, at their source or in a consumer, and old news over new."""
    yield from _check_sources(evidence)
    yield from _check_inboxes(evidence)
    yield from _check_notifications(record, evidence)
    yield from _check_reservations(evidence)
    yield from _check_stock_chain(evidence)
    yield from _check_people(evidence)


def _check_sources(evidence: Evidence) -> Iterator[str]:
    """Compare the order events with what has become of the orders."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for event in evidence.events.get("order", ()):
        seen[event.subject][event.type] += 1
    refunds = Counter(refund.order_id for refund in evidence.refunds if refund.status == "done")
    for order in evidence.orders.values():
        visible = order.status not in HIDDEN
        expected = {
            "order.created": int(visible),
            "order.paid": int(order.paid),
            "order.cancelled": int(order.status == "cancelled"),
            "order.shipped": int(order.status in ("shipped", "completed")),
            "order.completed": int(order.status == "completed"),
            "order.refunded": refunds[order.id],
        }
        for kind, count in expected.items():
            if seen[order.id][kind] != count:
                yield f"order {order.id}: is {order.status}, {seen[order.id][kind]} {kind}, not {count}"
    for subject in seen.keys() - evidence.orders.keys():
        yield f"order {subject}: has events, but is not there"


def _check_inboxes(evidence: Evidence) -> Iterator[str]:
    for consumer, (source, types) in CONSUMERS.items():
        noted = evidence.inbox.get(consumer, Counter())
        known = {event.id for event in evidence.events.get(source, ())}
        for event in evidence.events.get(source, ()):
            if event.type in types and noted[event.id] != 1:
                times = f"noted {noted[event.id]} times by {consumer}"
                yield f"event {event.id}: {event.type} of {event.subject}, {times}"
        for event_id in noted.keys() - known:
            yield f"event {event_id}: noted by {consumer}, an event that nobody recorded"


def _check_notifications(record: Record, evidence: Evidence) -> Iterator[str]:
    made = Counter((n.event_id, n.channel, n.recipient.lower()) for n in evidence.notifications)
    for (event_id, channel, recipient), count in made.items():
        if count > 1:
            yield f"event {event_id}: {count} notifications by {channel} to {recipient}"
    mails: dict[str, set[str]] = defaultdict(set)
    for notification in evidence.notifications:
        if notification.channel == "email":
            mails[notification.event_id].add(notification.recipient.lower())
    for event, expected in _expected_mails(record, evidence):
        if mails.get(event.id, set()) != expected:
            got = " ".join(sorted(mails.get(event.id, set()))) or "nobody"
            wanted = " ".join(sorted(expected)) or "nobody"
            yield f"event {event.id}: {event.type} of {event.subject}, mail to {got}, not to {wanted}"


def _expected_mails(record: Record, evidence: Evidence) -> Iterator[tuple[EventRow, set[str]]]:
    """Tell for each event who gets a mail."""
    addresses = {user.user_id: user.email.lower() for user in evidence.users.values()}
    # What the driver knows counts more than what the service says.
    addresses |= {p.user_id: p.email.lower() for p in record.people.values() if p.email}
    admins = {u.email.lower() for u in evidence.users.values() if u.role == "admin" and u.active}
    for event in evidence.events.get("order", ()):
        if event.type in MAILED and event.user_id is not None:
            yield event, {addresses.get(event.user_id, "?")}
    for event in evidence.events.get("user", ()):
        if event.type == "user.registered" and event.user_id is not None:
            yield event, {addresses.get(event.user_id, "?")}
    for event in evidence.events.get("product", ()):
        if event.numbers is not None:
            previous, stock, threshold = event.numbers
            yield event, admins if previous > threshold >= stock else set()


def _check_reservations(evidence: Evidence) -> Iterator[str]:
    """Compare what orders took out of the stock and gave back with what has become of them."""
    moved: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    lines: Counter[tuple[str, str, int]] = Counter()
    for move in evidence.movements:
        if move.order_id is not None:
            moved[move.order_id, move.reason][move.product_id] += move.delta
            lines[move.order_id, move.reason, move.product_id] += 1
    for (order_id, reason, product_id), count in lines.items():
        if count > 1:
            yield f"order {order_id}: {count} movements {reason} of product {product_id}"
    for order in evidence.orders.values():
        expected, standing = RESERVATION.get(order.status), evidence.reservations.get(order.id)
        if expected is not None and standing != expected:
            yield f"order {order.id}: is {order.status}, its stock is {standing or 'not reserved'}"
        if order.status in HIDDEN and standing not in (None, "released"):
            yield f"order {order.id}: is {order.status}, its stock is {standing}"
        pieces = {product: quantity for product, (quantity, _) in order.lines.items()}
        if expected is not None and evidence.reserved.get(order.id, {}) != pieces:
            yield f"order {order.id}: has {pieces}, reserved is {evidence.reserved.get(order.id, {})}"
    for order_id, standing in evidence.reservations.items():
        taken = {p: -n for p, n in evidence.reserved.get(order_id, {}).items()}
        if moved[order_id, "order"] != Counter(taken):
            yield f"order {order_id}: {dict(moved[order_id, 'order'])} taken from the stock, not {taken}"
        back = {p: -n for p, n in taken.items()} if standing == "released" else {}
        if moved[order_id, "order_cancelled"] != Counter(back):
            given = dict(moved[order_id, "order_cancelled"])
            yield f"order {order_id}: {given} given back to the stock, not {back}"
        if order_id not in evidence.orders and standing != "released":
            yield f"order {order_id}: is not there, its stock is {standing}"


def _check_stock_chain(evidence: Evidence) -> Iterator[str]:
    """Follow each product's stock from event to event: none may be missing, doubled or out of order."""
    last: dict[int, int] = defaultdict(int)
    count: Counter[int] = Counter()
    for event in sorted(evidence.events.get("product", ())):
        if event.numbers is None:
            continue
        product_id, (previous, stock, _) = int(event.subject), event.numbers
        if previous != last[product_id]:
            yield f"product {product_id}: event {event.sequence} begins at {previous}, not {last[product_id]}"
        last[product_id] = stock
        count[product_id] += 1
    lines = Counter(move.product_id for move in evidence.movements)
    for product_id, stock in evidence.stock.items():
        if last[product_id] != stock:
            yield f"product {product_id}: stock {stock}, its newest event says {last[product_id]}"
        if count[product_id] != lines[product_id]:
            yield f"product {product_id}: {count[product_id]} events of {lines[product_id]} movements"


def _check_people(evidence: Evidence) -> Iterator[str]:
    """Compare the notification service's copy of each user with the user."""
    newest: dict[int, int] = {}
    for event in evidence.events.get("user", ()):
        if event.type in KEPT and event.user_id is not None:
            newest[event.user_id] = max(event.sequence, newest.get(event.user_id, 0))
    for user_id, sequence in newest.items():
        user, copy = evidence.users.get(user_id), evidence.people.get(user_id)
        if user is None:
            yield f"user {user_id}: has events, but is not there"
        elif copy is None:
            yield f"user {user_id}: the notification service has no copy"
        elif copy[1] != sequence:
            yield f"user {user_id}: the copy is of event {copy[1]}, the newest is {sequence}"
        elif copy[0]._replace(phone=None) != user._replace(phone=None):
            yield f"user {user_id}: the copy is {copy[0]}, not {user}"
