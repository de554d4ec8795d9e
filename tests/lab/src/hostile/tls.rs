//! The end of TLS: one task pumps between a socket and a pipe that carries clear text.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{ServerConfig, ServerConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    sync::watch,
};

const BUFFER: usize = 64 * 1024;

/// One client's connection.
pub(super) struct Line {
    reset: Arc<AtomicBool>,
}

impl Line {
    /// When it ends, it ends with a reset.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }
}

/// Gives the clear text of a connection. While `apart`, nothing goes either way.
pub(super) fn ended(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    apart: watch::Receiver<bool>,
    held: impl Fn() + Send + Sync + 'static,
) -> (DuplexStream, Line) {
    let (near, far) = duplex(BUFFER);
    let reset = Arc::<AtomicBool>::default();
    let line = Line {
        reset: reset.clone(),
    };
    tokio::spawn(async move {
        let mut socket = socket;
        drop(pump(&mut socket, far, config, apart, held).await);
        if reset.load(Ordering::SeqCst) {
            drop(socket.set_zero_linger());
        }
    });
    (near, line)
}

async fn pump(
    socket: &mut TcpStream,
    mut clear: DuplexStream,
    config: Arc<ServerConfig>,
    mut apart: watch::Receiver<bool>,
    held: impl Fn(),
) -> io::Result<()> {
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let (mut sealed, mut plain) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        while tls.wants_write() {
            let mut out = vec![];
            tls.write_tls(&mut out)?;
            whole(&mut apart, &held).await?;
            socket.write_all(&out).await?;
        }
        tokio::select! {
            n = socket.read(&mut sealed) => {
                let mut got = match n? {
                    0 => return Ok(()),
                    n => &sealed[..n],
                };
                whole(&mut apart, &held).await?;
                while !got.is_empty() {
                    tls.read_tls(&mut got)?;
                    let state = tls.process_new_packets().map_err(io::Error::other)?;
                    let mut text = vec![0; state.plaintext_bytes_to_read()];
                    tls.reader().read_exact(&mut text)?;
                    clear.write_all(&text).await?;
                }
            }
            n = clear.read(&mut plain), if !tls.is_handshaking() => match n? {
                // No goodbye: whoever ends so early is a server that died, or a network.
                0 => return Ok(()),
                n => tls.writer().write_all(&plain[..n])?,
            },
        }
    }
}

/// Waits until the network is whole.
async fn whole(apart: &mut watch::Receiver<bool>, held: &impl Fn()) -> io::Result<()> {
    if *apart.borrow_and_update() {
        held();
        apart
            .wait_for(|apart| !apart)
            .await
            .map_err(io::Error::other)?;
    }
    Ok(())
}
