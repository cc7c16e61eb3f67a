//! Integration tests of the metadata store on both databases.

mod figures;
mod support;
mod tidying;

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
