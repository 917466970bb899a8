"""What the user service takes and shows."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue

from chassis.api import View
from chassis.reading import Body, Query
from chassis.tokens import ACCESS_SECONDS
from user_service.common_passwords import is_common
from user_service.names import (
    EMAIL_LENGTH,
    NICKNAME_LENGTH,
    PHONE_PATTERN,
    USERNAME_LENGTH,
    clean_email,
    clean_line,
    clean_nickname,
    clean_phone,
    clean_username,
)


def lengths(least: int, most: int) -> dict[str, JsonValue]:
    """Return what the OpenAPI document says of a string's length."""
    return {"minLength": least, "maxLength": most}


def refuse_common(password: str) -> str:
    """Return the password unless it is one of the 10,000 most common."""
    if is_common(password):
        raise ValueError("is too common")
    return password


# The rules measure what is composed (NFC), so the lengths stand in the document alone.
Username = Annotated[str, AfterValidator(clean_username), Field(json_schema_extra=lengths(*USERNAME_LENGTH))]
Email = Annotated[
    str, AfterValidator(clean_email), Field(max_length=EMAIL_LENGTH, json_schema_extra={"format": "email"})
]
Phone = Annotated[str, AfterValidator(clean_phone), Field(json_schema_extra={"pattern": PHONE_PATTERN})]
Nickname = Annotated[
    str, AfterValidator(clean_nickname), Field(json_schema_extra=lengths(1, NICKNAME_LENGTH))
]
NewPassword = Annotated[str, Field(min_length=8, max_length=128), AfterValidator(refuse_common)]
Line = Annotated[str, Field(min_length=1), AfterValidator(clean_line)]
# Couriers call any number, also one that no text message reaches.
DeliveryPhone = Annotated[str, Field(min_length=3, max_length=32, pattern=r"^[0-9+(][0-9 ()+-]+$")]
Locale = Literal["zh-CN", "en"]
Role = Literal["customer", "admin"]


class RegisterIn(Body):
    username: Username
    email: Email
    password: NewPassword
    phone: Phone | None = None
    locale: Locale = "zh-CN"


class LoginIn(Body):
    username: str = Field(max_length=254, description="Username or e-mail address.")
    password: str = Field(max_length=128)


class RefreshIn(Body):
    refresh_token: str = Field(max_length=200)


class ProfileIn(Body):
    """Only the fields given are changed; null takes phone or nickname away."""

    # The factories are for the schema alone: these may be left out, but not be null.
    username: Username = Field(default_factory=str)
    phone: Phone | None = None
    nickname: Nickname | None = None
    locale: Locale = Field(default_factory=lambda: "zh-CN")
    email: Email = Field(default_factory=str, description="Counts once verified; needs `current_password`.")
    current_password: str | None = Field(default=None, max_length=128)


class PasswordIn(Body):
    current_password: str = Field(max_length=128)
    new_password: NewPassword


class AddressIn(Body):
    """A delivery address; changing one, what may be left out keeps its value."""

    recipient: Annotated[Line, Field(max_length=100)]
    phone: DeliveryPhone
    province: Annotated[Line, Field(max_length=100)]
    city: Annotated[Line, Field(max_length=100)]
    district: Annotated[Line, Field(max_length=100)]
    street: Annotated[Line, Field(max_length=200)]
    postal_code: Annotated[Line, Field(max_length=16)] | None = None
    is_default: bool = False


class VerifyEmailIn(Body):
    token: str = Field(max_length=200)


class ForgotIn(Body):
    email: str = Field(max_length=EMAIL_LENGTH, json_schema_extra={"format": "email"})


class ResetIn(Body):
    token: str = Field(max_length=200)
    new_password: NewPassword


class UserChangeIn(Body):
    """Only the fields given are changed."""

    # The factories are for the schema alone: these may be left out, but not be null.
    role: Role = Field(default_factory=lambda: "customer")
    active: bool = Field(default_factory=lambda: True)


class UsersQuery(Query):
    q: str | None = Field(default=None, max_length=EMAIL_LENGTH, description="Part of name or e-mail.")
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = None


class MailTokenIn(Body):
    purpose: Literal["verification", "recovery", "email_change"] = "verification"


class UserView(View):
    id: int
    username: str
    email: str
    email_verified: bool
    pending_email: str | None
    phone: str | None
    nickname: str | None
    locale: Locale
    role: Role
    active: bool
    created_at: datetime
    updated_at: datetime


class UserPage(View):
    """One page of users, newest first."""

    items: list[UserView]
    next_cursor: str | None


class TokensView(View):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int = ACCESS_SECONDS
    refresh_token: str
    user: UserView


class AddressView(View):
    id: int
    recipient: str
    phone: str
    province: str
    city: str
    district: str
    street: str
    postal_code: str | None
    is_default: bool
    created_at: datetime
    updated_at: datetime


class AddressList(View):
    items: list[AddressView]
    next_cursor: None = None


class SessionView(View):
    """A device that is signed in."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    address: str
    current: bool


class SessionList(View):
    items: list[SessionView]
    next_cursor: None = None


class JwkView(View):
    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class JwksView(View):
    keys: list[JwkView]


class InternalUserView(View):
    """A user as other services see it; `phone` is E.164."""

    user_id: int = Field(validation_alias="id")
    username: str
    email: str
    phone: str | None = Field(validation_alias="phone_e164")
    locale: Locale
    role: Role
    active: bool
    email_verified: bool


class AdminView(View):
    id: int
    user_id: int = Field(validation_alias="id")
    email: str
    locale: Locale


class AdminList(View):
    items: list[AdminView]
    next_cursor: None = None


class MailTokenView(View):
    token: str
    email: str
    expires_at: datetime
