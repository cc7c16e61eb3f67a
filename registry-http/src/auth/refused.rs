//! [`TokenRefused`].

/// Why a token is not accepted. What it says is fit for clients: nothing in it is from the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefused {
    /// Not a signed JWT, or a claim is not what it should be.
    #[error("the token is malformed")]
    Malformed,
    /// More than 16 KiB.
    #[error("the token is too long")]
    TooLong,
    /// An algorithm that is not accepted, or an extension that has to be understood.
    #[error("the token's algorithm or one of its extensions is not supported")]
    Unsupported,
    /// Of somebody else.
    #[error("the token is of another issuer")]
    WrongIssuer,
    /// For somebody else.
    #[error("the token is for another audience")]
    WrongAudience,
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// Not yet begun, or issued in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It does not say whose it is, or in a way that is of no use as a name.
    #[error("the token does not name a user")]
    UnusableUser,
    /// Its groups are of no use as names.
    #[error("the token's groups are not names")]
    UnusableGroups,
    /// The issuer publishes no key of this id for this algorithm.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// Not signed by the key, or changed since.
    #[error("the token's signature is wrong")]
    BadSignature,
}
