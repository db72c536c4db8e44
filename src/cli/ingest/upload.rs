//! Rows on their way into an `Uploader`: paced, sent in time, and reported on.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::anyhow;
use indicatif::ProgressBar;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Outcome, Remote,
    input::{Input, Row},
    note,
    pace::Pace,
    rows::Rows,
};
use crate::{
    cli::plain,
    client::{UploadError, UploadSummary, Uploader},
    proto::v1,
};

/// A record of a pipe is sent this long after it came, at the latest.
const LINGER: Duration = Duration::from_millis(20);
/// And known to be durable this long after.
const COMMIT_AFTER: Duration = Duration::from_secs(1);
/// What an interrupted upload may take to learn what is durable.
const LAST_COMMIT: Duration = Duration::from_secs(5);
const SHOWN_FAULTS: u64 = 10;

pub(super) struct Upload {
    uploader: Uploader,
    pace: Pace,
    bar: ProgressBar,
    rows: Rows,
    broken: u64,
    /// Since when the oldest record waits to be sent.
    unsent: Option<Instant>,
    /// Since when the oldest record waits to be durable.
    uncommitted: Option<Instant>,
}

impl Upload {
    pub(super) fn new(uploader: Uploader, pace: Pace, bar: ProgressBar) -> Self {
        Self {
            uploader,
            pace,
            bar,
            rows: Rows::default(),
            broken: 0,
            unsent: None,
            uncommitted: None,
        }
    }

    /// Uploads until the input ends or the user stops it.
    pub(super) async fn run(
        &mut self,
        mut input: mpsc::Receiver<Input>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Outcome> {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            ended = self.take_all(&mut input) => Some(ended),
        };
        self.bar.finish_and_clear();
        match ended {
            Some(Ok(())) => Ok(Outcome::Done),
            // The rows before a broken place of the file are sent; they count.
            Some(Err(error)) if !error.is::<UploadError>() => {
                self.uploader.commit().await?;
                Err(error)
            }
            Some(Err(error)) => Err(error),
            None => {
                let committed = timeout(LAST_COMMIT, self.uploader.commit()).await;
                if !matches!(committed, Ok(Ok(_))) {
                    note("the last records may not be stored: the server did not say");
                }
                Ok(Outcome::Interrupted)
            }
        }
    }

    async fn take_all(&mut self, input: &mut mpsc::Receiver<Input>) -> anyhow::Result<()> {
        loop {
            let due = self.due();
            let next = tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.tidy().await?;
                    continue;
                }
                next = input.recv() => next,
            };
            match next {
                None => break,
                Some(Input::Row(row)) => self.row(row).await?,
                Some(Input::Broken { count, first }) => self.broken(count, &first),
                Some(Input::Failed(error)) => return Err(error),
            }
        }
        self.uploader.commit().await?;
        Ok(())
    }

    async fn row(&mut self, row: Row) -> anyhow::Result<()> {
        let count = row.records.len();
        let due = self.pace.due(count, row.event_time, Instant::now());
        if let Some(due) = due {
            self.wait_until(due).await?;
        }
        self.rows.add(self.uploader.taken(), row.line, count as u64);
        for record in row.records {
            self.uploader.send(record).await?;
        }
        let now = Instant::now();
        self.unsent.get_or_insert(now);
        self.uncommitted.get_or_insert(now);
        self.bar.set_position(row.consumed);
        Ok(())
    }

    /// Waits, but lets no record wait for it.
    async fn wait_until(&mut self, due: Instant) -> anyhow::Result<()> {
        while let Some(tidy) = self.due().filter(|tidy| *tidy < due) {
            sleep_until(tidy).await;
            self.tidy().await?;
        }
        sleep_until(due).await;
        Ok(())
    }

    /// When something must be sent or committed.
    fn due(&self) -> Option<Instant> {
        let send = self.unsent.map(|since| since + LINGER);
        let commit = self.uncommitted.map(|since| since + COMMIT_AFTER);
        send.into_iter().chain(commit).min()
    }

    async fn tidy(&mut self) -> Result<(), UploadError> {
        let committed = self
            .uncommitted
            .is_some_and(|since| since.elapsed() >= COMMIT_AFTER);
        if committed {
            self.uploader.commit().await?;
            self.uncommitted = None;
        } else {
            self.uploader.push_out().await?;
        }
        self.unsent = None;
        Ok(())
    }

    fn broken(&mut self, count: u64, first: &[String]) {
        for fault in first {
            self.broken += 1;
            if self.broken <= SHOWN_FAULTS {
                self.bar.suspend(|| note(fault));
            }
        }
        self.broken += count - first.len() as u64;
    }

    /// Says what became of the upload, also when it failed.
    pub(super) fn report(
        &self,
        outcome: anyhow::Result<Outcome>,
        remote: &Remote,
        feed: &str,
    ) -> anyhow::Result<Outcome> {
        let summary = self.uploader.summary();
        self.refusals(summary);
        let text = summary_text(summary, self.broken);
        match outcome {
            Err(error) => {
                if *summary != UploadSummary::default() {
                    note(&format!("before it failed: {text}"));
                }
                Err(explained(error, remote, feed))
            }
            Ok(outcome) => {
                writeln!(io::stdout().lock(), "{text}")?;
                let partly = summary.refused + self.broken > 0;
                let partly = partly && outcome == Outcome::Done;
                Ok(if partly { Outcome::Partly } else { outcome })
            }
        }
    }

    fn refusals(&self, summary: &UploadSummary) {
        let shown = SHOWN_FAULTS.saturating_sub(self.broken);
        let shown = usize::try_from(shown).unwrap_or(0);
        for refusal in summary.refusals.iter().take(shown) {
            note(&self.refusal_text(refusal));
        }
        let all = summary.refused + self.broken;
        if all > SHOWN_FAULTS {
            let more = plain::count(all - SHOWN_FAULTS);
            note(&format!("and {more} more"));
        }
    }

    fn refusal_text(&self, refusal: &v1::Refusal) -> String {
        let place = match self.rows.line(refusal.index) {
            Some(line) => format!("row {line}"),
            None => format!("record {}", refusal.index),
        };
        let field = match refusal.field.as_str() {
            "" => String::new(),
            field => format!(", {field}"),
        };
        format!("{place}{field}: {} ({})", refusal.message, refusal.reason)
    }
}

fn explained(error: anyhow::Error, remote: &Remote, feed: &str) -> anyhow::Error {
    match error.downcast::<UploadError>() {
        Ok(UploadError::Status(status)) => remote.explain(&status),
        Ok(UploadError::Cut { cause, undecided }) => anyhow!(
            "the connection broke ({}), and up to {} records before that may or may not be stored; look at the feed's end with `ringfeed feeds get {feed}`, and pass --producer NAME to make uploads that go on by themselves",
            cause.message(),
            plain::count(undecided),
        ),
        Ok(error @ UploadError::TooLarge { .. }) => error.into(),
        Err(error) => error,
    }
}

/// `12,154 stored, 0 duplicates, 0 refused; offsets 0..12154, durable`.
fn summary_text(summary: &UploadSummary, broken: u64) -> String {
    let refused = summary.refused + broken;
    let offsets = summary.offsets.filter(|_| summary.stored > 0);
    if summary.stored == 1 && summary.duplicates + refused == 0 {
        let offset = offsets.map_or_else(String::new, |span| format!(", offset {}", span.from));
        return format!("1 stored{offset}, durable");
    }
    let offsets = match offsets {
        None => String::new(),
        // The offsets of a call that was cut are not told.
        Some(span) if summary.resumed > 0 => format!("; offsets up to {}, durable", span.to),
        Some(span) => format!("; offsets {}..{}, durable", span.from, span.to),
    };
    format!(
        "{} stored, {} duplicates, {} refused{offsets}",
        plain::count(summary.stored),
        plain::count(summary.duplicates),
        plain::count(refused),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn a_summary_is_one_line() {
        let mut summary = UploadSummary {
            stored: 1,
            offsets: Some(Span::new(812, 813)),
            ..UploadSummary::default()
        };
        assert_eq!(summary_text(&summary, 0), "1 stored, offset 812, durable");
        summary.stored = 12_154;
        summary.offsets = Some(Span::new(0, 12_154));
        assert_eq!(
            summary_text(&summary, 2),
            "12,154 stored, 0 duplicates, 2 refused; offsets 0..12154, durable"
        );
        let again = UploadSummary {
            duplicates: 5,
            ..UploadSummary::default()
        };
        assert_eq!(summary_text(&again, 0), "0 stored, 5 duplicates, 0 refused");
    }
}
