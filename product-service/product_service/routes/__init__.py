"""The product service's HTTP routes."""

from product_service.routes import categories, internal, products

APIS = (products.api, categories.api, internal.api)
