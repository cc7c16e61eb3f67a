//! Logging in, and staying so.

mod keystone;
mod legacy;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use object_store::client::HttpRequest;
use registry_core::ErrorKind;
use storage_object::Secret;
use storage_object::http::{Http, NoAnswer};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub(crate) use self::keystone::{Credential, Keystone, Method, Name, Owner};
pub(crate) use self::legacy::Legacy;
use crate::client::address;
use crate::failure::Failure;

/// How long a log-in may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long a failed log-in is everybody's answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same if it was refused.
const PATIENCE_WHEN_DENIED: Duration = Duration::from_secs(10);

/// How long a token that is to be replaced goes on after a failed log-in.
const PATIENCE_WITH_A_TOKEN: Duration = Duration::from_secs(10);

/// How long a log-in may take while there is a token that is still good.
const EARLY: Duration = Duration::from_secs(3);

/// A token, and where it is good.
#[derive(Debug)]
pub(crate) struct Session {
    /// For `X-Auth-Token`; marked as sensitive.
    pub(crate) token: HeaderValue,
    /// The account's address, without a slash at its end.
    pub(crate) storage_url: String,
    /// When it was obtained, and how long it lives from then on. No clock but this machine's monotonic one counts.
    obtained_at: Instant,
    lifetime: Option<Duration>,
}

impl Session {
    pub(crate) fn new(token: &str, storage_url: &str, lifetime: Option<Duration>) -> Result<Self, Failure> {
        let unusable = |_| Failure::new(ErrorKind::Internal, "the token that was issued cannot be sent in a header");
        let mut token = HeaderValue::from_str(token).map_err(unusable)?;
        token.set_sensitive(true);
        Ok(Self { token, storage_url: storage_url.trim_end_matches('/').to_owned(), obtained_at: Instant::now(), lifetime })
    }

    fn left(&self) -> Option<Duration> {
        self.lifetime.map(|lifetime| lifetime.saturating_sub(self.obtained_at.elapsed()))
    }

    /// Whether it is to be replaced: in the last fifth of its life, five minutes at most; before a long request in its last half, ten minutes at most.
    fn is_due(&self, before_a_long_request: bool) -> bool {
        let Some((lifetime, left)) = self.lifetime.zip(self.left()) else { return false };
        let (share, most) = if before_a_long_request { (2, 600) } else { (5, 300) };
        left <= (lifetime / share).min(Duration::from_secs(most))
    }

    fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

/// How to log in.
#[derive(Debug)]
pub(crate) enum Login {
    /// Keystone, version 3.
    Keystone(Keystone),
    /// Version 1.
    Legacy(Legacy),
    /// Somebody else did.
    Ready { token: Secret, storage_url: String },
}

/// The one session of a client, renewed when it has to be. Everybody who waits for a renewal waits for the same one.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) login: Login,
    http: Http,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Arc<Session>>,
    /// When it failed last, and how.
    failed: Option<(Instant, ErrorKind, String)>,
}

impl Auth {
    pub(crate) fn new(login: Login, http: &Http) -> Self {
        // It has its own limit.
        Self { login, http: http.with_idle_timeout_of_at_least(2 * TIME_LIMIT), state: Mutex::default() }
    }

    /// A session to make a request with.
    pub(crate) async fn session(&self, before_a_long_request: bool) -> Result<Arc<Session>, Failure> {
        let mut state = self.state.lock().await;
        let current = state.session.clone();
        match current {
            Some(session) if !session.is_due(before_a_long_request) => Ok(session),
            // Early enough to be tried again: a log-in that hangs must not keep who has a good token.
            Some(session) if !session.is_over() => {
                if state.failed.as_ref().is_some_and(|(at, ..)| at.elapsed() < PATIENCE_WITH_A_TOKEN) {
                    return Ok(session);
                }
                let renewed = tokio::time::timeout(EARLY, self.renew(&mut state)).await.unwrap_or_else(|_| {
                    let message = format!("logging in took more than {} s", EARLY.as_secs());
                    state.failed = Some((Instant::now(), ErrorKind::TimedOut, message.clone()));
                    Err(Failure::new(ErrorKind::TimedOut, message))
                });
                renewed.or_else(|failure| {
                    tracing::warn!(error = %failure.error, "could not renew the token yet");
                    Ok(session)
                })
            }
            _ => self.renew(&mut state).await,
        }
    }

    /// A session after `refused` was not accepted any more.
    pub(crate) async fn instead_of(&self, refused: &Session) -> Result<Arc<Session>, Failure> {
        let mut state = self.state.lock().await;
        match &state.session {
            // Somebody else was told so too, and has seen to it.
            Some(session) if session.token != refused.token => Ok(Arc::clone(session)),
            _ => self.renew(&mut state).await,
        }
    }

    async fn renew(&self, state: &mut State) -> Result<Arc<Session>, Failure> {
        // Services lock out who is refused too often.
        let patience = |kind| if kind == ErrorKind::Denied { PATIENCE_WHEN_DENIED } else { PATIENCE };
        if let Some((_, kind, message)) = state.failed.as_ref().filter(|(at, kind, _)| at.elapsed() < patience(*kind)) {
            return Err(Failure::new(*kind, message.clone()));
        }
        let session = match &self.login {
            Login::Keystone(keystone) => in_time(&keystone.url, keystone.log_in(&self.http)).await,
            Login::Legacy(legacy) => in_time(&legacy.url, legacy.log_in(&self.http)).await,
            Login::Ready { token, storage_url } if state.session.is_none() => Session::new(token.reveal(), storage_url, None),
            Login::Ready { .. } => {
                Err(Failure::new(ErrorKind::Denied, "the token is not accepted any more; give user and password to have it renewed"))
            }
        };
        match session {
            Ok(session) => {
                let session = Arc::new(session);
                *state = State { session: Some(Arc::clone(&session)), failed: None };
                Ok(session)
            }
            Err(failure) => {
                state.failed = Some((Instant::now(), failure.error.kind(), failure.error.message().to_owned()));
                Err(failure)
            }
        }
    }
}

/// A log-in, within its limit.
async fn in_time(url: &str, log_in: impl Future<Output = Result<Session, Failure>>) -> Result<Session, Failure> {
    tokio::time::timeout(TIME_LIMIT, log_in).await.unwrap_or_else(|_| {
        Err(Failure::new(ErrorKind::TimedOut, format!("logging in at {url}: no connection in time: operation timed out")))
    })
}

/// A request to a log-in address.
fn request(method: http::Method, url: &str, body: String) -> Result<HttpRequest, Failure> {
    let mut request = HttpRequest::new(body.into());
    *request.method_mut() = method;
    let no_address = |why| Failure::new(ErrorKind::InvalidInput, format!("logging in at {url}: {why}; is auth_url right?"));
    *request.uri_mut() = address(url).map_err(no_address)?;
    Ok(request)
}

/// Why a log-in address does not answer.
fn unreachable(url: &str, why: &NoAnswer) -> Failure {
    if let Some(trouble) = why.tls_trouble("auth_url") {
        return Failure::new(ErrorKind::Unavailable, format!("{url}: {trouble}"));
    }
    let message = format!("logging in at {url}: {why}");
    match why.kind() {
        ErrorKind::TimedOut => Failure::new(ErrorKind::TimedOut, message),
        kind => Failure::new(kind, format!("{message}; is auth_url right, and can that host be reached from here?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_before_it_ends_and_earlier_before_a_long_request() {
        let due = |lifetime: u64, lived: u64| {
            let session = Session::new("token", "http://swift/v1/AUTH_x", Some(Duration::from_secs(lifetime))).unwrap();
            let began = Instant::now().checked_sub(Duration::from_secs(lived)).unwrap();
            let session = Session { obtained_at: began, ..session };
            (session.is_due(false), session.is_due(true), session.is_over())
        };
        assert_eq!(due(3600, 2990), (false, false, false));
        assert_eq!(due(3600, 3010), (false, true, false));
        assert_eq!(due(3600, 3310), (true, true, false));
        assert_eq!(due(5, 1), (false, false, false));
        assert_eq!(due(5, 3), (false, true, false));
        assert_eq!(due(5, 5), (true, true, true));
        assert!(!Session::new("token", "http://swift", None).unwrap().is_due(true));
    }
}
