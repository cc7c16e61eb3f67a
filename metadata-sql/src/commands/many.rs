//! Statements about many things at once.
//!
//! The list is one parameter, and `{list}` in a statement is a table made of it, with the column `value`. So there is one statement to prepare, and one
//! round trip, however long the list is. Rejected: a parameter for each item, of which SQLite takes 32,766 and PostgreSQL 65,535, with a statement
//! prepared for each number of them.

use registry_core::{Digest, Result};

use crate::driver::{Reader, Row, Transaction, Value};

fn spell<R: Reader>(template: &str, fixed: &[Value<'_>]) -> String {
    template.replace("{list}", &R::DIALECT.list(fixed.len() + 1))
}

fn with_list<'a>(fixed: &[Value<'a>], list: Vec<String>) -> Vec<Value<'a>> {
    let mut values = fixed.to_vec();
    values.push(Value::List(list));
    values
}

fn texts(digests: &[Digest]) -> Vec<String> {
    digests.iter().map(ToString::to_string).collect()
}

/// Runs a `SELECT` about `digests`.
pub(super) async fn query<R: Reader>(reader: &mut R, template: &str, fixed: &[Value<'_>], digests: &[Digest]) -> Result<Vec<Row>> {
    query_texts(reader, template, fixed, texts(digests)).await
}

/// The same about texts of any kind.
pub(super) async fn query_texts<R: Reader>(reader: &mut R, template: &str, fixed: &[Value<'_>], list: Vec<String>) -> Result<Vec<Row>> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    reader.query(&spell::<R>(template, fixed), &with_list(fixed, list)).await
}

/// The same for a change with `RETURNING`.
pub(super) async fn returning<T: Transaction>(
    transaction: &mut T,
    template: &str,
    fixed: &[Value<'_>],
    digests: &[Digest],
) -> Result<Vec<Row>> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    transaction.returning(&spell::<T>(template, fixed), &with_list(fixed, texts(digests))).await
}

/// The same for a change.
pub(super) async fn execute<T: Transaction>(transaction: &mut T, template: &str, fixed: &[Value<'_>], digests: &[Digest]) -> Result<u64> {
    execute_texts(transaction, template, fixed, texts(digests)).await
}

/// The same for a change about rows that go by numbers: `CAST(value AS BIGINT)` in the statement.
pub(super) async fn execute_ids<T: Transaction>(transaction: &mut T, template: &str, fixed: &[Value<'_>], ids: &[i64]) -> Result<u64> {
    execute_texts(transaction, template, fixed, ids.iter().map(ToString::to_string).collect()).await
}

async fn execute_texts<T: Transaction>(transaction: &mut T, template: &str, fixed: &[Value<'_>], list: Vec<String>) -> Result<u64> {
    if list.is_empty() {
        return Ok(0);
    }
    transaction.execute(&spell::<T>(template, fixed), &with_list(fixed, list)).await
}
