//! HTTP/2 frame by frame: what a client sees that is still sending when its answer is there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use auditmon_e2e::{Agent, PATIENCE};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
/// Of DATA and HEADERS.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Of SETTINGS and PING.
const ACK: u8 = 1;
/// The one stream that is used.
const STREAM: u32 = 1;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A client's end of a connection.
struct Client(TcpStream);

impl Client {
    fn connect(agent: &Agent) -> Self {
        let mut stream = TcpStream::connect(agent.listen()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut client = Self(stream);
        client.send(SETTINGS, 0, 0, &[]);
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).unwrap();
    }

    /// Begins a POST of an event, without a key.
    fn post(&mut self) {
        // Names and whole lines of HPACK's static table, values as they are.
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (&[0x04][..], "/api/v1/events"),
            (&[0x01], "auditmon"),
            (&[0x0f, 0x10], "application/json"),
        ] {
            block.extend(name);
            block.push(u8::try_from(value.len()).unwrap());
            block.extend(value.bytes());
        }
        self.send(HEADERS, END_HEADERS, STREAM, &block);
    }

    /// The next frame that is about the stream, or answers a ping.
    fn next(&mut self) -> Frame {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).unwrap();
            let mut frame = Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                payload: vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize],
            };
            self.0.read_exact(&mut frame.payload).unwrap();
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                HEADERS | DATA | RST_STREAM => return frame,
                PING if frame.flags & ACK != 0 => return frame,
                _ => {}
            }
        }
    }

    /// Reads a whole answer: 401.
    fn expect_unauthorized(&mut self) {
        let (mut body, mut headers) = (Vec::new(), 0);
        loop {
            let frame = self.next();
            match frame.kind {
                HEADERS => headers += 1,
                DATA => body.extend(&frame.payload),
                _ => panic!("{frame:?} within the answer"),
            }
            assert_eq!(frame.stream, STREAM);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        let body = String::from_utf8(body).unwrap();
        assert!(headers == 1 && body.contains(r#""code":"unauthorized""#), "{body}");
    }

    /// Everything that was sent is worked off, and has led to no frame of the stream.
    fn expect_quiet(&mut self) {
        self.send(PING, 0, 0, b"quiet?!\n");
        let frame = self.next();
        assert_eq!(
            (frame.kind, frame.payload.as_slice()),
            (PING, &b"quiet?!\n"[..]),
            "{frame:?}"
        );
    }
}

#[test]
fn an_answer_comes_whole_to_a_client_that_is_still_sending() {
    let agent = Agent::start();
    let mut client = Client::connect(&agent);
    client.post();
    client.expect_unauthorized();
    client.expect_quiet();
    for _ in 0..10 {
        client.send(DATA, 0, STREAM, &[b' '; 1000]);
        client.expect_quiet();
    }
    client.send(DATA, END_STREAM, STREAM, b"{}");
    client.expect_quiet();
}

#[test]
fn who_never_ends_its_body_is_told_to() {
    let agent = Agent::builder().config("http: {body_timeout: 1s}\n").start();
    let mut client = Client::connect(&agent);
    client.post();
    client.expect_unauthorized();
    let frame = client.next();
    assert_eq!(
        (frame.kind, frame.stream, frame.payload.as_slice()),
        (RST_STREAM, STREAM, &[0; 4][..]),
        "NO_ERROR"
    );
    // The connection is as good as before.
    client.expect_quiet();
}
