use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::auth::Action;

/// A clock that stands where it is put.
#[derive(Debug)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Hand {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

fn clock() -> Arc<Hand> {
    Arc::new(Hand(AtomicI64::new(1_800_000_000_000)))
}

fn open(dir: &tempfile::TempDir, clock: &Arc<Hand>) -> Tokens {
    let clock: Arc<dyn Clock> = Arc::<Hand>::clone(clock);
    Tokens::open(dir.path().join("keys"), TokenOptions::default().with_clock(clock)).unwrap()
}

fn alice() -> Identity {
    Identity::new("alice", ["ops".to_owned()])
}

fn pull() -> Vec<Scope> {
    vec![Scope::Repository("team/app".parse().unwrap(), vec![Action::Pull, Action::Push]), Scope::Catalog]
}

fn token(tokens: &Tokens) -> String {
    tokens.issue(&alice(), false, &pull(), None).token.expose().to_owned()
}

fn files(dir: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.path().join("keys")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn another_process_with_the_same_keys_accepts_a_token_until_it_ends() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let (one, other) = (open(&dir, &clock), open(&dir, &clock));
    let token = token(&one);
    assert_eq!(other.verify(&token), Ok(Claims { name: "alice".into(), groups: None, scopes: pull() }));
    clock.advance(Duration::from_secs(299));
    assert!(other.verify(&token).is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(other.verify(&token), Err(TokenRefused::Expired));
}

#[test]
fn groups_are_in_tokens_of_those_only_of_whom_nobody_else_knows() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let tokens = open(&dir, &clock);
    let until = clock.now() + Duration::from_secs(10);
    let issued = tokens.issue(&alice(), true, &[], Some(until));
    assert_eq!(issued.lifetime, Duration::from_secs(10), "no longer than what it was got by");
    assert_eq!(tokens.verify(issued.token.expose()).unwrap().groups, Some(vec!["ops".to_owned()]));
}

#[test]
fn only_who_runs_the_registry_can_read_a_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    open(&dir, &clock);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("keys")), 0o700);
    let files = files(&dir);
    assert_eq!((files.len(), mode(&files[0])), (1, 0o600));
}

#[test]
fn another_key_signs_after_a_month_and_the_old_one_goes_when_its_last_token_has_ended() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let (one, other) = (open(&dir, &clock), open(&dir, &clock));
    let kid = |token: &str| Token::parse(token).unwrap().kid.unwrap();
    let first = kid(&token(&one));
    one.keys.look();
    assert_eq!(files(&dir).len(), 1);
    clock.advance(Duration::from_secs(30 * 24 * 3600));
    one.keys.look();
    assert_eq!(files(&dir).len(), 2);
    let last_of_old = token(&one);
    assert_eq!(kid(&last_of_old), first, "others do not know the new one yet");
    clock.advance(Duration::from_secs(60));
    let first_of_new = token(&one);
    assert_ne!(kid(&first_of_new), first);
    assert_eq!(other.verify(&first_of_new), Err(TokenRefused::UnknownKey));
    other.keys.look();
    assert!(other.verify(&first_of_new).is_ok() && other.verify(&last_of_old).is_ok());
    clock.advance(Duration::from_secs(300));
    other.keys.look();
    assert_eq!(files(&dir).len(), 2, "there may be a clock that is late");
    clock.advance(Duration::from_secs(121));
    other.keys.look();
    assert_eq!(files(&dir).len(), 1);
    assert_eq!(kid(&token(&other)), kid(&first_of_new));
}

#[test]
fn keys_that_others_made_are_used_and_what_is_no_key_is_refused() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    std::fs::create_dir(dir.path().join("keys")).unwrap();
    // openssl genpkey -algorithm ed25519
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    std::fs::write(dir.path().join("keys/mounted.pem"), pem).unwrap();
    std::fs::write(dir.path().join("keys/README"), "not a key").unwrap();
    let tokens = open(&dir, &clock);
    assert_eq!(files(&dir).len(), 2, "none was made");
    assert!(tokens.verify(&token(&tokens)).is_ok());
    for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        std::fs::write(dir.path().join("keys/other.pem"), text).unwrap();
        let error = Tokens::open(dir.path().join("keys"), TokenOptions::default()).unwrap_err();
        assert!(error.to_string().ends_with("as `openssl genpkey -algorithm ed25519` prints it"), "{error}");
        // One that is running goes on with what it has.
        tokens.keys.look();
        assert!(tokens.verify(&token(&tokens)).is_ok());
    }
    std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
    tokens.keys.look();
    assert!(tokens.verify(&token(&tokens)).is_ok());
}

/// A token of these parts, signed with the registry's own key.
fn signed(tokens: &Tokens, header: &str, body: &str) -> String {
    let (message, signature) = tokens.keys.sign(|kid| {
        let header = header.replace("KID", kid);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body))
    });
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn what_is_not_exactly_a_token_of_ours_is_refused() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let tokens = open(&dir, &clock);
    let header = r#"{"alg":"EdDSA","kid":"KID","typ":"JWT"}"#;
    let body = r#"{"iss":"registry","aud":"registry","sub":"alice","exp":1800000100,"nbf":1800000000,"access":[]}"#;
    assert!(tokens.verify(&signed(&tokens, header, body)).is_ok());
    for (header, body, expected) in [
        (header.replace("EdDSA", "none"), body.to_owned(), TokenRefused::Unsupported),
        (header.replace("EdDSA", "None"), body.to_owned(), TokenRefused::Unsupported),
        (header.replace("EdDSA", "HS256"), body.to_owned(), TokenRefused::Unsupported),
        (header.replace("EdDSA", "RS256"), body.to_owned(), TokenRefused::Unsupported),
        (header.replace("KID", "../../etc/passwd"), body.to_owned(), TokenRefused::UnknownKey),
        (header.replace(r#""kid":"KID","#, ""), body.to_owned(), TokenRefused::UnknownKey),
        (header.replace(r#""typ""#, r#""crit":["typ"],"typ""#), body.to_owned(), TokenRefused::Unsupported),
        (header.to_owned(), body.replace(r#""iss":"registry""#, r#""iss":"other""#), TokenRefused::WrongIssuer),
        (header.to_owned(), body.replace(r#""aud":"registry""#, r#""aud":"other""#), TokenRefused::WrongAudience),
        (header.to_owned(), body.replace(r#""aud":"registry""#, r#""aud":["registry","other"]"#), TokenRefused::WrongAudience),
        (header.to_owned(), body.replace(r#""aud":"registry","#, ""), TokenRefused::WrongAudience),
        (header.to_owned(), body.replace("1800000100", "1800000000"), TokenRefused::Expired),
        (header.to_owned(), body.replace(r#""exp":1800000100,"#, ""), TokenRefused::Malformed),
        (header.to_owned(), body.replace("1800000100", "\"tomorrow\""), TokenRefused::Malformed),
        (header.to_owned(), body.replace(r#""nbf":1800000000"#, r#""nbf":1800000061"#), TokenRefused::NotYetValid),
        (header.to_owned(), body.replace("[]", "7"), TokenRefused::Malformed),
        (header.to_owned(), body.replace(r#""sub":"alice","#, ""), TokenRefused::Malformed),
        (header.to_owned(), body.replace(r#""sub""#, r#""sub":"root","sub""#), TokenRefused::Malformed),
        (header.to_owned(), "[".repeat(4000), TokenRefused::Malformed),
    ] {
        assert_eq!(tokens.verify(&signed(&tokens, &header, &body)), Err(expected), "{header} {body}");
    }
    assert_eq!(
        tokens.verify(&format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(body))),
        Err(TokenRefused::Unsupported)
    );
    let strange = open(&tempfile::tempdir().unwrap(), &clock);
    assert_eq!(tokens.verify(&token(&strange)), Err(TokenRefused::UnknownKey));
    let good = token(&tokens);
    assert_eq!(tokens.verify(&good[..good.len() - 2]), Err(TokenRefused::BadSignature));
    // Any one character changed is another token.
    for at in 0..good.len() {
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        let changed = format!("{}{other}{}", &good[..at], &good[at + 1..]);
        assert!(tokens.verify(&changed).is_err(), "{at}");
    }
}

#[test]
fn nothing_of_keys_and_tokens_is_printed() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let tokens = open(&dir, &clock);
    let issued = tokens.issue(&alice(), false, &pull(), None);
    let printed = format!("{tokens:?}{issued:?}");
    assert!(!printed.contains("eyJ") && !printed.contains("MFE") && printed.contains("[redacted]"), "{printed}");
}
