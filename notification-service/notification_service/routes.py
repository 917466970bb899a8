"""The routes of contract section 5."""

from typing import Any
from uuid import UUID

from flask import current_app

from chassis.api import Answer, Api
from chassis.errors import Invalid
from chassis.idempotency import Once
from chassis.paging import Page
from chassis.tokens import Identity
from notification_service import services
from notification_service.errors import NotificationNotFailed, NotYours
from notification_service.schemas import (
    EmailIn,
    EventIds,
    EventsIn,
    HistoryPage,
    HistoryQuery,
    NotificationView,
    PreferencesIn,
    PreferencesView,
    PublicKeyView,
    PushIn,
    Receipt,
    SmsIn,
    SubscriptionGoneIn,
    SubscriptionIn,
    SubscriptionView,
)
from notification_service.services import db

api = Api("notifications")
internal = Api("internal", prefix="/internal/v1")


@api.post("/notifications/email", who="admin", body=EmailIn, answers={202: Receipt}, idempotent=True)
def send_email(body: EmailIn, once: Once) -> Any:
    """Send a mail, in the words given."""
    return services.queue_email(
        db.session, to=body.to, subject=body.subject, body=body.body, html=body.html, once=once
    )


@api.post("/notifications/sms", who="admin", body=SmsIn, answers={202: Receipt}, idempotent=True)
def send_sms(body: SmsIn, once: Once) -> Any:
    """Send a text message, in the words given."""
    return services.queue_sms(db.session, to=body.to, body=body.body, once=once)


@api.post("/notifications/push", who="admin", body=PushIn, answers={202: Receipt}, idempotent=True)
def send_push(body: PushIn, once: Once) -> Any:
    """Send a push message to every browser that a user has subscribed."""
    return services.queue_push(
        db.session, user_id=body.user_id, title=body.title, body=body.body, url=body.url, once=once
    )


@api.get("/notifications/push/public-key", who="anyone", answers={200: PublicKeyView})
def show_public_key() -> PublicKeyView:
    """Show the key that a browser needs to subscribe."""
    return PublicKeyView(public_key=current_app.extensions["tools"].push_keys.public(db.session))


@api.post(
    "/notifications/push/subscriptions",
    who="user",
    body=SubscriptionIn,
    answers={201: SubscriptionView},
    errors=(Invalid,),
)
def subscribe(body: SubscriptionIn, user: Identity) -> Any:
    """Let this browser get the user's push messages."""
    settings = current_app.config["SETTINGS"]
    return services.subscribe(
        db.session,
        user.user_id,
        endpoint=body.endpoint,
        p256dh=body.keys.p256dh,
        auth=body.keys.auth,
        allow_private=settings.push_allow_private,
    )


@api.delete("/notifications/push/subscriptions", who="user", body=SubscriptionGoneIn, answers={204: None})
def unsubscribe(body: SubscriptionGoneIn, user: Identity) -> Answer:
    """Let this browser get no more of the user's push messages."""
    services.unsubscribe(db.session, user.user_id, endpoint=body.endpoint)
    return Answer(204)


@api.get(
    "/notifications/history",
    who="user",
    query=HistoryQuery,
    answers={200: HistoryPage},
    errors=(NotYours,),
)
def list_history(query: HistoryQuery, user: Identity) -> Page[Any]:
    """List notifications, newest first: one's own, or for an administrator everyone's."""
    return services.list_history(db.session, user, **query.model_dump())


@api.post(
    "/notifications/<uuid:notification_id>/retry",
    who="admin",
    answers={202: NotificationView},
    errors=(NotificationNotFailed,),
)
def retry_notification(notification_id: UUID) -> Any:
    """Send a failed notification again."""
    return services.retry_notification(db.session, notification_id)


@api.get("/notifications/preferences", who="user", answers={200: PreferencesView})
def show_preferences(user: Identity) -> Any:
    """Show which optional messages one gets."""
    return services.read_preferences(db.session, user.user_id)


@api.put("/notifications/preferences", who="user", body=PreferencesIn, answers={200: PreferencesView})
def change_preferences(body: PreferencesIn, user: Identity) -> Any:
    """Choose which optional messages one gets; receipts and security mails always come."""
    return services.write_preferences(
        db.session, user.user_id, email=body.email, sms=body.sms, push=body.push
    )


@internal.post(
    "/notifications/lookup",
    who="service",
    scope="notifications.read",
    body=EventsIn,
    answers={200: EventIds},
)
def find_mailed(body: EventsIn) -> Any:
    """Tell which of these events have become a mail, whatever has become of that."""
    return {"event_ids": services.find_mailed(db.session, body.event_ids)}


@internal.post(
    "/notifications/forget",
    who="service",
    scope="notifications.repair",
    body=EventsIn,
    answers={204: None},
)
def forget_handled(body: EventsIn) -> Answer:
    """Let those of these events that have become no mail have their effect when they come again."""
    services.forget_handled(db.session, body.event_ids)
    return Answer(204)
