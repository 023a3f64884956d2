//! Credentials reach the receiver and nobody else.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::receiver::Receiver;
use super::support::{config, events, file, open, reason, sink, write};

const BEARER: &str = "b3arer-t0ken/with+slash";
const KEY: &str = "whsec_S0VZLUtFWS1LRVktS0VZLUtFWS1LRVktS0VZ";
const API_KEY: &str = "4pi-k3y-of-a-file";
const PATH: &str = "pa7h-as-a-secret";

/// All kinds of credentials, in files of `mode`.
fn section(dir: &TempDir, mode: u32) -> Value {
    json!({
        "bearer_file": file(dir.path(), "bearer", mode, format!("{BEARER}\n")),
        "secret_file": file(dir.path(), "key", mode, KEY),
        "headers_file": file(dir.path(), "headers", mode, format!("X-Api-Key: {API_KEY}\n")),
        "headers": {"X-Inline": "1nline-header-value"},
    })
}

fn assert_clean(text: &str) {
    for secret in [BEARER, &KEY[6..], API_KEY, PATH, "1nline-header-value"] {
        for part in secret.as_bytes().windows(8) {
            let part = std::str::from_utf8(part).unwrap();
            assert!(!text.contains(part), "`{part}` in {text}");
        }
    }
}

#[tokio::test]
async fn credentials_are_sent() {
    let dir = TempDir::new().unwrap();
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    write(
        &mut sink(&receiver.url, section(&dir, 0o600)),
        &events(&["alice"]).await,
    )
    .await;
    let got = receiver.got();
    assert_eq!(got[0].header("authorization"), format!("Bearer {BEARER}"));
    assert_eq!(got[0].header("x-api-key"), API_KEY);
    assert_eq!(got[0].header("x-inline"), "1nline-header-value");
}

#[tokio::test]
async fn a_receiver_that_repeats_them_is_not_quoted() {
    let dir = TempDir::new().unwrap();
    for status in [400, 500, 401] {
        let status = StatusCode::from_u16(status).unwrap();
        let echo = Receiver::new(move |received| {
            let (headers, path) = (&received.headers, &received.path);
            (status, format!("{path} {headers:?} {KEY}").replace('/', "\\/"))
        })
        .await;
        let url = echo.url.replace("/in", &format!("/in/{PATH}?q=1"));
        let receipt = write(&mut sink(&url, section(&dir, 0o600)), &events(&["alice"]).await).await;
        let said = format!("{receipt:?}");
        assert!(said.contains("is not shown"), "{said}");
        assert_clean(&said);
    }
}

#[tokio::test]
async fn each_of_them_alone_is_enough_to_be_silent() {
    let dir = TempDir::new().unwrap();
    for echoed in [BEARER, &KEY[6..], API_KEY, PATH, "1nline-header-value"] {
        let echo = Receiver::new(move |_| (StatusCode::BAD_REQUEST, format!("what is {echoed}?"))).await;
        let url = echo.url.replace("/in", &format!("/in/{PATH}"));
        let receipt = write(&mut sink(&url, section(&dir, 0o600)), &events(&["alice"]).await).await;
        assert_clean(&receipt.refused[0].reason);
    }
}

#[tokio::test]
async fn faults_of_the_network_name_the_host_only() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/{PATH}?key={API_KEY}", listener.local_addr().unwrap());
    drop(listener);
    let receipt = write(&mut sink(&url, json!({})), &events(&["alice"]).await).await;
    assert!(reason(&receipt).contains("127.0.0.1"));
    assert_clean(&format!("{receipt:?}"));
}

#[test]
fn the_configuration_shows_none() {
    let dir = TempDir::new().unwrap();
    let config = config(&format!("https://localhost/{PATH}"), section(&dir, 0o600));
    let shown = format!("{config:?}");
    assert!(
        shown.contains("https://localhost/***") && shown.contains("X-Inline"),
        "{shown}"
    );
    assert_clean(&shown);
}

#[test]
fn files_that_others_can_read_are_refused() {
    let dir = TempDir::new().unwrap();
    let url_file = |mode| file(dir.path(), "url", mode, format!("https://localhost/{PATH}\n"));
    for mode in [0o600, 0o400] {
        assert!(open(config("https://localhost/", section(&dir, mode))).is_ok());
        // The files are replaced by the next turn.
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::create_dir(dir.path()).unwrap();
    }
    for key in ["bearer_file", "secret_file", "headers_file", "url_file"] {
        for mode in [0o640, 0o604] {
            let mut section = section(&dir, 0o600);
            section["url_file"] = json!(url_file(mode));
            let path = section[key].as_str().unwrap().to_owned();
            let only: crate::WebhookConfig = serde_json::from_value(if key == "url_file" {
                json!({key: path})
            } else {
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
                json!({"url": "https://localhost/", key: path})
            })
            .unwrap();
            let error = open(only).err().unwrap();
            assert!(error.contains(&path) && error.contains("chmod 600"), "{error}");
            assert_clean(&error);
        }
    }
}

#[tokio::test]
async fn the_address_can_come_from_a_file() {
    let dir = TempDir::new().unwrap();
    let receiver = Receiver::new(|_| StatusCode::OK).await;
    let url_file = file(dir.path(), "url", 0o600, format!("{}\n", receiver.url));
    let config: crate::WebhookConfig = serde_json::from_value(json!({"url_file": url_file})).unwrap();
    write(&mut open(config).unwrap(), &events(&["alice"]).await).await;
    assert_eq!(receiver.got().len(), 1);

    for (text, says) in [
        (format!("gopher://h/{PATH}"), "begins with https://"),
        (format!("http://siem.example.com/{PATH}"), "insecure: true"),
        (PATH.to_owned(), "is no address"),
    ] {
        let url_file = file(dir.path(), "url", 0o600, text);
        let config: crate::WebhookConfig = serde_json::from_value(json!({"url_file": url_file})).unwrap();
        let error = open(config).err().unwrap();
        assert!(error.contains(says), "{error}");
        assert_clean(&error);
    }
}

#[test]
fn unusable_credentials_are_told_by_file() {
    let dir = TempDir::new().unwrap();
    for (key, text, says) in [
        ("bearer_file", format!("{BEARER}\x01"), "holds what a header can't"),
        ("secret_file", "too short".to_owned(), "at least 24 bytes"),
        ("headers_file", API_KEY.to_owned(), "line 1: is not `Name: value`"),
        (
            "headers_file",
            format!("Host: {API_KEY}"),
            "host: is set by the sink itself",
        ),
    ] {
        let path = file(dir.path(), key, 0o600, text);
        let error = open(config("https://localhost/", json!({key: path}))).err().unwrap();
        assert!(
            error.starts_with(path.to_str().unwrap()) && error.contains(says),
            "{error}"
        );
        assert_clean(&error);
    }
    let both = json!({
        "bearer_file": file(dir.path(), "b", 0o600, BEARER),
        "headers_file": file(dir.path(), "h", 0o600, "Authorization: Splunk abc"),
    });
    let error = open(config("https://localhost/", both)).err().unwrap();
    assert!(error.contains("`Authorization` stands in `headers`, too"), "{error}");
}
