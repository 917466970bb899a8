"""The cart."""

from typing import Any

from chassis.api import Answer, Api
from chassis.tokens import Identity
from order_service.errors import CartFull
from order_service.routes.wiring import desk
from order_service.schemas import CartView, QuantityIn
from order_service.services import carts, db

api = Api("cart")


@api.get("/cart", who="user", answers={200: CartView})
def get_cart(user: Identity) -> dict[str, Any]:
    """Show the cart at today's prices."""
    return carts.show_cart(db.session, desk(), user.user_id)


@api.delete("/cart", who="user", answers={204: None})
def clear_cart(user: Identity) -> Answer:
    """Take everything out of the cart."""
    carts.clear_cart(db.session, user.user_id)
    return Answer(204)


@api.put(
    "/cart/items/<id:product_id>", who="user", body=QuantityIn, answers={200: CartView}, errors=(CartFull,)
)
def put_cart_item(body: QuantityIn, user: Identity, product_id: int) -> dict[str, Any]:
    """Make the cart hold so many of a product."""
    return carts.put_cart_item(
        db.session, desk(), user.user_id, product_id=product_id, quantity=body.quantity
    )


@api.delete("/cart/items/<id:product_id>", who="user", answers={204: None})
def remove_cart_item(user: Identity, product_id: int) -> Answer:
    """Take a product out of the cart."""
    carts.remove_cart_item(db.session, user.user_id, product_id)
    return Answer(204)
