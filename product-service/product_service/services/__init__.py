"""The use-cases: each one transaction, taking validated data."""

from product_service.models import db

__all__ = ["db"]
