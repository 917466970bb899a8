"""The bank itself: a judge whose books could err would prove nothing."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import urllib3

from deploy.local.ports import free_ports
from order_service.payments.signatures import check_signature
from tests.faults.bank_books import Books, Ledger
from tests.faults.bank_plans import TOKENS, Behaviour
from tests.faults.outside import BANK_KEY, REPOSITORY, WEBHOOK_SECRET, Bank, run_bank

PRICE = {"amount": "20.00", "currency": "CNY"}
pool = urllib3.PoolManager(timeout=10, retries=False)


@pytest.fixture(scope="module")
def bank() -> Iterator[Bank]:
    with run_bank() as running:
        yield running


@pytest.fixture(autouse=True)
def usual_behaviour(bank: Bank) -> Iterator[None]:
    yield
    bank.ask("DELETE", "/lab/behaviour")


def send(bank: Bank, method: str, path: str, body: Any = None, key: str = BANK_KEY) -> tuple[int, Any]:
    """Send a request as the shop does."""
    headers = {"Authorization": f"Bearer {key}"}
    answer = pool.request(method, bank.url + path, json=body, headers=headers)
    return answer.status, answer.json()


def charge(bank: Bank, payment_id: str, token: str | None = None, **fields: Any) -> tuple[int, Any]:
    """Take 20.00."""
    return send(bank, "PUT", f"/payments/{payment_id}", {**PRICE, "token": token, **fields})


def refund(bank: Bank, payment_id: str, amount: str, refund_id: str | None = None) -> str:
    """Give an amount back; return the refund's status."""
    path = f"/payments/{payment_id}/refunds/{refund_id or uuid4()}"
    status, answer = send(bank, "PUT", path, {"amount": amount, "currency": "CNY"})
    assert status == 200
    told: str = answer["status"]
    return told


def given_back(bank: Bank, payment_id: str) -> list[str]:
    """Return the amounts of a payment's refunds."""
    return [line["amount"] for line in bank.ledger(payment_id) if line["kind"] == "refund"]


@contextmanager
def listener(*statuses: int, port: int = 0) -> Iterator[tuple[str, list[tuple[bytes, str]]]]:
    """Listen for webhooks; answer these statuses, the last one for ever. Yields address and what came."""
    came: list[tuple[bytes, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((body, self.headers["X-Signature"]))
            self.send_response(statuses[min(len(came), len(statuses)) - 1])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/webhook", came
    finally:
        server.shutdown()
        server.server_close()


class TestTheBooks:
    def test_a_payment_is_taken_once_however_often_it_comes(self, bank: Bank):
        key = str(uuid4())
        with ThreadPoolExecutor(8) as hands:
            answers = list(hands.map(lambda _: charge(bank, key), range(8)))
        assert answers == [(200, {"payment_id": key, "status": "captured", **PRICE})] * 8
        assert bank.kinds(key) == ["authorise", "capture"]

    @pytest.mark.parametrize("other", [{"amount": "20.01"}, {"currency": "USD"}])
    def test_its_id_belongs_to_its_amount(self, bank: Bank, other: dict[str, str]):
        key = str(uuid4())
        charge(bank, key)
        status, answer = charge(bank, key, **other)
        assert (status, answer["code"]) == (409, "payment_differs")
        assert bank.kinds(key) == ["authorise", "capture"]

    def test_one_that_never_came_is_unknown(self, bank: Bank):
        status, answer = send(bank, "GET", f"/payments/{uuid4()}")
        assert (status, answer["code"]) == (404, "payment_unknown")
        status, answer = send(bank, "GET", "/payment")
        assert (status, answer["code"]) == (404, "not_found")

    def test_one_that_is_cancelled_before_it_comes_takes_no_money(self, bank: Bank):
        key = str(uuid4())
        assert send(bank, "POST", f"/payments/{key}/cancel", {})[1]["status"] == "cancelled"
        assert charge(bank, key)[1]["status"] == "cancelled"
        assert bank.kinds(key) == ["cancel"]

    def test_what_is_captured_can_not_be_cancelled(self, bank: Bank):
        key = str(uuid4())
        charge(bank, key)
        assert send(bank, "POST", f"/payments/{key}/cancel", {})[1]["status"] == "captured"
        assert bank.kinds(key) == ["authorise", "capture"]

    def test_no_more_goes_back_than_came(self, bank: Bank):
        key, part = str(uuid4()), str(uuid4())
        charge(bank, key)
        assert [refund(bank, key, "15.00", part) for _ in range(2)] == ["done", "done"]
        assert refund(bank, key, "5.01") == "refused"
        assert refund(bank, key, "5.00") == "done"
        assert refund(bank, key, "0.01") == "refused"
        assert given_back(bank, key) == ["15.00", "5.00"]

    def test_what_was_not_captured_can_not_go_back(self, bank: Bank):
        key = str(uuid4())
        charge(bank, key, "tok_decline")
        assert refund(bank, key, "1.00") == "refused"

    def test_without_the_key_nothing_happens(self, bank: Bank):
        key = str(uuid4())
        status, answer = send(bank, "PUT", f"/payments/{key}", PRICE, key="another")
        assert (status, answer["code"], bank.kinds(key)) == (401, "unauthorized", [])

    @pytest.mark.parametrize(
        "fields",
        [{"amount": 20}, {"amount": "20"}, {"amount": "-1.00"}, {"currency": "cny"}, {"token": 1}],
    )
    def test_what_breaks_the_page_is_422(self, bank: Bank, fields: dict[str, Any]):
        key = str(uuid4())
        assert charge(bank, key, **fields)[0] == 422
        assert bank.kinds(key) == []


class TestTheLedger:
    def test_it_outlives_the_process(self) -> None:
        with run_bank() as bank:
            ids = {token: str(uuid4()) for token in ("tok_success", "tok_decline", "tok_async_never")}
            for token, key in ids.items():
                charge(bank, key, token)
            refund(bank, ids["tok_success"], "5.00")
            before = bank.ledger()
            bank.child.kill()
            bank.start()
            assert bank.ledger() == before
            assert [line["seq"] for line in before] == list(range(1, len(before) + 1))
            statuses = [charge(bank, key, token)[1]["status"] for token, key in ids.items()]
            assert statuses == ["captured", "declined", "processing"]
            assert refund(bank, ids["tok_success"], "15.01") == "refused"
            assert bank.ledger() == before

    def test_a_payment_under_way_ends_after_a_restart_too(self) -> None:
        with run_bank() as bank:
            key = str(uuid4())
            charge(bank, key, "tok_async")
            bank.child.kill()
            bank.start()
            bank.child.wait_until(lambda: bank.kinds(key) == ["authorise", "capture"], 10)

    def test_half_a_line_of_a_killed_process_is_cut_off(self, tmp_path: Path):
        path = tmp_path / "ledger.jsonl"
        with closing(Ledger(path)) as ledger:
            Books(ledger).charge("p1", "20.00", "CNY", None, TOKENS["tok_async"])
        with path.open("ab") as file:
            file.write(b'{"seq": 2, "kind": "capt')
        with closing(Ledger(path)) as ledger:
            books = Books(ledger)
            assert books.payments["p1"].status == "processing"
            assert books.capture("p1")
        with closing(Ledger(path)) as ledger:
            assert [line["seq"] for line in ledger.lines] == [1, 2]

    def test_only_what_follows_is_listed_when_asked(self, bank: Bank):
        charge(bank, str(uuid4()))
        lines = bank.ledger()
        assert bank.ask("GET", f"/lab/ledger?after={lines[-2]['seq']}") == lines[-1:]


class TestMisbehaving:
    @pytest.mark.parametrize("token", ["tok_drop_reply", "tok_malformed", "tok_error", "tok_late"])
    def test_the_money_is_taken_and_the_answer_is_no_answer(self, bank: Bank, token: str):
        key, headers = str(uuid4()), {"Authorization": f"Bearer {BANK_KEY}"}
        bank.behave(late_reply_seconds=1.0)
        url, body = f"{bank.url}/payments/{key}", {**PRICE, "token": token}
        try:
            answer = pool.request("PUT", url, json=body, headers=headers, timeout=0.5)
            usable = answer.status == 200 and answer.json()["status"] == "captured"
        except (urllib3.exceptions.HTTPError, ValueError):
            usable = False
        assert not usable
        assert bank.kinds(key) == ["authorise", "capture"]

    def test_what_never_arrives_leaves_no_trace(self, bank: Bank):
        key = str(uuid4())
        with pytest.raises(urllib3.exceptions.ProtocolError):
            charge(bank, key, "tok_never_arrives")
        assert bank.kinds(key) == []

    def test_shares_are_drawn_anew_from_the_same_seed(self):
        ids = [str(uuid4()) for _ in range(2000)]
        behaviour = Behaviour(drop_reply=0.1, answer_twice=0.1, decline=0.05)
        plans = [behaviour.plan(key, None) for key in ids]
        assert plans == [behaviour.plan(key, "tok_success") for key in ids]
        assert plans != [Behaviour(seed=2, drop_reply=0.1).plan(key, None) for key in ids]
        for share, drawn in [
            (0.1, sum(plan.reply == "drop" for plan in plans)),
            (0.1, sum(plan.reply == "twice" for plan in plans)),
            (0.05, sum(plan.outcome == "declined" for plan in plans)),
        ]:
            assert 0.5 < drawn / (share * len(ids)) < 1.5

    def test_what_it_does_not_know_is_refused(self, bank: Bank):
        for changes in ({"drop_replies": 0.1}, {"drop_reply": "often"}, {"seed": True}):
            assert send(bank, "PUT", "/lab/behaviour", changes)[0] == 422
        assert bank.ask("PUT", "/lab/behaviour", {"drop_reply": 1})["drop_reply"] == 1.0

    def test_a_slow_refund_is_done_in_the_end(self, bank: Bank):
        bank.behave(refund_seconds=0.3)
        key, part = str(uuid4()), str(uuid4())
        charge(bank, key, "tok_slow_refund")
        assert refund(bank, key, "5.00", part) == "processing"
        bank.child.wait_until(lambda: refund(bank, key, "5.00", part) == "done", 5)
        assert given_back(bank, key) == ["5.00"]

    def test_late_money_is_taken_whatever_was_said_before(self, bank: Bank):
        key = str(uuid4())
        charge(bank, key, "tok_decline")
        bank.ask("POST", f"/lab/payments/{key}/capture", {})
        assert bank.kinds(key) == ["authorise", "capture"]


class TestWebhooks:
    def test_they_are_signed_and_sent_until_they_are_taken(self, bank: Bank):
        with listener(503, 400, 204) as (url, came):
            bank.behave(webhook_url=url)
            charge(bank, str(uuid4()))
            bank.child.wait_until(lambda: len(came) == 3, 10)
            bank.child.wait_until(lambda: bank.ask("GET", "/lab/webhooks")[-1]["taken"], 5)
        assert len({body for body, _ in came}) == 1
        for body, signature in came:
            check_signature(WEBHOOK_SECRET, body, signature)
        assert bank.ask("GET", "/lab/webhooks")[-1]["answers"] == ["503", "400", "204"]

    def test_they_reach_a_shop_that_was_away(self, bank: Bank):
        port = free_ports(1)[0]
        bank.behave(webhook_url=f"http://127.0.0.1:{port}/webhook")
        charge(bank, str(uuid4()))
        bank.child.wait_until(lambda: bank.ask("GET", "/lab/webhooks")[-1]["answers"], 5)
        with listener(204, port=port):
            bank.child.wait_until(lambda: bank.ask("GET", "/lab/webhooks")[-1]["taken"], 10)
        assert bank.ask("GET", "/lab/webhooks")[-1]["answers"][0] == "URLError"

    @pytest.mark.parametrize(
        ("mode", "types"),
        [
            ("normal", ["succeeded"]),
            ("early", ["succeeded"]),
            ("twice", ["succeeded", "succeeded"]),
            ("reordered", ["succeeded", "failed"]),
        ],
    )
    def test_they_come_as_the_behaviour_says(self, bank: Bank, mode: str, types: list[str]):
        with listener(204) as (url, came):
            bank.behave(webhook_url=url, webhook=mode)
            charge(bank, str(uuid4()))
            if mode == "early":
                assert len(came) == 1
            bank.child.wait_until(lambda: len(came) == len(types), 5)
        assert [f'"payment.{kind}"' in body.decode() for kind, (body, _) in zip(types, came, strict=True)]


def test_it_needs_nothing_but_python():
    for module in ("bank", "mail_sink"):
        command = [sys.executable, "-S", "-m", f"tests.faults.{module}", "--help"]
        assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0
