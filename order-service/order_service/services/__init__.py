"""The order service's use-cases: one function, one transaction or a named saga of them."""

from order_service.models import db

__all__ = ["db"]
