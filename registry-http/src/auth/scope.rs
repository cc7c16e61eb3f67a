//! [`Scope`]: what a token is asked to be good for, as Docker's token protocol writes it.
//!
//! <https://distribution.github.io/distribution/spec/auth/scope/>

use std::fmt;

use registry_core::RepositoryName;

use super::Action;

/// The most scopes that a token is asked for at once: an image that is put together from those of others names each of theirs.
const MOST: usize = 30;

/// Something that can be done somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `repository:team/app:pull,push`
    Repository(RepositoryName, Vec<Action>),
    /// `registry:catalog:*`
    Catalog,
}

impl Scope {
    /// Those that the texts ask for; what is of no kind that is known here is passed over, as are actions. `None` if there are too many.
    pub(crate) fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Vec<Self>> {
        let scopes: Vec<_> = texts.flat_map(|text| text.split(' ')).filter(|text| !text.is_empty()).take(MOST + 1).collect();
        (scopes.len() <= MOST).then(|| scopes.into_iter().filter_map(Self::one).collect())
    }

    fn one(text: &str) -> Option<Self> {
        // A name may have a port's colon in it elsewhere, but a repository's has none.
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        match kind {
            "repository" => Some(Self::Repository(name.parse().ok()?, actions_of(actions.split(',')))),
            // Docker's plugins: `repository(plugin)`.
            kind if kind.starts_with("repository(") => Some(Self::Repository(name.parse().ok()?, actions_of(actions.split(',')))),
            "registry" if name == "catalog" => Some(Self::Catalog),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Repository(..) => "repository",
            Self::Catalog => "registry",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Repository(name, _) => name.as_str(),
            Self::Catalog => "catalog",
        }
    }

    /// The words for what can be done.
    pub(crate) fn actions(&self) -> Vec<&'static str> {
        match self {
            Self::Repository(_, actions) => actions.iter().map(|action| action.as_str()).collect(),
            Self::Catalog => vec!["*"],
        }
    }

    /// From the parts that a token has.
    pub(crate) fn of(kind: &str, name: &str, actions: &[&str]) -> Option<Self> {
        match kind {
            "repository" => Some(Self::Repository(name.parse().ok()?, actions_of(actions.iter().copied()))),
            "registry" if name == "catalog" => Some(Self::Catalog),
            _ => None,
        }
    }
}

/// The actions of these words; `*` is each.
fn actions_of<'a>(words: impl Iterator<Item = &'a str>) -> Vec<Action> {
    let mut actions = Vec::new();
    for word in words {
        let named: Vec<_> = if word == "*" { Action::ALL.to_vec() } else { word.parse().ok().into_iter().collect() };
        actions.extend(named.into_iter().filter(|action| !actions.contains(action)).collect::<Vec<_>>());
    }
    actions
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind(), self.name(), self.actions().join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(texts: &[&str]) -> Option<Vec<Scope>> {
        Scope::parse(texts.iter().copied())
    }

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        let app: RepositoryName = "team/app".parse().unwrap();
        let pull = Scope::Repository(app.clone(), vec![Action::Pull]);
        let push = Scope::Repository(app.clone(), vec![Action::Pull, Action::Push]);
        assert_eq!(parse(&["repository:team/app:pull"]), Some(vec![pull.clone()]));
        assert_eq!(
            parse(&["repository:team/app:pull,push repository:team/app:pull", "registry:catalog:*"]),
            Some(vec![push, pull, Scope::Catalog])
        );
        assert_eq!(parse(&["repository:team/app:*"]), Some(vec![Scope::Repository(app.clone(), Action::ALL.to_vec())]));
        assert_eq!(parse(&["repository:team/app:pull,pull,fly"]), Some(vec![Scope::Repository(app, vec![Action::Pull])]));
        assert_eq!(parse(&["", "  ", "repository", "repository:A:pull", "registry:other:*"]), Some(vec![]));
        assert_eq!(parse(&[&"repository:a:pull ".repeat(31)]), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&[&text]);
        }

        #[test]
        fn what_is_written_is_read_back(name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}", mask in 1_u8..16) {
            let actions = Action::ALL.into_iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0).map(|(_, action)| action).collect();
            let scope = Scope::Repository(name.parse().unwrap(), actions);
            prop_assert_eq!(parse(&[&scope.to_string()]), Some(vec![scope]));
        }
    }
}
