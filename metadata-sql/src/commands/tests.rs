//! What commands cost in statements, each of which is a round trip on PostgreSQL.

use std::collections::BTreeMap;

use registry_core::metadata::PutManifest;
use registry_core::{Digest, Result, Timestamp};

use super::{IntendBlob, Put};
use crate::SqliteOptions;
use crate::driver::{Command, Dialect, Reader, Row, Session as _, Transaction, Value, migrate};
use crate::sqlite::{SqliteSession, create_file, drive};

/// A transaction that counts.
struct Counting<'a> {
    session: &'a mut SqliteSession,
    statements: u32,
}

impl Reader for Counting<'_> {
    const DIALECT: Dialect = SqliteSession::DIALECT;

    async fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.statements += 1;
        self.session.query(sql, params).await
    }

    async fn now(&mut self) -> Result<Timestamp> {
        self.session.now().await
    }
}

impl Transaction for Counting<'_> {
    async fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<u64> {
        self.statements += 1;
        self.session.execute(sql, params).await
    }

    async fn returning(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.statements += 1;
        self.session.returning(sql, params).await
    }
}

fn put(digest: Digest, generation: u64, blobs: Vec<Digest>, optional: Vec<Digest>) -> Put {
    Put(PutManifest {
        repository: "team/app".parse().unwrap(),
        digest,
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        bytes: b"{}".to_vec().into(),
        generation,
        blobs,
        manifests: Vec::new(),
        optional,
        subject: None,
        artifact_type: None,
        annotations: BTreeMap::new(),
        tags: vec!["latest".parse().unwrap()],
    })
}

#[test]
fn a_manifest_of_thousands_of_descriptors_takes_a_handful_of_statements() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    create_file(&path).unwrap();
    let mut session = SqliteSession::open(&path, &SqliteOptions::default()).unwrap();
    drive(migrate(&mut session, Dialect::Sqlite)).unwrap().unwrap();
    let blobs: Vec<_> = (0..4000).map(|number| Digest::sha256(format!("layer {number}").as_bytes())).collect();
    let optional: Vec<_> = (0..4000).map(|number| Digest::sha256(format!("optional {number}").as_bytes())).collect();
    let digest = Digest::sha256(b"{}");
    drive(session.begin(true)).unwrap().unwrap();
    let generation = drive(IntendBlob(digest).run(&mut session)).unwrap().unwrap().generation;

    let mut counting = Counting { session: &mut session, statements: 0 };
    let error = drive(put(digest, generation, blobs.clone(), optional.clone()).run(&mut counting)).unwrap().unwrap_err();
    assert_eq!(error.digests().len(), 4000);
    assert!(counting.statements <= 5, "{} statements to refuse it", counting.statements);

    let text = |digest: &Digest| Value::from(digest);
    drive(session.execute("INSERT INTO repositories (name) VALUES ('team/app')", &[])).unwrap().unwrap();
    for blob in &blobs {
        let sql = "INSERT INTO links (repository, digest, relied_at) SELECT id, ?1, 0 FROM repositories";
        drive(session.execute(sql, &[text(blob)])).unwrap().unwrap();
    }
    let mut counting = Counting { session: &mut session, statements: 0 };
    drive(put(digest, generation, blobs, optional).run(&mut counting)).unwrap().unwrap();
    assert!(counting.statements <= 16, "{} statements to store it", counting.statements);
    for sql in ["SELECT COUNT(*) / 2 FROM edges", "SELECT COUNT(*) FROM links WHERE relied_at > 0"] {
        assert_eq!(drive(session.query(sql, &[])).unwrap().unwrap().remove(0).int(0).unwrap(), 4000, "{sql}");
    }
    drive(session.rollback()).unwrap();
}

#[test]
fn what_writes_much_says_that_it_is_heavy() {
    let digests = |count| (0..count).map(|number| Digest::sha256(format!("{number}").as_bytes())).collect::<Vec<_>>();
    let weight = |blobs, optional| put(Digest::sha256(b"{}"), 1, digests(blobs), digests(optional)).weight();
    assert!(weight(10, 0) < 10 << 10);
    assert!(weight(8000, 0) > 1 << 20 && weight(0, 8000) > 1 << 20);
    let mut long = put(Digest::sha256(b"{}"), 1, Vec::new(), Vec::new());
    long.0.bytes = vec![0; 4 << 20].into();
    assert!(long.weight() >= 4 << 20);
}
