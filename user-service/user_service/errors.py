"""What the user service's rules refuse.

DomainError
├── UsernameTaken, EmailTaken    somebody else has it, compared without case
├── InvalidCredentials           wrong name or password; never says which
├── WrongPassword                the current password, asked for again, is another
├── AccountDisabled              told only to who knows the password
├── InvalidToken                 a refresh token that is unknown or has expired
├── TokenReused                  a refresh token that was spent; its session has ended
├── LastAdmin                    nobody would be left to administrate
├── TooManyAddresses             the address book is full
└── InvalidMailToken             a token from a mail that is unknown, used or has expired
"""

from chassis.errors import DomainError, ErrorTable


class UsernameTaken(DomainError):
    detail = "This username is taken."


class EmailTaken(DomainError):
    detail = "This e-mail address is taken."


class InvalidCredentials(DomainError):
    detail = "Wrong name or password."


class WrongPassword(DomainError):
    detail = "This is not the current password."


class AccountDisabled(DomainError):
    detail = "This account is disabled."


class InvalidToken(DomainError):
    detail = "The token is unknown or has expired."


class TokenReused(DomainError):
    detail = "The token was used before; its session has ended."


class InvalidMailToken(DomainError):
    detail = "The token is unknown, was used or has expired."


class EmailVerified(DomainError):
    detail = "This e-mail address is verified already."


class TooManyAddresses(DomainError):
    detail = "There are 20 addresses already; remove one first."


class LastAdmin(DomainError):
    detail = "This is the last active administrator."


ERROR_TABLE: ErrorTable = {
    UsernameTaken: (409, "username_taken"),
    EmailTaken: (409, "email_taken"),
    InvalidCredentials: (401, "invalid_credentials"),
    WrongPassword: (403, "wrong_password"),
    AccountDisabled: (403, "account_disabled"),
    InvalidToken: (401, "invalid_token"),
    TokenReused: (401, "token_reused"),
    InvalidMailToken: (400, "invalid_token"),
    EmailVerified: (409, "email_verified"),
    LastAdmin: (409, "last_admin"),
    TooManyAddresses: (409, "too_many_addresses"),
}
