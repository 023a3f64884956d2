//! A receiver that remembers what it got and answers as a test says.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Version};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    /// One header.
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The event, or all of an array or of lines.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let mut events = Vec::new();
        for value in serde_json::Deserializer::from_slice(&self.body).into_iter() {
            match value.unwrap() {
                serde_json::Value::Array(more) => events.extend(more),
                one => events.push(one),
            }
        }
        events
    }

    /// Users of the events, in order.
    pub fn users(&self) -> Vec<String> {
        let user = |event: &serde_json::Value| event["username"].as_str().unwrap().to_owned();
        self.events().iter().map(user).collect()
    }
}

type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A receiver; it ends with the test's runtime.
pub struct Receiver {
    pub url: String,
    connections: Arc<AtomicUsize>,
    got: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Answers each request by itself.
    pub async fn new<R: IntoResponse>(answer: impl Fn(&Received) -> R + Send + Sync + 'static) -> Self {
        Self::with(None, move |received| {
            let response = answer(&received).into_response();
            Box::pin(async move { response })
        })
        .await
    }

    /// May wait before it answers, and may speak TLS.
    pub async fn with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Received) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}/in", listener.local_addr().unwrap().port());
        let got = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (keep, answer, count) = (got.clone(), Arc::new(answer), connections.clone());
        let router = Router::new().fallback(move |request: Request| {
            let (keep, answer) = (keep.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
                let received = Received {
                    path: head.uri.path().to_owned(),
                    version: head.version,
                    headers: head.headers,
                    body,
                };
                keep.lock().push(received.clone());
                answer(received).await
            }
        });
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, tls.clone(), router.clone()));
            }
        });
        Self { url, connections, got }
    }

    /// How many connections were made until now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What came until now.
    pub fn got(&self) -> Vec<Received> {
        self.got.lock().clone()
    }

    /// Users of all events that came, in order of arrival.
    pub fn users(&self) -> Vec<String> {
        self.got().iter().flat_map(Received::users).collect()
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    let service = TowerToHyperService::new(router);
    let builder = Builder::new(TokioExecutor::new());
    // The other side may go away as it likes.
    if let Some(tls) = tls {
        if let Ok(stream) = tls.accept(stream).await {
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    } else {
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }
}
