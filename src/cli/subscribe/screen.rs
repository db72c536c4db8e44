//! What a subscription looks like: records on stdout, everything else on stderr, and the place
//! behind what was surely written.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::note;
use crate::{
    cli::{
        output::{BarEntry, Entry, Printer},
        plain,
        remarks::{behind, gap_text, mode_text, narrowed_text},
    },
    client::Event,
    model::{Cursor, Span, now},
    proto::{convert::std_duration, v1},
};

/// Eviction that is nearer than this is said without being asked.
const URGENT: Duration = Duration::from_secs(60);

/// Which heartbeats are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heartbeats {
    All,
    /// Those of a feed whose records are about to be lost for us.
    Urgent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Stop,
}

pub(super) struct Screen<W: Write> {
    printer: Printer<W>,
    infos: HashMap<(String, String), v1::KeyInfo>,
    /// Records still wanted.
    left: Option<u64>,
    heartbeats: Heartbeats,
    stop: CancellationToken,
    disconnected: bool,
    /// What was said of what we may not see: a server says it again after each reconnect.
    narrowed: Vec<v1::Narrowed>,
    /// Behind what was handed to the printer.
    printed: BTreeMap<String, Cursor>,
    /// Behind what was flushed.
    flushed: BTreeMap<String, Cursor>,
}

impl<W: Write> Screen<W> {
    pub(super) fn new(
        printer: Printer<W>,
        count: Option<u64>,
        heartbeats: Heartbeats,
        stop: CancellationToken,
    ) -> Self {
        Self {
            printer,
            infos: HashMap::new(),
            left: count,
            heartbeats,
            stop,
            disconnected: false,
            narrowed: vec![],
            printed: BTreeMap::new(),
            flushed: BTreeMap::new(),
        }
    }

    /// Where each feed stands after what was written and flushed.
    pub(super) fn flushed(&self) -> &BTreeMap<String, Cursor> {
        &self.flushed
    }

    /// Shows an event, and flushes it.
    pub(super) fn show(&mut self, event: Event) -> anyhow::Result<Flow> {
        self.tell_connection(&event);
        let flow = match event {
            Event::Records {
                feed,
                epoch,
                covers,
                records,
                ..
            } => self.records(&feed, epoch, covers, records)?,
            Event::Bars { batch, .. } => self.bars(&batch)?,
            Event::Snapshot { batch, .. } => self.snapshot(batch)?,
            Event::SnapshotComplete { feed, as_of, .. } => {
                self.tell(&format!(
                    "{feed}: this was the latest of each key as of offset {}; live from here",
                    as_of.offset
                ))?;
                self.place(&feed, as_of);
                Flow::GoOn
            }
            Event::ModeChanged { change, .. } => {
                self.tell(&mode_text(&change))?;
                Flow::GoOn
            }
            Event::Gap { feed, gap, .. } => {
                self.tell(&gap_text(&feed, &gap))?;
                self.place(&feed, behind(&gap));
                Flow::GoOn
            }
            Event::CaughtUp { feed, next, .. } => {
                self.place(&feed, next);
                Flow::GoOn
            }
            Event::KeyInfo(update) => {
                let info = update.info.unwrap_or_default();
                self.infos.insert((update.feed, update.key), info);
                Flow::GoOn
            }
            Event::Heartbeat { heartbeat, .. } => {
                self.heartbeat(&heartbeat);
                Flow::GoOn
            }
            Event::Narrowed { narrowed, .. } => {
                self.narrowed(narrowed)?;
                Flow::GoOn
            }
            Event::SelectorEnded { .. } | Event::Disconnected { .. } => Flow::GoOn,
        };
        self.printer.flush()?;
        self.flushed.clone_from(&self.printed);
        Ok(flow)
    }

    fn records(
        &mut self,
        feed: &str,
        epoch: u64,
        covers: Span,
        records: Vec<Bytes>,
    ) -> anyhow::Result<Flow> {
        for record in records {
            let offset = self.record(feed, epoch, record)? + 1;
            if self.is_enough() {
                self.place(feed, Cursor { epoch, offset });
                return Ok(Flow::Stop);
            }
        }
        let offset = covers.to;
        self.place(feed, Cursor { epoch, offset });
        Ok(Flow::GoOn)
    }

    /// The latest of each key; the place behind it is only told when it is complete.
    fn snapshot(&mut self, batch: v1::SnapshotBatch) -> anyhow::Result<Flow> {
        let epoch = batch.as_of.unwrap_or_default().epoch;
        for record in batch.records {
            self.record(&batch.feed, epoch, record)?;
            if self.is_enough() {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::GoOn)
    }

    fn bars(&mut self, batch: &v1::BarBatch) -> anyhow::Result<Flow> {
        for bar in &batch.bars {
            let entry = BarEntry {
                feed: &batch.feed,
                epoch: batch.epoch,
                bar,
            };
            self.printer.bar(&entry, now())?;
            self.left = self.left.map(|left| left - 1);
            if self.is_enough() {
                return Ok(Flow::Stop);
            }
        }
        let settled = batch.covers.filter(|covers| covers.from < covers.to);
        if let Some(v1::OffsetRange { to: offset, .. }) = settled {
            let epoch = batch.epoch;
            self.place(&batch.feed, Cursor { epoch, offset });
        }
        Ok(Flow::GoOn)
    }

    fn is_enough(&self) -> bool {
        self.left == Some(0) || self.stop.is_cancelled()
    }

    /// Says something in the order in which it happened, also where both go to one terminal.
    fn tell(&mut self, text: &str) -> io::Result<()> {
        self.printer.flush()?;
        note(text);
        Ok(())
    }

    fn narrowed(&mut self, narrowed: v1::Narrowed) -> io::Result<()> {
        if self.narrowed.contains(&narrowed) {
            return Ok(());
        }
        self.tell(&narrowed_text(&narrowed))?;
        self.narrowed.push(narrowed);
        Ok(())
    }

    /// Prints a record and returns its offset.
    fn record(&mut self, feed: &str, epoch: u64, bytes: Bytes) -> anyhow::Result<u64> {
        let record = v1::Record::decode(bytes)?;
        let info = if self.infos.is_empty() {
            None
        } else {
            self.infos.get(&(feed.to_owned(), record.key.clone()))
        };
        let entry = Entry {
            feed,
            epoch,
            record: &record,
            info,
        };
        self.printer.record(&entry, now())?;
        self.left = self.left.map(|left| left - 1);
        Ok(record.offset)
    }

    fn place(&mut self, feed: &str, place: Cursor) {
        match self.printed.get_mut(feed) {
            Some(known) => *known = place,
            None => drop(self.printed.insert(feed.to_owned(), place)),
        }
    }

    /// Says once that the connection is gone, and once that it is back.
    fn tell_connection(&mut self, event: &Event) {
        let now_gone = match event {
            Event::Disconnected { reason, .. } => Some(reason),
            Event::Records { .. }
            | Event::Gap { .. }
            | Event::CaughtUp { .. }
            | Event::Heartbeat { .. }
            | Event::KeyInfo(_)
            | Event::Bars { .. }
            | Event::Snapshot { .. }
            | Event::SnapshotComplete { .. }
            | Event::ModeChanged { .. }
            | Event::Narrowed { .. }
            | Event::SelectorEnded { .. } => None,
        };
        match (self.disconnected, now_gone) {
            (false, Some(reason)) => note(&format!("connection lost ({reason}), connecting again")),
            (true, None) => note("connected again, going on where it stopped"),
            (true, Some(_)) | (false, None) => {}
        }
        self.disconnected = now_gone.is_some();
    }

    fn heartbeat(&self, heartbeat: &v1::Heartbeat) {
        let eta = heartbeat.eviction_eta.as_ref().and_then(std_duration);
        let urgent = eta.is_some_and(|eta| eta < URGENT);
        if self.heartbeats == Heartbeats::Urgent && !urgent {
            return;
        }
        // Globs that match no feed have no place.
        let Some(cursor) = &heartbeat.cursor else {
            return;
        };
        let next = heartbeat.next.as_ref().map_or(0, |next| next.offset);
        let lag = heartbeat.lag.as_ref().and_then(std_duration);
        let lag = lag.filter(|lag| !lag.is_zero());
        let lag = lag.map_or_else(String::new, |lag| format!(", {}", plain::duration(lag)));
        let evicted = eta.map_or_else(String::new, |eta| {
            format!("; eviction reaches it in {}", plain::duration(eta))
        });
        note(&format!(
            "{}: at {} of {next}, {} records behind{lag}{evicted}",
            cursor.feed,
            cursor.offset,
            plain::count(heartbeat.lag_records),
        ));
    }
}

impl<W: Write> std::fmt::Debug for Screen<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("flushed", &self.flushed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Format, Paper};

    struct Pipe {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for &mut Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() > self.room {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.room -= bytes.len();
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn screen(pipe: &mut Pipe, count: Option<u64>) -> Screen<&mut Pipe> {
        let printer = Printer::new(Format::Jsonl, Paper::PIPE, pipe);
        Screen::new(printer, count, Heartbeats::Urgent, CancellationToken::new())
    }

    fn batch(from: u64, to: u64) -> Event {
        let record = |offset| {
            let record = v1::Record {
                key: "k".to_owned(),
                offset,
                ..v1::Record::default()
            };
            record.encode_to_vec().into()
        };
        Event::Records {
            selector: 0,
            feed: "f".to_owned(),
            epoch: 1,
            covers: Span::new(from, to + 5),
            records: (from..to).map(record).collect(),
        }
    }

    fn offset(screen: &Screen<&mut Pipe>) -> Option<u64> {
        screen.flushed().get("f").map(|place| place.offset)
    }

    #[test]
    fn the_place_is_behind_the_last_record_that_was_wanted() {
        let mut pipe = Pipe {
            room: usize::MAX,
            written: Vec::new(),
        };
        let mut screen = screen(&mut pipe, Some(3));
        assert_eq!(screen.show(batch(0, 2)).unwrap(), Flow::GoOn);
        assert_eq!(offset(&screen), Some(7));
        assert_eq!(screen.show(batch(7, 9)).unwrap(), Flow::Stop);
        assert_eq!(offset(&screen), Some(8));
        drop(screen);
        assert_eq!(pipe.written.iter().filter(|&&b| b == b'\n').count(), 3);
    }

    #[test]
    fn what_could_not_be_written_is_not_passed() {
        let mut pipe = Pipe {
            room: 200,
            written: Vec::new(),
        };
        let mut screen = screen(&mut pipe, None);
        screen.show(batch(0, 1)).unwrap();
        let before = offset(&screen);
        assert!(screen.show(batch(6, 100)).is_err());
        assert_eq!(offset(&screen), before);
    }

    fn snapshot(offsets: &[u64]) -> Event {
        let records = offsets.iter().map(|&offset| {
            let record = v1::Record {
                key: format!("k{offset}"),
                offset,
                ..v1::Record::default()
            };
            record.encode_to_vec().into()
        });
        Event::Snapshot {
            selector: 0,
            batch: v1::SnapshotBatch {
                feed: "f".to_owned(),
                as_of: Some(v1::Cursor::default()),
                records: records.collect(),
            },
        }
    }

    fn wide() -> Pipe {
        Pipe {
            room: usize::MAX,
            written: Vec::new(),
        }
    }

    #[test]
    fn the_place_is_behind_a_snapshot_only_when_it_is_complete() {
        let mut pipe = wide();
        let mut screen = screen(&mut pipe, None);
        screen.show(snapshot(&[3, 1])).unwrap();
        assert_eq!(offset(&screen), None);
        let as_of = Cursor {
            epoch: 1,
            offset: 9,
        };
        let complete = Event::SnapshotComplete {
            selector: 0,
            feed: "f".to_owned(),
            as_of,
        };
        screen.show(complete).unwrap();
        assert_eq!(offset(&screen), Some(9));
    }

    #[test]
    fn records_of_a_snapshot_and_bars_count_as_well() {
        let mut pipe = wide();
        let mut screen = screen(&mut pipe, Some(3));
        assert_eq!(screen.show(snapshot(&[3])).unwrap(), Flow::GoOn);
        let bars = |from, to| Event::Bars {
            selector: 0,
            batch: v1::BarBatch {
                feed: "f".to_owned(),
                epoch: 1,
                covers: Some(v1::OffsetRange { from, to }),
                bars: vec![v1::ViewBar::default()],
            },
        };
        assert_eq!(screen.show(bars(0, 0)).unwrap(), Flow::GoOn);
        assert_eq!(offset(&screen), None, "nothing was settled");
        assert_eq!(screen.show(bars(3, 7)).unwrap(), Flow::Stop);
        drop(screen);
        assert_eq!(pipe.written.iter().filter(|&&b| b == b'\n').count(), 3);
    }
}
