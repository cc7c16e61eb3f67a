//! Deciding what goes wrong in a call, and letting it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Damage, Fault, FaultPlan, Injected, Op};
use crate::blob::BlobStore;
use crate::{Digest, Error, ErrorKind, Result};

/// What a store, its uploads and its named objects share.
#[derive(Clone)]
pub(super) struct Faults {
    pub(super) inner: Arc<dyn BlobStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) plan: FaultPlan,
    pub(super) script: VecDeque<Scripted>,
    /// Calls of one operation about one thing since the plan was set.
    pub(super) drawn: BTreeMap<(Op, String), u64>,
    pub(super) calls: BTreeMap<Op, u64>,
    pub(super) injected: Vec<Injected>,
    pub(super) delayed: u64,
    pub(super) damaged: BTreeMap<Digest, Damage>,
    /// Bytes written since the plan was set.
    pub(super) written: u64,
    /// Uploads begun or resumed.
    pub(super) uploads: u64,
}

pub(super) struct Scripted {
    pub(super) op: Op,
    /// Calls of this operation to let pass first.
    pub(super) skip: u64,
    pub(super) fault: Fault,
}

impl Faults {
    pub(super) fn new(inner: Arc<dyn BlobStore>, plan: FaultPlan) -> Self {
        Self { inner, state: Arc::new(Mutex::new(State { plan, ..State::default() })) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, op: Op, key: &str, fault: Fault) {
        self.lock().injected.push(Injected::new(op, key, fault));
    }

    /// What happens in this call.
    fn decide(&self, op: Op, key: &str) -> (Duration, Option<Drawn>) {
        let mut state = self.lock();
        *state.calls.entry(op).or_default() += 1;
        let n = state.drawn.entry((op, key.to_owned())).or_default();
        *n += 1;
        let n = *n;
        let (delay, drawn) = state.plan.draw(op, key, n);
        if !delay.is_zero() {
            state.delayed += 1;
        }
        let due = state.script.iter().position(|scripted| scripted.op == op && scripted.skip == 0);
        for scripted in state.script.iter_mut().filter(|scripted| scripted.op == op) {
            scripted.skip = scripted.skip.saturating_sub(1);
        }
        let scripted = due.and_then(|index| state.script.remove(index));
        let fault = match scripted {
            Some(scripted) => Some(Drawn { fault: scripted.fault, exact: true }),
            None => drawn.map(|fault| Drawn { fault, exact: false }),
        };
        (delay, fault)
    }

    /// Waits, and fails if the call fails before its effect. What is left goes wrong later.
    pub(super) async fn enter(&self, op: Op, key: &str) -> Result<Option<Drawn>> {
        let (delay, drawn) = self.decide(op, key);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match drawn.map(|drawn| drawn.fault) {
            Some(fault @ Fault::Before(kind)) => {
                self.record(op, key, fault);
                Err(Error::new(kind, "a fault was injected before the effect").with_key(key))
            }
            Some(Fault::HangBefore) => {
                self.record(op, key, Fault::HangBefore);
                std::future::pending().await
            }
            _ => Ok(drawn),
        }
    }

    /// Loses the answer, if there is one to lose.
    pub(super) async fn leave(&self, op: Op, key: &str, drawn: Option<Drawn>) -> Result<()> {
        match drawn.map(|drawn| drawn.fault) {
            Some(fault @ Fault::After(kind)) => {
                self.record(op, key, fault);
                Err(Error::new(kind, "a fault was injected after the effect").with_key(key))
            }
            Some(Fault::HangAfter) => {
                self.record(op, key, Fault::HangAfter);
                std::future::pending().await
            }
            _ => Ok(()),
        }
    }

    /// A call that can go wrong before and after, and in no other way.
    pub(super) async fn around<T>(&self, op: Op, key: &str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let drawn = self.enter(op, key).await?;
        let value = call.await?;
        self.leave(op, key, drawn).await?;
        Ok(value)
    }

    /// Takes space for so many bytes.
    pub(super) fn occupy(&self, op: Op, key: &str, bytes: usize) -> Result<()> {
        let mut state = self.lock();
        let written = state.written.saturating_add(bytes as u64);
        if state.plan.space.is_some_and(|space| written > space) {
            state.injected.push(Injected::new(op, key, Fault::Full));
            return Err(Error::new(ErrorKind::StorageFull, "a full disk was injected").with_key(key));
        }
        state.written = written;
        Ok(())
    }

    /// The blob was written: old damage is gone, and new damage may be there.
    pub(super) fn written(&self, op: Op, key: &str, digest: &Digest, size: u64, drawn: Option<Drawn>) {
        let rot = drawn.and_then(|drawn| match drawn.fault {
            Fault::Rot(position) => drawn.position(position, size).filter(|position| *position < size),
            _ => None,
        });
        let mut state = self.lock();
        match rot {
            Some(position) => {
                state.injected.push(Injected::new(op, key, Fault::Rot(position)));
                state.damaged.insert(*digest, Damage::Flip(position));
            }
            None => drop(state.damaged.remove(digest)),
        }
    }

    pub(super) fn damage_of(&self, digest: &Digest) -> Option<Damage> {
        self.lock().damaged.get(digest).copied()
    }

    /// A number for an upload's handle.
    pub(super) fn number_upload(&self) -> String {
        let mut state = self.lock();
        state.uploads += 1;
        format!("upload {}", state.uploads)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("inner", &self.inner).field("plan", &self.lock().plan).finish_non_exhaustive()
    }
}

/// A fault that is to happen in a call.
#[derive(Clone, Copy)]
pub(super) struct Drawn {
    pub(super) fault: Fault,
    /// Positions are meant as they are; else they are any number, to be brought down to what there is.
    pub(super) exact: bool,
}

impl Drawn {
    /// A position in `len` bytes; `None` if there is no byte to go wrong.
    pub(super) fn position(self, position: u64, len: u64) -> Option<u64> {
        if self.exact { Some(position) } else { position.checked_rem(len) }
    }
}
