use std::sync::Mutex;

use async_trait::async_trait;
use auditmon_core::keys::Caller;
use auditmon_core::reader::{self, Query, Stored};
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

const ID: &str = "019b76da-a800-7000-8000-000000000001";
/// Sessions: `s` may read, `w` may not. Token `t` opens `s`, once.
struct FakeKeys(Mutex<bool>);

impl Keys for FakeKeys {
    fn check(&self, _: &str) -> Option<Caller> {
        None
    }
    fn session(&self, cookie: &str) -> Option<Caller> {
        let read = match cookie {
            "s" => true,
            "w" => false,
            _ => return None,
        };
        Some(Caller {
            name: Arc::from("default"),
            write: true,
            read,
        })
    }
    fn open_session(&self, token: &str) -> Option<String> {
        (token == "t" && std::mem::take(&mut *self.0.lock().unwrap())).then(|| "s".to_owned())
    }
}

/// Gives one page whatever is asked, and keeps the question.
#[derive(Default)]
struct FakeReader {
    page: reader::Page,
    fault: Option<fn() -> ReadError>,
    gone: bool,
    asked: Mutex<Option<Query>>,
}

#[async_trait]
impl EventReader for FakeReader {
    async fn query(&self, query: &Query) -> Result<reader::Page, ReadError> {
        *self.asked.lock().unwrap() = Some(query.clone());
        self.fault.map_or_else(|| Ok(self.page.clone()), |fault| Err(fault()))
    }
    async fn get(&self, id: Uuid) -> Result<Found, ReadError> {
        let found = self
            .page
            .events
            .iter()
            .find(|stored| stored.canonical.windows(36).any(|w| w == id.to_string().as_bytes()));
        Ok(match found {
            Some(stored) => Found::Event(stored.clone()),
            None if self.gone => Found::Gone,
            None => Found::Missing,
        })
    }
    async fn position(&self, _: &str) -> Result<u64, ReadError> {
        Ok(0)
    }
}

/// An event with these members in place of plain ones, each as JSON.
fn stored(changes: &[(&str, &str)]) -> Stored {
    let mut members = vec![
        ("event_id", "\"019b76da-a800-7000-8000-000000000001\""),
        ("event_time", "\"2026-01-01T00:00:00.123456Z\""),
        ("event_name", "\"login\""),
        ("username", "\"alice\""),
        ("resource", "null"),
        ("event_source", "\"billing\""),
        ("source_ip_address", "\"-\""),
        ("request_id", "null"),
        ("read_only", "false"),
        ("kind", "\"application\""),
        ("host", "\"h\""),
        ("outcome", "\"unknown\""),
        ("severity", "\"info\""),
        ("event_data", "null"),
    ];
    for (name, value) in changes {
        members.iter_mut().find(|(n, _)| n == name).unwrap().1 = value;
    }
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    let canonical = format!("{{{}}}", members.join(",")).into_bytes();
    Stored {
        canonical,
        origin: "h/00".to_owned(),
        seq: 7,
        received: 1_767_225_600_000_000_001,
    }
}

fn with(events: Vec<Stored>, next: Option<&str>) -> Arc<FakeReader> {
    Arc::new(FakeReader {
        page: reader::Page {
            events,
            next: next.map(str::to_owned),
        },
        ..FakeReader::default()
    })
}

fn app(reader: Option<Arc<FakeReader>>) -> Router {
    let keys = Arc::new(FakeKeys(Mutex::new(true)));
    router(Page {
        host: Arc::from("db1"),
        keys,
        reader: reader.map(|reader| reader as Arc<dyn EventReader>),
    })
}

async fn get_with(app: &Router, uri: &str, cookie: Option<&str>) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::get(uri).header("host", "localhost:7984");
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask(app: &Router, uri: &str) -> (StatusCode, String) {
    let (status, _, body) = get_with(app, uri, Some("auditmon_session=s")).await;
    (status, body)
}

#[tokio::test]
async fn without_a_session_nothing_is_shown() {
    let reader = with(vec![stored(&[])], None);
    let app = app(Some(Arc::clone(&reader)));
    for cookie in [None, Some("auditmon_session=other"), Some("s=s")] {
        for uri in ["/", "/?username=x&bad=1", &format!("/events/{ID}"), "/events/x"] {
            let (status, headers, body) = get_with(&app, uri, cookie).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{uri}");
            assert!(
                body.contains("auditmon page") && !body.contains("alice") && !body.contains("db1"),
                "{body}"
            );
            assert!(headers.contains_key("www-authenticate"));
        }
    }
    assert!(reader.asked.lock().unwrap().is_none());
    let (status, _, body) = get_with(&app, "/", Some("auditmon_session=w")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("lacks the scope"));
}

#[tokio::test]
async fn every_answer_has_the_headers() {
    let app = app(Some(with(vec![stored(&[])], None)));
    let style = crate::assets::STYLE_PATH.as_str();
    for uri in [
        "/",
        "/?x=1",
        &format!("/events/{ID}"),
        "/events/x",
        "/events/%FF",
        "/open?token=t",
        "/open",
        "/static/x",
        style,
    ] {
        let (_, headers, _) = get_with(&app, uri, Some("auditmon_session=s")).await;
        let policy = headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{uri}: {policy}");
        }
        assert_eq!(headers["x-content-type-options"], "nosniff", "{uri}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{uri}");
        let cache = if uri == style {
            "public, max-age=31536000, immutable"
        } else {
            "no-store"
        };
        assert_eq!(headers["cache-control"], cache, "{uri}");
    }
    let (status, headers, body) = get_with(&app, style, None).await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &HeaderValue::from_static("text/css; charset=utf-8"))
    );
    assert!(body.contains("prefers-color-scheme: dark"));
    let (_, page) = ask(&app, "/").await;
    assert!(page.contains(style));
    for foreign in ["<script", "style=", "onclick", "//cdn", "https:"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn a_token_opens_a_session_once() {
    let app = app(None);
    let head = Request::head("/open?token=t").body(Body::empty()).unwrap();
    let answer = app.clone().oneshot(head).await.unwrap();
    assert!(
        !answer.headers().contains_key("set-cookie"),
        "a look ahead does not use it up"
    );
    let (status, headers, _) = get_with(&app, "/open?token=t", None).await;
    assert_eq!(
        (status, &headers["location"]),
        (StatusCode::SEE_OTHER, &HeaderValue::from_static("/"))
    );
    assert_eq!(
        headers["set-cookie"],
        "auditmon_session=s; Path=/; Max-Age=86400; HttpOnly; SameSite=Strict"
    );
    for uri in ["/open?token=t", "/open?token=", "/open", "/open?token=%0D%0A"] {
        let (status, headers, body) = get_with(&app, uri, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{uri}");
        assert!(!headers.contains_key("set-cookie"));
        assert!(body.contains("used up or expired") && body.contains("auditmon page"));
    }
    let (status, headers, _) = get_with(&app, "/open?token=t", Some("auditmon_session=s")).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "who is signed in goes on");
    assert!(!headers.contains_key("set-cookie"));
}

/// Addresses that a page leads to: links, forms, the style sheet.
fn addresses(html: &str) -> Vec<&str> {
    let ends = html.split(" href=\"").skip(1).chain(html.split(" action=\"").skip(1));
    ends.map(|rest| rest.split('"').next().unwrap())
        .filter(|address| !address.starts_with('#') && !address.starts_with("data:"))
        .collect()
}

#[tokio::test]
async fn below_a_path_nothing_leads_out_of_it() {
    let event = stored(&[("resource", "\"r\""), ("request_id", "\"q\"")]);
    let listener = |app: Router| {
        app.layer(axum::Extension(BasePath(Arc::from("/a/b"))))
            .layer(axum::Extension(Secure))
    };
    let full = listener(app(Some(with(vec![event], Some("next")))));
    let empty = listener(app(Some(with(Vec::new(), None))));
    let off = listener(app(None));
    let event = format!("/events/{ID}");
    let mut seen = 0;
    for (app, uri) in [
        (&full, "/"),
        (&full, "/?username=a&cursor=c"),
        (&full, "/?bad=1"),
        (&full, &event),
        (&full, "/events/x"),
        (&empty, "/"),
        (&empty, "/?username=a"),
        (&off, "/"),
    ] {
        for cookie in [None, Some("auditmon_session=s")] {
            let (_, _, html) = get_with(app, uri, cookie).await;
            let found = addresses(&html);
            assert!(found.len() >= 2, "{uri}: {html}");
            let outside: Vec<_> = found.iter().filter(|address| !address.starts_with("/a/b/")).collect();
            assert!(outside.is_empty(), "{uri}: {outside:?}");
            seen += found.len();
        }
    }
    assert!(seen > 50, "{seen}");
    let (_, _, html) = get_with(&empty, "/", Some("auditmon_session=s")).await;
    assert!(html.contains("https://localhost:7984/a/b/api/v1/events"), "{html}");
    let (_, headers, _) = get_with(&full, "/open?token=t", None).await;
    assert_eq!(headers["location"], "/a/b/");
    assert_eq!(
        headers["set-cookie"],
        "auditmon_session=s; Path=/a/b; Max-Age=86400; HttpOnly; SameSite=Strict; Secure"
    );
}

#[tokio::test]
async fn hostile_values_are_text() {
    let hostile = r#""<script>alert('x')</script>\"'&amp;""#;
    let event = stored(&[
        ("event_name", hostile),
        ("username", hostile),
        ("resource", hostile),
        ("request_id", hostile),
        ("event_source", hostile),
        ("kind", "\"kernel\""),
        (
            "event_data",
            r#"{"argv":["<script>","\"><img src=x onerror=y>"],"</pre>":1}"#,
        ),
    ]);
    let app = app(Some(with(vec![event], Some("c&\"<x>"))));
    let filter = "/?username=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&event_name=%27%22";
    for uri in ["/", filter, &format!("/events/{ID}")] {
        let (status, body) = ask(&app, uri).await;
        assert_eq!(status, StatusCode::OK);
        for raw in ["<script", "<img", "</pre>\":", "alert('x')"] {
            assert!(!body.contains(raw), "{uri}: {raw}");
        }
    }
    let (status, body) = ask(&app, "/?%3Cscript%3E=1&x=2").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!body.contains("<script"), "{body}");
}

#[tokio::test]
async fn a_bad_filter_is_told_beside_the_form() {
    let reader = with(vec![], None);
    let app = app(Some(Arc::clone(&reader)));
    for (uri, says) in [
        ("/?after=monday", "is not an RFC 3339 time"),
        ("/?limit=5000", "from 1 to 1000"),
        ("/?usrname=x", "did you mean"),
        ("/?kind=x", "application, kernel, immudb or agent"),
        ("/?username=a&username=b", "twice"),
    ] {
        let (status, body) = ask(&app, uri).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{uri}");
        assert!(
            body.contains(says) && body.contains("role=\"alert\"") && body.contains("<form"),
            "{uri}: {body}"
        );
    }
    let (_, body) = ask(&app, "/?after=monday&username=bob").await;
    assert!(
        body.contains(r#"name="after" value="monday""#) && body.contains(r#"value="bob""#),
        "what was typed is kept"
    );
    assert!(reader.asked.lock().unwrap().is_none());
}

#[tokio::test]
async fn the_form_asks_what_the_api_asks() {
    let reader = with(vec![stored(&[])], None);
    let app = app(Some(Arc::clone(&reader)));
    let uri = "/?event_name=&username=alice&kind=kernel&after=2026-01-01&before=2026-01-01+12%3A30&order=asc&limit=7&cursor=abc";
    let (status, body) = ask(&app, uri).await;
    assert_eq!(status, StatusCode::OK);
    let asked = reader.asked.lock().unwrap().clone().unwrap();
    let expected = Query::parse([
        ("username", "alice"),
        ("kind", "kernel"),
        ("after", "2026-01-01T00:00:00Z"),
        ("before", "2026-01-01T12:30:00Z"),
        ("order", "asc"),
        ("limit", "7"),
        ("cursor", "abc"),
    ]);
    assert_eq!(Ok(asked), expected);
    assert!(
        body.contains("<option value=\"kernel\" selected>kernel</option>") && body.contains("<details open>"),
        "{body}"
    );
}

#[tokio::test]
async fn pages_keep_filters() {
    let app = app(Some(with(vec![stored(&[])], Some("next+1"))));
    let (_, body) = ask(&app, "/?username=a%26b&limit=5&cursor=old").await;
    assert!(
        body.contains(r#"href="/?username=a%26b&#38;limit=5&#38;cursor=next%2B1""#),
        "{body}"
    );
    assert!(
        body.contains(r#"href="/?username=a%26b&#38;limit=5""#),
        "back to the first page"
    );
    assert!(
        body.contains(r#"href="/?username=a%26b&#38;limit=5&#38;kind=application""#),
        "a badge adds to the filters"
    );
}

#[tokio::test]
async fn an_event_is_shown_in_full() {
    let event = stored(&[
        ("kind", "\"kernel\""),
        ("event_name", "\"execve\""),
        ("resource", "\"/usr/bin/curl\""),
        ("event_data", r#"{"argv":["curl","-d","a b"],"n":1.10,"z":{},"a":[1]}"#),
    ]);
    let app = app(Some(with(vec![event], None)));
    let (status, body) = ask(&app, &format!("/events/{ID}")).await;
    assert_eq!(status, StatusCode::OK);
    for part in [
        ID,
        "2026-01-01T00:00:00.123456Z",
        "execve",
        "/usr/bin/curl",
        "billing",
        "h/00",
        "2026-01-01T00:00:00.000000001Z",
        "curl -d &#39;a b&#39;",
        "&#34;n&#34;: 1.10,\n  &#34;z&#34;: {},\n  &#34;a&#34;: [\n    1\n  ]",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    let (_, list) = ask(&app, "/").await;
    assert!(list.contains("curl -d &#39;a b&#39;"), "{list}");
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let app_missing = app(Some(with(vec![], None)));
    for uri in ["/events/x", &format!("/events/{ID}")] {
        assert_eq!(ask(&app_missing, uri).await.0, StatusCode::NOT_FOUND);
    }
    let gone = app(Some(Arc::new(FakeReader {
        gone: true,
        ..FakeReader::default()
    })));
    let (status, body) = ask(&gone, &format!("/events/{ID}")).await;
    assert_eq!(status, StatusCode::GONE);
    assert!(body.contains("deleted by retention"), "{body}");
    let (status, body) = ask(&app(None), "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("The store is off"));
    for (fault, expected) in [
        ((|| ReadError::Cursor) as fn() -> ReadError, StatusCode::BAD_REQUEST),
        (
            || ReadError::Store("took too long".to_owned()),
            StatusCode::SERVICE_UNAVAILABLE,
        ),
    ] {
        let app = app(Some(Arc::new(FakeReader {
            fault: Some(fault),
            ..FakeReader::default()
        })));
        let (status, body) = ask(&app, "/?username=bob").await;
        assert_eq!(status, expected);
        assert!(body.contains("role=\"alert\"") && body.contains("value=\"bob\""));
    }
}

#[tokio::test]
async fn an_empty_store_says_how_to_send_the_first_event() {
    let app = app(Some(with(vec![], None)));
    let (status, body) = ask(&app, "/").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        body.contains("http://localhost:7984/api/v1/events") && body.contains("auditmon keys create"),
        "{body}"
    );
    let (_, body) = ask(&app, "/?username=nobody").await;
    assert!(body.contains("No event matches") && !body.contains("curl"), "{body}");
}
