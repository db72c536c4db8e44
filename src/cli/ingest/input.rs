//! The thread that reads: files block, and stdin may for hours.

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::{cli::mapping::Source, model::UnixNanos};

/// Rows read ahead of the upload.
const AHEAD: usize = 256;

/// What comes from the file, in its order.
#[derive(Debug)]
pub(super) enum Input {
    Row(Row),
    /// Rows that gave no records: the first 100 with what is wrong, then only that there are more.
    Broken {
        count: u64,
        first: Vec<String>,
    },
    /// The file cannot be read any further.
    Failed(anyhow::Error),
}

#[derive(Debug)]
pub(super) struct Row {
    /// Its line in the file, from 1.
    pub(super) line: u64,
    /// Encoded.
    pub(super) records: Vec<Bytes>,
    /// Of the first record.
    pub(super) event_time: Option<UnixNanos>,
    /// Bytes of the file read so far.
    pub(super) consumed: u64,
}

/// Starts reading.
pub(super) fn read(source: Source) -> mpsc::Receiver<Input> {
    let (rows, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || Reader::new(source).run(&rows));
    receiver
}

struct Reader {
    source: Source,
    told: u64,
}

impl Reader {
    fn new(source: Source) -> Self {
        Self { source, told: 0 }
    }

    /// Reads until the end, or until nobody listens any more.
    fn run(mut self, rows: &mpsc::Sender<Input>) {
        let mut records = Vec::new();
        loop {
            let row = self.source.next_row(&mut records);
            if let Some(broken) = self.newly_broken()
                && rows.blocking_send(broken).is_err()
            {
                return;
            }
            let input = match row {
                Ok(None) => return,
                Ok(Some(line)) => Input::Row(Row {
                    line,
                    event_time: records
                        .first()
                        .and_then(|first| first.event_time_unix_nanos),
                    records: records
                        .drain(..)
                        .map(|r| r.encode_to_vec().into())
                        .collect(),
                    consumed: self.source.consumed_bytes(),
                }),
                Err(error) => Input::Failed(error),
            };
            let last = matches!(input, Input::Failed(_));
            if rows.blocking_send(input).is_err() || last {
                return;
            }
        }
    }

    fn newly_broken(&mut self) -> Option<Input> {
        let broken = self.source.broken();
        let count = broken.count - self.told;
        let told = usize::try_from(self.told).unwrap_or(usize::MAX);
        self.told = broken.count;
        let first = broken.first.iter().skip(told).map(ToString::to_string);
        (count > 0).then(|| Input::Broken {
            count,
            first: first.collect(),
        })
    }
}
