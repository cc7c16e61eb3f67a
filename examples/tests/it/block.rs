//! [`Block`]: a `[[zone]]` as it stands in a configuration.

/// Keys and their values, as TOML has them.
#[derive(Clone, Debug)]
pub(crate) struct Block(Vec<(&'static str, String)>);

impl Block {
    pub(crate) fn new<const N: usize>(keys: [(&'static str, String); N]) -> Self {
        Self(keys.into())
    }

    /// With another value of a key; an empty one takes it away.
    #[must_use]
    pub(crate) fn with(mut self, key: &'static str, value: &str) -> Self {
        self.0.retain(|(known, _)| *known != key);
        if !value.is_empty() {
            self.0.push((key, value.to_owned()));
        }
        self
    }

    /// The same with a text for a value.
    #[must_use]
    pub(crate) fn with_text(self, key: &'static str, value: &str) -> Self {
        self.with(key, &format!("{value:?}"))
    }

    pub(crate) fn toml(&self) -> String {
        let lines: String = self.0.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        format!("[[zone]]\n{lines}\n")
    }
}
