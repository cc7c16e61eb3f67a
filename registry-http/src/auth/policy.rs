//! [`AccessPolicy`]: who may do what in which repositories.

use std::fmt;
use std::str::FromStr;

use registry_core::{RepositoryName, RepositoryPattern};

use super::Identity;

/// What one can do in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Read blobs, manifests, tags and referrers, and see that the repository is there.
    Pull,
    /// Write blobs and manifests, and move tags.
    Push,
    /// Delete blobs, manifests and tags.
    Delete,
    /// All of these, and what is to come.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pull, Self::Push, Self::Delete, Self::Admin];

    /// The word for it in configurations and in the scopes of tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no [`Action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an action is pull, push, delete or admin")]
pub struct ActionError;

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or(ActionError)
    }
}

/// Whom a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// Everybody, those who did not say who they are included.
    Everybody,
    /// Everybody who proved who they are.
    LoggedIn,
    /// The one of this name.
    User(String),
    /// Those in this group.
    Group(String),
}

impl Subject {
    fn includes(&self, identity: &Identity) -> bool {
        match self {
            Self::Everybody => true,
            Self::LoggedIn => !identity.is_anonymous(),
            Self::User(name) => !identity.is_anonymous() && identity.name() == name,
            Self::Group(name) => identity.groups().iter().any(|group| group == name),
        }
    }
}

/// Some subjects may do some things in some repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    repositories: RepositoryPattern,
    subjects: Vec<Subject>,
    actions: Vec<Action>,
}

impl AccessRule {
    /// These subjects may do this in repositories of this pattern.
    pub fn new(
        repositories: RepositoryPattern,
        subjects: impl IntoIterator<Item = Subject>,
        actions: impl IntoIterator<Item = Action>,
    ) -> Self {
        Self { repositories, subjects: subjects.into_iter().collect(), actions: actions.into_iter().collect() }
    }

    fn includes(&self, identity: &Identity) -> bool {
        self.subjects.iter().any(|subject| subject.includes(identity))
    }

    fn allows(&self, action: Action) -> bool {
        self.actions.iter().any(|one| *one == action || *one == Action::Admin)
    }
}

/// Decides what somebody may do. [`AccessPolicy`] does by rules; a host may ask its own tables.
///
/// Asked several times for each request, and for each repository of a list: it has to answer at once.
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// Whether `identity` may do this there.
    fn allows(&self, identity: &Identity, repository: &RepositoryName, action: Action) -> bool;

    /// Whether `identity` may do this in every repository, those to come included. A `false` that could be a `true` only costs time.
    fn allows_everywhere(&self, identity: &Identity, action: Action) -> bool;
}

/// Rules. What no rule allows is not allowed; there are none that forbid, so that their order does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPolicy(Vec<AccessRule>);

impl AccessPolicy {
    /// The group whose members push, with [`by_groups`](Self::by_groups).
    pub const WRITERS: &'static str = "writers";
    /// The group whose members do everything, with [`by_groups`](Self::by_groups).
    pub const ADMINS: &'static str = "admins";

    /// These rules.
    pub fn new(rules: impl IntoIterator<Item = AccessRule>) -> Self {
        Self(rules.into_iter().collect())
    }

    /// What holds where nothing is said: whoever is logged in may pull, [`WRITERS`](Self::WRITERS) may push too, and [`ADMINS`](Self::ADMINS) may do all.
    pub fn by_groups() -> Self {
        let rule = |subject, actions: &[Action]| AccessRule::new(RepositoryPattern::all(), [subject], actions.iter().copied());
        Self::new([
            rule(Subject::LoggedIn, &[Action::Pull]),
            rule(Subject::Group(Self::WRITERS.to_owned()), &[Action::Pull, Action::Push]),
            rule(Subject::Group(Self::ADMINS.to_owned()), &[Action::Admin]),
        ])
    }
}

impl Authorizer for AccessPolicy {
    fn allows(&self, identity: &Identity, repository: &RepositoryName, action: Action) -> bool {
        let rules = self.0.iter().filter(|rule| rule.allows(action) && rule.includes(identity));
        rules.into_iter().any(|rule| rule.repositories.matches(repository.as_str()))
    }

    fn allows_everywhere(&self, identity: &Identity, action: Action) -> bool {
        self.0.iter().any(|rule| rule.allows(action) && rule.includes(identity) && rule.repositories == RepositoryPattern::all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn in_groups(name: &str, groups: &[&str]) -> Identity {
        Identity::new(name, groups.iter().map(|group| (*group).to_owned()))
    }

    #[test]
    fn by_groups_readers_pull_writers_push_and_admins_do_all() {
        let policy = AccessPolicy::by_groups();
        let may = |identity: &Identity| Action::ALL.map(|action| policy.allows(identity, &name("a/b"), action));
        assert_eq!(may(&Identity::anonymous()), [false; 4]);
        assert_eq!(may(&in_groups("alice", &[])), [true, false, false, false]);
        assert_eq!(may(&in_groups("alice", &["writers"])), [true, true, false, false]);
        assert_eq!(may(&in_groups("alice", &["admins"])), [true; 4]);
        assert!(policy.allows_everywhere(&in_groups("alice", &[]), Action::Pull));
        assert!(!policy.allows_everywhere(&in_groups("alice", &[]), Action::Push));
    }

    #[test]
    fn a_rule_is_for_its_repositories_its_subjects_and_its_actions_only() {
        let policy = AccessPolicy::new([
            AccessRule::new("public/**".parse().unwrap(), [Subject::Everybody], [Action::Pull]),
            AccessRule::new("team/*".parse().unwrap(), [Subject::User("bob".into()), Subject::Group("ops".into())], [Action::Push]),
        ]);
        let (nobody, bob, ops) = (Identity::anonymous(), in_groups("bob", &[]), in_groups("carol", &["ops"]));
        assert!(policy.allows(&nobody, &name("public/a/b"), Action::Pull));
        assert!(!policy.allows(&nobody, &name("public/a/b"), Action::Push));
        assert!(!policy.allows(&nobody, &name("team/a"), Action::Push));
        for who in [&bob, &ops] {
            assert!(policy.allows(who, &name("team/a"), Action::Push));
            assert!(!policy.allows(who, &name("team/a"), Action::Pull), "pushing is not pulling");
            assert!(!policy.allows(who, &name("team/a/b"), Action::Push));
            assert!(!policy.allows_everywhere(who, Action::Push));
        }
        assert!(!policy.allows(&in_groups("ops", &["bob"]), &name("team/a"), Action::Push), "users and groups are told apart");
    }

    #[test]
    fn nobody_is_in_no_group_and_has_no_name() {
        let policy = AccessPolicy::new([AccessRule::new(RepositoryPattern::all(), [Subject::User(String::new())], [Action::Admin])]);
        assert!(!policy.allows(&Identity::anonymous(), &name("a"), Action::Pull));
        assert!(Identity::new("", ["admins".to_owned()]).is_anonymous());
    }

    #[test]
    fn actions_are_words() {
        for action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        assert_eq!("Pull".parse::<Action>(), Err(ActionError));
    }
}
