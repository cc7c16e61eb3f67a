//! Streams that trickle.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::faults::Faults;
use crate::blob::ByteStream;

/// How long so many bytes take.
fn time(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Faults {
    /// The stream, as fast as the plan lets it be now.
    pub(super) fn paced(&self, content: ByteStream) -> ByteStream {
        match self.lock().plan.throughput {
            Some(bytes_per_second) => paced(content, bytes_per_second),
            None => content,
        }
    }

    /// Waits as long as so many bytes take.
    pub(super) async fn pace(&self, bytes: usize) {
        let throughput = self.lock().plan.throughput;
        if let Some(bytes_per_second) = throughput {
            tokio::time::sleep(time(bytes as u64, bytes_per_second)).await;
        }
    }
}

fn paced(content: ByteStream, bytes_per_second: u64) -> ByteStream {
    let piece = usize::try_from(bytes_per_second / 10).unwrap_or(usize::MAX).max(1);
    let state = (content, Bytes::new(), None, 0_u64);
    Box::pin(stream::unfold(state, move |(mut content, mut rest, start, sent)| async move {
        // All pieces go by the moment when the first was asked for, so that what timers round up does not add up.
        let start = start.unwrap_or_else(Instant::now);
        while !rest.has_remaining() {
            match content.next().await? {
                Ok(chunk) => rest = chunk,
                Err(error) => return Some((Err(error), (content, rest, Some(start), sent))),
            }
        }
        let next = rest.split_to(piece.min(rest.len()));
        let sent = sent + next.len() as u64;
        tokio::time::sleep_until(start + time(sent, bytes_per_second)).await;
        Some((Ok(next), (content, rest, Some(start), sent)))
    }))
}
