"""The order service's environment."""

from datetime import timedelta
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from chassis.config import BadSetting, ServiceSettings

# Without a value production has nothing to check; with one it must be no published one.
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(lambda value: value or None)]


class Settings(ServiceSettings):
    """What the order service reads from its environment."""

    service: ClassVar[str] = "order-service"

    product_service_url: str = "http://127.0.0.1:5002"
    notification_service_url: str = "http://127.0.0.1:5004"
    order_product_key: SecretStr
    order_user_key: SecretStr
    order_notification_key: SecretStr
    order_payment_timeout: int = Field(default=1800, ge=1)
    # Text, so that an empty variable means "not set".
    payment_test_methods: str = ""
    # An empty one would let anybody sign.
    payment_sandbox_webhook_secret: SecretStr = Field(min_length=8)
    # Empty: the method `http` is not offered.
    payment_http_url: str = Field(default="", pattern=r"^(https?://[!-~]+)?$")
    payment_http_key: OptionalSecret = None
    payment_http_webhook_secret: OptionalSecret = Field(default=None, min_length=8)

    @model_validator(mode="after")
    def _http_is_complete(self) -> Self:
        """Refuse the address of a payment provider without the secrets shared with it."""
        for name in ("payment_http_key", "payment_http_webhook_secret"):
            if self.payment_http_url and getattr(self, name) is None:
                raise BadSetting(f"PAYMENT_HTTP_URL is set, but {name.upper()} is missing.")
        return self

    @property
    def payment_timeout(self) -> timedelta:
        """How long an order waits for its payment."""
        return timedelta(seconds=self.order_payment_timeout)

    @property
    def offers_test_methods(self) -> bool:
        """Tell whether buyers may use payment methods that move no money."""
        return self.app_env != "production" or self.payment_test_methods == "1"
