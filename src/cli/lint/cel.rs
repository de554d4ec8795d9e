//! The rules of the CustomResourceDefinitions in the Common Expression Language, evaluated as the
//! API server does. The rules are Serin's own; what is in a file is only ever a value.

use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

/// A fault that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field on which the rule stands.
    pub path: String,
    /// The rule's message.
    pub message: String,
}

/// The rules of a kind.
pub struct Rules {
    schema: CompiledSchema,
}

impl Rules {
    /// Those of a schema.
    pub fn new(schema: &Value) -> Self {
        Self {
            schema: compile_schema(schema),
        }
    }

    /// What is wrong with an object that is new: rules that compare it with an older one are the API
    /// server's alone. A rule that cannot be evaluated is a fault, not a pass.
    pub fn check(&self, object: &Value) -> Vec<Fault> {
        let checked = Validator::new().validate_compiled(&self.schema, object, None);
        checked
            .err()
            .map(|e| e.into_vec())
            .unwrap_or_default()
            .into_iter()
            .map(|e| Fault {
                path: e.field_path.trim_start_matches('.').to_owned(),
                message: e.message,
            })
            .collect()
    }
}
