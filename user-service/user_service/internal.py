"""The routes for other services."""

from chassis.api import Api
from chassis.errors import NotFound
from user_service.errors import EmailVerified
from user_service.routes import db_session
from user_service.schemas import AddressView, AdminList, InternalUserView, MailTokenIn, MailTokenView
from user_service.services import accounts, addresses, mail_tokens

api = Api("internal", prefix="/internal/v1")


@api.get("/users/<id:user_id>", who="service", scope="users.read", answers={200: InternalUserView})
def show_user(user_id: int) -> object:
    """Show a user to another service."""
    return accounts.get_user(db_session(), user_id)


@api.get(
    "/users/<id:user_id>/addresses/<id:address_id>",
    who="service",
    scope="addresses.read",
    answers={200: AddressView},
    errors=(NotFound,),
)
def show_address(user_id: int, address_id: int) -> object:
    """Show one of a user's delivery addresses to another service."""
    return addresses.get_address(db_session(), user_id, address_id)


@api.get("/admins", who="service", scope="users.read", answers={200: AdminList})
def list_admins() -> object:
    """List the active administrators."""
    return {"items": accounts.list_admins(db_session())}


@api.post(
    "/users/<id:user_id>/email-token",
    who="service",
    scope="tokens.issue",
    body=MailTokenIn,
    answers={201: MailTokenView},
    errors=(EmailVerified,),
)
def issue_token(body: MailTokenIn, user_id: int) -> object:
    """Make a single-use token for a mail that is sent now."""
    return mail_tokens.issue_token(db_session(), user_id, body.purpose)
