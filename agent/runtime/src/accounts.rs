//! API keys, page sessions and one-time tokens: `accounts.db`, held in memory by the agent.
//!
//! Keys are 256 random bits; the database holds their SHA-256 only. Commands write the database beside a
//! running agent, which follows it within a second.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::keys::{Caller, Keys, RESERVED};
use auditmon_core::time::{self, Nanos};
use parking_lot::RwLock;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, Row as _};

/// How long a one-time address is good for.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// How long a page session lasts.
const SESSION_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How often the agent looks for changes.
const FOLLOW: Duration = Duration::from_millis(400);

const SCHEMA: &str = include_str!("../../../migrations/accounts/0001_keys.sql");

/// Why an account could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The database.
    #[error("{path}: the accounts can't be {doing}: {error}")]
    Database {
        /// Its file.
        path: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        error: sqlx::Error,
    },
    /// Not a name for a key.
    #[error("`{0}` can't be the name of a key: 1–64 of a–z, 0–9, `.`, `_`, `-`")]
    Name(String),
    /// A plugin's name.
    #[error("`{0}` can't be the name of a key: events of a plugin carry it")]
    Reserved(String),
    /// Used once.
    #[error("there is or was a key `{0}`; a name is never used twice")]
    Taken(String),
    /// No such key.
    #[error("there is no key `{0}` that could be revoked")]
    Unknown(String),
}

/// A key as `keys list` shows it.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Its name.
    pub name: String,
    /// Its scopes, in words.
    pub scopes: String,
    /// When it was made.
    pub created: Nanos,
    /// When it was revoked.
    pub revoked: Option<Nanos>,
}

/// The accounts' database.
pub struct Accounts {
    path: PathBuf,
    db: SqliteConnection,
}

impl Accounts {
    /// Opens or makes `accounts.db` in the data directory.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn open(data_dir: &Path) -> Result<Self, AccountError> {
        let path = data_dir.join("accounts.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let fail = |error| AccountError::Database {
            path: path.display().to_string(),
            doing: "opened",
            error,
        };
        let mut db = SqliteConnection::connect_with(&options).await.map_err(fail)?;
        sqlx::raw_sql(SCHEMA).execute(&mut db).await.map_err(fail)?;
        Ok(Self { path, db })
    }

    fn fail(&self, doing: &'static str) -> impl Fn(sqlx::Error) -> AccountError + use<> {
        let path = self.path.display().to_string();
        move |error| AccountError::Database {
            path: path.clone(),
            doing,
            error,
        }
    }

    /// Makes a key and gives its secret, which is nowhere else.
    ///
    /// # Errors
    /// The name is no name, reserved, or was used before.
    pub async fn create(&mut self, name: &str, write: bool, read: bool) -> Result<String, AccountError> {
        let good = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
        if !good {
            return Err(AccountError::Name(name.to_owned()));
        }
        if RESERVED.contains(&name) {
            return Err(AccountError::Reserved(name.to_owned()));
        }
        let secret = format!("am_{}", secret());
        let done = sqlx::query("INSERT INTO api_key(name, hash, can_write, can_read, created) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(hash(&secret).to_vec())
            .bind(write)
            .bind(read)
            .bind(time::now().cast_signed())
            .execute(&mut self.db)
            .await
            .map_err(self.fail("written"))?;
        if done.rows_affected() == 0 {
            return Err(AccountError::Taken(name.to_owned()));
        }
        Ok(secret)
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn list(&mut self) -> Result<Vec<KeyRow>, AccountError> {
        let fail = self.fail("read");
        let rows =
            sqlx::query("SELECT name, can_write, can_read, created, revoked FROM api_key ORDER BY created, name")
                .fetch_all(&mut self.db)
                .await
                .map_err(&fail)?;
        rows.into_iter()
            .map(|row| {
                let scopes = match (row.try_get(1)?, row.try_get(2)?) {
                    (true, true) => "write,read",
                    (true, false) => "write",
                    (false, true) => "read",
                    (false, false) => "none",
                };
                Ok(KeyRow {
                    name: row.try_get(0)?,
                    scopes: scopes.to_owned(),
                    created: row.try_get::<i64, _>(3)?.cast_unsigned(),
                    revoked: row.try_get::<Option<i64>, _>(4)?.map(i64::cast_unsigned),
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(fail)
    }

    /// Revokes a key for good.
    ///
    /// # Errors
    /// No such key, or revoked before.
    pub async fn revoke(&mut self, name: &str) -> Result<(), AccountError> {
        let done = sqlx::query("UPDATE api_key SET revoked = ? WHERE name = ? AND revoked IS NULL")
            .bind(time::now().cast_signed())
            .bind(name)
            .execute(&mut self.db)
            .await
            .map_err(self.fail("written"))?;
        if done.rows_affected() == 0 {
            Err(AccountError::Unknown(name.to_owned()))
        } else {
            Ok(())
        }
    }

    /// Whether no key was ever made: the first start.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn is_empty(&mut self) -> Result<bool, AccountError> {
        let row = sqlx::query("SELECT count(*) FROM api_key")
            .fetch_one(&mut self.db)
            .await;
        row.and_then(|row| row.try_get::<i64, _>(0))
            .map(|n| n == 0)
            .map_err(self.fail("read"))
    }

    /// Makes a one-time token for the page, good for an hour.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn page_token(&mut self) -> Result<String, AccountError> {
        let token = secret();
        let expires = time::now() + TOKEN_LIFE.as_nanos() as u64;
        sqlx::query("INSERT INTO page_token(hash, expires) VALUES (?, ?)")
            .bind(hash(&token).to_vec())
            .bind(expires.cast_signed())
            .execute(&mut self.db)
            .await
            .map_err(self.fail("written"))?;
        Ok(token)
    }

    /// Counts up with every change that another connection made.
    async fn version(&mut self) -> Result<i64, sqlx::Error> {
        sqlx::query("PRAGMA data_version")
            .fetch_one(&mut self.db)
            .await?
            .try_get(0)
    }

    /// Takes over what has changed since `version`.
    async fn renew(&mut self, ring: &KeyRing, version: &mut i64) {
        let changed = async {
            let seen = self.version().await?;
            if seen != *version {
                let state = self.load().await?;
                ring.state.write().replace(state);
                *version = seen;
            }
            Ok::<_, sqlx::Error>(())
        };
        if let Err(error) = changed.await {
            tracing::warn!(%error, "accounts.db can't be read; the keys known so far stay valid");
        }
    }

    /// Everything as it was at one moment: else a session could be there beside the token that it was made of.
    async fn load(&mut self) -> Result<State, sqlx::Error> {
        let mut state = State::default();
        let mut tx = self.db.begin().await?;
        let rows = sqlx::query("SELECT hash, name, can_write, can_read FROM api_key WHERE revoked IS NULL")
            .fetch_all(&mut *tx)
            .await?;
        for row in rows {
            let name: String = row.try_get(1)?;
            let caller = Caller {
                name: name.into(),
                write: row.try_get(2)?,
                read: row.try_get(3)?,
            };
            state.keys.insert(row.try_get(0)?, caller);
        }
        for (table, into) in [("page_token", &mut state.tokens), ("session", &mut state.sessions)] {
            let sql = match table {
                "page_token" => "SELECT hash, expires FROM page_token",
                _ => "SELECT hash, expires FROM session",
            };
            for row in sqlx::query(sql).fetch_all(&mut *tx).await? {
                into.insert(row.try_get(0)?, row.try_get::<i64, _>(1)?.cast_unsigned());
            }
        }
        Ok(state)
    }

    /// Turns a token into a session: both in one transaction, so that a token opens one session only.
    async fn redeem(&mut self, token: &[u8], session: &[u8], expires: Nanos) -> Result<(), sqlx::Error> {
        let now = time::now().cast_signed();
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM page_token WHERE hash = ? OR expires < ?")
            .bind(token)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM session WHERE expires < ?")
            .bind(now)
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO session(hash, expires) VALUES (?, ?)")
            .bind(session)
            .bind(expires.cast_signed())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }
}

/// 256 random bits as text.
fn secret() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[derive(Default)]
struct State {
    keys: HashMap<Vec<u8>, Caller>,
    tokens: HashMap<Vec<u8>, Nanos>,
    sessions: HashMap<Vec<u8>, Nanos>,
    /// By session: what is not in the database yet.
    unwritten: HashMap<Vec<u8>, Redeemed>,
}

impl State {
    /// Takes over what the database says, save for what it has not been told yet.
    fn replace(&mut self, read: Self) {
        let unwritten = std::mem::take(&mut self.unwritten);
        *self = read;
        for redeemed in unwritten.values() {
            self.tokens.remove(&redeemed.token);
            self.sessions.insert(redeemed.session.clone(), redeemed.expires);
        }
        self.unwritten = unwritten;
    }
}

/// A token that became a session, to be written down.
#[derive(Clone)]
struct Redeemed {
    token: Vec<u8>,
    session: Vec<u8>,
    expires: Nanos,
}

/// Keys and sessions in memory; see [`follow`].
pub struct KeyRing {
    state: RwLock<State>,
    redeemed: tokio::sync::mpsc::Sender<Redeemed>,
    looks: tokio::sync::mpsc::Sender<tokio::sync::oneshot::Sender<()>>,
}

impl KeyRing {
    /// Looks for changes at once, and comes back when what was in the database before is known.
    pub async fn look(&self) {
        let (done, seen) = tokio::sync::oneshot::channel();
        if self.looks.send(done).await.is_ok() {
            // The task ends with the agent only.
            let _ = seen.await;
        }
    }
}

impl Keys for KeyRing {
    fn check(&self, secret: &str) -> Option<Caller> {
        self.state.read().keys.get(hash(secret).as_slice()).cloned()
    }

    fn session(&self, cookie: &str) -> Option<Caller> {
        let expires = *self.state.read().sessions.get(hash(cookie).as_slice())?;
        (expires > time::now()).then(|| Caller {
            name: "page".into(),
            write: false,
            read: true,
        })
    }

    fn open_session(&self, token: &str) -> Option<String> {
        let token = hash(token).to_vec();
        let mut state = self.state.write();
        let expires = state.tokens.remove(&token)?;
        let now = time::now();
        if expires < now {
            return None;
        }
        let cookie = secret();
        let session = hash(&cookie).to_vec();
        let expires = now + SESSION_LIFE.as_nanos() as u64;
        state.sessions.insert(session.clone(), expires);
        let redeemed = Redeemed {
            token,
            session,
            expires,
        };
        // If the queue is full the session lives in memory only, until the next start.
        if self.redeemed.try_send(redeemed.clone()).is_ok() {
            state.unwritten.insert(redeemed.session.clone(), redeemed);
        }
        drop(state);
        Some(cookie)
    }
}

/// Loads the accounts and keeps following the database until the task is dropped.
///
/// # Errors
/// The database can't be read.
pub async fn follow(
    mut accounts: Accounts,
) -> Result<(Arc<KeyRing>, impl Future<Output = ()> + Send + 'static), AccountError> {
    let fail = accounts.fail("read");
    let (redeemed, mut queue) = tokio::sync::mpsc::channel(64);
    let (looks, mut asked) = tokio::sync::mpsc::channel(8);
    let mut version = accounts.version().await.map_err(&fail)?;
    let ring = Arc::new(KeyRing {
        state: RwLock::new(accounts.load().await.map_err(&fail)?),
        redeemed,
        looks,
    });
    let followed = ring.clone();
    let task = async move {
        let mut tick = tokio::time::interval(FOLLOW);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => accounts.renew(&followed, &mut version).await,
                Some(done) = asked.recv() => {
                    accounts.renew(&followed, &mut version).await;
                    // Who asked may be gone.
                    let _: Result<(), ()> = done.send(());
                }
                Some(done) = queue.recv() => {
                    if let Err(error) = accounts.redeem(&done.token, &done.session, done.expires).await {
                        tracing::warn!(%error, "a page session could not be written to accounts.db; it ends with this run");
                    }
                    followed.state.write().unwritten.remove(&done.session);
                }
            }
        }
    };
    Ok((ring, task))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn accounts(dir: &Path) -> Accounts {
        Accounts::open(dir).await.unwrap()
    }

    #[tokio::test]
    async fn a_key_is_good_until_revoked_and_its_name_is_spent() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = accounts(dir.path()).await;
        assert!(db.is_empty().await.unwrap());
        let secret = db.create("billing", true, false).await.unwrap();
        let (ring, task) = follow(accounts(dir.path()).await).await.unwrap();
        let task = tokio::spawn(task);
        let caller = ring.check(&secret).unwrap();
        assert_eq!((&*caller.name, caller.write, caller.read), ("billing", true, false));
        assert!(ring.check("am_00").is_none());
        db.revoke("billing").await.unwrap();
        let gone = async {
            while ring.check(&secret).is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .expect("followed");
        assert!(matches!(
            db.create("billing", true, true).await,
            Err(AccountError::Taken(_))
        ));
        assert!(matches!(db.revoke("billing").await, Err(AccountError::Unknown(_))));
        task.abort();
    }

    #[tokio::test]
    async fn names_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = accounts(dir.path()).await;
        for name in ["", "Billing", "a b", "ä", &"x".repeat(65)] {
            assert!(
                matches!(db.create(name, true, false).await, Err(AccountError::Name(_))),
                "{name}"
            );
        }
        for name in ["kernel", "agent", "webhook"] {
            assert!(
                matches!(db.create(name, true, false).await, Err(AccountError::Reserved(_))),
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn a_token_opens_one_session() {
        let dir = tempfile::tempdir().unwrap();
        let token = accounts(dir.path()).await.page_token().await.unwrap();
        let (ring, task) = follow(accounts(dir.path()).await).await.unwrap();
        let task = tokio::spawn(task);
        let cookie = ring.open_session(&token).unwrap();
        assert!(ring.session(&cookie).unwrap().read);
        assert!(!ring.session(&cookie).unwrap().write);
        assert!(ring.open_session(&token).is_none());
        assert!(ring.session("other").is_none());
        // A second agent on the same files knows the session, too.
        let known = async {
            loop {
                let (again, _) = follow(accounts(dir.path()).await).await.unwrap();
                if again.session(&cookie).is_some() {
                    break again;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let again = tokio::time::timeout(Duration::from_secs(10), known)
            .await
            .expect("written");
        assert!(again.open_session(&token).is_none());
        task.abort();
    }

    #[tokio::test]
    async fn a_session_that_is_not_written_yet_outlives_a_change_of_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = accounts(dir.path()).await;
        let token = db.page_token().await.unwrap();
        let mut followed = accounts(dir.path()).await;
        // Its task never runs: nothing is written.
        let (ring, _task) = follow(accounts(dir.path()).await).await.unwrap();
        let cookie = ring.open_session(&token).unwrap();
        let mut version = followed.version().await.unwrap();
        db.create("billing", true, false).await.unwrap();
        followed.renew(&ring, &mut version).await;
        assert_eq!(ring.state.read().keys.len(), 1, "the change is seen");
        assert!(ring.session(&cookie).is_some());
        assert!(ring.open_session(&token).is_none());
    }
}
