"""Push subscriptions, and the key by which push services know this shop."""

import base64
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from chassis.db import transaction
from chassis.errors import Invalid
from notification_service.channels.push import check_endpoint
from notification_service.errors import PermanentFailure
from notification_service.models import PushKey, PushSubscription

# A user's browsers; the oldest gives way, so that one account can't make us send without end.
MOST_SUBSCRIPTIONS = 20


@dataclass
class PushKeys:
    """The VAPID key pair: the settings' own, or one made at first use and kept in the database."""

    configured: str = ""
    _private: str = ""

    def private(self, session: Session) -> str:
        """Return the private key: 32 bytes in base64url."""
        if not self._private:
            with transaction(session) as here:
                self._private = self.configured or _kept_key(here)
        return self._private

    def public(self, session: Session) -> str:
        """Return the public key, an uncompressed point in base64url."""
        number = int.from_bytes(_unbase64(self.private(session)))
        key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
        return _base64(
            key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        )


def _kept_key(session: Session) -> str:
    """Return the key in the database; of several processes that make one at once, the first one's stays."""
    kept = session.scalar(select(PushKey.private_key))
    if kept is None:
        number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        made = insert(PushKey).values(id=1, private_key=_base64(number.to_bytes(32)))
        session.execute(made.on_conflict_do_nothing())
        kept = session.scalars(select(PushKey.private_key)).one()
    return kept


def subscribe(
    session: Session, user_id: int, *, endpoint: str, p256dh: str, auth: str, allow_private: bool
) -> PushSubscription:
    """Add a browser; one that another user had signed in on before changes hands."""
    try:
        check_endpoint(endpoint, allow_private=allow_private)
    except PermanentFailure as error:
        raise Invalid("endpoint", str(error)) from error
    values = {"user_id": user_id, "endpoint": endpoint, "p256dh": p256dh, "auth": auth}
    statement = (
        insert(PushSubscription)
        .values(id=uuid7(), **values)
        .on_conflict_do_update(index_elements=["endpoint"], set_={**values, "created_at": func.now()})
        .returning(PushSubscription)
        .execution_options(populate_existing=True)
    )
    newest = (
        select(PushSubscription.id)
        .where(PushSubscription.user_id == user_id)
        .order_by(PushSubscription.created_at.desc(), PushSubscription.id.desc())
        .limit(MOST_SUBSCRIPTIONS)
    )
    with transaction(session) as here:
        added = here.scalars(statement).one()
        here.execute(
            delete(PushSubscription).where(
                PushSubscription.user_id == user_id, PushSubscription.id.not_in(newest)
            )
        )
    return added


def unsubscribe(session: Session, user_id: int, *, endpoint: str) -> None:
    """Remove a browser of this user; one that is not there is removed already."""
    theirs = (PushSubscription.user_id == user_id) & (PushSubscription.endpoint == endpoint)
    with transaction(session) as here:
        here.execute(delete(PushSubscription).where(theirs))


def forget_subscription(session: Session, subscription_id: UUID) -> None:
    """Remove a browser that its push service no longer knows."""
    with transaction(session) as here:
        here.execute(delete(PushSubscription).where(PushSubscription.id == subscription_id))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
