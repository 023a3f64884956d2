//! The calls of a tick alone, by the library that the agent uses: the bare row.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use auditmon_proto::immudb as messages;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::task::JoinSet;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::server::{Server, name};
use crate::Fault;

/// Logins at a time, as many as the auditor has.
const LOGINS: usize = 8;

async fn call<Q, A>(channel: &Channel, path: &'static str, auth: &MetadataMap, message: Q) -> Result<A, tonic::Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = auth.clone();
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    let ready = grpc.ready().await;
    ready.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let answer = grpc
        .unary(request, PathAndQuery::from_static(path), ProstCodec::default())
        .await?;
    Ok(answer.into_inner())
}

async fn login(channel: &Channel) -> Result<MetadataMap, Fault> {
    let request = messages::OpenSessionRequest {
        database_name: name(0),
        ..messages::OpenSessionRequest::default()
    };
    let path = "/immudb.schema.ImmuService/OpenSession";
    let answer: messages::OpenSessionResponse = call(channel, path, &MetadataMap::new(), request).await?;
    let mut auth = MetadataMap::new();
    auth.insert("sessionid", AsciiMetadataValue::try_from(answer.session_id)?);
    Ok(auth)
}

/// Asks for databases until none is left.
async fn work(
    channel: Channel,
    auth: MetadataMap,
    next: Arc<AtomicUsize>,
    databases: usize,
) -> Result<(), tonic::Status> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= databases {
            return Ok(());
        }
        let request = messages::Database {
            database_name: name(number),
        };
        let path = "/immudb.schema.ImmuService/UseDatabase";
        let _: messages::UseDatabaseReply = call(&channel, path, &auth, request).await?;
        let path = "/immudb.schema.ImmuService/CurrentState";
        let _: messages::ImmutableState = call(&channel, path, &auth, messages::Empty {}).await?;
    }
}

/// Seconds that the calls for all databases take; the middle of some rounds.
pub fn run(server: &Server, databases: usize, rounds: usize) -> Result<f64, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let target = Endpoint::from_shared(format!("http://{}", server.address))?.tcp_nodelay(true);
        let channel = target.connect().await?;
        let mut logins = Vec::new();
        for _ in 0..LOGINS {
            logins.push(login(&channel).await?);
        }
        let mut times = Vec::new();
        for _ in 0..rounds.max(3) {
            let (begin, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
            let mut all = JoinSet::new();
            for auth in &logins {
                all.spawn(work(channel.clone(), auth.clone(), next.clone(), databases));
            }
            while let Some(done) = all.join_next().await {
                done??;
            }
            times.push(begin.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok::<f64, Fault>(times[times.len() / 2])
    })
}
