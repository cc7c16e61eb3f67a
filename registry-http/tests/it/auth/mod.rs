//! Who asks, and what they may do.
#![cfg(feature = "auth")]

mod issuers;
mod kit;
mod limits;
mod lists;
mod matrix;
mod secrets;
mod tokens;
mod uploads;
