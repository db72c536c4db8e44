//! A follower of CONFLATE: at most once per interval it gets the latest record of each key of all
//! that came in since, and the offsets of the others as settled.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep_until};

use super::{Step, reader::Reader};
use crate::{
    hub::{End, FollowError, Visible, conflate::Wish, views::Pick},
    model::{Offset, Span},
};

#[derive(Debug)]
pub(super) struct Conflated {
    interval: Duration,
    /// The last tick in which something was picked.
    tick: Option<u128>,
    /// Everything before is in the range of a pick.
    picked: Offset,
    /// How far the range goes that is to be picked next; a long one takes several picks.
    to: Offset,
    /// It has caught up when it is here: what came since is for the next tick.
    goal: Offset,
    /// A pick that takes its time.
    picking: Option<JoinHandle<Result<Arc<Pick>, FollowError>>>,
}

impl Conflated {
    pub(super) fn new(interval: Duration, reader: &Reader) -> Self {
        Self {
            interval,
            tick: None,
            picked: reader.passed(),
            to: reader.passed(),
            goal: reader.feed().bounds().tail,
            picking: None,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether everything that was picked is delivered.
    pub(super) fn is_between(&self, reader: &Reader) -> bool {
        reader.passed() >= self.picked
    }

    pub(super) async fn next(&mut self, reader: &mut Reader) -> Result<Step, FollowError> {
        let visible = reader.look()?;
        loop {
            let step = reader.next_before(visible, self.picked).await?;
            if !matches!(step, Step::AtTail) {
                return Ok(step);
            }
            let Some(range) = self.due(reader, visible) else {
                let caught_up = reader.passed() >= self.goal.min(visible.bounds.tail);
                return Ok(if caught_up {
                    Step::AtTail
                } else {
                    Step::NotYet
                });
            };
            let pick = self.pick(reader, range).await?;
            if pick.until > range.from {
                self.picked = pick.until;
                reader.pick(Some(pick));
            } else {
                let gap = reader.gap_here(visible).await?;
                return Ok(gap.unwrap_or(Step::NotYet));
            }
        }
    }

    /// Picks, or goes on to. Safe to cancel: what takes long goes on by itself.
    async fn pick(&mut self, reader: &Reader, range: Span) -> Result<Arc<Pick>, FollowError> {
        let picking = match &mut self.picking {
            Some(picking) => picking,
            none => {
                let wish = Wish {
                    hub: Arc::clone(reader.hub()),
                    feed: Arc::clone(reader.feed()),
                    filter: reader.filter().cloned(),
                    range,
                };
                if let Some(pick) = wish.pick_now() {
                    return Ok(pick);
                }
                none.insert(tokio::spawn(wish.pick()))
            }
        };
        let picked = picking.await;
        self.picking = None;
        picked.map_err(|_stopped| FollowError::Stopping)?
    }

    /// What is to be picked now.
    fn due(&mut self, reader: &Reader, visible: Visible) -> Option<Span> {
        let (from, tail) = (reader.passed(), visible.bounds.tail);
        if from >= tail {
            return None;
        }
        if from < self.to {
            return Some(Span::new(from, self.to));
        }
        let to = match reader.end() {
            // Nobody waits for the next tick to be told of an end.
            End::Offset(end) if end <= tail => end,
            End::Offset(_) | End::Never | End::Now | End::IngestTime(_) => {
                let tick = reader.feed().conflations.tick(self.interval, tail);
                if self.tick == Some(tick.number) || tick.to <= from {
                    return None;
                }
                self.tick = Some(tick.number);
                tick.to
            }
        };
        self.to = to;
        (from < to).then(|| Span::new(from, to))
    }

    /// Waits for a record, and then for the tick in which it may be sent.
    pub(super) async fn wait(&mut self, reader: &mut Reader) {
        if reader.feed().bounds().tail > reader.passed() {
            sleep_until(reader.feed().conflations.next_tick(self.interval)).await;
        } else {
            reader.wait().await;
        }
    }
}
