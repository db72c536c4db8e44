//! Plays a history: carries out its operations, lets everybody read up to the end, and checks.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use ringfeed::{
    client::Reopened,
    model::{self, Cursor},
    proto::v1::{self, session_request::Command},
};

use super::{
    history::{Call, CommandPlan, EngineKind, History, Op, ResumeBy, SelectorPlan, SlowPlan, Stop},
    pipe::{connect, in_time},
    reader::{Read, Reader},
    select::{self, SESSIONS},
    tally::Tally,
    world::World,
};

/// As long as it is there, time moves only by `advance`: a runtime does not skip time while work
/// away from its threads is under way.
struct Still {
    _end: mpsc::Sender<()>,
}

impl Still {
    fn new() -> Self {
        let (end, ended) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || ended.recv().is_ok());
        Self { _end: end }
    }
}

pub(super) struct Run {
    pub world: World,
    pub readers: BTreeMap<usize, Reader>,
    /// Those that came to their ends, and others took their places.
    pub past: Vec<Reader>,
    pub tally: Tally,
    is_told: bool,
}

pub(super) async fn play(history: &History) -> Result<Tally, String> {
    let still = Still::new();
    let mut run = Run {
        world: World::new(history),
        readers: BTreeMap::new(),
        past: vec![],
        tally: Tally::default(),
        is_told: std::env::var_os("TEST_HISTORY_SEED").is_some(),
    };
    let engine = match history.engine {
        EngineKind::Memory => "histories over memory",
        EngineKind::Sled => "histories over sled",
    };
    run.tally.count(engine, 1);
    for (nth, op) in history.ops.iter().enumerate() {
        if run.is_told {
            eprintln!("{nth}: {op:?}");
        }
        let done = run.apply(op).await;
        done.map_err(|fault| format!("operation {nth}, {op:?}: {fault}"))?;
    }
    drop(still);
    run.finish().await?;
    Ok(run.tally)
}

impl Run {
    async fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Append {
                feed,
                records,
                sizes,
                times,
                author,
            } => {
                let (world, author) = (&mut self.world, *author);
                world.append(*feed, *records, *sizes, *times, author).await
            }
            Op::Trim { feed, percent } => {
                self.world.trim(*feed, *percent).await;
                Ok(())
            }
            Op::Resize { feed, mib } => {
                self.world.resize(*feed, *mib).await;
                Ok(())
            }
            Op::Expire { feed } => {
                self.world.expire(*feed).await;
                Ok(())
            }
            Op::Create {
                feed,
                visible_at_once,
            } => {
                self.world.create(*feed, *visible_at_once).await;
                Ok(())
            }
            Op::Recreate { feed } => {
                self.world.recreate(*feed).await;
                Ok(())
            }
            Op::Restart(stop) => self.restart(*stop).await,
            Op::Advance(by) => {
                tokio::time::advance(*by).await;
                Ok(())
            }
            Op::Open {
                reader,
                call,
                selectors,
            } => self.open(*reader, *call, selectors).await,
            Op::Read { reader, messages } => self.read(*reader, *messages).await,
            Op::Resume { reader, by } => self.resume(*reader, *by).await,
            Op::Command {
                reader,
                nth,
                command,
            } => self.command(*reader, *nth, command).await,
            Op::Acknowledge { reader } => self.acknowledge(*reader).await,
        }
    }

    fn request(&self, plan: &SelectorPlan) -> v1::Selector {
        select::request(plan, &self.world.truth, model::now())
    }

    /// Where the feeds of a selector are to begin if it begins now.
    fn places(&self, reader: &Reader, selector: &v1::Selector) -> Vec<select::Place> {
        let named = |feed: &str| {
            let of = (reader.name.clone(), feed.to_owned());
            self.world.named.get(&of).copied()
        };
        select::places(selector, &self.world.truth, named)
    }

    async fn open(&mut self, nth: usize, call: Call, plans: &[SelectorPlan]) -> Result<(), String> {
        if self
            .readers
            .get(&nth)
            .is_some_and(|reader| !self.is_done(reader))
        {
            return self.read(nth, 10).await;
        }
        self.past.extend(self.readers.remove(&nth));
        let call = if SESSIONS { call } else { Call::Subscribe };
        let mut reader = Reader::new(format!("r{nth}"), call);
        let selectors: Vec<_> = plans.iter().map(|plan| self.request(plan)).collect();
        self.tally.count("subscribers", 1);
        if call == Call::Session {
            let refused = reader
                .session(&self.world.incoming, &self.world.hub, None)
                .await?;
            expect_taken("hello", &refused)?;
            for (id, selector) in (0..).zip(selectors) {
                self.set(&mut reader, id, selector).await?;
            }
        } else {
            let places: Vec<_> = selectors.iter().map(|s| self.places(&reader, s)).collect();
            let asked = selectors.clone();
            let opened = reader.subscribe(&self.world.incoming, asked, None).await;
            opened.map_err(|status| format!("refused: {status}; {selectors:?}"))?;
            for ((id, selector), places) in (0..).zip(selectors).zip(places) {
                reader.begin(id, selector, places);
            }
        }
        self.readers.insert(nth, reader);
        Ok(())
    }

    /// Adds a selector to a session, or puts it in another's place.
    async fn set(
        &mut self,
        reader: &mut Reader,
        id: u32,
        selector: v1::Selector,
    ) -> Result<(), String> {
        let places = self.places(reader, &selector);
        let command = Command::Set(v1::SetSelector {
            selector_id: id,
            selector: Some(selector.clone()),
        });
        let refused = reader.command(&self.world.hub, command).await?;
        if refused == "CLOSED" {
            return Ok(());
        }
        expect_taken(&format!("{selector:?}"), &refused)?;
        reader.begin(id, selector, places);
        Ok(())
    }

    async fn read(&mut self, nth: usize, messages: u64) -> Result<(), String> {
        let Some(reader) = self.readers.get_mut(&nth) else {
            return Ok(());
        };
        if !reader.is_open() {
            return self.resume(nth, ResumeBy::Token).await;
        }
        for _ in 0..messages {
            if reader.read_now(&self.world.hub).await? != Read::Some {
                return Ok(());
            }
        }
        self.tally.count("stops of a reader", 1);
        Ok(())
    }

    async fn resume(&mut self, nth: usize, by: ResumeBy) -> Result<(), String> {
        let Some(mut reader) = self.readers.remove(&nth) else {
            return Ok(());
        };
        let resumed = self.resume_reader(&mut reader, by).await;
        self.readers.insert(nth, reader);
        resumed
    }

    pub(super) async fn resume_reader(
        &mut self,
        reader: &mut Reader,
        by: ResumeBy,
    ) -> Result<(), String> {
        reader.cut();
        let (incoming, hub) = (self.world.incoming.clone(), Arc::clone(&self.world.hub));
        if let Some(token) = reader.token(by) {
            self.tally.count("resumes by token", 1);
            if reader.call == Call::Session {
                let refused = reader.session(&incoming, &hub, Some(token)).await?;
                expect_taken("a token", &refused)?;
            } else {
                let opened = reader.subscribe(&incoming, vec![], Some(token)).await;
                opened.map_err(|status| format!("a token was refused: {status}"))?;
            }
            reader.reopened(Reopened::AtOrBefore);
            return Ok(());
        }
        self.tally.count("resumes by cursors", 1);
        let going_on = reader.going_on();
        if reader.call == Call::Session {
            reader.reopened(Reopened::Behind);
            let refused = reader.session(&incoming, &hub, None).await?;
            expect_taken("hello", &refused)?;
            for (id, selector, next) in going_on {
                self.set_again(reader, id, selector, next).await?;
            }
            return Ok(());
        }
        let anew: Vec<_> = going_on
            .iter()
            .filter(|(_, _, next)| next.is_none())
            .collect();
        let places: Vec<_> = anew
            .iter()
            .map(|(_, s, _)| self.places(reader, s))
            .collect();
        let asked = going_on.iter().map(|(_, selector, _)| selector.clone());
        let opened = reader.subscribe(&incoming, asked.collect(), None).await;
        opened.map_err(|status| format!("cursors were refused: {status}"))?;
        reader.reopened(Reopened::Behind);
        for ((id, selector, _), places) in anew.into_iter().zip(places) {
            reader.begin(*id, selector.clone(), places);
        }
        Ok(())
    }

    /// A selector of a session that was cut.
    async fn set_again(
        &mut self,
        reader: &mut Reader,
        id: u32,
        selector: v1::Selector,
        next: Option<Cursor>,
    ) -> Result<(), String> {
        if next.is_none() {
            return self.set(reader, id, selector).await;
        }
        let command = Command::Set(v1::SetSelector {
            selector_id: id,
            selector: Some(selector),
        });
        let refused = reader.command(&self.world.hub, command).await?;
        if refused == "CLOSED" {
            return Ok(());
        }
        expect_taken("a cursor", &refused)
    }

    async fn command(&mut self, nth: usize, of: usize, plan: &CommandPlan) -> Result<(), String> {
        let Some(mut reader) = self.readers.remove(&nth) else {
            return Ok(());
        };
        let mut done = Ok(());
        if reader.call == Call::Session && reader.is_open() {
            done = self.command_to(&mut reader, of, plan).await;
        }
        self.readers.insert(nth, reader);
        done
    }

    async fn command_to(
        &mut self,
        reader: &mut Reader,
        of: usize,
        plan: &CommandPlan,
    ) -> Result<(), String> {
        let ids: Vec<u32> = reader.asked.keys().copied().collect();
        let id = ids.get(of % ids.len().max(1)).copied();
        match (plan, id) {
            (CommandPlan::Add(plan), last) => {
                self.tally.count("selectors added", 1);
                let id = ids.last().or(last.as_ref()).map_or(0, |last| last + 1);
                let selector = self.request(plan);
                self.set(reader, id, selector).await
            }
            (CommandPlan::Replace(plan), Some(id)) => {
                self.tally.count("selectors replaced", 1);
                let selector = self.request(plan);
                self.set(reader, id, selector).await
            }
            (CommandPlan::Remove, Some(id)) => {
                self.tally.count("selectors removed", 1);
                let command = Command::Remove(v1::RemoveSelector { selector_id: id });
                let refused = reader.command(&self.world.hub, command).await?;
                // It may have come to its end before.
                if refused.is_empty() {
                    reader.remove(id);
                }
                Ok(())
            }
            (CommandPlan::Change(fidelity, slow), Some(id)) => {
                let fidelity = fidelity.and_then(select::fidelity);
                let asked = &reader.asked[&id];
                let is_relieved = asked.slow_policy.as_ref().map(v1::SlowPolicy::action)
                    != Some(v1::SlowAction::CatchUp);
                let fidelity_then = fidelity.or(asked.fidelity);
                let slow = if is_relieved && select::is_bars(fidelity_then.as_ref()) {
                    Some(slow.unwrap_or(SlowPlan::CatchUp))
                } else {
                    *slow
                };
                let slow_policy =
                    slow.and_then(|slow| select::slow_policy(slow, fidelity_then.as_ref()));
                let change = v1::ChangeSelector {
                    selector_id: id,
                    fidelity,
                    slow_policy,
                };
                self.change(reader, change).await
            }
            (CommandPlan::Replace(_) | CommandPlan::Remove | CommandPlan::Change(..), None) => {
                Ok(())
            }
        }
    }

    async fn change(
        &mut self,
        reader: &mut Reader,
        change: v1::ChangeSelector,
    ) -> Result<(), String> {
        let refused = reader
            .command(&self.world.hub, Command::Change(change))
            .await?;
        // A refused one changes nothing, which the check sees.
        if refused.is_empty() {
            self.tally.count("fidelity changes", 1);
            reader.change(change);
        }
        Ok(())
    }

    /// Says of the first selector that has a place that all before it is processed.
    async fn acknowledge(&mut self, nth: usize) -> Result<(), String> {
        let Some(reader) = self.readers.get(&nth).filter(|_| SESSIONS) else {
            return Ok(());
        };
        let placed = reader.ledger.lanes().find_map(|(_, lane)| {
            let next = lane.next()?;
            let life = self.world.truth.present(lane.feed())?;
            let is_there = next.epoch == life.epoch && next.offset <= life.bounds.tail;
            is_there.then(|| (lane.feed().to_owned(), next))
        });
        let Some((feed, next)) = placed else {
            return Ok(());
        };
        let request = v1::AcknowledgeCursorRequest {
            subscriber: reader.name.clone(),
            cursor: Some(v1::Cursor {
                feed: feed.clone(),
                epoch: next.epoch,
                offset: next.offset,
            }),
        };
        let named = self
            .world
            .named
            .entry((reader.name.clone(), feed))
            .or_insert(next);
        if (named.epoch, named.offset) < (next.epoch, next.offset) {
            *named = next;
        }
        // Several share a flush, some time later.
        let mut client = connect(&self.world.incoming).await;
        let acknowledged = in_time(client.acknowledge_cursor(request)).await;
        acknowledged.map_err(|status| format!("no acknowledgement: {status}"))?;
        self.tally.count("acknowledged cursors", 1);
        Ok(())
    }

    /// Some read up to the end of their streams, and have its token; the others are cut.
    async fn restart(&mut self, stop: Stop) -> Result<(), String> {
        self.tally.count("restarts", 1);
        self.world.announce_stop();
        for (nth, reader) in &mut self.readers {
            let stays = stop == Stop::Clean && nth.is_multiple_of(2);
            while stays && reader.read(&self.world.hub).await? == Read::Some {}
            reader.cut();
        }
        self.world.restart(stop).await
    }
}

fn expect_taken(what: &str, refused: &str) -> Result<(), String> {
    if refused.is_empty() || refused == "CLOSED" {
        return Ok(());
    }
    Err(format!("{what} was refused: {refused}"))
}
