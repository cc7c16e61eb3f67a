//! The bodies of requests and answers.

mod request;
mod response;

pub(crate) use self::request::{BodyError, RequestBody};
pub(crate) use self::response::{BlobBody, NoBody};
