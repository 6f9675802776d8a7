//! The reasons for which a caller counts as nobody who is known.

/// A reason for which a caller counts as nobody who is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// The call came without credentials.
    NoCredentials,
    /// The call came with several credentials.
    SeveralCredentials,
    /// The credentials are of another kind than a bearer token.
    NotBearer,
    /// The token is not known, or not well formed, or its signature is wrong.
    BadToken,
    /// The token is signed by a key that is not known.
    UnknownKey,
    /// The token's time is over.
    Expired,
    /// The token's time has not begun.
    NotYetValid,
    /// The token is for another audience.
    WrongAudience,
    /// The token is of another issuer.
    WrongIssuer,
    /// The token lacks a claim that is asked for, or has one that cannot be read.
    MissingClaim,
    /// The token names no client.
    NoName,
}

impl Unauthenticated {
    /// The reason for programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoCredentials => "NO_CREDENTIALS",
            Self::Expired => "TOKEN_EXPIRED",
            _ => "BAD_TOKEN",
        }
    }

    /// The reason for people, with what was expected.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NoCredentials => {
                "expected credentials: a header 'authorization: Bearer TOKEN', or a client's \
                 certificate where the server takes them"
            }
            Self::SeveralCredentials => "expected one header 'authorization', got several",
            Self::NotBearer => "expected a header 'authorization: Bearer TOKEN', got another kind",
            Self::BadToken => "the token is not known to this server, or its signature is wrong",
            Self::UnknownKey => "the token is signed by a key that this server does not know",
            Self::Expired => "the token has expired: get a new one",
            Self::NotYetValid => "the token is not valid yet, by its claim 'nbf'",
            Self::WrongAudience => "the token is for another audience, by its claim 'aud'",
            Self::WrongIssuer => "the token is of another issuer, by its claim 'iss'",
            Self::MissingClaim => {
                "the token lacks a claim, or has one of another kind: expected 'exp' as a number, \
                 'aud', and 'iss' where the server asks for an issuer"
            }
            Self::NoName => {
                "the token names no client, or one that is too long or in too many groups"
            }
        }
    }
}
