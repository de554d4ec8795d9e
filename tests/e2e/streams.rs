//! Long-lived streams: a weight moves new requests only. A stream stays with the pod where it began,
//! until the pod is told to end.

use std::sync::Arc;

use serin_lab::Lab;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
};

use crate::world::{LIMIT, Result, Setup, World, ensure, hash};

/// Streams that are open while the release goes on.
const STREAMS: usize = 12;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By the application's last word.
    Bye,
    /// In the middle.
    Cut,
}

/// A stream, and what is known of it.
struct Stream {
    /// The version that speaks, after its first line.
    version: watch::Receiver<Option<String>>,
    /// How it ended.
    end: watch::Receiver<Option<End>>,
}

/// Opens a stream by the gateway.
async fn open(gateway: &str, host: &str) -> Result<Stream> {
    let address = gateway.trim_start_matches("http://").trim_end_matches('/');
    let mut socket = TcpStream::connect(address).await?;
    let ask = format!("GET /stream HTTP/1.1\r\nhost: {host}\r\n\r\n");
    socket.write_all(ask.as_bytes()).await?;
    let (said, version) = watch::channel(None);
    let (ended, end) = watch::channel(None);
    tokio::spawn(async move {
        let mut lines = BufReader::new(socket).lines();
        let mut bye = false;
        // Sizes of chunks and headers stand between the lines of the application.
        while let Ok(Some(line)) = lines.next_line().await {
            match line.as_str() {
                "bye" => bye = true,
                // The last chunk: all was said.
                "0" if bye => break,
                v if v.starts_with('v') && v.len() == 2 => {
                    said.send_if_modified(|known| {
                        let new = known.as_deref() != Some(v);
                        *known = Some(v.to_owned());
                        new
                    });
                }
                _ => {}
            }
        }
        ended.send_replace(Some(if bye { End::Bye } else { End::Cut }));
        // What was said stays readable until nobody asks any more.
        said.closed().await;
    });
    Ok(Stream { version, end })
}

/// Streams that are open before a promotion all live until the old pods are told to end, and end by the
/// application's own last word: none is cut, none is moved to the other version.
pub async fn streams_outlive_the_promotion(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "streams", Setup::default()).await?;
    let host = format!("{}.test", w.namespace);
    let mut streams = vec![];
    for _ in 0..STREAMS {
        streams.push(open(&w.lab.gateway_url(), &host).await?);
    }
    for stream in &mut streams {
        let spoke = stream.version.wait_for(Option::is_some);
        let version = w
            .lab
            .within("a stream to speak", LIMIT, spoke)
            .await??
            .clone();
        ensure(
            version.as_deref() == Some("v1"),
            format!("{version:?} speaks"),
        )?;
    }
    // The old pods stay long enough for the look at them below.
    let spec = r#"{"spec":{"strategy":{"canary":{"scaleDownDelay":"20s"}}}}"#;
    let patch = [
        "patch",
        "rollout",
        "app",
        "--type=merge",
        "-p",
        spec,
        "-n",
        &w.namespace,
    ];
    w.lab.kubectl(&patch).await?;
    w.deploy("v2").await?;
    let status = w.step(3).await?;
    let open_at_half = streams.iter().filter(|s| s.end.borrow().is_none()).count();
    w.annotate(&[("promote", &format!("{}@wait/1", hash(&status)))])
        .await?;
    // All new requests are served by v2, and the old pods still stand.
    w.until("v2 to have the traffic", |s| {
        s.attempt.as_ref().is_some_and(|a| a.stage == "Done")
    })
    .await?;
    let open_at_the_end = streams.iter().filter(|s| s.end.borrow().is_none()).count();
    ensure(
        (open_at_half, open_at_the_end) == (STREAMS, STREAMS),
        format!("{open_at_half} streams at half, {open_at_the_end} after the promotion"),
    )?;
    let mut ends = vec![];
    for stream in &mut streams {
        let over = stream.end.wait_for(Option::is_some);
        ends.push(*w.lab.within("a stream to end", LIMIT, over).await??);
        let version = stream.version.borrow().clone();
        ensure(
            version.as_deref() == Some("v1"),
            format!("moved to {version:?}"),
        )?;
    }
    let cut = ends.iter().filter(|e| **e == Some(End::Cut)).count();
    println!("{STREAMS} streams: {STREAMS} open after the promotion, {cut} cut");
    ensure(cut == 0, format!("{cut} of {STREAMS} streams were cut"))?;
    w.done("Healthy").await?;
    w.farewell().await?;
    Ok(())
}
