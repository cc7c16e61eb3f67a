//! SQLite: one file, embedded, and still shared by several processes of one machine.
//!
//! - One thread with one connection writes ([`writer`]). Processes take turns by SQLite's own lock.
//! - Reads run on the blocking pool, on a few connections that wait for nobody ([`readers`]), with a [`cache`] before them.

mod cache;
mod connection;
mod error;
mod failure;
#[cfg(test)]
mod faults;
mod readers;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use registry_core::{Clock, Error, ErrorKind, Result};

use self::cache::{Cache, Lookup, ServedVersion};
use self::failure::Failure;
use self::readers::Readers;
pub(crate) use self::writer::SqliteSession;
#[cfg(test)]
pub(crate) use self::{connection::create_file, writer::drive};
use crate::SqliteOptions;
use crate::commands::{Hot, Reliance, RelyOnBlob, Served};
use crate::driver::{Command, Dialect, Query, Queue, Reader, Stats, migrate, queue};

/// An open file.
#[derive(Debug)]
pub(crate) struct Sqlite {
    writer: Queue<SqliteSession>,
    readers: Readers,
    cache: Cache,
    failure: Arc<Failure>,
    clock: Arc<dyn Clock>,
}

impl Sqlite {
    pub(crate) async fn open(path: PathBuf, options: SqliteOptions) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || Self::open_now(path, &options)).await;
        opened.map_err(|error| Error::new(ErrorKind::Internal, "opening the database did not end").with_source(error))?
    }

    fn open_now(path: PathBuf, options: &SqliteOptions) -> Result<Self> {
        connection::create_file(&path)?;
        let session = SqliteSession::open(&path, options)?;
        Self::start(path, options, session)
    }

    fn start(path: PathBuf, options: &SqliteOptions, mut session: SqliteSession) -> Result<Self> {
        writer::drive(migrate(&mut session, Dialect::Sqlite))?.map_err(|error| error.with_key(path.display()))?;
        let cache = Cache::open(&path, options.cache_bytes)?;
        let failure = session.failure();
        let (writer, inbox) = queue();
        std::thread::Builder::new().name("metadata-writer".to_owned()).spawn(move || writer::serve(session, inbox))?;
        let readers = Readers::new(path, options.readers, options.busy_timeout, Arc::clone(&options.clock));
        Ok(Self { writer, readers, cache, failure, clock: Arc::clone(&options.clock) })
    }

    pub(crate) async fn write<C: Command>(&self, command: C) -> Result<C::Output> {
        self.writer.run(command).await
    }

    pub(crate) async fn read<Q: Query>(&self, query: Q) -> Result<Q::Output> {
        self.readers.run(query).await
    }

    /// A read through the cache.
    pub(crate) async fn serve(&self, key: Hot) -> Result<Option<Served>> {
        let begun = match self.cache.get(&key) {
            Lookup::Hit(found) => return Ok(Some(found)),
            Lookup::Miss(begun) => begun,
        };
        let (served, found) = self.readers.run(Fresh(key.clone())).await?;
        if let (Some(begun), Some(served)) = (begun, served) {
            self.cache.fill(begun, served, key, found.as_ref());
        }
        Ok(found)
    }

    pub(crate) async fn relied_on(&self, command: &RelyOnBlob) -> Result<Reliance> {
        let served = self.serve(Hot::Link(command.repository.clone(), command.digest)).await?;
        Ok(command.judge(served.and_then(Served::into_link), self.clock.now()))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.writer.is_closed()
    }

    /// Why it writes no more, if the disk failed.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.error()
    }

    pub(crate) fn stats(&self) -> Stats {
        let (cache_hits, cache_misses) = self.cache.counts();
        Stats { cache_hits, cache_misses, ..self.writer.stats() }
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// What is asked for, and what the cache needs to know to keep it.
struct Fresh(Hot);

impl Query for Fresh {
    type Output = (Option<ServedVersion>, Option<Served>);

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Self::Output> {
        let served = reader.query("SELECT value FROM meta WHERE name = 'served'", &[]).await?.pop();
        Ok((served.map(|mut row| row.int(0)).transpose()?, self.0.run(reader).await?))
    }
}

#[cfg(test)]
mod tests;
