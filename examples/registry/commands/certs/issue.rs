//! `registry certs issue`.
//!
//! Two files cannot be replaced in one step. So the key stays, as long as nobody asks for another: certificates of one key may follow each other in any
//! order, and there is no moment at which a server that starts finds a pair that does not fit.
//!
//! Where there is to be a new key, both files are written and on disk before either gets its name; what is between the two renames is then one fsync. The
//! key goes first. A run that is killed in between leaves the new key beside the old certificate: a server that runs keeps the pair it has until both fit,
//! one that starts refuses, and the next `registry certs issue` makes a certificate of the key that is there. The other way round, that would be a certificate
//! of the old key, of which somebody wanted to be rid, and nobody would notice.

use std::path::Path;

use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};

use super::advice::{date, days};
use super::files::{CA, CA_KEY, Content, Directory, Readers, SERVER, SERVER_KEY};
use super::make::{Authority, Made};
use super::names::{self, Name};
use super::read::{self, Certificate};
use crate::failure::Failure;

/// What was issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) made: Made,
    pub(super) names: Vec<Name>,
    pub(super) ca: Certificate,
    /// Whether clients that trusted the certificate before trust this one.
    pub(super) is_known: bool,
    pub(super) has_new_key: bool,
    /// What is not as somebody may expect.
    pub(super) notes: Vec<String>,
}

/// What is wanted.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// None for those of the certificate that is there.
    pub(super) names: &'a [Name],
    pub(super) days: u32,
    pub(super) new_key: bool,
}

/// Makes a server's certificate with the CA in this directory.
pub(super) fn issue(dir: &Path, wanted: &Wanted<'_>, now: OffsetDateTime) -> Result<Issued, Failure> {
    let no_ca = || {
        let dir = if dir == Path::new(super::DIR) { String::new() } else { format!(" --dir {}", super::advice::quoted(dir)) };
        Failure::new("there is no CA to issue it").hint(format!("`registry certs ca{dir}` makes one, --dir DIR says where there is one"))
    };
    let directory = Directory::open(dir)?.ok_or_else(no_ca)?;
    // Before the lock, which makes a file: nothing is made where there is nothing to do.
    if !directory.has(CA)? {
        return Err(no_ca());
    }
    let _lock = directory.lock()?;
    let ca = authority(&directory, now)?;
    let before = directory.read(SERVER, Readers::All)?.map(|content| Certificate::from_pem(&content.bytes));
    let names = match (wanted.names, &before) {
        ([], before) => renewed(&directory, before.as_ref())?,
        (names, _) => names.to_vec(),
    };
    // One that cannot be read is replaced, where it has not to say the names.
    let before = before.and_then(Result::ok);
    let kept = directory.read(SERVER_KEY, Readers::Group)?;
    let (key, is_new) = key(&directory, kept.as_ref(), wanted.new_key)?;
    let made =
        ca.issue(&names, &key, wanted.days, now).map_err(|problem| Failure::new(format!("cannot make the certificate: {problem}")))?;

    let new_key =
        is_new.then(|| directory.prepare(SERVER_KEY, key.serialize_pem().as_bytes(), Readers::Owner, kept.as_ref())).transpose()?;
    let certificate = directory.prepare(SERVER, made.pem.as_bytes(), Readers::All, None)?;
    new_key.map_or(Ok(()), |key| key.publish())?;
    certificate.publish()?;

    let is_known = before.as_ref().is_some_and(|before| before.is_issued_by(&ca.certificate));
    let mut notes = Vec::new();
    if made.certificate.not_after == ca.certificate.not_after && made.certificate.not_after < now + Duration::days(wanted.days.into()) {
        let left = (made.certificate.not_after - now).whole_days();
        let text =
            format!("It ends with its CA, {} from now and not {}: clients need another CA by then.", days(left), days(wanted.days.into()));
        notes.push(text);
    }
    if let Some(before) = &before {
        notes.extend(changes(before, &names, &ca.certificate, is_known));
        if !is_new && !before.fits(&key) {
            notes.push(format!("The certificate that was there was not of the key in {SERVER_KEY}. Now they fit."));
        }
    }
    Ok(Issued { made, names, ca: ca.certificate, is_known, has_new_key: is_new, notes })
}

/// The CA that is in the directory, if it can issue anything.
fn authority(directory: &Directory, now: OffsetDateTime) -> Result<Authority, Failure> {
    let (path, key_path) = (directory.path(CA), directory.path(CA_KEY));
    let (shown, key_shown) = (path.display(), key_path.display());
    let elsewhere = "`registry certs ca --dir DIR` makes another CA in another directory, which clients have then to be told of";
    let missing = |shown: &dyn std::fmt::Display| Failure::new(format!("cannot read {shown}: there is no such file"));
    let content = directory.read(CA, Readers::All)?.ok_or_else(|| missing(&shown))?;
    let certificate =
        Certificate::from_pem(&content.bytes).map_err(|problem| Failure::new(format!("{shown}: {problem}")).hint(elsewhere))?;
    if !certificate.is_ca {
        return Err(Failure::new(format!("{shown} is no CA's certificate: nothing may be signed with its key")).hint(elsewhere));
    }
    let until = date(certificate.not_after);
    if certificate.not_after <= now {
        return Err(Failure::new(format!("the CA {} has expired: it was valid until {until}", certificate.subject)).hint(elsewhere));
    }
    if certificate.not_before > now {
        let from = date(certificate.not_before);
        return Err(
            Failure::new(format!("the CA {} is valid only from {from}", certificate.subject)).hint("is this machine's clock right?")
        );
    }
    let content = directory.read(CA_KEY, Readers::Owner)?.ok_or_else(|| {
        missing(&key_shown)
            .hint("it is the CA's key: put it there for as long as certificates are issued, or make another CA in another directory")
    })?;
    let key = read::key(&content.bytes).map_err(|problem| Failure::new(format!("{key_shown}: {problem}")))?;
    if !certificate.fits(&key) {
        return Err(
            Failure::new(format!("{key_shown} is not the key of {shown}")).hint("the two were made together: put those of one CA there")
        );
    }
    Authority::new(certificate, key).map_err(|problem| Failure::new(format!("{shown}: {problem}")).hint(elsewhere))
}

/// The names of the certificate that is there.
fn renewed(directory: &Directory, before: Option<&Result<Certificate, String>>) -> Result<Vec<Name>, Failure> {
    const HINT: &str = "say what clients call the server: --host registry.example.com, --ip 10.0.0.1, or several of both";
    let shown = directory.path(SERVER).display().to_string();
    let names = match before {
        None => return Err(Failure::new("there is no certificate yet that could be renewed").hint(HINT)),
        Some(before) => before.as_ref().and_then(|before| before.names.as_ref()),
    };
    match names.map(Vec::as_slice) {
        Ok([]) => Err(Failure::new(format!("cannot renew {shown}: it has no names")).hint(HINT)),
        Ok(names) => Ok(names.to_vec()),
        Err(problem) => Err(Failure::new(format!("cannot renew {shown}: {problem}")).hint(HINT)),
    }
}

/// The key to certify, and whether it is new.
fn key(directory: &Directory, kept: Option<&Content>, new: bool) -> Result<(KeyPair, bool), Failure> {
    match kept.filter(|_| !new) {
        Some(content) => read::key(&content.bytes).map(|key| (key, false)).map_err(|problem| {
            Failure::new(format!("{}: {problem}", directory.path(SERVER_KEY).display())).hint("--new-key puts another key in its place")
        }),
        None => KeyPair::generate().map(|key| (key, true)).map_err(|error| Failure::because("cannot make a key", &error)),
    }
}

/// In what else the certificate differs from the one before.
fn changes(before: &Certificate, names: &[Name], ca: &Certificate, is_known: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if !is_known {
        notes.push(format!(
            "The certificate before was issued by {}. Before the server uses this one, clients have to trust {}.",
            before.issuer, ca.subject
        ));
    }
    let had = before.names.iter().flatten();
    let gone: Vec<_> = had.filter(|name| !names.contains(name)).cloned().collect();
    if !gone.is_empty() {
        notes.push(format!("The certificate before was also for {}; this one is not.", names::list(&gone)));
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::PKCS_RSA_SHA256;

    use super::super::ca;
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn host(name: &str) -> Vec<Name> {
        vec![names::host(name).unwrap()]
    }

    fn with_ca(days: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        ca::make(dir.path(), "Test CA", days, now()).unwrap();
        dir
    }

    fn issue_for(dir: &Path, names: &[Name], days: u32, new_key: bool) -> Result<Issued, String> {
        issue(dir, &Wanted { names, days, new_key }, now()).map_err(|failure| failure.to_string())
    }

    /// Whether certificate and key are a pair.
    fn fits(dir: &Path) -> bool {
        let read = |name| fs::read(dir.join(name)).unwrap();
        Certificate::from_pem(&read(SERVER)).unwrap().fits(&read::key(&read(SERVER_KEY)).unwrap())
    }

    fn write_key(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn without_names_the_same_are_renewed_with_the_same_key() {
        let dir = with_ca(3650);
        let told = issue_for(dir.path(), &[], 1, false).unwrap_err();
        assert!(told.contains("no certificate yet") && told.contains("--host"), "{told}");
        let names = [host("a.example"), vec![names::address("fd00::1").unwrap()]].concat();
        let first = issue_for(dir.path(), &names, 1, false).unwrap();
        assert!(first.has_new_key && !first.is_known && first.notes.is_empty());
        let key = fs::read(dir.path().join(SERVER_KEY)).unwrap();
        let second = issue_for(dir.path(), &[], 2, false).unwrap();
        assert_eq!((second.names, second.made.certificate.not_after), (names, now() + Duration::days(2)));
        assert!(!second.has_new_key && second.is_known && second.notes.is_empty());
        assert_eq!(fs::read(dir.path().join(SERVER_KEY)).unwrap(), key);
        assert!(fits(dir.path()));
    }

    #[test]
    fn a_new_key_comes_only_if_asked_for_and_with_its_certificate() {
        let dir = with_ca(3650);
        issue_for(dir.path(), &host("a.example"), 1, false).unwrap();
        let key = fs::read(dir.path().join(SERVER_KEY)).unwrap();
        assert!(issue_for(dir.path(), &[], 1, true).unwrap().has_new_key);
        assert!(fs::read(dir.path().join(SERVER_KEY)).unwrap() != key && fits(dir.path()));
    }

    #[test]
    fn a_run_that_was_killed_between_new_key_and_certificate_is_completed_by_the_next() {
        let dir = with_ca(3650);
        issue_for(dir.path(), &host("a.example"), 1, false).unwrap();
        let new = KeyPair::generate().unwrap().serialize_pem();
        write_key(&dir.path().join(SERVER_KEY), &new);
        assert!(!fits(dir.path()));
        let issued = issue_for(dir.path(), &[], 1, false).unwrap();
        assert!(fits(dir.path()) && !issued.has_new_key && issued.names == host("a.example"));
        assert_eq!(fs::read_to_string(dir.path().join(SERVER_KEY)).unwrap(), new);
        assert!(issued.notes.iter().any(|note| note.contains("Now they fit")), "{:?}", issued.notes);
    }

    #[test]
    fn nothing_is_changed_unless_both_files_could_be_written() {
        let dir = with_ca(3650);
        issue_for(dir.path(), &host("a.example"), 1, false).unwrap();
        let key = fs::read(dir.path().join(SERVER_KEY)).unwrap();
        fs::remove_file(dir.path().join(SERVER)).unwrap();
        fs::create_dir(dir.path().join(SERVER)).unwrap();
        let told = issue_for(dir.path(), &host("a.example"), 1, true).unwrap_err();
        assert!(told.contains("server.pem") && told.contains("no file"), "{told}");
        assert_eq!(fs::read(dir.path().join(SERVER_KEY)).unwrap(), key);
    }

    #[test]
    fn what_cannot_be_renewed_can_be_replaced() {
        let dir = with_ca(3650);
        fs::write(dir.path().join(SERVER), "nothing").unwrap();
        let told = issue_for(dir.path(), &[], 1, false).unwrap_err();
        assert!(
            told.contains("cannot renew") && told.contains("server.pem: it has no certificate in PEM form") && told.contains("--host"),
            "{told}"
        );
        issue_for(dir.path(), &host("a.example"), 1, false).unwrap();
        write_key(&dir.path().join(SERVER_KEY), "nothing");
        let told = issue_for(dir.path(), &[], 1, false).unwrap_err();
        assert!(told.contains("server-key.pem: it has no private key") && told.contains("--new-key"), "{told}");
        issue_for(dir.path(), &[], 1, true).unwrap();
        assert!(fits(dir.path()));
    }

    #[test]
    fn a_key_that_was_made_elsewhere_is_kept_too() {
        let dir = with_ca(3650);
        let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().serialize_pem();
        write_key(&dir.path().join(SERVER_KEY), &rsa);
        assert!(!issue_for(dir.path(), &host("a.example"), 1, false).unwrap().has_new_key);
        assert!(fits(dir.path()) && fs::read_to_string(dir.path().join(SERVER_KEY)).unwrap() == rsa);
    }

    #[test]
    fn another_ca_and_names_that_go_are_told() {
        let (dir, other) = (with_ca(3650), with_ca(3650));
        let first = issue_for(other.path(), &[host("a.example"), host("b.example")].concat(), 1, false).unwrap();
        fs::copy(other.path().join(SERVER), dir.path().join(SERVER)).unwrap();
        let renewed = issue_for(dir.path(), &[], 1, false).unwrap();
        assert!(!renewed.is_known && renewed.made.certificate.is_issued_by(&renewed.ca));
        assert!(renewed.notes.iter().any(|note| note.contains(&first.ca.subject) && note.contains(&renewed.ca.subject)));
        let fewer = issue_for(dir.path(), &host("b.example"), 1, false).unwrap();
        assert_eq!(fewer.notes, ["The certificate before was also for a.example; this one is not."]);
    }

    #[test]
    fn a_certificate_that_would_outlive_its_ca_is_shortened_and_that_is_told() {
        let dir = with_ca(30);
        let issued = issue_for(dir.path(), &host("a.example"), 365, false).unwrap();
        assert_eq!(issued.made.certificate.not_after, issued.ca.not_after);
        assert_eq!(issued.notes, ["It ends with its CA, 30 days from now and not 365 days: clients need another CA by then."]);
        assert!(issue_for(dir.path(), &host("a.example"), 30, false).unwrap().notes.is_empty());
    }

    #[test]
    fn a_ca_issues_only_while_it_is_valid() {
        let dir = with_ca(30);
        let names = host("a.example");
        let at = |now| issue(dir.path(), &Wanted { names: &names, days: 1, new_key: false }, now).map_err(|failure| failure.to_string());
        let told = at(now() + Duration::days(30)).unwrap_err();
        assert!(
            told.contains("has expired") && told.contains("2027-02-14 08:00 UTC") && told.contains("registry certs ca --dir"),
            "{told}"
        );
        let told = at(now() - Duration::days(1)).unwrap_err();
        assert!(told.contains("valid only from") && told.contains("clock"), "{told}");
        assert!(!dir.path().join(SERVER).exists() && !dir.path().join(SERVER_KEY).exists());
        at(now() + Duration::days(30) - Duration::SECOND).unwrap();
    }

    #[test]
    fn a_ca_that_is_not_whole_is_told_what_is_wrong() {
        let (dir, other) = (with_ca(3650), with_ca(3650));
        let issue = || issue_for(dir.path(), &host("a.example"), 1, false).unwrap_err();
        let (ca, key) = (dir.path().join(CA), dir.path().join(CA_KEY));
        let is_told = |wanted: &[&str]| {
            let told = issue();
            assert!(wanted.iter().all(|wanted| told.contains(wanted)), "{told}");
            assert!(!dir.path().join(SERVER).exists() && !dir.path().join(SERVER_KEY).exists());
        };
        fs::copy(other.path().join(CA_KEY), &key).unwrap();
        is_told(&["is not the key of", "ca-key.pem", "ca.pem", "made together"]);
        write_key(&key, "nothing");
        is_told(&["ca-key.pem: it has no private key in PEM form"]);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        is_told(&["ca-key.pem is a private key that others may use", "644", "chmod 600"]);
        fs::remove_file(&key).unwrap();
        is_told(&["cannot read", "ca-key.pem", "no such file", "the CA's key"]);
        fs::write(&ca, "nothing").unwrap();
        is_told(&["ca.pem: it has no certificate in PEM form"]);
        issue_for(other.path(), &host("a.example"), 1, false).unwrap();
        fs::copy(other.path().join(SERVER), &ca).unwrap();
        is_told(&["ca.pem is no CA's certificate"]);
        fs::remove_file(&ca).unwrap();
        is_told(&["there is no CA", "registry certs ca --dir"]);
    }
}
