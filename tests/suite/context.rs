//! What a caller says of its call, on the real server: whom it is made for, which flags it asks
//! for, and how it is named. Only what the settings allow is believed.

use ringfeed::proto::v1::ListFeedsRequest;
use tonic::{Request, Response, metadata::MetadataMap};

use crate::harness::{Server, Setup, until};

/// A good call with these headers; those of its answer.
async fn call(server: &Server, headers: &[(&'static str, &str)]) -> MetadataMap {
    let mut request = Request::new(ListFeedsRequest::default());
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let answer = server.catalog().await.list_feeds(request).await;
    answer.map(Response::into_parts).unwrap().0
}

/// What the log says of the user and the session of a call.
async fn said_of(server: &Server, id: &str) -> [Option<String>; 2] {
    let find = || {
        let log = server.log();
        let lines = log.lines().filter_map(|l| serde_json::from_str(l).ok());
        let mut lines = lines.map(|mut l: serde_json::Value| l["fields"].take());
        lines.find(|l| l["message"] == "call ended" && l["request_id"] == id)
    };
    until("the line in the log", async || find().is_some()).await;
    let line = find().unwrap();
    ["user_id", "session_id"].map(|name| line[name].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_user_is_believed_from_the_proxies_of_the_settings_only() {
    for (proxies, user) in [
        ("[\"127.0.0.1\"]", Some("ann")),
        ("[\"10.0.0.0/8\"]", None),
        ("[]", None),
    ] {
        let setup = Setup::new().with("auth__trusted_proxies", proxies);
        let server = setup.with("anonymous", true).start().await;
        let sent = [
            ("x-request-id", "one"),
            ("x-user-id", "ann"),
            ("x-session-id", "s-7"),
        ];
        let answer = call(&server, &sent).await;
        assert_eq!(answer.get("x-session-id").unwrap(), "s-7");
        let said = said_of(&server, "one").await;
        assert_eq!(
            said,
            [user.map(str::to_owned), Some("s-7".into())],
            "{proxies}"
        );
    }
}

#[tokio::test]
async fn flags_are_those_of_the_settings() {
    let setup = Setup::new();
    let file = setup.home().join("ringfeed.toml");
    let flags = "[[feature_flags]]\nname = \"beta\"\nprincipals = \"*\"\n\
                 [[feature_flags]]\nname = \"inner\"\nprincipals = \"pi*\"\n";
    std::fs::write(&file, flags).unwrap();
    let server = setup.with("config", file.display()).start().await;
    let answer = call(&server, &[("x-feature-flags", "beta,inner,none")]).await;
    assert_eq!(answer.get("x-feature-flags").unwrap(), "beta");
    let ignored = answer.get("x-feature-flags-ignored").unwrap();
    assert_eq!(ignored, "inner,none");
}

#[tokio::test]
async fn an_id_that_is_none_is_replaced() {
    let server = Server::start().await;
    let longest = "x".repeat(128);
    let answer = call(&server, &[("x-request-id", &longest)]).await;
    assert_eq!(answer.get("x-request-id").unwrap(), &longest);
    for none in ["", "two words", &"x".repeat(129)] {
        let answer = call(&server, &[("x-request-id", none)]).await;
        let made = answer.get("x-request-id").unwrap().to_str().unwrap();
        let made: uuid::Uuid = made.parse().unwrap();
        assert_eq!(made.get_version_num(), 7);
        // The log names it in the same way.
        said_of(&server, &made.to_string()).await;
    }
}
