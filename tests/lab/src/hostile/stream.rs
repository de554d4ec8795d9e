//! Bodies that something is done to: slow ones, torn ones, and watches.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Asked, Fault, Shared,
    serve::{Answer, Broken},
    tls::Line,
};

/// Pieces of a slow body, and how long each takes.
const PIECES: usize = 20;
const PIECE: Duration = Duration::from_millis(100);

type Piece = Result<Frame<Bytes>, Broken>;

const EXPIRED: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: the hostile proxy says so","reason":"Expired","code":410}}"#;

/// The answer in small pieces.
pub(super) fn slow(answer: Response<Body>) -> Answer {
    answer.map(|body| {
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut body = body.into_data_stream();
            while let Some(Ok(mut bytes)) = body.next().await {
                let size = bytes.len().div_ceil(PIECES).max(1);
                while !bytes.is_empty() {
                    tokio::time::sleep(PIECE).await;
                    let piece = bytes.split_to(size.min(bytes.len()));
                    if send.send(Ok(Frame::data(piece))).await.is_err() {
                        return;
                    }
                }
            }
        });
        received(receive)
    })
}

/// Half of the answer.
pub(super) async fn torn(answer: Response<Body>) -> Answer {
    let (mut head, body) = answer.into_parts();
    // Its length is as it was announced: what is missing is missed.
    let bytes = body
        .collect()
        .await
        .map_or_else(|_| Bytes::new(), |b| b.to_bytes());
    head.headers.remove(http::header::TRANSFER_ENCODING);
    head.headers
        .insert(http::header::CONTENT_LENGTH, bytes.len().into());
    let half = bytes.slice(..bytes.len() / 2);
    let pieces: [Piece; 2] = [Ok(Frame::data(half)), Err(Broken)];
    Response::from_parts(head, StreamBody::new(stream::iter(pieces)).boxed_unsync())
}

/// A watch, whose pieces meet with the faults of their time.
pub(super) fn watch(
    answer: Response<Body>,
    shared: Arc<Shared>,
    asked: Asked,
    line: Arc<Line>,
) -> Answer {
    answer.map(|body| {
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(carry(body, send, shared, asked, line));
        received(receive)
    })
}

async fn carry(
    body: Body,
    send: mpsc::Sender<Piece>,
    shared: Arc<Shared>,
    asked: Asked,
    line: Arc<Line>,
) {
    // Read on while pieces wait, so that each is as late as it should be and no later.
    let (came, mut pieces) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        let mut body = body.into_data_stream();
        while let Some(Ok(bytes)) = body.next().await {
            if came.send((Instant::now(), bytes)).is_err() {
                return;
            }
        }
    });
    let mut whole = true;
    loop {
        let (at, bytes) = tokio::select! {
            piece = pieces.recv() => match piece {
                Some(piece) => piece,
                None => break,
            },
            () = send.closed() => break,
        };
        match shared.draw(&asked, true) {
            Some(Fault::Silent) => {
                send.closed().await;
                break;
            }
            Some(Fault::Gone) if whole => {
                let line = Bytes::from(format!("{EXPIRED}\n"));
                drop(send.send(Ok(Frame::data(line))).await);
                break;
            }
            Some(Fault::Reset) => {
                line.reset();
                drop(send.send(Err(Broken)).await);
                break;
            }
            Some(Fault::Lag(most)) => {
                let mut rules = shared.rules.subscribe();
                tokio::select! {
                    () = tokio::time::sleep_until(at + lag(&asked, most)) => {}
                    // The lag is over with the fault.
                    _ = rules.changed() => {}
                }
            }
            _ => {}
        }
        whole = bytes.ends_with(b"\n");
        if send.send(Ok(Frame::data(bytes))).await.is_err() {
            break;
        }
    }
    reading.abort();
}

/// The lag of a resource: always the same one, so that kinds are skewed against each other.
fn lag(asked: &Asked, most: Duration) -> Duration {
    let sum = asked
        .resource
        .bytes()
        .fold(7_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    most.mul_f64(f64::from(sum % 1000) / 1000.0)
}

fn received(receive: mpsc::Receiver<Piece>) -> UnsyncBoxBody<Bytes, Broken> {
    let pieces = stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|piece| (piece, receive))
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces))
}
