//! Objects at rest, as compressed JSON: a tenth of what a tree takes, read in microseconds by a look.

use lz4_flex::block::{
    DecompressError, compress_prepend_size_with_dict, decompress_size_prepended_with_dict,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// What objects mostly say, in the order in which they are written here. Any text would do; with words that stand in
/// most objects less of each is kept. Both ways use the same, and nothing that it makes outlives the process.
const WORDS: &[u8] = include_bytes!("words.json");

/// What was kept cannot be read: it was damaged in memory, or this is a mistake of ours.
#[derive(Debug, Error)]
pub enum TextError {
    /// It cannot be unpacked.
    #[error("it cannot be unpacked")]
    Packed(#[from] DecompressError),
    /// It is no such object.
    #[error("it is no such object")]
    Json(#[from] serde_json::Error),
}

/// An object, packed.
#[derive(Debug)]
pub struct Text(Box<[u8]>);

impl Text {
    /// Packs an object.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_vec(value)?;
        let packed = compress_prepend_size_with_dict(&text, WORDS);
        Ok(Self(packed.into_boxed_slice()))
    }

    /// The object.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, TextError> {
        let text = decompress_size_prepended_with_dict(&self.0, WORDS)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_was_packed_is_read_again() {
        let words: Value = serde_json::from_slice(WORDS).expect("the words are JSON");
        let objects = [
            Value::Null,
            json!({}),
            json!({"a": "é\n\"", "b": [1, 2.5, null, true]}),
            json!({"long": "x".repeat(300_000)}),
            words.clone(),
        ];
        for object in objects {
            let text = Text::of(&object).expect("it is packed");
            assert_eq!(text.read::<Value>().expect("it is read"), object);
        }
        let rollout = &words[3];
        let (packed, plain) = (Text::of(rollout).expect("packed"), rollout.to_string());
        assert!(packed.0.len() * 4 < plain.len(), "{}", packed.0.len());
    }

    #[test]
    fn what_is_damaged_or_something_else_is_an_error() {
        let mut text = Text::of(&json!({"a": "b"})).expect("it is packed");
        assert!(matches!(text.read::<u8>(), Err(TextError::Json(_))));
        text.0 = text.0[..3].into();
        assert!(matches!(text.read::<Value>(), Err(TextError::Packed(_))));
    }
}
