"""Each rule finds what it is there to find, and nothing in books that agree."""

import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg2
import pytest

from tests.faults import rules, stock_poll
from tests.faults.calls import Call, Person, Record, Try
from tests.faults.cells import Cell
from tests.faults.evidence import (
    EventRow,
    Evidence,
    Mail,
    MovementRow,
    NotificationRow,
    OrderRow,
    PaymentRow,
    RefundRow,
    UserRow,
)
from tests.faults.rules import Judges
from tests.faults.stock_poll import poll_stock

BUYER = 7
PRODUCT = 3
STRUCK = Cell("nginx", "pause", 100.0, 120.0)
SENDER_KILLED = Cell("notification-celery", "kill", 100.0, 120.0)
# Which thing a finding is about, whatever it says of it.
SUBJECT = re.compile(r"[a-z]+ \S+: ")
# The ids of one order that was paid and stays so, one refunded in full, one that waits, one given up.
PAID, BACK, OPEN, GONE = (f"0000000{n}-0000-7000-8000-000000000000" for n in range(1, 5))


def payment_of(order):
    """Return the id of an order's payment."""
    return order.replace("0000-7000", "00aa-7000")


def refund_of(order):
    """Return the id of an order's refund."""
    return order.replace("0000-7000", "00bb-7000")


def receipt(order):
    """Return what the mail says that an order is paid."""
    return f"Order: {order}\nPayment: {payment_of(order)}"


def send_again(world, order, *, first=99.5, at, message_id=None):
    """Send an order's receipt again; the first one came then."""
    mails = world.evidence.mails
    [place] = [number for number, mail in enumerate(mails) if mail.text == receipt(order)]
    mails[place] = mails[place]._replace(received_at=first)
    mails.append(mails[place]._replace(received_at=at, message_id=message_id or mails[place].message_id))


@dataclass
class World:
    """A record and the evidence that goes with it."""

    record: Record = field(default_factory=Record)
    evidence: Evidence = field(default_factory=Evidence)
    cell: Cell = STRUCK

    def found(self):
        """Let the judges look once; return what they find by rule."""
        judges = Judges.__new__(Judges)
        judges._record, judges._currency, judges._cells = self.record, "CNY", [self.cell]
        return judges.find(self.evidence)

    def call(self, kind, outcome="ok", status=200, *, key="", answer=None, **facts):
        """Record a call."""
        path = f"/{kind}"
        done = Try(1.0, 2.0, outcome, status)
        call = Call(len(self.record.calls) + 1, kind, "POST", path, BUYER, None, key, True, facts, [done])
        call.answer = answer
        self.record.calls.append(call)
        return call

    def change_order(self, order, **changes):
        """Change what stands in the order service's table."""
        self.evidence.orders[order] = self.evidence.orders[order]._replace(**changes)

    def drop_event(self, source, kind, subject):
        """Take an event away, and every trace of it in the inboxes."""
        events = self.evidence.events[source]
        [event] = [e for e in events if e.type == kind and e.subject == subject]
        events.remove(event)
        for noted in self.evidence.inbox.values():
            noted.pop(event.id, None)
        return event

    def add_order(self, order, status, *, paid=False, quantity=2):
        """Add an order and all that belongs to it."""
        evidence, total = self.evidence, Decimal("9.90") * quantity
        key = f"key-{order}"
        lines = {PRODUCT: (quantity, Decimal("9.90"))}
        evidence.orders[order] = OrderRow(order, BUYER, status, total, key, paid, lines)
        if status == "abandoned":
            evidence.reservations[order] = "released"
            self.call("order", "failed", 409, key=key, lines={PRODUCT: quantity})
            return
        answer = {"id": order, "total_amount": str(total)}
        self.call("order", status=201, key=key, answer=answer, lines={PRODUCT: quantity})
        standing = {"pending": "held", "cancelled": "released"}.get(status, "sold")
        evidence.reservations[order] = standing
        evidence.reserved[order] = {PRODUCT: quantity}
        self.move(-quantity, "order", order)
        self.tell("order", "order.created", order)
        if paid:
            payment = payment_of(order)
            evidence.payments[payment] = PaymentRow(payment, order, "captured", total, False)
            self.bank("capture", payment, total)
            self.call("pay", key=f"pay-{order}", order_id=order)
            self.tell("order", "order.paid", order)
        if status == "cancelled":
            self.tell("order", "order.cancelled", order)
            self.move(quantity, "order_cancelled", order)

    def refund(self, order, amount, *, reason="why"):
        """Add a refund that is done."""
        self.evidence.refunds.append(
            RefundRow(refund_of(order), payment_of(order), order, Decimal(amount), "done", reason)
        )
        self.bank("refund", payment_of(order), amount, refund_id=refund_of(order))
        self.tell("order", "order.refunded", order)

    def bank(self, kind, payment, amount, **more):
        """Add a line to the bank's ledger."""
        line = {"kind": kind, "payment_id": payment, "amount": str(amount), "currency": "CNY", **more}
        self.evidence.ledger.append(line)

    def move(self, delta, reason, order=None):
        """Book pieces, with the event about it."""
        evidence = self.evidence
        previous = evidence.stock.get(PRODUCT, 0)
        evidence.stock[PRODUCT] = previous + delta
        evidence.movements.append(MovementRow(PRODUCT, delta, reason, order))
        numbers = (previous, previous + delta, 0)
        self.tell("product", "product.stock.updated", str(PRODUCT), numbers=numbers)

    def tell(self, source, kind, subject, *, numbers=None):
        """Add an event, what each consumer noted of it, and its mail."""
        evidence = self.evidence
        sequence = len(evidence.events[source]) + 1
        user_id = None if source == "product" else BUYER
        event = EventRow(sequence, f"{source}-{sequence}", kind, subject, user_id, numbers)
        evidence.events[source].append(event)
        evidence.inbox[f"{source}.events"][event.id] += 1
        if kind in ("order.paid", "order.cancelled"):
            evidence.inbox["product-service.order.events"][event.id] += 1
        if source == "order" or kind == "user.registered":
            name, to = f"n{len(evidence.notifications)}", "buyer@example.com"
            evidence.notifications.append(NotificationRow(name, event.id, "email", to, "sent"))
            text = receipt(subject) if kind == "order.paid" else kind
            evidence.mails.append(Mail(50.0, f"{name}@example.com", to, text))


@pytest.fixture
def world():
    """Return books that agree, with an order of each kind."""
    world = World()
    record, evidence = world.record, world.evidence
    evidence.ledger, evidence.mails = [], []
    evidence.events = {"user": [], "product": [], "order": []}
    queues = ("user.events", "product.events", "order.events", "product-service.order.events")
    evidence.inbox = {name: Counter() for name in queues}
    record.people[BUYER] = Person(BUYER, "buyer", "buyer@example.com", "secret")
    record.prices[PRODUCT], record.initial[PRODUCT] = "9.90", 100
    user = UserRow(BUYER, "buyer", "buyer@example.com", None, "en", "customer", True)
    evidence.users[BUYER] = user
    world.tell("user", "user.registered", str(BUYER))
    world.tell("user", "user.updated", str(BUYER))
    evidence.people[BUYER] = (user, 2)
    world.move(100, "initial")
    world.add_order(PAID, "paid", paid=True)
    world.add_order(BACK, "cancelled", paid=True)
    world.refund(BACK, "19.80")
    world.add_order(OPEN, "pending")
    world.add_order(GONE, "abandoned")
    record.poison, record.poison_in = {"lab-poison"}, {"order.events": 1}
    evidence.dead_ids = {"lab-poison"}
    evidence.dead = {"order.events.dead": 1, "user.events.dead": 0}
    evidence.restarts = {"nginx": 0}
    return world


def lose_order(world):
    """Forget an order that was answered 201."""
    del world.evidence.orders[OPEN]


def double_order(world):
    """Place an order of the same key again."""
    world.evidence.orders["again"] = world.evidence.orders[OPEN]._replace(id="again")


def keep_refused_order(world):
    """Have an order whose buyer was refused."""
    world.change_order(GONE, status="pending")


def place_unasked_order(world):
    """Have an order that nobody asked for."""
    world.change_order(OPEN, remark=None)


def change_lines(world):
    """Order other pieces than asked for."""
    world.change_order(OPEN, lines={PRODUCT: (1, Decimal("9.90"))}, total=Decimal("9.90"))


def change_total(world):
    """Ask for another sum."""
    world.change_order(OPEN, total=Decimal("19.81"))


def leave_unknown(world):
    """Never answer a call."""
    world.call("pay", "unknown", 503, key="k", order_id=OPEN)


def hide_answered_order(world):
    """Answer 404 for an order that was answered 201."""
    world.call("look", "failed", 404, order_id=OPEN)


def forget_cancel(world):
    """Answer a cancel well, and keep the order."""
    world.call("cancel", order_id=OPEN)


def forget_payment(world):
    """Answer a payment well, and leave the order unpaid."""
    world.call("pay", order_id=OPEN)


def forget_refund(world):
    """Answer a refund well, and make none."""
    world.call("refund", key="why-not", order_id=PAID)


def break_inside(world):
    """Answer a call with 500, and well when it is sent again."""
    world.call("browse", "unknown", 500).tries.append(Try(3.0, 4.0, "ok", 200))


def take_unasked_money(world):
    """Take the money of an order whose buyer never asked to pay."""
    world.record.calls[:] = [call for call in world.record.calls if call.kind != "pay"]


def take_refused_money(world):
    """Take the money of an order whose buyer was refused."""
    for call in world.record.of("pay"):
        call.tries[:] = [Try(1.0, 2.0, "failed", 402, "payment_declined")]


def take_money_at_others_word(world):
    """Take the money of an order at somebody else's word."""
    for call in world.record.of("pay"):
        call.user_id = BUYER + 1


def refund_other_amount(world):
    """Give back another amount than asked for."""
    world.call("refund", key="part", order_id=PAID, amount="6.60")
    world.refund(PAID, "6.61", reason="part")


def refund_less_than_all(world):
    """Give back a part where all that is left was asked for."""
    world.call("refund", key="all", order_id=PAID, amount=None)
    world.refund(PAID, "6.60", reason="all")


def refund_other_order(world):
    """Give an order's money back where another's was asked for."""
    world.call("refund", key="part", order_id=BACK, amount="6.60")
    world.refund(PAID, "6.60", reason="part")


def refund_other_payment(world):
    """Give money back of another order's payment."""
    world.call("refund", key="part", order_id=OPEN, amount="6.60")
    world.refund(PAID, "6.60", reason="part")
    world.evidence.refunds[-1] = world.evidence.refunds[-1]._replace(order_id=OPEN)


def refund_unasked(world):
    """Give money of a paid order back that nobody asked for."""
    world.refund(PAID, "6.60", reason="late_payment")


def double_refund_of_key(world):
    """Make two refunds of one key."""
    world.call("refund", key="why", order_id=BACK)
    world.evidence.refunds.append(world.evidence.refunds[0]._replace(id="again", status="processing"))


def capture_twice(world):
    """Capture a payment twice."""
    world.bank("capture", payment_of(PAID), "19.80")


def capture_second_payment(world):
    """Capture two payments of one order, though one goes back."""
    second = "second"
    world.evidence.payments[second] = PaymentRow(second, PAID, "refunded", Decimal("19.80"), True)
    world.bank("capture", second, "19.80")
    world.evidence.refunds.append(RefundRow("r2", second, PAID, Decimal("19.80"), "done", "late"))
    world.bank("refund", second, "19.80", refund_id="r2")


def capture_for_nobody(world):
    """Capture a payment that the shop does not know."""
    world.bank("capture", "stranger", "19.80")


def capture_a_cent_more(world):
    """Capture another amount."""
    world.evidence.ledger[0]["amount"] = "19.81"


def keep_money_of_unpaid_order(world):
    """Take the money of an order and leave it unpaid."""
    world.evidence.payments["p"] = PaymentRow("p", OPEN, "failed", Decimal("19.80"), False)
    world.bank("capture", "p", "19.80")


def keep_part_of_cancelled_order(world):
    """Give back less than all of a cancelled order."""
    world.evidence.ledger[-1]["amount"] = "19.79"


def capture_in_other_currency(world):
    """Capture in another currency."""
    world.evidence.ledger[0]["currency"] = "USD"


def give_back_twice(world):
    """Give a refund back twice."""
    world.bank("refund", payment_of(BACK), "19.80", refund_id=refund_of(BACK))


def invent_refund(world):
    """Call a refund done that the bank never made."""
    world.evidence.refunds.append(RefundRow("r", payment_of(PAID), PAID, Decimal(1), "done", "x"))


def stay_paid_after_full_refund(world):
    """Leave an order paid whose money is back."""
    world.change_order(BACK, status="paid")


def pay_without_capture(world):
    """Call an order paid whose money never came."""
    world.evidence.ledger.pop(0)


def stay_paid_by_money_called_late(world):
    """Leave an order paid whose only money is called late and went back."""
    payment = payment_of(PAID)
    world.evidence.payments[payment] = world.evidence.payments[payment]._replace(late=True)
    world.refund(PAID, "19.80", reason="late_payment")


def announce_unpaid(world):
    """Tell of a payment that never was."""
    world.tell("order", "order.paid", OPEN)


def sell_below_zero(world):
    """See a stock below zero once."""
    world.record.negative_stock.append("product 3: -1 pieces")


def stop_polling(world):
    """Have the look at the stock end by what is no fault of the database."""
    world.record.poll_failures.append("ValueError: broken")


def lose_a_piece(world):
    """Lose a piece of the stock."""
    world.evidence.stock[PRODUCT] -= 1


def sell_and_keep(world):
    """Hold pieces of an order that the stock does not miss."""
    world.evidence.orders[OPEN].lines[PRODUCT] = (1, Decimal("9.90"))


def book_delivery_twice(world):
    """Book a delivery of the driver's twice."""
    world.call("stock", product_id=PRODUCT, delta=5, reason="delivery 1")
    world.move(5, "delivery 1")
    world.move(5, "delivery 1")


def lose_delivery(world):
    """Answer a delivery well, and book nothing."""
    world.call("stock", product_id=PRODUCT, delta=5, reason="delivery 1")


def lose_event(world):
    """Never record that an order is paid."""
    world.drop_event("order", "order.paid", PAID)


def announce_twice(world):
    """Tell twice that an order was placed."""
    world.tell("order", "order.created", OPEN)


def miss_in_inbox(world):
    """Lose an event on its way to a consumer."""
    [event] = [e for e in world.evidence.events["order"] if (e.type, e.subject) == ("order.paid", PAID)]
    del world.evidence.inbox["product-service.order.events"][event.id]


def note_unknown_event(world):
    """Handle an event that nobody recorded."""
    world.evidence.inbox["order.events"]["never"] += 1


def notify_twice(world):
    """Make two notifications of one event."""
    world.evidence.notifications.append(world.evidence.notifications[-1])


def notify_nobody(world):
    """Make no notification of an event."""
    world.evidence.notifications.pop()


def warn_admin_needlessly(world):
    """Mail about a stock that has not become low."""
    event = world.evidence.events["product"][0]
    mail = NotificationRow("n", event.id, "email", "buyer@example.com", "sent")
    world.evidence.notifications.append(mail)


def keep_stock_of_cancelled_order(world):
    """Never give a cancelled order's pieces back, in books that agree otherwise."""
    world.evidence.reservations[BACK] = "sold"


def give_stock_back_twice(world):
    """Give pieces back twice."""
    world.move(2, "order_cancelled", BACK)


def release_stock_of_pending_order(world):
    """Give the pieces of an order back that waits for its payment."""
    world.evidence.reservations[OPEN] = "released"
    world.move(2, "order_cancelled", OPEN)


def hold_stock_of_abandoned_order(world):
    """Keep the pieces of an intent that was given up."""
    world.evidence.reservations[GONE] = "held"


def hold_stock_of_no_order(world):
    """Keep pieces of an order that is not there."""
    world.evidence.reservations["nobody"] = "held"


def break_stock_chain(world):
    """Lose an event about a stock."""
    world.evidence.events["product"].pop(1)


def keep_older_person(world):
    """Have an older state of a user over the newer."""
    user, _ = world.evidence.people[BUYER]
    world.evidence.people[BUYER] = (user, 1)


def keep_wrong_person(world):
    """Have another state of a user than the newest."""
    user, sequence = world.evidence.people[BUYER]
    world.evidence.people[BUYER] = (user._replace(locale="zh-CN"), sequence)


def send_no_receipt(world):
    """Lose a receipt."""
    world.evidence.mails[:] = [mail for mail in world.evidence.mails if mail.text != receipt(PAID)]


def send_receipt_to_other(world):
    """Send a receipt to somebody else."""
    world.evidence.mails[:] = [mail._replace(to="other@example.com") for mail in world.evidence.mails]


def send_other_receipt_too(world):
    """Send a second receipt that can't be told to be the same one."""
    send_again(world, PAID, at=110.0, message_id="n99@example.com")
    world.cell = SENDER_KILLED


def send_receipt_again(world):
    """Send a receipt again though nobody died."""
    send_again(world, PAID, at=110.0)


def send_receipt_again_much_later(world):
    """Send a receipt again long after the worker died."""
    world.cell = SENDER_KILLED
    send_again(world, PAID, at=300.0)


def send_older_receipt_again(world):
    """Send a receipt again when the worker dies that was sent and noted long before."""
    world.cell = SENDER_KILLED
    send_again(world, PAID, first=80.0, at=110.0)


def send_newer_receipt_twice(world):
    """Send a receipt twice that was first sent when the worker was long back."""
    world.cell = SENDER_KILLED
    send_again(world, PAID, first=140.0, at=141.0)


def give_up_mail(world):
    """Call a mail impossible."""
    world.evidence.notifications[0] = world.evidence.notifications[0]._replace(status="failed")


def lose_mail(world):
    """Lose a mail that is noted as sent."""
    world.evidence.mails.pop(0)


def send_mail_of_nothing(world):
    """Send a mail that no notification asks for."""
    world.evidence.mails.append(Mail(50.0, "stray@example.com", "buyer@example.com", "hello"))


def restart_by_itself(world):
    """Have a process end by itself."""
    world.evidence.restarts = {"nginx": 1}


def give_up_message(world):
    """Set a message aside that is no poison."""
    world.evidence.dead_ids = {"lab-poison", "order-1"}


def fill_dead_letters(world):
    """Have one dead letter too many."""
    world.evidence.dead["user.events.dead"] = 1


def swallow_poison(world):
    """Lose the poison that was planted."""
    world.evidence.dead_ids, world.evidence.dead = set(), {"order.events.dead": 0}


def lose_dead_letter_queue(world):
    """Lose a queue of dead letters with the poison in it."""
    del world.evidence.dead["order.events.dead"]


BROKEN = [
    (lose_order, 1, "answered 201, but order"),
    (double_order, 1, "2 orders of one key"),
    (keep_refused_order, 1, "refused with 409"),
    (place_unasked_order, 1, "ordered by nobody"),
    (change_lines, 1, "has {3: 1}, not {3: 2}"),
    (change_total, 1, "is of 19.81, not 19.80"),
    (leave_unknown, 1, "still unknown after 1 tries"),
    (hide_answered_order, 1, "answered 201 and then 404"),
    (forget_cancel, 1, "cancel was answered 200, but it is pending"),
    (forget_payment, 1, "but it was never paid"),
    (forget_refund, 1, "but there is no refund"),
    (break_inside, 1, "answered 500"),
    (take_unasked_money, 1, "captured, but nobody paid"),
    (take_refused_money, 1, "captured, but nobody paid"),
    (take_money_at_others_word, 1, "captured, but nobody paid"),
    (refund_other_amount, 1, "6.61 given back, not the 6.60"),
    (refund_less_than_all, 1, "6.60 given back, not the 19.80"),
    (refund_other_order, 1, f"of order {PAID}, asked for of {BACK}"),
    (refund_other_payment, 1, f"of order {OPEN}, by a payment of {PAID}"),
    (refund_unasked, 1, "which nobody asked for"),
    (double_refund_of_key, 1, "2 refunds of one key"),
    (capture_twice, 2, "2 captures"),
    (capture_second_payment, 2, "2 captures"),
    (capture_for_nobody, 2, "captured for no order"),
    (capture_a_cent_more, 2, "19.81 captured, the order is of 19.80"),
    (keep_money_of_unpaid_order, 2, "of 19.80 captured 0 came back"),
    (keep_part_of_cancelled_order, 2, "of 19.80 captured 19.79 came back"),
    (capture_in_other_currency, 2, "capture in USD"),
    (give_back_twice, 2, "given back 2 times"),
    (invent_refund, 2, "done, but the bank gave nothing back"),
    (stay_paid_after_full_refund, 2, "still paid"),
    (pay_without_capture, 3, "the bank captured nothing"),
    (stay_paid_by_money_called_late, 3, "the bank keeps nothing of the 19.80"),
    (announce_unpaid, 3, "announced as paid"),
    (sell_below_zero, 4, "below zero"),
    (stop_polling, 4, "broken"),
    (lose_a_piece, 4, "its ledger adds up to"),
    (sell_and_keep, 4, "1 held"),
    (book_delivery_twice, 4, "10 pieces booked as delivery 1, not 5 to 5"),
    (lose_delivery, 4, "0 pieces booked as delivery 1, not 5 to 5"),
    (lose_event, 5, "0 order.paid, not 1"),
    (announce_twice, 5, "2 order.created, not 1"),
    (miss_in_inbox, 5, "noted 0 times"),
    (note_unknown_event, 5, "an event that nobody recorded"),
    (notify_twice, 5, "2 notifications by email"),
    (notify_nobody, 5, "mail to nobody, not to buyer@example.com"),
    (warn_admin_needlessly, 5, "not to nobody"),
    (keep_stock_of_cancelled_order, 5, "is cancelled, its stock is sold"),
    (give_stock_back_twice, 5, "2 movements order_cancelled"),
    (release_stock_of_pending_order, 5, "is pending, its stock is released"),
    (hold_stock_of_abandoned_order, 5, "is abandoned, its stock is held"),
    (hold_stock_of_no_order, 5, "is not there, its stock is held"),
    (break_stock_chain, 5, "begins at"),
    (keep_older_person, 5, "the copy is of event 1, the newest is 2"),
    (keep_wrong_person, 5, "zh-CN"),
    (send_no_receipt, 6, "no receipt came to buyer@example.com"),
    (send_receipt_to_other, 6, "no receipt came to buyer@example.com"),
    (send_other_receipt_too, 6, "different Message-IDs"),
    (send_receipt_again, 6, "came 2 times"),
    (send_receipt_again_much_later, 6, "came 2 times"),
    (send_older_receipt_again, 6, "came 2 times"),
    (send_newer_receipt_twice, 6, "came 2 times"),
    (give_up_mail, 6, "n0: to buyer@example.com, is failed"),
    (lose_mail, 6, "n0: to buyer@example.com, is noted as sent, and did not come"),
    (send_mail_of_nothing, 6, "stray@example.com: to buyer@example.com, belongs to no notification"),
    (restart_by_itself, 7, "restarted 1 times"),
    (give_up_message, 7, "order-1: was given up"),
    (fill_dead_letters, 7, "1 dead letters, not the 0"),
    (swallow_poison, 7, "not set aside"),
    (lose_dead_letter_queue, 7, "order.events.dead: 0 dead letters, not the 1"),
]


def test_books_that_agree_are_green(world):
    assert world.found() == set()


@pytest.mark.parametrize(
    ("break_", "rule", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_rule_that_is_broken_is_red(world, break_, rule, words):
    break_(world)
    found = world.found()
    assert any(number == rule and words in text for number, text in found), found
    assert [text for _, text in found if not SUBJECT.match(text)] == []


def test_a_mail_may_come_twice_where_the_sender_was_killed(world):
    world.cell = SENDER_KILLED
    send_again(world, PAID, at=130.0)
    assert world.found() == set()


def test_a_mail_may_come_of_no_event_that_somebody_asked_for(world):
    send_mail_of_nothing(world)
    world.evidence.direct = {"stray"}
    assert world.found() == set()


def test_money_may_be_taken_at_a_call_that_was_refused_after_it_was_not_answered(world):
    for call in world.record.of("pay"):
        call.tries[:] = [Try(1.0, 2.0, "unknown", 503), Try(3.0, 4.0, "failed", 409, "order_not_payable")]
    assert world.found() == set()


def test_money_may_go_back_as_asked_for(world):
    world.call("refund", key="part", order_id=PAID, amount="6.60")
    world.refund(PAID, "6.60", reason="part")
    world.call("refund", key="why", order_id=BACK, amount=None)
    assert world.found() == set()


def test_late_money_of_a_cancelled_order_may_go_back_by_itself(world):
    payment = payment_of(BACK)
    world.evidence.payments[payment] = world.evidence.payments[payment]._replace(late=True)
    world.evidence.refunds[0] = world.evidence.refunds[0]._replace(reason="late_payment")
    assert world.found() == set()


def test_a_delivery_that_was_never_answered_may_be_booked_or_not(world):
    call = world.call("stock", "unknown", 0, product_id=PRODUCT, delta=5, reason="delivery 1")
    call.repeatable = False
    assert world.found() == set()
    world.move(5, "delivery 1")
    assert world.found() == set()


class Shifting:
    """Books that change from look to look."""

    def __init__(self, *looks):
        self._looks = list(looks)

    def look(self):
        """Return the next look, the last one again and again."""
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]


def judges_of(record, *looks):
    """Make judges who see these looks."""
    judges = Judges.__new__(Judges)
    judges._record, judges._currency, judges._cells = record, "CNY", []
    judges._reader, judges._told, judges._polls = Shifting(*looks), set(), 0
    return judges


class Clock:
    """A clock that only sleeps move."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        """Return the time."""
        return self.now

    def sleep(self, seconds):
        """Let time pass."""
        self.now += seconds


def red(verdicts):
    """Return the rules that are broken."""
    return [verdict.rule for verdict in verdicts if not verdict.ok]


def test_what_is_wrong_for_a_moment_only_does_not_count(world):
    world.record.stock_polls = 1
    wrong = Evidence(**vars(world.evidence))
    wrong.restarts = {"nginx": 1}
    assert red(judges_of(world.record, wrong, world.evidence).check(STRUCK, patience=5)) == []


def test_what_is_wrong_in_another_way_at_each_look_counts(world):
    world.record.stock_polls = 1
    looks = [Evidence(**vars(world.evidence)) for _ in range(2)]
    for look, restarts in zip(looks, (1, 2), strict=True):
        look.restarts = {"nginx": restarts}
    assert red(judges_of(world.record, *looks).check(STRUCK, patience=0.5)) == [7]


def test_what_is_wrong_with_one_thing_and_then_with_another_does_not_count(world):
    world.record.stock_polls = 1
    looks = [Evidence(**vars(world.evidence)) for _ in range(2)]
    for look, component in zip(looks, ("nginx", "redis"), strict=True):
        look.restarts = {component: 1}
    assert red(judges_of(world.record, *looks).check(STRUCK, patience=0.5)) == []


def test_what_stays_wrong_is_told_once(world):
    world.evidence.restarts = {"nginx": 1}
    judges = judges_of(world.record, world.evidence)
    world.record.stock_polls = 1
    assert red(judges.check(STRUCK, patience=0)) == [7]
    world.record.stock_polls = 2
    assert red(judges.check(STRUCK, patience=0)) == []


def test_what_is_seen_only_after_the_first_look_of_the_last_check_is_told_at_the_end(world):
    world.record.stock_polls = 1
    late = Evidence(**vars(world.evidence))
    late.restarts, late.dead = {"nginx": 1}, world.evidence.dead
    first = Evidence(**vars(world.evidence))
    first.dead = {}
    judges = judges_of(world.record, first, late)
    assert red(judges.check(STRUCK, patience=0.5)) == []
    assert red(judges.check_again(patience=0)) == [7]
    assert red(judges.check_again(patience=0)) == []


def test_what_heals_only_long_after_the_suite_came_to_rest_counts(world, monkeypatch):
    monkeypatch.setattr(rules, "time", Clock())
    world.record.stock_polls = 1
    wrong = Evidence(**vars(world.evidence))
    wrong.restarts = {"nginx": 1}
    # A look a second: RabbitMQ has counted anew by the seventh.
    assert red(judges_of(world.record, *[wrong] * 6, world.evidence).check(STRUCK)) == []
    assert red(judges_of(world.record, *[wrong] * 8, world.evidence).check(STRUCK)) == [7]


def test_each_check_at_which_the_stock_was_not_looked_at_again_is_red(world):
    judges = judges_of(world.record, world.evidence)
    assert red(judges.check(STRUCK, patience=0)) == [4]
    world.record.stock_polls = 5
    assert red(judges.check(STRUCK, patience=0)) == []
    assert red(judges.check(STRUCK, patience=0)) == [4]
    assert red(judges.check(STRUCK, patience=0)) == [4]


def test_the_look_at_the_stock_goes_on_whatever_happens_to_it(monkeypatch):
    errors = [psycopg2.OperationalError("away"), ValueError("broken"), SystemExit]

    def connect(*arguments, **options):
        raise errors.pop(0)

    monkeypatch.setattr(stock_poll.psycopg2, "connect", connect)
    monkeypatch.setattr(stock_poll, "PAUSE_SECONDS", 0)
    record = Record()
    with pytest.raises(SystemExit):
        poll_stock("", record)
    assert record.poll_failures == ["ValueError: broken"]
