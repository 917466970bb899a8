"""What the order service asks of the stock."""

from uuid import UUID

from chassis.api import Answer, Api
from product_service.errors import InsufficientStock, ReservationReleased
from product_service.schemas import (
    BooksList,
    BooksQuery,
    KeptList,
    LookupIn,
    OfferList,
    ReservationIn,
    ReservationsQuery,
    ReservationView,
)
from product_service.services import books, db, reservations

api = Api("internal", prefix="/internal/v1")


@api.post(
    "/reservations",
    who="service",
    scope="reservations.write",
    body=ReservationIn,
    answers={201: ReservationView, 200: ReservationView},
    errors=(InsufficientStock, ReservationReleased),
)
def reserve(body: ReservationIn) -> Answer:
    """Take an order's pieces out of the stock, all or none; once more answers the same."""
    lines = [(line.product_id, line.quantity) for line in body.items]
    taken = reservations.reserve(db.session, body.order_id, lines)
    return Answer(201 if taken.is_new else 200, taken)


@api.delete("/reservations/<uuid:order_id>", who="service", scope="reservations.write", answers={204: None})
def release(order_id: UUID) -> Answer:
    """Give an order's pieces back, once; an unknown order's id is closed to a late reservation."""
    reservations.release(db.session, order_id)
    return Answer(204)


@api.post(
    "/reservations/<uuid:order_id>/sale", who="service", scope="reservations.write", answers={204: None}
)
def sell(order_id: UUID) -> Answer:
    """Note that an order is paid whose event was lost; what was released before stays released."""
    reservations.mark_sold(db.session, order_id)
    return Answer(204)


@api.post(
    "/products/lookup",
    who="service",
    scope="products.read",
    body=LookupIn,
    answers={200: OfferList},
)
def look_up(body: LookupIn) -> object:
    """Tell today's name, price and availability of the products that are known."""
    return {"items": reservations.look_up(db.session, body.ids)}


@api.get("/books", who="service", scope="books.read", query=BooksQuery, answers={200: BooksList})
def read_books(query: BooksQuery) -> object:
    """Tell what the ledger and the reservations say of the products that follow an id."""
    return {"items": books.read_books(db.session, after=query.after, limit=query.limit)}


@api.get(
    "/products/<id:product_id>/reservations",
    who="service",
    scope="books.read",
    query=ReservationsQuery,
    answers={200: KeptList},
)
def list_reservations(query: ReservationsQuery, product_id: int) -> object:
    """Tell which orders keep pieces of a product, from the one that follows an order's id."""
    return {"items": books.list_kept(db.session, product_id, after=query.after, limit=query.limit)}
