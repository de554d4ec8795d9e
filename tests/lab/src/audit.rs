//! What was asked of the API server, by whom.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use serde_json::Value;

use crate::error::{Context, Result};

/// One answered request. Long ones (watches) have an entry when they begin and one when they end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was answered, RFC 3339 with microseconds: entries compare as text.
    pub time: String,
    /// When it came in, likewise.
    pub received: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Plural, as in the path.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// The API group; empty for the core.
    pub group: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Empty when it was not in the path.
    pub name: String,
    /// As the API server knew them, such as `system:serviceaccount:serin-system:serin`.
    pub user: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// The HTTP status.
    pub code: u16,
    /// `ResponseStarted`, `ResponseComplete` or `Panic`.
    pub stage: String,
    /// The path with its query.
    pub uri: String,
}

impl AuditEntry {
    /// Whether it asked for a change (a dry run does not).
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && !self.uri.contains("dryRun=All")
    }
}

/// Reads the log; a line still being written is left out.
pub(crate) fn read(path: &Path) -> Result<Vec<AuditEntry>> {
    let text = fs::read_to_string(path).context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().filter_map(entry).collect())
}

/// Reads the log from a place on; a line still being written is left for the next look, whose place
/// is given too.
pub(crate) fn read_from(path: &Path, offset: u64) -> Result<(Vec<AuditEntry>, u64)> {
    let what = || format!("reading {}", path.display());
    let mut file = fs::File::open(path).context(what)?;
    file.seek(SeekFrom::Start(offset)).context(what)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context(what)?;
    let whole = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(&bytes[..whole]);
    let next = offset + u64::try_from(whole).unwrap_or_default();
    Ok((text.lines().filter_map(entry).collect(), next))
}

fn entry(line: &str) -> Option<AuditEntry> {
    let e: Value = serde_json::from_str(line).ok()?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let object = &e["objectRef"];
    Some(AuditEntry {
        time: text(&e["stageTimestamp"]),
        received: text(&e["requestReceivedTimestamp"]),
        verb: text(&e["verb"]),
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        group: text(&object["apiGroup"]),
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        user: text(&e["user"]["username"]),
        user_agent: text(&e["userAgent"]),
        code: e["responseStatus"]["code"]
            .as_u64()
            .and_then(|c| c.try_into().ok())
            .unwrap_or(0),
        stage: text(&e["stage"]),
        uri: text(&e["requestURI"]),
    })
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[test]
    fn an_entry_as_the_api_server_writes_it() {
        let line = r#"{"kind":"Event","stage":"ResponseComplete","requestURI":"/api/v1/x","verb":"patch",
            "user":{"username":"u","groups":["g"]},"userAgent":"a","objectRef":{"resource":"pods",
            "namespace":"n","name":"p","apiVersion":"v1","subresource":"status"},
            "responseStatus":{"metadata":{},"code":200},"stageTimestamp":"2026-11-24T10:00:00.000001Z"}"#;
        let e = entry(line).expect("an entry");
        assert!(e.is_write());
        assert_eq!(
            (e.resource.as_str(), e.subresource.as_str(), e.code),
            ("pods", "status", 200)
        );
        assert_eq!(entry("{\"kind\":\"Ev"), None);
    }
}
