//! [`Identity`]: who asks.

use std::sync::Arc;

/// Who asks: somebody who proved it, or nobody in particular. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity(Option<Arc<Named>>);

#[derive(Debug, PartialEq, Eq)]
struct Named {
    name: String,
    groups: Vec<String>,
}

impl Identity {
    /// Who did not say who they are.
    pub fn anonymous() -> Self {
        Self(None)
    }

    /// Somebody of this name, in these groups.
    ///
    /// Two who are told apart must have two names: uploads belong to a name, and rates are limited by it. An empty name is that of nobody:
    /// what comes of it is [`anonymous`](Self::anonymous).
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let name = name.into();
        if name.is_empty() {
            return Self(None);
        }
        Self(Some(Arc::new(Named { name, groups: groups.into_iter().collect() })))
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_none()
    }

    /// The name; empty of nobody in particular.
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or("", |named| &named.name)
    }

    /// The groups.
    pub fn groups(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |named| &named.groups)
    }
}
