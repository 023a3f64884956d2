//! HTTP/1.1 on plain sockets, so that a test sees exactly what went over the wire.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::PATIENCE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// Fails with the whole answer unless the status is this one.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }
}

/// A request being put together; see [`request`].
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// Begins a request.
#[must_use]
pub fn request(method: &str, target: &str) -> Request {
    Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: None,
    }
}

impl Request {
    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer KEY`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// Sets body and `Content-Type: application/json`.
    #[must_use]
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Sets body and `Content-Type: application/x-ndjson`.
    #[must_use]
    pub fn ndjson(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/x-ndjson").body(body)
    }

    /// Sets the body; its length is announced.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The bytes of the head.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: auditmon\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        head.into_bytes()
    }

    /// Sends it on a connection of its own.
    ///
    /// # Errors
    /// No whole answer came.
    pub fn try_send(&self, to: SocketAddr) -> io::Result<Answer> {
        Http::try_connect(to)?.send(self)
    }

    /// Sends it on a connection of its own; fails the test if no answer comes.
    #[track_caller]
    #[must_use]
    pub fn send(&self, to: SocketAddr) -> Answer {
        self.try_send(to)
            .unwrap_or_else(|error| panic!("{} {}: no answer: {error}", self.method, self.target))
    }
}

/// A connection that is kept alive.
#[derive(Debug)]
pub struct Http(Raw);

impl Http {
    /// Connects; fails the test if that is refused.
    #[track_caller]
    #[must_use]
    pub fn connect(to: SocketAddr) -> Self {
        Self(Raw::connect(to))
    }

    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub fn try_connect(to: SocketAddr) -> io::Result<Self> {
        Raw::try_connect(to).map(Self)
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// The connection ended before a whole answer.
    pub fn send(&mut self, request: &Request) -> io::Result<Answer> {
        let mut bytes = request.head();
        bytes.extend_from_slice(request.body.as_deref().unwrap_or_default());
        // An agent may answer and close before it has read everything: the answer counts, not the write.
        let sent = self.0.send(&bytes);
        match self.0.read(request.method != "HEAD") {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => sent.and(Err(error)),
            result => result,
        }
    }
}

/// A connection for requests that no client would send.
#[derive(Debug)]
pub struct Raw(BufReader<TcpStream>);

impl Raw {
    /// Connects; fails the test if that is refused.
    #[track_caller]
    #[must_use]
    pub fn connect(to: SocketAddr) -> Self {
        Self::try_connect(to).unwrap_or_else(|error| panic!("{to}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub fn try_connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(4096, stream)))
    }

    /// How long reading and writing wait.
    pub fn patience(&self, wait: Duration) {
        self.0.get_ref().set_read_timeout(Some(wait)).unwrap();
        self.0.get_ref().set_write_timeout(Some(wait)).unwrap();
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Says that nothing more will come.
    pub fn finish(&self) {
        // The other side may have closed already.
        let _ = self.0.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection is closed without (or within) an answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        self.read(true)
    }

    fn read(&mut self, has_body: bool) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if answer.status == 100 {
            return self.read(has_body);
        }
        if !has_body {
            return Ok(answer);
        }
        if answer
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                let at = answer.body.len();
                answer.body.resize(at + size, 0);
                self.0.read_exact(&mut answer.body[at..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().map_err(io::Error::other)?];
            self.0.read_exact(&mut answer.body)?;
        } else if status != 204 && status != 304 {
            self.0.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Whether the other side has closed without a further byte; waits for it.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "closed, but after {}", String::from_utf8_lossy(&rest)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "still open: {error}"),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        let text = line.strip_suffix(b"\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned())
    }
}
