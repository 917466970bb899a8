"""What the business refuses here, and how the edge says it.

DomainError (chassis)
├── NotificationNotFailed    only a failed notification is sent again by hand
└── NotYours                 another user's history is asked for

DeliveryError                a channel could not deliver; knows no HTTP
├── TemporaryFailure         worth another attempt later
└── PermanentFailure         would fail again, so it ends the notification
    └── SubscriptionGone     the push service has forgotten this browser
"""

from chassis.errors import DomainError, ErrorTable


class NotificationNotFailed(DomainError):
    detail = "Only a failed notification can be sent again."


class NotYours(DomainError):
    detail = "Only an administrator sees the notifications of others."


ERROR_TABLE: ErrorTable = {
    NotificationNotFailed: (409, "notification_not_failed"),
    NotYours: (403, "forbidden"),
}


class DeliveryError(Exception):
    """A channel could not deliver; its text is kept as the notification's `last_error`."""


class TemporaryFailure(DeliveryError):
    """Worth another attempt later: the receiving side is away, busy or not set up."""


class PermanentFailure(DeliveryError):
    """Would fail again."""


class SubscriptionGone(PermanentFailure):
    """The push service has forgotten this browser."""


class UnknownUser(LookupError):
    """An event names a user whom the user service does not know."""
