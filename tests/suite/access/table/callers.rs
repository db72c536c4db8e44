//! Who calls, over what: tokens, certificates, and proxies that are believed or not.

use std::path::Path;

use ringfeed::layers::{Moment, NewToken, TokenFile};
use tonic::transport::Channel;

use crate::harness::{Authority, Server, Setup};

/// In feed "own" everything, as far as its keys go: of "k" only.
const RIGHT: &[&str] = &[
    "ingest:own:k",
    "subscribe:own:k",
    "observe:own",
    "admin:own*",
];
const KEYED: &[&str] = &[
    "ingest:own:k",
    "subscribe:own:k",
    "observe:own:k",
    "admin:own*:k",
];
/// From here a proxy is believed; other calls come from 127.0.0.1.
const BELIEVED: &str = "127.0.0.2";
const PROXY: &str = "spiffe://mesh/proxy";

/// How a call comes to the server, and by what its caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Plaintext,
    Tls,
    /// By the client certificate.
    Mtls,
    /// With a certificate to which nothing is granted.
    TokenOverMtls,
    /// By what a proxy says that is known by its address.
    ProxyByAddress,
    /// The same, by its certificate.
    ProxyByCertificate,
    /// By a token, whatever somebody says who is not believed.
    NoProxy,
    /// By the client certificate, whatever it says itself.
    NoProxyOverMtls,
}

pub(super) const WAYS: [Way; 8] = [
    Way::Plaintext,
    Way::Tls,
    Way::Mtls,
    Way::TokenOverMtls,
    Way::ProxyByAddress,
    Way::ProxyByCertificate,
    Way::NoProxy,
    Way::NoProxyOverMtls,
];

/// What a caller has to show, and what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    NoToken,
    BadToken,
    Expired,
    WrongFeed,
    WrongKey,
    Right,
}

pub(super) const CASES: [Case; 6] = [
    Case::NoToken,
    Case::BadToken,
    Case::Expired,
    Case::WrongFeed,
    Case::WrongKey,
    Case::Right,
];

/// Something for each of the principals.
struct Each<T> {
    right: T,
    keyed: T,
}

impl<T> Each<T> {
    /// The principal of a case.
    fn of(&self, case: Case) -> &T {
        match case {
            Case::WrongKey => &self.keyed,
            _ => &self.right,
        }
    }
}

struct Tokens {
    each: Each<String>,
    expired: String,
    /// Of somebody who may do everything.
    all: String,
}

/// Two servers of the same settings, one with TLS, and connections to them.
pub(super) struct Callers {
    plaintext: Server,
    tls: Server,
    tokens: Tokens,
    nobody: Channel,
    from_believed: Channel,
    over_tls: Channel,
    certified: Each<Channel>,
    stranger: Channel,
    proxy: Channel,
}

impl Callers {
    pub(super) async fn start() -> Self {
        let (authority, clients) = (Authority::new(), Authority::new());
        let setup = Setup::new();
        let file = setup.home().join("tokens.toml");
        let tokens = tokens(&file);
        let know = |setup: Setup| {
            let setup = setup.with("auth__token_file", file.display());
            setup.with("auth__grants", grants())
        };
        let believed = |text: &str| format!("[{text:?}]");
        let setup = know(setup).with("auth__trusted_proxies", believed(BELIEVED));
        let plaintext = setup.start().await;
        let setup = know(Setup::new()).with("auth__trusted_proxies", believed(PROXY));
        let setup = setup.tls(&authority.server()).client_ca(clients.pem());
        let tls = setup.start().await;
        let certified = async |uri: &str| {
            let identity = clients.client(uri).identity();
            let config = authority.trusted().identity(identity);
            tls.tls_channel(config).await.unwrap()
        };
        Self {
            nobody: plaintext.channel().await,
            from_believed: from(BELIEVED, &plaintext).await,
            over_tls: tls.tls_channel(authority.trusted()).await.unwrap(),
            certified: Each {
                right: certified(&uri("right")).await,
                keyed: certified(&uri("keyed")).await,
            },
            stranger: certified(&uri("stranger")).await,
            proxy: certified(PROXY).await,
            tokens,
            plaintext,
            tls,
        }
    }

    /// A connection and what is said over it.
    pub(super) fn caller(&self, way: Way, case: Case) -> (Channel, Vec<(&'static str, String)>) {
        let channel = match way {
            Way::Plaintext | Way::NoProxy => &self.nobody,
            Way::Tls => &self.over_tls,
            Way::Mtls | Way::NoProxyOverMtls => self.certified.of(case),
            Way::TokenOverMtls => &self.stranger,
            Way::ProxyByAddress => &self.from_believed,
            Way::ProxyByCertificate => &self.proxy,
        };
        let by_token = matches!(
            way,
            Way::Plaintext | Way::Tls | Way::TokenOverMtls | Way::NoProxy
        );
        let token = match case {
            Case::NoToken => None,
            Case::BadToken => Some("rf_0_0"),
            Case::Expired => Some(self.tokens.expired.as_str()),
            _ => by_token.then(|| self.tokens.each.of(case).as_str()),
        };
        let forwarded = match way {
            Way::ProxyByAddress | Way::ProxyByCertificate => {
                let each = Each {
                    right: "right",
                    keyed: "keyed",
                };
                Some(*each.of(case))
            }
            Way::NoProxy | Way::NoProxyOverMtls => Some("all"),
            _ => None,
        };
        let token = token.map(|token| ("authorization", format!("Bearer {token}")));
        let forwarded = forwarded.map(|name| {
            let said = format!("Hash=0a;URI={}", uri(name));
            ("x-forwarded-client-cert", said)
        });
        (
            channel.clone(),
            token.into_iter().chain(forwarded).collect(),
        )
    }

    /// How often either server was told something by somebody who is not believed.
    pub(super) async fn not_believed(&self) -> [f64; 2] {
        let (plaintext, tls) = (self.plaintext.scrape().await, self.tls.scrape().await);
        let label = "reason=\"untrusted_proxy\"";
        [plaintext, tls].map(|scrape| scrape.get("ringfeed_auth_failures_total", &[label]))
    }

    /// Somebody who may do everything, at either server.
    pub(super) fn admin(&self) -> ([Channel; 2], String) {
        let channels = [self.nobody.clone(), self.over_tls.clone()];
        (channels, format!("Bearer {}", self.tokens.all))
    }
}

fn uri(name: &str) -> String {
    format!("spiffe://plant/{name}")
}

async fn from(address: &str, server: &Server) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", server.address())).unwrap();
    let endpoint = endpoint.local_address(Some(address.parse().unwrap()));
    endpoint.connect().await.unwrap()
}

/// As the environment has them.
fn grants() -> String {
    let grant =
        |name: &str, scopes: &[&str]| format!("{{principals={:?},scopes={scopes:?}}}", uri(name));
    let grants = [
        grant("right", RIGHT),
        grant("keyed", KEYED),
        grant("all", &["*:*"]),
    ];
    format!("[{}]", grants.join(","))
}

fn tokens(file: &Path) -> Tokens {
    let make = |name: &str, scopes: &[&str], expires: Option<Moment>| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let token = NewToken::make(name.into(), scopes, expires, None).unwrap();
        let text = token.text.reveal();
        TokenFile::edit(file, |file| {
            file.tokens.push(token.entry);
            Ok(())
        })
        .unwrap();
        text
    };
    let past = Some(Moment(jiff::Timestamp::UNIX_EPOCH));
    Tokens {
        each: Each {
            right: make("right", RIGHT, None),
            keyed: make("keyed", KEYED, None),
        },
        expired: make("expired", &["*:*"], past),
        all: make("all", &["*:*"], None),
    }
}
