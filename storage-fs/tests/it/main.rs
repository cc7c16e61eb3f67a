//! Tests over whole stores.
