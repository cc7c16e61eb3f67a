//! [`Contents`]: what is in a users file, line by line.

use std::collections::HashMap;

use super::error::{HtpasswdError, Problem};
use super::hash::Bcrypt;

/// A line that is not what it should be, the first being 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) line: usize,
    pub(super) problem: Problem,
}

/// A user as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) hash: Bcrypt,
    pub(super) groups: Vec<String>,
    /// What follows the groups: somebody else's business.
    rest: Option<String>,
}

impl User {
    pub(super) fn new(name: String, hash: Bcrypt, groups: Vec<String>) -> Self {
        Self { name, hash, groups, rest: None }
    }

    fn parse(line: &str) -> Result<Self, Problem> {
        let mut fields = line.splitn(4, ':');
        let (Some(name), Some(hash)) = (fields.next(), fields.next()) else { return Err(Problem::Fields) };
        let groups = match fields.next() {
            None | Some("") => Vec::new(),
            Some(groups) => groups.split(',').map(str::to_owned).collect(),
        };
        if !is_name(name) {
            return Err(Problem::Name);
        }
        let hash = Bcrypt::parse(hash)?;
        if !groups.iter().all(|group| is_group(group)) {
            return Err(Problem::Groups);
        }
        Ok(Self { name: name.to_owned(), hash, groups, rest: fields.next().map(str::to_owned) })
    }

    fn write(&self) -> String {
        let mut line = format!("{}:{}", self.name, self.hash.expose());
        if !self.groups.is_empty() || self.rest.is_some() {
            line.push(':');
            line.push_str(&self.groups.join(","));
        }
        if let Some(rest) = &self.rest {
            line.push(':');
            line.push_str(rest);
        }
        line
    }
}

/// Whether a user can have this name. A byte order mark would be part of the first name without anybody seeing it.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !c.is_whitespace() && c != ':' && c != '\u{feff}';
    (1..=255).contains(&name.len()) && !name.starts_with('#') && name.chars().all(allowed)
}

/// Whether a group can have this name.
pub(super) fn is_group(group: &str) -> bool {
    (1..=255).contains(&group.len()) && group.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

/// All lines of a file, those that are no users too.
#[derive(Default)]
pub(super) struct Contents {
    lines: Vec<Line>,
}

struct Line {
    /// As it stands in the file, without its end.
    raw: String,
    user: Option<User>,
}

impl Contents {
    /// Reads a file. Two users of one name are refused: whoever takes the first away would leave the second.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadLine> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            BadLine { line: before + 1, problem: Problem::Encoding }
        })?;
        let mut known = HashMap::new();
        let mut lines = Vec::new();
        for (index, raw) in text.split('\n').enumerate() {
            let bad = |problem| BadLine { line: index + 1, problem };
            let content = raw.trim_start();
            let user = if content.is_empty() || content.starts_with('#') {
                None
            } else {
                let user = User::parse(raw.strip_suffix('\r').unwrap_or(raw)).map_err(bad)?;
                if let Some(first) = known.insert(user.name.clone(), index + 1) {
                    return Err(bad(Problem::Twice(first)));
                }
                Some(user)
            };
            lines.push(Line { raw: raw.to_owned(), user });
        }
        Ok(Self { lines })
    }

    /// The file again; what was not changed is what it was, byte by byte.
    pub(super) fn write(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(|line| line.raw.as_str()).collect();
        lines.join("\n")
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &User> {
        self.lines.iter().filter_map(|line| line.user.as_ref())
    }

    fn position(&self, name: &str) -> Result<usize, HtpasswdError> {
        let is_it = |line: &Line| line.user.as_ref().is_some_and(|user| user.name == name);
        self.lines.iter().position(is_it).ok_or_else(|| HtpasswdError::Unknown(name.to_owned()))
    }

    /// Adds a user at the end.
    pub(super) fn add(&mut self, user: User) -> Result<(), HtpasswdError> {
        if self.position(&user.name).is_ok() {
            return Err(HtpasswdError::Taken(user.name));
        }
        // What follows the last end of line is a line of its own, and an empty one if all is well.
        if self.lines.last().is_some_and(|line| line.raw.is_empty()) {
            self.lines.pop();
        }
        self.lines.push(Line { raw: user.write(), user: Some(user) });
        self.lines.push(Line { raw: String::new(), user: None });
        Ok(())
    }

    /// Changes a user, not the name.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut User)) -> Result<(), HtpasswdError> {
        let position = self.position(name)?;
        let line = &mut self.lines[position];
        if let Some(user) = &mut line.user {
            change(user);
            let end = if line.raw.ends_with('\r') { "\r" } else { "" };
            line.raw = user.write() + end;
        }
        Ok(())
    }

    /// Takes a user out.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), HtpasswdError> {
        let position = self.position(name)?;
        self.lines.remove(position);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::hash::tests::{TWO_A, TWO_Y};
    use super::*;

    fn problem(text: &str) -> Option<(usize, Problem)> {
        Contents::parse(text.as_bytes()).err().map(|bad| (bad.line, bad.problem))
    }

    #[test]
    fn users_are_read_with_their_groups_between_comments_and_blank_lines() {
        let text = format!(
            "# the team\n\nalice:{TWO_Y}:writers,admins\r\n  # Bob\nbjörn@home:{TWO_A}\n \t\neve:{TWO_Y}::of sales\nmallory:{TWO_A}:"
        );
        let contents = Contents::parse(text.as_bytes()).unwrap();
        let users: Vec<_> = contents.users().map(|user| (user.name.as_str(), user.groups.join("+"), user.hash.expose())).collect();
        let wanted = [("alice", "writers+admins", TWO_Y), ("björn@home", "", TWO_A), ("eve", "", TWO_Y), ("mallory", "", TWO_A)];
        assert_eq!(users, wanted.map(|(name, groups, hash)| (name, groups.to_owned(), hash)));
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        for (line, wanted) in [
            ("alice".to_owned(), Problem::Fields),
            (format!(":{TWO_Y}"), Problem::Name),
            (format!("a b:{TWO_Y}"), Problem::Name),
            (format!(" a:{TWO_Y}"), Problem::Name),
            (format!("a\u{7}:{TWO_Y}"), Problem::Name),
            (format!("\u{feff}a:{TWO_Y}"), Problem::Name),
            (format!("{}:{TWO_Y}", "a".repeat(256)), Problem::Name),
            ("bob:secret".to_owned(), Problem::Hash),
            (format!("bob:{TWO_Y} "), Problem::Hash),
            (format!("bob:{TWO_Y}:a,,b"), Problem::Groups),
            (format!("bob:{TWO_Y}:a, b"), Problem::Groups),
            (format!("bob:{TWO_Y}:ä"), Problem::Groups),
            (format!("alice:{TWO_A}"), Problem::Twice(2)),
        ] {
            let text = format!("#\nalice:{TWO_Y}\n{line}\neve:{TWO_Y}\n");
            assert_eq!(problem(&text), Some((3, wanted)), "{line}");
        }
        let bad = Contents::parse(b"# one\n# two\n# \xff\n").err().unwrap();
        assert_eq!(bad, BadLine { line: 3, problem: Problem::Encoding });
    }

    #[test]
    fn what_is_told_of_a_line_has_nothing_of_it() {
        let error = HtpasswdError::Line { path: "users".into(), line: 7, problem: Problem::Hash };
        assert_eq!(error.to_string(), "users, line 7: the password is not hashed by bcrypt ($2a$, $2b$ or $2y$): `htpasswd -B` does that");
        let user = User::parse(&format!("alice:{TWO_Y}")).unwrap();
        assert!(!format!("{user:?}").contains(&TWO_Y[7..]));
    }

    #[test]
    fn a_change_leaves_everything_else_as_it_was() {
        let text = format!("# head\nalice:{TWO_Y}:a:kept:too\r\n\n#tail\nbob:{TWO_Y}");
        let mut contents = Contents::parse(text.as_bytes()).unwrap();
        contents.change("alice", |user| user.groups = Vec::new()).unwrap();
        contents.add(User::new("eve".to_owned(), Bcrypt::parse(TWO_A).unwrap(), vec!["x".to_owned(), "y".to_owned()])).unwrap();
        contents.change("bob", |user| user.hash = Bcrypt::parse(TWO_A).unwrap()).unwrap();
        assert_eq!(contents.write(), format!("# head\nalice:{TWO_Y}::kept:too\r\n\n#tail\nbob:{TWO_A}\neve:{TWO_A}:x,y\n"));
        contents.remove("alice").unwrap();
        contents.remove("eve").unwrap();
        assert_eq!(contents.write(), format!("# head\n\n#tail\nbob:{TWO_A}\n"));
        contents.remove("bob").unwrap();
        assert_eq!(contents.write(), "# head\n\n#tail\n");
    }

    #[test]
    fn adding_who_is_there_and_changing_who_is_not_is_refused() {
        let text = format!("alice:{TWO_Y}\n");
        let mut contents = Contents::parse(text.as_bytes()).unwrap();
        let again = User::new("alice".to_owned(), Bcrypt::parse(TWO_A).unwrap(), Vec::new());
        assert!(matches!(contents.add(again), Err(HtpasswdError::Taken(name)) if name == "alice"));
        assert!(matches!(contents.change("bob", |_| {}), Err(HtpasswdError::Unknown(name)) if name == "bob"));
        assert!(matches!(contents.remove("Alice"), Err(HtpasswdError::Unknown(_))));
        assert_eq!(contents.write(), text);
    }

    fn line() -> impl Strategy<Value = String> {
        let hash = prop_oneof![Just(TWO_Y), Just(TWO_A)];
        let user =
            ("[^\\s\\p{Cc}:#\u{feff}][^\\s\\p{Cc}:\u{feff}]{0,8}", hash, "(:([a-zA-Z0-9._-]{1,3}(,[a-z]{1,3}){0,2})?(:[ -~]{0,6})?)?\r?");
        prop_oneof![user.prop_map(|(name, hash, rest)| format!("{name}:{hash}{rest}")), "[ \t]{0,2}(#[^\n]{0,9})?"]
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Contents::parse(&bytes).is_ok();
        }

        #[test]
        fn no_line_panics_and_what_is_read_is_written_again(text in "([a#: \r\n$2y0-9é]{0,9}|[^\n]{0,5}\n){0,9}") {
            if let Ok(contents) = Contents::parse(text.as_bytes()) {
                prop_assert_eq!(contents.write(), text);
            }
        }

        #[test]
        fn a_file_is_written_as_it_was_read(lines in prop::collection::vec(line(), 0..8)) {
            let text = lines.join("\n");
            match Contents::parse(text.as_bytes()) {
                Ok(contents) => prop_assert_eq!(contents.write(), text),
                Err(bad) => prop_assert!(matches!(bad.problem, Problem::Twice(_)), "{:?}", bad),
            }
        }

        #[test]
        fn a_user_who_is_added_is_read_again_and_taken_out_without_a_trace(
            lines in prop::collection::vec(line(), 0..6), groups in prop::collection::vec("[a-z.]{1,3}", 0..3),
        ) {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            prop_assume!(Contents::parse(text.as_bytes()).is_ok());
            let mut contents = Contents::parse(text.as_bytes()).unwrap();
            let user = User::new("somebody-else-entirely".to_owned(), Bcrypt::parse(TWO_Y).unwrap(), groups);
            contents.add(user.clone()).unwrap();
            let mut again = Contents::parse(contents.write().as_bytes()).unwrap();
            prop_assert!(again.users().eq(contents.users()));
            prop_assert_eq!(again.users().last(), Some(&user));
            again.remove(&user.name).unwrap();
            prop_assert_eq!(again.write(), text);
        }
    }
}
