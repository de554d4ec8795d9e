//! Which value each argument of a template has.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{analysis::DeclaredArgument, strategy::Argument};

use super::{Type, Value};

/// A fault of the arguments, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine::analysis) enum Fault {
    /// In the Rollout: path below the analysis.
    Given(String, String),
    /// In the template: path below the template.
    Declared(String, String),
}

/// The values of a template's arguments: the Rollout's, else the template's own.
pub(in crate::engine::analysis) fn resolve(
    declared: &[DeclaredArgument],
    given: &[Argument],
) -> (BTreeMap<String, Value>, Vec<Fault>) {
    let mut values = BTreeMap::new();
    let mut faults = vec![];
    for (i, argument) in declared.iter().enumerate() {
        let path = format!("spec.args[{i}]");
        let name = &argument.name;
        let type_ = Type::parse(argument.type_.as_deref()).unwrap_or_else(|fault| {
            faults.push(Fault::Declared(format!("{path}.type"), fault));
            Type::default()
        });
        let theirs = given.iter().enumerate().find(|(_, a)| a.name == *name);
        let text = theirs.map(|(_, a)| &a.value).or(argument.value.as_ref());
        match (text.map(|t| type_.accepts(t)), theirs) {
            (None, _) => faults.push(Fault::Given(
                "args".to_owned(),
                format!("{name:?} has no value: add {{name: {name}, value: ...}}"),
            )),
            (Some(Err(fault)), Some((at, _))) => {
                faults.push(Fault::Given(format!("args[{at}].value"), fault));
            }
            (Some(Err(fault)), None) => {
                faults.push(Fault::Declared(format!("{path}.value"), fault));
            }
            (Some(Ok(())), _) => {}
        }
        let value = Value {
            type_,
            text: text.cloned(),
        };
        if values.insert(name.clone(), value).is_some() {
            faults.push(Fault::Declared(
                format!("{path}.name"),
                format!("{name:?}: declared twice"),
            ));
        }
    }
    (values, faults)
}

/// What is wrong with the arguments that a Rollout gives to templates which declare `names`: those
/// that nobody declares, those that are given twice.
pub(in crate::engine::analysis) fn strays(
    given: &[Argument],
    names: &BTreeSet<&str>,
) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut faults = vec![];
    for (i, argument) in given.iter().enumerate() {
        let name = argument.name.as_str();
        let path = format!("args[{i}].name");
        if !names.contains(name) {
            let those = declared(names.iter().copied());
            faults.push((path, format!("{name:?}: no such argument; {those}")));
        } else if !seen.insert(name) {
            faults.push((path, format!("{name:?}: given twice")));
        }
    }
    faults
}

/// Says which arguments there are.
pub(in crate::engine::analysis) fn declared<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        "the template declares none: add it under spec.args".to_owned()
    } else {
        format!("the template declares {}", names.join(", "))
    }
}
