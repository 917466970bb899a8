"""The use-cases of the notification service."""

from notification_service.models import db
from notification_service.services.dispatching import Sweep
from notification_service.services.history import list_history, retry_notification
from notification_service.services.people import save_person
from notification_service.services.preferences import read_preferences, write_preferences
from notification_service.services.queueing import (
    ask_about_user,
    ask_whom_to_warn,
    mail_email_change,
    mail_recovery,
    notify_low_stock,
    notify_order,
    queue_email,
    queue_push,
    queue_sms,
    welcome,
)
from notification_service.services.sending import Tools, send_notification
from notification_service.services.subscriptions import PushKeys, subscribe, unsubscribe
from notification_service.services.tracing import find_mailed, forget_handled

__all__ = [
    "PushKeys",
    "Sweep",
    "Tools",
    "ask_about_user",
    "ask_whom_to_warn",
    "db",
    "find_mailed",
    "forget_handled",
    "list_history",
    "mail_email_change",
    "mail_recovery",
    "notify_low_stock",
    "notify_order",
    "queue_email",
    "queue_push",
    "queue_sms",
    "read_preferences",
    "retry_notification",
    "save_person",
    "send_notification",
    "subscribe",
    "unsubscribe",
    "welcome",
    "write_preferences",
]
