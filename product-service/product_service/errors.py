"""What the catalogue refuses, and how that is answered.

DomainError
├── SkuTaken               another product has this sku
├── CategoryInUse          it has products or children
├── InsufficientStock      less is there than is asked for
├── ReservationReleased    the order was given up before its reservation arrived
└── StaleVersion           the product has changed since the caller read it
"""

from typing import ClassVar

from chassis.errors import DomainError, ErrorTable, lines_schema


class SkuTaken(DomainError):
    detail = "Another product has this sku."


class CategoryInUse(DomainError):
    detail = "The category has products or subcategories."


class InsufficientStock(DomainError):
    detail = "There is not enough in stock."
    member_schemas: ClassVar = {
        "items": lines_schema("What is short.", "product_id", "requested", "available")
    }

    @classmethod
    def of(cls, *short: tuple[int, int, int]) -> "InsufficientStock":
        """Say of each product (id, requested, available) what is short."""
        fields = ("product_id", "requested", "available")
        return cls(items=[dict(zip(fields, line, strict=True)) for line in short])


class ReservationReleased(DomainError):
    detail = "The reservation of this order has been released."


class StaleVersion(DomainError):
    detail = "The product has changed since it was read."


ERROR_TABLE: ErrorTable = {
    SkuTaken: (409, "sku_taken"),
    CategoryInUse: (409, "category_in_use"),
    InsufficientStock: (409, "insufficient_stock"),
    ReservationReleased: (409, "reservation_released"),
    StaleVersion: (412, "precondition_failed"),
}
