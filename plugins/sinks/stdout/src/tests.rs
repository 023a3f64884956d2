use std::sync::{Arc, Mutex};
use std::time::Duration;

use auditmon_core::event::{Draft, Kind};
use auditmon_testkit::TestJournal;

use super::*;

/// A writer that a test looks into, and that fails as told.
#[derive(Clone, Default)]
struct Out {
    bytes: Arc<Mutex<Vec<u8>>>,
    flushes: Arc<Mutex<usize>>,
    faults: Arc<Mutex<Vec<ErrorKind>>>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.faults.lock().unwrap().pop() {
            self.bytes.lock().unwrap().extend_from_slice(&bytes[..bytes.len() / 2]);
            return Err(kind.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        *self.flushes.lock().unwrap() += 1;
        Ok(())
    }
}

async fn three_events() -> Events {
    let journal = TestJournal::new();
    let names = ["one", "two\nlines", "three"];
    let drafts = names.iter().map(|name| Draft::new(name, "alice")).collect();
    journal.add(Kind::Application, drafts).await;
    journal.events(0)
}

#[tokio::test]
async fn one_line_per_event_and_one_flush_per_batch() {
    let (out, events) = (Out::default(), three_events().await);
    let mut sink = Stdout::new(Box::new(out.clone()));
    assert!(matches!(sink.start("h/00").await.unwrap(), Start::Live));
    sink.write(&events).await.unwrap();
    let text = String::from_utf8(out.bytes.lock().unwrap().clone()).unwrap();
    assert!(text.ends_with('\n'));
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[1]["event_name"], &lines[2]["seq"]),
        (&"two\nlines".into(), &2.into())
    );
    assert_eq!(lines[0]["origin"], events.origin());
    assert_eq!(*out.flushes.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_closed_pipe_is_the_end() {
    let (out, events) = (Out::default(), three_events().await);
    out.faults.lock().unwrap().push(ErrorKind::BrokenPipe);
    let mut sink = Stdout::new(Box::new(out));
    sink.start("h/00").await.unwrap();
    let Err(PluginError::Permanent(reason)) = sink.write(&events).await else {
        panic!()
    };
    assert_eq!(reason, "standard output was closed by its reader");
}

#[tokio::test]
async fn after_a_fault_that_passes_the_batch_begins_on_a_new_line() {
    let (out, events) = (Out::default(), three_events().await);
    out.faults.lock().unwrap().push(ErrorKind::StorageFull);
    let mut sink = Stdout::new(Box::new(out.clone()));
    sink.start("h/00").await.unwrap();
    assert!(matches!(sink.write(&events).await, Err(PluginError::Transient(_))));
    sink.start("h/00").await.unwrap();
    sink.write(&events).await.unwrap();
    let text = String::from_utf8(out.bytes.lock().unwrap().clone()).unwrap();
    let whole: Vec<_> = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        .collect();
    assert!(whole.len() >= 3, "{text}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_blocks_nobody_else() {
    struct Stuck;
    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            loop {
                std::thread::park();
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let events = three_events().await;
    let mut sink = Stdout::new(Box::new(Stuck));
    sink.start("h/00").await.unwrap();
    // The write waits, and can be given up; then the queue is bounded.
    for _ in 0..2 {
        assert!(
            tokio::time::timeout(Duration::from_millis(50), sink.write(&events))
                .await
                .is_err()
        );
    }
    assert!(matches!(sink.write(&events).await, Err(PluginError::Transient(_))));
    Box::new(sink).close().await.unwrap();
}
