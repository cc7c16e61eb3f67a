//! Rules about one blob.

use registry_core::{Digest, Result, Timestamp};
use replication::ledger::rules::Blob;

use super::rows::Stored;
use crate::driver::{Command, Query, Reader, Transaction};

/// Applies a rule to a blob, known or not, and keeps what came out. What the rule answers may be a refusal, which undoes nothing.
pub(crate) struct Apply<F, const DURABLE: bool> {
    digest: Digest,
    rule: F,
}

impl<F> Apply<F, true> {
    /// A rule whose effect survives a power loss.
    pub(crate) fn durable(digest: &Digest, rule: F) -> Self {
        Self { digest: *digest, rule }
    }
}

impl<F> Apply<F, false> {
    /// A rule whose effect may be lost with the power.
    pub(crate) fn fleeting(digest: &Digest, rule: F) -> Self {
        Self { digest: *digest, rule }
    }
}

impl<F, O, const DURABLE: bool> Command for Apply<F, DURABLE>
where
    F: Fn(&mut Blob, Timestamp) -> O + Send + Sync + 'static,
    O: Send + 'static,
{
    type Output = O;
    const DURABLE: bool = DURABLE;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<O> {
        let mut stored = Stored::load(transaction, &self.digest).await?;
        let now = transaction.now().await?;
        let outcome = (self.rule)(&mut stored.blob, now);
        stored.save(transaction).await?;
        Ok(outcome)
    }
}

/// Applies a rule that touches a blob, if it does nothing else to it: as a query, to see whether that is to be expected. A touch that is lost with the
/// power is that of a writer who is gone with it too.
pub(crate) struct Touch<F> {
    pub(crate) digest: Digest,
    pub(crate) rule: F,
}

impl<F> Touch<F> {
    async fn try_on<R: Reader, O>(&self, reader: &mut R) -> Result<Option<(Stored, O)>>
    where
        F: Fn(&mut Blob, Timestamp) -> O,
    {
        let mut stored = Stored::load(reader, &self.digest).await?;
        let outcome = (self.rule)(&mut stored.blob, reader.now().await?);
        Ok(stored.is_merely_touched().then_some((stored, outcome)))
    }
}

impl<F, O> Query for Touch<F>
where
    F: Fn(&mut Blob, Timestamp) -> O + Send + Sync + 'static,
    O: Send + 'static,
{
    type Output = bool;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<bool> {
        Ok(self.try_on(reader).await?.is_some())
    }
}

impl<F, O> Command for Touch<F>
where
    F: Fn(&mut Blob, Timestamp) -> O + Send + Sync + 'static,
    O: Send + 'static,
{
    type Output = Option<O>;
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Option<O>> {
        // Another caller may have come first.
        let Some((stored, outcome)) = self.try_on(transaction).await? else { return Ok(None) };
        stored.save(transaction).await?;
        Ok(Some(outcome))
    }
}
