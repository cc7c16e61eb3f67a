//! [`PlacementPolicy`]: which zones the blobs of which repositories belong in.

use std::time::Duration;

use registry_core::RepositoryPattern;

/// Zones, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZoneSet {
    /// All that are configured, those that will be included.
    All,
    /// These.
    Named(Vec<String>),
}

impl ZoneSet {
    /// Whether the zone of this name is one of them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|one| one == name),
        }
    }
}

/// What becomes of a push whose image does not reach its [`min_copies`](PolicyRule::with_min_copies) in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooFewCopies {
    /// The client is told to try again (503): for images that must not be lost with one zone.
    #[default]
    Refuse,
    /// It is acknowledged with a warning; the copies are made as soon as that is possible.
    Warn,
}

/// Where the blobs of some repositories belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    pub(crate) pattern: RepositoryPattern,
    pub(crate) zones: ZoneSet,
    pub(crate) min_copies: u32,
    pub(crate) min_copies_timeout: Duration,
    pub(crate) too_few: TooFewCopies,
}

impl PolicyRule {
    /// The repositories of this pattern belong in these zones and nowhere else: nothing of theirs is even staged elsewhere. One copy is enough to
    /// acknowledge a push.
    pub fn new(pattern: RepositoryPattern, zones: ZoneSet) -> Self {
        Self { pattern, zones, min_copies: 1, min_copies_timeout: Duration::from_secs(60), too_few: TooFewCopies::Refuse }
    }

    /// How many zones have to have all of an image before its push is acknowledged; 1 by default.
    #[must_use]
    pub fn with_min_copies(mut self, min_copies: u32) -> Self {
        self.min_copies = min_copies;
        self
    }

    /// How long the push waits for them; 60 seconds by default.
    #[must_use]
    pub fn with_min_copies_timeout(mut self, timeout: Duration) -> Self {
        self.min_copies_timeout = timeout;
        self
    }

    /// What then.
    #[must_use]
    pub fn with_too_few_copies(mut self, what: TooFewCopies) -> Self {
        self.too_few = what;
        self
    }

    /// Which repositories it is for.
    pub fn pattern(&self) -> &RepositoryPattern {
        &self.pattern
    }

    /// The zones.
    pub fn zones(&self) -> &ZoneSet {
        &self.zones
    }

    /// How many zones have to have all of an image before its push is acknowledged.
    pub fn min_copies(&self) -> u32 {
        self.min_copies
    }
}

/// Which zones the blobs of which repositories belong in.
///
/// The first rule whose pattern matches a repository is its rule; a repository that none matches belongs in all zones. A blob of several repositories
/// belongs in the zones of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementPolicy {
    rules: Vec<PolicyRule>,
    /// For what no rule is for.
    otherwise: PolicyRule,
}

impl Default for PlacementPolicy {
    /// Everything everywhere.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl PlacementPolicy {
    /// These rules, and everything everywhere where none matches.
    pub fn new(rules: Vec<PolicyRule>) -> Self {
        Self { rules, otherwise: PolicyRule::new(RepositoryPattern::all(), ZoneSet::All) }
    }

    /// The rules.
    pub fn rules(&self) -> &[PolicyRule] {
        &self.rules
    }

    /// The rules, and the one for what none of them is for.
    pub(crate) fn all_rules(&self) -> impl Iterator<Item = &PolicyRule> {
        self.rules.iter().chain([&self.otherwise])
    }

    /// The rule for blobs that are written on behalf of this scope, a repository's name. What is written on behalf of nobody goes everywhere.
    pub fn rule(&self, scope: Option<&str>) -> &PolicyRule {
        let rule = scope.and_then(|name| self.rules.iter().find(|rule| rule.pattern.matches(name)));
        rule.unwrap_or(&self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> RepositoryPattern {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let eu = PolicyRule::new(pattern("eu/**"), ZoneSet::Named(vec!["frankfurt".to_owned()]));
        let all = PolicyRule::new(pattern("**"), ZoneSet::All).with_min_copies(2);
        let policy = PlacementPolicy::new(vec![eu.clone(), all.clone()]);
        assert_eq!(policy.rule(Some("eu/app")), &eu);
        assert_eq!(policy.rule(Some("us/app")), &all);
        assert_eq!(policy.rule(None).zones(), &ZoneSet::All);
        assert_eq!(PlacementPolicy::default().rule(Some("x")).min_copies(), 1);
    }
}
