"""What this service reads from other services' events; further fields are left aside."""

from notification_service.schemas import AdminData, Told, UserData

__all__ = ["AboutUser", "AdminData", "EmailChangeData", "OrderData", "RecoveryData", "StockData", "UserData"]


class AboutUser(Told):
    """Every event that concerns a user."""

    user_id: int


class RecoveryData(AboutUser):
    """`user.recovery.requested`."""


class EmailChangeData(AboutUser):
    """`user.email.change.requested`."""

    email: str
    new_email: str


class OrderData(AboutUser):
    """Every `order.*` event."""

    order_id: str


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
