"""Rule 6: each paid order's receipt is in the mail sink, twice only where its sending was broken off.

Whatever else is there was asked for by a notification.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.faults.calls import Record
from tests.faults.cells import Cell
from tests.faults.evidence import Evidence, Mail
from tests.faults.rules_money import PAID

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Where the lab kills the process that sends, or cuts it off from the mail server's answer: what was sent
# and not noted is sent again.
MAY_DOUBLE = {("notification-celery", "kill"), ("notification-celery", "cut")}


def check_mails(record: Record, evidence: Evidence, cells: Sequence[Cell]) -> Iterator[str]:
    """Find receipts that are missing, mails that came twice without reason, and those of nobody."""
    receipts = _receipts(evidence)
    for order in evidence.orders.values():
        if order.paid:
            buyer = record.people.get(order.user_id)
            to = buyer.email.lower() if buyer else "?"
            found = receipts.get(order.id, [])
            if not any(mail.to == to for mail in found):
                state = order.status if order.status in PAID else f"paid and {order.status}"
                yield f"order {order.id}: is {state}, but no receipt came to {to}"
            if len({mail.message_id for mail in found}) > 1:
                yield f"order {order.id}: {len(found)} receipts with different Message-IDs"
    yield from _check_notifications(evidence)
    copies: dict[str, list[Mail]] = defaultdict(list)
    for mail in evidence.mails:
        copies[mail.message_id].append(mail)
    asked = evidence.direct | {notification.id for notification in evidence.notifications}
    for message_id, mails in copies.items():
        if _notification_of(mails[0]) not in asked:
            yield f"mail {message_id}: to {mails[0].to}, belongs to no notification"
        for mail in mails[1:]:
            if not _may_double(mails[0], mail, cells):
                yield f"mail {message_id}: to {mail.to}, came {len(mails)} times"


def _may_double(first: Mail, again: Mail, cells: Sequence[Cell]) -> bool:
    """Tell whether a mail may have been sent again because its first sending was broken off."""
    return any(
        cell.is_about(first.received_at) and cell.covers(again.received_at)
        for cell in cells
        if cell.blow in MAY_DOUBLE
    )


def _check_notifications(evidence: Evidence) -> Iterator[str]:
    """Compare what the notification service calls sent with what came."""
    came = {_notification_of(mail) for mail in evidence.mails}
    for notification in evidence.notifications:
        if notification.channel != "email" or notification.status == "suppressed":
            continue
        name = f"notification {notification.id}: to {notification.recipient},"
        if notification.status != "sent":
            yield f"{name} is {notification.status}"
        elif notification.id not in came:
            yield f"{name} is noted as sent, and did not come"


def _notification_of(mail: Mail) -> str:
    return mail.message_id.partition("@")[0]


def _receipts(evidence: Evidence) -> dict[str, list[Mail]]:
    """Find the receipts: mails that name an order and the payment whose money the bank has."""
    orders = {
        payment_id: evidence.payments[payment_id].order_id
        for payment_id in evidence.captures()
        if payment_id in evidence.payments
    }
    found: dict[str, list[Mail]] = defaultdict(list)
    for mail in evidence.mails:
        named = set(UUID.findall(mail.text))
        for payment_id in named & orders.keys():
            if orders[payment_id] in named:
                found[orders[payment_id]].append(mail)
    return found
