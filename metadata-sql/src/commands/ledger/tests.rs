//! What the ledger's statements cost: by how SQLite means to find the rows, which for a database this simple is how it does.

use std::fmt::Write as _;

use tempfile::TempDir;

use super::rows::{BY_DIGEST, BY_NUMBER};
use super::{claim, failing, onlookers, tidy};
use crate::SqliteOptions;
use crate::driver::{Dialect, Reader as _, Session as _, Transaction as _, Value, migrate};
use crate::sqlite::{SqliteSession, create_file, drive};

fn session() -> (TempDir, SqliteSession) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    create_file(&path).unwrap();
    let mut session = SqliteSession::open(&path, &SqliteOptions::default()).unwrap();
    drive(migrate(&mut session, Dialect::Sqlite)).unwrap().unwrap();
    (folder, session)
}

fn plan(session: &mut SqliteSession, when: &str, sql: &str) -> String {
    // Another text each time, since a plan that was once explained is not made anew.
    let sql = format!("EXPLAIN QUERY PLAN /* {when} */ {}", sql.replace("{list}", &Dialect::Sqlite.list(1)));
    // What they are does not matter, but there have to be as many as it names.
    let nothing = (1..10).take_while(|number| sql.contains(&format!("?{number}"))).map(|_| Value::Null).collect::<Vec<_>>();
    let mut plan = String::new();
    for mut row in drive(session.query(&sql, &nothing)).unwrap().unwrap() {
        writeln!(plan, "{}", row.text(3).unwrap()).unwrap();
    }
    plan
}

/// Each statement, and what it may walk along from one end to the other: something that is no longer than the answer, or the backlog, or what failed.
const STATEMENTS: &[(&str, &str, &[&str])] = &[
    ("FIRST_DUE", claim::FIRST_DUE, &[]),
    ("DUE", claim::DUE, &[]),
    ("BY_DIGEST", BY_DIGEST, &[]),
    ("BY_NUMBER", BY_NUMBER, &["item"]),
    ("OF_ONE", onlookers::OF_ONE, &[]),
    ("OF_MANY", onlookers::OF_MANY, &["item"]),
    ("OF_NUMBERS", onlookers::OF_NUMBERS, &["item"]),
    ("FROM_ALL", onlookers::FROM_ALL, &[]),
    ("FROM_ZONE", onlookers::FROM_ZONE, &[]),
    ("FROM_FAILING", onlookers::FROM_FAILING, &["p USING INDEX placements_failing"]),
    ("FROM_FAILING_ZONE", onlookers::FROM_FAILING_ZONE, &["p USING INDEX placements_failing"]),
    ("BACKLOG", onlookers::BACKLOG, &["p USING INDEX placements_to_do"]),
    ("LAST_ERROR", onlookers::LAST_ERROR, &["p USING INDEX placements_failing"]),
    ("FAILING", failing::FAILING, &[]),
    ("FIRST_GONE", tidy::FIRST_GONE, &[]),
    ("DELETE", tidy::DELETE, &[]),
];

/// What is wrong with the plans.
fn flaws(session: &mut SqliteSession, when: &str) -> Vec<String> {
    let mut flaws = Vec::new();
    for (name, sql, may_scan) in STATEMENTS {
        let plan = plan(session, when, sql);
        for line in plan.lines() {
            if let Some(what) = line.strip_prefix("SCAN ") {
                // There are as many zones as somebody has put up.
                if !what.starts_with("z ") && !may_scan.iter().any(|may| what.starts_with(may)) {
                    flaws.push(format!("{when}: {name} walks along {what}:\n{plan}"));
                }
            }
        }
        // What comes in the order of an index ends with the page; what has to be sorted is found first, all of it.
        if matches!(*name, "FIRST_DUE" | "DUE" | "FROM_ALL" | "FROM_ZONE" | "FAILING" | "FIRST_GONE" | "DELETE")
            && plan.contains("TEMP B-TREE")
        {
            flaws.push(format!("{when}: {name} sorts:\n{plan}"));
        }
        let index = match *name {
            "FIRST_DUE" | "DUE" => "SEARCH placements USING INDEX placements_to_do (zone=? AND due_at",
            "OF_ONE" | "OF_MANY" | "BY_DIGEST" => "SEARCH b USING INDEX sqlite_autoindex_placed_blobs_1 (shard=? AND digest=?)",
            "FAILING" => "SEARCH placements USING INDEX placements_failing (blob>?)",
            "FROM_FAILING" | "FROM_FAILING_ZONE" | "LAST_ERROR" => " p USING INDEX placements_failing",
            "BACKLOG" => " p USING INDEX placements_to_do",
            "FIRST_GONE" | "DELETE" => "USING INDEX placements_gone (settled_at<?)",
            _ => continue,
        };
        if !plan.contains(index) {
            flaws.push(format!("{when}: {name} does not go by {index}:\n{plan}"));
        }
    }
    flaws
}

#[test]
fn no_statement_looks_at_all_that_is_stored() {
    let (_folder, mut session) = session();
    let mut found = flaws(&mut session, "without statistics");
    // The same once SQLite has counted: of ten thousand blobs in two zones, some wait and few failed.
    drive(session.begin(false)).unwrap().unwrap();
    let mut fill = |sql: &str| drive(session.execute(sql, &[])).unwrap().unwrap();
    fill("INSERT INTO zones (identity) VALUES ('a'), ('b')");
    fill(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000)
        INSERT INTO placed_blobs (id, shard, digest, size, touched_at)
        SELECT n, printf('%02x', n % 256), printf('sha256:%02x%062x', n % 256, n), n, 1 FROM n",
    );
    fill(
        "INSERT INTO placements (blob, zone, desired, observed, generation, since, due_at, fence, old_fence, keep_until, epoch, attempts, failed_at, settled_at)
        SELECT b.id, z.id, b.id % 7 = 0, CASE WHEN b.id % 5 > 0 THEN 1 WHEN b.id % 7 = 0 THEN 6 ELSE 0 END, 1,
            CASE WHEN (b.id % 5 > 0) = (b.id % 7 = 0) THEN 1 END, CASE WHEN (b.id % 5 > 0) = (b.id % 7 = 0) THEN b.id END,
            0, 0, 0, 0, b.id % 700 = 1, 0, 1 FROM placed_blobs b, zones z",
    );
    drive(session.commit()).unwrap().unwrap();
    for sql in ["ANALYZE", "ANALYZE sqlite_schema"] {
        drive(session.query(sql, &[])).unwrap().unwrap();
    }
    found.extend(flaws(&mut session, "with statistics"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    // It would be seen.
    drive(session.begin(false)).unwrap().unwrap();
    for index in ["placements_to_do", "placements_failing", "placements_gone"] {
        drive(session.execute(&format!("DROP INDEX {index}"), &[])).unwrap().unwrap();
    }
    drive(session.commit()).unwrap().unwrap();
    let found = flaws(&mut session, "without an index");
    for (name, sql, _) in STATEMENTS
        .iter()
        .filter(|(name, ..)| !name.starts_with("OF_") && !name.starts_with("BY_") && !matches!(*name, "FROM_ALL" | "FROM_ZONE"))
    {
        let is_found = found.iter().any(|flaw| flaw.contains(&format!(": {name} ")));
        assert!(is_found, "{name} can do without an index:\n{}", plan(&mut session, "at last", sql));
    }
}
