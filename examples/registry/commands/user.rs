//! `registry user`: who may log in.

use std::path::Path;

use clap::{Args, Subcommand};
use registry_http::auth::{HtpasswdEditor, HtpasswdError};
use serde_json::json;

use super::password::{self, Source};
use super::text::table;
use super::{print, print_json};
use crate::failure::Failure;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a user; from the first on nobody gets in without logging in
    #[command(after_help = "Without a flag the password is asked for. It has 8 to 72 bytes.")]
    Add(Add),
    /// Give a user another password
    #[command(
        after_help = "Without a flag the password is asked for. It has 8 to 72 bytes. The old one is no good any more within seconds."
    )]
    Passwd(Passwd),
    /// Put a user into these groups and no others
    Groups(Groups),
    /// Take a user out
    #[command(after_help = "When the last has gone, nobody can log in, and nobody gets in.")]
    Remove(Name),
    /// Show who the users are, and their groups
    List(List),
}

/// Who is added.
#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    user: Name,
    /// A group that the user is in; may be given more than once
    #[arg(long = "group", id = "group", value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    password: Source,
}

/// Who gets another password.
#[derive(Debug, Args)]
pub(crate) struct Passwd {
    #[command(flatten)]
    user: Name,
    #[command(flatten)]
    password: Source,
}

/// Who is put into which groups.
#[derive(Debug, Args)]
pub(crate) struct Groups {
    #[command(flatten)]
    user: Name,
    /// The groups; none takes the user out of all
    #[arg(id = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

/// Which user.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The user's name
    #[arg(id = "name", value_name = "NAME")]
    name: String,
}

/// How to show them.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does it to the users in the file at `path`.
pub(crate) fn run(path: &Path, command: &Command) -> Result<(), Failure> {
    let editor = HtpasswdEditor::new(path);
    match command {
        Command::Add(add) => self::add(path, &editor, add),
        Command::Passwd(passwd) => {
            let name = &passwd.user.name;
            let failed = |error| failure(path, format!("cannot change {name}"), &error);
            // Before anybody types a password for nothing.
            if !has(&editor, name).map_err(failed)? {
                return Err(failed(HtpasswdError::Unknown(name.clone())));
            }
            editor.set_password(name, &password::get(&passwd.password, name)?).map_err(failed)?;
            print(&format!("{name} has another password.\n"))
        }
        Command::Groups(groups) => {
            let (name, groups) = (&groups.user.name, &groups.groups);
            editor.set_groups(name, groups).map_err(|error| failure(path, format!("cannot change {name}"), &error))?;
            print(&format!("{name} is in {}.\n", if groups.is_empty() { "no group".to_owned() } else { groups.join(", ") }))
        }
        Command::Remove(Name { name }) => {
            let failed = |error| failure(path, format!("cannot remove {name}"), &error);
            editor.remove(name).map_err(failed)?;
            let last = editor.list().map_err(failed)?.is_some_and(|users| users.is_empty());
            let last = if last { format!("It was the last user: nobody gets in now. {}.\n", open_again(path)) } else { String::new() };
            print(&format!("{name} is removed.\n{last}"))
        }
        Command::List(options) => list(path, &editor, options),
    }
}

fn add(path: &Path, editor: &HtpasswdEditor, add: &Add) -> Result<(), Failure> {
    let name = &add.user.name;
    let failed = |error| failure(path, format!("cannot add {name}"), &error);
    HtpasswdEditor::check(name, &add.groups, None).map_err(failed)?;
    if has(editor, name)
        .or_else(|error| if matches!(error, HtpasswdError::Gone { .. }) { Ok(false) } else { Err(error) })
        .map_err(failed)?
    {
        return Err(failed(HtpasswdError::Taken(name.clone())));
    }
    let password = password::get(&add.password, name)?;
    // Users may come before the first start.
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| Failure::because(format!("cannot make {}", parent.display()), &error))?;
    }
    let is_first = editor.add(name, &password, &add.groups).map_err(failed)?;
    let mut text = format!("{name} is added");
    if !add.groups.is_empty() {
        text.push_str(&format!(", in {}", add.groups.join(", ")));
    }
    text.push_str(
        ".\nEverybody who logs in may pull; members of the group writers may push too, members of the group admins may do everything.\n\
         [[access]] rules in the configuration replace that.\n",
    );
    if is_first {
        text.push_str("It is the first user: from now on nobody gets in without logging in. Running servers notice within seconds.\n");
    }
    print(&text)
}

fn list(path: &Path, editor: &HtpasswdEditor, options: &List) -> Result<(), Failure> {
    let users = editor.list().map_err(|error| failure(path, "cannot show the users", &error))?;
    if options.json {
        let all: Vec<_> = users.iter().flatten().map(|user| json!({ "name": user.name(), "groups": user.groups() })).collect();
        return print_json(&json!({ "file": path.display().to_string(), "exists": users.is_some(), "users": all }));
    }
    match users {
        None => print("There are no users: everybody is let in. `registry user add NAME` changes that.\n"),
        Some(users) if users.is_empty() => print(&format!("There are no users, and nobody is let in. {}.\n", open_again(path))),
        Some(users) => {
            let head = vec!["USER".to_owned(), "GROUPS".to_owned()];
            let rows = users.iter().map(|user| vec![user.name().to_owned(), user.groups().join(", ")]);
            print(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
        }
    }
}

fn open_again(path: &Path) -> String {
    let path = path.display();
    format!("To let everybody in again, remove {path} and {path}.lock and restart the servers")
}

fn has(editor: &HtpasswdEditor, name: &str) -> Result<bool, HtpasswdError> {
    Ok(editor.list()?.is_some_and(|users| users.iter().any(|user| user.name() == name)))
}

/// Why, and what to do.
pub(crate) fn failure(path: &Path, what: impl std::fmt::Display, error: &HtpasswdError) -> Failure {
    let failure = Failure::because(what, error);
    match error {
        HtpasswdError::Taken(name) => {
            failure.hint(format!("`registry user passwd {name}` gives another password, `registry user groups {name} GROUP` other groups"))
        }
        HtpasswdError::Unknown(name) => {
            failure.hint(format!("`registry user list` shows who there is, `registry user add {name}` adds a user"))
        }
        HtpasswdError::Line { .. } => failure.hint("write the line as it should be, or take it out"),
        HtpasswdError::Gone { .. } => failure.hint("put the file back, or add users anew with `registry user add NAME`"),
        HtpasswdError::Io { .. } => failure.hint(format!("is {} where the servers have it, and may you write there?", path.display())),
        _ => failure,
    }
}
