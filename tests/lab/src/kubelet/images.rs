//! What an image name stands for: a program on this machine.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

/// The registry of a lab. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Images(Arc<RwLock<Vec<Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    pattern: String,
    image: Option<Image>,
}

/// A program that an image name stands for, with its entry point's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) program: PathBuf,
    pub(crate) entry_args: Vec<String>,
}

impl Images {
    /// From now on images that match `pattern` (a name with tag; one `*` stands for anything) run
    /// `program`, with `entry_args` before the pod's own `args`. The last match counts.
    pub fn register(&self, pattern: &str, program: impl Into<PathBuf>, entry_args: &[&str]) {
        let entry_args = entry_args.iter().map(ToString::to_string).collect();
        self.push(
            pattern,
            Some(Image {
                program: program.into(),
                entry_args,
            }),
        );
    }

    /// From now on images that match `pattern` cannot be pulled, as if they did not exist.
    pub fn refuse(&self, pattern: &str) {
        self.push(pattern, None);
    }

    fn push(&self, pattern: &str, image: Option<Image>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.push(Entry {
            pattern: pattern.to_owned(),
            image,
        });
    }

    pub(crate) fn find(&self, name: &str) -> Option<Image> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .rev()
            .find(|e| matches(&e.pattern, name))
            .and_then(|e| e.image.clone())
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Images;

    #[test]
    fn the_last_match_counts() {
        let images = Images::default();
        images.register("lab/app:*", "/a", &["app"]);
        images.refuse("lab/app:missing*");
        assert!(images.find("lab/app:v1").is_some());
        assert_eq!(images.find("lab/app:missing-1"), None);
        images.register("lab/app:missing-1", "/b", &[]);
        assert!(images.find("lab/app:missing-1").is_some());
        assert_eq!(images.find("other:v1"), None);
    }
}
