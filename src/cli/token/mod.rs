//! `ringfeed token`: makes, lists, takes back and tries the static tokens of a server. It works on
//! the file that the server reads; the server need not run.

mod bulk;

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{
    args::duration,
    exit::{Outcome, Usage, note},
    output::escaped,
    plain::{Align, Columns, Cut},
};
use crate::{
    client::Token,
    layers::{
        AuthOptions, Authenticator, Caller, Moment, NewToken, TokenEntry, TokenFile,
        TokenFileError, write_private,
    },
    server::Config,
};

const EXAMPLES: &str = "Examples:
  ringfeed token create --principal pi17 --scope 'ingest:sensors:{principal}.*'
  ringfeed token create --principal dash --scope 'subscribe:*' --scope 'observe:*' --expires 30d
  ringfeed token list
  ringfeed token revoke 0123456789abcdef
  ringfeed token verify < pi17.token

A server with auth.token_file = \"tokens.toml\" takes up changes within a second or two, and ends the
streams of tokens that were taken back.

Exit codes: 0 done, or the token is good · 1 failed, or the token is not good · 2 wrong usage or input";

const CREATE_EXAMPLES: &str = "What a scope allows, in feeds and keys that its globs match:
  ingest     upload records, and ask how far an own upload came
  subscribe  read records, and keep named cursors
  observe    see feeds, keys, producers and subscribers
  admin      create, change, trim and delete; and all of observe
  *          all of these

Examples:
  ringfeed token create --principal pi17 --scope 'ingest:sensors:{principal}.*' \\
    --output pi17.token
  ringfeed token create --principal dash --scope 'subscribe:*' --scope 'observe:*' --expires 30d
  ringfeed token create --from-csv devices.csv --scope 'ingest:sensors:{principal}.*' \\
    --output tokens.csv

  devices.csv:  principal,description
                pi17,\"Boiler, flow\"
                pi18,Attic";

const REVOKE_EXAMPLES: &str = "Examples:
  ringfeed token list
  ringfeed token revoke 0123456789abcdef";

const VERIFY_EXAMPLES: &str = "Examples:
  ringfeed token verify < pi17.token
  ringfeed token verify --config ringfeed.toml < jwt.txt

Exit codes: 0 the token is good · 1 it is not, or cannot be tried · 2 wrong usage or input";

/// Make, list, take back or try tokens
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token and print it, once; or one for each row of a CSV file
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// All tokens: whose they are and what they allow
    List {
        #[command(flatten)]
        file: FileArg,
    },
    /// Take tokens back; their open streams end
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke {
        /// The ids of the tokens, as `list` shows them
        #[arg(required = true)]
        id: Vec<String>,
        #[command(flatten)]
        file: FileArg,
    },
    /// Say whose a token is and what it allows, or why it is not good
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// Read from stdin when left out, which keeps it out of the process list
        #[arg(long, env = "RINGFEED_TOKEN", hide_env_values = true)]
        token: Option<Token>,
        #[command(flatten)]
        file: FileArg,
        /// Settings of a server, to try the token (a JWT, too) as that server would
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
}

#[derive(Args, Clone, Debug)]
struct FileArg {
    /// The server's auth.token_file
    #[arg(long, value_name = "FILE", default_value = "tokens.toml")]
    file: PathBuf,
}

#[derive(Args, Debug)]
struct CreateArgs {
    #[command(flatten)]
    file: FileArg,
    /// Whose token it is
    #[arg(
        long,
        required_unless_present = "from_csv",
        conflicts_with = "from_csv"
    )]
    principal: Option<String>,
    /// What it allows: action:feed-glob[:key-glob], with {principal} for the own name; repeatable
    #[arg(long, value_name = "SCOPE", required_unless_present = "from_csv")]
    scope: Vec<String>,
    /// Until when: a duration from now (30d), or a time (2026-12-31T00:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    expires: Option<Moment>,
    /// What it is for; `list` shows it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Make one for each row: columns principal and, unless --scope is given, scopes (with spaces
    /// between them); optionally description
    #[arg(long, value_name = "CSV")]
    from_csv: Option<PathBuf>,
    /// Where the token goes (of many: a CSV with principals and tokens), for you alone to read;
    /// stdout when left out
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl TokenArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        match self.action {
            Action::Create(args) if args.from_csv.is_some() => bulk::create(&args)?,
            Action::Create(args) => create(args)?,
            Action::List { file } => list(&file.file)?,
            Action::Revoke { id, file } => revoke(&file.file, &id)?,
            Action::Verify {
                token,
                file,
                config,
            } => verify(token, file.file, config).await?,
        }
        Ok(Outcome::Done)
    }
}

/// Reads `30d`, or a time.
fn moment(text: &str) -> Result<Moment, Usage> {
    if let Ok(time) = text.parse() {
        return Ok(Moment(time));
    }
    let bad = |_| {
        Usage::new(format!(
            "{text:?} is no time: write for instance 30d or 2026-12-31T00:00:00Z"
        ))
    };
    let end = Timestamp::now().checked_add(duration(text).map_err(bad)?);
    let end = end.and_then(|end| end.round(jiff::Unit::Second));
    end.map(Moment)
        .map_err(|_range| Usage::new(format!("{text} from now is beyond all calendars")))
}

fn create(args: CreateArgs) -> anyhow::Result<()> {
    let principal = args.principal.unwrap_or_default();
    let token = NewToken::make(principal, args.scope, args.expires, args.description);
    let token = token.map_err(|error| Usage::new(error.to_string()))?;
    let text = format!("{}\n", token.text.reveal());
    add(
        &args.file.file,
        vec![token.entry],
        text.as_bytes(),
        args.output,
    )?;
    note("this token is not shown again: only its hash is kept");
    Ok(())
}

/// Adds tokens to the file unless what is handed out cannot be written: what nobody got is not kept.
fn add(
    path: &Path,
    entries: Vec<TokenEntry>,
    handed_out: &[u8],
    output: Option<PathBuf>,
) -> anyhow::Result<()> {
    if let Some(output) = output.as_ref().filter(|output| output.exists()) {
        let output = output.display();
        return Err(Usage::new(format!("{output} exists: what is in it would be lost")).into());
    }
    let added = TokenFile::edit(path, |file| {
        file.tokens.extend(entries);
        let written = match output {
            Some(output) => write_private(&output, handed_out),
            None => io::stdout().lock().write_all(handed_out),
        };
        written.map_err(TokenFileError::Io)
    });
    added.with_context(|| format!("cannot add to {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<TokenFile> {
    TokenFile::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn list(path: &Path) -> anyhow::Result<()> {
    let mut table = Columns::new(&[
        ("ID", Align::Left),
        ("PRINCIPAL", Align::Left),
        ("SCOPES", Align::Left),
        ("EXPIRES", Align::Left),
        ("CREATED", Align::Left),
        ("DESCRIPTION", Align::Left),
    ]);
    for token in read(path)?.tokens {
        table.row(row(token));
    }
    table.write(&mut io::stdout().lock(), Cut::Never)?;
    Ok(())
}

fn row(token: TokenEntry) -> [String; 6] {
    let expired = token.is_expired(std::time::SystemTime::now());
    let expires = match token.expires {
        Some(end) if expired => format!("{end} (over)"),
        Some(end) => end.to_string(),
        None => "-".to_owned(),
    };
    [
        token.id,
        token.principal,
        token.scopes.join(" "),
        expires,
        token.created.to_string(),
        token.description.unwrap_or_default(),
    ]
}

fn revoke(path: &Path, ids: &[String]) -> anyhow::Result<()> {
    // Reading first: `edit` would begin a file that is not there.
    let file = read(path)?;
    let known = |id: &&String| file.tokens.iter().any(|token| token.id == **id);
    if let Some(id) = ids.iter().find(|id| !known(id)) {
        return Err(Usage::new(format!(
            "there is no token {id} in {}: `ringfeed token list` shows them",
            path.display()
        ))
        .into());
    }
    let removed = TokenFile::edit(path, |file| {
        file.tokens.retain(|token| !ids.contains(&token.id));
        Ok(())
    });
    removed.with_context(|| format!("cannot change {}", path.display()))?;
    note(&format!("revoked: {}", ids.join(", ")));
    Ok(())
}

async fn verify(
    token: Option<Token>,
    file: PathBuf,
    config: Option<PathBuf>,
) -> anyhow::Result<()> {
    let token = match token {
        Some(token) => token.reveal().to_owned(),
        None => from_stdin()?,
    };
    let authenticator = match config {
        Some(config) => Config::load(Some(&config), &serde_json::json!({}))?.authenticator()?,
        None => Authenticator::new(AuthOptions {
            token_file: Some(file),
            ..AuthOptions::default()
        })?,
    };
    match authenticator.whose(&token).await {
        Ok(caller) => Ok(show(&caller)?),
        Err(why) => bail!("not good: {why}"),
    }
}

fn from_stdin() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        note("paste the token, then Enter and Ctrl-D");
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(64 << 10).read_to_string(&mut text);
    read.context("cannot read the token")?;
    match text.trim() {
        "" => Err(Usage::new("no token: pipe it in or pass --token").into()),
        token => Ok(token.to_owned()),
    }
}

fn show(caller: &Caller) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "principal  {}", escaped(&caller.principal))?;
    for scope in caller.scopes.texts() {
        writeln!(out, "scope      {}", escaped(scope))?;
    }
    let end = caller.validity.expires.map(Timestamp::try_from);
    match end {
        Some(Ok(end)) => writeln!(out, "expires    {end}"),
        _ => writeln!(out, "expires    never"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_duration_or_a_time() {
        let time = moment("2026-12-31T00:00:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-12-31T00:00:00Z");
        let (day, now) = (moment("1d").unwrap(), Timestamp::now());
        let left = day.0.duration_since(now).as_secs();
        assert!((86_390..=86_401).contains(&left), "{left}");
        for bad in ["", "soon", "2026-12-31", "99999999w"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
