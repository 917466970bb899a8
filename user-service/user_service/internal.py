"""The routes for other services."""

from chassis.api import Api
from user_service.errors import EmailVerified
from user_service.routes import db_session
from user_service.schemas import AdminList, InternalUserView, MailTokenIn, MailTokenView
from user_service.services import accounts, mail_tokens

api = Api("internal", prefix="/internal/v1")


@api.get("/users/<id:user_id>", who="service", scope="users.read", answers={200: InternalUserView})
def get_user(user_id: int) -> object:
    """Show a user to another service."""
    return accounts.get_user(db_session(), user_id)


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
