//! Reading the settings of a service: what is empty counts as not given.

use crate::secret::Secret;

/// A text that says something, without the white space around it.
pub fn given(value: &Option<String>) -> Option<String> {
    value.as_deref().map(str::trim).filter(|value| !value.is_empty()).map(ToOwned::to_owned)
}

/// A secret that is one.
pub fn secret(value: &Option<Secret>) -> Option<Secret> {
    value.clone().filter(|value| !value.is_empty())
}
