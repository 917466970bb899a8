"""Text messages, by a provider that the settings choose."""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import orjson

from notification_service.config import Settings
from notification_service.errors import PermanentFailure, TemporaryFailure

WAIT_MILLISECONDS = 10_000
# What another attempt can't mend; everything else that Aliyun answers is tried again.
PERMANENT_CODES = frozenset(
    {
        "isv.MOBILE_NUMBER_ILLEGAL",
        "isv.MOBILE_COUNT_OVER_LIMIT",
        "isv.INVALID_PARAMETERS",
        "isv.INVALID_JSON_PARAM",
        "isv.PARAM_LENGTH_LIMIT",
        "isv.PARAM_NOT_SUPPORT_URL",
        "isv.TEMPLATE_PARAMS_ILLEGAL",
        "isv.BLACK_KEY_CONTROL_LIMIT",
        "isv.SMS_CONTENT_ILLEGAL",
        "isv.DENY_IP_RANGE",
    }
)


class SmsProvider(Protocol):
    """What sends a text message."""

    def send(self, notification_id: UUID, to: str, body: str) -> None: ...


def make_sms_provider(settings: Settings) -> SmsProvider:
    """Return the provider that `SMS_PROVIDER` names."""
    return AliyunSms(settings) if settings.sms_provider == "aliyun" else FileSms(settings.sms_dir)


class FileSms:
    """The development provider: each message is a file, one a notification however often it is sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, notification_id: UUID, to: str, body: str) -> None:
        """Keep the message as `<notification id>.json`."""
        document = {"id": str(notification_id), "to": to, "body": body, "sent_at": datetime.now(UTC)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))
            os.chmod(name, 0o644)
            os.replace(name, self._folder / f"{notification_id}.json")
        except OSError as error:
            raise TemporaryFailure(f"can't keep the message in SMS_DIR: {error.strerror}") from error


class AliyunSms:
    """Aliyun's SMS service; the approved template has one variable, `content`."""

    def __init__(self, settings: Settings, endpoint: str = "https://dysmsapi.aliyuncs.com") -> None:
        self._settings = settings
        self._protocol, _, self._host = endpoint.partition("://")
        self._client: Any = None

    def send(self, notification_id: UUID, to: str, body: str) -> None:
        """Hand the message to Aliyun, or raise a `DeliveryError`."""
        # Imported by who sends alone: the library needs more memory than the rest of the service.
        from alibabacloud_dysmsapi20170525 import models
        from Tea.exceptions import TeaException, UnretryableException

        request = models.SendSmsRequest(
            phone_numbers=to.removeprefix("+86").removeprefix("+"),
            sign_name=self._settings.aliyun_sms_sign_name,
            template_code=self._settings.aliyun_sms_template_code,
            template_param=orjson.dumps({"content": body}).decode(),
            out_id=str(notification_id),
        )
        try:
            answer = self._connected().send_sms(request).body
        except TeaException as error:
            raise judged(str(error.code), str(error.message)) from error
        except (UnretryableException, OSError) as error:
            raise TemporaryFailure(f"no connection to Aliyun: {type(error).__name__}") from error
        if answer.code != "OK":
            raise judged(str(answer.code), str(answer.message))

    def _connected(self) -> Any:
        from alibabacloud_dysmsapi20170525.client import Client
        from alibabacloud_tea_openapi.models import Config

        if self._client is None:
            self._client = Client(
                Config(
                    access_key_id=self._settings.aliyun_access_key_id,
                    access_key_secret=self._settings.aliyun_access_key_secret,
                    endpoint=self._host,
                    protocol=self._protocol,
                    connect_timeout=WAIT_MILLISECONDS,
                    read_timeout=WAIT_MILLISECONDS,
                )
            )
        return self._client


def judged(code: str, message: str) -> PermanentFailure | TemporaryFailure:
    """Tell a refusal of this very message from one that may pass."""
    reason = f"Aliyun said {code}: {message}"
    return PermanentFailure(reason) if code in PERMANENT_CODES else TemporaryFailure(reason)
