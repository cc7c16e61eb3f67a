//! `registry certs ca`.
//!
//! The key is published before its certificate. A run that is killed between the two leaves a key that nobody has heard of, and the next one makes the
//! certificate of it. The other way round it would leave a CA that can sign nothing and may not be overwritten.

use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use time::OffsetDateTime;

use super::files::{CA, CA_KEY, Directory, Readers};
use super::make::{self, Made};
use super::read;
use crate::failure::Failure;

/// Makes a CA in this directory, valid for so many days.
pub(super) fn make(dir: &Path, name: &str, days: u32, now: OffsetDateTime) -> Result<Made, Failure> {
    let directory = Directory::make(dir)?;
    let _lock = directory.lock()?;
    let (certificate_path, key_path) = (directory.path(CA), directory.path(CA_KEY));
    if directory.has(CA)? {
        return Err(Failure::new(format!("there is a CA already: {}", certificate_path.display())).hint(
            "`registry certs issue` makes certificates with it. It is never overwritten, as every client that trusts it would have to be told; \
             for another one choose another directory with --dir DIR",
        ));
    }
    let (key, prepared) = match directory.read(CA_KEY, Readers::Owner)? {
        Some(content) => {
            let wrong = |problem: &str| {
                Failure::new(format!("{}: {problem}", key_path.display()))
                    .hint("it has no ca.pem beside it. Put that back, or move the key away, or choose another directory with --dir DIR")
            };
            let key = read::key(&content.bytes).map_err(|problem| wrong(&problem))?;
            if !key.is_compatible(&PKCS_ECDSA_P256_SHA256) {
                return Err(wrong("this is no key that this command has made"));
            }
            (key, None)
        }
        None => {
            let key = KeyPair::generate().map_err(|error| Failure::because("cannot make a key", &error))?;
            let prepared = directory.prepare(CA_KEY, key.serialize_pem().as_bytes(), Readers::Owner, None)?;
            (key, Some(prepared))
        }
    };
    let made = make::authority(name, days, &key, now).map_err(|problem| Failure::new(format!("cannot make the CA: {problem}")))?;
    let certificate = directory.prepare(CA, made.pem.as_bytes(), Readers::All, None)?;
    prepared.map_or(Ok(()), |key| key.publish())?;
    certificate.publish()?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::PKCS_ED25519;

    use super::super::read::Certificate;
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn a_ca_is_never_overwritten_not_even_half_of_one() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), "A", 1, now()).unwrap();
        let both = || (fs::read(dir.path().join(CA)).unwrap(), fs::read(dir.path().join(CA_KEY)).unwrap());
        let before = both();
        let told = make(dir.path(), "B", 1, now()).unwrap_err().to_string();
        assert!(told.contains("there is a CA already") && told.contains("registry certs issue") && told.contains("--dir"), "{told}");
        assert_eq!(both(), before);
        fs::remove_file(dir.path().join(CA_KEY)).unwrap();
        make(dir.path(), "B", 1, now()).unwrap_err();
        assert!(!dir.path().join(CA_KEY).exists());
    }

    #[test]
    fn a_run_that_was_killed_between_key_and_certificate_is_completed_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), "A", 1, now()).unwrap();
        let key = fs::read(dir.path().join(CA_KEY)).unwrap();
        fs::remove_file(dir.path().join(CA)).unwrap();
        let again = make(dir.path(), "A", 1, now()).unwrap();
        assert_eq!(fs::read(dir.path().join(CA_KEY)).unwrap(), key);
        assert_eq!(again.certificate.subject, made.certificate.subject);
        assert!(again.certificate.fits(&read::key(&key).unwrap()));
    }

    #[test]
    fn a_key_that_was_not_made_here_is_left_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CA_KEY);
        for text in [KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem(), "nothing".to_owned()] {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let told = make(dir.path(), "A", 1, now()).unwrap_err().to_string();
            assert!(told.contains("ca-key.pem") && told.contains("move the key away"), "{told}");
            assert!(fs::read_to_string(&path).unwrap() == text && !dir.path().join(CA).exists());
        }
    }

    #[test]
    fn of_many_that_make_a_ca_at_once_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let made: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8).map(|n| scope.spawn(move || make(path, &format!("CA {n}"), 1, now()).is_ok())).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1);
        let certificate = Certificate::from_pem(&fs::read(dir.path().join(CA)).unwrap()).unwrap();
        assert!(certificate.fits(&read::key(&fs::read(dir.path().join(CA_KEY)).unwrap()).unwrap()));
    }
}
