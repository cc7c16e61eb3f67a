//! Bytes that were accepted and not yet handed to the disk.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Frames at least this long are kept as they are; shorter ones are gathered, since each would pin the buffer that it is a slice of and cost a slot of
/// a vectored write.
const KEEP: usize = 4096;

/// Accepted bytes in order.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    frames: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Pending {
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.len += frame.len();
        if frame.len() < KEEP {
            self.tail.extend_from_slice(&frame);
        } else {
            self.close_tail();
            self.frames.push_back(frame);
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.frames.push_back(self.tail.split().freeze());
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The frames, to hash and to write.
    pub(crate) fn frames(&mut self) -> &[Bytes] {
        self.close_tail();
        self.frames.make_contiguous()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts back what was taken out before anything that came since.
    pub(crate) fn restore(&mut self, mut earlier: Self) {
        earlier.close_tail();
        self.close_tail();
        self.len += earlier.len;
        while let Some(frame) = earlier.frames.pop_back() {
            self.frames.push_front(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_stay_in_order_however_they_come(lengths in prop::collection::vec(0_usize..10_000, 0..20), cut in 0_usize..20) {
            let mut next = 0_u8;
            let frames: Vec<Bytes> = lengths.iter().map(|len| (0..*len).map(|_| { next = next.wrapping_add(1); next }).collect()).collect();
            let cut = cut.min(frames.len());
            let (mut earlier, mut later) = (Pending::default(), Pending::default());
            frames[..cut].iter().for_each(|frame| earlier.push(frame.clone()));
            frames[cut..].iter().for_each(|frame| later.push(frame.clone()));
            later.restore(earlier);
            prop_assert_eq!(later.len(), lengths.iter().sum::<usize>());
            prop_assert_eq!(later.frames().concat(), frames.concat());
        }
    }
}
