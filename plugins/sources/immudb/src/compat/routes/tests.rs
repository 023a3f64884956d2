use std::io::Read as _;

use auditmon_core::privileged::Control;
use axum::body::Body;
use tower::ServiceExt as _;

use super::*;
use crate::address::Endpoint;
use crate::client::connect;
use crate::compat::{CompatConfig, Face};
use crate::config::Login;

/// Asks the server at this address.
pub(in crate::compat) fn probe(endpoint: &Endpoint) -> Probe {
    let control = Control::of_caller(Vec::new()).unwrap();
    let timeout = Duration::from_secs(10);
    let target = connect::target(endpoint, None, timeout, &control).unwrap();
    let client = Client::new(endpoint.clone(), target, None, Login::Auto, timeout, 1 << 20);
    Probe::new(client)
}

/// The routes of a program whose server is not there.
fn routes(program: Program) -> (Arc<Compat>, Router) {
    // Bound and let go: nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let endpoint = Endpoint::parse(&free.to_string()).unwrap();
    let registry = Registry::new();
    let config = CompatConfig {
        program,
        ..CompatConfig::default()
    };
    let compat = Compat::new(&config, Duration::from_secs(60), &registry).unwrap();
    let _ = Face::new(compat.clone(), &endpoint, Some("u1"));
    let routes = Routes::new(compat.clone(), vec![probe(&endpoint)], registry).unwrap();
    (compat, routes.router())
}

struct Answer {
    status: u16,
    kind: String,
    origin: bool,
    body: String,
}

async fn ask(router: &Router, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let header = |name: header::HeaderName| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let (status, kind) = (
        response.status().as_u16(),
        header(header::CONTENT_TYPE).unwrap_or_default(),
    );
    let origin = header(header::ACCESS_CONTROL_ALLOW_ORIGIN).as_deref() == Some("*");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    Answer {
        status,
        kind,
        origin,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[tokio::test]
async fn metrics_are_compressed_for_who_takes_that() {
    let (_, router) = routes(Program::Immuclient);
    let plain = ask(&router, "GET", "/metrics").await.body;
    for (wish, packed) in [
        ("gzip", true),
        ("deflate, GZIP;q=0.5", true),
        ("gzip;q=0", false),
        ("gzip; q=0.0", false),
        ("br", false),
    ] {
        let request = Request::get("/metrics").header(header::ACCEPT_ENCODING, wish);
        let response = router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let coding = response.headers().get(header::CONTENT_ENCODING).cloned();
        assert_eq!(coding.is_some_and(|coding| coding == "gzip"), packed, "{wish}");
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let mut text = String::new();
        if packed {
            flate2::read::GzDecoder::new(&body[..])
                .read_to_string(&mut text)
                .unwrap();
        } else {
            text = String::from_utf8(body.to_vec()).unwrap();
        }
        // Figures of the process move on.
        let names = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with('#'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&text), names(&plain), "{wish}");
    }
}

#[tokio::test]
async fn metrics_are_at_every_path_that_is_nothing_else() {
    let (_, router) = routes(Program::Immuclient);
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/"),
        ("GET", "/healthz"),
        ("POST", "/foo"),
        ("PUT", "/metrics"),
    ] {
        let answer = ask(&router, method, path).await;
        assert_eq!(
            (answer.status, answer.kind.as_str(), answer.origin),
            (200, TEXT, true),
            "{path}"
        );
        for line in [
            "# HELP immuclient_audit_result_per_server Latest audit result (1 = ok, 0 = tampered).\n",
            "server_id=\"u1\"} -1\n",
            "process_open_fds ",
        ] {
            assert!(answer.body.contains(line), "{line}: {}", answer.body);
        }
    }
    for path in ["/metrics", "/version", "/readyz"] {
        let answer = ask(&router, "OPTIONS", path).await;
        assert_eq!((answer.status, answer.origin, answer.body.as_str()), (204, true, ""));
    }
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let (_, router) = routes(Program::Immuclient);
    let answer = ask(&router, "GET", "/debug/vars").await;
    assert_eq!(
        (answer.status, answer.kind.as_str()),
        (200, "application/json; charset=utf-8")
    );
    assert_eq!(answer.body, "{}\n");
    let answer = ask(&router, "GET", "/version").await;
    assert_eq!((answer.status, answer.kind.as_str()), (200, "application/json"));
    let begin = format!(
        "{{\"component\":\"immuclient-auditor\",\"version\":\"{}\",\"buildtime\":\"unknown\",\"static\":",
        env!("CARGO_PKG_VERSION")
    );
    assert!(answer.body.starts_with(&begin), "{}", answer.body);
    assert!(answer.body.ends_with(",\"fips\":false}\n"), "{}", answer.body);
}

#[tokio::test]
async fn ready_is_the_server_and_alive_is_the_auditor() {
    let (compat, router) = routes(Program::Immuclient);
    for path in ["/readyz", "/initz"] {
        let answer = ask(&router, "GET", path).await;
        assert_eq!((answer.status, answer.kind.as_str()), (503, "application/json"));
        let begin = "{\"immudb\":\"rpc error: code = Unavailable desc = ";
        assert!(
            answer.body.starts_with(begin) && answer.body.ends_with("\"}\n"),
            "{}",
            answer.body
        );
    }
    let answer = ask(&router, "GET", "/livez").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"immudb\":\"OK\"}\n"));
    compat.ended.store(time::now() - 181_000_000_000, Ordering::Relaxed);
    let answer = ask(&router, "GET", "/livez").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "{\"immudb\":\"no audit has ended for 181 s\"}\n")
    );
}

#[tokio::test]
async fn immugw_shows_its_last_audit() {
    let (_, router) = routes(Program::Immugw);
    let answer = ask(&router, "GET", "/lastaudit").await;
    assert_eq!(
        answer.body,
        "{\"ServerID\":\"\",\"ServerAddress\":\"\",\"HasRunConsistencyCheck\":false,\"HasError\":false,\
         \"ConsistencyCheckResult\":false,\"PreviousRootIndex\":0,\"PreviousRoot\":\"\",\"CurrentRootIndex\":0,\
         \"CurrentRoot\":\"\",\"RunAt\":\"0001-01-01T00:00:00Z\"}\n"
    );
    let answer = ask(&router, "GET", "/metrics").await;
    assert!(
        answer.body.contains("immugw_audit_result_per_server{"),
        "{}",
        answer.body
    );
    for path in ["/", "/readyz", "/version"] {
        assert_eq!(ask(&router, "GET", path).await.status, 404, "{path}");
    }
}
