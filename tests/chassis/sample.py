"""A small service that only tests know: notes with a text, to try the chassis with."""

from collections.abc import Callable
from typing import ClassVar
from uuid import UUID

from flask import Flask
from pydantic import Field
from sqlalchemy import BigInteger, Identity, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis.api import Answer, Api, View
from chassis.config import ServiceSettings
from chassis.db import Base, make_db, transaction
from chassis.errors import DependencyAway, DomainError, NotFound
from chassis.idempotency import Once
from chassis.paging import fetch_page
from chassis.reading import Body, Query, parse_body
from chassis.service import create_service
from chassis.tokens import Identity as Caller


class Settings(ServiceSettings):
    service: ClassVar[str] = "sample-service"


class TextRefused(DomainError):
    detail = "Such a text is refused."


class NoteIn(Body):
    text: str = Field(min_length=1, max_length=50)
    tags: list[str] = Field(default=[], max_length=5)


class NoteView(View):
    id: int
    text: str
    resource_id: UUID


class Remark(Body):
    note: str | None = None


class Listing(Query):
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = None
    word: str | None = None


class NotePage(View):
    items: list[NoteView]
    next_cursor: str | None


def make_sample(
    settings: Settings, *, before_reply: Callable[[], None] = lambda: None, fetch_keys: Callable[[], dict]
) -> tuple[Flask, type]:
    """Build the app; `before_reply` runs between the claim's transaction and the last one."""
    db = make_db()

    class Note(db.Model):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
        text: Mapped[str] = mapped_column(String(50))
        resource_id: Mapped[UUID]

    api = Api("notes")

    @api.get("/notes/<id:note_id>", who="user", answers={200: NoteView})
    def get_note(note_id: int) -> Note:
        """Return a note."""
        note = db.session.get(Note, note_id)
        if note is None:
            raise NotFound
        return note

    @api.get("/notes", who="anyone", query=Listing, answers={200: NotePage})
    def list_notes(query: Listing) -> NotePage:
        """List notes."""
        page = fetch_page(db.session, select(Note), keys=[Note.id], cursor=query.cursor, limit=query.limit)
        return NotePage.model_validate(page)

    @api.post(
        "/notes", who="user", body=NoteIn, answers={201: NoteView}, errors=(TextRefused,), idempotent=True
    )
    def create_note(body: NoteIn, user: Caller, once: Once) -> Answer:
        """Write a note, in two transactions as a saga does."""
        note = write_note(db.session, body.text, once)
        return Answer(201, note, {"Location": f"/api/v1/notes/{note.id}"})

    def write_note(session: Session, text: str, once: Once) -> Note:
        with transaction(session):
            resource_id = once.claim(session)
        before_reply()
        if text == "refuse":
            raise TextRefused
        if text == "away":
            raise DependencyAway("peer")
        if text == "crash":
            raise RuntimeError("a bug with a secret in it")
        with transaction(session):
            note = Note(text=text, resource_id=resource_id)
            session.add(note)
            session.flush()  # The reply holds the id that the database gives.
            once.reply(session, 201, note, f"/api/v1/notes/{note.id}")
        return note

    @api.post("/signed", who="anyone", raw_body=NoteIn, answers={200: NoteIn}, headers=("X-Signature",))
    def take_signed(raw: bytes) -> NoteIn:
        """Take a note of which every byte counts."""
        if not raw.startswith(b"  "):
            raise TextRefused
        return parse_body(NoteIn, raw)

    @api.delete("/notes/<id:note_id>", who="admin", answers={204: None})
    def delete_note(note_id: int) -> None:
        """Delete a note."""

    @api.post("/touch", who="anyone", body=Remark, answers={200: Remark})
    def touch(body: Remark) -> Remark:
        """Take a body without required fields."""
        return body

    app = create_service(
        settings,
        db,
        apis=[api],
        error_table={TextRefused: (409, "text_refused")},
        fetch_keys=fetch_keys,
        import_name=__name__,
    )
    with app.app_context():
        db.create_all()
        Base.metadata.create_all(db.engine)
    return app, Note
