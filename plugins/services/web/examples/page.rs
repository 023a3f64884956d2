//! Serves the page with made-up events, to look at it: `cargo run -p auditmon-service-web --example page`.

use std::sync::Arc;

use async_trait::async_trait;
use auditmon_core::keys::{Caller, Keys};
use auditmon_core::reader::{EventReader, Found, Page, Query, ReadError, Stored};
use uuid::Uuid;

struct Open;

impl Keys for Open {
    fn check(&self, _: &str) -> Option<Caller> {
        None
    }
    fn session(&self, _: &str) -> Option<Caller> {
        Some(Caller {
            name: Arc::from("default"),
            write: true,
            read: true,
        })
    }
    fn open_session(&self, _: &str) -> Option<String> {
        Some("example".to_owned())
    }
}

struct Sample(Vec<Stored>);

#[async_trait]
impl EventReader for Sample {
    async fn query(&self, query: &Query) -> Result<Page, ReadError> {
        let all = query.filters.iter().all(|(name, _)| *name != "host");
        let events = if all { self.0.clone() } else { Vec::new() };
        Ok(Page {
            next: all.then(|| "AQAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
            events,
        })
    }
    async fn get(&self, id: Uuid) -> Result<Found, ReadError> {
        let id = id.to_string();
        let found = self
            .0
            .iter()
            .find(|stored| stored.canonical.windows(36).any(|window| window == id.as_bytes()));
        Ok(found.map_or(Found::Missing, |stored| Found::Event(stored.clone())))
    }
    async fn position(&self, _: &str) -> Result<u64, ReadError> {
        Ok(5_001)
    }
}

fn sample() -> Vec<Stored> {
    let lines = [
        (
            "application",
            "login",
            "alice",
            "null",
            "success",
            "info",
            r#"{"method":"password+totp"}"#,
        ),
        (
            "kernel",
            "execve",
            "alice",
            r#""/usr/bin/curl""#,
            "success",
            "info",
            r#"{"syscall":"execve","arch":"x86_64","keys":["auditmon-demo"],"argv":["curl","-sS","--data","user=alice&note=it's fine","https://payments.example/api/v1/refunds"],"cwd":"/home/alice","exit":0,"pid":4711,"ppid":812,"auid":1000,"uid":1000,"records":["type=SYSCALL msg=audit(1767225600.123:456): arch=c000003e syscall=59 success=yes exit=0"]}"#,
        ),
        (
            "application",
            "payment.refund",
            "alice",
            r#""invoice/2026-000812""#,
            "failure",
            "warning",
            r#"{"amount": 129.90, "currency": "EUR", "reason": "limit exceeded"}"#,
        ),
        (
            "kernel",
            "openat",
            "root",
            r#""/etc/shadow""#,
            "failure",
            "notice",
            r#"{"syscall":"openat","exit":-13}"#,
        ),
        (
            "immudb",
            "immudb.audit",
            "auditor",
            r#""ledger-1/defaultdb""#,
            "failure",
            "critical",
            r#"{"tampered":true}"#,
        ),
        (
            "agent",
            "kernel.gap",
            "auditmon",
            "null",
            "unknown",
            "warning",
            r#"{"missing":12,"reason":"restart"}"#,
        ),
        (
            "application",
            "document.export.with.a.very.long.name.that.goes.on",
            "service-account-reporting@example.com",
            r#""s3://a-bucket-with-a-long-name/2026/01/31/report-final-final-2.pdf""#,
            "success",
            "info",
            "null",
        ),
        (
            "application",
            "login",
            "<b>mallory</b>",
            "null",
            "failure",
            "info",
            "{}",
        ),
    ];
    (0..24_u64)
        .map(|n| {
            let (kind, name, user, resource, outcome, severity, data) = lines[n as usize % lines.len()];
            let canonical = format!(
                r#"{{"event_id":"019b76da-a800-7000-8000-{n:012}","event_time":"2026-01-31T23:{:02}:{:02}.123Z","event_name":"{name}","username":"{user}","resource":{resource},"event_source":"billing","source_ip_address":"10.0.0.7","request_id":null,"read_only":false,"kind":"{kind}","host":"db1","outcome":"{outcome}","severity":"{severity}","event_data":{data}}}"#,
                59 - n, 59 - n
            );
            Stored { canonical: canonical.into_bytes(), origin: "db1/0123456789abcdef".into(), seq: 5_000 - n, received: 1_769_903_999_000_000_000 - n }
        })
        .collect()
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "7999".to_owned());
    let page = auditmon_service_web::router(Arc::from("db1"), Arc::new(Open), Some(Arc::new(Sample(sample()))));
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    axum::serve(listener, page).await
}
