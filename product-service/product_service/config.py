"""The product service's settings."""

from typing import ClassVar

from pydantic import SecretStr

from chassis.config import ServiceSettings


class Settings(ServiceSettings):
    """What the product service reads from its environment."""

    service: ClassVar[str] = "product-service"

    # The order service signs its calls with this key.
    order_product_key: SecretStr = SecretStr("")
