//! `auditmon events --follow`: events as they are accepted, straight out of the journal, one JSON a line.
//!
//! The reader goes at the command's pace and holds nothing back: who falls behind retention sees a line that says so.

use std::sync::Arc;

use auditmon_core::event::{EventView, write_output};
use auditmon_core::http::Problem;
use auditmon_core::journal::{Body as RecordBody, Kind};
use auditmon_core::reader::Query;
use auditmon_journal::{Item, Reader};
use axum::body::{Body, Bytes};
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Admin;
use crate::routes::parameters;

/// What is made at once before the command has to take it.
const CHUNK: usize = 256 << 10;

struct Follower {
    reader: Reader,
    durable: watch::Receiver<u64>,
    query: Query,
    origin: String,
    stop: CancellationToken,
}

/// `GET /events?from=SEQ&…`: the filters of the API, from a place in the journal on; without one from the head.
pub(super) async fn follow(admin: Arc<Admin>, stop: CancellationToken, RawQuery(raw): RawQuery) -> Response {
    let wrong = |says: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", says).into_response();
    let mut pairs = match parameters(raw.as_deref().unwrap_or_default()) {
        Ok(pairs) => pairs,
        Err(problem) => return problem.into_response(),
    };
    let mut from = *admin.durable.borrow();
    if let Some(at) = pairs.iter().position(|(name, _)| name == "from") {
        let (_, text) = pairs.swap_remove(at);
        match text.parse() {
            Ok(seq) => from = seq,
            Err(_) => return wrong(format!("`from` is a place in the journal, here `{text}`")),
        }
    }
    let query = match Query::parse(pairs) {
        Ok(query) => query,
        Err(says) => return wrong(says),
    };
    let follower = Follower {
        reader: admin.journal.reader(from),
        durable: admin.durable.clone(),
        query,
        origin: admin.journal.origin().to_owned(),
        stop,
    };
    let lines = stream::try_unfold(follower, |mut follower| async move {
        loop {
            let seen = *follower.durable.borrow_and_update();
            let (back, chunk) = tokio::task::spawn_blocking(move || {
                let chunk = follower.chunk();
                (follower, chunk)
            })
            .await
            .map_err(std::io::Error::other)?;
            follower = back;
            let chunk = chunk?;
            if !chunk.is_empty() {
                return Ok::<_, std::io::Error>(Some((Bytes::from(chunk), follower)));
            }
            if follower.reader.seq() >= seen {
                tokio::select! {
                    () = follower.stop.cancelled() => return Ok(None),
                    changed = follower.durable.changed() => if changed.is_err() { return Ok(None) },
                }
            }
        }
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

impl Follower {
    /// The lines that come next; none at the head, or where nothing fits the query.
    fn chunk(&mut self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < CHUNK {
            let batch = match self.reader.next()? {
                None => break,
                Some(Item::Gap(gap)) => {
                    let line = serde_json::json!({"gap": {"first_seq": gap.first, "last_seq": gap.last}});
                    out.extend_from_slice(line.to_string().as_bytes());
                    out.push(b'\n');
                    continue;
                }
                Some(Item::Records(batch)) => batch,
            };
            for entry in batch.iter() {
                let prefix = entry.record.prefix;
                let RecordBody::Whole { payload, .. } = entry.record.body else {
                    continue;
                };
                if prefix.kind == Kind::State || !self.wants(payload) {
                    continue;
                }
                write_output(payload, &self.origin, entry.seq, prefix.received_ns, &mut out);
                out.push(b'\n');
            }
        }
        Ok(out)
    }

    fn wants(&self, canonical: &[u8]) -> bool {
        let all = self.query.filters.is_empty() && self.query.after.is_none() && self.query.before.is_none();
        all || EventView::parse(canonical).is_ok_and(|event| self.query.matches(&event))
    }
}
