//! A login, and the database that it is on.
//!
//! `Logout` is never called: up to 1.10 it ends all logins of the user, also those of other clients.

use std::time::Instant;

use auditmon_proto::immudb as proto;
use tonic::metadata::MetadataMap;

use super::{Answer, Client, Fault, header, rpc};
use crate::config::Login;
use crate::secret::Credentials;

/// What a server without authentication answers for.
pub(crate) const ONLY: &str = "defaultdb";

/// One login. Calls on it follow each other.
pub(crate) struct Seat {
    style: Style,
    auth: MetadataMap,
    database: Option<String>,
    used: Instant,
}

enum Style {
    /// Nobody logged in.
    None,
    Session,
    /// With the headers of the login itself, which each database's token is asked for with.
    Token(MetadataMap),
}

impl Seat {
    fn new(style: Style, auth: MetadataMap, database: Option<String>) -> Self {
        Self {
            style,
            auth,
            database,
            used: Instant::now(),
        }
    }

    pub(super) fn auth(&self) -> &MetadataMap {
        &self.auth
    }

    /// The database that it is on.
    pub(crate) fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Whether nobody logged in.
    pub(crate) fn is_without_login(&self) -> bool {
        matches!(self.style, Style::None)
    }

    /// Whether it ends unless it is used.
    pub(crate) fn expires(&self) -> bool {
        matches!(self.style, Style::Session)
    }

    /// When it was used last.
    pub(crate) fn used(&self) -> Instant {
        self.used
    }

    /// It is used now.
    pub(crate) fn touch(&mut self) {
        self.used = Instant::now();
    }
}

impl Client {
    /// Logs in, for this database first. Without credentials it is tried without.
    pub(crate) async fn open(&self, database: &str) -> Result<Seat, Fault> {
        let Some(known) = &self.credentials else {
            return Ok(Seat::new(Style::None, MetadataMap::new(), None));
        };
        match self.login {
            Login::Session => self.open_session(known, database).await,
            Login::Token => self.open_token(known).await,
            Login::Auto => match self.open_session(known, database).await {
                Err(Fault::Unimplemented) => self.open_token(known).await,
                other => other,
            },
        }
    }

    /// Logs in to ask for the list of databases. A session has to be on some database, which the user may be refused
    /// or which may be gone: then a token does.
    pub(crate) async fn open_any(&self, databases: &[String]) -> Result<Seat, Fault> {
        let first = databases.first().map_or(ONLY, String::as_str);
        match (self.open(first).await, &self.credentials) {
            (Err(Fault::Permission(_) | Fault::MissingDatabase | Fault::Unloaded), Some(known))
                if self.login == Login::Auto =>
            {
                self.open_token(known).await
            }
            (other, _) => other,
        }
    }

    async fn open_session(&self, known: &Credentials, database: &str) -> Result<Seat, Fault> {
        let request = proto::OpenSessionRequest {
            username: known.username.as_bytes().to_vec(),
            password: known.password().to_vec(),
            database_name: database.to_owned(),
        };
        let answer: Answer<proto::OpenSessionResponse> =
            self.call(rpc!("OpenSession"), &MetadataMap::new(), request).await?;
        let mut auth = MetadataMap::new();
        auth.insert("sessionid", header(&answer.message.session_id)?);
        Ok(Seat::new(Style::Session, auth, Some(database.to_owned())))
    }

    async fn open_token(&self, known: &Credentials) -> Result<Seat, Fault> {
        let request = proto::LoginRequest {
            user: known.username.as_bytes().to_vec(),
            password: known.password().to_vec(),
        };
        let answer: Answer<proto::LoginResponse> = self.call(rpc!("Login"), &MetadataMap::new(), request).await?;
        let auth = bearer(&answer.message.token)?;
        Ok(Seat::new(Style::Token(auth.clone()), auth, None))
    }

    /// Puts a seat on a database.
    pub(crate) async fn select(&self, seat: &mut Seat, database: &str) -> Result<(), Fault> {
        seat.touch();
        if seat.database() == Some(database) {
            return Ok(());
        }
        let auth = match &seat.style {
            // Nothing can be selected there.
            Style::None if database == ONLY => return Ok(()),
            Style::None => return Err(Fault::NoAuthentication),
            Style::Session => seat.auth.clone(),
            Style::Token(login) => login.clone(),
        };
        // What it is on is not known until the answer is there.
        seat.database = None;
        let request = proto::Database {
            database_name: database.to_owned(),
        };
        let answer: Answer<proto::UseDatabaseReply> = self.call(rpc!("UseDatabase"), &auth, request).await?;
        if matches!(seat.style, Style::Token(_)) {
            seat.auth = bearer(&answer.message.token)?;
        }
        seat.database = Some(database.to_owned());
        Ok(())
    }

    /// Keeps a session from ending.
    pub(crate) async fn keep_alive(&self, seat: &mut Seat) -> Result<(), Fault> {
        seat.touch();
        let answer: Result<Answer<proto::Empty>, Fault> =
            self.call(rpc!("KeepAlive"), &seat.auth, proto::Empty {}).await;
        answer.map(|_| ())
    }

    /// Gives a session back; what comes of it is the server's business.
    pub(crate) async fn close(&self, seat: Seat) {
        if seat.expires() {
            let _: Result<Answer<proto::Empty>, Fault> =
                self.call(rpc!("CloseSession"), &seat.auth, proto::Empty {}).await;
        }
    }
}

fn bearer(token: &str) -> Result<MetadataMap, Fault> {
    let mut auth = MetadataMap::new();
    auth.insert("authorization", header(token)?);
    Ok(auth)
}
