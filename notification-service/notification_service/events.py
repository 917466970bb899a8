"""What this service reads from other services' events; further fields are left aside."""

from notification_service.schemas import Told, UserData

__all__ = ["EmailChangeData", "OrderData", "RecoveryData", "StockData", "UserData"]


class RecoveryData(Told):
    """`user.recovery.requested`."""

    user_id: int


class EmailChangeData(Told):
    """`user.email.change.requested`."""

    user_id: int
    email: str
    new_email: str


class OrderData(Told):
    """Every `order.*` event."""

    order_id: str
    user_id: int


class StockData(Told):
    """`product.stock.updated`."""

    product_id: int
    sku: str
    stock: int
    previous_stock: int
    low_stock_threshold: int

    @property
    def became_low(self) -> bool:
        """Tell whether this very change crossed the threshold."""
        return self.previous_stock > self.low_stock_threshold >= self.stock
