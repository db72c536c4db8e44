//! Whatever happens, it adds up: random histories of uploads, retention, restarts and subscribers of
//! all sorts, against a plain model. In the process, over gRPC on pipes; time moves when a history
//! says so. A failure prints its seed: `TEST_HISTORY_SEED=<seed>` runs that history alone and
//! says what it does.

mod check;
mod history;
mod lane;
mod model;
mod pipe;
mod reader;
mod records;
mod run;
mod select;
mod settle;
mod stretch;
mod tally;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use self::{history::History, tally::Tally};
use super::harness::{Random, torture};

const HISTORIES: u64 = 2_000;
/// So long no history takes, however busy the machine is: most take some 50 ms.
const HANGS: Duration = Duration::from_secs(40);
/// Histories side by side: each has a few threads, and waits for them.
const WORKERS: usize = 3;

#[test]
fn every_history_adds_up() {
    if let Ok(seed) = std::env::var("TEST_HISTORY_SEED") {
        let seed = seed.parse().expect("a number");
        let history = History::of(seed);
        eprintln!("{history:#?}");
        let tally = play(&history).unwrap_or_else(|fault| panic!("history {seed}: {fault}"));
        eprintln!("{tally}");
        return;
    }
    let count = std::env::var("TEST_HISTORIES").ok();
    let count = count.map_or(HISTORIES, |count| count.parse().expect("a number"));
    let count = if torture() { 10 * count } else { count };
    let tally = play_all(Random::seeded("histories").next(), count);
    eprintln!("{tally}");
    if count >= HISTORIES {
        tally.assert_teeth(count / HISTORIES);
    }
}

/// Plays so many histories; the first that fails ends them.
fn play_all(first: u64, count: u64) -> Tally {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sum, faults) = (Mutex::new(Tally::default()), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while !failed.load(Relaxed) {
                    let nth = next.fetch_add(1, Relaxed);
                    if nth >= count {
                        return;
                    }
                    let seed = first.wrapping_add(nth);
                    match play(&History::of(seed)) {
                        Ok(tally) => sum.lock().unwrap().add(&tally),
                        Err(fault) => {
                            failed.store(true, Relaxed);
                            faults.lock().unwrap().push((seed, fault));
                        }
                    }
                }
            });
        }
    });
    if let Some((seed, fault)) = faults.into_inner().unwrap().pop() {
        let history = History::of(seed);
        panic!(
            "history {seed}: {fault}\n{history:?}\nagain: TEST_HISTORY_SEED={seed} cargo test --release --test suite histories"
        );
    }
    sum.into_inner().unwrap()
}

/// Plays one history in a runtime of its own, whose clock stands still.
fn play(history: &History) -> Result<Tally, String> {
    let (alive, ended) = mpsc::channel::<()>();
    let seed = history.seed;
    std::thread::spawn(move || {
        if ended.recv_timeout(HANGS) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("history {seed} hangs: TEST_HISTORY_SEED={seed}");
            std::process::abort();
        }
    });
    let played = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(Box::pin(run::play(history)))
    }));
    drop(alive);
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(text.unwrap_or_else(|| "a panic".into()))
    })
}
