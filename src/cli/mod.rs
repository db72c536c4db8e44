//! The command line: one file per command. Parses, runs, and turns the end into an exit code.

mod args;
mod bench;
mod check;
mod child;
mod cursor_file;
mod demo;
mod exit;
mod feeds;
mod ingest;
mod keys;
mod latest;
pub mod mapping;
pub mod output;
mod plain;
mod producers;
mod remarks;
mod remote;
pub mod serve;
mod subscribe;
mod subscribers;
mod telemetry;
mod token;
mod watch;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use self::exit::Outcome;

/// Live feeds of stock ticks and sensor readings: durable in a bounded ring, followed and resumed
/// by offset
#[derive(Debug, Parser)]
#[command(name = "ringfeed", version, after_help = exit::EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::ServeArgs>),
    Config(Box<serve::ConfigArgs>),
    Demo(demo::DemoArgs),
    Ingest(Box<ingest::IngestArgs>),
    Subscribe(Box<subscribe::SubscribeArgs>),
    Watch(Box<watch::WatchArgs>),
    Latest(latest::LatestArgs),
    Keys(Box<keys::KeysArgs>),
    Producers(producers::ProducersArgs),
    Subscribers(subscribers::SubscribersArgs),
    Feeds(feeds::FeedsArgs),
    Token(Box<token::TokenArgs>),
    Check(check::CheckArgs),
    Bench(Box<bench::BenchArgs>),
}

/// The whole process: parses its arguments, runs the command, says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout; when that is closed, nobody wants to know.
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match cli.command.run() {
        Ok(outcome) => outcome.into(),
        Err(error) => exit::report(&error),
    }
}

impl Command {
    fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Serve(args) => on_all_cores(serve::run(*args)).map(|()| Outcome::Done),
            Self::Config(args) => serve::config(*args).map(|()| Outcome::Done),
            Self::Demo(args) => on_all_cores(demo::run(args)),
            Self::Ingest(args) => block_on(args.run()),
            Self::Subscribe(args) => block_on(args.run()),
            Self::Watch(args) => block_on(args.run()),
            Self::Latest(args) => block_on(args.run()),
            Self::Keys(args) => block_on(args.run()),
            Self::Producers(args) => block_on(args.run()),
            Self::Subscribers(args) => block_on(args.run()),
            Self::Feeds(args) => block_on(args.run()),
            Self::Token(args) => block_on(args.run()),
            Self::Check(args) => args.run(),
            Self::Bench(args) => args.run(),
        }
    }
}

fn on_all_cores<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(command)
}

/// Runs a client command: one thread for it, a second one for its connection.
fn block_on(command: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let outcome = command.await;
        telemetry::end().await;
        outcome
    });
    // A thread that reads stdin cannot be interrupted.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Cli, Command, args::ConnectArgs};

    fn connection(line: &str) -> ConnectArgs {
        let cli = Cli::try_parse_from(line.split(' '));
        let command = cli
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .command;
        if let Command::Feeds(args) = command {
            return args.connect;
        }
        let Command::Keys(args) = command else {
            panic!("{command:?}")
        };
        args.connect
    }

    #[test]
    fn where_the_server_is_may_stand_before_or_behind_an_action() {
        for line in [
            "ringfeed feeds FLAGS list",
            "ringfeed feeds list FLAGS",
            "ringfeed feeds create f --max-bytes 1GiB FLAGS",
            "ringfeed keys FLAGS f set k --unit Cel",
            "ringfeed keys f FLAGS delete k",
            "ringfeed keys f set k FLAGS --unit Cel",
            "ringfeed keys f FLAGS",
        ] {
            let flags = "--endpoint http://a:1 --endpoint http://b:2 --token t \
                --tls-ca ca --tls-cert cert --tls-key key --tls-domain d --verbose";
            let given = connection(&line.replace("FLAGS", flags));
            assert_eq!(given.endpoint, ["http://a:1", "http://b:2"], "{line}");
            assert!(given.token.is_some(), "{line}");
            let files = [given.tls_ca, given.tls_cert, given.tls_key];
            let files = files.map(|file| file.unwrap().display().to_string());
            assert_eq!(files, ["ca", "cert", "key"], "{line}");
            assert_eq!(given.tls_domain.as_deref(), Some("d"), "{line}");
        }
        for alone in ["--tls-cert cert", "--token t --token-file f"] {
            for line in ["ringfeed feeds FLAGS list", "ringfeed feeds list FLAGS"] {
                let line = line.replace("FLAGS", alone);
                assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
