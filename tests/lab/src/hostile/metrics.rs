//! A metrics server that may be sick: it passes on what Prometheus says, or says something else.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    error::Result,
    inside::{HOST_IP, listen},
};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sick {
    /// The head comes, and then a byte a second, for ever.
    Trickles,
    /// It never answers.
    Hangs,
    /// 500.
    Fails,
    /// The number is none.
    NotANumber,
    /// No series.
    Empty,
    /// A page for people, with 200.
    Html,
    /// Megabytes of white space before the answer.
    Huge,
}

/// A running metrics server; it ends when it is dropped.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
    url: String,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    prometheus: String,
    sick: watch::Sender<Option<Sick>>,
    struck: AtomicU64,
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Metrics {
    pub(crate) async fn start(http: reqwest::Client, prometheus: String) -> Result<Self> {
        let (listener, port) = listen("hostile metrics server").await?;
        let shared = Arc::new(Shared {
            http,
            prometheus,
            sick: watch::Sender::default(),
            struck: AtomicU64::new(0),
        });
        let app = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self {
            shared,
            url: format!("http://{HOST_IP}:{port}"),
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// It is sick from now on, or well.
    pub fn set(&self, sick: Option<Sick>) {
        self.shared.sick.send_replace(sick);
    }

    /// How many questions met with its sickness.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sick = *shared.sick.borrow();
    let Some(sick) = sick else {
        return pass_on(&shared, method, &uri, headers, body).await;
    };
    shared.struck.fetch_add(1, Ordering::SeqCst);
    let vector = |result: &str| {
        let text = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#
        );
        ([(header::CONTENT_TYPE, "application/json")], text)
    };
    match sick {
        Sick::Hangs => std::future::pending().await,
        Sick::Trickles => {
            let bytes = stream::repeat(()).then(|()| async {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                Ok::<_, std::convert::Infallible>(Bytes::from_static(b" "))
            });
            Body::from_stream(bytes).into_response()
        }
        Sick::Fails => (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response(),
        Sick::NotANumber => {
            let now = jiff::Timestamp::now().as_second();
            vector(&format!(r#"{{"metric":{{}},"value":[{now},"NaN"]}}"#)).into_response()
        }
        Sick::Empty => vector("").into_response(),
        Sick::Html => {
            let page = "<html><body>Please log in. 1 is the loneliest number.</body></html>";
            ([(header::CONTENT_TYPE, "text/html")], page).into_response()
        }
        Sick::Huge => {
            let megabyte = Bytes::from(vec![b' '; 1 << 20]);
            let much = stream::iter(
                (0..64).map(move |_| Ok::<_, std::convert::Infallible>(megabyte.clone())),
            );
            Body::from_stream(much).into_response()
        }
    }
}

async fn pass_on(
    shared: &Shared,
    method: Method,
    uri: &Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Response {
    headers.remove(header::HOST);
    let url = format!("{}{uri}", shared.prometheus);
    let asking = shared.http.request(method, url).headers(headers).body(body);
    let gone = StatusCode::BAD_GATEWAY.into_response();
    let Ok(answer) = asking.send().await else {
        return gone;
    };
    let (status, kind) = (
        answer.status(),
        answer.headers().get(header::CONTENT_TYPE).cloned(),
    );
    let Ok(body) = answer.bytes().await else {
        return gone;
    };
    let mut response = (status, body).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}
