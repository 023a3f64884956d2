//! What an error of a server means.
//!
//! immudb's codes are coarse, most are `UNKNOWN`; its texts tell, and differ from version to version.

use std::time::Duration;

use tonic::{Code, Status};

use super::connect;
use crate::secret::{Credentials, excerpt};

/// Why a call gave no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    /// Nothing answers there, or the connection broke.
    #[error("the server can't be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It is busy.
    #[error("the server is busy: {0}")]
    Busy(String),
    /// User or password are wrong, or needed.
    #[error("the login is refused: {0}")]
    Login(String),
    /// The login is over, or unknown after a restart.
    #[error("the login is no longer known")]
    Expired,
    /// It runs without authentication, and the call needs it.
    #[error(
        "the server runs without authentication: it answers for `defaultdb` alone and takes no login; remove \
         `username` and `password` to audit that"
    )]
    NoAuthentication,
    /// The user may not.
    #[error("the user may not read this: {0}")]
    Permission(String),
    /// There is no such database.
    #[error("the database does not exist on the server")]
    MissingDatabase,
    /// The database is closed.
    #[error("the database is not loaded")]
    Unloaded,
    /// It has fewer transactions than asked for.
    #[error("the server lacks a transaction: {0}")]
    NoSuchTx(String),
    /// It says itself that a transaction is damaged.
    #[error("the server reports damage: {text}")]
    Corrupt {
        /// The transaction, if it says which.
        tx: Option<u64>,
        /// Its words.
        text: String,
    },
    /// It can't prove over trees that lag.
    #[error("the server can't make this proof: {0}")]
    Lag(String),
    /// It says itself that a value is damaged.
    #[error("the server reports a damaged value: {0}")]
    Value(String),
    /// It no longer has values: they were truncated, or removed.
    #[error("the server no longer has the values: {0}")]
    Gone(String),
    /// It is too old for this call.
    #[error("the server doesn't know this call")]
    Unimplemented,
    /// The answer is larger than allowed.
    #[error("the answer is larger than `max_message`: {0}")]
    TooLarge(String),
    /// The answer can't be read.
    #[error("the answer can't be read: {0}")]
    Malformed(String),
    /// Anything else.
    #[error("the server refuses: {0}")]
    Other(String),
}

impl Fault {
    /// Stable name, for machines.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::Busy(_) => "busy",
            Self::Login(_) => "login",
            Self::Expired => "expired",
            Self::NoAuthentication => "no-authentication",
            Self::Permission(_) => "permission",
            Self::MissingDatabase => "missing",
            Self::Unloaded => "unloaded",
            Self::NoSuchTx(_) => "no-such-tx",
            Self::Corrupt { .. } => "corrupt-tx",
            Self::Lag(_) => "lag",
            Self::Value(_) => "value",
            Self::Gone(_) => "gone",
            Self::Unimplemented => "unimplemented",
            Self::TooLarge(_) => "too-large",
            Self::Malformed(_) => "malformed",
            Self::Other(_) => "error",
        }
    }
}

/// The number behind `at tx ` or `reading tx `.
fn tx(text: &str) -> Option<u64> {
    let rest = &text[text.find(" tx ")? + 4..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Judges an error by code and text. Nothing of the credentials is in what it gives.
pub(crate) fn of(status: &Status, credentials: Option<&Credentials>) -> Fault {
    let said = status.message();
    let shown = || excerpt(said, credentials);
    let starts = |heads: &[&str]| heads.iter().any(|head| said.starts_with(head));
    let holds = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    // What a server says has no cause here: a call that was cancelled with one lost its connection.
    let cause = std::error::Error::source(status);
    let lost = || {
        let cause = cause.map(connect::explain);
        Fault::Unreachable(cause.map_or_else(shown, |cause| excerpt(&cause, credentials)))
    };
    match status.code() {
        Code::Unavailable => return lost(),
        Code::Cancelled if cause.is_some() => return lost(),
        Code::ResourceExhausted | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
            return Fault::Busy(shown());
        }
        Code::Unimplemented => return Fault::Unimplemented,
        Code::OutOfRange if holds(&["message length too large"]) => return Fault::TooLarge(shown()),
        Code::DataLoss => {
            let (tx, text) = (tx(said), shown());
            return Fault::Corrupt { tx, text };
        }
        Code::Internal if holds(&["failed to decode Protobuf message", "Missing response message"]) => {
            return Fault::Malformed(shown());
        }
        _ => {}
    }
    if starts(&[
        "invalid user name or password",
        "user is not active",
        "no authentication data provided",
    ]) || holds(&[
        "no session auth data provided",
        "no sessionID provided",
        "only local connections are accepted",
    ]) {
        Fault::Login(shown())
    } else if holds(&["authentication disabled", "available only with authentication on"]) {
        Fault::NoAuthentication
    } else if starts(&[
        "token has expired",
        "please login",
        "Please login",
        "not logged in",
        "invalid token",
        "session not found",
        "no session found",
    ]) {
        Fault::Expired
    } else if holds(&[
        "max sessions number reached",
        "pool exhausted",
        "max concurrency limit exceeded",
        "maintenance mode",
    ]) {
        Fault::Busy(shown())
    } else if holds(&[
        "does not have permission",
        "permission denied",
        "do not have permission",
    ]) {
        Fault::Permission(shown())
    } else if starts(&["database does not exist"])
        || (said.ends_with("does not exist") && status.code() != Code::Internal)
    {
        Fault::MissingDatabase
    } else if starts(&["already closed"]) {
        Fault::Unloaded
    } else if starts(&["illegal state", "tx not found"]) {
        Fault::NoSuchTx(shown())
    } else if holds(&[
        "binary linking mismatch",
        "internal inconsistency between linear and binary linking",
    ]) {
        Fault::Lag(shown())
    } else if holds(&[
        "tx data is corrupted",
        "log is corrupted",
        "hash tree is corrupted",
        "corrupted transaction log",
    ]) {
        let (tx, text) = (tx(said), shown());
        Fault::Corrupt { tx, text }
    } else if starts(&["data is corrupted"]) {
        Fault::Value(shown())
    } else if said == "EOF" {
        Fault::Gone(shown())
    } else {
        // Codes that say nothing beside a text that says nothing, such as those of a connection that broke.
        match (status.code(), std::error::Error::source(status)) {
            (Code::Unknown | Code::Internal, Some(cause)) => {
                Fault::Unreachable(excerpt(&connect::explain(cause), credentials))
            }
            _ => Fault::Other(format!("{:?}: {}", status.code(), shown())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_versions() {
        use Code::{DataLoss, Internal, InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unknown};
        for (code, text, expected) in [
            (Unknown, "invalid user name or password", "login"),
            (PermissionDenied, "invalid user name or password", "login"),
            (Unknown, "user is not active", "login"),
            (
                Unknown,
                "server is running with authentication disabled, please enable authentication to login",
                "no-authentication",
            ),
            (
                Unknown,
                "this command is available only with authentication on",
                "no-authentication",
            ),
            (PermissionDenied, "token has expired: token validation error", "expired"),
            (Unknown, "please login", "expired"),
            (Unknown, "please login first", "expired"),
            (Unauthenticated, "Please login", "expired"),
            (Internal, "not logged in", "expired"),
            (Internal, "invalid token", "expired"),
            (PermissionDenied, "session not found", "expired"),
            (
                Unknown,
                "can not create new session: max sessions number reached",
                "busy",
            ),
            (Unknown, "read tx pool exhausted", "busy"),
            (NotFound, "'orders' does not exist", "missing"),
            (Unknown, "database does not exist", "missing"),
            (Unknown, "orders does not exist", "missing"),
            (
                PermissionDenied,
                "Logged in user does not have permission on this database",
                "permission",
            ),
            (Internal, "permission denied", "permission"),
            (Unknown, "you do not have permission for this operation", "permission"),
            (Unknown, "already closed", "unloaded"),
            (InvalidArgument, "illegal state", "no-such-tx"),
            (
                Unknown,
                "illegal state: latest txID=5 is lower than specified as initial tx=9",
                "no-such-tx",
            ),
            (Unknown, "tx not found", "no-such-tx"),
            (Unknown, "tx data is corrupted", "corrupt-tx"),
            (Unknown, "tx data is corrupted: ALH mismatch at tx 17", "corrupt-tx"),
            (Unknown, "corrupted transaction log: cut", "corrupt-tx"),
            (DataLoss, "tampered", "corrupt-tx"),
            (Unknown, "tx data is corrupted: binary linking mismatch at tx 4", "lag"),
            (Unknown, "data is corrupted: value length or digest mismatch", "value"),
            (Unknown, "EOF", "gone"),
            (Code::Unimplemented, "unknown method X", "unimplemented"),
            (Code::Unavailable, "gone", "unreachable"),
            (Unknown, "unable to get state", "error"),
        ] {
            let fault = of(&Status::new(code, text), None);
            assert_eq!(fault.code(), expected, "{text}: {fault}");
        }
        let fault = of(&Status::unknown("tx data is corrupted: ALH mismatch at tx 17"), None);
        assert!(matches!(fault, Fault::Corrupt { tx: Some(17), .. }));
    }

    #[test]
    fn no_text_repeats_the_password() {
        let known = Credentials::new("a", "hunter2").unwrap();
        for code in (0..17).map(Code::from) {
            let fault = of(&Status::new(code, "what is hunter2?"), Some(&known));
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }
}
