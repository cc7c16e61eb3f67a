//! `registry certs`: an own certificate authority, and the server's certificate with it.
//!
//! | where | what |
//! |---|---|
//! | `ca`, `issue` | the two commands, and why a crash in either does no harm |
//! | `make`, `read` | certificates and keys, made and read |
//! | `files` | how they come into a directory, and which there are believed |
//! | `names` | what a server may be called |
//! | `advice` | what is printed |

mod advice;
mod ca;
mod files;
mod issue;
mod make;
mod names;
mod read;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;

use self::files::{CA, CA_KEY, SERVER, SERVER_KEY};
use self::names::Name;
use super::{print, print_json};
use crate::failure::Failure;

/// Where certificates are if nothing else is said.
const DIR: &str = "certs";

/// The longest name of a CA in characters. A space and eight digits follow, and 64 is the most that a certificate has room for.
const LONGEST_NAME: usize = 55;

/// What is to be made.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a certificate authority that clients can be told to trust
    #[command(after_help = "It makes DIR/ca.pem for clients and DIR/ca-key.pem for nobody else, and prints what to do with them.")]
    Ca(Ca),
    /// Make the server's certificate, or renew it
    #[command(after_help = "It makes DIR/server.pem and DIR/server-key.pem, and prints what to do with them.\n\
                      Without --host and --ip it renews the certificate that is there. A server that uses the files takes up new ones by itself.")]
    Issue(Issue),
}

/// Which CA.
#[derive(Debug, Args)]
pub(crate) struct Ca {
    /// The directory to make it in
    #[arg(long, value_name = "DIR", default_value = DIR)]
    dir: PathBuf,
    /// What clients see it called; a few digits are added that tell it from others
    #[arg(long, value_name = "NAME", default_value = "Registry CA", value_parser = ca_name)]
    name: String,
    /// How many days it is valid
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which certificate.
#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// A host name that clients use, perhaps beginning with `*.`; may be given more than once
    #[arg(long = "host", value_name = "NAME", value_parser = names::host)]
    hosts: Vec<Name>,
    /// An IP address that clients use; may be given more than once
    #[arg(long = "ip", value_name = "ADDRESS", value_parser = names::address)]
    addresses: Vec<Name>,
    /// The directory that the CA is in
    #[arg(long, value_name = "DIR", default_value = DIR)]
    dir: PathBuf,
    /// How many days it is valid: at most 825, and not longer than the CA
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = server_days)]
    days: u32,
    /// Make a new key even if there is one
    #[arg(long)]
    new_key: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn ca_name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(format!("a CA's name has 1 to {LONGEST_NAME} characters"));
    }
    Ok(text.to_owned())
}

fn server_days(text: &str) -> Result<u32, String> {
    let days = text.parse().map_err(|_| "this is no number of days".to_owned())?;
    match days {
        0 => Err("it has to be valid for a day at least".to_owned()),
        1..=make::LONGEST => Ok(days),
        _ => Err(format!("at most {}: Apple's systems refuse servers' certificates that are valid for longer", make::LONGEST)),
    }
}

/// Makes it, and prints what to do with it.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    // Certificates know no parts of a second.
    let now = OffsetDateTime::now_utc().truncate_to_second();
    match command {
        Command::Ca(options) => {
            let dir = &options.dir;
            let path = |name| dir.join(name).display().to_string();
            let ca = ca::make(dir, &options.name, options.days, now)?.certificate;
            if !options.json {
                return print(&advice::of_ca(dir, &ca));
            }
            print_json(&json!({
                "ca": path(CA),
                "ca_key": path(CA_KEY),
                "name": ca.subject,
                "not_after": advice::rfc3339(ca.not_after),
                "fingerprint": ca.fingerprint(),
            }))
        }
        Command::Issue(options) => {
            let dir = &options.dir;
            let path = |name| dir.join(name).display().to_string();
            let mut names: Vec<Name> = Vec::new();
            for name in options.hosts.iter().chain(&options.addresses) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            let wanted = issue::Wanted { names: &names, days: options.days, new_key: options.new_key };
            let issued = issue::issue(dir, &wanted, now)?;
            if !options.json {
                return print(&advice::of_server(dir, &issued));
            }
            print_json(&json!({
                "certificate": path(SERVER),
                "key": path(SERVER_KEY),
                "new_key": issued.has_new_key,
                "names": issued.names.iter().map(Name::to_string).collect::<Vec<_>>(),
                "not_after": advice::rfc3339(issued.made.certificate.not_after),
                "ca": path(CA),
                "fingerprint": issued.ca.fingerprint(),
                "notes": issued.notes,
            }))
        }
    }
}
