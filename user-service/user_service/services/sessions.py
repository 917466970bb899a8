"""Signing in and out, and staying signed in."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.tokens import Identity
from user_service.errors import AccountDisabled, InvalidCredentials, InvalidToken
from user_service.models import User
from user_service.names import fold
from user_service.services.accounts import account_of, find_by_name, get_user
from user_service.services.session_store import RefreshToken
from user_service.services.tools import Tools


@dataclass(frozen=True)
class SignedIn:
    """What somebody holds who has signed in."""

    access_token: str
    refresh_token: str
    user: User


def sign_in(
    session: Session, tools: Tools, *, name: str, password: str, user_agent: str, address: str
) -> SignedIn:
    """Start a session for who knows the password of the name or e-mail address.

    An unknown name takes the same steps as a wrong password, so that neither answer nor time tells.
    """
    user = find_by_name(session, name)
    account = account_of(user) if user else f"name {fold(name)}"
    with tools.hasher.turn(), tools.attempts.counted(account):
        known = tools.hasher.matches(password, user.password_hash if user else None)
        if user is None or not known:
            raise InvalidCredentials
        tools.attempts.forgive(account)
    checked = user.password_hash
    with transaction(session) as here:
        # Who changes the password, the role or the account's state holds the row until the sessions of
        # before have ended: one that starts now is either among them or sees the change.
        user = here.get_one(User, user.id, with_for_update={"read": True}, populate_existing=True)
        if user.password_hash != checked:
            raise InvalidCredentials
        if not user.active:
            raise AccountDisabled
        token = tools.sessions.start(user.id, user_agent=user_agent, address=address)
    access = tools.signer.sign(session, Identity(user.id, token.session_id, user.role))
    return SignedIn(access, str(token), user)


def refresh(session: Session, tools: Tools, refresh_token: str) -> SignedIn:
    """Spend a refresh token for a new pair; raises `InvalidToken` or `TokenReused`."""
    token = RefreshToken.parse(refresh_token)
    user = get_user(session, tools.sessions.find_user(token))
    if not user.active:
        tools.sessions.end(token.session_id, user.id)
        raise InvalidToken
    # All that may fail comes before the token is spent, or its holder would be left with nothing.
    access = tools.signer.sign(session, Identity(user.id, token.session_id, user.role))
    return SignedIn(access, str(tools.sessions.rotate(token, user.id)), user)


def sign_out(tools: Tools, identity: Identity) -> None:
    """End the session on every service; nothing is changed while Redis is away."""
    tools.sessions.end(identity.session_id, identity.user_id)


def list_sessions(tools: Tools, identity: Identity) -> list[dict[str, Any]]:
    """Return the devices on which the user is signed in, the last used first, and which one asks."""
    devices = tools.sessions.list_of(identity.user_id)
    return [{**asdict(device), "current": device.id == identity.session_id} for device in devices]


def end_session(tools: Tools, identity: Identity, session_id: str) -> None:
    """End one of the user's own sessions; raises `NotFound` for any other."""
    tools.sessions.end_one_of(identity.user_id, session_id)
