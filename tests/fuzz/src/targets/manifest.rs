//! Files that `serin lint` reads: YAML and JSON of whatever there is.

use serin::cli::lint::{examine, source::Source, told};

/// Something can be said of every file, in one line each, and it is the same each time.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let source = Source {
        name: "file.yaml".into(),
        text: Ok(text.to_owned()),
    };
    let say = || told(examine(std::slice::from_ref(&source)).expect("it can be looked at")).text();
    assert_eq!(say(), say(), "it says two things");
}
