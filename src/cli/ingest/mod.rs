//! `ringfeed ingest`: uploads a file or a pipe, at full speed or paced, and says what became of it.

mod input;
mod pace;
mod rows;
mod upload;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tonic::Code;

use self::{pace::Pace, upload::Upload};
use super::{
    args::{ConnectArgs, Rate, Speed},
    exit::{Outcome, Usage, note},
    mapping::{self, InputFormat, Mapping, Source},
    remote::{Remote, stop_signal},
};
use crate::{
    client::{UploadEvent, UploadOptions, Uploader, is_over_limit},
    proto::v1,
};

/// Upload records from a file or stdin
///
/// JSON lines as `subscribe` prints them, its CSV, or any CSV with a mapping. A file is uploaded
/// under a name of its own, so that uploading it again stores only what is new.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  echo '{\"key\":\"pi17.temp\",\"value\":21.5}' | ringfeed ingest sensors\n  ringfeed ingest prices --file prices.csv --mapping prices.mapping.toml\n  ringfeed ingest --guess prices.csv > prices.mapping.toml"
)]
pub(super) struct IngestArgs {
    /// The mapping's feed when left out
    feed: Option<String>,
    /// File to read, - for stdin; gzip is recognised
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// By the file's name or first byte when left out
    #[arg(long, value_enum)]
    format: Option<FormatName>,
    /// How the columns of a CSV become records; FILE.mapping.toml beside the file by default
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// Propose a mapping for this CSV, and upload nothing
    // Not `exclusive`: that would also exclude what the environment says of the connection.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["feed", "file", "mapping"])]
    guess: Option<PathBuf>,
    /// Records per second at the most, for instance 500/s or 30/m
    #[arg(long, conflicts_with = "speed")]
    rate: Option<Rate>,
    /// Keep the recorded distances between event times, this much faster, for instance 10x
    #[arg(long)]
    speed: Option<Speed>,
    /// Name of the uploader: its records are numbered from 1 and stored once
    #[arg(long, value_name = "NAME", conflicts_with = "no_producer")]
    producer: Option<String>,
    /// Store records as they come, again if they are sent again
    #[arg(long)]
    no_producer: bool,
    /// Most records of a message
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = batch)]
    batch: usize,
    /// Refuse a whole message for one invalid record in it
    #[arg(long)]
    atomic: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Csv,
    Jsonl,
}

impl From<FormatName> for InputFormat {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Csv => Self::Csv,
            FormatName::Jsonl => Self::Jsonl,
        }
    }
}

fn batch(text: &str) -> Result<usize, Usage> {
    let number = text.parse().ok().filter(|&n| (1..=100_000).contains(&n));
    number.ok_or_else(|| Usage::new(format!("{text:?} is not between 1 and 100,000")))
}

impl IngestArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        if let Some(file) = &self.guess {
            let text = mapping::guess_file(file).map_err(as_usage)?;
            io::stdout().lock().write_all(text.as_bytes())?;
            return Ok(Outcome::Done);
        }
        let remote = Remote::new(&self.connect)?;
        let mapping = self.mapping().map_err(as_usage)?;
        let feed = self.feed(mapping.as_ref())?;
        let stop = stop_signal()?;
        let format = self.format.map(InputFormat::from);
        let source = Source::open(&self.file, format, mapping.as_ref()).map_err(as_usage)?;
        let options = self.options(&feed, &source);
        let infos = mapping.as_ref().map_or(&[][..], Mapping::infos);
        let described = describe(&remote, &feed, infos).await?;
        let bar = progress_bar(&source);
        let uploader = Uploader::new(remote.connection(), options).with_listener({
            let bar = bar.clone();
            move |event| tell(&bar, &event)
        });
        let mut upload = Upload::new(uploader, Pace::new(self.rate, self.speed), bar);
        let outcome = upload.run(input::read(source), &stop).await;
        let outcome = upload.report(outcome, &remote, &feed)?;
        if described == Described::Later {
            describe(&remote, &feed, infos).await?;
        }
        Ok(outcome)
    }

    fn mapping(&self) -> anyhow::Result<Option<Mapping>> {
        let beside = || mapping::mapping_beside(&self.file);
        let path = self.mapping.clone().or_else(beside);
        path.as_deref().map(Mapping::load).transpose()
    }

    fn feed(&self, mapping: Option<&Mapping>) -> Result<String, Usage> {
        let of_mapping = || mapping.map(|mapping| mapping.feed().to_string());
        self.feed.clone().or_else(of_mapping).ok_or_else(|| {
            Usage::new("name the feed: `ringfeed ingest FEED`, or give a --mapping that names one")
        })
    }

    fn options(&self, feed: &str, source: &Source) -> UploadOptions {
        let stdin = self.file == Path::new("-");
        let of_file = || (!stdin).then(|| source.producer(feed));
        UploadOptions {
            producer: match &self.producer {
                Some(name) => Some(name.clone()),
                None if self.no_producer => None,
                None => of_file(),
            },
            batch_records: self.batch,
            mode: if self.atomic {
                v1::IngestMode::Atomic
            } else {
                v1::IngestMode::StoreValid
            },
            ..UploadOptions::to(feed)
        }
    }
}

/// What is wrong with a file or a mapping is wrong input: exit code 2.
fn as_usage(error: anyhow::Error) -> anyhow::Error {
    Usage::new(format!("{error:#}")).into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Described {
    Done,
    /// The feed does not exist yet: the upload may create it.
    Later,
}

/// Sends what the mapping knows of the keys.
async fn describe(
    remote: &Remote,
    feed: &str,
    infos: &[(mapping::Scope, v1::KeyInfo)],
) -> anyhow::Result<Described> {
    for (scope, info) in infos {
        let request = v1::SetKeyInfoRequest {
            feed: feed.to_owned(),
            scope: Some(scope.clone()),
            info: Some(info.clone()),
        };
        let set = remote.connection();
        let answer = set.call(|mut catalog, _| {
            let request = request.clone();
            async move { catalog.set_key_info(request).await }
        });
        match answer.await {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => return Ok(Described::Later),
            Err(status) if status.code() == Code::PermissionDenied => {
                note("the keys are not described: that is not permitted to this token");
                return Ok(Described::Done);
            }
            Err(status) => return Err(remote.explain(&status)),
        }
    }
    Ok(Described::Done)
}

/// Over the bytes of the file; on a terminal only.
fn progress_bar(source: &Source) -> ProgressBar {
    let (bar, template) = match source.total_bytes() {
        Some(total) => (
            ProgressBar::new(total),
            "{bar:30} {bytes}/{total_bytes} {eta} {msg}",
        ),
        None => (ProgressBar::no_length(), "{spinner} {bytes} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn tell(bar: &ProgressBar, event: &UploadEvent<'_>) {
    match event {
        UploadEvent::Durable(summary) => {
            bar.set_message(format!("{} stored", super::plain::count(summary.stored)));
        }
        UploadEvent::Resuming { cause, delay } if is_over_limit(cause) => {
            let seconds = delay.as_secs_f64();
            bar.set_message(format!("waiting {seconds:.1} s ({})", cause.message()));
        }
        UploadEvent::Resuming { cause, .. } => bar.suspend(|| {
            note(&format!(
                "connection lost ({}), connecting again",
                cause.message()
            ));
        }),
    }
}
