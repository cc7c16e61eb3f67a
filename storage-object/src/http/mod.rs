//! How clients of storage services speak HTTP: shared by the crates for S3, Google Cloud Storage and Swift, and of use for another.
//!
//! [`HttpSettings`] are what every service has: certificates, a proxy, time-outs. [`Http`] sends requests and is patient with whatever moves: there is no limit to
//! how long a request may take in all, only to how long nothing happens. (`object_store`'s own client has a limit for all of a request, or, without one, none for
//! a body that is not taken in.) Whom the other side leaves alone says so by [`NoAnswer`].

mod certificate;
mod client;
mod clock;
mod no_answer;
mod resume;
mod settings;

pub use self::client::{Http, HttpBody, Patience, jittered, short_body};
pub use self::clock::compare_clocks;
pub use self::no_answer::NoAnswer;
pub use self::resume::{Chunks, resuming};
pub use self::settings::HttpSettings;
