"""What the use-cases work with."""

from dataclasses import dataclass

from user_service.services.attempts import Attempts
from user_service.services.hashing import Hasher
from user_service.services.keys import Signer
from user_service.services.session_store import SessionStore


@dataclass(frozen=True)
class Tools:
    """The collaborators of one app, wired in `create_app`."""

    hasher: Hasher
    attempts: Attempts
    signer: Signer
    sessions: SessionStore
