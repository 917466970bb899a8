"""The order service's environment."""

from datetime import timedelta
from typing import ClassVar

from pydantic import Field, SecretStr

from chassis.config import ServiceSettings


class Settings(ServiceSettings):
    """What the order service reads from its environment."""

    service: ClassVar[str] = "order-service"

    product_service_url: str = "http://127.0.0.1:5002"
    order_product_key: SecretStr
    order_user_key: SecretStr
    order_payment_timeout: int = Field(default=1800, ge=1)
    # Text, so that an empty variable means "not set".
    payment_test_methods: str = ""
    # An empty one would let anybody sign.
    payment_sandbox_webhook_secret: SecretStr = Field(min_length=8)

    @property
    def payment_timeout(self) -> timedelta:
        """How long an order waits for its payment."""
        return timedelta(seconds=self.order_payment_timeout)

    @property
    def offers_test_methods(self) -> bool:
        """Tell whether buyers may use payment methods that move no money."""
        return self.app_env != "production" or self.payment_test_methods == "1"
