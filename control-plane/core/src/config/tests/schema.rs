//! What the schema tells editors.

use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::super::{Kind, reference, schema, to_json};
use super::CHAT;
use super::parsed;
use super::roundtrip::any_resource;

#[test]
fn the_schema_of_a_service() {
    let schema = serde_json::to_string_pretty(&schema(Some(Kind::Service))).unwrap();
    insta::assert_snapshot!(schema);
}

#[test]
fn the_design_example_fits() {
    let schema = schema(None);
    for it in parsed(CHAT) {
        assert_eq!(misfit(&schema, &schema, &to_json(&it.resource)), None);
    }
}

#[test]
fn what_the_reader_refuses_does_not_fit() {
    let schema = schema(Some(Kind::Service));
    let good = json!({"kind": "Service", "metadata": {"name": "a"},
        "spec": {"versions": [{"name": "v1"}]}});
    assert_eq!(misfit(&schema, &schema, &good), None);
    for (pointer, bad) in [
        ("/kind", json!("Route")),
        ("/metadata/name", json!("A")),
        ("/metadata", json!({})),
        ("/spec/versions", json!([])),
        ("/spec/versions/0/name", json!(1)),
        ("/spec", json!({"versions": [{"name": "v1"}], "port": 0})),
        ("/spec", json!({"versions": [{"name": "v1"}], "prot": 1})),
    ] {
        let mut broken = good.clone();
        *broken.pointer_mut(pointer).unwrap() = bad;
        assert!(misfit(&schema, &schema, &broken).is_some(), "{broken}");
    }
}

#[test]
fn the_reference_has_a_section_for_each_message() {
    let reference = reference();
    for kind in Kind::ALL {
        assert!(reference.contains(&format!("\n## {kind}\n")), "{kind}");
    }
    let start = reference.find("### BackendRef\n").unwrap();
    insta::assert_snapshot!(reference[start..].split("\n###").next().unwrap());
    // Every link leads to a heading.
    let link = Regex::new(r"\]\(#([a-z]+)\)").unwrap();
    let headings: Vec<String> = reference
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace('.', ""))
        .collect();
    for link in link.captures_iter(&reference) {
        assert!(headings.contains(&link[1].to_owned()), "{}", &link[1]);
    }
}

proptest! {
    #[test]
    fn what_the_reader_takes_fits(resource in any_resource()) {
        let schema = schema(None);
        prop_assert_eq!(misfit(&schema, &schema, &to_json(&resource)), None);
    }
}

/// The first keyword that a value breaks: as much of a validator as our schemas use.
fn misfit(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let number = |key: &str| schema[key].as_f64();
    let wrong = |keyword: &str| Some(format!("{keyword} of {schema} by {value}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).expect(reference);
        if let Some(inner) = misfit(root, target, value) {
            return Some(inner);
        }
    }
    let typed = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{other}"),
        None => true,
    };
    if !typed {
        return wrong("type");
    }
    if schema.get("const").is_some_and(|constant| constant != value) {
        return wrong("const");
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        return wrong("enum");
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !Regex::new(pattern).unwrap().is_match(text)
    {
        return wrong("pattern");
    }
    let (min, max) = (number("minimum"), number("maximum"));
    let below = |value: f64| min.is_some_and(|min| value < min);
    let above = |value: f64| max.is_some_and(|max| value > max);
    if value.as_f64().is_some_and(|value| below(value) || above(value)) {
        return wrong("minimum or maximum");
    }
    if let Some(items) = value.as_array() {
        let len = items.len() as f64;
        if number("minItems").is_some_and(|min| len < min)
            || number("maxItems").is_some_and(|max| len > max)
        {
            return wrong("minItems or maxItems");
        }
        if let Some(inner) = items.iter().find_map(|item| misfit(root, &schema["items"], item)) {
            return Some(inner);
        }
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return wrong("required");
            }
        }
        for (name, field) in fields {
            let known = schema["properties"].get(name);
            if known.is_none() && schema["additionalProperties"] == json!(false) {
                return wrong("additionalProperties");
            }
            if let Some(inner) = known.and_then(|known| misfit(root, known, field)) {
                return Some(inner);
            }
        }
    }
    if let Some(ways) = schema["oneOf"].as_array() {
        let fitting = ways.iter().filter(|way| misfit(root, way, value).is_none()).count();
        if fitting != 1 {
            return Some(format!("{fitting} of oneOf of {value}"));
        }
    }
    None
}
