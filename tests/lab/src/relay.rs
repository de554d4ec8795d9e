//! A relay between Envoy and its gateway that can hold back what the gateway says: a slow data
//! plane. What Envoy says passes always; bytes held back are kept, in order, and let go at once.
//!
//! It carries bytes, not messages, and TLS passes through it unread. While it holds, Envoy's
//! keep-alive pings go unanswered too, so after half a minute Envoy may connect anew: that
//! connection is held as well, and the newest state arrives after the release.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::error::{Context, Result};

/// Where the gateway serves xDS.
const GATEWAY_PORT: u16 = 18000;
/// Where Envoy finds it.
const RELAY_PORT: u16 = 18005;

/// Envoy's bootstrap, an argument of its, with the relay's port for the gateway's.
pub(crate) fn rewrite_bootstrap(arg: &OsStr) -> OsString {
    let Some(text) = arg.to_str() else {
        return OsString::from_vec(arg.as_bytes().to_vec());
    };
    // The text is YAML or, for a bootstrap that somebody patched, JSON.
    let mut text = text.to_owned();
    for before in [
        "port_value: ",
        "\"port_value\":",
        "\"portValue\":",
        "portValue: ",
    ] {
        text = text.replace(
            &format!("{before}{GATEWAY_PORT}"),
            &format!("{before}{RELAY_PORT}"),
        );
    }
    text.into()
}

/// The running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    gate: Gate,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Clone)]
struct Gate {
    holds: Arc<AtomicUsize>,
    held: watch::Sender<bool>,
}

/// While it lives, Envoy hears nothing from its gateway. Several may overlap; the last one counts.
#[derive(Debug)]
#[must_use = "the data plane is released when this is dropped"]
pub struct Hold(Gate);

impl Hold {
    /// Lets everything go that was held back.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.holds.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.held.send_replace(false);
        }
    }
}

impl Relay {
    /// Listens for Envoy.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", RELAY_PORT))
            .await
            .context(|| format!("listening on port {RELAY_PORT}, the relay's"))?;
        let gate = Gate {
            holds: Arc::default(),
            held: watch::Sender::new(false),
        };
        let held = gate.held.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((envoy, _)) = listener.accept().await {
                tokio::spawn(carry(envoy, held.clone()));
            }
        });
        Ok(Self { gate, task })
    }

    /// Holds back from now on.
    pub(crate) fn hold(&self) -> Hold {
        self.gate.holds.fetch_add(1, Ordering::SeqCst);
        self.gate.held.send_replace(true);
        Hold(self.gate.clone())
    }

    /// Holds back for `time`.
    pub(crate) fn hold_for(&self, time: Duration) {
        let hold = self.hold();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            hold.release();
        });
    }
}

async fn carry(envoy: TcpStream, held: watch::Receiver<bool>) {
    let Ok(gateway) = TcpStream::connect(("127.0.0.1", GATEWAY_PORT)).await else {
        return; // Envoy sees the connection closed, as without a relay, and tries again.
    };
    drop((envoy.set_nodelay(true), gateway.set_nodelay(true)));
    let (mut from_envoy, to_envoy) = envoy.into_split();
    let (from_gateway, mut to_gateway) = gateway.into_split();
    let (send, receive) = mpsc::unbounded_channel();
    tokio::spawn(read(from_gateway, send));
    let down = tokio::spawn(write(to_envoy, receive, held));
    drop(tokio::io::copy(&mut from_envoy, &mut to_gateway).await);
    // Envoy is gone: so is whatever was kept for it.
    down.abort();
}

/// Reads on while held back, so that the gateway never feels it.
async fn read(mut from: OwnedReadHalf, to: mpsc::UnboundedSender<Vec<u8>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if to.send(buffer[..n].to_vec()).is_err() {
            return;
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut from: mpsc::UnboundedReceiver<Vec<u8>>,
    mut held: watch::Receiver<bool>,
) {
    while let Some(bytes) = from.recv().await {
        if held.wait_for(|held| !held).await.is_err() || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}
