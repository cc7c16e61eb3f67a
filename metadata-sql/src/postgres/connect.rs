//! Connections to the server.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use registry_core::{Error, ErrorKind, Result};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::wrap_pool;
use super::tls;
use crate::PostgresOptions;

/// How much longer than the server's own time-outs to wait before the connection is taken to be dead.
const MARGIN: Duration = Duration::from_secs(10);

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// Where to connect to, and how.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    /// What makes connections with TLS, if they are to have it.
    tls: Option<MakeRustlsConnect>,
    /// What each connection is told first.
    greeting: String,
    connect_timeout: Duration,
    /// After this long without an answer there will be none.
    pub(super) deadline: Duration,
}

impl Target {
    pub(super) fn new(url: &str, options: &PostgresOptions) -> Result<Self> {
        let mut config = tls::parse(url)?;
        let tls = tls::connector(&config, options.authorities.as_deref())?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(options.connect_timeout);
        }
        if config.get_application_name().is_none() {
            config.application_name("registry");
        }
        // A machine that vanished is noticed in a minute, not in the two hours that systems take by themselves.
        config.keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(60));
        }
        // What a role or a database has as its default is for other programs: reads are single statements that need no snapshot beyond themselves.
        let (statement, lock) = (options.statement_timeout.as_millis(), options.lock_timeout.as_millis());
        let mut greeting = format!(
            "SET statement_timeout = {statement}; SET lock_timeout = {lock}; SET idle_in_transaction_session_timeout = {statement}; SET client_min_messages = warning; SET default_transaction_isolation = 'read committed'"
        );
        if let Some(schema) = &options.schema {
            check_schema(schema)?;
            greeting += &format!("; SET search_path = \"{schema}\"");
        }
        let deadline = options.statement_timeout.max(options.lock_timeout) + MARGIN;
        Ok(Self { config, tls, greeting, connect_timeout: options.connect_timeout, deadline })
    }

    /// A pool of up to `size` connections. None is made yet.
    pub(super) fn pool(&self, size: usize) -> Result<Pool> {
        let (config, settings) = (self.config.clone(), ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let manager = match &self.tls {
            Some(tls) => Manager::from_config(config, tls.clone(), settings),
            None => Manager::from_config(config, NoTls, settings),
        };
        let greeting = self.greeting.clone();
        let greet = Hook::async_fn(move |client, _| {
            let greeting = greeting.clone();
            Box::pin(async move { client.batch_execute(&greeting).await.map_err(HookError::Backend) })
        });
        let wait = Some(self.connect_timeout + MARGIN);
        let timeouts = Timeouts { wait, create: wait, recycle: wait };
        let pool = Pool::builder(manager).max_size(size.max(1)).timeouts(timeouts).runtime(Runtime::Tokio1).post_create(greet).build();
        pool.map_err(|error| Error::new(ErrorKind::Internal, "no connection pool").with_source(error))
    }
}

/// The name goes into statements as it is.
fn check_schema(schema: &str) -> Result<()> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_good = schema.len() <= 63 && schema.chars().all(word) && schema.starts_with(|c: char| !c.is_ascii_digit());
    if is_good {
        Ok(())
    } else {
        Err(invalid("a schema is lower-case letters, digits and _, at most 63, not starting with a digit").with_key(schema))
    }
}

/// A connection of the pool.
pub(super) async fn client(pool: &Pool) -> Result<Object> {
    pool.get().await.map_err(wrap_pool)
}

/// What `future` comes to, unless it takes so long that the server or the way to it is gone.
pub(super) async fn in_time<T>(deadline: Duration, future: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(deadline, future).await {
        Ok(outcome) => outcome.map_err(Failure::Server),
        Err(_) => Err(Failure::NoAnswer),
    }
}

/// Why there is no answer.
pub(super) enum Failure {
    Server(tokio_postgres::Error),
    NoAnswer,
}

impl Failure {
    /// Whether the connection is of no more use.
    pub(super) fn is_fatal(&self) -> bool {
        match self {
            Self::Server(error) => super::error::is_fatal(error),
            Self::NoAnswer => true,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Server(error) => super::error::wrap(error),
            Failure::NoAnswer => Self::new(ErrorKind::Unavailable, "PostgreSQL does not answer in time"),
        }
    }
}
