//! `ringfeed subscribe`: prints what feeds hold and what comes in, and can go on where it stopped.
//!
//! ```text
//! ask (arguments -> request) -> Follow -> screen -> stdout, and notes on stderr
//!                                      -> cursor file, or the server's named cursor
//! ```

mod acknowledge;
mod ask;
mod screen;

use std::{
    io::{self, BufWriter, Write},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub(super) use self::ask::SubscribeArgs;
use self::{
    acknowledge::Acknowledger,
    screen::{Flow, Heartbeats, Screen},
};
use super::{
    cursor_file::CursorFile,
    exit::{Outcome, note},
    latest::default_format,
    output::{Paper, Printer},
    remote::{Remote, stop_signal},
};
use crate::client::{FirstConnect, RetryOptions, SubscribeError, Subscription};

/// The cursor file is at most this much behind what was printed.
const SAVE_EVERY: Duration = Duration::from_millis(200);
const OUT_BYTES: usize = 64 << 10;

impl SubscribeArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        self.check()?;
        let remote = Remote::new(&self.connect)?;
        let stop = stop_signal()?;
        let cursor_file = self.cursor_file.as_deref().map(CursorFile::open);
        let cursor_file = cursor_file.transpose()?;
        let format = self.format.unwrap_or_else(default_format);
        let request = self.request(cursor_file.as_ref(), format);
        let retry = RetryOptions {
            first: FirstConnect::Fail,
            give_up_after: None,
        };
        let subscription = Subscription::new(remote.connection(), request, retry)?;
        let out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
        let printer = Printer::new(format, Paper::of_stdout(), out);
        let heartbeats = if self.heartbeat {
            Heartbeats::All
        } else {
            Heartbeats::Urgent
        };
        let memory = if self.is_named_cursor() {
            Memory::Server(Acknowledger::new(remote.clone(), self.subscriber()))
        } else {
            cursor_file.map_or(Memory::None, Memory::File)
        };
        let mut follow = Follow {
            subscription,
            screen: Screen::new(printer, self.count, heartbeats, stop.clone()),
            memory,
            save_due: None,
        };
        let followed = follow.run(&stop).await;
        // Also after an error: what was printed was printed.
        let saved = follow.settle().await;
        match followed {
            Err(Failure::Stream(error)) => Err(remote.explain_end(error)),
            Err(Failure::Other(error)) => Err(error),
            Ok(()) => saved.map(|()| Outcome::Done),
        }
    }
}

#[derive(Debug)]
enum Failure {
    Stream(SubscribeError),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> std::convert::From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Who remembers what was printed.
enum Memory {
    None,
    File(CursorFile),
    Server(Acknowledger),
}

/// A subscription on its way to the screen and to whoever remembers.
struct Follow<W: Write> {
    subscription: Subscription,
    screen: Screen<W>,
    memory: Memory,
    save_due: Option<Instant>,
}

impl<W: Write> Follow<W> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        loop {
            let due = self.save_due;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.save().await?,
                event = self.subscription.next() => match event {
                    Ok(None) => return Ok(()),
                    Ok(Some(event)) => {
                        let flow = self.screen.show(event)?;
                        self.due();
                        if flow == Flow::Stop {
                            return Ok(());
                        }
                    }
                    Err(error) => return Err(Failure::Stream(error)),
                },
            }
        }
    }

    fn due(&mut self) {
        if self.save_due.is_none() {
            self.save_due = match &self.memory {
                Memory::None => None,
                Memory::File(_) => Some(Instant::now() + SAVE_EVERY),
                Memory::Server(acknowledger) => Some(acknowledger.due()),
            };
        }
    }

    /// Remembers what was printed and flushed.
    async fn save(&mut self) -> anyhow::Result<()> {
        self.save_due = None;
        let places = self.screen.flushed();
        match &mut self.memory {
            Memory::File(file) if !places.is_empty() => file.save(places),
            Memory::Server(acknowledger) => {
                acknowledger.tell(places).await;
                Ok(())
            }
            Memory::File(_) | Memory::None => Ok(()),
        }
    }

    /// Remembers it at the end, when it cannot be put off.
    async fn settle(&mut self) -> anyhow::Result<()> {
        match &mut self.memory {
            Memory::Server(acknowledger) => acknowledger.settle(self.screen.flushed()).await,
            Memory::File(_) | Memory::None => self.save().await,
        }
    }
}
