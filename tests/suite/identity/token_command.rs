//! `ringfeed token`, as people use it: each token is shown once, a server takes it until it is
//! revoked, and nothing that anybody prints or logs has a secret in it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use super::{knows, list, secret_of};
use crate::{
    cli::Ran,
    harness::{Server, Setup, scraped, until, within},
};

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Runs a command in a directory of its own.
async fn run_with(dir: &Path, env: &[(&str, &str)], args: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
    let mut child = command
        .args(args)
        .env_remove("RINGFEED_TOKEN")
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Whoever is wrong about its flags reads nothing.
    stdin.write_all(input.as_bytes()).await.ok();
    drop(stdin);
    let output = within("the command", child.wait_with_output())
        .await
        .unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn run(dir: &Path, args: &[&str], input: &str) -> Ran {
    run_with(dir, &[], args, input).await
}

async fn good(dir: &Path, args: &[&str], input: &str) -> Ran {
    let ran = run(dir, args, input).await;
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    ran
}

/// Runs a command that has to fail with a word of advice.
async fn bad(dir: &Path, code: i32, args: &[&str], input: &str, says: &str) {
    let ran = run(dir, args, input).await;
    assert_eq!((ran.code, &*ran.out), (code, ""), "{args:?}: {}", ran.err);
    assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
}

/// Makes a token; its text.
async fn create(dir: &Path, more: &[&str]) -> String {
    let made = good(dir, &[&["token", "create"], more].concat(), "").await;
    let token = made.out.strip_suffix('\n').unwrap().to_owned();
    assert!(token.starts_with("rf_") && !token.contains(['\n', ' ']));
    assert!(!made.err.contains(secret_of(&token)), "{}", made.err);
    token
}

fn id_of(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_token_is_shown_once_and_good_until_it_is_revoked() {
    let setup = Setup::new();
    let home = &setup.home().to_owned();
    let scopes = ["--scope", "ingest:f:{principal}.*", "--scope", "admin:*"];
    let of_pi = [&["--principal", "pi17"], &scopes[..]].concat();
    let (token, other) = (create(home, &of_pi).await, create(home, &of_pi).await);
    assert_ne!(token, other);
    let file = home.join("tokens.toml");
    assert_eq!(mode(file.clone()), 0o600);
    let secrets = [secret_of(&token), secret_of(&other)];
    let has_none = |text: &str| !secrets.iter().any(|secret| text.contains(secret));
    assert!(has_none(&fs::read_to_string(&file).unwrap()));

    let setup = setup.with("auth__token_file", file.display());
    let server = setup.start().await;
    let endpoint = format!("http://{}", server.address());
    let env = [
        ("RINGFEED_ENDPOINT", endpoint.as_str()),
        ("RINGFEED_TOKEN", token.as_str()),
    ];
    let call = |args: &'static [&str], input: &'static str| run_with(home, &env, args, input);
    assert_eq!(call(&["feeds", "create", "f"], "").await.code, 0);
    let own = call(&["ingest", "f"], "{\"key\":\"pi17.temp\",\"value\":1}\n").await;
    assert_eq!(own.code, 0, "{}", own.err);
    let others = call(&["ingest", "f"], "{\"key\":\"pi18.temp\",\"value\":1}\n").await;
    assert_eq!(others.code, 3, "{}", others.err);
    let unseen = call(&["subscribe", "f", "--until", "now"], "").await;
    assert_eq!(unseen.code, 1, "{}", unseen.err);

    let to_file = [
        &["token", "create"],
        &of_pi[..],
        &["--output", "pi17.token"],
    ]
    .concat();
    let made = good(home, &to_file, "").await;
    assert_eq!(
        (made.out.as_str(), mode(home.join("pi17.token"))),
        ("", 0o600)
    );
    let kept = fs::read_to_string(home.join("pi17.token")).unwrap();
    good(home, &["token", "verify"], &kept).await;
    bad(home, 2, &to_file, "", "pi17.token exists").await;

    let listed = good(home, &["token", "list"], "").await.out;
    assert_eq!(listed.matches("pi17").count(), 3, "{listed}");
    assert!(listed.contains(id_of(&token)) && listed.contains("ingest:f:{principal}.*"));
    assert!(has_none(&listed));
    let verify = ["token", "verify"];
    let shown = good(home, &verify, &format!("{token}\n")).await.out;
    let expected = "principal  pi17\nscope      ingest:f:{principal}.*\nscope      admin:*\nexpires    never\n";
    assert_eq!(shown, expected);

    good(home, &["token", "revoke", id_of(&token)], "").await;
    until("it is revoked", async || !knows(&server, &token).await).await;
    assert!(knows(&server, &other).await);
    let over = call(&["feeds", "list"], "").await;
    assert_eq!(over.code, 1);
    assert!(
        over.err.contains("revoked") && has_none(&over.err),
        "{}",
        over.err
    );
    bad(home, 1, &verify, &token, "not good: the token is not known").await;
    let again = ["token", "revoke", id_of(&token)];
    bad(home, 2, &again, "", "ringfeed token list").await;
    bad(home, 2, &verify, " \n", "no token").await;
    bad(home, 1, &verify, "hunter2", "not good").await;
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_and_nothing_is_kept_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let with = |scope: &'static str| ["token", "create", "--principal", "pi17", "--scope", scope];
    for (scope, says) in [
        (
            "ingest",
            "ringfeed: \"ingest\" is no scope; write action:feed-glob",
        ),
        ("look:f", "ingest, subscribe, observe, admin or *"),
        ("ingest:f[", "ringfeed: \"f[\" is no glob"),
    ] {
        bad(home, 2, &with(scope), "", says).await;
    }
    bad(
        home,
        2,
        &["token", "create", "--principal", "pi17"],
        "",
        "--scope",
    )
    .await;
    let nobody = ["token", "create", "--principal", "", "--scope", "ingest:f"];
    bad(home, 2, &nobody, "", "the principal is empty").await;
    let soon = [&with("ingest:f")[..], &["--expires", "soon"]].concat();
    bad(home, 2, &soon, "", "\"soon\" is no time").await;
    bad(home, 1, &["token", "list"], "", "tokens.toml").await;
    bad(home, 1, &["token", "revoke", "0123"], "", "tokens.toml").await;
    assert_eq!(fs::read_dir(home).unwrap().count(), 0, "nothing was made");

    let short = [
        &with("ingest:f")[2..],
        &["--expires", "2020-01-01T00:00:00Z"],
    ]
    .concat();
    let old = create(home, &short).await;
    bad(home, 1, &["token", "verify"], &old, "the token expired").await;
    let listed = good(home, &["token", "list"], "").await.out;
    assert!(listed.contains("2020-01-01T00:00:00Z (over)"), "{listed}");
}

#[tokio::test]
async fn many_devices_get_their_tokens_at_once_or_none_does() {
    let setup = Setup::new();
    let home = &setup.home().to_owned();
    let write = |name: &str, text: &str| fs::write(home.join(name), text).unwrap();
    write(
        "devices.csv",
        "principal,description,scopes\npi17,Boiler,\npi18,,observe:* subscribe:f\n",
    );
    let make = |csv, output| {
        let own = ["--scope", "ingest:f:{principal}.*", "--output", output];
        [&["token", "create", "--from-csv", csv][..], &own].concat()
    };
    let made = good(home, &make("devices.csv", "out.csv"), "").await;
    assert!(made.err.contains("2 tokens made"), "{}", made.err);
    assert_eq!(mode(home.join("out.csv")), 0o600);
    let printed = fs::read_to_string(home.join("out.csv")).unwrap();
    let rows: Vec<_> = printed
        .lines()
        .map(|line| line.split_once(',').unwrap())
        .collect();
    assert_eq!(rows[0], ("principal", "token"));
    let names: Vec<_> = rows[1..].iter().map(|row| row.0).collect();
    assert_eq!(names, ["pi17", "pi18"]);
    let shown = good(home, &["token", "verify"], rows[2].1).await.out;
    for line in [
        "principal  pi18",
        "scope      observe:*",
        "scope      subscribe:f",
        "scope      ingest:f:{principal}.*",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let listed = good(home, &["token", "list"], "").await.out;
    assert!(listed.contains("Boiler"), "{listed}");
    let server = setup.with("auth__token_file", home.join("tokens.toml").display());
    let server = server.start().await;
    for (_, token) in &rows[1..] {
        assert!(knows(&server, token).await);
        assert!(!made.out.contains(token) && !made.err.contains(secret_of(token)));
    }

    // All or none: a row that cannot be, or a place that cannot be written.
    let before = fs::read(home.join("tokens.toml")).unwrap();
    write("twice.csv", "principal\npi1\npi2\npi1\n");
    bad(
        home,
        2,
        &make("twice.csv", "new.csv"),
        "",
        "row 3: pi1 is in row 1, too",
    )
    .await;
    write("scope.csv", "principal,scopes\npi1,ingest:f\npi2,look:f\n");
    bad(
        home,
        2,
        &make("scope.csv", "new.csv"),
        "",
        "row 2: \"look:f\" is no scope",
    )
    .await;
    bad(
        home,
        2,
        &make("devices.csv", "out.csv"),
        "",
        "out.csv exists",
    )
    .await;
    bad(
        home,
        1,
        &make("devices.csv", "nowhere/new.csv"),
        "",
        "cannot add",
    )
    .await;
    assert!(!home.join("new.csv").exists());
    assert_eq!(fs::read(home.join("tokens.toml")).unwrap(), before);
}

/// The status page.
async fn page(server: &Server, token: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = format!("authorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{head}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the page", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    answer
}

#[tokio::test]
async fn no_secret_is_in_anything_that_is_shown() {
    let setup = Setup::new();
    let home = setup.home().to_owned();
    let all = ["--principal", "pi17", "--scope", "*:*"];
    let token = create(&home, &all).await;
    let old = create(
        &home,
        &[&all[..], &["--expires", "2020-01-01T00:00:00Z"]].concat(),
    )
    .await;
    fs::write(home.join("jwt.secret"), JWT_SECRET).unwrap();
    let signed = |exp: u64| {
        let claims = json!({"sub": "pi18", "exp": exp, "scope": "*:*"});
        let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
        encode(&Header::default(), &claims, &key).unwrap()
    };
    let (jwt, old_jwt) = (signed(4_000_000_000), signed(1_500_000_000));
    let file = |name: &str| home.join(name).display().to_string();
    let entries = [
        ("AUTH__TOKEN_FILE", file("tokens.toml")),
        ("AUTH__JWT__ALGORITHMS", "[\"HS256\"]".into()),
        ("AUTH__JWT__KEY_FILE", file("jwt.secret")),
        ("LOG__LEVEL", "trace".into()),
    ];
    let with = |setup: Setup, (name, value): &(&str, String)| setup.with(name, value);
    let server = entries.iter().fold(setup, with).start().await;

    let last = |text: &str| if text.ends_with('x') { 'y' } else { 'x' };
    let forged = |text: &str| format!("{}{}", &text[..text.len() - 1], last(text));
    let (half, half_jwt) = (forged(&token), forged(&jwt));
    let mut shown = vec![page(&server, &token).await, page(&server, &half_jwt).await];
    assert!(shown[0].starts_with("HTTP/1.1 200"), "{}", shown[0]);
    for text in [&token, &jwt] {
        assert!(list(&server, Some(&format!("Bearer {text}"))).await.is_ok());
    }
    for text in [&old, &old_jwt, &half, &half_jwt] {
        let status = list(&server, Some(&format!("Bearer {text}")))
            .await
            .unwrap_err();
        let details = String::from_utf8_lossy(status.details()).into_owned();
        shown.extend([format!("{status:?}"), details]);
    }
    let endpoint = format!("http://{}", server.address());
    for text in [&token, &jwt, &old, &half_jwt] {
        let env = [("RINGFEED_ENDPOINT", &*endpoint), ("RINGFEED_TOKEN", text)];
        let called = run_with(&home, &env, &["feeds", "--verbose", "list"], "").await;
        let is_good = [&token, &jwt].contains(&text);
        assert_eq!(called.code, i32::from(!is_good), "{}", called.err);
        let help = run_with(&home, &env, &["feeds", "--help"], "").await;
        assert!(help.out.contains("RINGFEED_TOKEN"), "{}", help.out);
        shown.extend([called.out, called.err, help.out]);
    }
    let named = |(name, value): &(&str, String)| (format!("RINGFEED_{name}"), value.clone());
    let settings: Vec<_> = entries.iter().map(named).collect();
    let env: Vec<_> = settings
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let config = run_with(&home, &env, &["config", "show"], "").await;
    assert!(config.out.contains("jwt.secret"), "{}", config.out);
    shown.extend([config.out, config.err]);
    shown.push(scraped(server.metrics_address()).await.unwrap());
    // A line that somebody broke while pasting is not repeated either.
    let broken = format!("[[token]]\nid = \"a\"\nhash = \"{token}\"\n");
    fs::write(home.join("tokens.toml"), broken).unwrap();
    until("the broken file was seen", async || {
        server.log().contains("cannot be reloaded")
    })
    .await;
    let listed = run(&home, &["token", "list"], "").await;
    assert_eq!(listed.code, 1);
    shown.extend([listed.err, server.log()]);

    let signature = |jwt: &str| jwt.rsplit('.').next().unwrap().to_owned();
    let mut secrets = vec![JWT_SECRET.to_owned(), signature(&jwt), signature(&old_jwt)];
    secrets.push(signature(&half_jwt));
    secrets.extend([&token, &old, &half].map(|token| secret_of(token).to_owned()));
    for text in &shown {
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}
