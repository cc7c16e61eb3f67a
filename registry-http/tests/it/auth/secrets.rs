//! Nothing of a password or a token is in a log or an answer.

use std::sync::{Arc, Mutex};

use registry_http::HttpOptions;
use registry_http::auth::{Auth, Htpasswd, TokenOptions, Tokens};

use super::kit::{Kit, PASSWORD, basic, policy};
use crate::support::wire::Server;
use crate::telemetry::log_at;

#[test]
fn not_even_the_most_talkative_log_has_a_password_or_a_token_in_it() {
    let (answers, secrets) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let log = log_at(tracing::Level::TRACE, {
        let (answers, secrets) = (Arc::clone(&answers), Arc::clone(&secrets));
        async move {
            let kit = Kit::new();
            // With what is told in the log by default.
            let auth = Auth::new(Arc::new(Htpasswd::open(kit.dir.path().join("users")).unwrap()))
                .with_tokens(Tokens::open(kit.dir.path().join("keys"), TokenOptions::default()).unwrap())
                .with_authorizer(Arc::new(policy()));
            let fixture = kit.open.again(HttpOptions::default().with_auth(auth));
            let server = Server::start(fixture.router.clone()).await;
            let credentials = basic("writer", PASSWORD);
            let token = kit.token(&credentials, "repository:team/app:pull,push").await;
            let wrong = basic("writer", "my other secret");
            let misplaced = basic("hunter2-is-my-password", "");
            let mut seen = Vec::new();
            for header in [&credentials, &token, &wrong, &misplaced, &format!("{token}x")] {
                for request in ["GET /v2/team/app/manifests/v1", "POST /v2/team/app/blobs/uploads/", "GET /token?service=registry"] {
                    let mut wire = server.connect().await;
                    let answer = wire.ask(&format!("{request} HTTP/1.1\nauthorization: {header}")).await;
                    if answer.status != 200 {
                        seen.extend(answer.body);
                    }
                }
            }
            *answers.lock().unwrap() = seen;
            let of_token = token.trim_start_matches("Bearer ").rsplit('.').next().unwrap().to_owned();
            let in_headers = [&credentials, &wrong, &misplaced].map(|header| header.trim_start_matches("Basic ").to_owned());
            let plain = [PASSWORD, "my other secret", "hunter2"].map(str::to_owned);
            *secrets.lock().unwrap() = plain.into_iter().chain(in_headers).chain([of_token]).collect();
        }
    });
    assert!(log.contains("answered") && log.contains("user=\"writer\"") && log.contains("registry_http::audit"), "{log}");
    let answers = String::from_utf8_lossy(&answers.lock().unwrap()).into_owned();
    for secret in &*secrets.lock().unwrap() {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!answers.contains(secret), "{secret} is in an answer");
    }
}
