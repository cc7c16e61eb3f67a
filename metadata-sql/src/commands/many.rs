//! Statements about many digests at once.
//!
//! A statement is prepared once per number of its parameters. So that there are few of those, a list is cut into pieces of at most 64, and each piece is
//! filled up to a power of two by naming its last digest again, which changes nothing in an `IN (…)` or behind an `ON CONFLICT DO NOTHING`.

use std::fmt::Write as _;

use registry_core::{Digest, Result};

use crate::driver::{Row, Transaction, Value};

const PIECE: usize = 64;

/// Fills up a piece and calls `one` for the number of each parameter.
fn spell(template: &str, first: usize, digests: &[Digest], one: impl Fn(&mut String, usize)) -> (String, Vec<Value<'static>>) {
    let count = digests.len().next_power_of_two();
    let mut list = String::with_capacity(count * 12);
    for number in 0..count {
        if number > 0 {
            list.push_str(", ");
        }
        one(&mut list, first + number);
    }
    let mut values: Vec<_> = digests.iter().map(Value::from).collect();
    if let Some(last) = values.last().cloned() {
        values.resize(count, last);
    }
    (template.replace("{list}", &list), values)
}

fn parameter(list: &mut String, number: usize) {
    // Writing to a string cannot fail.
    let _ = write!(list, "?{number}");
}

/// Runs a `SELECT` that has `IN ({list})` for pieces of `digests`.
pub(super) async fn query<T: Transaction>(
    transaction: &mut T,
    template: &str,
    fixed: &[Value<'_>],
    digests: &[Digest],
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for piece in digests.chunks(PIECE) {
        let (sql, list) = spell(template, fixed.len() + 1, piece, parameter);
        rows.extend(transaction.query(&sql, &[fixed, &list].concat()).await?);
    }
    Ok(rows)
}

/// The same for a change with `RETURNING`.
pub(super) async fn returning<T: Transaction>(
    transaction: &mut T,
    template: &str,
    fixed: &[Value<'_>],
    digests: &[Digest],
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for piece in digests.chunks(PIECE) {
        let (sql, list) = spell(template, fixed.len() + 1, piece, parameter);
        rows.extend(transaction.returning(&sql, &[fixed, &list].concat()).await?);
    }
    Ok(rows)
}

/// The same for a change.
pub(super) async fn execute<T: Transaction>(transaction: &mut T, template: &str, fixed: &[Value<'_>], digests: &[Digest]) -> Result<u64> {
    let mut changed = 0;
    for piece in digests.chunks(PIECE) {
        let (sql, list) = spell(template, fixed.len() + 1, piece, parameter);
        changed += transaction.execute(&sql, &[fixed, &list].concat()).await?;
    }
    Ok(changed)
}

/// Runs an `INSERT … VALUES {list} ON CONFLICT DO NOTHING` of rows that are `fixed` and one of `digests`.
pub(super) async fn insert<T: Transaction>(transaction: &mut T, template: &str, fixed: &[Value<'_>], digests: &[Digest]) -> Result<()> {
    let head: String = (1..=fixed.len()).map(|number| format!("?{number}, ")).collect();
    let row = |list: &mut String, number: usize| {
        let _ = write!(list, "({head}?{number})");
    };
    for piece in digests.chunks(PIECE) {
        let (sql, list) = spell(template, fixed.len() + 1, piece, row);
        transaction.execute(&sql, &[fixed, &list].concat()).await?;
    }
    Ok(())
}
