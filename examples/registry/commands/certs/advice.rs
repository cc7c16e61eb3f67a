//! What the commands say was made, and what is to be done with it.

use std::path::Path;

use time::OffsetDateTime;

use super::super::text::table;
use super::files::{CA, CA_KEY, SERVER, SERVER_KEY};
use super::issue::Issued;
use super::names::{self, Name};
use super::read::Certificate;

/// Where a registry listens by default; images are then called `host:5000/name`.
const PORT: u16 = 5000;

/// After `registry certs ca`.
pub(super) fn of_ca(dir: &Path, ca: &Certificate) -> String {
    let (certificate, key) = (dir.join(CA), dir.join(CA_KEY));
    let option = if dir == Path::new(super::DIR) { String::new() } else { format!(" --dir {}", quoted(dir)) };
    format!(
        "{}\nNext, a certificate for the registry's servers, with all that clients call them:\n  \
         registry certs issue{option} --host registry.example.com --ip 10.0.0.1\n\n{}",
        table(&[
            of_file(&certificate, format!("the CA {}, until {}; for everybody", ca.subject, date(ca.not_after))),
            of_file(&key, "its key; for nobody: who has it can pose as any server to those who trust the CA".to_owned()),
            vec!["SHA-256 of the CA".to_owned(), ca.fingerprint()],
        ]),
        on_clients(&certificate, ca, &[])
    )
}

/// A file, and what it is.
fn of_file(path: &Path, what: String) -> Vec<String> {
    vec![path.display().to_string(), what]
}

/// After `registry certs issue`.
pub(super) fn of_server(dir: &Path, issued: &Issued) -> String {
    let (certificate, key, ca) = (dir.join(SERVER), dir.join(SERVER_KEY), dir.join(CA));
    let until = date(issued.made.certificate.not_after);
    let mut text = table(&[
        of_file(&certificate, format!("for {}, until {until}", names::list(&issued.names))),
        of_file(&key, format!("its key, {}", if issued.has_new_key { "a new one" } else { "as it was" })),
        of_file(&ca, format!("the CA {}, until {}", issued.ca.subject, date(issued.ca.not_after))),
        vec!["SHA-256 of the CA".to_owned(), issued.ca.fingerprint()],
    ]);
    issued.notes.iter().for_each(|note| text.push_str(&format!("\n{note}\n")));
    let (certificate, key) = (quoted(&certificate), quoted(&key));
    text.push_str(&format!(
        "\nOn the registry's servers; one that already has these files there takes the new ones up by itself. Its user has to be able to read the key:\n  \
         registry --tls-certificate {certificate} --tls-key {key}\n  \
         or REGISTRY_TLS_CERTIFICATE={certificate} REGISTRY_TLS_KEY={key}, or tls.certificate and tls.key in the configuration file\n\
         On Kubernetes, or with oc on OpenShift, as one secret for all replicas. {CA_KEY} belongs neither in it nor on a server:\n  \
         kubectl create secret tls registry-tls --cert={certificate} --key={key} --dry-run=client -o yaml | kubectl apply -f -\n"
    ));
    if issued.is_known {
        text.push_str("\nClients that trust the CA have nothing to do. Others:\n");
        text.push_str(on_clients(&ca, &issued.ca, &issued.names).split_once('\n').map_or("", |(_, rest)| rest));
    } else {
        text.push('\n');
        text.push_str(&on_clients(&ca, &issued.ca, &issued.names));
    }
    text
}

/// What clients do to trust the CA.
fn on_clients(path: &Path, ca: &Certificate, names: &[Name]) -> String {
    let (shown, file) = (path.display(), file_name(&ca.subject));
    let hosts = names.iter().filter(|name| name.is_one_host()).map(in_image_name);
    let mut hosts: Vec<_> = hosts.map(|host| format!("'{host}:{PORT}'")).collect();
    if hosts.is_empty() {
        hosts.push(format!("'HOST:{PORT}'"));
    }
    let each = |directory: &str| {
        let hosts = hosts.join(" ");
        format!("for host in {hosts}; do sudo install -D -m 644 ca.pem \"{directory}/$host/ca.crt\"; done")
    };
    format!(
        "On each client, with {shown} copied there as ca.pem, one of these:\n  \
         RHEL, Fedora     sudo install -m 644 ca.pem /etc/pki/ca-trust/source/anchors/{file}.crt && sudo update-ca-trust\n  \
         Debian, Ubuntu   sudo install -m 644 ca.pem /usr/local/share/ca-certificates/{file}.crt && sudo update-ca-certificates\n  \
         Docker           {}\n  \
         Podman, skopeo   {}\n                   \
         or --cert-dir DIR with the CA in DIR/ca.crt\n\
         The directories of the last two are called as images call the registry: without :{PORT} where it listens on 443.\n",
        each("/etc/docker/certs.d"),
        each("/etc/containers/certs.d"),
    )
}

/// As it stands before an image's name.
fn in_image_name(name: &Name) -> String {
    match name {
        Name::Address(address) if address.is_ipv6() => format!("[{address}]"),
        name => name.to_string(),
    }
}

/// A file name made of the CA's subject: two CAs are trusted side by side.
fn file_name(subject: &str) -> String {
    let words = subject.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if name.is_empty() { "registry-ca".to_owned() } else { name }
}

/// A path as a shell reads it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A time for people.
pub(super) fn date(time: OffsetDateTime) -> String {
    format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute())
}

/// A time for programs, as RFC 3339 has it.
pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    format!("{}T{:02}:{:02}:{:02}Z", time.date(), time.hour(), time.minute(), time.second())
}

/// So many days.
pub(super) fn days(number: i64) -> String {
    format!("{number} day{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        let time = OffsetDateTime::from_unix_timestamp(1_800_000_009).unwrap();
        assert_eq!(rfc3339(time), "2027-01-15T08:00:09Z");
        assert_eq!(date(time), "2027-01-15 08:00 UTC");
        assert_eq!([days(0), days(1), days(2)], ["0 days", "1 day", "2 days"]);
    }

    #[test]
    fn paths_are_safe_to_paste() {
        let quoted = |text: &str| quoted(Path::new(text));
        assert_eq!(quoted("certs/server.pem"), "certs/server.pem");
        assert_eq!(quoted("my certs/$(id)"), "'my certs/$(id)'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_file_is_called_as_its_ca_whatever_that_is_called() {
        assert_eq!(file_name("Registry CA 1a2b3c4d"), "registry-ca-1a2b3c4d");
        assert_eq!(file_name("../../$(id) x"), "id-x");
        assert_eq!(file_name("日本"), "registry-ca");
    }
}
