//! What a call may take, of its principal and of its peer. Made once a call, so that a message
//! looks nothing up.

use std::{sync::Arc, time::Duration};

use tonic::Status;

use super::subject::{Limit, Subject};
use crate::{
    errors::{Answer, Reason},
    layers::{Peer, witness::Witness},
    metrics,
    model::Principal,
};

/// The quotas of a call; without any it may take what it wants.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    principal: Option<Arc<Subject>>,
    peer: Option<Arc<Subject>>,
}

/// A quota is used up.
#[derive(Debug)]
pub struct Limited {
    limit: Limit,
    subject: Arc<Subject>,
    /// Until there is room, where that is known.
    wait: Option<Duration>,
}

/// A stream that is open. It counts until this is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    counted: Vec<Arc<Subject>>,
}

/// A connection over which a principal called. It counts until this is dropped.
#[derive(Debug)]
pub(in crate::layers) struct OpenConnection(Arc<Subject>);

impl Quota {
    pub(super) fn new(principal: Option<Arc<Subject>>, peer: Option<Arc<Subject>>) -> Self {
        Self { principal, peer }
    }

    /// Takes records and their bytes for an upload, all of them or nothing.
    pub fn take(&self, records: u64, bytes: u64) -> Result<(), Limited> {
        self.take_all(&[(Limit::Records, records), (Limit::Bytes, bytes)])
    }

    /// Takes records and their bytes in any case, and says how long nothing more should come.
    pub fn owe(&self, records: u64, bytes: u64) -> Duration {
        let mut longest = Duration::ZERO;
        for subject in self.subjects() {
            for (limit, count) in [(Limit::Records, records), (Limit::Bytes, bytes)] {
                let wait = subject.owe(limit, count);
                if !wait.is_zero() && count > 0 {
                    metrics::count_rate_limited(limit.label());
                }
                longest = longest.max(wait);
            }
        }
        longest
    }

    /// How long what was taken so far is not paid for.
    pub fn debt(&self) -> Duration {
        self.owe(0, 0)
    }

    pub(super) fn take_call(&self) -> Result<(), Limited> {
        self.take_all(&[(Limit::Calls, 1)])
    }

    pub(super) fn open_stream(&self) -> Result<OpenStream, Limited> {
        let mut open = OpenStream { counted: vec![] };
        for subject in self.subjects() {
            if !subject.open_stream() {
                return Err(Limited::new(Limit::Streams, subject, None));
            }
            open.counted.push(Arc::clone(subject));
        }
        Ok(open)
    }

    /// Counts the connection as one of the principal's, once.
    pub(super) fn connect(&self, principal: &Principal, peer: &Peer) -> Result<(), Limited> {
        let Some(subject) = self.principal.as_ref().filter(|of| of.has_connections()) else {
            return Ok(());
        };
        let mut places = peer.places.0.lock();
        if places.iter().any(|(known, _)| known == principal) {
            return Ok(());
        }
        if !subject.open_connection() {
            return Err(Limited::new(Limit::Connections, subject, None));
        }
        let open = OpenConnection(Arc::clone(subject));
        places.push((Arc::clone(principal), open));
        Ok(())
    }

    /// When one of the buckets has no room, the others get back what they gave.
    fn take_all(&self, wanted: &[(Limit, u64)]) -> Result<(), Limited> {
        let mut longest: Option<Limited> = None;
        let mut refused = 0_u32;
        let all = || {
            let of = |subject| wanted.iter().map(move |wanted| (subject, *wanted));
            (0..).zip(self.subjects().flat_map(of))
        };
        for (at, (subject, (limit, count))) in all() {
            if let Err(wait) = subject.take(limit, count) {
                refused |= 1 << at;
                if longest.as_ref().is_none_or(|most| most.wait < Some(wait)) {
                    longest = Some(Limited::new(limit, subject, Some(wait)));
                }
            }
        }
        let Some(longest) = longest else {
            return Ok(());
        };
        for (at, (subject, (limit, count))) in all() {
            if refused & 1 << at == 0 {
                subject.give_back(limit, count);
            }
        }
        Err(longest)
    }

    fn subjects(&self) -> impl Iterator<Item = &Arc<Subject>> {
        self.principal.iter().chain(&self.peer)
    }
}

impl Limited {
    fn new(limit: Limit, subject: &Arc<Subject>, wait: Option<Duration>) -> Self {
        Self {
            limit,
            subject: Arc::clone(subject),
            wait,
        }
    }

    /// Counts the refusal, and says whose quota it was and when to come again.
    pub fn status(&self) -> Status {
        metrics::count_rate_limited(self.limit.label());
        let (limit, name) = (self.limit, self.subject.name());
        let allowed = self.subject.allowed(limit);
        let what = format!("{limit}: {allowed}");
        let reason = match limit {
            Limit::Streams | Limit::Connections => Reason::StreamLimit,
            Limit::Calls | Limit::Records | Limit::Bytes => Reason::RateLimited,
        };
        let message = format!("{limit} of {name}: {allowed} are allowed");
        let answer = Answer::new(reason, message).quota(name, &what);
        match self.wait {
            Some(wait) => answer.retry_after(wait).status(),
            None => answer.status(),
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.close_connection();
    }
}

impl Witness for OpenStream {}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.counted.iter().for_each(|of| of.close_stream());
    }
}
