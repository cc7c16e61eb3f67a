//! Streams that go wrong on the way.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::faults::{Drawn, Faults};
use super::{Fault, Op};
use crate::blob::{ByteStream, ItemStream};
use crate::{Error, ErrorKind, Result};

/// Lists have no known length: a list that is drawn to break does so within so many items.
const LIST: u64 = 16;

fn broken(key: &str) -> Error {
    Error::new(ErrorKind::Interrupted, "a broken stream was injected").with_key(key)
}

/// What a stream of bytes goes through.
#[derive(Default)]
pub(super) struct Spoil {
    /// Positions of wrong bytes, from the start of the stream.
    pub(super) flips: Vec<u64>,
    /// After how many bytes it ends, and how.
    pub(super) end: Option<(u64, End)>,
}

/// How a stream comes to an end before its time.
pub(super) enum End {
    /// With an error.
    Broken(Error),
    /// As if that were all.
    Quiet,
    /// Not at all: nothing comes any more.
    Stalled,
}

impl Spoil {
    /// What a stream does that has come to where it ends, by itself or not.
    async fn ended<S>(self) -> Option<(Result<Bytes>, Option<S>)> {
        match self.end?.1 {
            End::Broken(error) => Some((Err(error), None)),
            End::Quiet => None,
            End::Stalled => std::future::pending().await,
        }
    }
}

impl Faults {
    /// What is drawn for a read of `len` bytes, noted as it is applied.
    pub(super) fn spoil_read(&self, key: &str, drawn: Option<Drawn>, len: u64) -> Spoil {
        let mut spoil = Spoil::default();
        let Some(drawn) = drawn else { return spoil };
        match drawn.fault {
            Fault::Cut(position) => {
                let at = drawn.position(position, len).unwrap_or(0).min(len);
                self.record(Op::Read, key, Fault::Cut(at));
                spoil.end = Some((at, End::Broken(broken(key))));
            }
            Fault::Truncate(position) => {
                if let Some(at) = drawn.position(position, len).filter(|at| *at < len) {
                    self.record(Op::Read, key, Fault::Truncate(at));
                    spoil.end = Some((at, End::Quiet));
                }
            }
            Fault::Stall(position) => {
                let at = drawn.position(position, len).unwrap_or(0).min(len);
                self.record(Op::Read, key, Fault::Stall(at));
                spoil.end = Some((at, End::Stalled));
            }
            Fault::Flip(position) => {
                if let Some(at) = drawn.position(position, len).filter(|at| *at < len) {
                    self.record(Op::Read, key, Fault::Flip(at));
                    spoil.flips.push(at);
                }
            }
            _ => {}
        }
        spoil
    }

    /// The content of a put: it takes space, and may break or stall. `size` is what was declared.
    pub(super) fn spoil_put(&self, key: &str, drawn: Option<Drawn>, size: Option<u64>, content: ByteStream) -> ByteStream {
        let end = drawn.and_then(|drawn| {
            let at = |position| drawn.position(position, size.unwrap_or(64 << 10).max(1));
            match drawn.fault {
                Fault::Cut(position) => at(position).map(|at| (at, Fault::Cut(at), End::Broken(broken(key)))),
                Fault::Stall(position) => at(position).map(|at| (at, Fault::Stall(at), End::Stalled)),
                _ => None,
            }
        });
        let (store, name) = (self.clone(), key.to_owned());
        let content = content.map(move |chunk| {
            let chunk = chunk?;
            store.occupy(Op::Put, &name, chunk.len())?;
            Ok(chunk)
        });
        let Some((at, fault, end)) = end else { return Box::pin(content) };
        self.record(Op::Put, key, fault);
        spoiled(content, Spoil { flips: Vec::new(), end: Some((at, end)) })
    }

    /// A list that may fail before its first item, break, end early, or fail after the last.
    pub(super) fn spoil_list<'a, T: Send + 'a>(
        &'a self,
        op: Op,
        key: String,
        list: impl FnOnce() -> ItemStream<'a, T> + Send + 'a,
    ) -> ItemStream<'a, T> {
        let opened = async move {
            let drawn = self.enter(op, &key).await?;
            let mut end = None;
            if let Some(Drawn { fault: fault @ (Fault::Cut(at) | Fault::Truncate(at)), exact }) = drawn {
                let at = if exact { at } else { at % LIST };
                let cut = matches!(fault, Fault::Cut(_));
                self.record(op, &key, if cut { Fault::Cut(at) } else { Fault::Truncate(at) });
                end = Some((usize::try_from(at).unwrap_or(usize::MAX), cut.then(|| broken(&key))));
            }
            let items: ItemStream<'a, T> = match end {
                None => list(),
                Some((at, error)) => Box::pin(list().take(at).chain(stream::iter(error.map(Err)))),
            };
            // The answer to a list is its end.
            let last = stream::once(async move { self.leave(op, &key, drawn).await.err() }).filter_map(|error| async { error.map(Err) });
            Ok::<_, Error>(items.chain(last))
        };
        Box::pin(stream::once(opened).flat_map(|opened| match opened {
            Ok(items) => items.left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        }))
    }
}

/// The stream with all that is wrong with it.
pub(super) fn spoiled(content: impl Stream<Item = Result<Bytes>> + Send + 'static, spoil: Spoil) -> ByteStream {
    let content: ByteStream = Box::pin(content);
    let state = Some((content, spoil, 0_u64));
    Box::pin(stream::unfold(state, |state| async {
        let (mut content, mut spoil, position) = state?;
        loop {
            let left = spoil.end.as_ref().map(|(at, _)| at.saturating_sub(position));
            if left == Some(0) {
                return spoil.ended().await;
            }
            let mut chunk = match content.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Some((Err(error), None)),
                // It ended before it was to break; a stream that is to break does so nevertheless.
                None => return spoil.ended().await,
            };
            if let Some(left) = left {
                chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            }
            let next = position + chunk.len() as u64;
            if spoil.flips.iter().any(|at| (position..next).contains(at)) {
                chunk = flipped(&chunk, spoil.flips.iter().filter_map(|at| at.checked_sub(position)));
                spoil.flips.retain(|at| *at >= next);
            }
            return Some((Ok(chunk), Some((content, spoil, next))));
        }
    }))
}

/// The bytes with the lowest bit of these turned over, as far as they are there.
pub(super) fn flipped(bytes: &Bytes, positions: impl IntoIterator<Item = u64>) -> Bytes {
    let mut bytes = bytes.to_vec();
    for position in positions {
        if let Some(byte) = usize::try_from(position).ok().and_then(|position| bytes.get_mut(position)) {
            *byte ^= 1;
        }
    }
    bytes.into()
}
