//! What goes into a statement and comes out of it: the few types that both databases share.

use std::borrow::Cow;

use bytes::Bytes;
use registry_core::{Digest, Error, ErrorKind, RepositoryName, Result, Tag, Timestamp};

/// A parameter, or a cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    /// Every number, time (milliseconds) and truth value.
    Int(i64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// Texts that a statement uses as a table, see [`Dialect::list`](super::Dialect::list). Only ever a parameter.
    List(Vec<String>),
}

/// The parameters of a statement, each turned into a [`Value`].
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::driver::Value::from($value)),*][..] };
}
pub(crate) use params;

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

/// Databases count in signed numbers. Nothing here comes near the end of them, and what does is only ever compared.
impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.as_millis())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::from(value.as_str())
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Cow::Owned(value))
    }
}

impl<'a> From<&'a RepositoryName> for Value<'a> {
    fn from(value: &'a RepositoryName) -> Self {
        Self::from(value.as_str())
    }
}

impl<'a> From<&'a Tag> for Value<'a> {
    fn from(value: &'a Tag) -> Self {
        Self::from(value.as_str())
    }
}

impl From<&Digest> for Value<'_> {
    fn from(value: &Digest) -> Self {
        Self::from(value.to_string())
    }
}

impl<'a> From<&'a Bytes> for Value<'a> {
    fn from(value: &'a Bytes) -> Self {
        Self::Bytes(Cow::Borrowed(value))
    }
}

impl<'a, T> From<Option<T>> for Value<'a>
where
    Value<'a>: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

/// A row of a result. Cells are taken by their position in the statement.
#[derive(Clone, Debug)]
pub(crate) struct Row(Vec<Value<'static>>);

impl Row {
    pub(crate) fn new(cells: Vec<Value<'static>>) -> Self {
        Self(cells)
    }

    fn take(&mut self, column: usize) -> Value<'static> {
        self.0.get_mut(column).map_or(Value::Null, |cell| std::mem::replace(cell, Value::Null))
    }

    pub(crate) fn opt_int(&mut self, column: usize) -> Result<Option<i64>> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(value)),
            other => Err(unexpected(column, "a number", &other)),
        }
    }

    pub(crate) fn int(&mut self, column: usize) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| unexpected(column, "a number", &Value::Null))
    }

    pub(crate) fn unsigned(&mut self, column: usize) -> Result<u64> {
        let value = self.int(column)?;
        u64::try_from(value).map_err(|_| unexpected(column, "a number that is not negative", &Value::Int(value)))
    }

    pub(crate) fn flag(&mut self, column: usize) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }

    pub(crate) fn time(&mut self, column: usize) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(self.int(column)?))
    }

    pub(crate) fn opt_text(&mut self, column: usize) -> Result<Option<String>> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value.into_owned())),
            other => Err(unexpected(column, "text", &other)),
        }
    }

    pub(crate) fn text(&mut self, column: usize) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| unexpected(column, "text", &Value::Null))
    }

    /// Text that is a digest, a name or a tag.
    pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, column: usize) -> Result<T> {
        parse(&self.text(column)?)
    }

    pub(crate) fn opt_parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, column: usize) -> Result<Option<T>> {
        self.opt_text(column)?.map(|text| parse(&text)).transpose()
    }

    pub(crate) fn opt_bytes(&mut self, column: usize) -> Result<Option<Bytes>> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Bytes(value) => Ok(Some(value.into_owned().into())),
            other => Err(unexpected(column, "bytes", &other)),
        }
    }

    pub(crate) fn bytes(&mut self, column: usize) -> Result<Bytes> {
        self.opt_bytes(column)?.ok_or_else(|| unexpected(column, "bytes", &Value::Null))
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error| Error::new(ErrorKind::Corrupt, format!("a row of the database cannot be read: {error}")).with_key(text))
}

/// Nobody but this crate writes the tables, so this is a damaged file or somebody's hand.
fn unexpected(column: usize, wanted: &str, found: &Value<'_>) -> Error {
    let found = match found {
        Value::Null => "nothing",
        Value::Int(_) => "a number",
        Value::Text(_) => "text",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "a list",
    };
    Error::new(ErrorKind::Corrupt, format!("a row of the database has {found} in column {column} instead of {wanted}"))
}
