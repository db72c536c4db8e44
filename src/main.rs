//! Parse, run, exit code.
use clap::Parser;
#[derive(Parser)]
enum Cli {
    Serve(ringfeed::cli::serve::ServeArgs),
    Config(ringfeed::cli::serve::ConfigArgs),
    Demo(ringfeed::cli::demo::DemoArgs),
}
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Serve(a) => ringfeed::cli::serve::run(a).await,
        Cli::Config(a) => ringfeed::cli::serve::config(a),
        Cli::Demo(a) => ringfeed::cli::demo::run(a).await.map(|v| println!("{v:?}")),
    }
}
