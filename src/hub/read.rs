//! How a follower comes by its next message: made of the window, or read from the ring away from
//! the runtime's threads.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    Feed, FollowError,
    views::{
        ALL, Choice, Draft, Filter, MAX_BYTES, MAX_PASSED, Origin, Pick, Place, Reach, Room, View,
    },
    window::Window,
};
use crate::{
    model::{Gap, Offset, Span},
    store::{MAX_BLOCK_BYTES, Read, StoreError},
};

const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks that are looked at for one message.
const MAX_CHUNKS: usize = 4_096;

/// What is wanted next, by whom.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub feed: Arc<Feed>,
    pub selector: u32,
    pub filter: Option<Arc<Filter>>,
    /// Only these offsets.
    pub pick: Option<Arc<Pick>>,
    /// What is not settled yet begins here.
    pub from: Offset,
    /// Nothing is wanted before.
    pub passed: Offset,
    pub limit: Offset,
}

/// What lies at a place.
#[derive(Debug)]
pub(super) enum Found {
    View(View),
    Gap(Gap),
    AtTail,
}

impl Ask {
    fn choice(&self) -> Choice<'_> {
        match (&self.pick, &self.filter) {
            (Some(pick), _) => Choice::Offsets(pick),
            (None, Some(filter)) => Choice::Keys(filter),
            (None, None) => Choice::All,
        }
    }

    fn draft(&self) -> Draft<'_> {
        Draft::new(&self.feed, self.choice(), self.from, self.passed)
    }

    /// Where the message is kept for others; some picks of offsets are for nobody else.
    fn place(&self) -> Option<Place> {
        let pick = match &self.pick {
            Some(pick) => Some(pick.shared_as()?),
            None => None,
        };
        Some(Place {
            feed: self.feed.id(),
            from: self.from,
            filter: self.filter.as_ref().map_or(ALL, |filter| filter.id),
            selector: self.selector,
            pick,
        })
    }

    fn reach(&self) -> Reach {
        Reach {
            passed: self.passed,
            limit: self.limit,
        }
    }

    /// A message of what is in memory.
    pub(super) fn hot(&self, window: &Window) -> Option<View> {
        let compute = || self.of_window(window);
        match self.place() {
            Some(place) => window.hot.get(place, self.reach(), compute),
            None => window.hot.count_computed(compute()),
        }
    }

    fn of_window(&self, window: &Window) -> Option<View> {
        let (mut chunks, mut bytes) = (0, 0);
        let run = window.run(self.feed.id(), self.passed, |hot| {
            let span = Span::new(self.passed, self.limit);
            bytes += hot.chunk.slice(span).body_len();
            chunks += 1;
            let enough = match self.choice() {
                Choice::All => bytes >= MAX_BYTES,
                Choice::Keys(_) | Choice::Offsets(_) => hot.span().to >= self.from + MAX_PASSED,
            };
            enough || chunks == MAX_CHUNKS || hot.span().to >= self.limit
        });
        let mut draft = self.draft();
        for hot in &run {
            if draft.at() >= self.limit || draft.add_hot(hot, self.limit) == Room::Full {
                break;
            }
        }
        self.skip_to_next(&mut draft);
        let moved = draft.at() > self.passed;
        moved.then(|| draft.finish(self.selector, Origin::Window))?
    }

    /// Whoever picked offsets has seen what is between them.
    fn skip_to_next(&self, draft: &mut Draft<'_>) {
        if let Some(pick) = &self.pick {
            let next = pick.next_from(draft.at()).unwrap_or(self.limit);
            draft.skip_to(next.min(self.limit));
        }
    }

    /// A message that another follower had read.
    pub(super) fn found(&self, window: &Window) -> Option<View> {
        window.cold.find(self.place()?, self.reach())
    }

    /// Reads one from the ring: several blocks, as many as fill it.
    fn read(&self) -> Result<Found, StoreError> {
        let mut draft = self.draft();
        loop {
            self.skip_to_next(&mut draft);
            let at = draft.at();
            if at >= self.limit {
                break;
            }
            let room = match self.feed.ring.read(at, MAX_BYTES)? {
                Read::Records(chunk) => draft.add(&chunk.slice(Span::new(at, self.limit))),
                Read::Gap(gap) if at == self.passed => return Ok(Found::Gap(gap)),
                // What was skipped before it is settled first.
                Read::Gap(_) | Read::AtTail => break,
            };
            // Not a block that would only be cut.
            if room == Room::Full || draft.left() < MAX_BLOCK_BYTES {
                break;
            }
        }
        if draft.at() == self.passed {
            return Ok(Found::AtTail);
        }
        let view = draft.finish(self.selector, Origin::Ring);
        Ok(view.map_or(Found::AtTail, Found::View))
    }
}

/// A read away from the runtime's threads, which goes on when whoever waits for it is dropped:
/// on a stream of many selectors that happens with each message of another.
#[derive(Debug)]
pub(super) struct Reading<T>(JoinHandle<Result<T, StoreError>>);

impl<T: Send + 'static> Reading<T> {
    pub(super) fn begin(read: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Self {
        Self(spawn_blocking(read))
    }

    /// The answer. Safe to cancel.
    pub(super) async fn end(&mut self) -> Result<T, FollowError> {
        in_time(&mut self.0).await
    }
}

/// A message that is being read.
#[derive(Debug)]
pub(super) struct Ahead {
    ask: Ask,
    reading: Reading<Found>,
}

impl Ahead {
    pub(super) fn begin(ask: Ask) -> Self {
        let asked = ask.clone();
        Self {
            ask,
            reading: Reading::begin(move || asked.read()),
        }
    }

    /// Whether it is what `ask` wants, though it may go further.
    pub(super) fn is_for(&self, ask: &Ask) -> bool {
        (self.ask.from, self.ask.passed) == (ask.from, ask.passed)
    }

    /// The answer, kept for others where there are others. Safe to cancel.
    pub(super) async fn end(&mut self, window: &Window) -> Result<Found, FollowError> {
        let found = self.reading.end().await?;
        if let Found::View(view) = &found {
            window.cold.count_computed(Some(view.clone()));
            if self.ask.feed.tail().followers() > 1
                && let Some(place) = self.ask.place()
            {
                window.cold.put(place, view);
            }
        }
        Ok(found)
    }
}

/// Reads away from the runtime's threads.
pub(super) async fn read_blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, FollowError> {
    Reading::begin(read).end().await
}

/// Waits, and not for ever: a damaged store may never answer.
async fn in_time<T>(reading: &mut JoinHandle<Result<T, StoreError>>) -> Result<T, FollowError> {
    let seconds = READ_TIMEOUT.as_secs();
    let late = || FollowError::Store(StoreError::ReadTimeout { seconds });
    match timeout(READ_TIMEOUT, reading).await {
        Ok(Ok(read)) => Ok(read?),
        Ok(Err(_)) | Err(_) => Err(late()),
    }
}
