//! `auditmon events --follow`: lines from the running agent until it ends or the reader has seen enough.

use std::path::Path;
use std::process::ExitCode;

use auditmon_core::event::EventView;
use http_body_util::BodyExt as _;
use hyper::Method;

use super::put;
use crate::admin;
use crate::cli::{Failure, print};

/// Longest line: an event of 1 MiB with what is around it.
const MAX_LINE: usize = 2 << 20;

/// Follows until the agent ends.
pub(super) async fn run(
    data_dir: &Path,
    filters: &[(&'static str, String)],
    from: Option<u64>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut pairs = filters.to_vec();
    pairs.extend(from.map(|seq| ("from", seq.to_string())));
    let path = format!("/events?{}", admin::encode_query(&pairs));
    let answer = admin::ask(data_dir, Method::GET, &path)
        .await?
        .ok_or_else(|| admin::none_runs(data_dir))?;
    if !answer.status().is_success() {
        admin::whole(answer).await?;
        return Err(Failure::plain("the agent refused"));
    }
    let mut body = answer.into_body();
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::plain(format!("the agent broke off: {error}")))?;
        let Ok(bytes) = frame.into_data() else { continue };
        kept.extend_from_slice(&bytes);
        if let Some(end) = kept.iter().rposition(|b| *b == b'\n') {
            let rest = kept.split_off(end + 1);
            print(&shown(&kept, json))?;
            kept = rest;
        }
        if kept.len() > MAX_LINE {
            return Err(Failure::plain("the agent sent a line that is longer than any event"));
        }
    }
    eprintln!("auditmon: the agent has ended");
    Ok(ExitCode::SUCCESS)
}

fn shown(lines: &[u8], json: bool) -> String {
    if json {
        return String::from_utf8_lossy(lines).into_owned();
    }
    let mut out = Vec::new();
    for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        match EventView::parse(line) {
            Ok(view) => put(&view, &mut out),
            // A gap.
            Err(_) => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
