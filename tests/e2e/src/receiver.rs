//! Receivers of webhooks that answer as a test wants, over plain TCP or TLS.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A request as the receiver sees it.
#[derive(Debug)]
pub struct Asked {
    /// Names of the events in it.
    pub names: Vec<String>,
    /// Requests before it.
    pub before: usize,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Answered with this status. The events of a 200 count as taken.
    Status(u16),
    /// The same with `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// Taken, and answered with 200 after this time.
    Slow(Duration),
    /// Taken, and the connection is cut before the answer.
    Cut,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self::Status(status)
    }
}

type Answer = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// A receiver on this host.
pub struct Receiver {
    address: SocketAddr,
    /// Bound, and not listening yet: connections are refused.
    down: Option<OwnedFd>,
    answer: Answer,
    tls: Option<Arc<ServerConfig>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    asked: usize,
    taken: Vec<String>,
}

impl Receiver {
    /// One that is up.
    #[must_use]
    pub fn start<R: Into<Reply>>(answer: impl Fn(&Asked) -> R + Send + Sync + 'static) -> Self {
        let mut receiver = Self::down(answer);
        receiver.up();
        receiver
    }

    /// One that speaks TLS.
    #[must_use]
    pub fn with_tls<R: Into<Reply>>(
        config: ServerConfig,
        answer: impl Fn(&Asked) -> R + Send + Sync + 'static,
    ) -> Self {
        let mut receiver = Self::down(answer);
        receiver.tls = Some(Arc::new(config));
        receiver.up();
        receiver
    }

    /// One that has its port and refuses connections until [`up`](Self::up).
    #[must_use]
    pub fn down<R: Into<Reply>>(answer: impl Fn(&Asked) -> R + Send + Sync + 'static) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        Self {
            address,
            down: Some(socket),
            answer: Arc::new(move |asked| answer(asked).into()),
            tls: None,
            seen: Arc::default(),
        }
    }

    /// From now on it answers.
    pub fn up(&mut self) {
        let Some(socket) = self.down.take() else { return };
        rustix::net::listen(&socket, 64).unwrap();
        let listener = TcpListener::from(socket);
        let (answer, tls, seen) = (self.answer.clone(), self.tls.clone(), self.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, tls, seen) = (answer.clone(), tls.clone(), seen.clone());
                std::thread::spawn(move || {
                    let stream: TcpStream = stream.unwrap();
                    // The agent may hang up, or be killed, in the middle.
                    let _ = match tls {
                        None => serve(stream, &answer, &seen),
                        Some(config) => {
                            let session = ServerConnection::new(config).unwrap();
                            serve(StreamOwned::new(session, stream), &answer, &seen)
                        }
                    };
                });
            }
        });
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that came.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.seen.lock().unwrap().asked
    }

    /// Names of the events that were taken, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<String> {
        self.seen.lock().unwrap().taken.clone()
    }

    /// Those of them that begin so, each the first time it came.
    #[must_use]
    pub fn first_times(&self, prefix: &str) -> Vec<String> {
        let mut seen = std::collections::BTreeSet::new();
        let taken = self.taken().into_iter();
        taken
            .filter(|name| name.starts_with(prefix) && seen.insert(name.clone()))
            .collect()
    }
}

fn serve(stream: impl Read + Write, answer: &Answer, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(names) = request(&mut stream)? {
        let asked = {
            let mut seen = seen.lock().unwrap();
            seen.asked += 1;
            Asked {
                names,
                before: seen.asked - 1,
            }
        };
        let reply = answer(&asked);
        if let Reply::Slow(time) = reply {
            std::thread::sleep(time);
        }
        if matches!(reply, Reply::Status(200) | Reply::Slow(_) | Reply::Cut) {
            seen.lock().unwrap().taken.extend(asked.names);
        }
        let (status, more) = match reply {
            Reply::Status(status) => (status, String::new()),
            Reply::RetryAfter(status, seconds) => (status, format!("retry-after: {seconds}\r\n")),
            Reply::Slow(_) => (200, String::new()),
            Reply::Cut => return Ok(()),
        };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{more}\r\n");
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

/// Names of the posted events; `None` at the connection's end.
fn request(stream: &mut impl io::BufRead) -> io::Result<Option<Vec<String>>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let events = match serde_json::from_slice(&body).unwrap() {
        Value::Array(events) => events,
        event => vec![event],
    };
    let name = |event: &Value| event["event_name"].as_str().unwrap().to_owned();
    Ok(Some(events.iter().map(name).collect()))
}
