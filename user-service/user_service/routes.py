"""The public routes: accounts, sessions, profile, keys."""

from typing import Any
from uuid import UUID

from flask import current_app, request

from chassis.api import Answer, Api
from chassis.errors import NotFound
from chassis.tokens import Identity
from user_service.errors import (
    AccountDisabled,
    EmailTaken,
    InvalidCredentials,
    InvalidMailToken,
    InvalidToken,
    LastAdmin,
    TokenReused,
    TooManyAddresses,
    UsernameTaken,
    WrongPassword,
)
from user_service.schemas import (
    AddressIn,
    AddressList,
    AddressView,
    ForgotIn,
    JwksView,
    LoginIn,
    PasswordIn,
    ProfileIn,
    RefreshIn,
    RegisterIn,
    ResetIn,
    SessionList,
    TokensView,
    UserChangeIn,
    UserPage,
    UsersQuery,
    UserView,
    VerifyEmailIn,
)
from user_service.services import (
    accounts,
    addresses,
    administration,
    keys,
    mail_tokens,
    passwords,
    profile,
    sessions,
)
from user_service.services.tools import Tools

accounts_api = Api("accounts")
sessions_api = Api("sessions")
profile_api = Api("profile")
addresses_api = Api("addresses")
users_api = Api("users")
keys_api = Api("keys", prefix="")

APIS = (accounts_api, sessions_api, profile_api, addresses_api, users_api, keys_api)


def tools() -> Tools:
    """Return the app's collaborators."""
    found: Tools = current_app.extensions["tools"]
    return found


def db_session() -> Any:
    """Return the request's database session."""
    return current_app.extensions["edge"].session()


@accounts_api.post(
    "/register", who="anyone", body=RegisterIn, answers={201: UserView}, errors=(UsernameTaken, EmailTaken)
)
def register(body: RegisterIn) -> object:
    """Make an account."""
    tools().attempts.count_request("register", request.remote_addr or "")
    return accounts.register(db_session(), tools().hasher, **body.model_dump())


@sessions_api.post(
    "/login",
    who="anyone",
    body=LoginIn,
    answers={200: TokensView},
    errors=(InvalidCredentials, AccountDisabled),
)
def login(body: LoginIn) -> object:
    """Sign in with username or e-mail address."""
    tools().attempts.count_request("login", request.remote_addr or "")
    return sessions.sign_in(
        db_session(),
        tools(),
        name=body.username,
        password=body.password,
        user_agent=request.user_agent.string,
        address=request.remote_addr or "",
    )


@sessions_api.post(
    "/token/refresh",
    who="anyone",
    body=RefreshIn,
    answers={200: TokensView},
    errors=(InvalidToken, TokenReused),
)
def refresh_token(body: RefreshIn) -> object:
    """Spend a refresh token for a new pair of tokens."""
    return sessions.refresh(db_session(), tools(), body.refresh_token)


@sessions_api.post("/logout", who="user", answers={204: None})
def logout(user: Identity) -> None:
    """Sign out of this session."""
    sessions.sign_out(tools(), user)


@accounts_api.post("/password/forgot", who="anyone", body=ForgotIn, answers={202: None})
def request_recovery(body: ForgotIn) -> None:
    """Ask for a mail with which to set a new password; the answer never tells whether one is sent."""
    tools().attempts.count_request("recover", request.remote_addr or "")
    passwords.request_recovery(db_session(), tools(), body.email)


@accounts_api.post(
    "/password/reset", who="anyone", body=ResetIn, answers={204: None}, errors=(InvalidMailToken,)
)
def reset_password(body: ResetIn) -> None:
    """Set a new password by the token of a mail; every session ends."""
    tools().attempts.count_request("recover", request.remote_addr or "")
    passwords.reset_password(db_session(), tools(), token=body.token, new=body.new_password)


@sessions_api.get("/sessions", who="user", answers={200: SessionList})
def list_sessions(user: Identity) -> object:
    """List the devices on which one is signed in."""
    return {"items": sessions.list_sessions(tools(), user)}


@sessions_api.delete("/sessions/<uuid:session_id>", who="user", answers={204: None}, errors=(NotFound,))
def end_session(session_id: UUID, user: Identity) -> None:
    """Sign out on one device."""
    sessions.end_session(tools(), user, str(session_id))


@profile_api.get("/profile", who="user", answers={200: UserView})
def get_profile(user: Identity) -> object:
    """Show one's own account."""
    return accounts.get_user(db_session(), user.user_id)


@profile_api.put(
    "/profile",
    who="user",
    body=ProfileIn,
    answers={200: UserView},
    errors=(UsernameTaken, EmailTaken, WrongPassword),
)
def change_profile(body: ProfileIn, user: Identity) -> object:
    """Change one's own account."""
    changes = body.model_dump(exclude_unset=True)
    return profile.change_profile(db_session(), tools(), user.user_id, changes)


@profile_api.put(
    "/profile/password", who="user", body=PasswordIn, answers={204: None}, errors=(WrongPassword,)
)
def change_password(body: PasswordIn, user: Identity) -> None:
    """Change one's password; every other session ends."""
    passwords.change_password(
        db_session(), tools(), user, current=body.current_password, new=body.new_password
    )


@addresses_api.get("/profile/addresses", who="user", answers={200: AddressList})
def list_addresses(user: Identity) -> object:
    """List one's delivery addresses."""
    return {"items": addresses.list_addresses(db_session(), user.user_id)}


@addresses_api.post(
    "/profile/addresses",
    who="user",
    body=AddressIn,
    answers={201: AddressView},
    errors=(TooManyAddresses,),
)
def add_address(body: AddressIn, user: Identity) -> Answer:
    """Add a delivery address, 20 at most; a new default takes the old one's place."""
    address = addresses.add_address(db_session(), user.user_id, body.model_dump())
    return Answer(201, address, {"Location": f"/api/v1/profile/addresses/{address.id}"})


@addresses_api.get(
    "/profile/addresses/<id:address_id>", who="user", answers={200: AddressView}, errors=(NotFound,)
)
def get_address(address_id: int, user: Identity) -> object:
    """Show one of one's delivery addresses."""
    return addresses.get_address(db_session(), user.user_id, address_id)


@addresses_api.put(
    "/profile/addresses/<id:address_id>",
    who="user",
    body=AddressIn,
    answers={200: AddressView},
    errors=(NotFound,),
)
def change_address(body: AddressIn, address_id: int, user: Identity) -> object:
    """Change one of one's delivery addresses."""
    fields = body.model_dump(exclude_unset=True)
    return addresses.change_address(db_session(), user.user_id, address_id, fields)


@addresses_api.delete(
    "/profile/addresses/<id:address_id>", who="user", answers={204: None}, errors=(NotFound,)
)
def remove_address(address_id: int, user: Identity) -> None:
    """Remove one of one's delivery addresses."""
    addresses.remove_address(db_session(), user.user_id, address_id)


@accounts_api.post(
    "/email/verify",
    who="anyone",
    body=VerifyEmailIn,
    answers={204: None},
    errors=(InvalidMailToken, EmailTaken),
)
def verify_email(body: VerifyEmailIn) -> None:
    """Confirm an e-mail address by the token of a mail."""
    mail_tokens.verify_email(db_session(), body.token)


@users_api.get(
    "/users", who="admin", query=UsersQuery, answers={200: UserPage}, refusals={400: ["invalid_cursor"]}
)
def list_users(query: UsersQuery) -> object:
    """List the users, newest first."""
    return administration.list_users(db_session(), **query.model_dump())


@users_api.get("/users/<id:user_id>", who="admin", answers={200: UserView}, errors=(NotFound,))
def get_user(user_id: int) -> object:
    """Show one user."""
    return accounts.get_user(db_session(), user_id)


@users_api.patch(
    "/users/<id:user_id>",
    who="admin",
    body=UserChangeIn,
    answers={200: UserView},
    errors=(NotFound, LastAdmin),
)
def change_user(body: UserChangeIn, user_id: int) -> object:
    """Give a user another role, disable or enable; it works on every service within a second."""
    changes = body.model_dump(exclude_unset=True)
    return administration.change_user(db_session(), tools(), user_id, **changes)


@keys_api.get("/.well-known/jwks.json", who="anyone", answers={200: JwksView})
def show_keys() -> object:
    """Show the public keys of access tokens."""
    return keys.read_key_set(db_session())
