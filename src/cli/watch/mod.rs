//! `ringfeed watch`: a feed on a terminal, as it comes in.
//!
//! ```text
//! subscription -> watching (board, list, link: what is known) -> view -> terminal
//! keyboard     -> keys -> watching
//! ```

mod ask;
mod board;
mod filter;
mod keys;
mod link;
mod list;
mod older;
mod row;
#[cfg(test)]
mod samples;
mod terminal;
mod trend;
mod view;
mod watching;

use std::{io, pin::Pin, time::Duration};

use anyhow::Context as _;
use crossterm::event::{Event as Input, EventStream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub(super) use self::ask::WatchArgs;
use self::{
    keys::{Action, action},
    older::Older,
    terminal::Stage,
    view::View,
    watching::{Flow, Watching},
};
use super::{
    exit::Outcome,
    output::Paper,
    remote::{Remote, stop_signal},
};
use crate::{
    client::{Event, FirstConnect, RetryOptions, SubscribeError, Subscription},
    model::{UnixNanos, now},
};

/// The screen is drawn at most this often, unless a key is pressed.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Ages go on while nothing comes.
const AGE_EVERY: Duration = Duration::from_millis(500);

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Tick {
    at: Instant,
    unix: UnixNanos,
}

impl Tick {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            unix: now(),
        }
    }
}

impl WatchArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        self.check()?;
        let remote = Remote::new(&self.connect)?;
        let stop = stop_signal()?;
        let retry = RetryOptions {
            first: FirstConnect::Fail,
            give_up_after: None,
        };
        let subscription = Subscription::new(remote.connection(), self.request(), retry)?;
        let endpoint = remote.connection().endpoint().to_owned();
        let ended = Screen {
            stage: Stage::enter().context("cannot use the terminal")?,
            view: View::new(Paper::of_stdout().colour),
            watching: Watching::new(self.feed.clone(), endpoint, Tick::now()),
            subscription,
            older: None,
            remote: &remote,
            args: &self,
        }
        .run(&stop)
        .await;
        match ended {
            Ok(()) => Ok(Outcome::Done),
            Err(Failure::Stream(error)) => Err(remote.explain_end(error)),
            Err(Failure::Other(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
enum Failure {
    Stream(SubscribeError),
    Other(anyhow::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(anyhow::Error::new(error).context("cannot use the terminal"))
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<Older, SubscribeError>>>>;

/// A subscription on its way to the terminal.
struct Screen<'a> {
    stage: Stage,
    view: View,
    watching: Watching,
    subscription: Subscription,
    /// What was in the ring before, while it is read.
    older: Option<Reading>,
    remote: &'a Remote,
    args: &'a WatchArgs,
}

impl Screen<'_> {
    /// Until somebody quits. Whatever waits, a key is heard and the screen is drawn.
    async fn run(mut self, stop: &CancellationToken) -> Result<(), Failure> {
        let mut keyboard = EventStream::new();
        let mut clock = interval(DRAW_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drawn = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                input = keyboard.next() => {
                    if self.press_all(input, &mut keyboard)? == Flow::Quit {
                        return Ok(());
                    }
                    self.draw()?;
                    drawn = Some(Instant::now());
                }
                at = clock.tick() => {
                    let is_old = drawn.is_none_or(|drawn| at - drawn >= AGE_EVERY);
                    if self.watching.take_changed() || is_old {
                        self.draw()?;
                        drawn = Some(at);
                    }
                }
                older = wait(&mut self.older) => {
                    self.older = None;
                    // Without it sparklines begin with what comes.
                    if let Ok(older) = older {
                        self.watching.put_before(&older);
                    }
                }
                event = self.subscription.next() => match event {
                    Ok(Some(event)) => self.hear(event)?,
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(Failure::Stream(error)),
                },
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let (view, watching) = (&mut self.view, &mut self.watching);
        self.stage
            .draw(|frame| view.draw(frame, watching, Tick::now()))
    }

    /// All that was typed meanwhile, so that it is drawn once.
    fn press_all(
        &mut self,
        first: Option<io::Result<Input>>,
        keyboard: &mut EventStream,
    ) -> Result<Flow, Failure> {
        let mut input = Some(first);
        while let Some(pressed) = input {
            if self.press(pressed)? == Flow::Quit {
                return Ok(Flow::Quit);
            }
            input = keyboard.next().now_or_never();
        }
        Ok(Flow::GoOn)
    }

    fn press(&mut self, input: Option<io::Result<Input>>) -> Result<Flow, Failure> {
        let Some(input) = input.transpose()? else {
            return Ok(Flow::Quit);
        };
        let Input::Key(key) = input else {
            return Ok(Flow::GoOn);
        };
        let Some(action) = action(&self.watching.mode, key) else {
            return Ok(Flow::GoOn);
        };
        if action == Action::Redraw {
            self.stage.forget()?;
        }
        Ok(self.watching.act(action, Tick::now()))
    }

    fn hear(&mut self, event: Event) -> Result<(), Failure> {
        let is_complete = matches!(event, Event::SnapshotComplete { .. });
        let heard = self.watching.hear(event, Tick::now());
        heard.map_err(|error| Failure::Other(anyhow::Error::new(error)))?;
        if is_complete && self.watching.known_rows() <= older::MAX_KEYS {
            let per_key = u32::try_from(trend::POINTS).unwrap_or(1);
            let request = self.args.older(per_key);
            let connection = self.remote.connection();
            self.older = Some(Box::pin(older::read(connection, request)));
        }
        self.watching.endpoint = self.remote.connection().endpoint().to_owned();
        Ok(())
    }
}

/// Never, while nothing is read.
async fn wait(reading: &mut Option<Reading>) -> Result<Older, SubscribeError> {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}
