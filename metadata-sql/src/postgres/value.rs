//! Parameters and rows of PostgreSQL.

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::BytesMut;
use registry_core::{Error, ErrorKind, Result};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::error::wrap;
use crate::driver::{Row, Value};

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(value) if <i64 as ToSql>::accepts(ty) => value.to_sql(ty, out),
            Value::Text(value) if <&str as ToSql>::accepts(ty) => value.as_ref().to_sql(ty, out),
            Value::Bytes(value) if <&[u8] as ToSql>::accepts(ty) => value.as_ref().to_sql(ty, out),
            Value::List(items) if <Vec<String> as ToSql>::accepts(ty) => items.to_sql(ty, out),
            value => Err(format!("{value:?} is no {ty}").into()),
        }
    }

    /// Which of them a parameter is, is seen from its value.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The parameters as the client wants them.
pub(super) fn parameters<'a>(values: &'a [Value<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as _).collect()
}

pub(super) fn row(row: &tokio_postgres::Row) -> Result<Row> {
    (0..row.len()).map(|column| cell(row, column)).collect::<Result<_>>().map(Row::new)
}

fn cell(row: &tokio_postgres::Row, column: usize) -> Result<Value<'static>> {
    let value = match *row.columns()[column].type_() {
        Type::INT8 => row.try_get::<_, Option<i64>>(column).map_err(wrap)?.map(Value::Int),
        Type::INT4 => row.try_get::<_, Option<i32>>(column).map_err(wrap)?.map(|value| Value::Int(value.into())),
        Type::TEXT => row.try_get::<_, Option<String>>(column).map_err(wrap)?.map(|value| Value::Text(Cow::Owned(value))),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column).map_err(wrap)?.map(|value| Value::Bytes(Cow::Owned(value))),
        ref other => return Err(Error::new(ErrorKind::Internal, format!("PostgreSQL answered with a {other}"))),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// The statement with the parameters spelt as PostgreSQL wants them. No statement has a question mark anywhere else.
pub(super) fn spell(sql: &str) -> String {
    sql.replace('?', "$")
}
