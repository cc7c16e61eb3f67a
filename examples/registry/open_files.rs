//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open besides connections: blobs that are read and written, the database, connections to zones.
const OTHERS: u64 = 1024;

/// Raises the limit as far as the process may: systems set a low one for the sake of programs that cannot do with more.
pub(crate) fn raise(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let (limit, needed) = (getrlimit(Resource::Nofile).current, connections as u64 + OTHERS);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            "fewer files may be open than http.max_connections needs: raise the limit (ulimit -n, LimitNOFILE) or lower the setting"
        );
    }
}
