//! After all requests: what a watch tells of them, what a streamed list tells of what there is, and
//! that the past is gone.

use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    api::{
        kinds::{Id, KINDS},
        store::text,
    },
    world::lock,
};

use super::{
    Result,
    ask::{Ask, Verb},
    side::{LIMIT, Side},
};

/// The last object of a kind: when a watch tells of it, it has told all.
const END: &str = "end";
/// Of the bookmark that ends a streamed list.
const ALL_TOLD: &str = "/object/metadata/annotations/k8s.io~1initial-events-end";

impl Side {
    /// Everything that watches of a kind tell from a version on.
    pub(super) async fn watch(&mut self, kind: Id, start: u64) -> Result {
        let create = Verb::Create {
            owned: false,
            held: false,
            dry: false,
        };
        self.ask(&Ask::plain(kind, END, create)).await?;
        let ended = |event: &Value| text(event, "/object/metadata/name") == END;
        let since = format!("resourceVersion={start}");
        let told = self.events(kind, &since, ended).await?;
        // Each version is to be above the one before it.
        self.newest = start;
        self.tell(kind, "watch", &told);
        let streamed =
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let told = self
            .events(kind, streamed, |e| text(e, ALL_TOLD) == "true")
            .await?;
        self.tell(kind, "streamed list", &told);
        Ok(())
    }

    /// Whoever watches from long ago is told that it is gone. The real one remembers everything since
    /// it first heard of a kind; of those that are defined later, the first versions were before that.
    pub(super) async fn watch_from_long_ago(&mut self, kind: Id) -> Result {
        if let Some(world) = &self.world {
            let mut world = lock(world);
            world.store.oldest = world.store.version();
        }
        let told = self
            .events(kind, "resourceVersion=1", |e| e["type"] == "ERROR")
            .await?;
        self.tell(kind, "watch from long ago", &told);
        Ok(())
    }

    fn tell(&mut self, kind: Id, what: &str, events: &[Value]) {
        for event in events {
            let bookmark = event["type"] == "BOOKMARK";
            let object = if bookmark {
                // The real one gives it an empty object of the kind, of which no field counts.
                json!({"annotations": event["object"]["metadata"]["annotations"]})
            } else {
                self.normal(kind, &event["object"])
            };
            let body = json!({"type": event["type"], "object": object});
            let to = format!("{what} of {}", KINDS[kind].of.plural);
            self.answer(kind, to, 200, body);
        }
    }

    /// What a watch tells, up to the event that ends it.
    async fn events(
        &self,
        kind: Id,
        query: &str,
        last: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>> {
        let path = format!("{}?watch=true&{query}", self.collection(kind));
        let sent = self.client.send(Request::get(path).body(vec![].into())?);
        let answer = timeout(LIMIT, sent).await??;
        let code = answer.status().as_u16();
        let mut body = answer.into_body();
        if code != 200 {
            let body = timeout(LIMIT, body.collect()).await??.to_bytes();
            let status: Value = serde_json::from_slice(&body)?;
            return Ok(vec![json!({"type": code, "object": status})]);
        }
        let (mut told, mut rest) = (vec![], vec![]);
        while let Some(frame) = timeout(LIMIT, body.frame()).await? {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line)?;
                let ends = last(&event);
                told.push(event);
                if ends {
                    return Ok(told);
                }
            }
        }
        let (plural, rest) = (KINDS[kind].of.plural, String::from_utf8_lossy(&rest));
        Err(format!("{query}: the watch of {plural} ended early: {told:?} {rest}").into())
    }
}
