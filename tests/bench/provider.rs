//! A provider of metrics that says good until it is told to say bad of one Rollout.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{Json, Router, body::Bytes, extract::State, routing::post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Result;

#[derive(Default)]
struct Said {
    bad: BTreeSet<String>,
    first_bad: BTreeMap<String, Instant>,
    answers: usize,
}

/// The provider.
#[derive(Clone, Default)]
pub struct Provider(Arc<Mutex<Said>>);

impl Provider {
    /// Serves; gives its address.
    pub async fn start() -> Result<(Self, String)> {
        let provider = Self::default();
        let app = Router::new()
            .route("/api/v1/query", post(answer))
            .with_state(provider.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((provider, url))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it says bad of a Rollout.
    pub fn turn_bad(&self, name: &str) {
        self.said().bad.insert(name.to_owned());
    }

    /// When it first said bad of a Rollout.
    pub fn first_bad(&self, name: &str) -> Option<Instant> {
        self.said().first_bad.get(name).copied()
    }

    /// How many questions it has answered.
    pub fn answers(&self) -> usize {
        self.said().answers
    }
}

async fn answer(State(provider): State<Provider>, body: Bytes) -> Json<Value> {
    let text = String::from_utf8_lossy(&body);
    // The name stands in the query, whatever is escaped around it.
    let at = text.find("app-").unwrap_or(0);
    let name = text.get(at..at + 9).unwrap_or_default().to_owned();
    let mut said = provider.said();
    said.answers += 1;
    let bad = said.bad.contains(&name);
    if bad {
        said.first_bad.entry(name).or_insert_with(Instant::now);
    }
    let now = jiff::Timestamp::now().as_second();
    Json(
        json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {}, "value": [now, if bad { "0" } else { "1" }]},
        ]}}),
    )
}
