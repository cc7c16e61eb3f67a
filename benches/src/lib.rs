//! What the benchmarks share: the same way of sending, reading and measuring in all of them.
//!
//! | module | what |
//! |---|---|
//! | `measure` | spreads of times, the peak of memory, the machine in a few words |
//! | `usage` | what another process used |
//! | `blob` | a blob of a size, sent to a store and read from it |
//! | `turns` | ways of doing the same, by turns, and their table |
//! | `peaks` | memory while blobs of growing size are sent and read |
//! | `daemon` | a server under test |
//! | `client` | a connection to it |
//! | `content` | blobs for it, told apart by their last bytes |
//! | `push` | pushes of them |

pub mod blob;
pub mod client;
pub mod content;
pub mod daemon;
pub mod measure;
pub mod peaks;
pub mod push;
pub mod turns;
pub mod usage;
