"""What the user service tells the others."""

from typing import Any, Protocol

from chassis.events import NewEvent


class UserFacts(Protocol):
    """What events tell of a user."""

    id: Any
    username: Any
    email: Any
    phone_e164: Any
    locale: Any
    role: Any
    active: Any


def user_facts(user: UserFacts) -> dict[str, Any]:
    """Return the `data` of an event about the user."""
    return {
        "user_id": user.id,
        "username": user.username,
        "email": user.email,
        "phone": user.phone_e164,
        "locale": user.locale,
        "role": user.role,
        "active": user.active,
    }


def user_registered(user: UserFacts) -> NewEvent:
    """Tell that somebody registered."""
    return NewEvent("user.registered", str(user.id), user_facts(user))


def recovery_requested(user: UserFacts) -> NewEvent:
    """Tell that somebody who is perhaps the user has forgotten the password."""
    return NewEvent("user.recovery.requested", str(user.id), {"user_id": user.id})


def email_change_requested(user: UserFacts, new_email: str) -> NewEvent:
    """Tell that the user wants another e-mail address, which is yet to be verified."""
    data = {"user_id": user.id, "email": user.email, "new_email": new_email}
    return NewEvent("user.email.change.requested", str(user.id), data)


def user_updated(user: UserFacts) -> NewEvent:
    """Tell that one of the user's facts changed."""
    return NewEvent("user.updated", str(user.id), user_facts(user))
