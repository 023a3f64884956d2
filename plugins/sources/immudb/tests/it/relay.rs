//! What stands between an auditor and a server: it passes bytes on, slowly, or breaks connections in the middle of an
//! answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// From one byte to the next of what is slow.
const SLOW: Duration = Duration::from_millis(10);

/// What becomes of the server's bytes.
#[derive(Clone, Copy)]
pub enum Way {
    Pass,
    /// One byte at a time.
    Slow,
    /// From now on so many of each connection; then it breaks.
    Cut(usize),
}

pub struct Relay {
    pub address: SocketAddr,
    /// And how often that was changed.
    way: Arc<Mutex<(Way, usize)>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = Arc::new(Mutex::new((Way::Pass, 0)));
        let (shared, mut tasks) = (way.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (ours, _) = listener.accept().await.unwrap();
                let way = shared.clone();
                connections.spawn(async move {
                    let Ok(theirs) = TcpStream::connect(server).await else {
                        return;
                    };
                    let ((mut from_client, to_client), (from_server, mut to_server)) =
                        (ours.into_split(), theirs.into_split());
                    // Either end ends both.
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                        _ = pass(from_server, to_client, &way) => {}
                    }
                });
            }
        });
        Self {
            address,
            way,
            _tasks: tasks,
        }
    }

    pub fn go(&self, way: Way) {
        let mut shared = self.way.lock();
        *shared = (way, shared.1 + 1);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Mutex<(Way, usize)>) -> std::io::Result<()> {
    let mut chunk = vec![0; 4096];
    let (mut passed, mut turn) = (0, 0);
    loop {
        let length = from.read(&mut chunk).await?;
        let mut rest = &chunk[..length];
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let (now, changed) = *way.lock();
            if changed != turn {
                (passed, turn) = (0, changed);
            }
            let count = match now {
                Way::Pass => rest.len(),
                Way::Slow => 1,
                Way::Cut(most) => rest.len().min(most - passed),
            };
            to.write_all(&rest[..count]).await?;
            rest = &rest[count..];
            match now {
                Way::Pass => {}
                Way::Slow => tokio::time::sleep(SLOW).await,
                Way::Cut(most) => {
                    passed += count;
                    if passed == most {
                        return Ok(());
                    }
                }
            }
        }
    }
}
