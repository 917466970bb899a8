"""What the business refuses here, and how the edge says it.

DomainError (chassis)
├── NotificationNotFailed    only a failed notification is sent again by hand
└── NotYours                 another user's history is asked for

DeliveryError                a channel could not deliver; knows no HTTP
├── TemporaryFailure         worth another attempt later
│   ├── Resting              not even tried: the receiving side keeps everyone waiting
│   └── OutcomeUnknown       the receiving side had it all and did not answer
│       └── CutOff           it went away instead
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

    # Seconds until another attempt, doubling from the first to the longest with each attempt.
    first_wait, longest_wait = 1.0, 60.0


class Resting(TemporaryFailure):
    """Not even tried, as the receiving side kept others waiting; it may soon be well again."""

    longest_wait = 15.0


class OutcomeUnknown(TemporaryFailure):
    """The receiving side had it all and kept silent: another attempt may be a second copy, so it is rare."""

    # Doubling with each attempt that ended so.
    first_wait, longest_wait = 600.0, 9600.0


class CutOff(OutcomeUnknown):
    """It went away instead: rather dead than in possession, so the first other attempt comes soon."""

    first_wait = 15.0


class PermanentFailure(DeliveryError):
    """Would fail again."""


class SubscriptionGone(PermanentFailure):
    """The push service has forgotten this browser."""


class UnknownUser(LookupError):
    """An event names a user whom the user service does not know."""
