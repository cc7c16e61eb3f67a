//! The tables, and how a database gets from any earlier version to them.

use registry_core::{Error, ErrorKind, Result};

use super::{CommitError, Session, params};

/// How a database spells what the templates leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Dialect {
    /// A list that is the parameter `number`, as a table of one column named `value`.
    pub(crate) fn list(self, number: usize) -> String {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => format!("json_each(?{number}) AS item"),
            #[cfg(feature = "postgres")]
            Self::Postgres => format!("unnest(CAST(?{number} AS TEXT[])) AS item (value)"),
        }
    }

    /// Fills in a template.
    fn spell(self, template: &str) -> String {
        let words: [(&str, &str); 6] = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => [
                ("{id}", "INTEGER PRIMARY KEY AUTOINCREMENT"),
                ("{int}", "INTEGER"),
                ("{text}", "TEXT"),
                ("{bytes}", "BLOB"),
                // The rows live in the index of the primary key.
                ("{clustered}", "STRICT, WITHOUT ROWID"),
                ("{heap}", "STRICT"),
            ],
            // "C" compares bytes, as SQLite and Rust do.
            #[cfg(feature = "postgres")]
            Self::Postgres => [
                ("{id}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
                ("{int}", "BIGINT"),
                ("{text}", "TEXT COLLATE \"C\""),
                ("{bytes}", "BYTEA"),
                ("{clustered}", ""),
                ("{heap}", ""),
            ],
        };
        words.iter().fold(template.to_owned(), |sql, (word, spelling)| sql.replace(word, spelling))
    }
}

/// The versions, oldest first: the statements at index `n` lead from version `n` to `n + 1`. One that was released is never changed, only followed.
pub(super) const MIGRATIONS: &[&[&str]] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4];

/// Times are milliseconds since 1970, truth values 0 and 1. A repository goes by a number in the tables that have many rows of it, and by its name where
/// rows outlive it (events) or come before it (uploads). There are no foreign keys: every rule that they could check is part of a command.
const VERSION_1: &[&str] = &[
    "CREATE TABLE repositories (id {id}, name {text} NOT NULL UNIQUE) {heap}",
    // state: 0 live, 1 condemned, 2 deleting.
    "CREATE TABLE blobs (
        digest {text} NOT NULL PRIMARY KEY,
        size {int} NOT NULL DEFAULT 0,
        state {int} NOT NULL DEFAULT 0,
        generation {int} NOT NULL,
        touched_at {int} NOT NULL,
        condemned_at {int} NOT NULL DEFAULT 0,
        deleting_until {int} NOT NULL DEFAULT 0,
        verified_at {int} NOT NULL DEFAULT 0,
        suspect {int} NOT NULL DEFAULT 0
    ) {clustered}",
    "CREATE INDEX blobs_condemned ON blobs (condemned_at) WHERE state = 1",
    "CREATE INDEX blobs_deleting ON blobs (deleting_until) WHERE state = 2",
    "CREATE TABLE links (
        repository {int} NOT NULL,
        digest {text} NOT NULL,
        relied_at {int} NOT NULL,
        PRIMARY KEY (repository, digest)
    ) {clustered}",
    "CREATE INDEX links_by_digest ON links (digest)",
    // The bytes come last, so that what is listed can be read without them.
    "CREATE TABLE manifests (
        repository {int} NOT NULL,
        digest {text} NOT NULL,
        media_type {text} NOT NULL,
        size {int} NOT NULL,
        subject {text},
        artifact_type {text},
        annotations {text},
        pushed_at {int} NOT NULL,
        bytes {bytes} NOT NULL,
        PRIMARY KEY (repository, digest)
    ) {heap}",
    "CREATE INDEX manifests_by_digest ON manifests (digest)",
    "CREATE INDEX referrers ON manifests (repository, subject, digest) WHERE subject IS NOT NULL",
    // What a manifest keeps from collection. Its subject is not among that: it need not exist.
    "CREATE TABLE edges (
        repository {int} NOT NULL,
        manifest {text} NOT NULL,
        target {text} NOT NULL,
        PRIMARY KEY (repository, manifest, target)
    ) {clustered}",
    "CREATE INDEX edges_by_target ON edges (repository, target)",
    "CREATE TABLE tags (
        repository {int} NOT NULL,
        name {text} NOT NULL,
        digest {text} NOT NULL,
        moved_at {int} NOT NULL,
        PRIMARY KEY (repository, name)
    ) {clustered}",
    "CREATE INDEX tags_by_digest ON tags (repository, digest)",
    // No digest: the tag was deleted.
    "CREATE TABLE tag_history (id {id}, repository {int} NOT NULL, name {text} NOT NULL, digest {text}, at {int} NOT NULL) {heap}",
    "CREATE INDEX tag_history_by_name ON tag_history (repository, name, id)",
    // state: 0 open, 1 finished, and then there is the digest and size of what it became.
    "CREATE TABLE uploads (
        id {text} NOT NULL PRIMARY KEY,
        repository {text} NOT NULL,
        owner {text} NOT NULL,
        algorithm {text} NOT NULL,
        epoch {int} NOT NULL,
        position {int} NOT NULL,
        token {bytes},
        state {int} NOT NULL DEFAULT 0,
        digest {text},
        size {int},
        touched_at {int} NOT NULL
    ) {heap}",
    "CREATE INDEX uploads_by_age ON uploads (state, touched_at)",
    "CREATE TABLE events (
        id {id},
        at {int} NOT NULL,
        kind {text} NOT NULL,
        repository {text} NOT NULL,
        digest {text} NOT NULL,
        tag {text}
    ) {heap}",
    // The highest generation of any blob whose row is gone.
    "INSERT INTO meta (name, value) VALUES ('generation_floor', 0)",
    // Raised whenever something that processes on SQLite may have in their caches changes or goes.
    "INSERT INTO meta (name, value) VALUES ('served', 0)",
];

/// The placement ledger. They are there whether this process uses it or not, so that a file is of one version for all who share it.
///
/// A blob and a zone go by numbers in the table that has most rows. What is said in words here is worked out in `replication::ledger::rules`.
const VERSION_2: &[&str] = &[
    // No name: placements are made in it, and nobody has registered it.
    "CREATE TABLE zones (id {id}, identity {text} NOT NULL UNIQUE, name {text} UNIQUE) {heap}",
    // Blobs with placements. shard: the first two digits of the hash, by which they are listed.
    "CREATE TABLE placed_blobs (
        id {id},
        shard {text} NOT NULL,
        digest {text} NOT NULL,
        size {int},
        touched_at {int} NOT NULL,
        UNIQUE (shard, digest)
    ) {heap}",
    // desired: 0 present, 1 absent. observed: 0 unknown, 1 present, 2 suspect, 3 damaged, 4 quarantined, 5 deleting, 6 absent. since: not null exactly if
    // the two differ, and only then there may be a due_at and attempts. The long ones come last.
    "CREATE TABLE placements (
        blob {int} NOT NULL,
        zone {int} NOT NULL,
        desired {int} NOT NULL,
        observed {int} NOT NULL,
        generation {int} NOT NULL,
        verified_at {int},
        since {int},
        due_at {int},
        lease {text},
        lease_until {int},
        fence {int} NOT NULL,
        old_fence {int} NOT NULL,
        keep_until {int} NOT NULL,
        epoch {int} NOT NULL,
        attempts {int} NOT NULL,
        failed_at {int} NOT NULL,
        settled_at {int} NOT NULL,
        last_error {text},
        progress {bytes},
        PRIMARY KEY (blob, zone)
    ) {clustered}",
    // What is still to be done, and of that what is due: nothing that is settled is in it, however much that is.
    "CREATE INDEX placements_to_do ON placements (zone, due_at) WHERE since IS NOT NULL",
    "CREATE INDEX placements_failing ON placements (blob, zone) WHERE attempts > 0",
    "CREATE INDEX placements_gone ON placements (settled_at) WHERE desired = 1 AND since IS NULL",
    // The highest generation or touch of any blob of which a placement is gone.
    "INSERT INTO meta (name, value) VALUES ('placement_floor', 0)",
];

/// The life of a zone, and jobs.
const VERSION_3: &[&str] = &[
    // 0 active, 1 cordoned, 2 draining, 3 removed: then it has no name.
    "ALTER TABLE zones ADD COLUMN state {int} NOT NULL DEFAULT 0",
    // state: 0 open, 1 done, 2 failed, 3 cancelled. zone: its identity. counts: name=number, divided by spaces.
    "CREATE TABLE jobs (
        number {id},
        id {text} NOT NULL UNIQUE,
        kind {text} NOT NULL,
        zone {text},
        state {int} NOT NULL,
        done {int} NOT NULL,
        total {int},
        begun_at {int} NOT NULL,
        updated_at {int} NOT NULL,
        lease {text},
        lease_until {int} NOT NULL,
        note {text} NOT NULL,
        counts {text} NOT NULL,
        error {text},
        marker {bytes} NOT NULL
    ) {heap}",
];

/// When manifests were last pulled: a push is a use too, also one by a server of an earlier release that runs beside. No row is written anew.
const VERSION_4: &[&str] = &[
    "ALTER TABLE manifests ADD COLUMN used_at {int} NOT NULL DEFAULT 0",
    "CREATE INDEX manifests_by_use ON manifests ((CASE WHEN used_at > pushed_at THEN used_at ELSE pushed_at END), repository, digest)",
];

/// Brings the tables to the version that this crate knows. Safe beside other processes that do the same.
///
/// [`ErrorKind::Unsupported`] if a newer release has been here: it would be guesswork what its rows mean.
pub(crate) async fn migrate<S: Session>(session: &mut S, dialect: Dialect) -> Result<()> {
    upgrade(session, dialect, MIGRATIONS).await
}

pub(super) async fn upgrade<S: Session>(session: &mut S, dialect: Dialect, migrations: &[&[&str]]) -> Result<()> {
    // Writers take turns, so whoever comes second finds the work done.
    session.begin(true).await?;
    match apply(session, dialect, migrations).await {
        Ok(()) => session.commit().await.map_err(|error| match error {
            CommitError::RolledBack(error) | CommitError::Unknown(error) => error,
        }),
        Err(error) => {
            session.rollback().await;
            Err(error)
        }
    }
}

async fn apply<S: Session>(session: &mut S, dialect: Dialect, migrations: &[&[&str]]) -> Result<()> {
    session.execute(&dialect.spell("CREATE TABLE IF NOT EXISTS meta (name {text} PRIMARY KEY, value {int} NOT NULL) {heap}"), &[]).await?;
    let found = session.query("SELECT value FROM meta WHERE name = 'schema_version'", &[]).await?.pop();
    let version = match found {
        Some(mut row) => row.int(0)?,
        None => {
            session.execute("INSERT INTO meta (name, value) VALUES ('schema_version', 0)", &[]).await?;
            0
        }
    };
    let known = migrations.len();
    let pending = usize::try_from(version).ok().and_then(|version| migrations.get(version..)).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("the database has schema version {version}; this release knows up to {known}: use a newer one"),
        )
    })?;
    if pending.is_empty() {
        return Ok(());
    }
    tracing::info!(from = version, to = known, "upgrading the database schema");
    for version in pending {
        for statement in *version {
            session.execute(&dialect.spell(statement), &[]).await?;
        }
    }
    session.execute("UPDATE meta SET value = ?1 WHERE name = 'schema_version'", params![known as u64]).await?;
    Ok(())
}
