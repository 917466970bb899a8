"""The routes of the order service."""

from order_service.routes import admin, cart, orders, payments

APIS = [cart.api, orders.api, payments.api, admin.api]
