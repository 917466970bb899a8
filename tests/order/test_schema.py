"""The service's tables and its document."""

from chassis.migrations import is_current
from tests.order.shop import Shop


def test_models_and_migrations_agree(own_shop: Shop):
    assert is_current(own_shop.app)


def test_orders_have_the_columns_that_others_rely_on(shop: Shop):
    columns = {
        row.column_name
        for row in shop.rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'orders'")
    }
    assert {"id", "user_id", "total_amount", "status", "created_at", "payment_time"} <= columns


def test_the_document_names_every_route_of_the_contract(shop: Shop):
    document = shop.app.test_client().get("/openapi.json").json
    routes = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert routes >= {
        ("GET", "/cart"),
        ("DELETE", "/cart"),
        ("PUT", "/cart/items/{product_id}"),
        ("DELETE", "/cart/items/{product_id}"),
        ("POST", "/orders"),
        ("GET", "/orders"),
        ("GET", "/orders/{order_id}"),
        ("POST", "/orders/{order_id}/pay"),
        ("POST", "/orders/{order_id}/cancel"),
        ("POST", "/orders/{order_id}/ship"),
        ("POST", "/orders/{order_id}/complete"),
        ("POST", "/orders/{order_id}/refund"),
        ("GET", "/orders/{order_id}/history"),
        ("GET", "/admin/orders"),
        ("GET", "/admin/orders/{order_id}"),
        ("GET", "/payments/methods"),
        ("POST", "/payments/webhooks/{method}"),
    }
