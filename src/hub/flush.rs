//! The flusher: a thread that makes durable what the committer appended, shows it and answers for
//! it. One flush takes all that was appended during the one before, so the disk has work as long
//! as anything waits, and never twice for the same.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

use super::{
    stage::{Group, StoreFailure},
    views::Hot,
    window::Window,
};
use crate::{
    metrics,
    model::{Bounds, Chunk, Visibility},
    store::{Engine, StoreError},
    trace,
};

/// No more than this waits for a flush.
pub(super) const TRAY_BYTES: usize = 4 << 20;

/// Between the beginnings of two flushes that nobody waits for to see records: acknowledgements of
/// feeds that show records at once. Without it a trickle keeps a core busy with flushing.
const UNHURRIED: Duration = Duration::from_millis(2);

/// Groups that are appended, with what they became.
pub(super) type Appended = Vec<(Group, Chunk)>;

/// The committer's end.
#[derive(Debug)]
pub(super) struct Flusher {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What lies between the two threads.
#[derive(Debug, Default)]
struct Desk {
    tray: Mutex<Tray>,
    /// There is something to flush, or to end for.
    filled: Condvar,
    /// The flusher took what was there, or rests.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Tray {
    waiting: VecDeque<Appended>,
    bytes: usize,
    state: State,
    /// Somebody waits for what is in here to be seen, or for the flusher to rest.
    urgent: bool,
    /// The committer waits for it to rest.
    call: bool,
    stop: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Rests,
    Flushes,
}

impl Tray {
    fn is_idle(&self) -> bool {
        self.state == State::Rests && self.waiting.is_empty()
    }
}

impl Flusher {
    /// `rested` is called when it rests and was asked to say so.
    pub(super) fn start(
        durable: Durable,
        rested: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let thread = std::thread::Builder::new().name("flusher".into()).spawn({
            let desk = Arc::clone(&desk);
            move || run(&desk, &durable, rested)
        })?;
        Ok(Self {
            desk,
            thread: Some(thread),
        })
    }

    /// Hands over what was appended, in order; waits while too much waits already.
    pub(super) fn hand(&self, appended: Appended) {
        let mut tray = self.desk.tray.lock();
        while tray.bytes >= TRAY_BYTES {
            self.hurry(&mut tray);
            self.desk.moved.wait(&mut tray);
        }
        let durable = |(group, _): &(Group, Chunk)| group.visibility == Visibility::Durable;
        tray.urgent |= appended.iter().any(durable);
        tray.bytes += bytes(&appended);
        tray.waiting.push_back(appended);
        self.desk.filled.notify_one();
    }

    /// Whether it rests; if not, it will say so when it does.
    pub(super) fn rests_or_calls(&self) -> bool {
        let mut tray = self.desk.tray.lock();
        let idle = tray.is_idle();
        tray.call = !idle;
        idle
    }

    /// Waits until nothing is on its way.
    pub(super) fn drain(&self) {
        let mut tray = self.desk.tray.lock();
        while !tray.is_idle() {
            self.hurry(&mut tray);
            self.desk.moved.wait(&mut tray);
        }
    }

    fn hurry(&self, tray: &mut Tray) {
        tray.urgent = true;
        self.desk.filled.notify_one();
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.desk.tray.lock().stop = true;
        self.desk.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn bytes(appended: &Appended) -> usize {
    appended.iter().map(|(_, chunk)| chunk.body_len()).sum()
}

fn run(desk: &Desk, durable: &Durable, rested: impl Fn()) {
    let mut begun: Option<Instant> = None;
    while let Some(taken) = take(desk, begun, &rested) {
        begun = Some(Instant::now());
        durable.make(taken.into_iter().flatten().collect());
    }
}

/// Waits for what is to be flushed next; `None` at the end.
fn take(desk: &Desk, begun: Option<Instant>, rested: &impl Fn()) -> Option<VecDeque<Appended>> {
    let mut tray = desk.tray.lock();
    tray.state = State::Rests;
    desk.moved.notify_all();
    if tray.waiting.is_empty() && std::mem::take(&mut tray.call) {
        MutexGuard::unlocked(&mut tray, rested);
    }
    while tray.waiting.is_empty() {
        if tray.stop {
            return None;
        }
        desk.filled.wait(&mut tray);
    }
    let due = begun.and_then(|begun| begun.checked_add(UNHURRIED));
    while let Some(due) = due.filter(|_| !tray.urgent && !tray.stop) {
        if desk.filled.wait_until(&mut tray, due).timed_out() {
            break;
        }
    }
    tray.state = State::Flushes;
    tray.urgent = false;
    tray.bytes = 0;
    desk.moved.notify_all();
    Some(std::mem::take(&mut tray.waiting))
}

/// Makes groups durable, then visible, and answers for them.
#[derive(Debug)]
pub(super) struct Durable {
    pub engine: Arc<dyn Engine>,
    pub window: Arc<Window>,
    /// Why writing stopped for good.
    pub failed: watch::Sender<Option<String>>,
}

impl Durable {
    fn make(&self, appended: Appended) {
        let needed = appended.iter().any(|(group, _)| group.needs_flush());
        let traced = trace::is_on().then(SystemTime::now);
        if needed && let Err(error) = self.flush() {
            let failure = StoreFailure::from(error);
            for (group, _) in appended.into_iter().rev() {
                group.fail(&failure);
            }
            return;
        }
        for (group, chunk) in appended {
            if let Some(begun) = traced.filter(|_| needed) {
                group.flushed(begun);
            }
            match group.visibility {
                Visibility::Durable => self.show(&group, &chunk),
                Visibility::Immediate => group.feed.publish_head(),
            }
            group.acknowledge(&chunk);
        }
    }

    /// Makes everything staged durable. After a failure nothing more is written: fail stop.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let start = Instant::now();
        let flushed = self.engine.flush();
        metrics::observe_flush(start.elapsed());
        if let Err(error) = &flushed {
            tracing::error!(%error, "flush failed, writing stops");
            self.failed.send_replace(Some(error.to_string()));
        }
        flushed
    }

    /// Shows followers a chunk. More may be appended behind it by now, and not be durable.
    pub(super) fn show(&self, group: &Group, chunk: &Chunk) {
        if chunk.is_empty() {
            return;
        }
        group.feed.see(chunk, &group.seen, group.ingest_time);
        let keys = group.seen.iter().map(|meta| meta.key).collect();
        let hot = Hot::new(chunk.clone(), Some(keys)).from(group.sources());
        self.window.push(group.feed.id(), hot);
        let bounds = group.feed.ring.bounds();
        group.feed.publish(Bounds {
            tail: chunk.span().to,
            ..bounds
        });
    }
}
