"""The method `http`: a payment provider that speaks JSON over HTTP as docs/payments.md asks of it.

What it answers with status 200, 201 or 202 and a well-formed body about what it was asked is definite, and so
is its "no such payment came". Everything else leaves open what happened: `Unknown`.
"""

import re
import time
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import orjson
import urllib3
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from urllib3.exceptions import HTTPError

from chassis import context
from chassis.logs import get_logger
from chassis.money import MoneyIn, show_money
from chassis.reading import parse_body
from chassis.silence import Silence
from order_service.clients import send_twice
from order_service.errors import InvalidSignature
from order_service.payments.base import ANSWER_SECONDS, Charge, News, Repayment, Unknown
from order_service.payments.pool import BoundedPoolManager
from order_service.payments.signatures import check_signature
from order_service.schemas import WebhookIn

CONNECT_SECONDS = 1.0
# A quarter of the time is enough for a connection, its TLS and an answer by the Internet.
SHORT_SHARE = 4
LARGEST_ANSWER = 64 * 1024
GOOD = (200, 201, 202)

log = get_logger(__name__)


def _tidy(text: str) -> str:
    """Leave out what no column can hold and no log should."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:500]


def _address(text: str) -> str:
    """Refuse what a browser would not follow as a link, such as `javascript:`."""
    if not re.fullmatch(r"https?://[!-~]{1,2000}", text):
        raise ValueError("must be an address")
    return text


Reason = Annotated[str, AfterValidator(_tidy)]
Visible = Annotated[str, Field(pattern=r"^[!-~]{1,2000}$")]


class _Answer(BaseModel):
    # A client secret, or what the provider knows of a buyer, belongs in no log.
    model_config = ConfigDict(hide_input_in_errors=True)


class _ChargeAnswer(_Answer):
    payment_id: UUID
    status: Literal["captured", "declined", "failed", "processing", "requires_action", "cancelled"]
    amount: MoneyIn | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    reason: Reason | None = None
    redirect_url: Annotated[str, AfterValidator(_address)] | None = None
    client_secret: Visible | None = None

    def charge(self) -> Charge:
        """Return what it says, in our words."""
        if self.status == "captured":
            if self.amount is None or self.currency is None:
                raise Unknown("captured, but not what")
            return Charge("captured", amount=self.amount, currency=self.currency)
        if self.status == "requires_action":
            return Charge(self.status, redirect_url=self.redirect_url, client_secret=self.client_secret)
        return Charge(self.status, self.reason or "")


class _RefundAnswer(_Answer):
    refund_id: UUID
    status: Literal["done", "processing", "refused"]
    amount: MoneyIn
    currency: str
    reason: Reason | None = None


class _Refusal(_Answer):
    code: str


A = TypeVar("A", bound=_Answer)


class HttpProvider:
    """The provider behind an address; without one no payment begins, but webhooks are still heard."""

    method = "http"
    name = "Online payment"
    moves_money = True

    def __init__(self, url: str, *, key: str, webhook_secret: str, seconds: float = ANSWER_SECONDS) -> None:
        self.takes_payments = url != ""
        self._url, self._key, self._secret = url.rstrip("/"), key, webhook_secret
        self._silence = Silence(seconds, short=seconds / SHORT_SHARE)
        self._pool = BoundedPoolManager(maxsize=16)

    def charge(self, payment_id: UUID, *, amount: Decimal, currency: str, token: str | None) -> Charge:
        """Take the amount, once."""
        wanted = {"amount": show_money(amount), "currency": currency, "token": token}
        status, answer = self._send("PUT", f"/payments/{payment_id}", wanted)
        return self._read_charge(payment_id, status, answer)

    def lookup(self, payment_id: UUID) -> Charge | None:
        """Return what became of a charge, None when it never arrived (yet)."""
        status, answer = self._send("GET", f"/payments/{payment_id}")
        # A 404 without this code is of a wrong address, or of something on the way.
        if status == 404 and self._read(answer, _Refusal).code == "payment_unknown":
            return None
        return self._read_charge(payment_id, status, answer)

    def cancel(self, payment_id: UUID) -> Charge:
        """Stop a charge, also one that may still arrive."""
        status, answer = self._send("POST", f"/payments/{payment_id}/cancel", {})
        return self._read_charge(payment_id, status, answer)

    def refund(self, refund_id: UUID, *, payment_id: UUID, amount: Decimal, currency: str) -> Repayment:
        """Give back an amount of a captured charge, once."""
        wanted = {"amount": show_money(amount), "currency": currency}
        status, answer = self._send("PUT", f"/payments/{payment_id}/refunds/{refund_id}", wanted)
        self._check(status)
        told = self._read(answer, _RefundAnswer)
        if (told.refund_id, told.amount, told.currency) != (refund_id, amount, currency):
            raise self._odd("answer about another refund")
        return Repayment(told.status, told.reason or "")

    def read_webhook(self, body: bytes, *, signature: str) -> News:
        """Return what a webhook says; raise `InvalidSignature` unless the provider sent it just now."""
        if not self._secret:
            raise InvalidSignature
        check_signature(self._secret, body, signature)
        told = parse_body(WebhookIn, body)
        status: Literal["captured", "failed"] = "captured" if told.type == "payment.succeeded" else "failed"
        reason = "" if status == "captured" else "told by the provider"
        return News(told.id, told.payment_id, Charge(status, reason, told.amount, told.currency))

    def _read_charge(self, payment_id: UUID, status: int, answer: bytes) -> Charge:
        self._check(status)
        told = self._read(answer, _ChargeAnswer)
        if told.payment_id != payment_id:
            raise self._odd("answer about another payment")
        return told.charge()

    def _check(self, status: int) -> None:
        if status not in GOOD:
            raise self._odd(f"status {status}")

    def _read(self, answer: bytes, model: type[A]) -> A:
        try:
            return model.model_validate_json(answer)
        except ValidationError as error:
            wrong = {".".join(map(str, one["loc"])) or "body" for one in error.errors(include_input=False)}
            raise self._odd(f"not well-formed: {', '.join(sorted(wrong))}") from error

    def _odd(self, reason: str) -> Unknown:
        log.error("payment provider answered unexpectedly", reason=reason)
        return Unknown(reason)

    def _send(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Return status and body of the answer; all of it, a second try included, ends in time."""
        if not self.takes_payments:
            raise Unknown("PAYMENT_HTTP_URL is empty")
        began = time.monotonic()
        ends = began + self._silence.seconds()
        try:
            answer = send_twice(lambda: self._send_once(method, path, body, ends))
        except (HTTPError, Unknown) as error:
            # Whatever ended it sooner was a sign of somebody there.
            if time.monotonic() >= ends - 0.01:
                self._silence.begins(after=ends - began)
            if isinstance(error, Unknown):
                raise
            raise Unknown(type(error).__name__) from error
        self._silence.ends()
        return answer

    def _send_once(self, method: str, path: str, body: Any, ends: float) -> tuple[int, bytes]:
        left = ends - time.monotonic()
        if left <= 0:
            raise Unknown("no time is left")
        answer = self._pool.request(
            method,
            self._url + path,
            body=None if body is None else orjson.dumps(body),
            headers={
                "Authorization": f"Bearer {self._key}",
                "Accept": "application/json",
                "Content-Type": "application/json",
                "X-Request-ID": context.request_id.get(),
            },
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), total=left),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            return answer.status, _read_body(answer, ends)
        except BaseException:
            # What is left of it must not be taken for the next answer.
            answer.close()
            raise
        finally:
            answer.release_conn()


def _read_body(answer: urllib3.BaseHTTPResponse, ends: float) -> bytes:
    """Read a body that comes piece by piece: no piece may take long, nor all of them together."""
    body = b""
    while piece := answer.read1(LARGEST_ANSWER):
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise Unknown("the answer is too long")
        if time.monotonic() > ends:
            raise Unknown("the answer takes too long")
    return body
