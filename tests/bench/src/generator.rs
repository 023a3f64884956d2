//! The client, a process of its own: keep-alive connections on one epoll loop, each sends its next request when the
//! answer to the last one is there.
//!
//! `bench generate ADDRESS KEY NAME CONNECTIONS EVENTS SECONDS`; one line of JSON on stdout.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::table::percentile;
use crate::{Fault, events};

/// Not measured, but counted: the first moment.
const WARM_UP: Duration = Duration::from_secs(1);
/// An answer is shorter.
const ANSWER: usize = 16 << 10;

struct Connection {
    stream: TcpStream,
    sent: usize,
    begin: Instant,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Tally {
    accepted: u64,
    measured: u64,
    errors: u64,
    first_error: String,
    latencies: Vec<u32>,
}

/// Runs the client.
pub fn main(words: &[&str]) -> Result<(), Fault> {
    let [address, key, name, connections, batch, seconds] = words else {
        return Err("generate needs six words".into());
    };
    let address: SocketAddr = address.parse()?;
    let (connections, batch): (usize, u64) = (connections.parse()?, batch.parse()?);
    let request = request(key, name, batch);
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let begin = Instant::now();
    let measure_from = begin + WARM_UP;
    let end = measure_from + Duration::from_secs_f64(seconds.parse()?);
    let mut open = Vec::new();
    for index in 0..connections {
        let mut connection = connect(address)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&poll, &connection.stream, EventData::new_u64(index as u64), flags)?;
        connection.write(&request)?;
        open.push(connection);
    }
    let mut tally = Tally::default();
    let mut ready = Vec::with_capacity(512);
    let tick = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    while Instant::now() < end {
        ready.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut ready), Some(&tick))?;
        for event in &ready {
            let index = usize::try_from(event.data.u64())?;
            let Some(connection) = open.get_mut(index) else {
                continue;
            };
            let flags = event.flags;
            if flags.contains(EventFlags::OUT) && connection.sent < request.len() {
                connection.write(&request)?;
            }
            if flags.contains(EventFlags::IN) && connection.answered(&mut tally, batch, measure_from)? {
                connection.sent = 0;
                connection.begin = Instant::now();
                connection.write(&request)?;
            }
        }
    }
    let elapsed = measure_from.elapsed().as_secs_f64();
    tally.latencies.sort_unstable();
    let cpu = std::fs::read_to_string("/proc/self/schedstat")?;
    let cpu: f64 = cpu.split(' ').next().unwrap_or_default().parse()?;
    let out = serde_json::json!({
        "accepted": tally.accepted,
        "rate": tally.measured as f64 / elapsed,
        "p50": percentile(&tally.latencies, 0.50),
        "p99": percentile(&tally.latencies, 0.99),
        "errors": tally.errors,
        "first_error": tally.first_error,
        "cpu": cpu / 1e9,
    });
    println!("{out}");
    Ok(())
}

fn request(key: &str, name: &str, batch: u64) -> Vec<u8> {
    let event = events::event(name);
    let (kind, body) = if batch == 1 {
        ("application/json", event)
    } else {
        (
            "application/x-ndjson",
            format!("{event}\n").repeat(usize::try_from(batch).unwrap_or(1)),
        )
    };
    format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn connect(address: SocketAddr) -> Result<Connection, Fault> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Connection {
        stream,
        sent: 0,
        begin: Instant::now(),
        buffer: Vec::with_capacity(ANSWER),
    })
}

impl Connection {
    fn write(&mut self, request: &[u8]) -> Result<(), Fault> {
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what has come; true once the answer is whole.
    fn answered(&mut self, tally: &mut Tally, batch: u64, measure_from: Instant) -> Result<bool, Fault> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the agent closed a connection".into()),
                Ok(read) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    // A full read may have left something, for which no event would come.
                    if read < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let Some(head) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
            return Ok(false);
        };
        let length = memchr::memmem::find(&self.buffer[..head], b"content-length: ").map_or(0, |at| {
            let digits = self.buffer[at + 16..head]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
        });
        if self.buffer.len() < head + 4 + length {
            return Ok(false);
        }
        if self.buffer.get(9..12) == Some(b"201") {
            tally.accepted += batch;
            if Instant::now() >= measure_from {
                tally.measured += batch;
                tally
                    .latencies
                    .push(u32::try_from(self.begin.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
        } else {
            tally.errors += 1;
            if tally.first_error.is_empty() {
                tally.first_error = String::from_utf8_lossy(&self.buffer).chars().take(200).collect();
            }
        }
        self.buffer.clear();
        Ok(true)
    }
}
