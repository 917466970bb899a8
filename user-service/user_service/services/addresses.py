"""Delivery addresses: a small book per user, with one default at most."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import NotFound
from user_service.errors import TooManyAddresses
from user_service.models import Address
from user_service.services.accounts import lock_user

MOST_ADDRESSES = 20


def list_addresses(session: Session, user_id: int) -> Sequence[Address]:
    """Return the user's addresses, the default first, then the newest."""
    theirs = select(Address).where(Address.user_id == user_id)
    with transaction(session) as here:
        return here.scalars(theirs.order_by(Address.is_default.desc(), Address.id.desc())).all()


def get_address(session: Session, user_id: int, address_id: int) -> Address:
    """Return one of the user's addresses, or raise `NotFound`."""
    theirs = select(Address).where(Address.id == address_id, Address.user_id == user_id)
    with transaction(session) as here:
        address = here.scalar(theirs)
        if address is None:
            raise NotFound
        return address


def add_address(session: Session, user_id: int, fields: dict[str, Any]) -> Address:
    """Add an address; raises `TooManyAddresses`."""
    address = Address(user_id=user_id, **fields)
    with transaction(session) as here:
        # The user's row is the lock of the whole book: number and default are checked one after another.
        lock_user(here, user_id)
        number = here.scalars(select(func.count()).where(Address.user_id == user_id)).one()
        if number >= MOST_ADDRESSES:
            raise TooManyAddresses
        if address.is_default:
            _clear_default(here, user_id)
        here.add(address)
    return address


def change_address(session: Session, user_id: int, address_id: int, fields: dict[str, Any]) -> Address:
    """Change the given fields of one of the user's addresses, or raise `NotFound`."""
    with transaction(session) as here:
        lock_user(here, user_id)
        address = get_address(here, user_id, address_id)
        if fields.get("is_default") and not address.is_default:
            _clear_default(here, user_id)
        for field, value in fields.items():
            setattr(address, field, value)
    return address


def remove_address(session: Session, user_id: int, address_id: int) -> None:
    """Remove one of the user's addresses, or raise `NotFound`."""
    theirs = delete(Address).where(Address.id == address_id, Address.user_id == user_id)
    with transaction(session) as here:
        if here.scalar(theirs.returning(Address.id)) is None:
            raise NotFound


def _clear_default(session: Session, user_id: int) -> None:
    """Take the mark off the default address before another gets it: the index allows one at any moment."""
    marked = update(Address).where(Address.user_id == user_id, Address.is_default)
    session.execute(marked.values(is_default=False), execution_options={"synchronize_session": False})
