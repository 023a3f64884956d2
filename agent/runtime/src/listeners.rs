//! Listeners beside the shared one: `http.listeners`.

use std::net::SocketAddr;
use std::sync::Arc;

use auditmon_config::{Http, Listener};
use auditmon_core::privileged::Control;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::StartError;
use crate::listener::{self, Service};
use crate::mounts::{Mounts, Named};
use crate::prefix::Prefix;
use crate::start::{open_tls, tls_files};
use crate::tls::Tls;

/// A listener whose port is taken and whose certificates are read.
pub(crate) struct Further {
    name: String,
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    serve: Vec<String>,
    connections: usize,
}

/// Takes a port; `key` is where the configuration names it.
///
/// # Errors
/// It can't be had.
pub(crate) fn bind(key: &str, listen: SocketAddr, control: &Control) -> Result<(TcpListener, SocketAddr), StartError> {
    // A port below 1024 needs privilege.
    let bound = control.bind(listen).and_then(|socket| {
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    });
    bound.map_err(|error| StartError::Other(format!("{key}: {listen} can't be listened on: {error}")))
}

/// Takes the ports of all of them.
///
/// # Errors
/// One can't be had, or has certificates that can't be used.
pub(crate) async fn open(http: &Http, control: &Control) -> Result<Vec<Further>, StartError> {
    let mut all = Vec::with_capacity(http.listeners.len());
    for (name, listener) in &http.listeners {
        all.push(one(name, listener, control).await?);
    }
    Ok(all)
}

async fn one(name: &str, listener: &Listener, control: &Control) -> Result<Further, StartError> {
    let section = format!("http.listeners.{name}");
    let listen = listener
        .listen
        .ok_or_else(|| StartError::Config(format!("{section}: expected `listen`")))?;
    let (socket, address) = bind(&format!("{section}.listen"), listen, control)?;
    let tls = open_tls(tls_files(&format!("{section}.tls"), &listener.tls), control).await?;
    Ok(Further {
        name: name.to_owned(),
        socket,
        address,
        tls,
        serve: listener.serve.clone(),
        connections: listener.max_connections,
    })
}

/// Connections of all listeners, and how many of these fit.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    wanted: usize,
    fits: usize,
}

impl Places {
    /// Makes room for as many as possible.
    pub(crate) fn new(http: &Http) -> Self {
        let wanted = http.all_connections();
        let fits = listener::fit_descriptors(wanted);
        Self { wanted, fits }
    }

    /// What a listener that wants `connections` gets: its share where not all fit.
    pub(crate) fn share(self, connections: usize) -> usize {
        if self.fits >= self.wanted {
            return connections;
        }
        (connections.saturating_mul(self.fits) / self.wanted.max(1)).max(1)
    }
}

impl Further {
    pub(crate) fn named(&self) -> Named {
        Named {
            name: self.name.clone(),
            serve: self.serve.clone(),
        }
    }

    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Serves until `stop` fires, then lets open requests end.
    pub(crate) fn serve(
        self,
        mounts: &Mounts,
        http: &Arc<Http>,
        places: Places,
        prefix: &Prefix,
        stop: CancellationToken,
    ) -> AbortOnDropHandle<()> {
        let service = Service {
            routes: mounts.named(&self.name),
            settings: Arc::clone(http),
            places: places.share(self.connections),
            tls: self.tls,
            prefix: prefix.clone(),
        };
        tracing::info!(listener = self.name, listen = %self.address, serves = self.serve.join(", "), "listens, too");
        AbortOnDropHandle::new(tokio::spawn(listener::serve(self.socket, service, stop)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_not_all_fit_each_has_its_share() {
        let all = Places {
            wanted: 5120,
            fits: 5120,
        };
        assert_eq!((all.share(4096), all.share(1024)), (4096, 1024));
        let some = Places {
            wanted: 5120,
            fits: 512,
        };
        assert_eq!((some.share(4096), some.share(1024), some.share(1)), (409, 102, 1));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_with_its_key() {
        let (control, _files) = Control::start(|| Ok(())).unwrap();
        let (_socket, address) = bind("x", SocketAddr::from(([127, 0, 0, 1], 0)), &control).unwrap();
        let error = bind("http.listeners.ops.listen", address, &control)
            .unwrap_err()
            .to_string();
        let begin = format!("http.listeners.ops.listen: {address} can't be listened on: ");
        assert!(error.starts_with(&begin) && !error.contains('\n'), "{error}");
    }
}
