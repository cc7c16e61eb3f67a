//! [`PlacementPolicy`]: which zones the blobs of which repositories belong in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which repositories a rule is for: a pattern of names.
///
/// Parts are divided by `/`. `*` stands for any characters within a part; a part `**` stands for any number of parts, none included. So `prod/**` is
/// `prod` and everything below it, `*/app` is `team/app` and not `a/team/app`, and `**` is everything.
///
/// ```
/// use replication::RepositoryPattern;
///
/// let pattern: RepositoryPattern = "prod/**".parse().unwrap();
/// assert!(pattern.matches("prod/web/front") && !pattern.matches("production/web"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPattern(String);

/// Why a text is no [`RepositoryPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is parts of a-z 0-9 . _ - and *, divided by /, with ** only as a part of its own")]
pub struct PatternError;

impl FromStr for RepositoryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_' | b'-' | b'*');
        let part = |part: &str| !part.is_empty() && part.bytes().all(good) && (part == "**" || !part.contains("**"));
        if text.len() <= 255 && text.split('/').all(part) { Ok(Self(text.to_owned())) } else { Err(PatternError) }
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RepositoryPattern {
    /// Whether this is the name of such a repository.
    pub fn matches(&self, name: &str) -> bool {
        let pattern: Vec<_> = self.0.split('/').collect();
        let name: Vec<_> = name.split('/').collect();
        // Which numbers of parts of the name the pattern so far may stand for: no more than (parts × parts) steps, whatever the pattern.
        let mut reachable = vec![false; name.len() + 1];
        reachable[0] = true;
        for part in pattern {
            let mut next = vec![false; name.len() + 1];
            for at in 0..=name.len() {
                if part == "**" {
                    next[at] = reachable[at] || (at > 0 && next[at - 1]);
                } else if at > 0 {
                    next[at] = reachable[at - 1] && part_matches(part.as_bytes(), name[at - 1].as_bytes());
                }
            }
            reachable = next;
        }
        reachable[name.len()]
    }
}

/// The usual wildcard match, going back to the last star only.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

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
        Self { rules, otherwise: PolicyRule::new(RepositoryPattern("**".to_owned()), ZoneSet::All) }
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
    fn patterns_match_by_parts() {
        let table = [
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("prod/**", "prod", true),
            ("prod/**", "prod/a/b", true),
            ("prod/**", "production", false),
            ("*/app", "team/app", true),
            ("*/app", "a/team/app", false),
            ("**/app", "a/team/app", true),
            ("**/app", "app", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/b/c/z/y", false),
            ("web-*", "web-front", true),
            ("web-*", "web-front/x", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a", "a/b", false),
        ];
        for (text, name, expected) in table {
            assert_eq!(pattern(text).matches(name), expected, "{text} and {name}");
        }
        // Not exponential.
        let (long, name) = (["**/a"; 40].join("/"), ["b"; 120].join("/"));
        assert!(!pattern(&long).matches(&name));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "/a", "a/", "a//b", "A", "a b", "a**", "**a/b", "ä"] {
            assert_eq!(text.parse::<RepositoryPattern>(), Err(PatternError), "{text}");
        }
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
