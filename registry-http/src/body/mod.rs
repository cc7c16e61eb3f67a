//! The bodies of requests and answers.

mod memory;
mod request;
mod response;

pub(crate) use self::memory::BodyMemory;
pub(crate) use self::request::{BodyError, RequestBody};
pub(crate) use self::response::{BlobBody, NoBody};
