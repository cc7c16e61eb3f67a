//! Integration tests of the metadata store on both databases.

mod figures;
#[cfg(feature = "ledger")]
mod ledger;
mod support;
mod tidying;

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
